"""Adapters that all differ: packed in groups of near ones, dealt and repaired one by one."""

"""When work is to come to an end: deadlines, and signals as flags."""

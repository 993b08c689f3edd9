"""From a running placement to a new one in steps, every one of them judged by the twin."""

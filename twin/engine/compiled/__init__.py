"""The loop itself: what is compiled."""

"""An engine profile from measurements."""

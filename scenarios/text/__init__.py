"""Text for people: shown safely, in words, in tables."""

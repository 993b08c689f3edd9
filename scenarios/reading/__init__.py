"""From the text of a file to values and back: YAML and JSON with line numbers, models, errors in words."""

"""From the text of a file to values: YAML and JSON with line numbers, models, errors in words."""

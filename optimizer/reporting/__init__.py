"""A page that shows plans to people who read no tables: see `optimizer.report`."""

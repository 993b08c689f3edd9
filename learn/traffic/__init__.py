"""What is told of requests beside their rates: of what kind they are, and how far loads are from steady."""

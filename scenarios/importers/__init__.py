"""What other programs wrote, read into lorapack's own terms."""

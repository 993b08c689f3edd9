"""What arrives at a GPU: instants, lengths, recorded traces."""

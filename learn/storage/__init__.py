"""What is kept on disk: twin runs, round by round, and the regions that are made of them."""

"""What is made of plans that there are: the next one, and a page."""

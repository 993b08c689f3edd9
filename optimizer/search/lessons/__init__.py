"""What verdicts teach: how full a content is by the twin, and what that says of the rows."""

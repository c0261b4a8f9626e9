"""What the commands that serve web pages share."""

"""`daebus top`: a live view of what is running."""

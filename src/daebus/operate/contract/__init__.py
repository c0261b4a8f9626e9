"""`daebus contract`: what services offer, written down, compared, and as a typed client."""

"""One message's way through a service: it arrives, waits, is handled, and is answered."""

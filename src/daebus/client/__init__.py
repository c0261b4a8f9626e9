"""The other end of the wire: calls to services, and the replies to them."""

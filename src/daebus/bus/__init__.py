"""The wire: connections to the Redis or Valkey server, and what is said over them."""

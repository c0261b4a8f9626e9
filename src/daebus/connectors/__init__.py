"""Sources and sinks of pipelines over Redis and Valkey: streams and channels."""

"""The scenarios of the service: requests, broadcasts, memory."""

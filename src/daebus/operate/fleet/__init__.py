"""What is running: services, queues and pipelines, with rates and latencies."""

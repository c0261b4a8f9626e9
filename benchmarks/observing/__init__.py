"""What it costs to look at a service: metrics and traces, beside nothing."""

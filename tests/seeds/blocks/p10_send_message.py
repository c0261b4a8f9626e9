from daebus import DaebusCaller

metrics = DaebusCaller("metrics_service")

# Send a metric without waiting for a response
metrics.send_message("record_metric", {
    "name": "api_request",
    "value": 1,
    "tags": {"endpoint": "/users", "method": "GET"}
})

metrics.close()

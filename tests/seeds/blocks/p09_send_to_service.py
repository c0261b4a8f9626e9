from daebus import DaebusCaller

# Create a caller
logger_service = DaebusCaller("logger_service")

# Send a direct message to an action
logger_service.send_to_service({
    "level": "info",
    "message": "System started successfully",
    "timestamp": time.time()
}, action="log_event")

# Clean up
logger_service.close()

from daebus import Daebus, direct_logger

app = Daebus(__name__)

@app.background("cleanup", 3600)  # Run hourly
def cleanup_job():
    try:
        # Perform cleanup
        direct_logger.info("Cleanup job completed")
    except Exception as e:
        direct_logger.error(f"Cleanup job failed: {e}")

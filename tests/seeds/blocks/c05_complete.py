from daebus import Daebus
import time
import threading

app = Daebus("concurrent_service", max_workers=20)

# Track processed messages with thread safety
processed = []
process_lock = threading.Lock()

@app.action("process")
def handle_process():
    # Get message details
    message_id = app.request.payload.get("id")
    process_time = app.request.payload.get("process_time", 0.5)

    # Simulate work with a delay
    time.sleep(process_time)

    # Update shared state in thread-safe way
    with process_lock:
        processed.append(message_id)

    # Respond with success
    return app.response.success({
        "id": message_id,
        "processed_at": time.time()
    })

if __name__ == "__main__":
    app.run("concurrent_service")

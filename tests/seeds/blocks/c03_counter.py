# Example: Thread-safe counter
counter_lock = threading.Lock()
counter = 0

@app.action("increment")
def handle_increment():
    global counter
    with counter_lock:
        counter += 1
        return app.response.success({"new_value": counter})

@app.thread("data_processor")
def process_data_continuously():
    while app.is_running():
        # Process data in background
        # This won't block message handling
        time.sleep(1)

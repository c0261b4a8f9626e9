@app.action("process_data")
def handle_process_data():
    # These objects are thread-local and specific to this message
    request_id = app.request.request_id
    data = app.request.payload

    # Process data...

    # Each response is isolated to this specific request
    return app.response.success({"result": "processed"})

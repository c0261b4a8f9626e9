@app.action("process_data")
def process_data():
    # The full payload sent with the request
    payload = request.payload

    # Metadata about the request
    reply_to = request.reply_to      # Channel to send response to
    request_id = request.request_id  # Unique ID for this request
    service = request.service        # Source service name

    # Access specific fields from the payload
    user_id = payload.get("user_id")
    data_type = payload.get("type")

    # Process based on payload content
    return response.send({"processed": True})

@app.action("process_large_dataset")
def process_large_dataset():
    dataset = request.payload.get("dataset", [])

    # Send initial response
    response.send({"status": "processing", "progress": 0}, final=False)

    # Process in chunks
    total_items = len(dataset)
    processed = 0

    for chunk in chunks(dataset, 100):
        # Process this chunk
        process_chunk(chunk)

        # Update progress
        processed += len(chunk)
        progress = (processed / total_items) * 100

        # Send progress update (non-final response)
        if processed < total_items:
            response.send({
                "status": "processing",
                "progress": progress
            }, final=False)

    # Send final response
    return response.send({
        "status": "complete",
        "progress": 100,
        "total_processed": processed
    })

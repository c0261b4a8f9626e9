@app.action("fetch_record")
def fetch_record():
    record_id = request.payload.get("id")

    if not record_id:
        # Return error for missing ID
        return response.error("Missing record ID")

    try:
        # Attempt to fetch the record
        record = database.get_record(record_id)

        if not record:
            return response.error(f"Record not found: {record_id}")

        # Return success with the record data
        return response.send(record)
    except Exception as e:
        # Handle and return any exceptions
        return response.error(e)

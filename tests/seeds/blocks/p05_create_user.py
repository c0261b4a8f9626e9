@app.action("create_user")
def create_user():
    user_data = request.payload

    # Process user creation
    new_user = {
        "id": "user123",
        "name": user_data.get("name"),
        "created_at": time.time()
    }

    # Return success response with the created user
    return response.send(new_user)

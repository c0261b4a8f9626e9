from daebus import Daebus, DaebusCaller, logger

app = Daebus(__name__)

# Create a caller for the target service
user_service = DaebusCaller("user_service")
notification_service = DaebusCaller("notification_service")

@app.action("register_user")
def register_user():
    user_data = request.payload

    try:
        # Call the user service to create the user
        user_result = user_service.send_request("create_user", user_data)

        if user_result.get("status") == "error":
            return response.error(f"User creation failed: {user_result.get('error')}")

        # Send a welcome notification
        notification_result = notification_service.send_request("send_email", {
            "user_id": user_result["id"],
            "template": "welcome",
            "email": user_data.get("email")
        })

        # Return the combined result
        return response.send({
            "user": user_result,
            "notification": notification_result
        })
    except Exception as e:
        return response.error(f"Registration failed: {e}")
    finally:
        # Clean up resources
        user_service.close()
        notification_service.close()

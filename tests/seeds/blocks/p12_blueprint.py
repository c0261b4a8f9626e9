from daebus import Daebus, Blueprint, response

# Create a blueprint for user-related functionality
user_bp = Blueprint("users")

@user_bp.action("get_user")
def get_user():
    user_id = request.payload.get("id")
    # Fetch and return user
    return response.send({"id": user_id, "name": "Example User"})

@user_bp.listen("user_events")
def on_user_event(data):
    # Handle user events
    pass

# Create the app and register the blueprint
app = Daebus(__name__)
app.register_blueprint(user_bp)

# Run the service
app.run(service="user_service")

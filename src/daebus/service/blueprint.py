"""Blueprint: handlers that belong together, written in a module of their own."""

from __future__ import annotations

from daebus.channels import check_name
from daebus.service.registry import Registrar


class Blueprint(Registrar):
    """A named group of handlers with the same decorators as the app, for `register_blueprint`.

    Args:
        name: what the group is called in errors and logs.

    Raises:
        SettingsError: the name is empty or does not print.

    Example:
        >>> users = Blueprint("users")
        >>> @users.action("get_user")
        ... def get_user(id: str) -> dict:
        ...     return {"id": id}
        >>> app.register_blueprint(users)
    """

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = check_name("blueprint", name)

"""One message and all that belongs to handling it, on its way from the reader to its handler."""

from __future__ import annotations

from typing import Any

from daebus.service.request import Request
from daebus.service.response import Response
from daebus.service.routes import Route


class Exchange:
    """A message, the handler that it goes to, and the response that it gets."""

    __slots__ = ("request", "response", "route", "size_bytes")

    def __init__(self, route: Route, request: Request, response: Response, size_bytes: int) -> None:
        self.route = route
        self.request = request
        self.response = response
        self.size_bytes = size_bytes

    def arguments(self) -> tuple[Any, ...]:
        """The handler's arguments.

        Raises:
            BadMessage: the payload is not JSON, or not what the handler's type hints ask for.
        """
        make = self.route.arguments
        if make is None:
            # Decoded now, so that a broken payload is refused before any of the user's code runs.
            _ = self.request.payload
            return ()
        return make(self.request.raw_payload)

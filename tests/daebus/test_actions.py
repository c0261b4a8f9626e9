"""Actions answer requests."""

from __future__ import annotations

from collections.abc import Callable

from daebus import Daebus, DaebusCaller, request, response

Start = Callable[[Daebus], DaebusCaller]


def test_a_handler_answers_with_what_it_sends(start: Start) -> None:
    app = Daebus("echo")

    @app.action("echo")
    def echo() -> object:
        return response.send(request.payload)

    caller = start(app)

    assert caller.call("echo", {"text": "hello"}) == {"text": "hello"}

"""A call that a handler makes waits no longer than the handler's own caller does."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from time import monotonic

import pytest

from daebus import CallTimeout, Daebus, DaebusCaller, request, response
from fixtures.waiting import eventually

Start = Callable[[Daebus], DaebusCaller]


class Outer:
    """A service whose handlers call another one, which never answers or tells its deadline."""

    def __init__(self, inner: str) -> None:
        self.app = Daebus("outer")
        self.inner = DaebusCaller(inner, timeout=30)
        self.found: list[object] = []
        self.ended = threading.Event()

    def ask(self, action: str, **options: object) -> None:
        began = monotonic()
        try:
            self.found.append(self.inner.call(action, **options))
        except Exception as error:
            self.found += [type(error), monotonic() - began]
        self.ended.set()


@pytest.fixture
def outer(start: Start, url: str) -> Iterator[tuple[Outer, DaebusCaller]]:
    release, inner = threading.Event(), Daebus("inner")
    inner.action("remaining")(lambda: request.remaining())
    inner.action("wait")(lambda: release.wait(30))
    inner.start("inner_service")
    made = Outer("inner_service")

    @made.app.action("ask")
    def ask(action: str, timeout: float | None = None) -> None:
        made.ask(action, timeout=timeout)

    @made.app.action("ask_in_a_task")
    async def ask_in_a_task(action: str) -> None:
        await asyncio.to_thread(made.ask, action)

    @made.app.action("ask_late")
    def ask_late() -> None:
        eventually(lambda: request.remaining() == 0)
        for call in (made.inner.call, made.inner.submit, made.inner.stream):
            began = monotonic()
            with pytest.raises(CallTimeout):
                call("remaining")
            made.found.append(monotonic() - began)
        made.found.append(made.inner.send_message("remaining"))
        made.ended.set()

    @made.app.action("ask_between")
    def ask_between() -> None:
        response.send("first", final=False)
        made.ask("remaining")

    @made.app.listen("outer.events")
    def on_event(data: object) -> None:
        made.ask("remaining")

    caller = start(made.app)
    yield made, caller
    release.set()
    made.inner.close()
    inner.stop()


def test_the_called_service_learns_what_remains(outer: tuple[Outer, DaebusCaller]) -> None:
    made, caller = outer

    caller.call("ask", {"action": "remaining"}, timeout=5)
    caller.call("ask_in_a_task", {"action": "remaining"}, timeout=6)
    caller.call("ask", {"action": "remaining", "timeout": 2.0}, timeout=5)

    first, second, third = made.found
    assert 4 < first <= 5
    assert 5 < second <= 6
    assert 1 < third <= 2


@pytest.mark.parametrize("action", ["ask", "ask_in_a_task"])
def test_the_call_ends_when_the_handlers_caller_gives_up(
    outer: tuple[Outer, DaebusCaller], action: str
) -> None:
    made, caller = outer

    with pytest.raises(TimeoutError):
        caller.call(action, {"action": "wait"}, timeout=0.5)

    assert made.ended.wait(5)
    kind, took = made.found
    assert kind is CallTimeout
    assert took < 0.9


def test_no_call_is_made_after_the_deadline(outer: tuple[Outer, DaebusCaller]) -> None:
    made, caller = outer

    with pytest.raises(TimeoutError):
        caller.call("ask_late", timeout=0.2)

    assert made.ended.wait(5)
    *took, sent = made.found
    assert len(took) == 3
    assert max(took) < 0.1
    assert sent == 1, "a message without a reply is no call"


def test_a_listener_and_a_message_have_no_deadline_to_inherit(
    outer: tuple[Outer, DaebusCaller], broadcaster: object
) -> None:
    made, caller = outer

    broadcaster.send("outer.events", 1)
    assert made.ended.wait(5)
    made.ended.clear()
    caller.send_message("ask", {"action": "remaining"}, expires=5)
    assert made.ended.wait(5)

    assert all(25 < each <= 30 for each in made.found), made.found


def test_a_stream_has_none_after_its_first_response(outer: tuple[Outer, DaebusCaller]) -> None:
    made, caller = outer

    assert list(caller.stream("ask_between", timeout=5)) == ["first", None]
    caller.call("ask_between", timeout=5)

    in_stream, in_call = made.found
    assert 25 < in_stream <= 30
    assert 4 < in_call <= 5

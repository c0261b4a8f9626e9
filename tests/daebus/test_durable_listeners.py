"""@app.listen(…, durable=True): what is published waits for the service, and is handled once."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import pytest

from daebus import Broadcast, Daebus, InboxFull, RegistrationError, request
from daebus.channels import durable_key, inbox_key
from fixtures.inboxes import Inbox
from fixtures.waiting import eventually

Serve = Callable[..., Daebus]


@pytest.fixture
def inbox(url: str, service_name: str) -> Iterator[Inbox]:
    with Inbox(url, service_name) as inbox:
        yield inbox


@pytest.fixture
def app(url: str) -> Iterator[Serve]:
    apps: list[Daebus] = []

    def make(**settings: object) -> Daebus:
        apps.append(Daebus("app", url=url, **{"lease": 0.3, **settings}))
        return apps[-1]

    yield make
    for each in apps:
        each.stop()


@pytest.fixture
def channel(service_name: str) -> str:
    return f"orders_{service_name}"


def test_what_is_published_while_the_service_is_down_is_handled_later(
    app: Serve, broadcaster: Broadcast, service_name: str, channel: str, inbox: Inbox
) -> None:
    first = app()
    first.listen(channel, durable=True)(lambda data: None)
    first.start(service_name)
    first.stop()

    assert broadcaster.send(channel, {"n": 1}) == 1
    assert broadcaster.send_many(channel, ({"n": n} for n in range(2, 6))) == 4

    second, heard = app(), []
    second.listen(channel, durable=True)(
        lambda data: heard.append((data["n"], request.channel, request.delivery_count))
    )
    second.start(service_name)
    eventually(lambda: len(heard) == 5)
    assert sorted(heard) == [(n, channel, 1) for n in range(1, 6)]
    eventually(lambda: inbox.waiting == 0)


def test_one_replica_handles_each_while_plain_listeners_all_hear_it(
    app: Serve, broadcaster: Broadcast, service_name: str, channel: str
) -> None:
    durable, plain = [], []
    for _ in range(3):
        service = app(delivery="stream")
        service.listen(channel, durable=True)(durable.append)
        service.listen(channel)(plain.append)
        service.start(service_name)

    assert broadcaster.send_many(channel, range(50)) == 50 * 4

    eventually(lambda: len(durable) == 50 and len(plain) == 150)
    assert sorted(durable) == list(range(50))


def test_each_service_gets_a_copy(
    app: Serve, broadcaster: Broadcast, service_name: str, channel: str
) -> None:
    heard: dict[str, list[int]] = {"one": [], "two": []}
    for name, numbers in heard.items():
        service = app()
        service.listen(channel, durable=True)(numbers.append)
        service.start(f"{service_name}_{name}")

    assert broadcaster.send(channel, 5) == 2

    eventually(lambda: heard == {"one": [5], "two": [5]})


def test_a_message_is_finished_when_every_listener_is(
    app: Serve, broadcaster: Broadcast, service_name: str, channel: str, inbox: Inbox
) -> None:
    service, heard = app(max_deliveries=2), []
    service.listen(channel, durable=True)(lambda data: heard.append("good"))

    @service.listen(channel, durable=True)
    def bad(data: int) -> None:
        heard.append("bad")
        raise RuntimeError("one of two")

    service.start(service_name)
    broadcaster.send(channel, 1)

    eventually(lambda: inbox.dead)
    [letter] = inbox.dead
    assert sorted(heard) == ["bad", "bad", "good", "good"]
    assert (letter["channel"], letter["data"], letter["reason"]) == (
        channel,
        "1",
        "RuntimeError: one of two",
    )


def test_what_no_listener_can_read_is_kept(
    app: Serve, broadcaster: Broadcast, service_name: str, channel: str, inbox: Inbox
) -> None:
    service, heard = app(), []

    @service.listen(channel, durable=True)
    def on_number(number: int) -> None:
        heard.append(number)

    service.start(service_name)
    broadcaster.send(channel, "not a number")
    broadcaster.send(channel, 5)

    eventually(lambda: inbox.dead and heard == [5])
    assert inbox.dead[0]["deliveries"] == "1"


def test_a_listener_that_is_not_in_the_code_any_more_gets_nothing(
    app: Serve, broadcaster: Broadcast, service_name: str, channel: str, inbox: Inbox
) -> None:
    first = app()
    first.listen(channel, durable=True)(lambda data: None)
    first.start(service_name)
    first.stop()
    assert inbox.server.smembers(durable_key(channel)) == {service_name.encode()}

    app().start(service_name)

    assert inbox.server.smembers(durable_key(channel)) == set()
    assert broadcaster.send(channel, 1) == 0
    assert inbox.waiting == 0


def test_a_full_inbox_is_told_to_who_publishes(
    app: Serve, broadcaster: Broadcast, service_name: str, channel: str, inbox: Inbox
) -> None:
    service = app(max_inbox=3)
    service.listen(channel, durable=True)(lambda data: None)
    service.start(service_name)
    service.stop()

    with pytest.raises(InboxFull, match=service_name):
        broadcaster.send_many(channel, range(10))

    assert inbox.waiting == 3
    stored = inbox.server.xrange(inbox_key(service_name))
    assert [json.loads(fields[b"data"]) for _, fields in stored] == [0, 1, 2]


def test_a_pattern_cannot_be_durable(app: Serve) -> None:
    with pytest.raises(RegistrationError, match="pattern"):
        app().listen("events.*", durable=True)

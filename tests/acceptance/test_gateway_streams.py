"""`daebus gateway`: responses as events, channels as WebSockets and events."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import httpx
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from daebus import Broadcast
from daebus.bus.connection import client
from daebus.bus.embedded import EmbeddedServer
from fixtures.gateway import Gateway, start_service, started_gateway
from fixtures.processes import Processes
from fixtures.waiting import eventually

EVENTS = {"Accept": "text/event-stream"}


@pytest.fixture(scope="module")
def gateway(server: EmbeddedServer) -> Iterator[Gateway]:
    name = f"svc_{uuid.uuid4().hex[:12]}"
    options = [
        *("--expose", name, "--channel", f"{name}.*", "--publish", f"{name}.inward"),
        *("--max-streams", "2", "--max-sockets", "4"),
    ]
    with Processes() as processes:
        start_service(processes, name, server.url)
        with started_gateway(processes, name, server.url, *options) as started:
            yield started


def events(answer: httpx.Response) -> Iterator[dict[str, str]]:
    """The events of an answer, as they come; comments left out."""
    found: dict[str, str] = {}
    for line in answer.iter_lines():
        name, _, value = line.partition(": ")
        if name:
            found[name] = value
        elif line == "" and found:
            yield found
            found = {}


def calling(gateway: Gateway, action: str, payload: object = None) -> object:
    path = f"/services/{gateway.service}/actions/{action}"
    return gateway.client.stream("POST", path, headers=EVENTS, json=payload or {})


def listening(gateway: Gateway, channel: str) -> object:
    return gateway.client.stream("GET", f"/channels/{channel}", headers=EVENTS)


def test_each_response_comes_when_it_is_sent(gateway: Gateway) -> None:
    gate = uuid.uuid4().hex
    with calling(gateway, "steps", {"gate": gate}) as answer:
        coming = events(answer)
        assert answer.headers["content-type"].startswith("text/event-stream")
        # The handler waits until the first event has come out at this end.
        assert next(coming) == {"id": "0", "event": "message", "data": '{"step":1}'}

        assert gateway.post("open", json.dumps({"gate": gate})).status_code == 200

        assert list(coming) == [{"event": "result", "data": '"done"'}]


def test_an_error_that_comes_first_is_the_status(gateway: Gateway) -> None:
    for action, payload, status in (
        ("nothing", {}, 404),
        ("add", {"a": "x"}, 422),
        ("fail", {}, 500),
        ("endless?timeout=0.2", {}, 504),
    ):
        with calling(gateway, action, payload) as answer:
            assert answer.status_code == status
            assert answer.headers["content-type"] == "application/problem+json"


def test_an_error_that_comes_later_is_an_event(gateway: Gateway) -> None:
    with calling(gateway, "half") as answer:
        first, last = events(answer)

    assert (answer.status_code, first["data"], last["event"]) == (200, "1", "error")
    assert json.loads(last["data"])["code"] == "handler_error"


@pytest.mark.parametrize("headers", [{}, EVENTS], ids=["call", "stream"])
def test_a_client_that_goes_away_cancels_its_handler(
    gateway: Gateway, headers: dict[str, str]
) -> None:
    before = len(gateway.post("cancelled").json())
    with pytest.raises(httpx.ReadTimeout):
        gateway.post("endless", headers=headers, timeout=0.3)

    eventually(lambda: len(gateway.post("cancelled").json()) == before + 1)


def test_a_client_may_leave_in_the_middle(gateway: Gateway) -> None:
    gate = uuid.uuid4().hex
    with calling(gateway, "steps", {"gate": gate}) as answer:
        coming = events(answer)
        next(coming)
    gateway.post("open", json.dumps({"gate": gate}))

    eventually(lambda: can_listen(gateway, f"{gateway.service}.x"))
    assert "Traceback" not in gateway.process.output


def test_a_stream_too_many_is_refused(gateway: Gateway) -> None:
    channel = f"{gateway.service}.x"
    with listening(gateway, channel), listening(gateway, channel):
        refused = gateway.client.get(f"/channels/{channel}", headers=EVENTS)

    assert (refused.status_code, refused.json()["code"]) == (503, "gateway_full")
    eventually(lambda: can_listen(gateway, channel))


def can_listen(gateway: Gateway, channel: str) -> bool:
    with listening(gateway, channel) as first, listening(gateway, channel) as second:
        return first.status_code == second.status_code == 200


def test_a_channel_comes_as_events(gateway: Gateway, broadcaster: Broadcast) -> None:
    channel = f"{gateway.service}.events"
    eventually(lambda: can_listen(gateway, channel))
    with listening(gateway, channel) as answer:
        coming = answer.iter_lines()
        assert next(coming) == ": still there"
        assert broadcaster.send(channel, {"id": 1}) == 1
        found = [next(coming) for _ in range(3)]

    assert found == ["", "event: message", 'data: {"id":1}']


def test_a_channel_that_is_not_exposed_is_not_found(gateway: Gateway) -> None:
    for channel in ("other", f"{gateway.service}.[a-z]*", "*", "caller_x"):
        answer = gateway.client.get(f"/channels/{channel}", headers=EVENTS)

        assert (answer.status_code, answer.json()["code"]) == (404, "not_exposed")
        with pytest.raises(InvalidStatus) as refused, connect(gateway.socket_url(channel)):
            pass
        assert refused.value.response.status_code == 404
    assert "ERROR" not in gateway.process.output  # Else any client could fill the log.
    plain = gateway.client.get(f"/channels/{gateway.service}.x")
    assert (plain.status_code, plain.json()["code"]) == (406, "not_acceptable")


@contextmanager
def several(count: int, address: str) -> Iterator[list[ClientConnection]]:
    with ExitStack() as stack:
        yield [stack.enter_context(connect(address)) for _ in range(count)]


def receivers(url: str, channel: str) -> int:
    with client(url) as server:
        return int(server.pubsub_numsub(channel)[0][1])


def test_many_listeners_share_one_subscription(
    gateway: Gateway, broadcaster: Broadcast, url: str
) -> None:
    channel = f"{gateway.service}.shared"
    with several(3, gateway.socket_url(channel)) as sockets:
        assert receivers(url, channel) == 1
        assert broadcaster.send_many(channel, range(100)) == 100
        for each in sockets:
            assert [json.loads(each.recv(5)) for _ in range(100)] == list(range(100))

    eventually(lambda: receivers(url, channel) == 0)


def test_a_pattern_says_on_which_channel_it_was(gateway: Gateway, broadcaster: Broadcast) -> None:
    with connect(gateway.socket_url(f"{gateway.service}.*")) as socket:
        broadcaster.send(f"{gateway.service}.one", {"id": 1})

        assert json.loads(socket.recv(5)) == {
            "channel": f"{gateway.service}.one",
            "payload": {"id": 1},
        }


def test_what_is_no_json_comes_as_text(gateway: Gateway, url: str) -> None:
    name = gateway.service
    with connect(gateway.socket_url(f"{name}.*")) as many, listening(gateway, f"{name}.t") as one:
        lines = one.iter_lines()
        next(lines)
        with client(url) as server:
            server.publish(f"{name}.t", b"two\nlines \xff")

        assert json.loads(many.recv(5))["payload"] == "two\nlines \ufffd"
        assert [next(lines) for _ in range(4)][2:] == ["data: two", "data: lines \ufffd"]


def test_a_frame_is_published_where_that_is_allowed(gateway: Gateway) -> None:
    channel = f"{gateway.service}.inward"
    with connect(gateway.socket_url(channel)) as one, connect(gateway.socket_url(channel)) as other:
        one.send('{"id": 7}')

        assert json.loads(other.recv(5)) == json.loads(one.recv(5)) == {"id": 7}


@pytest.mark.parametrize(
    ("channel", "frame", "code"),
    [
        ("outward", "1", 1008),
        ("inward", "{", 1007),
        ("inward", "", 1007),
        ("inward", b"\xff", 1007),
    ],
)
def test_a_frame_that_cannot_be_published_closes_the_socket(
    gateway: Gateway, channel: str, frame: str | bytes, code: int
) -> None:
    with connect(gateway.socket_url(f"{gateway.service}.{channel}")) as socket:
        socket.send(frame)
        with pytest.raises(ConnectionClosed):
            socket.recv(5)

        assert socket.close_code == code


def test_a_text_frame_that_is_no_text_closes_the_socket(gateway: Gateway) -> None:
    with connect(gateway.socket_url(f"{gateway.service}.inward")) as socket:
        socket.send(b"\xff", text=True)
        with pytest.raises(ConnectionClosed):
            socket.recv(5)

        assert socket.close_code == 1007
    assert "ERROR" not in gateway.process.output


def test_a_socket_too_many_is_refused(gateway: Gateway) -> None:
    address = gateway.socket_url(f"{gateway.service}.x")
    with several(4, address):
        with pytest.raises(InvalidStatus) as refused, connect(address):
            pass
        assert refused.value.response.status_code == 503
    eventually(lambda: can_connect(address))


def can_connect(address: str) -> bool:
    try:
        with connect(address):
            return True
    except InvalidStatus:
        return False


def test_a_slow_listener_is_ended_and_holds_up_nobody(
    gateway: Gateway, broadcaster: Broadcast
) -> None:
    channel = f"{gateway.service}.flood"
    payload = {"text": "x" * 100_000}
    with (
        connect(gateway.socket_url(channel), max_queue=1) as slow,
        connect(gateway.socket_url(channel)) as quick,
    ):
        sent = 0
        while "reads too slowly" not in gateway.process.output:
            broadcaster.send(channel, payload)
            assert json.loads(quick.recv(5)) == payload
            sent += 1
            assert sent < 1000
        received = drain(slow)

    assert 0 < received < sent
    assert slow.close_code == 1013


def drain(socket: ClientConnection) -> int:
    count = 0
    with pytest.raises(ConnectionClosed):
        while socket.recv(10):
            count += 1
    return count

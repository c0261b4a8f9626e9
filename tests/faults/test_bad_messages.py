"""No message can stop, block or grow a service (F1, F13, F14, F15)."""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Callable

import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from daebus import BadMessage, BadRequest, Daebus, DaebusCaller, TooLarge
from daebus.bus.embedded import EmbeddedServer
from fixtures import services, wire
from fixtures.listening import Subscriber
from fixtures.processes import Processes
from fixtures.waiting import eventually

Start = Callable[[Daebus], DaebusCaller]


def echo_app() -> Daebus:
    app = Daebus("app")
    app.action("echo")(lambda: app.request.payload)
    return app


def test_a_thousand_broken_messages_between_a_thousand_good_ones(
    start: Start, server: EmbeddedServer, service_name: str
) -> None:
    seed = random.randrange(2**32)
    print("seed", seed)
    chance = random.Random(seed)
    app = echo_app()
    caller = start(app)
    before = {thread.name for thread in threading.enumerate()}

    futures = []
    for number in range(1000):
        futures.append(caller.submit("echo", number))
        # The first byte is never valid UTF-8, so none of them can be JSON by chance.
        wire.publish(server.socket_path, service_name, b"\xff" + chance.randbytes(50))

    assert [future.result(20) for future in futures] == list(range(1000))
    eventually(lambda: app.stats().incidents.get("bad_message") == 1000)
    assert before <= {thread.name for thread in threading.enumerate()} | {"daebus-expiry"}


DEEP = [
    b"[" * levels + b"]" * levels for levels in (62, 63, 64, 65, 66, 100, 1000, 20_000, 200_000)
]
TYPES = [b"null", b"true", b"5", b"NaN", b"Infinity", b'"x"', b"[]", b"{}", b'"\\ud800"', b""]


@pytest.mark.parametrize("payload", [*DEEP, *TYPES], ids=lambda data: f"{data[:8]!r}x{len(data)}")
def test_any_payload_is_answered_and_good_traffic_goes_on(
    start: Start, server: EmbeddedServer, url: str, service_name: str, payload: bytes
) -> None:
    caller = start(echo_app())
    request = b'{"action":"echo","reply_to":"caller_deep","request_id":"1","payload":%b}' % payload

    with Subscriber(url, "caller_deep") as subscriber:
        wire.publish(server.socket_path, service_name, request)
        if payload == b"" or payload in {b"NaN", b"Infinity", b'"\\ud800"'} or len(payload) > 1000:
            # Not JSON as a whole, or deeper than any parser goes: nobody can tell whom to answer.
            assert caller.call("echo", 1) == 1
            return
        reply = subscriber.next()

    is_too_deep = payload.startswith(b"[[") and len(payload) // 2 + 1 > 64
    assert reply["status"] == ("error" if is_too_deep else "success")
    assert reply["request_id"] == "1"
    assert caller.call("echo", 1) == 1


@pytest.mark.parametrize(
    ("message", "says"),
    [
        ({"payload": 1}, "missing required field `action`"),
        ({"action": 5}, "Expected `str`, got `int` - at `$.action`"),
        ({"action": None}, "Expected `str`, got `null` - at `$.action`"),
        ({"action": "echo", "headers": {"a": 1}}, "`$.headers"),
        ({"action": "echo", "timeout_ms": "soon"}, "`$.timeout_ms`"),
        ({"action": "nope"}, "there is no action 'nope'"),
    ],
)
def test_a_wrong_envelope_is_answered_where_it_says(
    start: Start, url: str, service_name: str, message: dict[str, object], says: str
) -> None:
    start(echo_app())
    whole = {**message, "reply_to": "caller_wrong", "request_id": "7"}

    with Subscriber(url, "caller_wrong") as subscriber, redis.Redis.from_url(url) as client:
        client.publish(service_name, json.dumps(whole))
        reply = subscriber.next()

    assert (reply["status"], reply["request_id"], reply["final"]) == ("error", "7", True)
    assert says in reply["error"]


def test_duplicate_keys_and_no_reply_to_do_no_harm(
    start: Start, server: EmbeddedServer, service_name: str
) -> None:
    app = echo_app()
    caller = start(app)

    wire.publish(
        server.socket_path, service_name, b'{"action":"x","action":"echo"}', b'{"action":"none"}'
    )

    eventually(lambda: app.stats().handled == 1 and app.stats().incidents == {"unknown_action": 1})
    assert caller.call("echo", 1) == 1


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    reply_to=st.text(max_size=200)
    | st.from_regex(r"(caller|CALLER|xcaller)_?.*", fullmatch=True)
    | st.sampled_from(["other_service", "caller_", "caller_a b", "caller_\n", "caller_*", "__x"])
)
def test_nothing_is_published_outside_the_callers_channels(
    reply_to: str, shared_echo: tuple[redis.Redis, redis.client.PubSub, str]
) -> None:
    client, everything, service = shared_echo
    request = {"action": "echo", "reply_to": reply_to, "request_id": "h"}

    client.publish(service, json.dumps(request, ensure_ascii=True))
    client.publish(service, json.dumps({**request, "reply_to": "caller_end"}))

    while True:
        message = everything.get_message(timeout=20)
        assert message is not None
        channel = message["channel"].decode(errors="replace")
        if channel == "caller_end":
            return
        assert channel == service or channel.startswith(("caller_", "caller:")), channel


@pytest.fixture
def shared_echo(start: Start, url: str):
    caller = start(echo_app())
    with redis.Redis.from_url(url, protocol=2) as client:
        everything = client.pubsub(ignore_subscribe_messages=True)
        everything.psubscribe("*")
        eventually(lambda: client.pubsub_numpat() >= 1)
        everything.get_message(timeout=5)
        yield client, everything, caller.service
        everything.close()


def test_the_size_of_a_message_is_limited_at_both_ends(
    url: str, server: EmbeddedServer, service_name: str, processes: Processes
) -> None:
    service = services.start(processes, service_name, url)
    limit, frame = 1024 * 1024, 400
    with DaebusCaller(service_name, url) as caller:
        assert caller.call("echo", "x" * (limit - frame)) == "x" * (limit - frame)
        with pytest.raises(TooLarge):
            caller.call("echo", "x" * limit)
        before = services.peak_kib(service.pid)
        with pytest.raises(TooLarge):
            caller.call("echo", "x" * 100 * limit)
        with pytest.raises(BadMessage):
            caller.send_message("echo", "x" * limit)

        head = b'{"action":"echo","reply_to":"caller_big","request_id":"1","payload":"'
        wire.publish(server.socket_path, service_name, head + b"x" * limit + b'"}')

        eventually(lambda: caller.call("stats")["incidents"].get("bad_message") == 1)
        assert services.peak_kib(service.pid) - before <= 5 * 1024
        assert caller.call("echo", 1) == 1


def test_a_reply_that_is_too_large_is_an_error(start: Start) -> None:
    app = Daebus("app")
    app.action("give")(lambda: "x" * 2_000_000)

    with pytest.raises(Exception, match="over the limit") as raised:
        start(app).call("give")
    assert not isinstance(raised.value, BadRequest)

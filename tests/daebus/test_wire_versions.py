"""Messages of the version before are read, and those of a later one are refused with a reason.

`V1` is what a service and a caller of wire version 1 say, to the letter.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis

from daebus import Daebus, DaebusCaller, RemoteError
from daebus.bus.presence import decode_replica
from daebus.channels import control_channel, inbox_key, presence_key, replica_channel, replicas_key
from daebus.errors import Code
from daebus.messages import WIRE_VERSION
from fixtures.waiting import eventually

Start = Callable[[Daebus], DaebusCaller]

V1 = {
    "request": b'{"action":"echo","payload":{"n":1},"reply_to":"caller_v1","request_id":"r1",'
    b'"service":"web","timeout_ms":4990.5,"headers":{"trace":"abc"}}',
    "stream": b'{"action":"count","reply_to":"caller_v1","request_id":"r1","stream":true}',
    "cancel": b'{"cancel":"r1"}',
    "success": b'{"status":"success","payload":{"n":1},"request_id":"%b","final":true}',
    "part": b'{"status":"success","payload":0,"request_id":"%b","final":false,"seq":0}',
    "error": b'{"error":"no","code":"handler_error","request_id":"%b","final":true,'
    b'"status":"error"}',
    "presence": b'{"service":"old","replica_id":"a1","host":"h","pid":1,"version":"0.1.0",'
    b'"started_at":1.0,"actions":["echo"],"channels":[],"delivery":"pubsub","max_workers":10,'
    b'"processes":0,"in_progress":0,"backlog":0,"spilled":0,"handled":7,"errors":0,"gaps":0,'
    b'"incidents":{},"tasks":{}}',
}


@pytest.fixture
def app() -> Daebus:
    app = Daebus("app")
    app.action("echo")(lambda: {"got": app.request.payload, **app.request.headers})

    @app.action("count")
    def count() -> str:
        app.response.send(0, final=False)
        return "done"

    return app


@pytest.fixture
def client(url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(url) as client:
        yield client


def replies_to(client: redis.Redis, publish: Callable[[], Any], count: int = 1) -> list[Any]:
    """What comes on the old caller's reply channel."""
    with client.pubsub() as pubsub:
        pubsub.subscribe("caller_v1")
        assert pubsub.get_message(timeout=5)
        publish()
        messages = [pubsub.get_message(timeout=5) for _ in range(count)]
    return [json.loads(message["data"]) for message in messages if message]


def test_a_request_of_version_1_is_answered_so_that_version_1_reads_it(
    app: Daebus, start: Start, client: redis.Redis
) -> None:
    service = start(app).service

    (reply,) = replies_to(client, lambda: client.publish(service, V1["request"]))

    assert reply == {
        "status": "success",
        "payload": {"got": {"n": 1}, "trace": "abc"},
        "request_id": "r1",
        "final": True,
    }


def test_a_reply_has_the_version_of_its_request(
    app: Daebus, start: Start, client: redis.Redis
) -> None:
    service = start(app).service
    current = V1["request"].replace(b"{", b'{"v":%d,' % WIRE_VERSION, 1)

    (reply,) = replies_to(client, lambda: client.publish(service, current))

    assert reply["v"] == WIRE_VERSION


def test_a_stream_of_version_1_is_answered(app: Daebus, start: Start, client: redis.Redis) -> None:
    service = start(app).service

    replies = replies_to(client, lambda: client.publish(service, V1["stream"]), 2)

    assert [(reply["payload"], reply["final"]) for reply in replies] == [(0, False), ("done", True)]


def test_an_inbox_entry_of_version_1_is_handled(start: Start, client: redis.Redis) -> None:
    app = Daebus("app", delivery="stream")
    app.action("echo")(lambda: app.request.payload)
    key = inbox_key(start(app).service)

    (reply,) = replies_to(client, lambda: client.xadd(key, {"data": V1["request"], "id": "m1"}))

    assert reply["payload"] == {"n": 1}


def test_a_cancel_of_version_1_is_heard(start: Start, client: redis.Redis) -> None:
    app, is_cancelled = Daebus("app"), threading.Event()

    @app.action("wait")
    def wait() -> None:
        eventually(lambda: app.request.is_cancelled)
        is_cancelled.set()

    service = start(app).service
    client.publish(service, V1["request"].replace(b"echo", b"wait"))
    eventually(lambda: app.stats().in_progress == 1)
    client.publish(control_channel(service), V1["cancel"])

    assert is_cancelled.wait(5)


def answering(client: redis.Redis, service: str, *replies: bytes) -> threading.Thread:
    """A service of version 1, for one request."""
    presence = V1["presence"].replace(b"old", service.encode())
    client.set(presence_key(service, "a1"), presence, ex=30)
    client.zadd(replicas_key(service), {"a1": 1e12})
    pubsub = client.pubsub()
    pubsub.subscribe(service, replica_channel(service, "a1"))
    assert pubsub.get_message(timeout=5)
    assert pubsub.get_message(timeout=5)

    def answer() -> None:
        with pubsub:
            request = json.loads(pubsub.get_message(timeout=5)["data"])
            for reply in replies:
                client.publish(request["reply_to"], reply % request["request_id"].encode())

    thread = threading.Thread(target=answer)
    thread.start()
    return thread


def test_a_caller_reads_the_replies_of_version_1(
    client: redis.Redis, url: str, service_name: str
) -> None:
    with DaebusCaller(service_name, url, timeout=5.0) as caller:
        service = answering(client, service_name, V1["part"], V1["success"])
        assert list(caller.stream("echo")) == [0, {"n": 1}]
        service.join()
        service = answering(client, service_name, V1["error"])
        with pytest.raises(RemoteError, match="no"):
            caller.call("echo")
        service.join()


def test_a_replica_of_version_1_is_known() -> None:
    replica = decode_replica(V1["presence"])

    assert replica is not None
    assert (replica.wire_version, replica.handled, replica.is_ready) == (1, 7, True)


def test_a_request_of_a_later_version_is_refused_with_the_reason(
    app: Daebus, start: Start, client: redis.Redis
) -> None:
    service = start(app).service
    later = V1["request"].replace(b"{", b'{"v":3,', 1)

    (reply,) = replies_to(client, lambda: client.publish(service, later))

    assert reply["code"] == Code.BAD_REQUEST
    assert "version 3" in reply["error"]


def test_a_reply_of_a_later_version_ends_the_call_with_the_reason(
    client: redis.Redis, url: str, service_name: str
) -> None:
    later = V1["success"].replace(b"{", b'{"v":3,', 1)

    with DaebusCaller(service_name, url, timeout=5.0) as caller:
        service = answering(client, service_name, later)
        with pytest.raises(RemoteError, match="version 3"):
            caller.call("echo")
        service.join()

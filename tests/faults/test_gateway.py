"""The gateway when things end, break or make no sense: an answer each time, never a traceback."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from urllib.parse import urlsplit

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from daebus import Broadcast
from daebus.bus.embedded import EmbeddedServer
from fixtures.gateway import Gateway, start_service, started_gateway
from fixtures.processes import Processes
from fixtures.waiting import eventually

EVENTS = {"Accept": "text/event-stream"}


@pytest.fixture(scope="module")
def service(server: EmbeddedServer) -> Iterator[str]:
    """The name of a service that no test breaks."""
    name = f"svc_{uuid.uuid4().hex[:12]}"
    with Processes() as processes:
        start_service(processes, name, server.url)
        yield name


@pytest.fixture
def in_background() -> Iterator[Callable[..., object]]:
    """Runs functions in threads; all have ended at the end of the test."""
    with ThreadPoolExecutor(8) as pool:
        yield pool.submit


def is_running(gateway: Gateway, gate: str) -> bool:
    """Whether the handler that waits for this gate has begun."""
    return gate in gateway.post("waiting").json()


def hold(gateway: Gateway, action: str = "gated") -> tuple[str, Callable[[], httpx.Response]]:
    gate = uuid.uuid4().hex
    path = f"{gateway.url}/services/{gateway.service}/actions/{action}"
    return gate, lambda: httpx.post(path, json={"gate": gate}, timeout=20)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_finishes_what_runs_and_ends_with_0(
    processes: Processes, service: str, url: str, number: int, in_background
) -> None:
    with started_gateway(processes, service, url, "--expose", service) as gateway:
        gate, call = hold(gateway)
        answer = in_background(call)
        eventually(lambda: is_running(gateway, gate))
        with started_gateway(processes, service, url, "--expose", service) as other:
            gateway.process.signal(number)
            eventually(lambda: refuses(gateway))
            other.post("open", json.dumps({"gate": gate}))

        assert answer.result(10).text == "true"
        assert gateway.process.wait() == 0
        assert "Traceback" not in gateway.process.output
        assert "Stopped" in gateway.process.output


def refuses(gateway: Gateway) -> bool:
    try:
        httpx.get(f"{gateway.url}/live", timeout=5)
    except httpx.TransportError:
        return True
    return False


def test_what_outlasts_the_grace_time_is_cancelled_and_told(
    processes: Processes, service: str, url: str, in_background
) -> None:
    options = ["--expose", service, "--grace", "0.3"]
    with started_gateway(processes, service, url, *options) as gateway:
        gate, call = hold(gateway)
        answer = in_background(call)
        eventually(lambda: is_running(gateway, gate))
        gateway.process.signal(signal.SIGTERM)

        assert (answer.result(10).status_code, answer.result().json()["code"]) == (503, "stopping")
        assert gateway.process.wait(5) == 0
        assert "Traceback" not in gateway.process.output


def test_a_stream_that_outlasts_the_grace_time_is_told_by_an_event(
    processes: Processes, service: str, url: str
) -> None:
    options = ["--expose", service, "--grace", "0.3"]
    path = f"/services/{service}/actions/steps"
    with (
        started_gateway(processes, service, url, *options) as gateway,
        gateway.client.stream("POST", path, headers=EVENTS) as answer,
    ):
        lines = answer.iter_lines()
        next(lines)
        gateway.process.signal(signal.SIGTERM)

        assert '"code":"stopping"' in "".join(lines)
        assert gateway.process.wait(5) == 0
        assert "Traceback" not in gateway.process.output


def test_a_stop_ends_what_has_no_end(processes: Processes, url: str, service_name: str) -> None:
    channel = f"{service_name}.x"
    with (
        started_gateway(processes, "none", url, "--channel", channel) as gateway,
        connect(gateway.socket_url(channel)) as listener,
        gateway.client.stream("GET", f"/channels/{channel}", headers=EVENTS) as answer,
    ):
        lines = answer.iter_lines()
        assert next(lines) == ": still there"
        gateway.process.signal(signal.SIGTERM)

        assert list(lines) == [""]
        with pytest.raises(ConnectionClosed):
            listener.recv(5)
        assert listener.close_code == 1012
        assert gateway.process.wait(5) == 0


def test_who_holds_up_a_stop_is_cut_off_with_an_answer(
    processes: Processes, own_server: EmbeddedServer, service_name: str
) -> None:
    options = ["--expose", service_name, "--channel", "*", "--grace", "0.1"]
    with (
        started_gateway(processes, service_name, own_server.url, *options) as gateway,
        closing(half_a_request(gateway)) as half,
        closing(http.client.HTTPConnection(urlsplit(gateway.url).netloc)) as listener,
    ):
        os.kill(own_server.pid, signal.SIGSTOP)
        try:
            listener.request("GET", "/channels/x", headers=EVENTS)
            assert gateway.client.get("/live").status_code == 200  # It has read the others, too.
            gateway.process.signal(signal.SIGTERM)

            assert (half.getresponse().status, listener.getresponse().status) == (503, 503)
        finally:
            os.kill(own_server.pid, signal.SIGCONT)
        assert gateway.process.wait() == 0
        assert "Traceback" not in gateway.process.output


def test_a_killed_replica_is_told_as_an_unknown_outcome(
    processes: Processes, url: str, service_name: str, in_background
) -> None:
    service = start_service(processes, service_name, url)
    with started_gateway(processes, service_name, url, "--expose", service_name) as gateway:
        gate, call = hold(gateway)
        answer = in_background(call)
        eventually(lambda: is_running(gateway, gate))
        service.kill()

        assert (answer.result(10).status_code, answer.result().json()["code"]) == (
            502,
            "replica_lost",
        )


def test_it_comes_back_with_the_server(
    processes: Processes, own_server: EmbeddedServer, service_name: str, in_background
) -> None:
    start_service(processes, service_name, own_server.url)
    channel = f"{service_name}.x"
    inward = f"{service_name}.inward"
    options = ["--expose", service_name, "--channel", channel, "--publish", inward]
    with (
        started_gateway(processes, service_name, own_server.url, *options) as gateway,
        connect(gateway.socket_url(channel)) as listener,
        connect(gateway.socket_url(inward)) as sender,
    ):
        gate, call = hold(gateway)
        answer = in_background(call)
        eventually(lambda: is_running(gateway, gate))
        own_server.kill()

        assert (answer.result(5).status_code, answer.result().json()["code"]) == (
            502,
            "connection_lost",
        )
        refused = gateway.post("add", '{"a": 1}')
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
        sender.send("1")
        with pytest.raises(ConnectionClosed):
            sender.recv(15)
        assert (sender.close_code, sender.close_reason != "") == (1013, True)
        assert "valkey.sock" not in answer.result().text + refused.text + sender.close_reason
        assert gateway.client.get("/ready").status_code == 503
        assert gateway.client.get("/live").status_code == 200
        assert gateway.client.get("/services").status_code == 503

        own_server.restart()
        eventually(lambda: gateway.post("add", '{"a": 1}').text == "1")
        assert gateway.client.get("/ready").status_code == 200
        broadcast = Broadcast(own_server.url)
        eventually(lambda: broadcast.send(channel, "back") == 1)
        assert listener.recv(5) == '"back"'
        broadcast.close()


def test_a_stalled_server_costs_no_more_than_the_time_limit(
    processes: Processes, own_server: EmbeddedServer, service_name: str
) -> None:
    start_service(processes, service_name, own_server.url)
    options = ["--expose", service_name, "--expose", "another"]
    with started_gateway(processes, service_name, own_server.url, *options) as gateway:
        assert gateway.post("add", '{"a": 1}').text == "1"
        os.kill(own_server.pid, signal.SIGSTOP)
        try:
            known = gateway.post("add?timeout=0.3", '{"a": 1}')
            unknown = gateway.client.post("/services/another/actions/add?timeout=0.3")
        finally:
            os.kill(own_server.pid, signal.SIGCONT)

        for answer in (known, unknown):
            assert (answer.status_code, answer.json()["code"]) == (504, "timeout")
            assert answer.elapsed.total_seconds() < 2
        eventually(lambda: gateway.post("add", '{"a": 1}').text == "1")


def test_half_a_request_holds_up_nobody(processes: Processes, service: str, url: str) -> None:
    with started_gateway(processes, service, url, "--expose", service) as gateway:
        halves = [half_a_request(gateway) for _ in range(50)]
        answers = [gateway.post("add", '{"a": 1}').text for _ in range(20)]
        for each in halves:
            each.close()

        assert answers == ["1"] * 20


def half_a_request(gateway: Gateway) -> http.client.HTTPConnection:
    connection = http.client.HTTPConnection(urlsplit(gateway.url).netloc)
    connection.putrequest("POST", f"/services/{gateway.service}/actions/add")
    connection.putheader("Content-Length", "100")
    connection.endheaders(b'{"a": ')
    return connection


@pytest.fixture(scope="module")
def gateway(server: EmbeddedServer, service: str) -> Iterator[Gateway]:
    options = ["--expose", f"{service}.*", "--channel", "fuzz.*", "--log-level", "warning"]
    with (
        Processes() as processes,
        started_gateway(processes, service, server.url, *options) as started,
    ):
        yield started


ACTIONS = ["add", "echo", "buy", "fail", "refuse", "nothing", "once", "daebus.info"]
EXPECTED = {200, 202, 400, 404, 405, 406, 413, 422, 431, 500}


JSON = st.recursive(
    st.none() | st.integers() | st.floats() | st.text(),
    lambda part: st.lists(part) | st.dictionaries(st.text(), part),
    max_leaves=5,
)
HEADERS = st.dictionaries(
    st.sampled_from(["Accept", "Prefer", "Idempotency-Key", "traceparent", "Request-Timeout"]),
    st.sampled_from(["text/event-stream", "respond-async", "1"])
    | st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=30).map(str.strip),
    max_size=3,
)
QUERIES = ["", "?timeout=1", "?timeout=x", "?timeout=", "?%ff", "?timeout=1e999"]


def quoted(raw: bytes) -> str:
    return "".join(f"%{byte:02x}" for byte in raw)


@settings(max_examples=150, deadline=None)
@given(
    method=st.sampled_from(["POST", "POST", "POST", "GET", "PUT"]),
    action=st.sampled_from(ACTIONS) | st.binary(min_size=1, max_size=20).map(quoted),
    query=st.sampled_from(QUERIES),
    headers=HEADERS,
    body=st.binary(max_size=50) | JSON.map(lambda value: json.dumps(value).encode()),
)
def test_no_request_makes_it_fail(
    gateway: Gateway, method: str, action: str, query: str, headers: dict[str, str], body: bytes
) -> None:
    connection = http.client.HTTPConnection(urlsplit(gateway.url).netloc, timeout=10)
    path = f"/services/{gateway.service}/actions/{action}{query}"
    connection.request(method, path, body, headers)
    answer = connection.getresponse()
    content = answer.read()
    connection.close()

    assert answer.status in EXPECTED
    if answer.status >= 400:
        assert json.loads(content)["code"] != "gateway_error"


UPGRADE = (
    b"GET /channels/fuzz.x HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n"
    b"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)


@pytest.mark.parametrize(
    "raw",
    [
        b"\x00\x01\x02\r\n\r\n",
        b"POST / HTTP/9.9\r\n\r\n",
        b"GET /services HTTP/1.1\r\n\r\n",
        b"POST /services/x/actions/y HTTP/1.1\r\nHost: localhost\r\nContent-Length: -5\r\n\r\n",
        b"POST /services/x/actions/y HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9e9\r\n\r\n",
        b"GET /\xff\xfe HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /channels/fuzz.x HTTP/1.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
        UPGRADE + b"X: 1\r\n" * 200 + b"\r\n",
        UPGRADE + b"Content-Length: 1\r\n\r\n1",
        b"GET /services HTTP/1.1\r\nHost: [::1\r\n\r\n",
    ],
)
def test_what_is_no_http_ends_with_an_error(gateway: Gateway, raw: bytes) -> None:
    host, _, port = urlsplit(gateway.url).netloc.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(raw)
        assert connection.recv(1000).startswith(b"HTTP/1.1 4")
    assert gateway.post("add", '{"a": 1}').text == "1"


def test_nothing_of_all_this_was_a_fault(gateway: Gateway) -> None:
    assert "Traceback" not in gateway.process.output

"""Clients that hold connections and ask for nothing: the gateway lets go of them."""

from __future__ import annotations

import json
import socket
import sys
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from urllib.parse import urlsplit

import httpx
import pytest
from websockets.sync.client import connect

from daebus.bus.embedded import EmbeddedServer
from fixtures.gateway import Gateway, start_service, started_gateway
from fixtures.processes import Processes
from fixtures.waiting import eventually

#: The command, with less time for a request's headers.
HASTY = """
from daebus.operate.web import connections
connections.HEADERS_S = 0.5
from daebus.operate.cli import main
main()
"""

#: The command, where the system lets the process open few files.
POOR = """
import resource
resource.setrlimit(resource.RLIMIT_NOFILE, (600, 600))
from daebus.operate.cli import main
main()
"""


@pytest.fixture(scope="module")
def hasty(server: EmbeddedServer) -> Iterator[Gateway]:
    name = f"svc_{uuid.uuid4().hex[:12]}"
    options = ["--expose", name, "--channel", name, "--keep-alive", "60"]
    command = [sys.executable, "-c", HASTY]
    with Processes() as processes:
        start_service(processes, name, server.url)
        with started_gateway(processes, name, server.url, *options, command=command) as started:
            yield started


def said(gateway: Gateway, text: bytes = b"") -> socket.socket:
    """A connection on which this was said."""
    place = urlsplit(gateway.url)
    connection = socket.create_connection((place.hostname, place.port), timeout=10)
    connection.sendall(text)
    return connection


HEAD = b"GET /live HTTP/1.1\r\nHost: localhost\r\nX-More: "
REFUSED = b"POST /nowhere HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n"


@pytest.mark.parametrize("text", [b"", HEAD])
def test_who_asks_for_nothing_is_let_go(hasty: Gateway, text: bytes) -> None:
    with said(hasty, text) as connection:
        assert connection.recv(1000) == b""


@pytest.mark.parametrize("text", [HEAD + b"\r\n\r\n", REFUSED])
def test_who_goes_on_after_an_answer_and_stops_is_let_go(hasty: Gateway, text: bytes) -> None:
    with said(hasty, text) as connection:
        assert connection.recv(1000).startswith(b"HTTP/1.1 ")
        connection.sendall(b"G")
        while connection.recv(1000):  # Until it closes the connection.
            pass


def test_a_byte_now_and_then_buys_no_time(hasty: Gateway) -> None:
    with said(hasty, HEAD) as connection:
        eventually(lambda: takes_no_more(connection))


def takes_no_more(connection: socket.socket) -> bool:
    try:
        connection.sendall(b"x")
    except OSError:
        return True
    return False


def test_who_waits_for_an_answer_is_kept(hasty: Gateway) -> None:
    gate = uuid.uuid4().hex
    call = said(hasty, request(hasty, "gated", {"gate": gate}))
    with call, connect(hasty.socket_url(hasty.service)) as listener:
        eventually(lambda: gate in hasty.post("waiting").json())
        test_who_asks_for_nothing_is_let_go(hasty, b"")  # Which came later.
        hasty.post("open", json.dumps({"gate": gate}))

        assert call.recv(1000).startswith(b"HTTP/1.1 200 OK")
        assert listener.ping().wait(10)


def request(gateway: Gateway, action: str, payload: object) -> bytes:
    body = json.dumps(payload)
    path = f"/services/{gateway.service}/actions/{action}"
    return (
        f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n{body}"
    ).encode()


def test_a_connection_too_many_is_refused(processes: Processes, url: str) -> None:
    with started_gateway(processes, "x", url, "--expose", "x", "--max-connections", "2") as gateway:
        gateway.client.get("/live")  # Its connection stays.
        with said(gateway), said(gateway) as refused:
            assert b"too_many_connections" in refused.recv(1000)

        gateway.client.close()
        eventually(lambda: httpx.get(f"{gateway.url}/live").status_code == 200)
        assert gateway.process.output.count("2 connections are open") == 1


def test_connections_take_no_more_files_than_there_may_be(processes: Processes, url: str) -> None:
    command = [sys.executable, "-c", POOR]
    with started_gateway(processes, "x", url, "--expose", "x", command=command) as gateway:
        assert "Only 150 connections" in gateway.process.output
        with ExitStack() as stack:
            for _ in range(700):
                stack.enter_context(said(gateway))

        eventually(lambda: httpx.get(f"{gateway.url}/live").status_code == 200)
        assert "Too many open files" not in gateway.process.output


def test_pings_of_a_client_that_reads_nothing_fill_no_memory(hasty: Gateway) -> None:
    pings, pong = 100_000, b"\x8a\x7d" + b"p" * 125
    ping, close = b"\x89\xfd" + bytes(4) + b"p" * 125, b"\x88\x80" + bytes(4)
    with said(hasty, upgrade(hasty.service)) as connection:
        assert connection.recv(1000).startswith(b"HTTP/1.1 101 ")
        connection.sendall(ping * pings + close)
        taken = 0
        while part := connection.recv(1_000_000):
            taken += len(part)

    assert len(pong) < taken < len(pong) * pings


def test_a_message_of_endless_frames_ends_the_connection(hasty: Gateway) -> None:
    text, more = b"\x01\x80" + bytes(4), b"\x00\x80" + bytes(4)
    with said(hasty, upgrade(hasty.service)) as connection:
        assert connection.recv(1000).startswith(b"HTTP/1.1 101 ")
        connection.sendall(text + more * 9_999)
        connection.sendall(b"\x89\x80" + bytes(4))
        assert connection.recv(1000) == b"\x8a\x00"  # A pong.

        connection.sendall(more)
        assert connection.recv(1000) == b""


def upgrade(channel: str) -> bytes:
    return (
        f"GET /channels/{channel} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n"
        "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    ).encode()

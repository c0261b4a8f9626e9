"""The port for probes and metrics: it answers, whoever else is connected, and stops at once."""

from __future__ import annotations

import http.client
import os
import resource
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from http import HTTPStatus
from time import monotonic

import pytest

from fixtures.forks import exit_code, fork
from fixtures.waiting import eventually
from turbo_queue import SettingsError
from turbo_queue.status_port import (
    CONNECTION_S,
    LIVE,
    MOST_ANSWERS,
    READY,
    Page,
    StatusPort,
    plain,
    probe,
)


@pytest.fixture
def serve() -> Iterator[Callable[..., StatusPort]]:
    with ExitStack() as stack:

        def start(host: str = "127.0.0.1", **pages: Page) -> StatusPort:
            port = StatusPort({f"/{name}": page for name, page in pages.items()}, port=0, host=host)
            port.start()
            stack.callback(port.join, 5.0)
            return port

        yield start


def connected(port: StatusPort) -> socket.socket:
    host, _, number = port.url.removeprefix("http://").rpartition(":")
    return socket.create_connection((host.strip("[]"), int(number)), 10)


def answer(port: StatusPort, request: bytes) -> bytes:
    with connected(port) as connection, connection.makefile("rb") as file:
        connection.sendall(request)
        return file.read()


def get(port: StatusPort, path: str) -> tuple[int, str]:
    head, _, body = answer(port, f"GET {path} HTTP/1.1\r\n\r\n".encode()).partition(b"\r\n\r\n")
    return int(head.split()[1]), body.decode()


def test_a_probe_is_ok_while_there_are_no_troubles_and_else_names_them(serve) -> None:
    troubles: list[str] = []
    port = serve(ready=probe(lambda: troubles))

    assert get(port, READY) == (200, "ok\n")
    troubles += ["deaf", "forged\r\n\x1b[2Jline"]
    assert get(port, READY) == (503, "deaf\nforged\\r\\n\\x1b[2Jline\n")


def test_head_has_the_same_head_and_no_body(serve) -> None:
    port = serve(live=probe(list))

    head, _, body = answer(port, b"HEAD /live?x=1 HTTP/1.1\r\n\r\n").partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.0 200 OK\r\n")
    assert b"Content-Length: 3" in head
    assert body == b""


def test_an_unknown_page_names_those_that_there_are(serve) -> None:
    assert get(serve(live=probe(list), ready=probe(list)), "/") == (
        404,
        "there are /live, /ready\n",
    )


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"POST /live HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc", 405),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n", 400),
        (b"GET /" + b"x" * 70_000 + b" HTTP/1.1\r\n\r\n", 414),
        (b"GET /live HTTP/1.1\r\n" + b"X: y\r\n" * 200 + b"\r\n", 431),
        (b"GET /live HTTP/9.9\r\n\r\n", 505),
    ],
)
def test_a_bad_request_is_refused_and_hurts_nobody(serve, request_: bytes, status: int) -> None:
    port = serve(live=probe(list))

    try:
        assert answer(port, request_).split()[1] == str(status).encode()
    except ConnectionResetError:
        pass  # The rest of what it sent was not read.
    assert get(port, LIVE) == (200, "ok\n")


def test_a_page_that_fails_is_an_error_and_only_the_log_says_why(serve, caplog) -> None:
    def page():
        raise ValueError("a secret")

    status, body = get(serve(metrics=page), "/metrics?\x1b[2Jforged")

    assert (status, "secret" in body) == (500, False)
    assert "a secret" in caplog.text
    assert [record.message for record in caplog.records] == ["the page /metrics failed"]


def test_a_hundred_connections_that_say_nothing_keep_no_probe_out(serve) -> None:
    port = serve(live=probe(list))

    with ExitStack() as stack:
        silent = [stack.enter_context(connected(port)) for _ in range(100)]
        silent[0].sendall(b"GET /li")
        began = monotonic()
        assert get(port, LIVE) == (200, "ok\n")
        assert monotonic() - began < CONNECTION_S / 2


def test_pages_that_take_long_do_not_pile_up(serve) -> None:
    gate = threading.Event()
    port = serve(live=probe(list), slow=probe(lambda: [] if gate.wait(10) else ["late"]))

    with ExitStack() as stack:
        stack.callback(gate.set)
        for _ in range(MOST_ANSWERS + 50):
            stack.enter_context(connected(port)).sendall(b"GET /slow HTTP/1.1\r\n\r\n")
        eventually(lambda: answering() >= MOST_ANSWERS)
        end = monotonic() + 0.3
        eventually(lambda: answering() > MOST_ANSWERS or monotonic() > end)
        assert answering() == MOST_ANSWERS
    eventually(lambda: answering() == 0)
    assert get(port, LIVE) == (200, "ok\n")


def answering() -> int:
    return sum(one.name.startswith("turbo-queue-status-") for one in threading.enumerate())


def test_a_connection_that_trickles_is_cut(serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("turbo_queue.status_port.CONNECTION_S", 0.3)
    port = serve(live=probe(list))

    with connected(port) as connection:
        connection.settimeout(0.05)

        def is_cut() -> bool:
            try:
                connection.sendall(b"X")
                return connection.recv(1) == b""
            except TimeoutError:
                return False
            except OSError:
                return True

        connection.sendall(b"GET /live HTTP/1.1\r\n")
        eventually(is_cut, 5.0)
    assert get(port, LIVE) == (200, "ok\n")


def test_it_says_once_that_there_are_no_descriptors_and_goes_on_when_there_are(
    serve, caplog
) -> None:
    port = serve(live=probe(list))
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    with connected(port) as waiting:
        eventually(lambda: answering() == 1)
        client = socket.socket()
        next_one = os.dup(0)
        os.close(next_one)
        resource.setrlimit(resource.RLIMIT_NOFILE, (next_one, limits[1]))
        try:
            client.connect(waiting.getpeername())
            eventually(lambda: "a connection cannot be taken" in caplog.text)
            end = monotonic() + 0.5
            eventually(lambda: monotonic() > end)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    with client, client.makefile("rb") as answered:
        client.sendall(b"GET /live HTTP/1.1\r\n\r\n")
        assert answered.read().endswith(b"ok\n")
    assert caplog.text.count("a connection cannot be taken") == 1


def test_it_goes_on_after_the_system_had_no_thread_to_give(serve, caplog) -> None:
    port = serve(live=probe(list))
    usual = threading.stack_size(2**47)  # No thread can have so much.
    try:
        with connected(port) as connection:
            assert connection.recv(1) == b""
    finally:
        threading.stack_size(usual)

    assert "a connection cannot be answered: can't start new thread" in caplog.text
    assert get(port, LIVE) == (200, "ok\n")


def test_a_port_in_use_is_a_clear_error(serve) -> None:
    taken = int(serve().url.rpartition(":")[2])

    with pytest.raises(SettingsError, match=f"port {taken} at '127.0.0.1' cannot be opened: Addr"):
        StatusPort({}, port=taken).start()


@pytest.mark.parametrize(
    ("host", "port"),
    [("no.such.host.invalid", 0), ("203.0.113.1", 0), ("", 99_999), ("no..name", 0)],
)
def test_an_address_that_is_not_here_is_a_clear_error(host: str, port: int) -> None:
    with pytest.raises(SettingsError, match="cannot be opened"):
        StatusPort({}, port=port, host=host).start()


def test_it_speaks_ipv6(serve) -> None:
    if not socket.has_ipv6:
        pytest.skip("there is no IPv6 here")
    try:
        port = serve("::1", live=probe(list))
    except SettingsError:
        pytest.skip("there is no IPv6 loopback here")

    assert port.url.startswith("http://[::1]:")
    assert get(port, LIVE) == (200, "ok\n")


def test_it_stops_at_once_and_gives_the_port_back() -> None:
    port = StatusPort({}, port=0)
    port.start()
    number = int(port.url.rpartition(":")[2])

    began = monotonic()
    port.join(5.0)
    assert monotonic() - began < 0.3
    again = StatusPort({}, port=number)
    again.start()
    again.join(5.0)


def test_an_answer_that_has_begun_is_sent_before_the_end() -> None:
    port: StatusPort

    def page():
        port.request_stop()
        return plain(HTTPStatus.OK, "x" * 1_000_000)

    port = StatusPort({"/live": page}, port=0)
    port.start()
    connection = http.client.HTTPConnection(port.url.removeprefix("http://"), timeout=10)
    connection.request("GET", "/live")
    answer = connection.getresponse()
    assert len(answer.read()) == 1_000_001
    port.join(5.0)
    connection.close()


def test_a_child_of_fork_does_not_hold_the_port() -> None:
    port = StatusPort({}, port=0)
    port.start()
    number = int(port.url.rpartition(":")[2])
    heard, ring = os.pipe()
    begun, begin = os.pipe()

    def stay() -> None:
        os.close(ring)
        os.write(begin, b"x")
        os.read(heard, 1)  # Until the parent is done.

    child = fork(stay)
    try:
        os.read(begun, 1)
        port.join(5.0)
        again = StatusPort({}, port=number)
        again.start()
        again.join(5.0)
    finally:
        for descriptor in (ring, heard, begun, begin):
            os.close(descriptor)
        exit_code(child)

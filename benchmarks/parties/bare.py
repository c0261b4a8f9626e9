"""The floor: hand-written RESP over plain sockets, and a bare hiredis reader."""

from __future__ import annotations

import json
import socket
import threading
from time import monotonic

import hiredis
from common import PAYLOAD, cpu_s, give, main, ready, time_calls

DATA = json.dumps(PAYLOAD)


def _connect(port: int) -> socket.socket:
    sock = socket.create_connection(("127.0.0.1", port))
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def _subscribe(port: int, channel: str) -> socket.socket:
    sock = _connect(port)
    sock.sendall(hiredis.pack_command(("SUBSCRIBE", channel)))
    sock.recv(65536)
    return sock


def serve(port: int, workers: int = 10) -> None:  # noqa: ARG001 - one loop, no pool
    requests, replies = _subscribe(port, "bench.bare"), _connect(port)
    threading.Thread(target=_drain, args=(replies,), daemon=True).start()
    parser = hiredis.Reader()
    ready()
    while data := requests.recv(65536):
        parser.feed(data)
        while message := parser.gets():
            replies.sendall(hiredis.pack_command(("PUBLISH", "bench.bare.reply", message[2])))


def _drain(sock: socket.socket) -> None:
    while sock.recv(65536):
        pass


def latency(port: int, count: int) -> None:
    requests, replies = _connect(port), _subscribe(port, "bench.bare.reply")
    command = hiredis.pack_command(("PUBLISH", "bench.bare", DATA))

    def call() -> None:
        requests.sendall(command)
        replies.recv(65536)
        requests.recv(65536)

    give(**time_calls(call, count))


def listen(port: int, count: int) -> None:
    sock, parser, heard = _subscribe(port, "bench.events"), hiredis.Reader(), 0
    sock.settimeout(20)
    ready()
    cpu, ended_at = cpu_s(), 0.0
    try:
        while heard < count and (data := sock.recv(262_144)):
            parser.feed(data)
            while parser.gets():
                heard += 1
        ended_at = monotonic()
    except TimeoutError:
        pass  # The rest was lost.
    give(received=heard, ended_at=ended_at, cpu_us=(cpu_s() - cpu) / count * 1e6)


main(serve=serve, latency=latency, listen=listen)

"""The keeper: a small process of its own that ends the shared bundled server for want of clients.

It is run by its path and imports nothing of daebus, so that it stays small. It holds a lock as
long as it lives; whoever uses the server and finds that lock free starts another keeper.
"""

from __future__ import annotations

import fcntl
import os
import re
import socket
import sys
import threading
from pathlib import Path
from time import monotonic

#: The file that is locked while a keeper lives, and the one while a server is started or ended.
LOCK = "keeper.lock"
START_LOCK = "start.lock"

#: How often it looks, in seconds; sooner when the server is to end sooner.
LOOK_EVERY_S = 1.0


def pause(seconds: float) -> None:
    """Wait where there is no event to wait for: another process changes something."""
    threading.Event().wait(seconds)


def _keep(folder: str, socket_path: str, idle_s: float) -> None:
    """Watch until nobody has used the server for `idle_s`, then end it."""
    last_used, connections = monotonic(), -1
    while True:
        pause(min(LOOK_EVERY_S, idle_s / 4))
        with socket.socket(socket.AF_UNIX) as server:
            server.settimeout(5.0)
            try:
                server.connect(socket_path)
                used = _use(server)
            except TimeoutError:
                continue  # It is busy.
            except OSError:
                return  # It has gone.
            # Two connections, at least, are nobody else's: this one, and the last look.
            if used[0] > 1 or used[1] != connections + 1:
                last_used = monotonic()
            connections = used[1]
            if monotonic() - last_used >= idle_s and _end(folder, server, connections):
                return


def _end(folder: str, server: socket.socket, connections: int) -> bool:
    """End the server, unless somebody has come meanwhile."""
    lock = os.open(Path(folder) / START_LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        # Whoever asked the server before this is counted; whoever asks it now waits for the lock.
        if _use(server) != (1, connections):
            return False
        server.sendall(b"SHUTDOWN NOSAVE\r\n")
        while server.recv(1024):
            pass
    except OSError:
        pass  # It closed the connection, which is what was asked for.
    finally:
        os.close(lock)
    return True


def _use(server: socket.socket) -> tuple[int, int]:
    """How many clients are connected now, and how many there have been."""
    server.sendall(b"INFO\r\n")
    reply = b""
    while not re.match(rb"\$(\d+)\r\n", reply) or len(reply) < _length(reply):
        part = server.recv(65536)
        if not part:
            raise ConnectionResetError("the server closed the connection")
        reply += part
    clients = re.search(rb"\nconnected_clients:(\d+)", reply)
    received = re.search(rb"\ntotal_connections_received:(\d+)", reply)
    if clients is None or received is None:
        raise OSError("no figures in the server's INFO")
    return int(clients[1]), int(received[1])


def _length(reply: bytes) -> int:
    """The length of a whole bulk reply, with its header and its end."""
    header, _, _ = reply.partition(b"\r\n")
    return len(header) + 2 + int(header[1:]) + 2


if __name__ == "__main__":
    _keep(sys.argv[1], sys.argv[2], float(sys.argv[3]))

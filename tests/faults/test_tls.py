"""TLS is checked, and works both ways at once (S3)."""

from __future__ import annotations

import selectors
import socket
import ssl
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trustme

from daebus import Daebus, DaebusCaller, ServerUnavailable
from daebus.bus.embedded import EmbeddedServer


class TlsProxy:
    """Ends TLS in front of the server's unix socket."""

    def __init__(self, target: Path, certificate: trustme.LeafCert) -> None:
        self._target = target
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        certificate.configure_cert(self._context)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._open: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._run(self._accept)

    def _run(self, function, *arguments) -> None:
        thread = threading.Thread(target=function, args=arguments, name="tls", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                plain, _ = self._listener.accept()
                plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            except OSError:
                return
            try:
                client = self._context.wrap_socket(plain, server_side=True)
            except (ssl.SSLError, OSError):
                plain.close()
                continue
            server = socket.socket(socket.AF_UNIX)
            server.connect(str(self._target))
            client.settimeout(0)
            self._open += [client, server]
            self._run(self._pump, client, server)

    def _pump(self, client: ssl.SSLSocket, server: socket.socket) -> None:
        """One thread moves bytes both ways, so that only one touches the TLS object."""
        server.settimeout(0)
        selector = selectors.DefaultSelector()
        selector.register(client, selectors.EVENT_READ)
        selector.register(server, selectors.EVENT_READ)
        waiting = {client: b"", server: b""}
        with suppress(OSError):
            while True:
                busy = any(waiting.values()) or client.pending()
                selector.select(0.001 if busy else 0.5)
                for source, sink in ((client, server), (server, client)):
                    if len(waiting[sink]) < 1_000_000:
                        with suppress(ssl.SSLWantReadError, BlockingIOError):
                            data = source.recv(65536)
                            if not data:
                                return
                            waiting[sink] += data
                    if waiting[sink]:
                        with suppress(ssl.SSLWantWriteError, ssl.SSLWantReadError, BlockingIOError):
                            waiting[sink] = waiting[sink][sink.send(waiting[sink]) :]

    def close(self) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for sock in self._open:
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(5)
        for sock in self._open:
            sock.close()


@pytest.fixture
def authority(tmp_path: Path) -> trustme.CA:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    return authority


@pytest.fixture
def proxies(server: EmbeddedServer) -> Iterator[list[TlsProxy]]:
    opened: list[TlsProxy] = []
    yield opened
    for proxy in opened:
        proxy.close()


def serve(
    proxies: list[TlsProxy], server: EmbeddedServer, certificate: trustme.LeafCert
) -> TlsProxy:
    proxies.append(TlsProxy(server.socket_path, certificate))
    return proxies[-1]


def test_large_messages_pass_both_ways_at_once(
    server: EmbeddedServer,
    authority: trustme.CA,
    proxies: list[TlsProxy],
    tmp_path: Path,
    service_name: str,
) -> None:
    proxy = serve(proxies, server, authority.issue_cert("127.0.0.1"))
    url = f"rediss://127.0.0.1:{proxy.port}?ssl_ca_certs={tmp_path}/ca.pem"
    app = Daebus("app", url=url)
    app.action("echo")(lambda: app.request.payload)
    app.start(service_name)

    with DaebusCaller(service_name, url, timeout=30) as caller, ThreadPoolExecutor(16) as pool:
        texts = [str(number) + "x" * 900_000 for number in range(60)]
        echoed = list(pool.map(lambda text: caller.call("echo", text), texts))
        assert [caller.call("echo", number) for number in range(200)] == list(range(200))

    assert echoed == texts
    app.stop()


def test_a_certificate_that_is_not_right_is_refused(
    server: EmbeddedServer, authority: trustme.CA, proxies: list[TlsProxy], tmp_path: Path
) -> None:
    yesterday = datetime.now(UTC) - timedelta(days=1)
    wrong = {
        "another host": authority.issue_cert("example.org"),
        "expired": authority.issue_cert("127.0.0.1", not_after=yesterday),
        "self-signed": trustme.CA().issue_cert("127.0.0.1"),
    }

    for certificate in wrong.values():
        proxy = serve(proxies, server, certificate)
        url = f"rediss://127.0.0.1:{proxy.port}?ssl_ca_certs={tmp_path}/ca.pem"
        with (
            DaebusCaller("anything", url, timeout=5) as caller,
            pytest.raises(ServerUnavailable, match="certificate verify failed"),
        ):
            caller.call("echo")

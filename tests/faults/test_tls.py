"""TLS is checked, and works both ways at once (S3)."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trustme

from daebus import Daebus, DaebusCaller, ServerUnavailable
from daebus.bus.embedded import EmbeddedServer
from fixtures.tls import TlsProxy, context_of


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
    proxies.append(TlsProxy(server.socket_path, context_of(certificate)))
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

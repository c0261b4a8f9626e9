"""The commands and the address of docs/how-to/tls.md make a connection that is safe both ways."""

from __future__ import annotations

import re
import shutil
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from daebus import Daebus, DaebusCaller, ServerUnavailable
from daebus.bus.embedded import EmbeddedServer
from fixtures.tls import TlsProxy

PAGE = (Path(__file__).parents[2] / "docs" / "how-to" / "tls.md").read_text()

pytestmark = pytest.mark.skipif(not shutil.which("openssl"), reason="there is no openssl")


@pytest.fixture
def certificates(tmp_path: Path) -> Path:
    """The folder in which the page's commands were typed."""
    for commands in re.findall(r"^```bash\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE):
        subprocess.run(
            ["bash", "-ec", commands], cwd=tmp_path, check=True, capture_output=True, timeout=60
        )
    return tmp_path


@pytest.fixture
def proxy(certificates: Path, server: EmbeddedServer) -> Iterator[TlsProxy]:
    """A server that has the page's certificate and wants one from its clients."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates / "server.pem", certificates / "server.key")
    context.load_verify_locations(certificates / "ca.pem")
    context.verify_mode = ssl.CERT_REQUIRED
    opened = TlsProxy(server.socket_path, context)
    yield opened
    opened.close()


def address(proxy: TlsProxy, certificates: Path) -> str:
    """The page's, with the tests' server, and without the user that it does not have."""
    shown = re.search(r"^DAEBUS_URL=(\S+)$", PAGE, re.MULTILINE)[1]
    here = shown.replace("billing:PASSWORD@redis.internal:6379", f"127.0.0.1:{proxy.port}")
    return here.replace("/etc/billing", str(certificates))


def test_the_address_connects(proxy: TlsProxy, certificates: Path, service_name: str) -> None:
    url = address(proxy, certificates)
    app = Daebus("app", url=url)
    app.action("echo")(lambda: app.request.payload)
    app.start(service_name)

    with DaebusCaller(service_name, f"{url}&ssl_min_version=772") as caller:
        assert caller.call("echo", "over TLS") == "over TLS"
    app.stop()


@pytest.mark.parametrize(
    ("left_out", "error"),
    [
        (r"&ssl_certfile=.*", "cannot use the server"),
        (r"ssl_ca_certs=[^&]*&", "self-signed certificate in certificate chain"),
    ],
)
def test_less_than_that_does_not_connect(
    proxy: TlsProxy, certificates: Path, left_out: str, error: str
) -> None:
    url = re.sub(left_out, "", address(proxy, certificates))

    with (
        DaebusCaller("anything", url, timeout=3) as caller,
        pytest.raises(ServerUnavailable, match=error),
    ):
        caller.call("echo")


def test_the_certificates_pass_strict_checks(certificates: Path) -> None:
    checked = [
        "openssl",
        "verify",
        "-x509_strict",
        "-CAfile",
        "ca.pem",
        "server.pem",
        "billing.pem",
    ]

    assert subprocess.run(checked, cwd=certificates, check=False).returncode == 0
    assert not [key for key in certificates.glob("*.key") if key.stat().st_mode & 0o077]

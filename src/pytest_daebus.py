"""The pytest plugin: fixtures that run a service within a test, on a Valkey for the tests alone.

pytest imports this in every project that has daebus installed. That is why it stands beside the
package `daebus`, whose import takes a third of a second, and imports it when a fixture is used.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from daebus.testing import AppStarter, ChannelListener, ServerForTests


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option that names another server."""
    parser.getgroup("daebus").addoption(
        "--daebus-url",
        metavar="URL",
        help="run the services of the tests on this server, such as redis://localhost:6379, "
        "instead of a bundled Valkey of their own",
    )


@pytest.fixture(scope="session")
def daebus_server(
    pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ServerForTests]:
    """A server for the tests alone: a bundled Valkey, or the one of --daebus-url; it has a `url`.

    From its first use on it is the default of every service and caller: DAEBUS_URL names it.
    """
    from daebus.testing import serving

    with serving(tmp_path_factory.mktemp("daebus"), pytestconfig.option.daebus_url) as server:
        yield server


@pytest.fixture
def daebus_app(daebus_server: ServerForTests) -> Iterator[AppStarter]:
    """Start an app under a name of its own: `daebus_app(app)` gives a DaebusCaller of it.

    At the end of the test all apps are stopped and all callers are closed.
    """
    from daebus.testing import AppStarter

    with AppStarter(daebus_server) as start:
        yield start


@pytest.fixture
def daebus_listen(daebus_server: ServerForTests) -> Iterator[ChannelListener]:
    """Hear what is published: a function of a channel's name or pattern gives a queue of it.

    `heard = daebus_listen("orders.*")`, and later `heard.get(timeout=5)`.
    """
    from daebus.testing import ChannelListener

    with ChannelListener(daebus_server) as listen:
        yield listen

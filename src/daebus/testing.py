"""What tests of a service need: a server of their own, the running app, and what it publishes.

The pytest plugin (`pytest_daebus`) gives these as fixtures.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from types import TracebackType
from typing import Any, NamedTuple, Self

import pytest

from daebus.bus.broadcast import broadcast
from daebus.bus.connection import check_url
from daebus.bus.embedded import EmbeddedServer
from daebus.client.caller import DaebusCaller
from daebus.errors import SettingsError
from daebus.service.app import Daebus
from daebus.service.context import request

#: Seconds that a call in a test may take, unless the test says otherwise.
TIMEOUT_S = 10.0

#: Settings that only one service at a time can have: a container's image may bring them along.
_FOR_ONE_SERVICE = ("DAEBUS_METRICS_PORT", "DAEBUS_PROBE_FILE")


@dataclass(frozen=True)
class ServerForTests:
    """The server of a session of tests.

    Args:
        url: its address.
        spool: the folder where the services of the tests keep files.
    """

    url: str
    spool: Path


@contextmanager
def serving(folder: Path, url: str | None = None) -> Iterator[ServerForTests]:
    """Run a bundled Valkey, or use the server at `url`; `DAEBUS_URL` names it meanwhile.

    Services that are made meanwhile open no port and write no probe file that the environment asks
    for.

    The bundled server ends with this process, however that ends.

    Args:
        folder: where the server and the services of the tests keep files.
        url: the address of a server to use instead.

    Raises:
        ServerUnavailable: the bundled server does not start.
        pytest.UsageError: `url` is no server address.
    """
    with ExitStack() as stack:
        if url is None:
            url = stack.enter_context(EmbeddedServer(folder)).url
        else:
            _check(url)
        server = ServerForTests(url, folder / "spool")
        environment = stack.enter_context(pytest.MonkeyPatch.context())
        environment.setenv("DAEBUS_URL", server.url)
        environment.setenv("DAEBUS_SPOOL", str(server.spool))
        for name in _FOR_ONE_SERVICE:
            environment.delenv(name, raising=False)
        stack.callback(broadcast.close)
        yield server


class AppStarter:
    """Starts apps, and stops them when the test ends: the fixture `daebus_app`.

    Args:
        server: the server that they use, whatever their code says.

    Example:
        >>> def test_add(daebus_app):
        ...     assert daebus_app(app).call("add", {"a": 1, "b": 2}) == 3
    """

    def __init__(self, server: ServerForTests) -> None:
        self._server = server
        self._started = ExitStack()

    def __call__(
        self, app: Daebus, service: str | None = None, *, timeout: float = TIMEOUT_S
    ) -> DaebusCaller:
        """Start an app as a service, in the background, and give a caller of it.

        Args:
            app: the app; it must not be running.
            service: the service's name; one that no other test uses if None.
            timeout: seconds until a call of this caller ends with `TimeoutError`; 10.

        Returns:
            The caller; `caller.service` is the service's name.

        Raises:
            ServerUnavailable: the server cannot be reached.
            SettingsError: the app runs already, or the service's name cannot be one.
            RegistrationError: a handler cannot be served.
        """
        service = service or f"{app.name}-{uuid.uuid4().hex[:12]}"
        app.start(service, url=self._server.url, spool=self._server.spool)
        self._started.callback(app.stop)
        caller = DaebusCaller(service, self._server.url, timeout=timeout)
        self._started.callback(caller.close)
        return caller

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._started.close()  # It takes every step, and raises what went wrong.


class Heard(NamedTuple):
    """A message that was published to a channel."""

    channel: str
    payload: Any


class ChannelListener:
    """Hears what is published until the test ends: the fixture `daebus_listen`.

    Args:
        server: the server where it listens.

    Example:
        >>> def test_order(daebus_app, daebus_listen):
        ...     heard = daebus_listen("orders.*")
        ...     daebus_app(app).call("order", {"item": "tea"})
        ...     assert heard.get(timeout=5) == ("orders.new", {"item": "tea"})
    """

    def __init__(self, server: ServerForTests) -> None:
        self._start = AppStarter(server)

    def __call__(self, channel: str) -> SimpleQueue[Heard]:
        """Listen from now on.

        Args:
            channel: a channel's name, or a pattern such as `orders.*`.

        Returns:
            A queue of `(channel, payload)`; its `get(timeout=5)` raises `queue.Empty` when nothing
            is published in time.

        Raises:
            ServerUnavailable: the server cannot be reached.
            SettingsError: this cannot be the name of a channel.
        """
        heard: SimpleQueue[Heard] = SimpleQueue()
        listener = Daebus("listener", max_workers=1)  # In the order in which they came.

        @listener.listen(channel)
        def hear(payload: Any) -> None:
            heard.put(Heard(request.channel, payload))

        self._start(listener)
        return heard

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._start.__exit__(kind, error, traceback)


def _check(url: str) -> None:
    try:
        check_url(url)
    except SettingsError as error:
        raise pytest.UsageError(f"--daebus-url: {error}") from None

"""The links of this process, one for each server address, shared by all who publish or call.

`broadcast` and every `DaebusCaller` go over the same connection. The first who needs it opens it,
the last who gives it back closes it.
"""

from __future__ import annotations

import os
import socket
import sys
import threading
from collections.abc import Mapping
from contextvars import ContextVar
from pathlib import Path
from typing import Protocol

from daebus.bus.link import Link
from daebus.settings import server_url

#: The server of the service whose handler runs here, so that a caller or `broadcast` without an
#: address of its own uses the same server as its service.
home_url: ContextVar[str | None] = ContextVar("daebus_home_url", default=None)

#: The name of the service whose code runs here: who a request comes from.
home_service: ContextVar[str | None] = ContextVar("daebus_home_service", default=None)


class Handled(Protocol):
    """A message that is being handled, as far as the calls need it that its handler makes."""

    @property
    def headers(self) -> Mapping[str, str]:
        """What its caller passed along."""

    def remaining_s(self) -> float | None:
        """Seconds until its caller gives up, 0.0 when it has; None where nobody waits so."""


#: The message whose handler runs in this thread or task: its calls inherit its deadline.
handled: ContextVar[Handled | None] = ContextVar("daebus_exchange", default=None)

_lock = threading.Lock()
_holders: dict[Link, int] = {}


def resolve_url(url: str | None) -> str:
    """The address to use: the argument, else the running service's, else the environment's."""
    return url or home_url.get() or server_url()


def connection_name(role: str) -> str:
    """A name for the server's CLIENT LIST, which allows no spaces (CLIENT SETNAME)."""
    program = Path(sys.argv[0] or "python").name or "python"
    name = f"daebus:{role}:{program}:{socket.gethostname()}:{os.getpid()}"
    return "".join(char if "!" <= char <= "~" else "_" for char in name)


def borrow(url: str) -> Link:
    """The link to this server; opened by the first who asks. Give it back when done.

    Raises:
        SettingsError: the address makes no sense.
    """
    with _lock:
        for link in _holders:
            if link.url == url and not link.is_closed:
                _holders[link] += 1
                return link
        link = Link(url, connection_name("shared"))
        _holders[link] = 1
        link.start()
        return link


def give_back(link: Link) -> None:
    """Say that a borrowed link is not needed any more."""
    with _lock:
        if link not in _holders:
            return  # It was left behind by a fork.
        _holders[link] -= 1
        if _holders[link] > 0:
            return
        del _holders[link]
    link.close()


def _forget_after_fork() -> None:
    """A child opens links of its own; another thread of the parent may have held the lock."""
    global _lock  # noqa: PLW0603
    _lock = threading.Lock()
    _holders.clear()


os.register_at_fork(after_in_child=_forget_after_fork)

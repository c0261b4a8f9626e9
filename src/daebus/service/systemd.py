"""Tells systemd how a service gets on, in a thread of its own for as long as the program serves."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from daebus.bus.presence import Replica
from daebus.service.health import Vitals
from turbo_queue.systemd import Notifier


@contextmanager
def telling_systemd(
    notifier: Notifier, look: Callable[[], Vitals], describe: Callable[[], Replica]
) -> Iterator[None]:
    """Say in this block again and again how the service is, and that it lives while it does.

    Args:
        notifier: speaks to systemd; without that there is no thread either.
        look: says how the service is.
        describe: says what it has done.
    """
    if not notifier.is_heard:
        yield
        return
    ended = threading.Event()

    def tell() -> None:
        while True:
            vitals = look()
            notifier.tell(_status(vitals, describe()), is_live=vitals.is_live)
            if ended.wait(notifier.interval_s):
                return

    thread = threading.Thread(target=tell, name="daebus-systemd", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _status(vitals: Vitals, replica: Replica) -> str:
    """What `systemctl status` shows."""
    waiting = replica.backlog + replica.spilled
    counts = (
        f"{replica.handled:,} handled, {replica.errors:,} errors, "
        f"{replica.in_progress:,} in progress, {waiting:,} waiting"
    )
    return "; ".join([*vitals.troubles, counts])

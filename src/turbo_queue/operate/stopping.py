"""How a command ends that was asked to by a signal."""

from __future__ import annotations

import select

import typer

from turbo_queue.signals import StopSignals

#: How long whoever reads the output may take for what has begun, once the end is wished for.
_GRACE_S = 1.0


class Stopped(Exception):
    """The command was asked to end, and cannot end what it has begun."""


class Stop(StopSignals):
    """While entered, a signal is only noted, and ends the waits here."""

    def wait_readable(self, descriptor: int) -> bool:
        """Wait until there is something to read; False if a signal came before."""
        select.select([self.descriptor, descriptor], [], [])
        return not self.is_wanted

    def wait_writable(self, descriptor: int) -> None:
        """Wait until there is room to write.

        Raises:
            Stopped: a signal came, and whoever reads does not go on.
        """
        _, writable, _ = select.select([self.descriptor], [descriptor], [])
        if not writable and not select.select([], [descriptor], [], _GRACE_S)[1]:
            raise Stopped

    def end(self) -> None:
        """End the command as the signal would have, if one came."""
        if self.number:
            raise typer.Exit(128 + self.number)

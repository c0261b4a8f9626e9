"""Scripts that run on the server, each as one step that no other client sees half done."""

from __future__ import annotations

import hashlib
from typing import Protocol

import hiredis

from daebus.bus.commands import Answer, Command, ServerReply, pack
from daebus.deadline import Deadline
from daebus.errors import DaebusError


class Script:
    """A Lua script; every connection loads it before it is first used (`Link.load`).

    Args:
        source: what it does.
    """

    __slots__ = ("_sha", "load")

    def __init__(self, source: str) -> None:
        self._sha = hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest()
        #: The bytes of the command that makes the server know it.
        self.load = pack("SCRIPT", "LOAD", source)

    def call(self, keys: list[str], *arguments: str | bytes | int) -> bytes:
        """The bytes of the command that runs it."""
        return pack("EVALSHA", self._sha, len(keys), *keys, *arguments)


class Sender(Protocol):
    """What a script's call is sent again with: a link."""

    def send_all(self, commands: list[Command]) -> None:
        """Send commands with no other between them."""


class ScriptCall(Command):
    """The call of a script; sent again if the server has forgotten the script (SCRIPT FLUSH).

    Args:
        link: what it is sent with.
        script: the script.
        data: the call.
    """

    __slots__ = ("_is_second", "_link", "_script")

    def __init__(self, link: Sender, script: Script, data: bytes) -> None:
        super().__init__(data)
        self._link = link
        self._script = script
        self._is_second = False

    def resolve(self, reply: ServerReply) -> None:
        """See `Command`."""
        is_unknown = isinstance(reply, hiredis.ReplyError) and str(reply).startswith("NOSCRIPT")
        if not is_unknown or self._is_second or not self._send_again():
            self.take(reply)

    def take(self, reply: ServerReply) -> None:
        """Take what the script gave, or the server's error. Never blocks."""

    def commands(self) -> list[Command]:
        """What is sent together, this one first."""
        return [self]

    def _send_again(self) -> bool:
        self._is_second = True
        try:
            self._link.send_all([Command(self._script.load), *self.commands()])
        except DaebusError:
            return False  # As much as memory may hold waits already.
        return True


class AwaitedScript(ScriptCall):
    """A script whose answer is waited for."""

    __slots__ = ("_answer",)

    def __init__(self, link: Sender, script: Script, data: bytes) -> None:
        super().__init__(link, script, data)
        self._answer = Answer("a script")

    def take(self, reply: ServerReply) -> None:
        """See `ScriptCall`."""
        self._answer.take(reply)

    def fail(self, error: DaebusError) -> None:
        """See `Command`."""
        self._answer.fail(error)

    def wait(self, deadline: Deadline) -> ServerReply:
        """See `Answer`."""
        return self._answer.wait(deadline)

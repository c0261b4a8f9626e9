"""The actions that every service has: `daebus.ping`, `.info`, `.stats` and `.drain`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from daebus.bus.commands import Command, publish
from daebus.bus.link import Link
from daebus.bus.presence import Replica
from daebus.channels import BUILT_IN_PREFIX, alive_channel, control_channel
from daebus.contracts import Contract
from daebus.deadline import Deadline
from daebus.errors import Code
from daebus.messages import MAX_MESSAGE_BYTES, ControlEnvelope, encode
from daebus.service.context import current_response
from daebus.service.control import EVERY_REPLICA
from daebus.service.registry import Function

#: How long the server may take to say whether a replica lives, in seconds.
ASK_S = 2.0


class BuiltIn:
    """The built-in actions of one replica.

    Args:
        service: the service's name.
        replica_id: this replica.
        link: the service's link.
        describe: what the replica is and has done.
        contract: what the service offers.
    """

    def __init__(
        self,
        service: str,
        replica_id: str,
        link: Link,
        *,
        describe: Callable[[], Replica],
        contract: Callable[[], Contract],
    ) -> None:
        self._service = service
        self._replica_id = replica_id
        self._link = link
        self._describe = describe
        self._contract = contract

    def functions(self) -> dict[str, Function]:
        """Each action's function, by the action's name."""
        functions: list[Function] = [self.ping, self.info, self.stats, self.drain]
        return {BUILT_IN_PREFIX + function.__name__: function for function in functions}

    def ping(self) -> dict[str, str]:
        """Say that the service handles messages."""
        return {"service": self._service, "replica_id": self._replica_id}

    def info(self) -> dict[str, Any]:
        """Who serves here, and what it offers."""
        replica = self._describe()
        return {
            "service": replica.service,
            "replica_id": replica.replica_id,
            "host": replica.host,
            "pid": replica.pid,
            "version": replica.version,
            "wire_version": replica.wire_version,
            "started_at": replica.started_at,
            "contract": self._contract(),
        }

    def stats(self) -> Replica:
        """What this replica is and has done: what stands in its presence key."""
        return self._describe()

    def drain(self, replica: str = EVERY_REPLICA) -> dict[str, str] | None:
        """Stop: take nothing new, finish what is in progress, and end.

        Args:
            replica: the id of the replica that is to stop, or `*` for all of them.
        """
        if replica != EVERY_REPLICA and not self._is_alive(replica):
            text = f"service {self._service!r} has no replica {replica!r} that is alive"
            current_response().refuse(Code.BAD_REQUEST, text)
            return None
        said = encode(ControlEnvelope(drain=replica), MAX_MESSAGE_BYTES)
        self._link.send(Command(publish(control_channel(self._service).encode(), said)))
        return {"draining": replica}

    def _is_alive(self, replica_id: str) -> bool:
        channel = alive_channel(self._service, replica_id).encode()
        reply = self._link.ask(Deadline.after(ASK_S), b"PUBSUB", b"NUMSUB", channel)
        # Without the right to ask nobody is known to be dead, and who is dead hears nothing.
        return not isinstance(reply, list) or reply[1] == 1

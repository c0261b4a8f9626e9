"""What the server promises about the messages that it stores: read from it, never assumed."""

from __future__ import annotations

import hiredis
import msgspec

from daebus.bus.commands import ServerReply
from daebus.bus.link import Link
from daebus.deadline import Deadline
from daebus.errors import SettingsError

MEMORY = "memory"
CRASH = "crash"
POWER = "power"
REPLICAS = "replicas"

#: What each level survives, from the least to the most.
SURVIVES = {
    MEMORY: "a crash of any service, not of the server (its appendonly is off)",
    CRASH: "a crash of any service and of the server, not a loss of power",
    POWER: "a crash of any service and of the server, and a loss of power",
}


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """What the server says about itself."""

    eviction: str
    is_aof_on: bool
    #: `always`, `everysec` or `no`; None where CONFIG is not allowed.
    fsync: str | None
    replicas: int
    #: Whether it is a replica itself, which takes no messages.
    is_replica: bool = False

    @property
    def level(self) -> str:
        """What stored messages survive."""
        if not self.is_aof_on:
            return MEMORY
        return POWER if self.fsync == "always" else CRASH


def read_facts(link: Link, deadline: Deadline) -> Facts:
    """Ask the server.

    Raises:
        SettingsError: this user may not ask (INFO).
        ServerUnavailable: the connection was lost.
        CallTimeout: the server did not answer in time.
    """
    info: dict[str, str] = {}
    for section in (b"memory", b"persistence", b"replication"):
        info |= _lines(link.ask(deadline, b"INFO", section))
    config: ServerReply | dict[bytes, bytes] = link.ask(deadline, b"CONFIG", b"GET", b"appendfsync")
    fsync = config.get(b"appendfsync") if isinstance(config, dict) else None
    return Facts(
        eviction=info.get("maxmemory_policy", "noeviction"),
        is_aof_on=info.get("aof_enabled") == "1",
        fsync=None if fsync is None else fsync.decode(),
        replicas=int(info.get("connected_slaves", 0)),
        is_replica=info.get("role") == "slave",
    )


def check_eviction(facts: Facts) -> str | None:
    """What is worth a warning about what the server evicts.

    Raises:
        SettingsError: it would throw away messages that wait.
    """
    if facts.eviction.startswith("allkeys"):
        raise SettingsError(
            f"the server's maxmemory-policy is {facts.eviction}: it would throw away messages that "
            f"wait in an inbox. Use another server, or: CONFIG SET maxmemory-policy noeviction"
        )
    if facts.eviction.startswith("volatile"):
        return (
            f"the server's maxmemory-policy is {facts.eviction}: when its memory is full it "
            f"forgets which messages it has stored, so that one that is sent again is stored "
            f"twice; better: CONFIG SET maxmemory-policy noeviction"
        )
    return None


def check_durability(wanted: str | None, facts: Facts) -> str:
    """What the messages of a service survive: what it asks for, if the server can give it.

    Args:
        wanted: `memory`, `crash`, `power`, `replicas=N`, or None for what there is.
        facts: what the server says.

    Raises:
        SettingsError: the server cannot give it, or there is no such level.

    Example:
        >>> facts = Facts(eviction="noeviction", is_aof_on=True, fsync="everysec", replicas=0)
        >>> check_durability(None, facts)
        'crash'
    """
    if wanted is None:
        return facts.level
    name, _, count = wanted.partition("=")
    if name == REPLICAS and count.isdecimal() and int(count) > 0:
        if facts.replicas < int(count):
            raise SettingsError(
                f"durability is {wanted!r}, but the server has {facts.replicas} replicas connected"
            )
        return wanted
    if wanted not in SURVIVES:
        raise SettingsError(
            f"durability is {wanted!r}; it must be 'memory', 'crash', 'power' or 'replicas=N'"
        )
    levels = list(SURVIVES)
    if levels.index(facts.level) < levels.index(wanted):
        raise SettingsError(f"durability is {wanted!r}, but {_what_is_missing(wanted, facts)}")
    return wanted


def told(level: str, facts: Facts) -> str:
    """One sentence on what stored messages survive."""
    survived = SURVIVES[facts.level]
    if level.startswith(REPLICAS):
        return f"{survived}; senders wait until {level.partition('=')[2]} replicas have them"
    return survived


def _what_is_missing(wanted: str, facts: Facts) -> str:
    if not facts.is_aof_on:
        fsync = "always" if wanted == POWER else "everysec"
        return (
            f"the server keeps its data in memory only. Use: CONFIG SET appendonly yes, and "
            f"CONFIG SET appendfsync {fsync}"
        )
    if facts.fsync is None:
        return "whether the server syncs each write is not known: allow this user +config|get"
    return (
        f"the server's appendfsync is {facts.fsync!r}: a loss of power costs the last writes. Use: "
        f"CONFIG SET appendfsync always"
    )


def _lines(reply: ServerReply) -> dict[str, str]:
    """The `name:value` lines of INFO."""
    if isinstance(reply, hiredis.ReplyError):
        raise SettingsError(
            f"an inbox needs to know what the server does with messages, which it does not tell: "
            f"{reply}. Allow this user +info"
        )
    text = reply.decode(errors="replace") if isinstance(reply, bytes) else str(reply)
    pairs = (line.partition(":") for line in text.splitlines())
    return {name: value.strip() for name, colon, value in pairs if colon}

"""The state on the server of a background task that runs once among all replicas.

A hash for each task remembers which due time was run last, and who may be running it now until
when. Each change is one script, so that of all who ask at once one is told to run, and all times in
it are the server's: the clocks of the replicas' machines do not matter.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import hiredis

from daebus.bus.commands import ServerReply
from daebus.bus.link import Link
from daebus.bus.script import AwaitedScript, Script
from daebus.channels import task_key
from daebus.deadline import Deadline
from daebus.errors import ServerUnavailable

#: A due time that is later than the server's time by more than this, in seconds, comes of a wrong
#: clock; believed, it would keep all others from running the task until then.
MAX_AHEAD_S = 60.0


class Verdict(Enum):
    """What is said to a replica that would run a task."""

    #: Run it.
    TAKEN = 0
    #: This due time was run.
    DONE = 1
    #: The last run is under way.
    BUSY = 2
    #: The task never ran, so none of its runs was missed.
    NEVER_RAN = 3
    #: The due time is in the future.
    EARLY = 4


@dataclass(frozen=True)
class Answer:
    """A verdict, and the number that belongs to it."""

    verdict: Verdict
    #: TAKEN: the fencing token. DONE: microseconds until the next due time of an interval. EARLY:
    #: how far ahead the due time is, in microseconds. Else 0.
    number: int


class TaskLease:
    """One task's hash, as one replica uses it.

    Args:
        link: the way to the server.
        service: the service's name.
        task: the task's name.
        owner: the replica's id.
        lease_s: a run is over when its replica has not said for so long that it goes on.
    """

    def __init__(self, link: Link, service: str, task: str, owner: str, lease_s: float) -> None:
        self._link = link
        self._key = task_key(service, task)
        self._owner = owner
        self._lease_us = int(lease_s * 1e6)

    def claim(
        self,
        deadline: Deadline,
        *,
        interval_us: int = 0,
        due_us: int = 0,
        may_overlap: bool = False,
        is_missed: bool = False,
    ) -> Answer:
        """Ask whether to run the task now.

        Args:
            deadline: when the answer is of no use any more.
            interval_us: its interval; 0 if it has none. Its due times are the multiples of it.
            due_us: else when it is due, in microseconds since 1970.
            may_overlap: run it also while the last run is under way.
            is_missed: it was due earlier, and is to be run now if nobody did.

        Raises:
            ServerUnavailable: the server cannot be reached, or refuses; nobody knows the answer.
            CallTimeout: it did not answer in time.
        """
        flags = int(may_overlap), int(is_missed)
        times = interval_us, due_us
        reply = self._run(_CLAIM, deadline, self._owner, self._lease_us, *times, *flags)
        if isinstance(reply, list) and isinstance(reply[0], int) and isinstance(reply[1], int):
            return Answer(Verdict(reply[0]), reply[1])
        raise ServerUnavailable(self._link.address, f"it answered {reply!r}")

    def renew(self, token: int, deadline: Deadline) -> bool:
        """Say that the run goes on; False when another one has begun.

        Raises:
            ServerUnavailable: the server cannot be reached, or refuses.
            CallTimeout: it did not answer in time.
        """
        return self._run(_RENEW, deadline, self._owner, token, self._lease_us) == 1

    def finish(self, token: int, duration_s: float, error: str | None, deadline: Deadline) -> bool:
        """Say that the run has ended; False when another one has begun meanwhile.

        Raises:
            ServerUnavailable: the server cannot be reached, or refuses.
            CallTimeout: it did not answer in time.
        """
        duration_us, text = int(duration_s * 1e6), (error or "").encode(errors="replace")
        run = self._owner, token
        return self._run(_FINISH, deadline, *run, duration_us, text) == 1

    def _run(
        self, script: Script, deadline: Deadline, *arguments: str | bytes | int
    ) -> ServerReply:
        self._link.ensure_up(deadline)
        self._link.load(script)
        call = AwaitedScript(self._link, script, script.call([self._key], *arguments))
        self._link.send(call)
        reply = call.wait(deadline)
        if isinstance(reply, hiredis.ReplyError):
            raise ServerUnavailable(self._link.address, f"it refused: {reply}")
        return reply


# Lua's numbers hold microseconds exactly until the year 2255, but `tostring` shortens them.
_CLAIM = Script(
    f"""
local key, owner, lease = KEYS[1], ARGV[1], tonumber(ARGV[2])
local interval, slot = tonumber(ARGV[3]), tonumber(ARGV[4])
local may_overlap, is_missed = ARGV[5] == '1', ARGV[6] == '1'
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local state = redis.call('HMGET', key, 'slot', 'until', 'token')
local last, held, token = tonumber(state[1]), tonumber(state[2]), tonumber(state[3]) or 0
local latest = now + {int(MAX_AHEAD_S * 1e6)}
if interval > 0 then slot = now - now % interval end
if slot > latest then return {{{Verdict.EARLY.value}, slot - now}} end
if is_missed and not last then return {{{Verdict.NEVER_RAN.value}, 0}} end
-- What is far ahead was written before the server's clock was set back.
if last and slot <= last and last <= latest then
  return {{{Verdict.DONE.value}, math.max(0, slot + interval - now)}}
end
if held and held > now and held <= latest + lease and not may_overlap then
  return {{{Verdict.BUSY.value}, 0}}
end
-- From the time, so that it grows also when the server has lost what it knew.
token = math.max(token + 1, math.floor(now / 1000))
local function text(number) return string.format('%.0f', number) end
redis.call('HSET', key, 'token', text(token), 'owner', owner, 'slot', text(slot),
  'started', text(now), 'until', text(now + lease), 'duration', '', 'error', '')
return {{{Verdict.TAKEN.value}, token}}
"""
)

_IS_MINE = """
local state = redis.call('HMGET', KEYS[1], 'owner', 'token')
if state[1] ~= ARGV[1] or state[2] ~= ARGV[2] then return 0 end
"""

_RENEW = Script(
    f"""{_IS_MINE}
local time = redis.call('TIME')
local to = time[1] * 1000000 + time[2] + ARGV[3]
redis.call('HSET', KEYS[1], 'until', string.format('%.0f', to))
return 1
"""
)

_FINISH = Script(
    f"""{_IS_MINE}
redis.call('HSET', KEYS[1], 'until', '0', 'duration', ARGV[3], 'error', ARGV[4])
return 1
"""
)

"""Requests with an idempotency key: the first one runs, the others get its answer.

A key of the server holds, for a while, either the answer, or who is at it and who waits for it.
Only requests with a key pay for this: two commands to the server.
"""

from __future__ import annotations

import uuid
from asyncio import wrap_future
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import msgspec

from daebus.bus.commands import Receivers, ServerReply
from daebus.bus.link import Link
from daebus.bus.script import Script, ScriptCall
from daebus.channels import alive_channel, answer_key
from daebus.errors import CallTimeout, Code, DaebusError, ServerUnavailable
from daebus.messages import ErrorEnvelope, ReplyEnvelope, decode_reply
from daebus.service.exchange import Exchange
from daebus.service.request import Request
from daebus.service.response import Outlet, Response

#: For how long, in seconds, a request counts as running when its deadline says less: its caller may
#: have given up, and repeats it. If its replica dies, a repeat runs at once.
RUNNING_S = 60.0

#: Longest wait for the server, in seconds.
ASK_S = 10.0

#: Errors that say that the request was not handled: no answer to keep.
UNHANDLED = frozenset(
    {Code.STOPPING, Code.CANCELLED, Code.EXPIRED, Code.OVERLOADED, Code.WORKER_DIED}
)

# KEYS: the answer's. ARGV: this replica and message, where to answer it, how long it may run (ms),
# the names of the replicas' channels without their ids.
_BEGIN = Script("""
local answer = redis.call('HGET', KEYS[1], 'answer')
if answer then return {'answered', answer} end
local found = redis.call('HMGET', KEYS[1], 'message', 'replica')
if found[1] and found[1] ~= ARGV[2] then
  local seen = redis.pcall('PUBSUB', 'NUMSUB', ARGV[6] .. found[2])
  if seen.err or seen[2] > 0 then
    if ARGV[4] ~= '' then redis.call('HSET', KEYS[1], 'for:' .. ARGV[3], ARGV[4]) end
    return {'running'}
  end
end
redis.call('HSET', KEYS[1], 'message', ARGV[2], 'replica', ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[5])
return {'begun'}
""")

# KEYS: the answer's. ARGV: the message, the answer or nothing, how long it is kept (ms).
_END = Script("""
local message = redis.call('HGET', KEYS[1], 'message')
if (message and message ~= ARGV[1]) or redis.call('HEXISTS', KEYS[1], 'answer') == 1 then
  return {}
end
local fields, waiting = redis.call('HGETALL', KEYS[1]), {}
for number = 1, #fields, 2 do
  if string.sub(fields[number], 1, 4) == 'for:' then
    table.insert(waiting, string.sub(fields[number], 5))
    table.insert(waiting, fields[number + 1])
  end
end
redis.call('DEL', KEYS[1])
if ARGV[2] ~= '' then
  redis.call('HSET', KEYS[1], 'answer', ARGV[2])
  redis.call('PEXPIRE', KEYS[1], ARGV[3])
end
return waiting
""")


class Idempotency:
    """The requests with a key of one replica. Safe from any thread.

    Args:
        link: where the answers are kept.
        outlet: where they are sent.
        service: the service's name.
        replica_id: this replica.
        is_stored: whether its requests come from an inbox: then one that is delivered again, to
            whichever replica, is the same request and not a repeat.
        window_s: for how long an answer is kept.
    """

    def __init__(
        self,
        link: Link,
        outlet: Outlet,
        service: str,
        replica_id: str,
        *,
        is_stored: bool,
        window_s: float,
    ) -> None:
        self._link = link
        self._outlet = outlet
        self._service = service
        self._replica_id = replica_id
        self._is_stored = is_stored
        self._prefix = "" if is_stored else f"{replica_id}:"
        self._window_ms = int(window_s * 1000)

    def begin(self, exchange: Exchange) -> bool:
        """Whether the handler is to run; if not, the answer has been seen to.

        Raises:
            ServerUnavailable: the server cannot be asked, so the handler must not run.
        """
        if self._window_ms == 0:
            return True
        try:
            reply = self._ask(exchange.request).result(ASK_S)
        except TimeoutError:
            raise CallTimeout("the server", "EVAL", ASK_S) from None
        return self._decide(exchange, reply)

    async def begin_async(self, exchange: Exchange) -> bool:
        """The same, on an event loop."""
        if self._window_ms == 0:
            return True
        return self._decide(exchange, await wrap_future(self._ask(exchange.request)))

    def end(self, request: Request, envelope: object) -> None:
        """A request is answered: keep that, and answer the repeats that wait for it.

        Raises:
            BadMessage: the answer cannot be sent.
            ServerUnavailable: nor kept.
        """
        data = self._outlet.encode(envelope)
        is_kept = not isinstance(envelope, ErrorEnvelope) or self._is_answer(request, envelope)

        def answer_waiting(waiting: Any) -> None:
            if isinstance(waiting, list):
                for request_id, reply_to in zip(waiting[::2], waiting[1::2], strict=True):
                    self._answer(data, msgspec.json.decode(request_id), reply_to.decode())

        answer = data if is_kept else b""
        self._run(_END, request, answer_waiting, self._message(request), answer, self._window_ms)

    def _is_answer(self, request: Request, error: ErrorEnvelope) -> bool:
        """Whether an error is what repeats get: not if the request is to be tried again."""
        is_tried_again = self._is_stored and request.reply_to is None
        return error.code not in UNHANDLED and not is_tried_again

    def _ask(self, request: Request) -> Future[Any]:
        """Begin, or learn why not."""
        if request.message_id is None:
            request.message_id = uuid.uuid4().hex
        remaining_s = request.remaining() or 0.0
        told: Future[Any] = Future()
        self._run(
            _BEGIN,
            request,
            told.set_result,
            self._replica_id,
            self._message(request),
            msgspec.json.encode(request.request_id),
            request.reply_to or "",
            int(max(remaining_s, RUNNING_S) * 1000),
            alive_channel(self._service, ""),
        )
        return told

    def _run(
        self,
        script: Script,
        request: Request,
        then: Callable[[Any], None],
        *arguments: str | bytes | int,
    ) -> None:
        self._link.load(script)
        key = answer_key(self._service, request.idempotency_key or "")
        self._link.send(_Step(self._link, script, script.call([key], *arguments), then))

    def _decide(self, exchange: Exchange, reply: Any) -> bool:
        if isinstance(reply, DaebusError):
            raise reply
        if not isinstance(reply, list):
            raise ServerUnavailable("the server", f"it keeps no idempotency keys: {reply}")
        request = exchange.request
        if reply[0] == b"begun":
            exchange.response = _KeptResponse(request, self._outlet, self)
            return True
        if reply[0] == b"answered" and request.reply_to is not None:
            self._answer(reply[1], request.request_id, request.reply_to)
        return False

    def _answer(self, data: bytes, request_id: str | int | None, reply_to: str) -> None:
        """Send an answer that was given before, as one to this request."""
        kept = decode_reply(data)
        if kept.status == "error":
            envelope: object = ErrorEnvelope(str(kept.error), kept.code, request_id)
        else:
            envelope = ReplyEnvelope(kept.status, kept.payload, request_id)
        self._outlet.publish(reply_to, self._outlet.encode(envelope))

    def _message(self, request: Request) -> str:
        return f"{self._prefix}{request.message_id}"


class _Step(ScriptCall):
    """One of the two scripts; what it gives, or why it gives nothing, goes to a function."""

    __slots__ = ("_then",)

    def __init__(
        self, link: Link, script: Script, data: bytes, then: Callable[[Any], None]
    ) -> None:
        super().__init__(link, script, data)
        self._then = then

    def take(self, reply: ServerReply) -> None:
        """See `ScriptCall`."""
        self._then(reply)

    def fail(self, error: DaebusError) -> None:
        """See `Command`."""
        self._then(error)


class _KeptResponse(Response):
    """A response whose final part is kept before it is sent."""

    __slots__ = ("_idempotency",)

    def __init__(self, request: Request, outlet: Outlet, idempotency: Idempotency) -> None:
        super().__init__(request, outlet)
        self._idempotency = idempotency

    def _send(self, envelope: object, *, final: bool) -> Receivers:
        if final and not self.is_answered:
            self._idempotency.end(self._request, envelope)
        return super()._send(envelope, final=final)

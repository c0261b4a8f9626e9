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
from daebus.errors import BadMessage, CallTimeout, Code, DaebusError, ServerUnavailable
from daebus.logs import describe, get_logger
from daebus.messages import ErrorEnvelope, ReplyEnvelope, decode_reply
from daebus.service.exchange import Exchange
from daebus.service.request import Request
from daebus.service.response import Outlet, Response

log = get_logger(__name__)

#: For how long, in seconds, a request counts as running when its deadline and the window say less:
#: its caller may have given up, and repeats it. If its replica dies, a repeat runs at once.
RUNNING_S = 60.0

#: … and for how long at most, in seconds: a server takes no time that is too large.
LONGEST_S = 30 * 86_400.0

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
    if ARGV[4] ~= '' then
      redis.call('HSET', KEYS[1], 'for:' .. ARGV[4] .. ' ' .. ARGV[3], '')
    end
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
        response = self.keep(exchange, has_begun=False)
        try:
            reply = self._ask(exchange.request).result(ASK_S)
        except TimeoutError:
            raise CallTimeout("the server", "EVAL", ASK_S) from None
        return self._decide(exchange.request, response, reply)

    async def begin_async(self, exchange: Exchange) -> bool:
        """The same, on an event loop."""
        if self._window_ms == 0:
            return True
        response = self.keep(exchange, has_begun=False)
        reply = await wrap_future(self._ask(exchange.request))
        return self._decide(exchange.request, response, reply)

    def keep(self, exchange: Exchange, *, has_begun: bool) -> KeptResponse:
        """Let the final response of a request be kept, whoever sends it.

        Args:
            exchange: the request.
            has_begun: whether its handler runs, so that there is an answer to keep.
        """
        if exchange.request.message_id is None:
            exchange.request.message_id = uuid.uuid4().hex
        response = KeptResponse(exchange.request, self._outlet, self, has_begun=has_begun)
        if self._window_ms > 0:
            exchange.response = response
        return response

    def end(self, request: Request, envelope: object, *, has_begun: bool) -> None:
        """A request is answered: keep that, and answer the repeats that wait for it.

        Raises:
            BadMessage: the answer cannot be sent.
            ServerUnavailable: nor kept.
        """
        data = self._outlet.encode(envelope)
        is_kept = not isinstance(envelope, ErrorEnvelope) or self._is_answer(request, envelope)

        def answer_waiting(waiting: Any) -> None:
            for name in waiting if isinstance(waiting, list) else []:
                reply_to, _, request_id = name.decode().partition(" ")
                try:
                    self._answer(data, msgspec.json.decode(request_id), reply_to)
                except DaebusError as error:
                    # Called by the thread that reads: the next one shall have its answer.
                    text = describe(error)
                    log.error("a reply was lost: %s", text, extra={"event": "reply.lost"})

        answer = data if has_begun and is_kept else b""
        self._run(_END, request, answer_waiting, self._message(request), answer, self._window_ms)

    def _is_answer(self, request: Request, error: ErrorEnvelope) -> bool:
        """Whether an error is what repeats get: not if the request is to be tried again."""
        is_tried_again = self._is_stored and request.reply_to is None
        return error.code not in UNHANDLED and not is_tried_again

    def _ask(self, request: Request) -> Future[Any]:
        """Begin, or learn why not."""
        running_s = max(request.remaining() or 0.0, RUNNING_S, self._window_ms / 1000)
        told: Future[Any] = Future()
        told.set_running_or_notify_cancel()  # Who waits may be cancelled; the answer comes still.
        self._run(
            _BEGIN,
            request,
            told.set_result,
            self._replica_id,
            self._message(request),
            msgspec.json.encode(request.request_id),
            request.reply_to or "",
            int(min(running_s, LONGEST_S) * 1000),
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
        key = answer_key(self._service, request.action or "", request.idempotency_key or "")
        self._link.send(_Step(self._link, script, script.call([key], *arguments), then))

    def _decide(self, request: Request, response: KeptResponse, reply: Any) -> bool:
        if isinstance(reply, DaebusError):
            raise reply
        if not isinstance(reply, list):
            raise ServerUnavailable("the server", f"it keeps no idempotency keys: {reply}")
        if reply[0] == b"begun":
            response.has_begun = True
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
        try:
            answer = self._outlet.encode(envelope)
        except BadMessage as error:  # With this longer id it is too large.
            answer = self._outlet.encode(
                ErrorEnvelope(error.reason, Code.HANDLER_ERROR, request_id)
            )
        self._outlet.publish(reply_to, answer)

    def _message(self, request: Request) -> str:
        return f"{self._prefix}{request.message_id}"


class _Step(ScriptCall):
    """One of the two scripts; what it gives, or why it gives nothing, goes to a function.

    Both may run twice, so one that was under way when the connection broke is sent again: without
    its end a request would count as running, and a repeat of it would wait.
    """

    __slots__ = ("_then",)
    resend = True

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


class KeptResponse(Response):
    """A response whose final part is kept before it is sent.

    Attributes:
        has_begun: whether the handler runs, so that there is an answer to keep.
    """

    __slots__ = ("_idempotency", "has_begun")

    def __init__(
        self, request: Request, outlet: Outlet, idempotency: Idempotency, *, has_begun: bool
    ) -> None:
        super().__init__(request, outlet)
        self._idempotency = idempotency
        self.has_begun = has_begun

    def _send(self, envelope: object, *, final: bool) -> Receivers:
        if final and not self.is_answered:
            self._idempotency.end(self._request, envelope, has_begun=self.has_begun)
        return super()._send(envelope, final=final)

"""From one message to one reply: call the handler, translate what it raises, always answer."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from daebus.bus.commands import Receivers
from daebus.errors import AlreadyAnswered, BadMessage, Code, DaebusError
from daebus.logs import Incidents, describe, get_logger
from daebus.service.context import current
from daebus.service.control import Cancellations
from daebus.service.exchange import Exchange
from daebus.service.idempotency import Idempotency
from daebus.service.tally import Tally
from daebus.service.time_limits import TimeLimits

log = get_logger(__name__)


class Handling:
    """Handles exchanges. Safe from any thread.

    Args:
        incidents: where what went wrong is counted.
        cancellations: the requests that are not to be started any more.
        idempotency: looks after requests with an idempotency key; without it they are handled
            like any other.
    """

    def __init__(
        self,
        incidents: Incidents,
        cancellations: Cancellations | None = None,
        idempotency: Idempotency | None = None,
    ) -> None:
        self._incidents = incidents
        self._cancelled = (cancellations or Cancellations()).ids
        self._idempotency = idempotency
        self._limits = TimeLimits(self._pass_thread_limit)
        self._is_debug = log.isEnabledFor(logging.DEBUG)

    def run(self, exchange: Exchange, tally: Tally) -> None:
        """Handle a message in this thread. Whatever the handler does, this returns and answers."""
        token = current.set(exchange)
        failure: str | None = None
        is_error = False
        try:
            arguments = self._prepare(exchange)
            if arguments is None:
                is_error = True
                return
            if (
                exchange.request.idempotency_key is not None
                and self._idempotency is not None
                and not self._idempotency.begin(exchange)
            ):
                return
            route = exchange.route
            if route.timeout_s is not None:
                self._limits.watch(exchange, route.timeout_s)
            result = route.function(*arguments)
            if not exchange.response.is_answered:
                self._finish(exchange, result)
        except BaseException as error:  # noqa: BLE001 - sys.exit in a handler ends the handler
            is_error = True
            failure = self._fail(exchange, error)
        finally:
            if exchange.route.timeout_s is not None:
                self._limits.end(exchange)
            tally.add(exchange, is_error=is_error)
            current.reset(token)
            exchange.finish(failure)

    async def run_async(self, exchange: Exchange, tally: Tally) -> None:
        """Handle a message as a task of the event loop."""
        current.set(exchange)  # A task has a context of its own.
        limit = asyncio.timeout(exchange.route.timeout_s)
        failure: str | None = None
        is_error = False
        try:
            arguments = self._prepare(exchange)
            if arguments is None:
                is_error = True
                return
            if (
                exchange.request.idempotency_key is not None
                and self._idempotency is not None
                and not await self._idempotency.begin_async(exchange)
            ):
                return
            async with limit:
                result = await exchange.route.function(*arguments)
            if not exchange.response.is_answered:
                self._finish(exchange, result)
        except BaseException as error:
            is_error = True
            if isinstance(error, TimeoutError) and limit.expired():
                failure = self._pass_limit(exchange)
            elif not isinstance(error, asyncio.CancelledError):
                failure = self._fail(exchange, error)
            elif exchange.request.is_cancelled:
                self._drop(exchange, "while its handler was running")
            elif exchange.has_begun:
                cut_off(exchange)
                raise
            else:
                # Its own doing: what it waited for was cancelled, say.
                failure = self._fail(exchange, error)
        finally:
            tally.add(exchange, is_error=is_error)
            exchange.finish(failure)

    def stop(self) -> None:
        """End the watch on time limits."""
        self._limits.stop()

    def _prepare(self, exchange: Exchange) -> tuple[Any, ...] | None:
        """The handler's arguments; None when it must not run, which the caller has been told."""
        if self._is_debug:
            log.debug(
                "handling %r: request %r, %d bytes on %r, reply to %r",
                exchange.route.name,
                exchange.request.request_id,
                exchange.size_bytes,
                exchange.request.channel,
                exchange.request.reply_to,
                extra={"event": "message.handling"},
            )
        if exchange.request.is_expired or exchange.request.request_id in self._cancelled:
            self._drop(exchange, "before its handler was started")
            return None
        try:
            return exchange.arguments()
        except BadMessage as error:
            reason = error.reason
            self._incidents.report("bad_message", f"refused for {exchange.route.name!r}: {reason}")
            refuse(exchange, Code.BAD_REQUEST, reason)
            exchange.give_up(reason)
            return None

    def _drop(self, exchange: Exchange, when: str) -> None:
        """Nobody wants the result any more: the caller has cancelled the request, or given up."""
        if exchange.request.is_expired:
            self._incidents.report("expired", f"a request's deadline passed {when}")
            refuse(exchange, Code.EXPIRED, f"the deadline passed {when}")
        else:
            self._incidents.report("cancelled", f"a request was cancelled {when}")
            refuse(exchange, Code.CANCELLED, f"the request was cancelled {when}")

    def _finish(self, exchange: Exchange, result: Any) -> None:
        """Send what the handler returned: it has sent no final response itself."""
        if isinstance(result, Receivers):
            result = None  # `return response.send(..., final=False)`
        try:
            exchange.response.send(result)
        except AlreadyAnswered:
            pass  # Its time limit passed in this moment.

    def _fail(self, exchange: Exchange, error: BaseException) -> str:
        """A handler raised: log it with its traceback, answer, and give the reason."""
        text = describe(error)
        log.error(
            "%r failed: %s",
            exchange.route.name,
            text,
            exc_info=error,
            extra={"event": "handler.error", "request_id": exchange.request.request_id},
        )
        if not exchange.response.is_answered:
            refuse(exchange, Code.HANDLER_ERROR, text)
        return text

    def _pass_thread_limit(self, exchange: Exchange) -> None:
        """A thread is over its limit, and works on. A listener has nobody to answer in time."""
        if not (exchange.route.is_action and exchange.response.is_answered):
            self._pass_limit(exchange)

    def _pass_limit(self, exchange: Exchange) -> str:
        """A handler's time limit passed."""
        timeout_s = exchange.route.timeout_s
        self._incidents.report(
            "handler_timeout",
            f"{exchange.route.name!r} runs longer than its limit of {timeout_s:g} s",
        )
        text = f"the handler ran longer than its {timeout_s:g} s"
        refuse(exchange, Code.HANDLER_TIMEOUT, text)
        return text


def cut_off(exchange: Exchange) -> None:
    """The service stops before a message was handled: pass it on to another, or tell its caller."""
    if exchange.delivery is not None:
        exchange.delivery.given_back()
    else:
        refuse(exchange, Code.STOPPING, "the service stopped before the handler was done")


def refuse(exchange: Exchange, code: str, text: str) -> None:
    """Answer with an error, if an answer is wanted and was not given yet."""
    try:
        exchange.response.refuse(code, text)
    except AlreadyAnswered:
        pass
    except DaebusError as error:
        log.error("a reply was lost: %s", describe(error), extra={"event": "reply.lost"})

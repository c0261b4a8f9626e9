"""The reply channel of this process, and the calls that wait for something to come on it."""

from __future__ import annotations

import secrets
import threading
from itertools import count

from daebus.bus.link import Link
from daebus.channels import REPLY_PREFIX
from daebus.client.calls import Call, FutureCall
from daebus.client.expiry import Expiry
from daebus.deadline import Deadline
from daebus.errors import BadMessage, CallTimeout, ConnectionLost, ServerUnavailable
from daebus.logs import Incidents, get_logger
from daebus.messages import decode_reply

log = get_logger(__name__)


class Replies:
    """The consumer of a shared link: one reply channel for all callers of the process.

    A reply is given to the call that waits for its id, once; what is late, sent twice or unknown
    is dropped and counted.
    """

    def __init__(self, link: Link) -> None:
        # 128 random bits each: who does not know them can neither answer a call nor listen to it.
        self.channel = REPLY_PREFIX + secrets.token_hex(16)
        self.incidents = Incidents(log)
        self.link = link
        self._prefix = secrets.token_hex(16)
        self._numbers = count()
        self._calls: dict[str, Call] = {}
        self._expiry = Expiry(self._expire)
        self._subscribing = threading.Lock()
        self._is_subscribed = False

    def ensure_subscribed(self, deadline: Deadline) -> None:
        """Subscribe to the reply channel, if that was not done yet.

        Raises:
            ServerUnavailable: the server is away, or refuses.
            CallTimeout: the server did not confirm in time.
        """
        self.link.ensure_up(deadline)
        if self._is_subscribed:
            return
        if not self._subscribing.acquire(timeout=deadline.remaining_s()):
            raise ServerUnavailable(self.link.address, "it does not confirm the subscription")
        try:
            if not self._is_subscribed:
                self.link.subscribe(deadline, [self.channel])
                self._is_subscribed = True
        finally:
            self._subscribing.release()

    def new_id(self) -> str:
        """An id for a request, unique and not to be guessed."""
        return f"{self._prefix}{next(self._numbers):x}"

    @property
    def is_ready(self) -> bool:
        """Whether a call can be made at once."""
        return self._is_subscribed and self.link.is_up

    def send(self, call: Call, deadline: Deadline) -> None:
        """Send a call's request, and give the replies with its id to it.

        Raises:
            ServerUnavailable: so much waits to be sent already that memory would not be bounded.
        """
        self._calls[call.request_id] = call
        if isinstance(call, FutureCall):
            # Nobody waits for it who would see its deadline pass.
            call.expires_in = self._expiry.add(call.request_id, deadline)
        try:
            self.link.send(call)
        except ServerUnavailable:
            self.forget(call.request_id)
            raise

    def forget(self, request_id: str) -> None:
        """Drop replies with this id from now on."""
        call = self._calls.pop(request_id, None)
        if isinstance(call, FutureCall):
            self._expiry.remove(request_id, call.expires_in)

    @property
    def under_way(self) -> int:
        """How many calls wait for a reply."""
        return len(self._calls)

    def on_messages(self, messages: list[list[bytes]]) -> bool:
        """See `Consumer`."""
        calls = self._calls
        call: Call | None = None
        for message in messages:
            try:
                reply = decode_reply(message[-1])
            except BadMessage as error:
                reason = error.reason
                self.incidents.report("bad_reply", f"dropped a reply: {reason}")
                continue
            call = calls.get(reply.request_id)  # type: ignore[arg-type]
            if call is None:
                self.incidents.report(
                    "unknown_reply", "dropped a reply that no call waits for: late or sent twice"
                )
            elif call.take(reply):
                self.forget(call.request_id)
        return call is not None and call.reads_for_itself and not calls

    @property
    def is_expecting(self) -> bool:
        """See `Consumer`."""
        return bool(self._calls)

    def on_lost(self, error: ConnectionLost) -> None:
        """Replies to calls under way may be missed, so what became of them is unknown."""
        for request_id in list(self._calls):
            call = self._calls.get(request_id)
            self.forget(request_id)
            if call is not None:
                call.give_up(error)

    def on_back(self, gap_s: float, reason: str) -> None:
        """See `Consumer`."""

    def _expire(self, request_id: str) -> None:
        call = self._calls.pop(request_id, None)
        if isinstance(call, FutureCall):
            call.give_up(CallTimeout(call.service, call.action, call.timeout_s))


_creating = threading.Lock()


def replies_of(link: Link) -> Replies:
    """The replies of a shared link; made for the first caller that uses it."""
    consumer = link.consumer
    if consumer is None:
        with _creating:
            consumer = link.consumer
            if consumer is None:
                consumer = link.consumer = Replies(link)
    assert isinstance(consumer, Replies)  # noqa: S101 - shared links have no other consumer
    return consumer

"""How a request is sent and its replies are waited for: what stands behind a `DaebusCaller`."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from time import monotonic
from typing import Any, TypeVar

from daebus import settings
from daebus.bus import shared
from daebus.bus.link import Link
from daebus.bus.shared import handled
from daebus.client.calls import Call, FutureCall, MessageCall, StreamCall, WaitingCall
from daebus.client.destinations import Destination
from daebus.client.envelopes import Envelopes, inherited_s
from daebus.client.replies import Replies, replies_of
from daebus.deadline import Deadline
from daebus.errors import CallTimeout, SettingsError
from daebus.messages import decode_payload

C = TypeVar("C", bound=Call)


class Calling:
    """The calls of one caller. Safe from any thread.

    Args:
        service: who is called.
        url: the server's address; None for what is resolved when it connects.
        timeout_s: how long a call waits that does not say it.
        envelopes: makes the requests.
    """

    def __init__(
        self, service: str, url: str | None, timeout_s: float, envelopes: Envelopes
    ) -> None:
        self._service = service
        self._url = url
        self._timeout_s = timeout_s
        self._envelopes = envelopes
        self._lock = threading.Lock()
        self._link: Link | None = None
        self._destination: Destination | None = None
        #: Where the replies come, while it is connected.
        self.replies: Replies | None = None

    def call(
        self,
        action: str,
        payload: Any,
        timeout: float | None,
        headers: dict[str, str] | None,
        idempotency_key: str | None,
    ) -> Any:
        """See `DaebusCaller.call`."""
        timeout_s = self._seconds(action, timeout)
        self._check_thread()
        call, replies, deadline = self._send(
            WaitingCall, action, payload, timeout_s, headers, idempotency_key=idempotency_key
        )
        try:
            replies.link.read_until(call.is_done, deadline)
            reply = call.wait(deadline, timeout_s)
        except CallTimeout:
            replies.forget(call.request_id)  # The service knows the deadline by itself.
            raise
        finally:
            if not call.is_done():  # Ctrl-C came.
                replies.cancel(call.request_id)
                replies.finish_cancelling()
        if reply.status == "error":
            raise call.error_of(reply)
        return decode_payload(reply.payload)

    def submit(
        self,
        action: str,
        payload: Any,
        timeout: float | None,
        headers: dict[str, str] | None,
        idempotency_key: str | None,
    ) -> Future[Any]:
        """See `DaebusCaller.submit`."""
        timeout_s = self._seconds(action, timeout)
        call, _, _ = self._send(
            FutureCall, action, payload, timeout_s, headers, idempotency_key=idempotency_key
        )
        call.timeout_s = timeout_s
        return call.future

    def stream(
        self,
        action: str,
        payload: Any,
        timeout: float | None,
        headers: dict[str, str] | None,
        idempotency_key: str | None,
    ) -> Iterator[Any]:
        """See `DaebusCaller.stream`."""
        timeout_s = self._seconds(action, timeout)
        self._check_thread()
        call, replies, _ = self._send(
            StreamCall, action, payload, timeout_s, headers, idempotency_key=idempotency_key
        )
        responses = self._responses(call, replies, timeout)
        next(responses)  # From here on, whatever ends it cancels the call.
        return responses

    def _responses(
        self, call: StreamCall, replies: Replies, timeout: float | None
    ) -> Iterator[Any]:
        try:
            yield None
            while True:
                reply = call.next(self._seconds(call.action, timeout))
                if reply.status == "error":
                    raise call.error_of(reply)
                yield decode_payload(reply.payload)
                if reply.final:
                    return
        finally:
            replies.cancel(call.request_id)  # If the final reply has not come.

    def send(
        self,
        action: str,
        payload: Any,
        timeout: float | None,
        headers: dict[str, str] | None,
        idempotency_key: str | None,
        *,
        expires: float | None,
    ) -> int:
        """See `DaebusCaller.send_message`."""
        timeout_s = self._own_seconds(timeout)
        deadline = Deadline.after(timeout_s)
        link = self._borrowed_link()
        link.ensure_up(deadline)
        replies = replies_of(link)
        destination = self._find_destination(replies)
        call = MessageCall(destination, action, replies.new_id(), replies)
        expires_s = None if expires is None else settings.seconds("expires", expires, 0)
        envelope = self._envelopes.make(action, payload, expires_s, headers, idempotency_key)
        if idempotency_key is not None:
            envelope.request_id = call.request_id  # Tells a redelivery from a repeat.
        destination.send(call, self._envelopes.encode(envelope))
        return call.wait(deadline, timeout_s)

    def close(self) -> None:
        """See `DaebusCaller.close`."""
        with self._lock:
            link, replies = self._link, self.replies
            self._link = self.replies = self._destination = None
        if replies is not None:
            replies.finish_cancelling()
        if link is not None:
            shared.give_back(link)

    def _send(
        self,
        make: Callable[[Destination, str, str, Replies], C],
        action: str,
        payload: Any,
        timeout_s: float,
        headers: dict[str, str] | None,
        *,
        idempotency_key: str | None,
    ) -> tuple[C, Replies, Deadline]:
        """Send a request and expect its reply."""
        deadline = Deadline.after(timeout_s)
        replies, destination, remaining_s = self.replies, self._destination, timeout_s
        if replies is None or destination is None or not replies.is_ready:
            replies, destination = self._connect(deadline)
            remaining_s = deadline.at_s - monotonic()
        call = make(destination, action, replies.new_id(), replies)
        envelope = self._envelopes.make(action, payload, remaining_s, headers, idempotency_key)
        envelope.reply_to = replies.channel
        envelope.request_id = call.request_id
        if call.is_stream:
            envelope.stream = True
        replies.send(call, self._envelopes.encode(envelope), destination, deadline)
        return call, replies, deadline

    def _own_seconds(self, timeout: float | None) -> float:
        return self._timeout_s if timeout is None else settings.seconds("timeout", timeout, 0)

    def _seconds(self, action: str, timeout: float | None) -> float:
        timeout_s = self._timeout_s if timeout is None else self._own_seconds(timeout)
        message = handled.get()
        if message is None:
            return timeout_s
        return inherited_s(message, self._service, action, timeout_s)

    def _connect(self, deadline: Deadline) -> tuple[Replies, Destination]:
        """Borrow the shared link and subscribe to the reply channel, or wait for that."""
        replies = replies_of(self._borrowed_link())
        replies.ensure_subscribed(deadline)
        destination = self._find_destination(replies)
        self.replies = replies
        return replies, destination

    def _find_destination(self, replies: Replies) -> Destination:
        """What is known of the service on this link, kept for the next call."""
        self._destination = destination = replies.directory.destination(self._service)
        return destination

    def _borrowed_link(self) -> Link:
        with self._lock:
            if self._link is None or self._link.is_closed:
                self._link = shared.borrow(shared.resolve_url(self._url))
        self._check_thread()
        return self._link

    def _check_thread(self) -> None:
        """Refuse to wait in the thread that would have to read the reply."""
        if self._link is not None and self._link.is_reader():
            raise SettingsError(
                "a callback of a future runs in the thread that reads replies, so it cannot wait "
                "for one itself; use submit, or hand the work to another thread"
            )

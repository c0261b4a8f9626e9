"""DaebusCaller: call the actions of a service and get its replies."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from types import TracebackType
from typing import Any, Self, TypeVar

import msgspec

from daebus import settings
from daebus.bus import shared
from daebus.bus.commands import Receivers, publish
from daebus.bus.connection import check_url
from daebus.bus.link import Link
from daebus.channels import check_name, check_service_name
from daebus.client.calls import Call, FutureCall, StreamCall, WaitingCall
from daebus.client.replies import Replies, replies_of
from daebus.deadline import Deadline
from daebus.errors import RemoteError, SettingsError
from daebus.messages import MAX_MESSAGE_BYTES, RequestEnvelope, decode_payload, encode

#: How long a call waits for its final reply by default, in seconds.
TIMEOUT_S = 30.0

#: Most names of actions that a caller remembers to be right.
MAX_CHECKED = 1000

C = TypeVar("C", bound=Call)


class DaebusCaller:
    """Calls one service. Any number of threads may share one caller.

    All callers of a process share one connection to their server; a caller itself costs nothing.
    It connects with its first call, and again after `close` or a lost connection.

    Args:
        service: the service's name.
        url: the server's address; None for the running service's own, else `DAEBUS_URL`, else
            `redis://localhost:6379`.
        timeout: how long a call waits for its final reply, in seconds (`DAEBUS_TIMEOUT`, 30.0).
        max_message_bytes: larger requests are refused (`DAEBUS_MAX_MESSAGE_BYTES`, 1 MiB).

    Raises:
        SettingsError: a value makes no sense; the text says which.

    Example:
        >>> with DaebusCaller("calculator") as calculator:
        ...     calculator.call("add", {"a": 1, "b": 2})
        3
    """

    def __init__(
        self,
        service: str,
        url: str | None = None,
        *,
        timeout: float | None = None,
        max_message_bytes: int | None = None,
    ) -> None:
        self.service = check_service_name(service)
        self._channel = service.encode()
        self._url = check_url(url) if url is not None else None
        self._timeout_s = settings.seconds("timeout", timeout, TIMEOUT_S)
        self._max_bytes = settings.whole_number(
            "max_message_bytes", max_message_bytes, MAX_MESSAGE_BYTES
        )
        self._lock = threading.Lock()
        self._link: Link | None = None
        self._replies: Replies | None = None
        #: Actions whose names have been looked at.
        self._checked: set[str] = set()

    # --- the idiomatic calls ---

    def call(
        self,
        action: str,
        payload: Any = msgspec.UNSET,
        *,
        timeout: float | None = None,
        headers: dict[str, str] | None = None,
    ) -> Any:
        """Call an action and wait for its result.

        Args:
            action: the action's name.
            payload: any value that msgspec encodes as JSON; left out, the handler reads `{}`.
            timeout: seconds to wait; the caller's own if None. The service learns what remains of
                it, and does not start what nobody waits for any more.
            headers: passed along as `request.headers`.

        Returns:
            The payload of the final response.

        Raises:
            RemoteError: the service answered with an error; see its subclasses.
            TimeoutError: no final response came in time; the handler may have run.
            ServiceUnavailable: nobody serves this name, or the server cannot be reached
                (`ServerUnavailable`), or the connection broke meanwhile (`ConnectionLost`).
            BadMessage: the payload cannot be sent as JSON, or is too large (`TooLarge`).

        Example:
            >>> calculator.call("add", {"a": 1, "b": 2}, timeout=1.0)
            3
        """
        timeout_s = self._seconds(timeout)
        self._check_thread()
        call, replies, deadline = self._send(WaitingCall, action, payload, timeout_s, headers)
        try:
            replies.link.read_until(call.is_done, deadline)
            reply = call.wait(deadline, timeout_s)
        finally:
            if not call.is_done():  # Its time is over, or Ctrl-C came.
                replies.forget(call.request_id)
        if reply.status == "error":
            raise call.error_of(reply)
        return decode_payload(reply.payload)

    def submit(
        self,
        action: str,
        payload: Any = msgspec.UNSET,
        *,
        timeout: float | None = None,
        headers: dict[str, str] | None = None,
    ) -> Future[Any]:
        """Call an action without waiting: many calls may be under way at once.

        Callbacks of the future run in the thread that reads replies; they must not block.

        Args:
            action: the action's name.
            payload: as for `call`.
            timeout: seconds until the future ends with `TimeoutError`; the caller's own if None.
            headers: as for `call`.

        Returns:
            A future with what `call` returns or raises.

        Raises:
            ServerUnavailable: the server cannot be reached.
            BadMessage: the payload cannot be sent as JSON, or is too large (`TooLarge`).

        Example:
            >>> futures = [calculator.submit("add", {"a": n, "b": 1}) for n in range(3)]
            >>> [future.result() for future in futures]
            [1, 2, 3]
        """
        timeout_s = self._seconds(timeout)
        call, _, _ = self._send(FutureCall, action, payload, timeout_s, headers)
        call.timeout_s = timeout_s
        return call.future

    def stream(
        self,
        action: str,
        payload: Any = msgspec.UNSET,
        *,
        timeout: float | None = None,
        headers: dict[str, str] | None = None,
    ) -> Iterator[Any]:
        """Call an action and yield each response: those that are not final, then the final one.

        Args:
            action: the action's name.
            payload: as for `call`.
            timeout: seconds to wait for the first response, and again for each further one.
            headers: as for `call`.

        Yields:
            The payload of each response, the final one last.

        Raises:
            RemoteError: the service answered with an error.
            TimeoutError: the next response did not come in time.
            ServiceUnavailable: as for `call`; also when a part was lost with a connection.

        Example:
            >>> for progress in reports.stream("build", {"year": 2026}):
            ...     print(progress)
        """
        timeout_s = self._seconds(timeout)
        self._check_thread()
        call, replies, _ = self._send(StreamCall, action, payload, timeout_s, headers)
        return self._responses(call, replies, timeout_s)

    def _responses(self, call: StreamCall, replies: Replies, timeout_s: float) -> Iterator[Any]:
        try:
            while True:
                reply = call.next(timeout_s)
                if reply.status == "error":
                    raise call.error_of(reply)
                yield decode_payload(reply.payload)
                if reply.final:
                    return
        finally:
            replies.forget(call.request_id)

    # --- the calls of the seeds ---

    def send_request(
        self, action: str, payload: Any = msgspec.UNSET, timeout: float | None = None
    ) -> Any:
        """Call an action; an error that the service answers is returned instead of raised.

        Args:
            action: the action's name.
            payload: as for `call`.
            timeout: as for `call`.

        Returns:
            The payload of the final response, or `{"status": "error", "error": "…"}`.

        Raises:
            TimeoutError: as for `call`.
            ServiceUnavailable: as for `call`.
            BadMessage: as for `call`.
        """
        try:
            return self.call(action, payload, timeout=timeout)
        except RemoteError as error:
            return {"status": "error", "error": error.message}

    def send_message(
        self, action: str, payload: Any = msgspec.UNSET, timeout: float | None = None
    ) -> int:
        """Ask for an action without wanting a reply.

        Args:
            action: the action's name.
            payload: as for `call`.
            timeout: seconds to wait for the server, and within which the service must start it.

        Returns:
            How many services received it; 0 when none is alive.

        Raises:
            ServerUnavailable: the server cannot be reached.
            TimeoutError: the server did not answer in time.
            BadMessage: as for `call`.
        """
        deadline = Deadline.after(self._seconds(timeout))
        link = self._borrowed_link()
        link.ensure_up(deadline)
        data = encode(self._envelope(action, payload, deadline, None), self._max_bytes)
        receivers = Receivers(publish(self._channel, data))
        link.send(receivers)
        return receivers.wait(deadline.remaining_s())

    def send_to_service(self, payload: Any, action: str, timeout: float | None = None) -> int:
        """The same as `send_message`, with the payload first."""
        return self.send_message(action, payload, timeout)

    # --- the connection ---

    def close(self) -> None:
        """Give the connection back; the last caller closes it. The next call connects again."""
        with self._lock:
            link, self._link, self._replies = self._link, None, None
        if link is not None:
            shared.give_back(link)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _send(
        self,
        make: Callable[[str, str, str, Callable[[str], object]], C],
        action: str,
        payload: Any,
        timeout_s: float,
        headers: dict[str, str] | None,
    ) -> tuple[C, Replies, Deadline]:
        """Send a request and expect its reply."""
        deadline = Deadline.after(timeout_s)
        replies = self._replies
        if replies is None or not replies.is_ready:
            replies = self._connect(deadline)
        call = make(self.service, action, replies.new_id(), replies.forget)
        envelope = self._envelope(action, payload, deadline, headers)
        envelope.reply_to = replies.channel
        envelope.request_id = call.request_id
        call.data = publish(self._channel, encode(envelope, self._max_bytes))
        replies.send(call, deadline)
        return call, replies, deadline

    def _envelope(
        self, action: str, payload: Any, deadline: Deadline, headers: dict[str, str] | None
    ) -> RequestEnvelope:
        if action not in self._checked:
            check_name("action", action)
            if len(self._checked) < MAX_CHECKED:
                self._checked.add(action)
        return RequestEnvelope(
            action,
            payload,
            None,
            None,
            shared.home_service.get(),
            deadline.remaining_s() * 1000,
            headers,
        )

    def _seconds(self, timeout: float | None) -> float:
        return self._timeout_s if timeout is None else settings.seconds("timeout", timeout, 0)

    def _connect(self, deadline: Deadline) -> Replies:
        """Borrow the shared link and subscribe to the reply channel, or wait for that."""
        replies = replies_of(self._borrowed_link())
        replies.ensure_subscribed(deadline)
        self._replies = replies
        return replies

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

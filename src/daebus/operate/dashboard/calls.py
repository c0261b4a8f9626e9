"""What a page may ask of services: what they offer, and to call their actions."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from time import monotonic
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from daebus import settings
from daebus.channels import check_service_name
from daebus.errors import DaebusError, SettingsError
from daebus.messages import MAX_MESSAGE_BYTES
from daebus.operate.dashboard.parameters import parameter, small_body
from daebus.operate.dashboard.streaming import Streamed
from daebus.operate.dashboard.texts import readable
from daebus.operate.web.asking import Asking, raw_json
from daebus.operate.web.http_errors import problem_of
from daebus.operate.web.server import Ending

#: The longest wait for a response that may be asked for, in seconds.
MOST_SECONDS = 3_600.0


class Calls:
    """Answers requests about services.

    Args:
        asking: speaks with them.
        ending: the server's.
    """

    def __init__(self, asking: Asking, ending: Ending) -> None:
        self._asking = asking
        self._ending = ending

    async def contract(self, request: Request) -> Response:
        """What the service `service` offers."""
        contract = await self._asking.contract(check_service_name(parameter(request, "service")))
        return Response(msgspec.json.encode(contract), media_type="application/json")

    async def call(self, request: Request) -> Streamed:
        """Call the action `action` of `service`; the body is the payload.

        The answer is a line of JSON for each response, and one for the error if it ends with one.
        """
        service = check_service_name(parameter(request, "service"))
        timeout_s = settings.seconds("timeout_s", _number(parameter(request, "timeout_s")), 0)
        if timeout_s > MOST_SECONDS:
            raise SettingsError(f"timeout_s is {timeout_s:g}; it may be {MOST_SECONDS:g} at most")
        payload = raw_json(await small_body(request, MAX_MESSAGE_BYTES))
        lines = self._lines(service, parameter(request, "action"), payload, timeout_s)
        return Streamed(lines, "application/x-ndjson", self._ending)

    async def _lines(
        self, service: str, action: str, payload: msgspec.Raw, timeout_s: float
    ) -> AsyncGenerator[bytes]:
        began = monotonic()
        number = 0
        try:
            stream = await self._asking.caller(service).stream_raw(
                action, payload, timeout_s=timeout_s
            )
            try:
                async for reply in stream:
                    number += 1
                    yield _line(
                        began,
                        kind="response",
                        number=number,
                        text=readable(bytes(reply.payload)),
                        is_final=reply.final,
                    )
            finally:
                stream.close()
        except DaebusError as error:
            problem = problem_of(error)
            yield _line(began, kind="error", code=problem.code, error=problem.detail)


def _line(began: float, **facts: Any) -> bytes:
    after_ms = (monotonic() - began) * 1000
    return msgspec.json.encode({**facts, "after_ms": after_ms}) + b"\n"


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise SettingsError(f"timeout_s is {text[:50]!r}; it must be a number of seconds") from None

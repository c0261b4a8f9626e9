"""The status port of a service: whether it is live and ready, and its metrics, over HTTP."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from daebus.bus.presence import Replica
from daebus.deadline import Deadline
from daebus.errors import SettingsError
from daebus.logs import get_logger
from daebus.service.configuration import ServiceSettings
from daebus.service.health import Vitals

if TYPE_CHECKING:
    from turbo_queue.status_port import Page, StatusPort

log = get_logger(__name__)

#: How long an answer may take that is being given at the end, in seconds.
LAST_ANSWER_S = 0.5


class Status:
    """Serves `/live`, `/ready` and `/metrics`, if a port was asked for.

    Args:
        settings: say where.
        describe: what the service is and has done.
        look: how it is.
        stored: how many messages are in its inbox and among its dead letters.
    """

    def __init__(
        self,
        settings: ServiceSettings,
        describe: Callable[[], Replica],
        look: Callable[[], Vitals],
        stored: Callable[[], tuple[int, int] | None],
    ) -> None:
        self._settings = settings
        self._describe = describe
        self._look = look
        self._stored = stored
        self._port: StatusPort | None = None

    def start(self) -> None:
        """Open the port.

        Raises:
            SettingsError: it is in use, or there is no such address here.
        """
        if self._settings.metrics_port is None:
            return
        # HTTP takes 30 ms to load, which a service without such a port does not need.
        from turbo_queue import SettingsError as Refused  # noqa: PLC0415
        from turbo_queue.status_port import (  # noqa: PLC0415
            LIVE,
            METRICS,
            READY,
            StatusPort,
            page_or_why_not,
            probe,
        )

        pages = {
            LIVE: probe(lambda: why_not_live(self._look())),
            READY: probe(lambda: self._look().troubles),
            METRICS: page_or_why_not(self._metrics),
        }
        port = StatusPort(
            pages,
            port=self._settings.metrics_port,
            host=self._settings.metrics_host,
            name="daebus-status",
        )
        try:
            port.start()
        except Refused as error:
            raise SettingsError(str(error)) from error
        self._port = port
        log.info("metrics and probes are at %s", port.url, extra={"event": "status.port"})

    def close(self, deadline: Deadline) -> None:
        """Close the port, after the last answer."""
        if self._port is not None:
            self._port.join(max(LAST_ANSWER_S, min(deadline.remaining_s(), 1.0)))

    def _metrics(self) -> Page:
        from daebus.service.metrics import ServiceCollector  # noqa: PLC0415 - an extra
        from turbo_queue.metrics import metrics_page  # noqa: PLC0415

        return metrics_page(ServiceCollector(self._describe, self._look, self._stored))


def why_not_live(vitals: Vitals) -> list[str]:
    """Why a restart would help; nothing if it would not."""
    return [] if vitals.is_live else vitals.troubles or ["it does not get on"]

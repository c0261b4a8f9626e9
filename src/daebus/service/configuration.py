"""What a service runs with: values from arguments, else the environment, else the defaults."""

from __future__ import annotations

import multiprocessing
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from daebus import settings, tracing
from daebus.errors import SettingsError
from daebus.messages import MAX_MESSAGE_BYTES

MIB = 1024 * 1024


@dataclass(frozen=True, kw_only=True)
class ServiceSettings:
    """All settings of a service; see `Daebus` for what each means. Checked once, here."""

    max_workers: int
    max_backlog: int
    max_backlog_bytes: int
    max_message_bytes: int
    grace_s: float
    overflow: str
    #: Whether "spill" was asked for by name: nothing starts then where no disk can be used.
    must_spill: bool
    #: Where it keeps files; None for the user's own place.
    spool: Path | None
    max_spill: int
    max_spill_bytes: int
    processes: int
    start_method: str
    max_attempts: int
    max_process_messages: int | None
    max_process_bytes: int | None
    delivery: str
    durability: str | None
    prefetch: int
    lease_s: float
    max_deliveries: int
    max_inbox: int
    deduplication_s: float
    max_stall_s: float
    #: Where metrics and probes are served; no port: nowhere.
    metrics_port: int | None
    metrics_host: str
    probe_file: Path | None
    traces: bool

    @classmethod
    def of(
        cls,
        *,
        max_workers: int | None = None,
        max_backlog: int | None = None,
        max_backlog_bytes: int | None = None,
        max_message_bytes: int | None = None,
        grace: float | None = None,
        overflow: str | None = None,
        spool: str | os.PathLike[str] | None = None,
        max_spill: int | None = None,
        max_spill_bytes: int | None = None,
        processes: int | None = None,
        start_method: str | None = None,
        max_attempts: int | None = None,
        max_process_messages: int | None = None,
        max_process_bytes: int | None = None,
        delivery: str | None = None,
        durability: str | None = None,
        prefetch: int | None = None,
        lease: float | None = None,
        max_deliveries: int | None = None,
        max_inbox: int | None = None,
        deduplication: float | None = None,
        max_stall: float | None = None,
        metrics_port: int | None = None,
        metrics_host: str | None = None,
        probe_file: str | os.PathLike[str] | None = None,
        traces: bool | None = None,
    ) -> Self:
        """Check what was given, and take the rest from the environment or the defaults.

        Raises:
            SettingsError: a value makes no sense; the text says which.
        """
        number, seconds = settings.whole_number, settings.seconds
        workers = number("max_workers", max_workers, 10)
        folder = settings.text("spool", None if spool is None else os.fspath(spool))
        probe = settings.text("probe_file", None if probe_file is None else os.fspath(probe_file))
        lease_s = seconds("lease", lease, 10.0)
        if lease_s < 0.1:  # noqa: PLR2004
            raise SettingsError(f"lease is {lease_s:g}; it must be 0.1 s or more")
        max_stall_s = seconds("max_stall", max_stall, 300.0)
        if max_stall_s == 0:  # Whoever means "never" would have it started anew again and again.
            raise SettingsError("max_stall is 0; it must be more, such as 1e9 for never")
        return cls(
            max_workers=workers,
            max_backlog=number("max_backlog", max_backlog, 10_000),
            max_backlog_bytes=number("max_backlog_bytes", max_backlog_bytes, 64 * MIB),
            max_message_bytes=number("max_message_bytes", max_message_bytes, MAX_MESSAGE_BYTES),
            grace_s=seconds("grace", grace, 10.0),
            overflow=settings.choice("overflow", overflow, "spill", "reject"),
            must_spill=settings.text("overflow", overflow) == "spill",
            spool=None if folder is None else Path(folder),
            max_spill=number("max_spill", max_spill, 10_000_000),
            max_spill_bytes=number("max_spill_bytes", max_spill_bytes, 4096 * MIB),
            processes=number("processes", processes, os.cpu_count() or 1),
            start_method=settings.choice(
                "start_method", start_method, *_start_methods(multiprocessing.get_start_method())
            ),
            max_attempts=number("max_attempts", max_attempts, 3),
            max_process_messages=settings.optional_number(
                "max_process_messages", max_process_messages
            ),
            max_process_bytes=settings.optional_number("max_process_bytes", max_process_bytes),
            delivery=settings.choice("delivery", delivery, "pubsub", "stream"),
            durability=settings.text("durability", durability),
            # A replica that dies repeats at most so many messages.
            prefetch=number("prefetch", prefetch, max(32, workers)),
            lease_s=lease_s,
            max_deliveries=number("max_deliveries", max_deliveries, 5),
            max_inbox=number("max_inbox", max_inbox, 1_000_000),
            deduplication_s=seconds("deduplication", deduplication, 300.0),
            max_stall_s=max_stall_s,
            metrics_port=settings.port("metrics_port", metrics_port),
            metrics_host=settings.text("metrics_host", metrics_host) or "127.0.0.1",
            probe_file=None if probe is None else Path(probe).absolute(),
            traces=tracing.is_wanted(traces),
        )


def _start_methods(default: str) -> list[str]:
    """All ways to start a process here, the program's own one first."""
    return sorted(multiprocessing.get_all_start_methods(), key=lambda method: method != default)

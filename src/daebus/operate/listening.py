"""`daebus listen`: print what is published."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Annotated, Any

import typer

from daebus import settings
from daebus.bus import shared
from daebus.bus.arrivals import Arrivals
from daebus.bus.link import Link
from daebus.channels import check_name, is_pattern
from daebus.deadline import Deadline
from daebus.errors import BadMessage
from daebus.logs import printable
from daebus.messages import decode_payload
from daebus.operate import options, output
from daebus.service.signals import stop_on_signals

#: How long the start may take, in seconds.
START_S = 10.0

#: How many messages may wait to be printed; more are dropped and counted, so that a slow terminal
#: does not fill the memory.
MAX_WAITING = 100_000


def listen(
    channels: Annotated[
        list[str],
        typer.Argument(
            metavar="CHANNEL",
            help="Channels, or patterns such as 'events.*' (in quotes).",
            show_default=False,
        ),
    ],
    *,
    count: Annotated[
        int | None,
        typer.Option("--count", "-n", min=1, help="End after so many.", show_default=False),
    ] = None,
    url: options.Url = None,
    as_json: options.AsJson = False,
) -> None:
    """Print each message that is published to these channels, until Ctrl-C.

    With --json each message is one line: {"channel": ..., "pattern": ...,
    "payload": ...}, or "text" instead of "payload" where it is not JSON.

    Examples:
      daebus listen user_events
      daebus listen 'orders.*' alerts --json
      daebus listen heartbeat -n 1
    """
    for name in channels:
        check_name("channel", name)
    link = Link(settings.server_url(url), shared.connection_name("listen"))
    link.consumer = arrivals = Arrivals(MAX_WAITING)
    deadline = Deadline.after(START_S)
    link.start()
    try:
        with stop_on_signals(arrivals.end):
            link.ensure_up(deadline)
            link.subscribe(
                deadline,
                [name for name in channels if not is_pattern(name)],
                [name for name in channels if is_pattern(name)],
            )
            output.note(f"Listening to {', '.join(channels)} at {link.address}; Ctrl-C ends it")
            for number, message in enumerate(_messages(arrivals), start=1):
                _show(message, as_json=as_json)
                if number == count:
                    return
    finally:
        link.close()


def _messages(arrivals: Arrivals) -> Iterator[list[bytes]]:
    """The messages, until the end is wished for."""
    told = 0
    while (batch := arrivals.take()) is not None:
        yield from batch
        if arrivals.dropped > told:
            output.note(f"{arrivals.dropped - told} messages were dropped: printing is too slow")
            told = arrivals.dropped


def _show(message: list[bytes], *, as_json: bool) -> None:
    *kind, channel_bytes, data = message
    channel = channel_bytes.decode(errors="replace")
    facts: dict[str, Any] = {"channel": channel}
    if kind[0] == b"pmessage":
        facts["pattern"] = kind[1].decode(errors="replace")
    try:
        facts["payload"] = decode_payload(data)
    except BadMessage:
        facts["text"] = data.decode(errors="replace")
    if as_json:
        output.show_json(facts)
        return
    shown = output.as_json(facts.get("payload", facts.get("text")))
    time = datetime.now().astimezone().strftime("%H:%M:%S")
    print(f"{time}  {printable(channel)}  {shown}", flush=True)

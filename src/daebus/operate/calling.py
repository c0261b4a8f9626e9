"""`daebus call`, `daebus send` and `daebus publish`: what goes to services."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import msgspec
import typer

from daebus.bus.broadcast import Broadcast
from daebus.client.caller import DaebusCaller
from daebus.errors import BadMessage, RemoteError
from daebus.messages import decode_payload
from daebus.operate import options, output
from daebus.operate.output import ExitCode

Channel = Annotated[
    str, typer.Argument(metavar="CHANNEL", help="The channel's name.", show_default=False)
]

Value = Annotated[
    str,
    typer.Argument(
        metavar="JSON", help="Any JSON value, or - to read it from stdin.", show_default=False
    ),
]


def call(
    service: options.Service,
    action: options.Action,
    payload: options.Payload = None,
    *,
    timeout: options.Timeout = None,
    url: options.Url = None,
    as_json: options.AsJson = False,
) -> None:
    """Call an action and print each response as it comes, the final one last.

    An error response goes to stderr and ends with exit code 1. With --json each
    response is one line, an error response too: {"status": "success",
    "payload": ...} or {"status": "error", "code": ..., "error": ...}.

    Examples:
      daebus call calculator add '{"a": 1, "b": 2}'
      daebus call reports build '{"year": 2026}' --timeout 120
      cat order.json | daebus call shop order - --json
    """
    value = _payload(payload)
    with DaebusCaller(service, url) as caller:
        try:
            for response in caller.stream(action, value, timeout=timeout):
                if as_json:
                    output.show_json({"status": "success", "payload": response})
                else:
                    output.show_value(response)
        except RemoteError as error:
            if as_json:
                facts = {"status": "error", "code": error.code, "error": error.message}
                output.show_json(facts)
            else:
                output.fail(f"{error} ({error.code})")
            raise typer.Exit(ExitCode.ERROR) from None


def send(
    service: options.Service,
    action: options.Action,
    payload: options.Payload = None,
    *,
    timeout: options.Timeout = None,
    url: options.Url = None,
    as_json: options.AsJson = False,
) -> None:
    """Ask a service for an action without waiting for a reply.

    One replica gets it; a service with an inbox gets it later, if it is down
    now. Where nobody takes it the exit code is 1.

    Examples:
      daebus send metrics record_metric '{"name": "cpu", "value": 0.5}'
      daebus send metrics flush
    """
    value = _payload(payload)
    with DaebusCaller(service, url) as caller:
        receivers = caller.send_message(action, value, timeout)
    nobody = f"no service {service!r} is listening"
    _show_receivers(receivers, "accepted", nobody, as_json=as_json)


def publish(
    channel: Channel,
    payload: Value,
    *,
    url: options.Url = None,
    as_json: options.AsJson = False,
) -> None:
    """Publish a message to a channel, for all who listen to it.

    Prints how many received it, with the services whose inbox keeps it for a
    durable listener; 0 ends with exit code 1.

    Examples:
      daebus publish user_events '{"type": "registered", "id": 1}'
      daebus publish alerts '"disk full"' --json
    """
    value = _payload(payload)
    broadcast = Broadcast(url)
    try:
        receivers = broadcast.send(channel, value)
    finally:
        broadcast.close()
    done = f"received by {output.count(receivers, 'subscriber')}"
    _show_receivers(receivers, done, f"nobody listens to {channel!r}", as_json=as_json)


def _payload(text: str | None) -> Any:
    """The payload that was typed, or piped.

    Raises:
        BadMessage: it is not JSON.
    """
    if text is None:
        return msgspec.UNSET
    source = "stdin" if text == "-" else f"the payload {text[:200]!r}"
    data = sys.stdin.buffer.read() if text == "-" else text.encode(errors="surrogateescape")
    try:
        return decode_payload(data)
    except BadMessage as error:
        reason = error.reason.rpartition(": ")[2]
        raise BadMessage(
            f"""{source} is not valid JSON ({reason}). """
            f"""Write it in single quotes, names and texts in double ones: '{{"name": "value"}}'"""
        ) from None


def _show_receivers(receivers: int, done: str, nobody: str, *, as_json: bool) -> None:
    if as_json:
        output.show_json({"receivers": receivers})
    elif receivers:
        output.say(done)
    else:
        output.fail(nobody)
    if receivers == 0:
        raise typer.Exit(ExitCode.ERROR)

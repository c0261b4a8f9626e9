"""`daebus contract`: what a service offers, as documents, as differences, and as a client."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from daebus.contracts import Contract
from daebus.errors import SettingsError
from daebus.logs import printable
from daebus.operate import options, output
from daebus.operate.contract.client import client_of
from daebus.operate.contract.diff import Change, changes_between
from daebus.operate.contract.files import Format, contract_at, contract_of_running, written
from daebus.operate.output import ExitCode

contract = typer.Typer(
    no_args_is_help=True,
    help="""Export what a service offers, compare it, make a typed client of it.

    It is made of the handlers' type hints and docstrings.

    Examples:
      daebus contract export shop:app -o shop.json
      daebus contract diff shop.json shop:app
      daebus contract client shop.json -o shop_client.py
    """,
)

Target = Annotated[
    str | None,
    typer.Argument(
        metavar="[TARGET]",
        help="The app, as module:app, or a file that was exported.",
        show_default=False,
    ),
]

Live = Annotated[
    str | None,
    typer.Option(
        "--live", metavar="SERVICE", help="Ask the service that runs.", show_default=False
    ),
]

Service = Annotated[
    str | None,
    typer.Option(
        "--service",
        metavar="NAME",
        help="The service's name, if it is not the app's.",
        show_default=False,
    ),
]

Output = Annotated[
    Path | None,
    typer.Option(
        "--output", "-o", metavar="FILE", help="Write it here, not to stdout.", show_default=False
    ),
]

Side = Annotated[str, typer.Argument(help="A file that was exported, or module:app.")]


@contract.command("export")
def export(
    target: Target = None,
    *,
    kind: Annotated[
        Format,
        typer.Option("--format", "-f", help="How it is written; all are JSON."),
    ] = Format.ASYNCAPI,
    service: Service = None,
    live: Live = None,
    url: options.Url = None,
    to: Output = None,
) -> None:
    """Write what a service offers.

    asyncapi is an AsyncAPI 3 document of all messages as they are on the wire,
    json-schema the types of each action's payload and result, daebus the plain
    facts. Of the same handlers the same document is made, byte for byte. An
    app is imported and not run, so no server is needed.

    Examples:
      daebus contract export shop:app -o shop.json
      daebus contract export shop:app --format json-schema
      daebus contract export --live shop --format daebus | jq .actions
    """
    _write(written(_found(target, live, service, url), kind), to)


@contract.command("diff")
def diff(
    old: Side,
    new: Side,
    *,
    service: Service = None,
    as_json: options.AsJson = False,
) -> None:
    """Tell what has changed, and whether it breaks those who use the service.

    Who calls breaks when less is accepted, or more comes back than before: a
    field that is required now, a field of a result that is gone. The exit code
    is 1 if anything breaks, 0 if nothing does.

    Examples:
      daebus contract diff shop.json shop:app
      daebus contract diff old.json new.json --json | jq '.changes[]'
    """
    changes = changes_between(contract_at(old, service), contract_at(new, service))
    breaking = sum(change.is_breaking for change in changes)
    if as_json:
        output.show_json({"is_breaking": breaking > 0, "changes": changes})
    else:
        for change in changes:
            _show(change)
        others = output.count(len(changes) - breaking, "compatible change")
        output.note(f"{output.count(breaking, 'breaking change')}, {others}")
    if breaking:
        raise typer.Exit(ExitCode.ERROR)


@contract.command("client")
def client(
    target: Target = None,
    *,
    service: Service = None,
    live: Live = None,
    url: options.Url = None,
    to: Output = None,
) -> None:
    """Write a Python module with a typed client of a service.

    It has a class with a method for each action, and a class for each type. It
    needs daebus and nothing else, and is the same for the same contract: keep
    it beside the caller's code, and check with mypy.

    Examples:
      daebus contract client shop:app -o shop_client.py
      daebus contract client --live shop -o shop_client.py
    """
    _write(client_of(_found(target, live, service, url)), to)


def _found(target: str | None, live: str | None, service: str | None, url: str | None) -> Contract:
    if (target is None) == (live is None):
        raise SettingsError("name either an app or a file, such as shop:app, or --live SERVICE")
    if target is None:
        return contract_of_running(str(live), url)
    return contract_at(target, service)


def _write(text: str, to: Path | None) -> None:
    if to is None:
        print(text, end="")
        return
    try:
        to.write_text(text, encoding="utf-8")
    except OSError as error:
        raise SettingsError(f"cannot write {to}: {error.strerror}") from None


def _show(change: Change) -> None:
    effect, style = ("breaking  ", "red") if change.is_breaking else ("compatible", "")
    place = f", {change.part}" if change.part else ""
    if change.path and change.path != "$":
        place += f" {change.path}"
    output.say(f"{effect}  {printable(f'{change.subject}{place}: {change.text}')}", style)

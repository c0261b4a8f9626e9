"""`daebus dead`: the messages that failed too often."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from daebus import settings
from daebus.channels import check_service_name
from daebus.logs import printable
from daebus.operate import options, output
from daebus.operate.letters import DeadLetters, Letter
from daebus.operate.output import ExitCode

#: How many are shown as a table if nobody says how many.
USUAL_LIMIT = 100

dead = typer.Typer(
    no_args_is_help=True,
    help="""List, show, retry and drop the messages that failed too often.

    They are kept until somebody decides about them.

    Examples:
      daebus dead list shop
      daebus dead show shop 1795247780123-0
      daebus dead retry shop --all
    """,
)

Ids = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[ID]...", help="Ids, as 'daebus dead list' shows them.", show_default=False
    ),
]

Every = Annotated[bool, typer.Option("--all", help="All that there are.")]


@dead.command("list")
def list_dead(
    service: options.Service,
    *,
    limit: Annotated[
        int | None,
        typer.Option(
            "--limit",
            "-n",
            min=1,
            help=f"So many at most. Else {USUAL_LIMIT} in a table, all with --json.",
            show_default=False,
        ),
    ] = None,
    url: options.Url = None,
    spool: options.Spool = None,
    as_json: options.AsJson = False,
) -> None:
    """Show a service's dead letters, oldest first.

    A message is dead when it was delivered max_deliveries times and never
    handled to its end, or when the worker process that handled it died
    max_attempts times. WHERE is where it came from: the service's inbox on the
    server, or the disk of this machine, where a letter may hold several
    messages; its folder is found by --spool and the very --url that the service
    runs with. With --json each letter is one line.

    Examples:
      daebus dead list shop
      daebus dead list shop --json | jq -r .reason | sort | uniq -c
    """
    letters = iter(_letters(service, url, spool))
    if as_json:
        for letter in islice(letters, limit):
            output.show_json(letter.summary())
        return
    shown = list(islice(letters, limit or USUAL_LIMIT))
    if not shown:
        output.say(f"No dead letters of service {printable(service)!r}")
        return
    output.show(_table(shown))
    if next(letters, None):
        output.note(f"There are more than these {len(shown)}; see them with --limit or --json")


@dead.command("show")
def show_dead(
    service: options.Service,
    letter_id: Annotated[
        str,
        typer.Argument(
            metavar="ID", help="An id, as 'daebus dead list' shows it.", show_default=False
        ),
    ],
    *,
    url: options.Url = None,
    spool: options.Spool = None,
    as_json: options.AsJson = False,
) -> None:
    """Show a dead letter: the whole message, and why it is dead.

    The message goes to stdout, as JSON; what there is to say about it goes to
    stderr. With --json it is all one line on stdout.

    Examples:
      daebus dead show shop 1795247780123-0
      daebus dead show shop 1795247780123-0 | jq .payload
    """
    letter = _letters(service, url, spool).find(letter_id)
    if letter is None:
        raise _unknown(service, [letter_id])
    if as_json:
        contents = [
            {"message_id": one.message_id, "channel": one.channel, "message": one.value}
            for one in letter.messages
        ]
        output.show_json({**letter.summary(), "contents": contents})
        return
    for title, value in (
        ("id", letter.letter_id),
        ("where", letter.kind),
        ("reason", letter.reason),
        ("deliveries", letter.deliveries),
        ("when", time.strftime("%Y-%m-%d %H:%M:%S %z", time.localtime(letter.at))),
    ):
        output.note(f"{title}: {printable(str(value))}", "")
    for message in letter.messages:
        if message.channel is not None:
            output.note(f"channel: {printable(message.channel)}", "")
        if message.message_id is not None:
            output.note(f"message id: {printable(message.message_id)}", "")
        output.show_value(message.value)


@dead.command("retry")
def retry_dead(
    service: options.Service,
    ids: Ids = None,
    *,
    every: Every = False,
    url: options.Url = None,
    spool: options.Spool = None,
    as_json: options.AsJson = False,
) -> None:
    """Give dead letters back to the service, as if they had never failed.

    They wait for it if it is not running. Fix first what they failed at: they
    would end here again.

    Examples:
      daebus dead retry shop 1795247780123-0
      daebus dead retry shop --all
    """
    _check_choice(ids, every=every)
    letters = _letters(service, url, spool)
    _each(
        _Deed(service, "retried", "given back", letters.retry, letters.retry_all),
        ids,
        as_json=as_json,
    )


@dead.command("drop")
def drop_dead(
    service: options.Service,
    ids: Ids = None,
    *,
    every: Every = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    url: options.Url = None,
    spool: options.Spool = None,
    as_json: options.AsJson = False,
) -> None:
    """Remove dead letters for good.

    Examples:
      daebus dead drop shop 1795247780123-0
      daebus dead drop shop --all --yes
    """
    _check_choice(ids, every=every)
    letters = _letters(service, url, spool)
    if not yes:
        what = "all dead letters" if every else output.count(len(ids or []), "dead letter")
        if not sys.stdin.isatty():
            raise typer.BadParameter(f"{what} would be lost for good; say --yes if you want that")
        typer.confirm(f"Remove {what} of {printable(service)!r} for good?", abort=True)
    deed = _Deed(service, "dropped", "removed", letters.drop, letters.drop_all)
    _each(deed, ids, as_json=as_json)


@dataclass(frozen=True)
class _Deed:
    """What is done with letters."""

    service: str
    #: Its name in JSON, and in a sentence.
    name: str
    words: str
    one: Callable[[str], bool]
    every: Callable[[], int]


def _each(deed: _Deed, ids: list[str] | None, *, as_json: bool) -> None:
    """Do it with the letters of these ids, or with all; an id that is unknown stops no other."""
    unknown: list[str] = []
    if ids is None:
        done = deed.every()
    else:
        done = 0
        for letter_id in dict.fromkeys(ids):
            if deed.one(letter_id):
                done += 1
            else:
                unknown.append(letter_id)
    if as_json:
        output.show_json({deed.name: done, "unknown": unknown})
    elif done or not unknown:
        output.say(f"{output.count(done, 'dead letter')} {deed.words}")
    if unknown:
        raise _unknown(deed.service, unknown)


def _check_choice(ids: list[str] | None, *, every: bool) -> None:
    if (not ids) is not every:
        raise typer.BadParameter("name ids or give --all, one of them", param_hint="ID")


def _letters(service: str, url: str | None, spool: Path | None) -> DeadLetters:
    place = settings.text("spool", None if spool is None else str(spool))
    return DeadLetters(
        check_service_name(service),
        settings.server_url(url),
        None if place is None else Path(place),
    )


def _unknown(service: str, ids: list[str]) -> typer.Exit:
    names = ", ".join(printable(repr(each)) for each in ids)
    output.fail(
        f"service {service!r} has no dead letter {names}; see 'daebus dead list', on the machine "
        f"of the service for those on disk"
    )
    return typer.Exit(ExitCode.ERROR)


def _table(letters: list[Letter]) -> Table:
    table = output.table(
        "ID",
        "WHERE",
        "FOR",
        "DELIVERIES",
        "AGE",
        "REASON",
        figures={"DELIVERIES"},
        wrapping={"FOR", "REASON"},
    )
    for letter in letters:
        facts = letter.summary()
        name, channel = facts["action"], facts["channel"]
        target = f"channel {channel}" if channel is not None else f"action {name or '?'}"
        more = f" and {len(letter.messages) - 1} more" if len(letter.messages) > 1 else ""
        table.add_row(
            output.cell(letter.letter_id, "bold"),
            output.cell(letter.kind),
            output.cell(target + more),
            output.cell(letter.deliveries),
            output.cell(output.span(time.time() - letter.at)),
            output.cell(letter.reason, "red"),
        )
    return table

"""The command `daebus`: its subcommands, and how errors end it."""

from __future__ import annotations

from importlib.metadata import version
from typing import Annotated

import typer

from daebus.errors import DaebusError
from daebus.operate import (
    burying,
    calling,
    demo,
    listening,
    listing,
    output,
    probing,
    running,
    serving,
)
from daebus.operate.contract.command import contract
from daebus.operate.dashboard.command import dashboard
from daebus.operate.gateway.command import gateway
from daebus.operate.top.command import top

cli = typer.Typer(
    name="daebus",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    # A traceback in a box shows local variables and hides what the user searches for.
    pretty_exceptions_enable=False,
    epilog=output.EXIT_CODES,
)

for command in (
    running.run,
    calling.call,
    calling.send,
    calling.publish,
    listening.listen,
    listing.ps,
    top,
):
    cli.command()(command)
cli.add_typer(burying.dead, name="dead")
cli.command()(dashboard)
cli.add_typer(contract, name="contract")
cli.command()(gateway)
cli.command()(probing.probe)
cli.command()(serving.server)
cli.command()(demo.demo)


def _show_version(is_wanted: bool) -> None:
    if is_wanted:
        output.say(f"daebus {version('daebus')}")
        raise typer.Exit


@cli.callback()
def daebus(
    _version: Annotated[
        bool,
        typer.Option(
            "--version", is_eager=True, callback=_show_version, help="Show the version and exit."
        ),
    ] = False,
) -> None:
    """Services that talk over Redis or Valkey.

    A command that needs a server takes it from --url, else from the environment's
    DAEBUS_URL, else it is redis://localhost:6379. DAEBUS_URL=embedded:// needs
    no server: the bundled one is started.

    Examples:
      daebus demo
      daebus run service:app
      daebus call calculator add '{"a": 1, "b": 2}'
    """


def main() -> None:
    """Run the command line; ends the process with one of the exit codes."""
    output.prepare()
    try:
        cli(prog_name="daebus")
    except DaebusError as error:
        output.fail(str(error))
        raise SystemExit(output.exit_code(error)) from None

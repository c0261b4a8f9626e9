"""The command `turbo-queue`: its subcommands, and how errors end it."""

from __future__ import annotations

import signal
from importlib.metadata import version
from types import FrameType
from typing import Annotated

import typer

from turbo_queue.errors import TurboQueueError
from turbo_queue.operate import (
    benching,
    burying,
    exporting,
    importing,
    looking,
    measuring,
    output,
    recovering,
    running,
    watching,
)
from turbo_queue.operate.output import ExitCode

#: The distribution that this package is a part of.
DISTRIBUTION = "daebus"

cli = typer.Typer(
    name="turbo-queue",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    # A traceback in a box shows local variables and hides what the user searches for.
    pretty_exceptions_enable=False,
    epilog=output.EXIT_CODES,
)

cli.command()(watching.watch)
cli.command()(looking.stats)
cli.command()(looking.peek)
cli.command()(measuring.metrics)
cli.command()(recovering.recover)
cli.add_typer(burying.dead, name="dead")
cli.command()(exporting.export)
cli.command("import")(importing.import_events)
cli.command()(running.run)
cli.command()(benching.bench)


def _show_version(is_wanted: bool) -> None:
    if is_wanted:
        output.say(f"turbo-queue {version(DISTRIBUTION)}")
        raise typer.Exit


@cli.callback()
def turbo_queue(
    _version: Annotated[
        bool,
        typer.Option(
            "--version", is_eager=True, callback=_show_version, help="Show the version and exit."
        ),
    ] = False,
) -> None:
    """A queue for many processes, whose batches are files in a folder.

    PATH is the queue's folder. Settings that a command does not ask for are
    taken from the environment, TURBO_QUEUE_<NAME>, as everywhere. 'run' is for
    pipelines, whose steps have such queues between them.

    Examples:
      turbo-queue watch ./queue
      turbo-queue export ./queue --output events.jsonl
      turbo-queue import ./queue events.jsonl
      turbo-queue run pipeline.toml
    """


def main() -> None:
    """Run the command line; ends the process with one of the exit codes."""
    output.prepare()
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:  # As `nohup` and `&` set it.
        signal.signal(signal.SIGINT, _end)
    try:
        try:
            cli(prog_name="turbo-queue")
        finally:
            output.flush()
    except BrokenPipeError:  # Whoever read the output has seen enough, as `head` does.
        output.discard_rest()
        raise SystemExit(ExitCode.ERROR) from None
    except (TurboQueueError, OSError) as error:
        output.fail(output.described(error))
        output.discard_rest()
        raise SystemExit(ExitCode.ERROR) from None


def _end(number: int, _frame: FrameType | None) -> None:
    raise SystemExit(128 + number)

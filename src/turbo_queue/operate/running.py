"""`turbo-queue run`: a pipeline that a file describes, until it ends or is told to."""

from __future__ import annotations

import logging
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from turbo_queue.errors import PipelineFailed, SettingsError
from turbo_queue.escapes import printable
from turbo_queue.operate import options, output
from turbo_queue.operate.output import ExitCode
from turbo_queue.pipeline.checkup import open_sink, open_source
from turbo_queue.pipeline.configuration import load
from turbo_queue.pipeline.logs import show_logs
from turbo_queue.pipeline.outcome import Outcome
from turbo_queue.pipeline.pipeline import Pipeline


class LogLevel(StrEnum):
    """How much is logged."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


def run(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE",
            help="A TOML file that describes the pipeline.",
            show_default=False,
        ),
    ],
    *,
    processes: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="How many processes do the work. Else what FILE says, else one for each core.",
            show_default=False,
        ),
    ] = None,
    folder: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH",
            help="Where events wait between the steps. Else what FILE says, else a folder beside "
            "FILE with its name.",
            show_default=False,
        ),
    ] = None,
    metrics_port: options.MetricsPort = None,
    metrics_host: options.MetricsHost = None,
    check: Annotated[
        bool,
        typer.Option("--check", help="Only find the work, and open the source and the sink."),
    ] = False,
    retry_dead: Annotated[
        bool,
        typer.Option(
            "--retry-dead", help="Only try the dead letters again; read nothing from the source."
        ),
    ] = False,
    no_progress: Annotated[
        bool, typer.Option("--no-progress", help="Show no counts while it runs.")
    ] = False,
    log_level: Annotated[
        LogLevel, typer.Option(case_sensitive=False, help="What is logged to stderr.")
    ] = LogLevel.INFO,
) -> None:
    r"""Run a pipeline: events from a source, through your work in many processes, to a sink.

    FILE says which; beside it is work.py with the function clean:
      \[pipeline]
      work = "work:clean"
      processes = 4
      \[source]
      type = "json-lines"  # or kafka, queue, redis-stream, channel, module:Class
      path = "orders.jsonl"
      \[sink]
      type = "json-lines"
      path = "clean.jsonl"

    The work is called with each event, and gives None, a result or a list of
    results. An event that raises is tried again, then goes to the dead letters.
    Relative paths are relative to FILE. ${NAME} and ${NAME:-default} in a text
    are taken from the environment, so that no password needs to be in FILE.

    It ends when the source does. Ctrl-C or SIGTERM end it in order before: what
    was read is finished or kept in the folder for the next run, and nothing is
    lost. A second one ends it at once, with nothing lost either.

    Exit codes: 0 all was written, or is kept for the next run, also after a
    signal; 1 an error, or nobody reads the stdout that it writes to any more;
    2 FILE makes no sense; 3 it cannot start, because the source or the sink
    cannot be opened, or the folder or the port is in use; 4 processes had to be
    killed when the grace time was over, so some events may be written twice; 5
    the source has ended, and events are among the dead letters, or in damaged
    files.

    Examples:
      turbo-queue run pipeline.toml
      turbo-queue run pipeline.toml --check
      KAFKA_PASSWORD=... turbo-queue run orders.toml --processes 8
      turbo-queue peek ./orders/dead
      turbo-queue run orders.toml --retry-dead
      turbo-queue run orders.toml --metrics-port 9101
    """
    given = {
        "processes": processes,
        "folder": folder,
        "metrics_port": metrics_port,
        "metrics_host": metrics_host,
    }
    try:
        arguments = load(file, Pipeline)
        arguments |= {name: value for name, value in given.items() if value is not None}
        pipeline = _made(file, arguments)
    except SettingsError as error:
        _end_with(ExitCode.USAGE, str(error))
    show_logs(logging.getLevelNamesMapping()[log_level.name])
    if check:
        _check(file, arguments)
        return
    start = pipeline.retry_dead if retry_dead else pipeline.run
    try:
        outcome = start(progress=not no_progress)
    except PipelineFailed as error:
        _end_with(ExitCode.UNREACHABLE, str(error))
    _tell(pipeline, outcome)
    raise typer.Exit(outcome.exit_code)


def _made(file: Path, arguments: dict[str, Any]) -> Pipeline:
    try:
        return Pipeline(**arguments)
    except SettingsError as error:
        raise SettingsError(f"{file}: [pipeline]: {error}") from error


def _tell(pipeline: Pipeline, outcome: Outcome) -> None:
    """Say what is left to do."""
    if waiting := outcome.counts.waiting:
        output.note(
            f"about {output.count(waiting, 'event')} kept in {pipeline.folder} for the next run", ""
        )
    if damaged := outcome.counts.damaged:
        output.note(
            f"{output.count(damaged, 'file')} set aside as damaged, with the reason: see "
            f"{pipeline.folder}/*/bad",
            "",
        )
    if dead := outcome.counts.dead:
        output.note(
            f"{output.count(dead, 'event')} failed for good; see them with 'turbo-queue peek "
            f"{pipeline.folder / 'dead'}', try them again with --retry-dead",
            "",
        )


def _check(file: Path, arguments: dict[str, Any]) -> None:
    for what, try_it in (("source", open_source), ("sink", open_sink)):
        try:
            try_it(arguments[what])
        except SettingsError as error:
            _end_with(ExitCode.USAGE, f"{file}: [{what}]: {error}")
        except Exception as error:  # noqa: BLE001 - it may be anybody's connector
            _end_with(
                ExitCode.UNREACHABLE, f"the {what} cannot be opened: {output.described(error)}"
            )
    output.say(f"{file} can run: its work was found, its source and its sink were opened.", "green")


def _end_with(code: ExitCode, text: str) -> NoReturn:
    """End the command with an error; what follows its first line is a traceback of the user's."""
    first, *others = text.split("\n")
    output.fail(first)
    for line in others:
        output.note(printable(line), "")
    raise typer.Exit(code)

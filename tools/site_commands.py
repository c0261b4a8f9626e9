"""Write the help of every command into the pages of the reference, from the commands themselves.

A page says where with a line `<!-- commands of MODULE:NAME -->`, NAME being a Typer app.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from html import escape
from importlib import import_module
from textwrap import dedent
from typing import Any

import typer

_MARK = re.compile(r"^<!-- commands of ([\w.]+):(\w+) -->$", re.MULTILINE)
_EXAMPLES = re.compile(r"^Examples?:\n", re.MULTILINE)
#: Lines of a help text that stand further in: what somebody would type, or write into a file.
_SHOWN = re.compile(r"((?:^  .*(?:\n|\Z))+)", re.MULTILINE)


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Put the commands in place of the mark."""
    return _MARK.sub(
        lambda match: commands_of(getattr(import_module(match[1]), match[2])), markdown
    )


def commands_of(app: typer.Typer) -> str:
    """All commands of an app and what they take, as Markdown."""
    root = typer.main.get_command(app)
    return "\n".join(_chapters(root, typer.Context(root, info_name=root.name), 1))


def _chapters(command: Any, context: Any, level: int) -> Iterator[str]:
    yield f"{'#' * (level + 1)} {context.command_path}\n"
    yield f"```text\n{command.get_usage(context).removeprefix('Usage: ')}\n```\n"
    yield _prose(command.help or "")
    yield _table(command, context)
    yield _as_code("\n".join(filter(None, (command.epilog or "").splitlines())), "text")
    for name, child in getattr(command, "commands", {}).items():
        if not child.hidden:
            below = typer.Context(child, info_name=name, parent=context)
            yield from _chapters(child, below, min(level + 1, 3))


def _prose(text: str) -> str:
    """The help's paragraphs, and its examples as they would be typed."""
    # Typer's help needs a backslash before a bracket.
    text = text.strip().replace("\\[", "[")
    paragraphs, examples, *_ = [*_EXAMPLES.split(text, maxsplit=1), ""]
    parts = [
        _as_code(part, "text") if number % 2 else _escaped(part)
        for number, part in enumerate(_SHOWN.split(paragraphs))
    ]
    return "".join([*parts, "\n", _as_code(examples, "bash")])


def _as_code(text: str, language: str) -> str:
    return f"\n```{language}\n{dedent(text).rstrip()}\n```\n" if text else ""


def _table(command: Any, context: Any) -> str:
    records = [
        parameter.get_help_record(context)
        for parameter in command.get_params(context)
        if not getattr(parameter, "hidden", False)
    ]
    rows = [
        f"| `{_line(name)}` | {_line(_escaped(text))} |" for name, text in filter(None, records)
    ]
    return "\n".join(["| argument or option | meaning |", "| --- | --- |", *rows, ""])


def _escaped(text: str) -> str:
    return escape(re.sub(r"([*_|\[\]`])", r"\\\1", text), quote=False)


def _line(text: str) -> str:
    return " ".join(text.split())

"""The help of `daebus top`: its keys, and what its columns mean."""

from __future__ import annotations

from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Static

from daebus.operate.top.places import PLACE_COLUMNS
from daebus.operate.top.rows import SERVICE_COLUMNS


class Help(ModalScreen[None]):
    """The keys, and what the columns mean."""

    DEFAULT_CSS = """
    Help { align: center middle; }
    Help VerticalScroll { width: 76; height: auto; max-height: 90%; padding: 1 2;
                          background: $panel; border: round $primary; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,question_mark,enter,space", "dismiss", "Back"),
    ]

    def compose(self) -> ComposeResult:
        """Text that scrolls on a small terminal."""
        with VerticalScroll():
            yield Static(_help())


def _help() -> Text:
    keys = (
        ("arrows, page up, page down", "move the cursor"),
        ("tab", "go to the other table"),
        ("s or >, <", "sort by the next column, or the last"),
        ("r", "sort the other way round"),
        ("/", "filter by a part of the name"),
        ("escape", "show all again"),
        ("enter or e", "open or close the row"),
        ("space or p", "pause, and go on"),
        ("left, right", "scroll, on a narrow terminal"),
        ("q or ctrl-c", "quit"),
    )
    text = Text.assemble(("Keys\n", "bold"))
    for key, what in keys:
        text.append(f"  {key:<30}{what}\n")
    for title, columns in (("Services", SERVICE_COLUMNS), ("Queues", PLACE_COLUMNS)):
        text.append(f"\n{title}\n", "bold")
        for column in columns:
            text.append(f"  {column.title:<18}{column.meaning}\n")
    return text.append(
        "\nReplicas say every 2 s how they are, so rates and latencies are those of "
        "the last 2 s, or of the time between two looks if that is longer."
    )

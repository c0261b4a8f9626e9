"""The terminal view of `daebus top`. Needs textual, so it is imported only when it is shown."""

from __future__ import annotations

import asyncio
import signal
import threading
from datetime import datetime
from typing import ClassVar

from rich.text import Text
from textual import on
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.widgets import Footer, Input, Static

from daebus.operate.fleet.looking import Looker
from daebus.operate.fleet.views import Fleet
from daebus.operate.fleet.watch import FleetWatch
from daebus.operate.output import count
from daebus.operate.top.help import Help
from daebus.operate.top.places import PLACE_COLUMNS, PLACE_ORDER, place_rows
from daebus.operate.top.rows import SERVICE_COLUMNS, Order, amount, service_rows, shown
from daebus.operate.top.table import FleetTable

_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Looked(Message):
    """What the thread that looks has seen."""

    def __init__(self, fleet: Fleet) -> None:
        super().__init__()
        self.fleet = fleet


class Filter(Input):
    """Where a part of a name is typed; shown only while there is one."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "submit", "Keep it"),
        Binding("down", "submit", show=False),
        Binding("escape", "app.show_all", "Show all"),
    ]


class Top(App[None]):
    """The view: a summary, services, queues and pipelines, and what the cursor's row has to say.

    Args:
        watch: what looks; closed at the end.
        interval_s: the time between two looks, in seconds.
        order: how services are sorted first.
        wanted: a text that names must have in them.
    """

    ENABLE_COMMAND_PALETTE = False
    CSS = """
    Screen { layout: vertical; }
    #summary { height: 1; background: $panel; padding: 0 1; }
    #trouble { height: auto; max-height: 3; background: $error; color: $text; padding: 0 1; }
    #services { height: 1fr; }
    #places { height: auto; max-height: 40%; }
    #detail { height: auto; min-height: 1; max-height: 2; padding: 0 1; background: $panel; }
    #filter { height: 1; border: none; padding: 0 1; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        # Before all others: the keys that come right behind it are for the filter.
        Binding("slash", "filter", "Filter", key_display="/", priority=True),
        Binding("space,p", "pause", "Pause", key_display="space"),
        Binding("tab", "app.focus_next", "Other table"),
        Binding("question_mark", "help", "Help", key_display="?"),
        Binding("q", "quit", "Quit"),
        Binding("escape", "show_all", show=False),
        Binding("ctrl+c", "quit", show=False, priority=True),
    ]

    def __init__(
        self, watch: FleetWatch, interval_s: float, order: Order | None = None, wanted: str = ""
    ) -> None:
        super().__init__()
        self._looker = Looker(watch, interval_s, lambda fleet: self.post_message(Looked(fleet)))
        self._fleet: Fleet | None = None
        self._is_paused = False
        first = order or Order()
        self._services = FleetTable(SERVICE_COLUMNS, service_rows, first, wanted, "services")
        self._places = FleetTable(PLACE_COLUMNS, place_rows, PLACE_ORDER, wanted, "places")
        # Kept here, because a look may come while another screen is shown, or when all ends.
        self._summary = Static(" looking …", id="summary")
        self._trouble = Static(id="trouble")
        self._detail = Static(id="detail")
        self._filter = Filter(placeholder="a part of a name", id="filter")
        self._wanted = wanted

    def compose(self) -> ComposeResult:
        """All parts, from top to bottom."""
        yield self._summary
        yield self._trouble
        yield self._services
        yield self._places
        yield self._detail
        yield self._filter
        yield Footer()

    def on_mount(self) -> None:
        """Begin to look, and end when a signal says so."""
        self._trouble.display = False
        self._filter.value = self._wanted
        self._filter.display = bool(self._wanted)
        self._services.focus()
        if threading.current_thread() is threading.main_thread():
            for number in _ENDING:
                asyncio.get_running_loop().add_signal_handler(number, self.exit)
        self._looker.start()

    def on_unmount(self) -> None:
        """Look no more."""
        self._looker.stop()

    # Keys

    def action_pause(self) -> None:
        """Leave everything as it is, or go on."""
        self._is_paused = not self._is_paused
        self._show_summary()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:  # noqa: ARG002
        """Names may have a slash in them, too."""
        is_free = not isinstance(self.screen, Help) and not isinstance(self.focused, Filter)
        return is_free if action == "filter" else True

    def action_filter(self) -> None:
        """Ask for a part of a name."""
        self._filter.display = True
        self.screen.set_focus(self._filter)  # At once: the next key is a part of the name.

    def action_show_all(self) -> None:
        """Take the filter away."""
        self._filter.value = ""
        self._leave_filter()

    def action_help(self) -> None:
        """Show the keys, and what the columns mean."""
        self.push_screen(Help())

    @on(Input.Changed)
    def _filter_changed(self, event: Input.Changed) -> None:
        self._services.show_only(event.value)
        self._places.show_only(event.value)

    @on(Input.Submitted)
    def _leave_filter(self) -> None:
        if self._filter.has_focus:
            self.screen.set_focus(self._services)
        self._filter.display = bool(self._filter.value)

    # What was seen

    @on(Looked)
    def _show_look(self, message: Looked) -> None:
        if self._is_paused:
            return
        self._fleet = message.fleet
        self._services.show_fleet(message.fleet)
        self._places.show_fleet(message.fleet)
        self._places.display = bool(message.fleet.queues or message.fleet.pipelines)
        self._trouble.update(Text(shown(message.fleet.trouble or "")))
        self._trouble.display = message.fleet.trouble is not None
        self._show_summary()

    @on(FleetTable.Moved)
    def _show_detail(self) -> None:
        table = self._places if self._places.has_focus else self._services
        self._detail.update(table.detail)

    def _show_summary(self) -> None:
        if self._fleet is not None:
            self._summary.update(_summary(self._fleet, is_paused=self._is_paused))


def _summary(fleet: Fleet, *, is_paused: bool) -> Text:
    time = datetime.fromtimestamp(fleet.at).astimezone().strftime("%H:%M:%S")
    replicas = sum(len(service.replicas) for service in fleet.services)
    text = Text(no_wrap=True, overflow="ellipsis").append_text(
        Text.assemble(
            ("daebus top", "bold"),
            f"  {time}  {count(len(fleet.services), 'service')}, {count(replicas, 'replica')}, ",
            (f"{amount(fleet.requests_per_s)} requests/s", "bold"),
        )
    )
    if is_paused:
        text.append("  PAUSED", "bold yellow")
    return text.append(f"  {shown(fleet.address)}")

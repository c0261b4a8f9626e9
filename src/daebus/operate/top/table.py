"""A table of `daebus top`: it draws what is in sight, so it may have thousands of rows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Literal

from rich.text import Text
from textual.binding import Binding, BindingType
from textual.events import Click, Resize
from textual.geometry import Region, Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip

from daebus.operate.fleet.views import Fleet
from daebus.operate.top.rows import Column, Order, Row

#: The first column is never narrower than this, nor wider than that, in characters.
NARROWEST, WIDEST = 12, 60

MakeRows = Callable[[Fleet, Order, str, set[str]], list[Row]]


class FleetTable(ScrollView, can_focus=True):
    """One of the tables. Its cursor stays on its row, wherever that goes.

    Args:
        columns: its columns.
        make_rows: the rows of a fleet.
        order: how they are sorted first.
        wanted: a text that the names must have in them.
        table_id: its id in the view.
    """

    COMPONENT_CLASSES: ClassVar[set[str]] = {"table--head", "table--cursor"}
    DEFAULT_CSS = """
    FleetTable { background: $surface; scrollbar-size: 1 1; overflow-x: auto; }
    FleetTable > .table--head { background: $panel; text-style: bold; }
    FleetTable > .table--cursor { background: $surface-lighten-2; }
    FleetTable:focus > .table--head { background: $primary; }
    FleetTable:focus > .table--cursor { background: $primary-darken-2; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "move(-1)", show=False),
        Binding("down,j", "move(1)", show=False),
        Binding("pageup", "page(-1)", show=False),
        Binding("pagedown", "page(1)", show=False),
        Binding("home", "move(-1_000_000_000)", show=False),
        Binding("end", "move(1_000_000_000)", show=False),
        Binding("left", "scroll_left", show=False),
        Binding("right", "scroll_right", show=False),
        Binding("enter,e", "open", "Open"),
        Binding("s,greater_than_sign", "sort(1)", "Sort", key_display="s"),
        Binding("less_than_sign", "sort(-1)", show=False),
        Binding("r", "reverse", "Reverse"),
    ]

    class Moved(Message):
        """The row under the cursor is another one, or says something else."""

    def __init__(
        self,
        columns: tuple[Column[Any], ...],
        make_rows: MakeRows,
        order: Order,
        wanted: str,
        table_id: str,
    ) -> None:
        super().__init__(id=table_id)
        self._columns = columns
        self._make_rows = make_rows
        self._rows: list[Row] = []
        self._opened: set[str] = set()
        self._cursor = 0
        self._order = order
        self._fleet: Fleet | None = None
        self._wanted = wanted

    # What the view tells it

    def show_fleet(self, fleet: Fleet) -> None:
        """Show this from now on."""
        self._fleet = fleet
        self._refresh_rows()

    def show_only(self, wanted: str) -> None:
        """Show only what has this text in its name."""
        self._wanted = wanted
        self._refresh_rows()

    @property
    def detail(self) -> Text:
        """All there is to say about the row under the cursor."""
        return self._rows[self._cursor].detail if self._rows else Text()

    # Keys and mouse

    def action_move(self, by: int) -> None:
        """Move the cursor by so many rows."""
        self._move_to(self._cursor + by)

    def action_page(self, by: int) -> None:
        """Move the cursor by so many pages."""
        self._move_to(self._cursor + by * max(self.size.height - 1, 1))

    def action_sort(self, by: int) -> None:
        """Sort by another column."""
        self._order = self._order.moved(by, len(self._columns))
        self._refresh_rows()

    def action_reverse(self) -> None:
        """Sort the other way round."""
        self._order = self._order.reversed()
        self._refresh_rows()

    def action_open(self) -> None:
        """Open or close the row under the cursor, or the one that it belongs to."""
        if not self._rows:
            return
        owner = self._rows[self._cursor].owner
        self._opened ^= {owner}
        self._refresh_rows(under_cursor=owner)

    def on_click(self, event: Click) -> None:
        """A click on a title sorts, one on a row moves the cursor there."""
        if event.y:
            self._move_to(self.scroll_offset.y + event.y - 1)
            return
        end = 0
        for number, width in enumerate(self._widths()):
            end += width + 1
            if event.x + self.scroll_offset.x < end:
                is_same = number == self._order.column
                self._order = self._order.reversed() if is_same else Order(number)
                break
        self._refresh_rows()

    # Drawing

    def render_line(self, y: int) -> Strip:
        """One line of it: the titles, or a row."""
        left, width = self.scroll_offset.x, self.size.width
        number = y - 1 + self.scroll_offset.y
        style = self.rich_style
        if y == 0:
            cells, style = self._titles(), self.get_component_rich_style("table--head")
        elif number < len(self._rows):
            cells = self._rows[number].cells
            if number == self._cursor:
                style = self.get_component_rich_style("table--cursor")
        else:
            cells = ()
        line = Text(end="", no_wrap=True)
        for at, (cell, room) in enumerate(zip(cells, self._widths(), strict=False)):
            # Between two columns there is room for the mark of a title.
            line.append_text(_fitted(cell, room + 1, "right") if at else _fitted(cell, room))
        strip = Strip(line.render(self.app.console))
        return strip.crop_extend(left, left + width, style).apply_style(style)

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:  # noqa: ARG002
        """As high as its rows need, where its height is `auto`."""
        return len(self._rows) + 1

    def on_focus(self) -> None:
        """The row under its cursor is the one to speak of."""
        self.post_message(self.Moved())

    def on_resize(self, _: Resize) -> None:
        """The first column takes what room there is."""
        self._set_size()

    def _refresh_rows(self, under_cursor: str | None = None) -> None:
        if self._fleet is None:
            return
        key = under_cursor or (self._rows[self._cursor].key if self._rows else None)
        before = len(self._rows)
        self._rows = self._make_rows(self._fleet, self._order, self._wanted, self._opened)
        kept = next((at for at, row in enumerate(self._rows) if row.key == key), self._cursor)
        self._set_size()
        # Who has not moved the cursor looks at the top of the table, not at a row.
        self._move_to(kept if self._cursor or under_cursor else 0)
        self.refresh(layout=len(self._rows) != before)

    def _move_to(self, row: int) -> None:
        self._cursor = max(0, min(row, len(self._rows) - 1))
        region = Region(self.scroll_offset.x, self._cursor, 1, 2)
        self.scroll_to_region(region, animate=False, force=True, x_axis=False)
        self.refresh()
        self.post_message(self.Moved())

    def _set_size(self) -> None:
        self.virtual_size = Size(sum(self._widths()) + len(self._columns) - 1, len(self._rows) + 1)

    def _widths(self) -> list[int]:
        others = [column.width for column in self._columns[1:]]
        room = self.scrollable_content_region.width - sum(others) - len(others)
        return [max(NARROWEST, min(room, WIDEST)), *others]

    def _titles(self) -> tuple[Text, ...]:
        titles = [column.title for column in self._columns]
        at, mark = self._order.column, self._order.mark
        titles[at] = f"{mark}{titles[at]}" if at else f"{titles[at]}{mark}"
        return tuple(map(Text, titles))


def _fitted(cell: Text, room: int, side: Literal["left", "right"] = "left") -> Text:
    fitted = cell.copy()
    fitted.truncate(room, overflow="ellipsis")
    fitted.align(side, room)
    return fitted

"""The service that `daebus demo` calls."""

from __future__ import annotations

from hashlib import sha256
from threading import Event

from daebus import Daebus, response

app = Daebus("demo", processes=2)

_headlines: list[str] = []
_orders: list[int] = []


@app.action("add")
def add(a: int, b: int) -> int:
    """Add two numbers; the hints say which payloads are right."""
    return a + b


@app.action("build_report")
def build_report(parts: int) -> str:
    """Tell about the progress, and then the result."""
    work = Event()
    for part in range(1, parts + 1):
        work.wait(0.1)
        response.send({"part": part, "of": parts}, final=False)
    return f"a report of {parts} parts"


@app.listen("demo.news")
def on_news(news: dict[str, str]) -> None:
    """Take what is broadcast."""
    _headlines.append(news["headline"])


@app.action("headlines")
def headlines() -> list[str]:
    """What was broadcast so far."""
    return _headlines


@app.action("mine", workers="process")
def mine(block: str, zeros: int) -> int:
    """Keep a core busy: find a number that gives a hash with so many zeros in front."""
    number = 0
    while not sha256(f"{block}{number}".encode()).hexdigest().startswith("0" * zeros):
        number += 1
    return number


@app.listen("demo.orders", durable=True)
def on_order(order: dict[str, int]) -> None:
    """Take what is broadcast, also while the service is down."""
    _orders.append(order["id"])


@app.action("orders")
def orders() -> list[int]:
    """Which orders came so far."""
    return _orders

"""The service that `daebus demo` calls."""

from __future__ import annotations

from threading import Event

from daebus import Daebus, response

app = Daebus("demo")

_headlines: list[str] = []


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

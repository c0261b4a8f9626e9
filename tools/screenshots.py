"""Makes the pictures of the documentation anew: `python tools/screenshots.py [NAME ...]`.

Real services under a small load, on a server of their own, seen by the real views.
"""

from __future__ import annotations

import asyncio
import logging
import random
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic
from typing import Literal

from playwright.sync_api import Page, ViewportSize, sync_playwright

from daebus import Daebus, DaebusCaller
from daebus.bus.embedded import EmbeddedServer
from daebus.errors import RemoteError
from daebus.operate.fleet.watch import FleetWatch
from daebus.operate.top.rows import Order
from daebus.operate.top.view import Top
from turbo_queue import Queue
from turbo_queue.connectors import IterableSource, JsonLinesSink
from turbo_queue.pipeline import Pipeline

ASSETS = Path(__file__).parents[1] / "docs" / "assets"

#: How long the services work before a picture is taken, in seconds: replicas speak every 2 s.
WARM_UP_S = 5.0

#: How long a page is open before its charts have something to show, in seconds.
DRAW_S = 60.0

#: The browser, without a window.
CHROMIUM = "/usr/bin/chromium"

#: What each service is asked for, and how many times a second.
LOAD = {"billing": ("charge", 60), "mail": ("send", 15), "shop": ("order", 300)}


def service(name: str, url: str, spool: Path) -> Daebus:
    """A service whose handlers take a moment, and fail now and then."""
    app = Daebus(name, url=url, spool=spool, delivery="stream" if name == "mail" else "pubsub")

    @app.action(LOAD[name][0])
    def work(number: int) -> int:
        threading.Event().wait(random.expovariate(1 / 0.004))
        if name == "billing" and number % 40 == 0:
            raise ValueError("card refused")
        return number

    @app.action("status")
    def status() -> str:
        return "open"

    return app


@contextmanager
def load(name: str, url: str) -> Iterator[None]:
    """Calls a service at its pace."""
    stop = threading.Event()
    action, per_s = LOAD[name]

    def call() -> None:
        with DaebusCaller(name, url) as caller:
            number, began = 0, monotonic()
            while not stop.wait(max(began + number / per_s - monotonic(), 0)):
                number += 1
                try:
                    caller.call(action, {"number": number})
                except RemoteError:
                    pass

    thread = threading.Thread(target=call)
    thread.start()
    yield
    stop.set()
    thread.join()


@contextmanager
def fleet() -> Iterator[tuple[str, Path]]:
    """Services, a queue and a pipeline at work; gives the server's address and their folder."""
    with TemporaryDirectory() as place, ExitStack() as stack:
        folder = Path(place)
        url = stack.enter_context(EmbeddedServer(folder / "server")).url
        for name in ("billing", "mail", "shop", "shop"):
            app = service(name, url, folder / "spool")
            app.start()
            stack.callback(app.stop)
        for name in LOAD:
            stack.enter_context(load(name, url))
        stack.enter_context(events(folder / "queues" / "clicks"))
        leave_a_pipeline(folder / "queues" / "orders", folder / "orders.jsonl")
        yield url, folder


@contextmanager
def events(path: Path) -> Iterator[None]:
    """A queue whose events come faster than they go."""
    queue, stop = Queue(path, max_events_per_file=500), threading.Event()

    def put() -> None:
        with queue.producer() as producer:
            while not stop.wait(0.01):
                producer.put_many({"click": number} for number in range(12))

    def take() -> None:
        with queue.consumer() as consumer:
            for _ in consumer:
                if stop.wait(0.001):
                    return

    threads = [threading.Thread(target=each) for each in (put, take)]
    for thread in threads:
        thread.start()
    yield
    stop.set()
    for thread in threads:
        thread.join()


def leave_a_pipeline(folder: Path, results: Path) -> None:
    """A pipeline that has ended, and left a dead letter."""
    source, sink = IterableSource(range(2000)), JsonLinesSink(results)
    Pipeline(source, not_13, sink, folder=folder, processes=1, attempts=1).run(progress=False)


def not_13(number: int) -> int:
    """Fails once."""
    if number == 13:  # noqa: PLR2004
        raise ValueError("13")
    return number


def top(url: str, folder: Path) -> None:
    """`daebus top`, with one service open."""
    view = Top(FleetWatch(url, [folder / "queues"], folder / "spool"), 1.0, Order(2))

    async def look() -> str:
        async with view.run_test(size=(100, 18)) as pilot:
            await pilot.pause(WARM_UP_S)
            await pilot.press("enter")
            await pilot.pause(1.2)
            return view.export_screenshot(title="daebus top")

    # The pages fetch nothing from elsewhere: without this it would be a font.
    svg = re.sub(r"@font-face \{.*?\}", "", asyncio.run(look()), flags=re.DOTALL)
    # The address is a path of this machine.
    (ASSETS / "top.svg").write_text(re.sub(r"unix:[^<]*", "", svg))


def dashboard(url: str, folder: Path) -> None:
    """`daebus dashboard`: all services."""
    with dashboard_page(url, folder, "light") as page:
        page.wait_for_timeout(DRAW_S * 1000)
        picture(page, "dashboard.png")


def dashboard_call(url: str, folder: Path) -> None:
    """`daebus dashboard`: an action is called, and its responses come."""
    app = Daebus("reports", url=url, spool=folder / "spool")

    @app.action("build")
    def build(year: int, currency: Literal["EUR", "USD"] = "EUR") -> str:
        """Build the report of a year, and tell how far it is."""
        for part in range(1, 4):
            threading.Event().wait(1)
            app.response.send({"part": part, "of": 3}, final=False)
        return f"the report of {year} in {currency}"

    app.start()
    try:
        with dashboard_page(url, folder, "dark") as page:
            page.get_by_role("link", name="reports").click()
            page.get_by_label("year").fill("2026")
            page.get_by_role("button", name="Call", exact=True).click()
            page.get_by_text("2 responses so far").wait_for()
            page.evaluate("scrollTo(0, document.querySelector('.two').parentNode.offsetTop - 68)")
            picture(page, "dashboard-call.png")
    finally:
        app.stop()


@contextmanager
def dashboard_page(url: str, folder: Path, scheme: Literal["light", "dark"]) -> Iterator[Page]:
    """The dashboard in a browser."""
    command = ["dashboard", "--url", url, "--port", "0", "--no-token", "--folder", str(folder)]
    with (
        subprocess.Popen(
            [sys.executable, "-m", "daebus", *command], stdout=subprocess.PIPE, text=True
        ) as served,
        sync_playwright() as playwright,
    ):
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        try:
            size: ViewportSize = {"width": 1280, "height": 720}
            page = browser.new_page(viewport=size, color_scheme=scheme)
            page.goto(next(iter(served.stdout or ())))
            yield page
        finally:
            browser.close()
            served.terminate()


def picture(page: Page, name: str) -> None:
    """Take it, without the server's address, which is a path of this machine."""
    page.evaluate("document.getElementById('server').textContent = ''")
    page.screenshot(path=ASSETS / name)


#: By the name of the file.
PICTURES: dict[str, Callable[[str, Path], None]] = {
    "top.svg": top,
    "dashboard.png": dashboard,
    "dashboard-call.png": dashboard_call,
}


def main() -> None:
    """Make those that are named, or all."""
    logging.disable()  # Handlers fail on purpose.
    with fleet() as (url, folder):
        for name in sys.argv[1:] or PICTURES:
            PICTURES[name](url, folder)
            print(f"made {ASSETS / name}")


if __name__ == "__main__":
    main()

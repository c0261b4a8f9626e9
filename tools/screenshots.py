"""Makes the pictures of the documentation anew: `python tools/screenshots.py [NAME ...]`.

Real services under a small load, on a server of their own, seen by the real views.
"""

from __future__ import annotations

import asyncio
import logging
import random
import re
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic

from daebus import Daebus, DaebusCaller
from daebus.bus.embedded import EmbeddedServer
from daebus.errors import RemoteError
from daebus.operate.fleet_watch import FleetWatch
from daebus.operate.top_rows import Order
from daebus.operate.top_view import Top
from turbo_queue import Queue
from turbo_queue.connectors import IterableSource, JsonLinesSink
from turbo_queue.pipeline import Pipeline

ASSETS = Path(__file__).parents[1] / "docs" / "assets"

#: How long the services work before a picture is taken, in seconds: replicas speak every 2 s.
WARM_UP_S = 5.0

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


#: By the name of the file.
PICTURES: dict[str, Callable[[str, Path], None]] = {"top.svg": top}


def main() -> None:
    """Make those that are named, or all."""
    logging.disable()  # Handlers fail on purpose.
    with fleet() as (url, folder):
        for name in sys.argv[1:] or PICTURES:
            PICTURES[name](url, folder)
            print(f"made {ASSETS / name}")


if __name__ == "__main__":
    main()

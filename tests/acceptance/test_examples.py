"""Every example runs by one command, and does what it says."""

from __future__ import annotations

import json
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from daebus import DaebusCaller, RemoteError
from fixtures.commands import COMMAND, daebus
from fixtures.processes import Process, Processes
from fixtures.queue_commands import queue_command
from fixtures.waiting import eventually
from turbo_queue.pipeline import Pipeline
from turbo_queue.pipeline.configuration import load

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.usefixtures("url")

Example = Callable[..., Process]


@pytest.fixture
def example(processes: Processes) -> Iterator[Example]:
    """Run an example; at the end SIGTERM stops it, with exit code 0."""
    started: list[Process] = []

    def run(name: str) -> Process:
        started.append(processes.run([sys.executable, f"examples/{name}.py"], cwd=ROOT))
        started[-1].wait_for("is ready")
        return started[-1]

    yield run
    for process in started:
        process.signal(signal.SIGTERM)
        assert process.wait() == 0, process.output


def test_there_is_a_test_for_each_example() -> None:
    here = {"accounts", "calculator", "heartbeat", "many_calls", "orders", "pipeline", "report"}
    tested = here | {"deploy"}  # In test_deploy.py.

    names = {path.stem for path in (ROOT / "examples").iterdir() if path.name != "__pycache__"}
    assert names == tested


def test_calculator(example: Example, processes: Processes) -> None:
    example("calculator")

    with DaebusCaller("calculator", timeout=10.0) as caller:
        assert caller.call("mean", {"points": [{"x": 1, "y": 2}, {"x": 3}]}) == {"x": 2, "y": 1}
        with pytest.raises(RemoteError, match=r"\$\.a"):
            caller.call("divide", {"a": "seven"})
    many = processes.run([sys.executable, "examples/many_calls.py"], cwd=ROOT)
    assert many.wait() == 0
    assert many.lines == [
        "one call: 3.5\n",
        "a thousand at once: 124875.0\n",
        "an error: ZeroDivisionError: float division by zero\n",
    ]


def test_report(example: Example) -> None:
    example("report")

    lines = daebus("call", "report", "build", '{"year": 2026}').out.splitlines()

    assert [json.loads(line).get("quarter") for line in lines] == [1, 2, 3, 4, None]
    assert json.loads(lines[-1]) == {"year": 2026, "total": 42_000}


def test_orders(example: Example) -> None:
    process = example("orders")

    with DaebusCaller("orders", timeout=10.0) as caller:
        assert caller.call("place", {"article": "tea", "count": 2}) == {"listeners": 2}
        eventually(lambda: caller.call("sold") == {"tea": 2})
    process.wait_for("orders.placed: {'article': 'tea', 'count': 2}")


def test_accounts(example: Example) -> None:
    example("accounts")

    with DaebusCaller("accounts", timeout=10.0) as caller:
        with pytest.raises(RemoteError, match="there is no user 'ada'"):
            caller.call("billing.invoice", {"name": "ada", "cents": 1250})
        assert caller.call("users.create", {"name": "ada"}) == {"name": "ada", "is_new": True}
        assert caller.call("billing.invoice", {"name": "ada", "cents": 1250})["amount"] == "12.50"
    assert daebus("run", "examples.accounts:make_app", "--check", cwd=ROOT).code == 0


def test_heartbeat(example: Example, processes: Processes) -> None:
    listener = processes.run([*COMMAND, "listen", "heartbeat", "--json", "-n", "3"])
    listener.wait_for("Listening")
    process = example("heartbeat")

    assert listener.wait() == 0
    beats = [json.loads(line)["payload"] for line in listener.lines[1:]]
    assert {beat["pid"] for beat in beats} == {process.pid}


def test_pipeline(tmp_path: Path, processes: Processes) -> None:
    shutil.copytree(ROOT / "examples" / "pipeline", tmp_path / "pipeline")
    folder = tmp_path / "pipeline"
    made = processes.run([sys.executable, "make_orders.py", "orders.jsonl", "1000"], cwd=folder)
    assert made.wait() == 0

    done = queue_command("run", folder / "pipeline.toml")

    assert done.code == 0, done.err
    orders = [json.loads(line) for line in (folder / "clean.jsonl").read_text().splitlines()]
    assert sorted(order["id"] for order in orders) == [n for n in range(1_000) if n % 100]
    assert {tuple(order) for order in orders} == {("id", "buyer", "cents")}
    assert load(folder / "kafka.toml", Pipeline)["work"] == "work:clean"

"""`daebus demo`: what daebus is for, on real parts."""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import as_completed
from contextlib import ExitStack, contextmanager
from pathlib import Path
from time import perf_counter
from types import FrameType

import typer
from rich.progress import Progress

from daebus.bus.broadcast import Broadcast
from daebus.bus.embedded import EmbeddedServer
from daebus.bus.presence import find_replicas
from daebus.client.caller import DaebusCaller
from daebus.deadline import Deadline
from daebus.errors import BadRequest
from daebus.operate import output
from daebus.operate.output import ExitCode

SERVICE = "demo"
CALLS = 1_000

#: How long any single step may take, in seconds.
STEP_S = 20.0


def demo() -> None:
    """See a service answer real requests over a real server, in a few seconds.

    It starts a private Valkey and a service in a process of its own, calls it
    in every way that there is, and stops both. Nothing is left behind, and
    nothing else is touched.

    Example:
      daebus demo
    """
    with ExitStack() as stack:
        stack.enter_context(_ending_on_sigterm())
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="daebus-demo-")))
        _step("A server", "the Valkey that comes with daebus, on a socket that only you may use")
        valkey = stack.enter_context(EmbeddedServer(folder / "valkey"))
        _result(f"{valkey.url} (pid {valkey.pid})")
        _step("A service", "a real process; this is all that it takes to start one")
        with (
            _service(valkey.url, folder) as service,
            DaebusCaller(SERVICE, valkey.url, timeout=STEP_S) as caller,
        ):
            _request(caller)
            _wrong_type(caller)
            _stream(caller)
            _broadcast(caller, valkey.url)
            _many(caller)
            _processes(caller)
            _stop(service)
        _send_order(valkey.url)
        with (
            _service(valkey.url, folder),
            DaebusCaller(SERVICE, valkey.url, timeout=STEP_S) as caller,
        ):
            _see_order(caller)
    output.say("\nThe service and the server have ended; nothing is left behind.", "bold green")
    output.say("Its code: daebus/operate/demo_service.py. Next: daebus --help")


def _request(caller: DaebusCaller) -> None:
    _step("A request", "a handler's result comes back as the reply")
    _code('caller.call("add", {"a": 20, "b": 22})')
    begin = perf_counter()
    answer = caller.call("add", {"a": 20, "b": 22})
    _result(f"{answer}, in {(perf_counter() - begin) * 1000:.1f} ms")


def _wrong_type(caller: DaebusCaller) -> None:
    _step("A wrong type", "def add(a: int, b: int) is checked before the handler runs")
    _code('caller.call("add", {"a": "twenty", "b": 22})')
    try:
        caller.call("add", {"a": "twenty", "b": 22})
    except BadRequest as error:
        _result(f"BadRequest: {error.message}")


def _stream(caller: DaebusCaller) -> None:
    _step("A stream", "a handler sends its progress, and the result last")
    _code('for response in caller.stream("build_report", {"parts": 3}): ...')
    for response in caller.stream("build_report", {"parts": 3}):
        _result(output.as_json(response))


def _broadcast(caller: DaebusCaller, url: str) -> None:
    _step("A broadcast", "published to a channel; every listener gets it, nobody replies")
    _code('broadcast.send("demo.news", {"headline": "it works"})')
    broadcast = Broadcast(url)
    try:
        receivers = broadcast.send("demo.news", {"headline": "it works"})
    finally:
        broadcast.close()
    heard = _heard(caller, "headlines")
    _result(f"{output.count(receivers, 'receiver')}; the service has heard {output.as_json(heard)}")


def _many(caller: DaebusCaller) -> None:
    _step(f"{CALLS:,} calls at once", "submit() does not wait; each call ends in one answer")
    _code(f'futures = [caller.submit("add", {{"a": n, "b": 1}}) for n in range({CALLS})]')
    begin = perf_counter()
    with Progress(console=output.out, disable=not output.out.is_terminal) as progress:
        task = progress.add_task("answered", total=CALLS)
        futures = [caller.submit("add", {"a": n, "b": 1}) for n in range(CALLS)]
        for _ in as_completed(futures):
            progress.advance(task)
    elapsed_s = perf_counter() - begin
    right = sum(future.result() == n + 1 for n, future in enumerate(futures))
    _result(f"{right:,} right answers in {elapsed_s:.2f} s: {right / elapsed_s:,.0f} calls/s")
    if right != CALLS:
        raise _failed(f"{CALLS - right} answers were wrong")


def _processes(caller: DaebusCaller) -> None:
    _step("Work that keeps a core busy", "in two processes of the service, beside its threads")
    _code('@app.action("mine", workers="process")')
    _code(
        'futures = [caller.submit("mine", {"block": f"block {n}", "zeros": 4}) for n in range(8)]'
    )
    begin = perf_counter()
    futures = [
        caller.submit("mine", {"block": f"block {number}", "zeros": 4}) for number in range(8)
    ]
    thread_begin = perf_counter()
    caller.call("add", {"a": 1, "b": 1})
    thread_s = perf_counter() - thread_begin
    found = [future.result() for future in futures]
    _result(
        f"{output.as_json(found)} in {perf_counter() - begin:.2f} s; meanwhile an action in a "
        f"thread took {thread_s * 1000:.1f} ms"
    )


def _send_order(url: str) -> None:
    _step("A message that waits", "a durable listener gets it, though the service is down now")
    _code('@app.listen("demo.orders", durable=True)')
    _code('broadcast.send("demo.orders", {"id": 7})')
    broadcast = Broadcast(url)
    try:
        broadcast.send("demo.orders", {"id": 7})
    finally:
        broadcast.close()


def _see_order(caller: DaebusCaller) -> None:
    _result(f"the service was started again, and has the orders {_heard(caller, 'orders')}")


def _heard(caller: DaebusCaller, action: str) -> list[object]:
    """What a listener has heard, once that is anything: it runs in another thread."""
    deadline = Deadline.after(STEP_S)
    while not (heard := caller.call(action)):
        if deadline.has_passed():
            raise _failed("the service has heard nothing")
    found: list[object] = heard
    return found


def _stop(service: subprocess.Popen[bytes]) -> None:
    _step("A stop", "SIGTERM lets the service finish what is in progress")
    service.terminate()
    code = service.wait(STEP_S)
    _result(f"the service ended with exit code {code}")
    if code != 0:
        raise _failed("it should have been 0")


@contextmanager
def _service(url: str, folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The service in a process of its own, ready; it is gone at the end."""
    log_path = folder / "service.log"
    arguments = ["run", "daebus.operate.demo_service:app", "--service", SERVICE]
    _code(f"daebus {' '.join(arguments)}")
    with log_path.open("ab") as log:
        process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "daebus",
                *arguments,
                "--url",
                url,
                "--spool",
                f"{folder}/spool",
            ],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,  # Ctrl-C is for the demo, which ends the service.
        )
    try:
        deadline = Deadline.after(STEP_S)
        pause = threading.Event()
        while not (replicas := find_replicas(url, SERVICE)):
            if process.poll() is not None or deadline.has_passed():
                raise _failed(f"the service did not start:\n{log_path.read_text(errors='replace')}")
            pause.wait(0.02)
        actions = ", ".join(replicas[0].actions)
        _result(f"pid {replicas[0].pid} answers the actions {actions}")
        yield process
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


@contextmanager
def _ending_on_sigterm() -> Iterator[None]:
    """Let SIGTERM clean up like Ctrl-C does."""

    def on_signal(number: int, _frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, on_signal)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _failed(text: str) -> typer.Exit:
    output.fail(text)
    return typer.Exit(ExitCode.ERROR)


def _step(title: str, text: str) -> None:
    output.say("")
    output.out.print(f"[bold cyan]{title}[/]: {text}")


def _code(text: str) -> None:
    output.say(f"    {text}", "dim")


def _result(text: str) -> None:
    output.say(f"    -> {text}", "green")

"""What happens to worker processes costs nobody but the message that they had (F7, F42, F43)."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from queue import SimpleQueue
from time import monotonic

import pytest

from daebus import (
    Broadcast,
    Daebus,
    DaebusCaller,
    HandlerTimeout,
    Overloaded,
    RemoteError,
    ServiceStopping,
    WorkerDied,
    request,
)
from daebus.bus.embedded import EmbeddedServer
from fixtures import process_handlers
from fixtures.pids import is_alive
from fixtures.processes import Process, Processes
from fixtures.waiting import eventually
from turbo_queue import Queue

Start = Callable[[Daebus], DaebusCaller]

PROGRAM = """
import json, sys
from daebus import Daebus
from fixtures import process_handlers
app = process_handlers.register(Daebus("fault", **json.loads(sys.argv[2])))
app.run(sys.argv[1])
"""

each_start_method = pytest.mark.parametrize("start_method", ["fork", "spawn"])


def make_app(**settings: object) -> Daebus:
    return process_handlers.register(Daebus("app", **{"processes": 2, **settings}))


def start_program(started: Processes, service: str, url: str, **settings: object) -> Process:
    path = os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    process = started.python(
        PROGRAM,
        service,
        json.dumps({"processes": 2, **settings}),
        env={"DAEBUS_URL": url, "PYTHONPATH": path},
    )
    process.wait_for("is ready at")
    return process


def queue_of(spool: Path, service: str) -> Queue:
    (folder,) = spool.glob(f"{service}-*")
    return Queue(folder / "0" / "work", codec="raw")


def pids_of(caller: DaebusCaller, number: int = 2) -> set[int]:
    """The workers' process ids, once so many work side by side."""

    def answering() -> set[int]:
        calls = [caller.submit("sleep", {"seconds": 0.05}) for _ in range(number)]
        return {call.result() for call in calls}

    found: set[int] = set()
    eventually(lambda: found.clear() or found.update(answering()) or len(found) == number)
    return found


@each_start_method
def test_a_handler_that_never_returns_ends_at_its_limit(start: Start, start_method: str) -> None:
    caller = start(make_app(processes=1, start_method=start_method))
    began = monotonic()

    with pytest.raises(HandlerTimeout, match="longer than its 1 s"):
        caller.call("limited", {"seconds": 1000})

    assert 1.0 <= monotonic() - began <= 1.5
    assert caller.call("echo", 1) == 1


@pytest.mark.parametrize(
    ("kind", "how"),
    [("kill", "was killed by SIGKILL"), ("crash", "was killed by SIGSEGV"), ("exit", "code 3")],
)
def test_the_caller_and_the_dead_letter_say_how_the_worker_ended(
    start: Start, spool: Path, service_name: str, kind: str, how: str
) -> None:
    caller = start(make_app())

    with pytest.raises(WorkerDied) as raised:
        caller.call("task", {"kind": kind})

    assert re.search(rf"of 'task' died 3 times; the last time it .*{how}", raised.value.message)
    queue = queue_of(spool, service_name)
    eventually(lambda: len(queue.dead) == 1)
    (dead,) = queue.dead
    assert (dead.reason, dead.failures) == (raised.value.message, 3)
    assert caller.call("task", {"kind": "good"}) == "good"


@pytest.mark.timeout(120)
@each_start_method
def test_bad_tasks_fail_alone(
    start: Start, spool: Path, service_name: str, start_method: str
) -> None:
    app = make_app(start_method=start_method)
    caller = start(app)
    kinds = ["good"] * 300
    for place, kind in zip(range(0, 300, 25), ["kill", "exit", "crash", "raise"] * 3, strict=True):
        kinds[place] = kind

    calls = [(kind, caller.submit("task", {"kind": kind}, timeout=60)) for kind in kinds]
    outcomes = Counter(
        (kind, call.result() if call.exception() is None else call.exception().code)
        for kind, call in calls
    )

    assert outcomes == {
        ("good", "good"): 288,
        ("kill", "worker_died"): 3,
        ("exit", "worker_died"): 3,
        ("crash", "worker_died"): 3,
        ("raise", "handler_error"): 3,
    }
    assert len(pids_of(caller)) == 2
    eventually(lambda: len(queue_of(spool, service_name).dead) == 9)
    assert app.stats().errors == 12


@pytest.mark.timeout(120)
@each_start_method
def test_workers_that_are_killed_under_load_cost_nobody_an_answer(
    start: Start, start_method: str
) -> None:
    app = make_app(start_method=start_method)
    caller = start(app)
    calls = []
    for _ in range(10):
        calls += [caller.submit("sleep", {"seconds": 0.005}, timeout=60) for _ in range(30)]
        os.kill(calls[-20].result(), signal.SIGKILL)

    errors = [call.exception() for call in calls]

    # Each is tried again, and nobody is killed three times.
    assert errors == [None] * 300
    assert len(pids_of(caller)) == 2
    # Not one is waited for that will not come.
    eventually(lambda: (app.stats().in_progress, app.stats().backlog) == (0, 0))


@each_start_method
def test_an_idle_worker_that_is_killed_is_back_within_a_second(
    start: Start, start_method: str
) -> None:
    caller = start(make_app(start_method=start_method))
    took_s = []

    for _ in range(3):
        before = pids_of(caller)
        began = monotonic()
        for pid in before:
            os.kill(pid, signal.SIGKILL)
        after = pids_of(caller)
        took_s.append(monotonic() - began)
        assert not before & after

    assert min(took_s) < 1.0, took_s  # A new interpreter on a busy machine takes longer.


@each_start_method
def test_no_worker_outlives_its_service(
    url: str, service_name: str, processes: Processes, tmp_path: Path, start_method: str
) -> None:
    program = start_program(processes, service_name, url, start_method=start_method)
    with DaebusCaller(service_name, url) as caller:
        pids = pids_of(caller)
        calls = [caller.submit("hold_the_gil", {"path": str(tmp_path / "begun")})]
        eventually((tmp_path / "begun").exists)
        calls.append(caller.submit("sleep", {"seconds": 1000}))

        program.kill()
        eventually(lambda: not any(is_alive(pid) for pid in pids), timeout_s=2.0)

        for call in calls:
            call.cancel()


@pytest.mark.parametrize("start_method", ["fork", "spawn", "forkserver"])
def test_sigterm_to_all_processes_lets_the_running_handlers_finish(
    url: str, service_name: str, processes: Processes, start_method: str
) -> None:
    program = start_program(processes, service_name, url, processes=8, start_method=start_method)
    with DaebusCaller(service_name, url) as caller:
        pids = pids_of(caller, 8)
        calls = [caller.submit("sleep", {"seconds": 0.5}) for _ in range(8)]
        assert caller.call("in_a_thread")  # The eight have come by now.

        os.killpg(program.pid, signal.SIGTERM)

        assert {call.result(10) for call in calls} == pids
    assert program.wait() == 0
    assert "cut off" not in program.output
    assert "died" not in program.output


def test_a_handler_that_never_returns_ends_with_a_service_whose_fork_server_has_gone(
    url: str, service_name: str, processes: Processes
) -> None:
    settings = {"processes": 1, "start_method": "forkserver", "grace": 0.3}
    program = start_program(processes, service_name, url, **settings)
    with DaebusCaller(service_name, url) as caller:
        pid = caller.call("pid")
        call = caller.submit("sleep", {"seconds": 60})
        caller.call("in_a_thread", 1)

        os.killpg(program.pid, signal.SIGTERM)

        assert isinstance(call.exception(), ServiceStopping)
    assert program.wait() == 0
    eventually(lambda: not is_alive(pid), timeout_s=2.0)


def test_a_stop_tells_those_that_it_cuts_off_and_keeps_what_nobody_waits_for(
    start: Start, broadcaster: Broadcast, service_name: str, tmp_path: Path, spool: Path
) -> None:
    app = make_app(grace=0.3, max_attempts=1)
    caller = start(app)
    begun = tmp_path / "note.begun"
    broadcaster.send(
        "slow_notes", {"path": str(tmp_path / "note"), "seconds": 60, "text": "written"}
    )
    call = caller.submit("sleep", {"seconds": 60})
    eventually(lambda: begun.exists() and app.stats().in_progress == 2)

    app.stop()
    assert isinstance(call.exception(), ServiceStopping)
    assert len(list(queue_of(spool, service_name).peek())) == 1
    begun.unlink()
    app.start(service_name)

    # That it was killed then is no failure of its own.
    eventually(begun.exists)
    assert app.stats().in_progress == 1
    app.stop()
    shutil.rmtree(queue_of(spool, service_name).path)


def test_what_a_killed_service_left_is_handled_at_the_next_start(
    url: str,
    service_name: str,
    processes: Processes,
    broadcaster: Broadcast,
    spool: Path,
    tmp_path: Path,
) -> None:
    program = start_program(processes, service_name, url)
    note = tmp_path / "note"
    for number in range(6):
        broadcaster.send("slow_notes", {"path": str(note), "seconds": 0.3, "text": number})
    queue = queue_of(spool, service_name)
    eventually(lambda: (queue.stats().ready.batches, queue.stats().chosen.batches) == (4, 2))

    program.kill()
    program.wait()
    assert not note.exists()
    start_program(processes, service_name, url)

    eventually(lambda: note.exists() and set(note.read_text().split()) == set("012345"))
    eventually(lambda: not list(queue.peek()))


def test_what_a_dead_replica_left_is_handled_by_another(
    url: str,
    service_name: str,
    processes: Processes,
    broadcaster: Broadcast,
    spool: Path,
    tmp_path: Path,
) -> None:
    replicas = [start_program(processes, service_name, url) for _ in range(2)]
    note = tmp_path / "note"
    for number in range(4):
        broadcaster.send("slow_notes", {"path": str(note), "seconds": 0.5, "text": number})
    (folder,) = spool.glob(f"{service_name}-*")
    queues = [Queue(folder / number / "work", codec="raw") for number in ("0", "1")]
    eventually(lambda: [queue.stats().chosen.batches for queue in queues] == [2, 2])

    for replica in replicas:
        replica.kill()
        replica.wait()
    start_program(processes, service_name, url)

    # Each replica had each message, as a listener of its own.
    eventually(lambda: note.exists() and sorted(note.read_text().split()) == list("00112233"))
    assert not list(queues[1].peek())


def test_a_message_of_an_earlier_run_that_runs_too_long_is_not_tried_again(
    start: Start,
    url: str,
    service_name: str,
    processes: Processes,
    broadcaster: Broadcast,
    spool: Path,
    tmp_path: Path,
) -> None:
    program = start_program(processes, service_name, url)
    note = tmp_path / "note"
    broadcaster.send("deliveries", {"path": str(note), "seconds": 60})
    eventually(note.exists)
    program.kill()
    program.wait()

    app = Daebus("app", processes=1)
    app.listen("deliveries", workers="process", timeout=0.3)(process_handlers.note_delivery)
    start(app)

    eventually(lambda: app.stats().incidents.get("handler_timeout") == 1)
    queue = queue_of(spool, service_name)
    eventually(lambda: not [*queue.peek(), *queue.peek(state="chosen")])
    assert note.read_text().split() == ["1", "2"]


@pytest.mark.parametrize("overflow", ["spill", "reject"])
def test_what_waited_for_a_process_is_not_lost_when_its_handler_moves_to_a_thread(
    start: Start,
    broadcaster: Broadcast,
    service_name: str,
    tmp_path: Path,
    spool: Path,
    overflow: str,
) -> None:
    app, note = make_app(grace=0.2, processes=1), tmp_path / "note"
    start(app)
    for number in range(3):
        broadcaster.send("slow_notes", {"path": str(note), "seconds": 60, "text": number})
    eventually(lambda: (app.stats().in_progress, app.stats().backlog) == (1, 2))
    app.stop()

    heard: list[tuple[object, int]] = []
    app = Daebus("app", processes=1, overflow=overflow)
    app.action("pid", workers="process")(process_handlers.pid)

    @app.listen("slow_notes")
    def hear(data: dict[str, object]) -> None:
        heard.append((data["text"], request.delivery_count))

    start(app)

    if overflow == "spill":
        eventually(lambda: set(heard) == {(0, 2), (1, 1), (2, 1)})
    else:
        eventually(lambda: len(queue_of(spool, service_name).dead) == 3)
        assert not heard


def test_a_message_that_a_stop_cut_off_is_marked_when_it_is_handled_again(
    start: Start, broadcaster: Broadcast, service_name: str, tmp_path: Path, spool: Path
) -> None:
    note = tmp_path / "note"
    app = make_app(grace=0.2)
    start(app)
    broadcaster.send("deliveries", {"path": str(note), "seconds": 60})
    eventually(note.exists)

    app.stop()
    app.start(service_name)

    eventually(lambda: note.read_text().split() == ["1", "2"])
    app.stop()
    shutil.rmtree(queue_of(spool, service_name).path)


def test_what_waited_for_processes_is_handled_by_a_service_that_has_none_any_more(
    start: Start, broadcaster: Broadcast, tmp_path: Path, service_name: str
) -> None:
    note = tmp_path / "note"
    app = make_app(grace=0.2)
    start(app)
    broadcaster.send("deliveries", {"path": str(note), "seconds": 60})
    eventually(note.exists)
    app.stop()

    heard: SimpleQueue[tuple[int, str]] = SimpleQueue()
    other = Daebus("other")
    other.listen("deliveries")(lambda data: heard.put((other.request.delivery_count, data["path"])))
    other.start(service_name)

    assert heard.get(timeout=10) == (2, str(note))
    other.stop()


def test_what_nobody_waits_for_is_not_lost_while_the_folder_cannot_be_used(
    start: Start, broadcaster: Broadcast, service_name: str, tmp_path: Path, spool: Path
) -> None:
    app, note = make_app(), tmp_path / "note"
    caller = start(app)
    assert caller.call("echo", 1) == 1
    path = queue_of(spool, service_name).path
    path.rename(path.with_name("away"))
    broadcaster.send("notes.late", {"path": str(note), "text": "late"})
    eventually(lambda: app.stats().incidents.get("not_handed_over") == 1)

    path.with_name("away").rename(path)

    eventually(lambda: note.exists() and note.read_text().split() == ["late"])


def test_a_message_that_meets_the_closed_queue_of_a_stop_is_kept(
    start: Start, broadcaster: Broadcast, service_name: str, tmp_path: Path, spool: Path
) -> None:
    app, note = make_app(grace=0.2), tmp_path / "note"
    caller = start(app)
    assert caller.call("echo", 1) == 1
    queue_of(spool, service_name).close()
    broadcaster.send("notes.late", {"path": str(note), "text": "late"})
    eventually(lambda: app.stats().incidents.get("not_handed_over") == 1)

    app.stop()
    assert not note.exists()
    app.start(service_name)

    eventually(lambda: note.exists() and note.read_text().split() == ["late"])


def test_the_log_says_which_worker_died_of_what_and_where(
    url: str, service_name: str, processes: Processes
) -> None:
    program = start_program(processes, service_name, url, max_attempts=1, start_method="spawn")
    with DaebusCaller(service_name, url) as caller:
        with pytest.raises(WorkerDied, match="died once; the last time it exited with code 3"):
            caller.call("task", {"kind": "exit"})
        with pytest.raises(RemoteError, match="TwoArguments"):
            caller.call("task", {"kind": "raise"})

    program.wait_for("died and is replaced: it exited with code 3, in the handler of 'task'")
    program.wait_for("'task' failed: TwoArguments: 1: no")


def test_a_message_that_finds_no_room_on_disk_is_refused(
    start: Start, spool: Path, service_name: str
) -> None:
    app = make_app(processes=1)
    caller = start(app)
    assert caller.call("echo", 1) == 1
    queue = queue_of(spool, service_name)
    eventually(lambda: not list(queue.peek(state="chosen")))
    shutil.rmtree(queue.path)

    with pytest.raises(Overloaded, match="could not be handed to a worker process"):
        caller.call("echo", 1)

    assert app.stats().incidents["not_handed_over"] >= 1


def test_a_worker_waits_for_a_server_that_is_away(own_server: EmbeddedServer) -> None:
    app = make_app(url=own_server.url, processes=1)
    app.start("svc")
    with DaebusCaller("svc", own_server.url) as caller:
        pid = caller.call("pid")

        own_server.kill()
        own_server.start()

        def answers() -> bool:
            try:
                return caller.call("pid") == pid
            except ConnectionError:
                return False

        eventually(answers)
    app.stop()

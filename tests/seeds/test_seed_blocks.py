"""Every code block of the documents that define daebus runs as it is written.

`blocks/` holds them to the letter; what a block only assumes (imports, an `app`, a database) is put
around it here. Two blocks are no programs: the sketch of a `try` around a handler, whose behaviour
`tests/daebus` shows, and a call of `redis-cli`.
"""

from __future__ import annotations

import json
import re
import signal
import textwrap
from pathlib import Path

import pytest
import redis

from daebus import Broadcast, DaebusCaller, RemoteError
from fixtures.listening import Subscriber
from fixtures.processes import Process, Processes
from fixtures.waiting import eventually

BLOCKS = Path(__file__).parent / "blocks"

IMPORTS = """
import random, threading, time
from daebus import *
"""

APP = IMPORTS + 'app = Daebus("seed")\n'


def block(name: str) -> str:
    return (BLOCKS / name).read_text()


def serve(processes: Processes, program: str, env: dict[str, str] | None = None) -> Process:
    """Run a program and wait until its service is ready."""
    service = processes.python(program, env=env)
    service.wait_for("is ready at")
    return service


def stop(service: Process) -> None:
    service.signal(signal.SIGTERM)
    assert service.wait() == 0, service.output


def serve_fragment(processes: Processes, name: str, before: str = "", *, service: str) -> Process:
    return serve(processes, f"{APP}\n{before}\n{block(name)}\napp.run({service!r})")


def test_max_workers_of_the_first_block(url: str, service_name: str) -> None:
    scope: dict[str, object] = {}
    exec(IMPORTS + block("c01_max_workers.py"), scope)
    app = scope["app"]

    app.start(service_name)
    workers = app.stats().max_workers
    app.stop()

    assert workers == 20


def test_app_request_and_app_response(url: str, processes: Processes) -> None:
    service = serve_fragment(processes, "c02_request_and_response.py", service="seed_c02")

    with DaebusCaller("seed_c02") as caller:
        assert caller.call("process_data", {"any": 1}) == {"result": "processed"}
    stop(service)


def test_the_counter_counts_every_increment(url: str, processes: Processes) -> None:
    service = serve_fragment(processes, "c03_counter.py", service="seed_c03")

    with DaebusCaller("seed_c03") as caller:
        futures = [caller.submit("increment") for _ in range(200)]
        values = {future.result()["new_value"] for future in futures}

    assert values == set(range(1, 201))
    stop(service)


def test_a_thread_runs_beside_messages_and_ends_with_the_service(
    url: str, processes: Processes
) -> None:
    more = '@app.action("names")\ndef names(): return [t.name for t in threading.enumerate()]'
    service = serve_fragment(processes, "c04_thread.py", more, service="seed_c04")

    with DaebusCaller("seed_c04") as caller:
        assert "daebus-thread-data_processor" in caller.call("names")
    stop(service)


def test_a_thousand_messages_at_once_are_all_processed(url: str, processes: Processes) -> None:
    service = serve(processes, block("c05_complete.py"))

    with DaebusCaller("concurrent_service") as caller:
        futures = [
            caller.submit("process", {"id": number, "process_time": 0.001})
            for number in range(1000)
        ]
        ids = sorted(future.result()["id"] for future in futures)

    assert ids == list(range(1000))
    stop(service)


def test_get_status_answers_and_logs(url: str, processes: Processes) -> None:
    service = serve(processes, block("p01_get_status.py"))

    with DaebusCaller("system_monitor") as caller:
        status = caller.send_request("get_status", {"verbose": True})

    assert status == {"status": "healthy", "uptime": 3600, "memory_usage": "128MB"}
    service.wait_for("Received status request: {'verbose': True}")
    stop(service)


def test_a_listener_hears_what_is_published(
    url: str, processes: Processes, broadcaster: Broadcast
) -> None:
    service = serve(processes, block("p02_listen.py"))

    receivers = broadcaster.send("system_events", {"type": "shutdown"})

    assert receivers == 1
    service.wait_for("Received system event: shutdown")
    stop(service)


@pytest.mark.parametrize(
    ("name", "task", "channel", "printed"),
    [
        ("p03_heartbeat.py", "send_heartbeat", "monitoring", "Heartbeat sent to 1 listeners"),
        ("p17_complete.py", "report_status", "monitoring", "Status report sent"),
    ],
)
def test_a_background_task_is_scheduled_and_publishes(
    url: str, processes: Processes, name: str, task: str, channel: str, printed: str
) -> None:
    # Nobody waits a minute here: the task's schedule is read, and the task is run by an action.
    program = f"""
    from daebus.service.app import Daebus
    source = {block(name)!r}
    scope = {{"__name__": "seed"}}
    exec(source, scope)
    app = scope["app"]
    [task] = app.registry.background.values()
    print("every", task.schedule, "seconds:", task.name)
    app.action("run_now")(lambda: scope[{task!r}]())
    app.run("seed_background")
    """
    service = serve(processes, program)

    with DaebusCaller("seed_background") as caller, Subscriber(url, channel) as subscriber:
        caller.call("run_now")
        message = subscriber.next()

    assert message["service"] in {"web_service", "data_processor"}
    service.wait_for("every 60 seconds")
    service.wait_for(printed)
    stop(service)


def test_the_request_object_has_its_parts(url: str, processes: Processes) -> None:
    service = serve_fragment(processes, "p04_request_object.py", service="seed_p04")

    with DaebusCaller("seed_p04") as caller:
        assert caller.call("process_data", {"user_id": 1, "type": "x"}) == {"processed": True}
    stop(service)


def test_a_successful_response_is_the_payload(url: str, processes: Processes) -> None:
    service = serve_fragment(processes, "p05_create_user.py", service="seed_p05")

    with DaebusCaller("seed_p05") as caller:
        user = caller.send_request("create_user", {"name": "Ada"})

    assert (user["id"], user["name"]) == ("user123", "Ada")
    stop(service)


DATABASE = """
class Database:
    def get_record(self, record_id):
        if record_id == "broken":
            raise OSError("the disk is gone")
        return {"id": record_id} if record_id == "there" else None

database = Database()
"""


def test_errors_say_what_the_handler_said(url: str, processes: Processes) -> None:
    service = serve_fragment(processes, "p06_fetch_record.py", DATABASE, service="seed_p06")

    with DaebusCaller("seed_p06") as caller:
        found = caller.send_request("fetch_record", {"id": "there"})
        errors = [
            caller.send_request("fetch_record", {"id": wanted})
            for wanted in ("", "absent", "broken")
        ]

    assert found == {"id": "there"}
    assert errors == [
        {"status": "error", "error": "Missing record ID"},
        {"status": "error", "error": "Record not found: absent"},
        {"status": "error", "error": "the disk is gone"},
    ]
    stop(service)


CHUNKS = """
def chunks(items, size):
    return [items[start : start + size] for start in range(0, len(items), size)]

def process_chunk(chunk):
    pass
"""


def test_a_stream_gives_its_progress_and_its_end(url: str, processes: Processes) -> None:
    service = serve_fragment(processes, "p07_large_dataset.py", CHUNKS, service="seed_p07")

    with DaebusCaller("seed_p07") as caller:
        parts = list(caller.stream("process_large_dataset", {"dataset": list(range(250))}))
        whole = caller.send_request("process_large_dataset", {"dataset": list(range(250))})

    assert [part["progress"] for part in parts] == [0, 40, 80, 100]
    assert whole == {"status": "complete", "progress": 100, "total_processed": 250}
    stop(service)


OTHERS = """
@app.action("create_user")
def create_user():
    if not request.payload.get("name"):
        return response.error("no name")
    return {"id": "u1"}

@app.action("send_email")
def send_email(): return {"sent_to": request.payload["email"]}
"""


def test_a_service_calls_others_and_closing_its_callers_does_no_harm(
    url: str, processes: Processes
) -> None:
    users = serve(processes, f"{APP}\n{OTHERS}\napp.run('user_service')")
    emails = serve(processes, f"{APP}\n{OTHERS}\napp.run('notification_service')")
    program = f"{IMPORTS}\n{block('p08_register_user.py')}\napp.run('seed_p08')"
    service = serve(processes, program)

    results = []
    with DaebusCaller("seed_p08") as caller:

        def handled() -> int:
            figures = caller.call("daebus.stats")["figures"]  # Of what was handled, once it was.
            return figures["register_user"]["handled"] if "register_user" in figures else 0

        for number in (1, 2):
            results.append(caller.call("register_user", {"name": "Ada", "email": "a@b"}))
            # It closes the callers of all handlers, after its response.
            eventually(lambda number=number: handled() == number)
        with pytest.raises(RemoteError, match="User creation failed: no name"):
            caller.call("register_user", {"email": "a@b"})

    assert results == [{"user": {"id": "u1"}, "notification": {"sent_to": "a@b"}}] * 2
    for each in (service, users, emails):
        stop(each)


@pytest.mark.parametrize(
    ("name", "channel", "action"),
    [
        ("p09_send_to_service.py", "logger_service", "log_event"),
        ("p10_send_message.py", "metrics_service", "record_metric"),
        ("p11_broadcast.py", "user_events", None),
    ],
)
def test_one_way_messages_arrive(url: str, name: str, channel: str, action: str | None) -> None:
    scope: dict[str, object] = {}

    with Subscriber(url, channel) as subscriber:
        exec(IMPORTS + block(name), scope)
        message = subscriber.next()
    Broadcast.close(scope["broadcast"])

    if action is None:
        assert message["type"] == "user_registered"
    else:
        assert message["action"] == action
        assert "reply_to" not in message


def test_a_blueprint_serves_its_handlers(
    url: str, processes: Processes, broadcaster: Broadcast
) -> None:
    service = serve(processes, IMPORTS + block("p12_blueprint.py"))

    with DaebusCaller("user_service") as caller:
        assert caller.call("get_user", {"id": 7}) == {"id": 7, "name": "Example User"}
    assert broadcaster.send("user_events", {}) == 1
    stop(service)


def test_the_standard_formats_are_spoken_to_a_bare_client(url: str, processes: Processes) -> None:
    user = json.loads(block("p14_response.json"))["payload"]
    action = f'@app.action("get_user")\ndef get_user(): return {user!r}'
    service = serve(processes, f"{APP}\n{action}\napp.run('seed_wire')")

    with Subscriber(url, "caller_123456") as subscriber, redis.Redis.from_url(url) as client:
        client.publish("seed_wire", block("p13_request.json"))
        reply = subscriber.next()

    assert reply == json.loads(block("p14_response.json"))
    stop(service)


def test_the_direct_logger_works_in_a_background_task(url: str, processes: Processes) -> None:
    program = f"""
    scope = {{"__name__": "seed"}}
    exec({block("p15_direct_logger.py")!r}, scope)
    app = scope["app"]
    [task] = app.registry.background.values()
    app.action("run_now")(lambda: task.function())
    app.run("seed_p15")
    """
    service = serve(processes, program)

    with DaebusCaller("seed_p15") as caller:
        caller.call("run_now")

    service.wait_for("Cleanup job completed")
    stop(service)


def test_the_complete_example(url: str, processes: Processes, broadcaster: Broadcast) -> None:
    service = serve(processes, block("p17_complete.py"))

    with DaebusCaller("data_processor") as caller, Subscriber(url, "service_status") as status:
        summed = caller.send_request("process_data", {"data": [1, 2, 3]})
        empty = caller.send_request("process_data", {})
        broken = caller.send_request("process_data", {"data": ["a"]})
        broadcaster.send("system_events", {"type": "shutdown_request"})
        told = status.next()
        eventually(
            lambda: caller.send_request("get_status", {})["status"] == "shutting_down",
        )

    assert (summed["input_size"], summed["result"]) == (3, 6)
    assert empty == {"status": "error", "error": "No data provided"}
    assert broken["error"].startswith("Processing failed: ")
    assert told["status"] == "shutting_down"
    stop(service)


def test_debug_shows_each_message_and_a_caller_tests_the_service(
    url: str, processes: Processes
) -> None:
    scope_app = IMPORTS + block("p16_worker_threads.py").replace("__name__", '"seed"')
    action = '@app.action("get_status")\ndef get_status(): return {"status": "healthy"}'
    service = serve(processes, f"{scope_app}\n{action}\n{block('p18_debug.py')}")

    client = processes.python(block("p19_test_individually.py"))

    assert client.wait() == 0, client.output
    assert client.output == "Response: {'status': 'healthy'}\n"
    service.wait_for("get_status")
    stop(service)


def test_no_block_is_forgotten() -> None:
    tests = (Path(__file__), Path(__file__).with_name("test_queue_blocks.py"))
    source = "".join(path.read_text() for path in tests)
    forgotten = [
        path.name
        for path in BLOCKS.iterdir()
        if path.suffix in {".py", ".json", ".txt"}
        and f'"{path.name}"' not in re.sub(r"'", '"', source)
    ]

    assert forgotten == []
    assert len(list(BLOCKS.iterdir())) == 28


def test_the_blocks_are_programs() -> None:
    for path in BLOCKS.glob("*.py"):
        compile(textwrap.dedent(path.read_text()), path.name, "exec")

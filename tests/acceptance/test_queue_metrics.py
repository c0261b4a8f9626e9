"""`turbo-queue metrics` and `run --metrics-port`: the real commands, asked over HTTP."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
from pathlib import Path

from fixtures.processes import Processes
from fixtures.queue_commands import QUEUE_COMMAND, filled, queue_command
from fixtures.status import get, metric, samples, scraped, url_in, value
from fixtures.waiting import eventually


def test_queues_are_printed_as_metrics(tmp_path: Path) -> None:
    filled(tmp_path / "a", range(10))
    filled(tmp_path / "b", range(20))

    done = queue_command("metrics", tmp_path / "a", tmp_path / "b")

    assert (done.code, done.err) == (0, "")
    seen = samples(done.out)
    for name, events in (("a", 10), ("b", 20)):
        queue = str(tmp_path / name)
        assert value(seen, "turbo_queue_events", queue=queue, state="ready") == events
        assert value(seen, "turbo_queue_batches", queue=queue, state="ready") == 1
        assert value(seen, "turbo_queue_events_in_total", queue=queue) == events
        assert value(seen, "turbo_queue_up", queue=queue) == 1
        assert value(seen, "turbo_queue_oldest_batch_age_seconds", queue=queue, state="ready") >= 0


def test_a_folder_may_be_called_anything(tmp_path: Path) -> None:
    name = 'a "b"\\\n' + os.fsdecode(b"\xff")
    filled(tmp_path / name, range(10))

    done = queue_command("metrics", tmp_path / name)

    assert (done.code, done.err) == (0, "")
    (up,) = [one for one in samples(done.out) if one.name == "turbo_queue_up"]
    assert up.labels == {"queue": f"{tmp_path}/" + 'a "b"\\\n\\udcff'}


def test_queues_are_served_until_a_signal(tmp_path: Path, processes: Processes) -> None:
    queue = filled(tmp_path / "queue", range(10))
    command = [*QUEUE_COMMAND, "metrics", str(queue.path), "--metrics-port", "0"]
    process = processes.run(command)
    process.wait_for("metrics are at")
    url = re.search(r"http://[\d.:]+", process.output)[0]  # type: ignore[index]

    assert metric(url, "turbo_queue_events", state="ready") == 10
    assert get(url, "live") == get(url, "ready") == (200, "ok\n")
    with queue.consumer() as consumer:
        batch = consumer.take()
        assert metric(url, "turbo_queue_events", state="chosen") == 10
        assert metric(url, "turbo_queue_consumers") == 1
        assert batch is not None
        batch.acknowledge()
    assert metric(url, "turbo_queue_events_out_total") == 10
    process.signal(signal.SIGTERM)
    assert process.wait() == 0


def test_a_queue_that_cannot_be_read_is_down_and_the_others_are_told(
    tmp_path: Path, processes: Processes
) -> None:
    queues = {name: filled(tmp_path / name, [1]) for name in ("good", "gone", "bad")}
    paths = [str(queue.path) for queue in queues.values()]
    process = processes.run([*QUEUE_COMMAND, "metrics", *paths, "--metrics-port", "0"])
    process.wait_for("metrics are at")
    url = re.search(r"http://[\d.:]+", process.output)[0]  # type: ignore[index]
    shutil.rmtree(queues["gone"].path)
    (queues["bad"].path / "bad").rmdir()
    (queues["bad"].path / "bad").touch()

    seen = scraped(url)
    assert [value(seen, "turbo_queue_up", queue=path) for path in paths] == [1, 0, 0]
    assert value(seen, "turbo_queue_events", queue=paths[0], state="ready") == 1


def test_without_the_extra_it_says_what_to_install(tmp_path: Path, processes: Processes) -> None:
    filled(tmp_path / "queue", [1])
    code = """
        import sys
        sys.modules["prometheus_client"] = None
        from turbo_queue.operate.cli import main
        main()
    """
    process = processes.python(code, "metrics", str(tmp_path / "queue"))

    assert process.wait() == 1
    assert process.output.endswith("pip install 'daebus[metrics]'\n")
    assert process.output.count("\n") == 1


FILE = """
[pipeline]
work = "json:dumps"
processes = 1
{more}

[source]
type = "queue"
queue = "queue"

[sink]
type = "json-lines"
path = "out.jsonl"
"""


def test_a_pipeline_serves_its_metrics_and_ends_with_exit_code_0(
    tmp_path: Path, processes: Processes
) -> None:
    filled(tmp_path / "queue", range(10))
    path = tmp_path / "job.toml"
    path.write_text(FILE.format(more=""))
    process = processes.run([*QUEUE_COMMAND, "run", str(path), "--metrics-port", "0"])
    process.wait_for("metrics and probes are at")
    url = str(url_in(process.output))

    eventually(lambda: get(url, "ready") == (200, "ok\n"))
    eventually(
        lambda: metric(url, "turbo_queue_pipeline_events_written_total", pipeline="job") == 10
    )
    process.signal(signal.SIGTERM)
    assert process.wait() == 0


def test_a_pipeline_whose_port_is_in_use_does_not_start(tmp_path: Path) -> None:
    filled(tmp_path / "queue", range(10))
    path = tmp_path / "job.toml"
    with socket.create_server(("127.0.0.1", 0)) as taken:
        number = taken.getsockname()[1]
        path.write_text(FILE.format(more=f"metrics_port = {number}"))
        done = queue_command("run", path)

    assert done.code == 3
    assert f"error: the pipeline cannot start: the metrics port {number} at '127.0.0.1'" in done.err
    assert done.err.count("\n") == 1

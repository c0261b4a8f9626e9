"""`turbo-queue run`: the real command and real signals, and nothing lost whatever ends it."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from fixtures.lines import whole_lines
from fixtures.processes import Process, Processes
from fixtures.queue_commands import QUEUE_COMMAND, queue_command, queue_command_on_a_terminal
from fixtures.waiting import eventually
from turbo_queue import Queue

WORK = """
import logging
import time


def double(event):
    return {"id": event["id"], "double": 2 * event["id"]}


def slow(event):
    time.sleep(0.002)
    return double(event)


def picky(event):
    if event["id"] == 7:
        raise ValueError("seven is right out")
    return double(event)


def forging(event):
    raise ValueError("\\n2026-01-01 00:00:00,000 ERROR   forged\\x1b[2J")


def telling(event):
    logging.getLogger("work").info("this is\\nevent %d", event["id"])


def stuck(event):
    print("stuck", flush=True)
    time.sleep(60)
"""

FILE = """
[pipeline]
work = "work:{work}"
processes = 2
retry_pause = 0.05
batch_events = 100
{more}

[source]
type = "json-lines"
path = "in.jsonl"

[sink]
type = "json-lines"
path = "out.jsonl"
"""


class Job:
    """A pipeline's file, with its input and its output beside it."""

    def __init__(self, folder: Path, processes: Processes) -> None:
        self.folder = folder
        self._processes = processes
        (folder / "work.py").write_text(WORK)

    def write(self, work: str, events: int, more: str = "") -> Path:
        """Write the input and the file; gives the file's path."""
        lines = "".join(f'{{"id":{number}}}\n' for number in range(events))
        (self.folder / "in.jsonl").write_text(lines)
        path = self.folder / "job.toml"
        path.write_text(FILE.format(work=work, more=more))
        return path

    def start(self, path: Path, *options: str) -> Process:
        """Run it in a session of its own."""
        return self._processes.run([*QUEUE_COMMAND, "run", str(path), *options])

    @property
    def written(self) -> list[int]:
        """The numbers of the events that are in the output."""
        return sorted(json.loads(line)["id"] for line in whole_lines(self.folder / "out.jsonl"))


@pytest.fixture
def job(tmp_path: Path, processes: Processes) -> Job:
    return Job(tmp_path, processes)


def test_it_runs_to_the_end_of_its_source(job: Job) -> None:
    done = queue_command("run", job.write("double", 1_000))

    assert (done.code, done.out) == (0, "")
    assert "INFO    turbo_queue.pipeline  job: ended after" in done.err
    assert "in 1,000, out 1,000 (" in done.err
    assert "waiting 0, failed 0\n" in done.err
    assert job.written == list(range(1_000))


def test_options_stand_above_the_file(job: Job) -> None:
    path = job.write("double", 10)

    done = queue_command("run", path, "--processes", 1, "--folder", job.folder / "elsewhere")

    assert done.code == 0
    assert (job.folder / "elsewhere" / "in").is_dir()
    assert not (job.folder / "job").exists()


def test_no_progress_and_a_higher_log_level_say_nothing(job: Job) -> None:
    done = queue_command("run", job.write("double", 10), "--no-progress", "--log-level", "warning")

    assert (done.code, done.out, done.err) == (0, "", "")


def test_dead_letters_are_told_looked_at_and_tried_again(job: Job) -> None:
    path = job.write("picky", 20)

    done = queue_command("run", path)
    peeked = queue_command("peek", job.folder / "job" / "dead")
    job.write("double", 20)
    again = queue_command("run", path, "--retry-dead")

    assert done.code == 5
    assert "1 event failed for good; see them with 'turbo-queue peek" in done.err
    letter = json.loads(peeked.out)
    assert letter["value"] == {"$utf8": '{"id":7}'}
    assert letter["headers"][0] == [
        "turbo-queue-error",
        {"$utf8": "ValueError: seven is right out"},
    ]
    assert again.code == 0
    assert job.written == list(range(20))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_in_order_and_the_next_run_does_the_rest(job: Job, number: int) -> None:
    path = job.write("slow", 2_000, "max_ready_files = 2")
    process = job.start(path)
    eventually(lambda: job.written)

    os.killpg(process.pid, number)  # As a terminal does for Ctrl-C: to all of its processes.

    assert process.wait() == 0, process.output
    assert 0 < len(job.written) < 2_000
    assert queue_command("run", path).code == 0
    assert job.written == list(range(2_000)), "some were lost or written twice"


def test_a_second_signal_ends_it_at_once_and_loses_nothing(job: Job) -> None:
    path = job.write("stuck", 100, "grace = 30.0")
    process = job.start(path)
    process.wait_for("stuck")

    os.killpg(process.pid, signal.SIGINT)
    process.wait_for("a second signal ends it at once")
    os.killpg(process.pid, signal.SIGINT)

    assert process.wait(10) == 4, process.output
    assert "for the next run" in process.output
    job.write("double", 100)
    assert queue_command("run", path).code == 0
    assert set(job.written) == set(range(100))


def test_work_that_does_not_end_is_killed_when_the_grace_time_is_over(job: Job) -> None:
    process = job.start(job.write("stuck", 10, "grace = 0.2"))
    process.wait_for("stuck")

    process.signal(signal.SIGTERM)

    assert process.wait(10) == 4, process.output


def test_a_typo_ends_it_with_one_line(job: Job) -> None:
    path = job.write("duoble", 10)

    done = queue_command("run", path)

    assert (done.code, done.out) == (2, "")
    assert done.err.count("\n") == 1
    assert done.err.startswith(f"error: {path}: [pipeline]: there is no 'duoble' in ")
    assert done.err.endswith("work.py (did you mean 'double'?)\n")
    assert not (job.folder / "out.jsonl").exists()


def test_a_setting_that_makes_no_sense_ends_it_with_one_line(job: Job) -> None:
    path = job.write("double", 10, "attempts = 0")

    done = queue_command("run", path)

    assert done.code == 2
    assert done.err == (
        f"error: {path}: [pipeline]: attempts is 0; it must be a whole number from 1 on\n"
    )


def test_a_source_that_cannot_be_opened_is_told(job: Job) -> None:
    path = job.write("double", 10)
    (job.folder / "in.jsonl").unlink()

    checked, done = queue_command("run", path, "--check"), queue_command("run", path)

    assert (checked.code, done.code) == (3, 3)
    assert checked.err.startswith("error: the source cannot be opened: No such file or directory")
    assert done.err.splitlines()[-1].startswith("error: the pipeline cannot start: ")
    assert "the source cannot be opened: [Errno 2] No such file or directory" in done.err
    assert done.err.count("\n") == 2, "more was said than by the process and by the command"


def test_stdout_that_is_closed_is_told(job: Job, processes: Processes) -> None:
    path = job.write("double", 10)
    path.write_text(path.read_text().replace('"out.jsonl"', '"-"'))

    process = processes.run(["sh", "-c", '"$@" >&-', "sh", *QUEUE_COMMAND, "run", str(path)])

    assert process.wait() == 3, process.output
    assert "stdout is closed; name a file" in process.output


def test_a_reader_of_stdout_that_has_seen_enough_ends_it_and_nothing_is_lost(
    job: Job, processes: Processes
) -> None:
    path = job.write("double", 20_000)
    path.write_text(path.read_text().replace('"out.jsonl"', '"-"'))
    shell = '{ "$@"; echo "exit code $?" >&2; } | head -n 2'

    first = processes.run(["sh", "-c", shell, "sh", *QUEUE_COMMAND, "run", str(path)])
    first.wait()
    confirmed = Queue(job.folder / "job" / "out").stats().traffic.events_out
    rest = queue_command("run", path)

    assert all(line.startswith('{"id":') for line in first.lines[:2])
    said, code = first.lines[2:]
    assert said.startswith("error: whoever read stdout has gone; about ")
    assert said.endswith(f"events wait in '{job.folder}/job' for the next run\n")
    assert code == "exit code 1\n"
    assert rest.code == 0
    written = {json.loads(line)["id"] for line in rest.out.splitlines()}
    assert len(written) == 20_000 - confirmed


def test_a_package_that_is_missing_is_told_with_how_to_install_it(
    job: Job, processes: Processes
) -> None:
    path = job.write("double", 10)
    path.write_text(path.read_text().replace('"json-lines"', '"kafka"', 1))
    code = """
        import sys

        sys.modules["confluent_kafka"] = None
        from turbo_queue.operate.cli import main

        main()
    """

    process = processes.python(code, "run", str(path))

    assert process.wait() == 2
    assert "[source]: the type 'kafka' cannot be used" in process.output
    assert process.output.endswith("pip install 'daebus[kafka]'\n")
    assert process.output.count("\n") == 1


@pytest.mark.parametrize("start_method", ["fork", "spawn"])
def test_no_event_can_forge_a_log_line(job: Job, start_method: str) -> None:
    done = queue_command("run", job.write("forging", 1, f'start_method = "{start_method}"'))

    assert done.code == 5
    assert "forged" in done.err
    assert "\x1b" not in done.err
    assert not any(line.startswith("2026-01-01") for line in done.err.splitlines())


@pytest.mark.parametrize("start_method", ["fork", "spawn", "forkserver"])
def test_all_processes_log_alike(job: Job, start_method: str) -> None:
    path = job.write("telling", 2, f'start_method = "{start_method}"')

    done = queue_command("run", path)
    silent = queue_command("run", path, "--log-level", "error")

    told = [line.partition(" INFO    ")[2] for line in done.err.splitlines()]
    assert told.count(r"work  this is\nevent 0") == 1
    assert told.count(r"work  this is\nevent 1") == 1
    assert (silent.code, silent.err) == (0, "")


def test_check_opens_source_and_sink_and_runs_nothing(job: Job) -> None:
    path = job.write("double", 10)

    done = queue_command("run", path, "--check")

    assert (done.code, done.err) == (0, "")
    assert "can run" in done.out
    assert job.written == []
    assert not (job.folder / "job").exists()


def test_check_tells_a_mistake_in_the_file_that_only_the_client_knows(job: Job) -> None:
    path = job.write("double", 10)
    sink = '[sink]\ntype = "kafka"\ntopic = "t"\nsettings = {"sasl.pasword" = "secret"}\n'
    path.write_text(path.read_text().partition("[sink]")[0] + sink)

    done = queue_command("run", path, "--check")

    assert done.code == 2
    assert done.err.startswith(f"error: {path}: [sink]: Kafka's client does not take its settings")
    assert '"sasl.pasword"' in done.err
    assert "secret" not in done.err


def test_two_runs_do_not_share_a_folder(job: Job) -> None:
    path = job.write("slow", 2_000)
    process = job.start(path)
    eventually(lambda: job.written)

    done = queue_command("run", path)

    assert done.code == 3
    assert "another pipeline runs in" in done.err
    assert process.is_running


def test_a_terminal_sees_a_line_that_changes(job: Job) -> None:
    shown = queue_command_on_a_terminal("run", str(job.write("slow", 1_000)))

    lives = shown.replace("\x1b[2K", "").split("\r")
    assert sum(line.startswith("\x1b[1mjob: \x1b[0min ") for line in lives) > 1, lives
    assert "job: ended after" in shown
    assert "out 1,000 (" in shown

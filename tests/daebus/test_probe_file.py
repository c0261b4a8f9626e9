"""The probe file of a service, and what reads it: a command, and a shell alone."""

from __future__ import annotations

import logging
import os
import socket
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from daebus import Daebus, DaebusCaller, SettingsError
from daebus.bus.embedded import EmbeddedServer
from daebus.logs import Incidents
from daebus.operate.cli import main
from daebus.service.health import Vitals
from daebus.service.probe_file import ProbeFile
from fixtures.commands import Done, daebus
from fixtures.processes import Processes
from fixtures.services import Gate
from fixtures.services import start as start_service
from fixtures.status import url_in
from fixtures.waiting import eventually

Start = Callable[[Daebus], DaebusCaller]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "probe"


@pytest.fixture(autouse=True)
def quick_beats(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("daebus.service.heartbeat.REFRESH_S", 0.2)


@pytest.fixture
def app(own_server: EmbeddedServer, service_name: str, file: Path) -> Iterator[Daebus]:
    """A service that runs, with a probe file."""
    app = Daebus(service_name, url=own_server.url, probe_file=file)
    app.start()
    yield app
    app.stop()


def test_it_says_ready_as_soon_as_the_service_is_and_goes_with_it(app: Daebus, file: Path) -> None:
    assert file.read_text() == "ready\n"
    assert file.stat().st_mode & 0o777 == 0o644
    written = file.stat().st_mtime_ns
    eventually(lambda: file.stat().st_mtime_ns > written)

    app.stop()
    assert os.listdir(file.parent) == ["server"]


def test_a_service_without_its_server_is_live_and_says_why_it_is_not_ready(
    app: Daebus, file: Path, own_server: EmbeddedServer
) -> None:
    own_server.kill()

    eventually(lambda: file.read_text().startswith("live\nit is not connected to unix://"))
    assert app.health().is_live


def test_it_says_stuck_when_a_restart_would_help(
    start: Start, file: Path, service_name: str
) -> None:
    app = Daebus(service_name, max_workers=1, max_stall=0.5, probe_file=file)
    with Gate() as gate:
        gate.close()
        app.action("pass")(gate.pass_through)
        caller = start(app)
        futures = [caller.submit("pass") for _ in range(2)]

        eventually(lambda: file.read_text().startswith("stuck\n1 messages wait"))
        gate.open()
        assert all(future.result() for future in futures)
    eventually(lambda: file.read_text() == "ready\n")


def test_it_is_not_ready_before_the_service_is_nor_while_it_stops(
    url: str, service_name: str, file: Path
) -> None:
    seen = []
    app = Daebus(service_name, url=url, probe_file=file)
    app.on_start(lambda: seen.append(file.read_text()))
    app.on_stop(lambda: seen.append(file.read_text()))

    app.start()
    app.stop()

    assert seen == ["live\nit is starting\n", "live\nit is stopping\n"]


def test_a_file_that_cannot_be_written_keeps_the_service_from_starting(
    url: str, service_name: str, tmp_path: Path
) -> None:
    app = Daebus(service_name, url=url, probe_file=tmp_path / "nowhere" / "probe")

    with pytest.raises(SettingsError, match=r"'.*/nowhere/probe' cannot be written: No such file"):
        app.start()


@pytest.mark.parametrize("place", ["folder", "file/probe", "/"])
def test_what_can_be_no_file_is_a_clear_error_and_leaves_nothing(
    url: str, service_name: str, tmp_path: Path, place: str
) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    app = Daebus(service_name, url=url, probe_file=tmp_path / place)

    with pytest.raises(SettingsError, match="cannot be written: "):
        app.start()
    assert sorted(os.listdir(tmp_path)) == ["file", "folder"]


def test_a_service_that_did_not_start_leaves_the_file_of_another_alone(
    url: str, service_name: str, file: Path
) -> None:
    file.write_text("ready\n")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(SettingsError, match="metrics port"):
            Daebus(service_name, url=url, probe_file=file, metrics_port=port).start()

    assert file.read_text() == "ready\n"


def test_beats_from_two_threads_do_not_disturb_each_other(file: Path) -> None:
    incidents = Incidents(logging.getLogger("test"))
    probe_file = ProbeFile(file, lambda: Vitals(is_live=True, is_ready=True), incidents)
    probe_file.start()

    with ThreadPoolExecutor(2) as pool:
        for _ in range(1_000):
            pool.submit(probe_file.beat)
    assert incidents.counts() == {}
    assert file.read_text() == "ready\n"


def test_a_stop_does_not_fail_at_a_file_that_cannot_be_removed(app: Daebus, file: Path) -> None:
    file.unlink()
    file.mkdir()

    app.stop()
    assert sorted(os.listdir(file.parent)) == ["probe", "server"]


def test_what_keeps_it_from_being_written_later_is_an_incident(app: Daebus, file: Path) -> None:
    file.unlink()
    file.mkdir()

    eventually(lambda: app.stats().incidents.get("probe_file"))
    file.rmdir()
    eventually(file.exists)


# --- the command ---


@pytest.fixture
def probed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Done]:
    """Run the command in this process: starting Python each time takes most of a second."""

    def run(*arguments: object) -> Done:
        monkeypatch.setattr("sys.argv", ["daebus", "probe", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            main()
        return Done(int(str(end.value.code)), *capsys.readouterr())

    return run


def test_the_command_tells_by_its_exit_code(app: Daebus, file: Path) -> None:
    assert app.is_running()

    assert daebus("probe", "--file", str(file)) == Done(0, "ready\n", "")
    assert daebus("probe", "--file", str(file) + "x").code == 1


@pytest.mark.parametrize(
    ("text", "ready", "live"),
    [("ready\n", 0, 0), ("live\ndeaf\n", 1, 0), ("stuck\nno end\n", 1, 1), ("", 1, 1)],
)
def test_live_is_less_than_ready(probed, file: Path, text: str, ready: int, live: int) -> None:
    file.write_text(text)

    assert (probed("--file", file).code, probed("--file", file, "--live").code) == (ready, live)
    assert probed("--file", file).out == text


def test_an_old_file_and_none_say_that_it_is_not_live(probed, file: Path) -> None:
    assert probed("--file", file).out == f"{file}: No such file or directory\n"
    file.write_text("ready\n")
    os.utime(file, (1, 1))
    done = probed("--file", file, "--live")

    assert done.code == 1
    assert done.out.startswith(f"{file} was not written for ")


def test_the_command_asks_a_port_too(
    probed, processes: Processes, url: str, service_name: str
) -> None:
    process = start_service(processes, service_name, url, '{"metrics_port": 0}')
    port = str(url_in(process.output)).rpartition(":")[2]

    assert probed("--port", port) == probed("--port", port, "--live") == Done(0, "ok\n", "")
    process.kill()
    process.wait()
    assert probed("--port", port) == Done(
        1, f"127.0.0.1:{port}: [Errno 111] Connection refused\n", ""
    )


def test_a_host_that_cannot_be_one_is_a_clear_error(probed) -> None:
    done = probed("--port", 9, "--host", "no..name")

    assert (done.code, done.out.count("\n"), done.err) == (1, 1, "")
    assert done.out.startswith("no..name:9: ")


def test_the_command_asks_what_the_environment_names(
    probed, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file.write_text("ready\n")
    monkeypatch.setenv("DAEBUS_PROBE_FILE", str(file))

    assert probed() == Done(0, "ready\n", "")
    monkeypatch.delenv("DAEBUS_PROBE_FILE")
    assert probed().code == 2
    assert "--file, or its port with --port" in probed().err
    assert probed("--file", file, "--port", 1).code == 2


#: As how-to/metrics.md has it.
SHELL = 'test -n "$(find {0} -mmin -1)" && head -n 1 {0} | grep -qx ready'


def test_a_shell_alone_can_tell(file: Path) -> None:
    def code() -> int:
        return subprocess.run(["sh", "-c", SHELL.format(file)], check=False).returncode

    file.write_text("ready\n")
    assert code() == 0
    file.write_text("live\nready\n")
    assert code() == 1
    file.write_text("ready\n")
    os.utime(file, (1, 1))
    assert code() == 1

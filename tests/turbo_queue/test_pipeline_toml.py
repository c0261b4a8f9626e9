"""Pipelines from TOML files: what a file may say, and what is said of one that makes no sense."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from turbo_queue import Queue, SettingsError
from turbo_queue.pipeline import Pipeline
from turbo_queue.pipeline.configuration import load

SOURCE = '[source]\ntype = "json-lines"\npath = "in.jsonl"\n'
SINK = '[sink]\ntype = "json-lines"\npath = "out.jsonl"\n'
ENDS = SOURCE + SINK

#: Writes a file with this text, and gives its path.
Write = Callable[[str], Path]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    monkeypatch.setattr(sys, "path", sys.path.copy())
    # A module of its own for each test: Python keeps what it has imported.
    module = f"work_{abs(hash(tmp_path))}"
    (tmp_path / f"{module}.py").write_text(
        "def double(number):\n    return 2 * number\n\n\nlimit = 17\n"
    )

    def write(text: str) -> Path:
        path = tmp_path / "numbers.toml"
        path.write_text(text.replace("WORK", module))
        return path

    return write


def said_of(path: Path) -> str:
    with pytest.raises(SettingsError) as raised:
        Pipeline.from_toml(path)
    return str(raised.value)


@pytest.mark.parametrize("start_method", ["fork", "spawn"])
def test_a_pipeline_runs_that_only_a_file_describes(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, start_method: str
) -> None:
    monkeypatch.chdir("/")
    (tmp_path / "in.jsonl").write_text("".join(f"{number}\n" for number in range(100)))
    path = write(f'[pipeline]\nwork = "WORK:double"\nprocesses = 2\n{ENDS}')

    pipeline = Pipeline.from_toml(path, start_method=start_method)
    outcome = pipeline.run()

    written = sorted(map(json.loads, (tmp_path / "out.jsonl").read_text().splitlines()))
    assert (outcome.exit_code, outcome.counts.written) == (0, 100)
    assert written == [2 * number for number in range(100)]
    assert pipeline.folder == tmp_path / "numbers"


def test_relative_paths_are_relative_to_the_file(write: Write, tmp_path: Path) -> None:
    path = write(f'[pipeline]\nwork = "WORK:double"\nfolder = "waiting"\n{ENDS}')

    assert load(path, Pipeline)["folder"] == tmp_path / "waiting"
    assert Pipeline.from_toml(path, folder="/elsewhere").folder == Path("/elsewhere")


def test_texts_take_values_of_the_environment(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PLACE", "somewhere")
    monkeypatch.setenv("CORES", "3")
    path = write(
        '[pipeline]\nwork = "WORK:${NO_SUCH:-double}"\nfolder = "${PLACE}/a"\n'
        f'processes = "${{CORES}}"\n{ENDS}'
    )

    loaded = load(path, Pipeline)

    assert loaded["folder"] == tmp_path / "somewhere" / "a"
    assert loaded["processes"] == 3
    assert str(loaded["work"]).endswith(":double")


def test_a_type_may_be_a_class_of_ones_own(write: Write, tmp_path: Path) -> None:
    path = write(
        '[pipeline]\nwork = "WORK:double"\n'
        '[source]\ntype = "turbo_queue.connectors:IterableSource"\nevents = [1, 2]\n'
        '[sink]\ntype = "queue"\nqueue = "results"\ncodec = "msgpack"\n'
    )

    assert Pipeline.from_toml(path, processes=1).run().exit_code == 0

    assert sorted(Queue(tmp_path / "results").peek()) == [2, 4]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[pipeline", "this is not TOML: "),
        (ENDS, "the table [pipeline] is missing"),
        (
            f"[pipelin]\n{ENDS}",
            "there is no table [pipelin] (did you mean 'pipeline'?)",
        ),
        (f"[pipeline]\n{ENDS}", "[pipeline]: 'work' is missing"),
        (
            f'[pipeline]\nwork = "WORK:double"\nproceses = 2\n{ENDS}',
            "[pipeline]: there is no 'proceses' (did you mean 'processes'?); there are work, proc",
        ),
        (
            f'[pipeline]\nwork = "WORK:double"\nsource = "in"\n{ENDS}',
            "[pipeline]: there is no 'source'",
        ),
        (
            f'[pipeline]\nwork = "WORK:double"\nprocesses = "two"\n{ENDS}',
            "[pipeline]: processes is 'two'; it must be a whole number",
        ),
        (
            f'[pipeline]\nwork = "WORK:double"\nfsync = 1\n{ENDS}',
            "[pipeline]: fsync is 1; it must be true or false",
        ),
        (
            f'[pipeline]\nwork = "WORK:double"\nretry_pause = true\n{ENDS}',
            "[pipeline]: retry_pause is True; it must be a number",
        ),
        (f'[pipeline]\nwork = "WORK:duoble"\n{ENDS}', ".py (did you mean 'double'?)"),
        (f'[pipeline]\nwork = "WORK:limit"\n{ENDS}', "which is no function"),
        (f"[pipeline]\nwork = 7\n{ENDS}", "[pipeline]: work is 7; it must be text"),
        (
            f'[pipeline]\nwork = "wok.py:double"\n{ENDS}',
            "'wok.py:double' is no name; write 'module:name'",
        ),
        (
            f'[pipeline]\nwork = "WORK:${{NO_SUCH}}"\n{ENDS}',
            "[pipeline]: the environment has no NO_SUCH; set it, or write ${NO_SUCH:-default}",
        ),
        (
            f'[pipeline]\nwork = "WORK:double"\n[source]\npath = "in.jsonl"\n{SINK}',
            "[source]: 'type' is missing",
        ),
        (
            f'[pipeline]\nwork = "WORK:double"\n[source]\ntype = "json-line"\n{SINK}',
            "[source]: there is no type 'json-line' (did you mean 'json-lines'?); there are chan",
        ),
        (
            f'[pipeline]\nwork = "WORK:double"\n{SOURCE}fromat = "json"\n{SINK}',
            "[source]: there is no 'fromat' (did you mean 'format'?); there are path, format",
        ),
        (
            f'[pipeline]\nwork = "WORK:double"\n{SOURCE}[sink]\ntype = "json-lines"\n',
            "[sink]: 'path' is missing",
        ),
        (
            f'[pipeline]\nwork = "WORK:double"\n{ENDS}format = "yaml"\n',
            "[sink]: format is 'yaml'; it must be 'bytes', 'text' or 'json'",
        ),
        (
            f"""[pipeline]\nwork = "WORK:double"\n{SOURCE}
            [sink]\ntype = "queue"\nqueue = "q"\ncodec = "jsno"
            """,
            "[sink]: 'queue' cannot be made: there is no codec 'jsno'",
        ),
        (
            f"""[pipeline]\nwork = "WORK:double"\n{SOURCE}
            [sink]\ntype = "queue"\nqueue = "q"\nmax_ready_fils = 3
            """,
            "[sink]: 'queue' cannot be made: there is no setting 'max_ready_fils'; there are check",
        ),
        (
            f"""[pipeline]\nwork = "WORK:double"\n{SOURCE}
            [sink]\ntype = "kafka"\ntopic = "t"\n[sink.settings]\nsasl.password = "secret"
            """,
            'a name with dots is in quotes, such as "sasl.password" = ...',
        ),
        (
            f'[pipeline]\nwork = "WORK:double"\n{SOURCE}[sink]\ntype = "WORK:limit"\n',
            "which is no class",
        ),
        (
            f'[pipeline]\nwork = "WORK:double"\n{SOURCE}[sink]\ntype = "WORK:double"\nnumber = 1\n',
            "which is no sink: it must be a subclass of turbo_queue.connectors.Sink",
        ),
    ],
)
def test_a_file_that_makes_no_sense_is_told_where_and_why(
    write: Write, text: str, words: str
) -> None:
    path = write(text)

    said = said_of(path)

    assert said.startswith(f"{path}: ")
    assert words in said
    assert "\n" not in said


@pytest.mark.parametrize("setting", ['settings = "hidden"', 'url = ["redis://me:hidden@here"]'])
def test_what_may_be_a_password_is_not_told(write: Write, setting: str) -> None:
    kind = "kafka" if setting.startswith("settings") else "redis-stream"
    keys = 'topics = "t"' if kind == "kafka" else 'stream = "s"'
    source = f'[source]\ntype = "{kind}"\ngroup = "g"\n{keys}\n{setting}\n'

    said = said_of(write(f'[pipeline]\nwork = "WORK:double"\n{source}{SINK}'))

    assert "must be" in said
    assert "hidden" not in said


def test_a_missing_module_is_told_with_the_file_that_was_looked_for(
    write: Write, tmp_path: Path
) -> None:
    (tmp_path / "cleaning.py").touch()

    said = said_of(write(f'[pipeline]\nwork = "cleanning:double"\n{ENDS}'))

    assert "there is no module 'cleanning' (did you mean 'cleaning'?)" in said
    assert f"neither is there a file {tmp_path / 'cleanning.py'}, nor a package" in said


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    assert said_of(tmp_path / "no.toml") == f"{tmp_path / 'no.toml'}: No such file or directory"


def test_an_error_of_the_works_own_module_comes_with_its_traceback(
    write: Write, tmp_path: Path
) -> None:
    name = f"broken_{abs(hash(tmp_path))}"
    (tmp_path / f"{name}.py").write_text("\n1 / 0\n")

    said = said_of(write(f'[pipeline]\nwork = "{name}:double"\n{ENDS}'))

    first, _, trace = said.partition("\n")
    assert first.endswith(f"[pipeline]: importing '{name}' failed:")
    assert f'{name}.py", line 2' in trace
    assert trace.endswith("ZeroDivisionError: division by zero")
    assert "importlib" not in trace
    assert "turbo_queue" not in trace

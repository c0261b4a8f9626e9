"""Every code block of README and docs runs, in the order of its page, as a reader would run it.

A block with a title is a file; a `python` block without one is a program of its own. In a `console`
block the lines behind `$ ` are typed into a shell, and what follows is what they print, where `…`
stands for anything. A command that ends with `&` is a service: the next one waits until it is
ready.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from fixtures.waiting import eventually

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]

_BLOCK = re.compile(r"^```(\w*)(?: title=\"([^\"]+)\")?\n(.*?)^```$", re.DOTALL | re.MULTILINE)


@dataclass
class Block:
    language: str
    title: str
    text: str


def blocks_of(page: Path) -> list[Block]:
    return [Block(*match.groups(default="")) for match in _BLOCK.finditer(page.read_text())]


class Shell:
    """What a reader's terminal keeps: the folder, the variables, the services it has started."""

    def __init__(self, folder: Path, env: dict[str, str]) -> None:
        self._folder = folder
        self._env = env
        self._services: list[subprocess.Popen[bytes]] = []

    def set(self, name: str, value: str) -> None:
        self._env[name] = value

    def type(self, command: str) -> str:
        if match := re.fullmatch(r"export (\w+)=(\S+)", command):
            # The tests' own server and broker stand in for every other one.
            assert match[1] in {"DAEBUS_URL", "KAFKA_BOOTSTRAP"}
            return ""
        if command.endswith("&"):
            self._start(command.removesuffix("&"))
            return ""
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=self._folder,
            env=self._env,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        return done.stdout

    def _start(self, command: str) -> None:
        log = self._folder / f"service-{len(self._services)}.log"
        with log.open("wb") as output:
            service = subprocess.Popen(
                ["bash", "-c", f"exec {command}"],
                cwd=self._folder,
                env=self._env,
                stdout=output,
                stderr=output,
            )
        self._services.append(service)
        eventually(
            lambda: "is ready" in log.read_text() or service.poll() is not None,
            20,
            lambda: f"{command!r} did not get ready: {log.read_text()}",
        )
        assert service.poll() is None, f"{command!r} ended: {log.read_text()}"

    def close(self) -> None:
        for service in self._services:
            service.send_signal(signal.SIGTERM)
        for service in self._services:
            try:
                assert service.wait(20) == 0
            finally:
                service.kill()


@pytest.fixture
def shell(url: str, tmp_path: Path) -> Iterator[Shell]:
    programs = Path(sys.executable).parent
    path = f"{programs}{os.pathsep}{os.environ['PATH']}"
    env = {**os.environ, "DAEBUS_URL": url, "PATH": path, "NO_COLOR": "1"}
    opened = Shell(tmp_path, env)
    yield opened
    opened.close()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_block_of_the_page_runs(
    page: Path, shell: Shell, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    if "KAFKA_BOOTSTRAP" in page.read_text():
        shell.set("KAFKA_BOOTSTRAP", request.getfixturevalue("kafka").bootstrap)
    for block in blocks_of(page):
        if block.title:
            (tmp_path / block.title).write_text(block.text)
        elif block.language == "python":
            (tmp_path / "_block.py").write_text(block.text)
            assert shell.type("python _block.py 2>&1 || echo FAILED").count("FAILED") == 0, block
        elif block.language == "console":
            _run_session(shell, block.text)
        elif block.language == "json":
            json.loads(block.text)
        else:
            assert block.language in {"text", "bash", "ini", "toml", "dockerfile"}, block


def test_the_pages_have_blocks() -> None:
    languages = {block.language for page in PAGES for block in blocks_of(page)}

    assert {"python", "console", "json"} <= languages


def _run_session(shell: Shell, text: str) -> None:
    for entry in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
        command, _, expected = entry.partition("\n")
        printed = shell.type(command)
        pattern = "(?:.|\n)*?".join(re.escape(part) for part in expected.strip().split("…"))
        assert re.fullmatch(pattern, printed.strip()) or not expected.strip(), (
            f"$ {command}\nprinted:\n{printed}\nbut the page says:\n{expected}"
        )

"""A queue in a folder of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from turbo_queue import Queue


@pytest.fixture
def queue(tmp_path: Path) -> Queue:
    return Queue(tmp_path / "queue")

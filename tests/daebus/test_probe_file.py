"""The probe file of a service, and the command and the shell that read it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from daebus import Daebus, DaebusCaller

Start = Callable[[Daebus], DaebusCaller]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "probe"

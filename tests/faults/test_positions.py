"""The position of a source survives whatever happens to its file."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from fixtures.disks import fill, small_disk
from turbo_queue.errors import FolderFailed
from turbo_queue.pipeline.positions import PositionFile


def test_a_position_that_the_disk_has_no_room_for_leaves_the_old_one(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk") as disk:
        position = PositionFile(disk / "position.json", fsync=False)
        position.save("old")
        filler = fill(disk)
        with filler.open("r+b") as file:
            file.truncate(filler.stat().st_size - 4096)  # Room for the beginning of the new one.

        with pytest.raises(FolderFailed) as failure:
            position.save("new" * 10_000)

        assert failure.value.errno == errno.ENOSPC
        assert position.load() == "old"

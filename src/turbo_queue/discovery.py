"""Which queues and pipelines there are in a folder. Only looks, and only at what is this user's."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

from turbo_queue.files import open_regular
from turbo_queue.folder import Folder
from turbo_queue.locks import is_owned

#: Held while a pipeline runs in its folder, and has its process id.
PIPELINE_LOCK = "pipeline.lock"

#: The queues of a pipeline, in the order of the flow.
PIPELINE_QUEUES = ("in", "retry", "out", "dead")

#: Most folders that are looked into: somebody may name a whole disk.
MOST_FOLDERS = 10_000

_MOST_PID_BYTES = 20


@dataclass(frozen=True, slots=True)
class Found:
    """A queue, or a pipeline with its queues.

    Args:
        path: Its folder.
        queues: The folders of the queues: the one itself, or those of the pipeline.
        is_pipeline: Whether it is a pipeline.
        is_running: Whether a pipeline runs in it now.
        pid: The process id of the one that runs, where it is known.
    """

    path: Path
    queues: tuple[Path, ...]
    is_pipeline: bool = False
    is_running: bool = False
    pid: int | None = None


def discover(folder: str | PathLike[str], depth: int = 3) -> list[Found]:
    """The queues and pipelines in a folder that belong to this user, by name.

    Links in it are not followed, and what cannot be read is passed over.

    Args:
        folder: A queue, a pipeline, or a folder that has some.
        depth: How many levels below it are looked through.

    Example:
        >>> queue = Queue(another_folder)
        >>> with queue.producer() as producer:
        ...     producer.put(1)
        >>> [found.path == queue.path for found in discover(another_folder)]
        [True]
    """
    found: list[Found] = []
    level = [Path(os.path.realpath(folder))]  # Path.resolve() raises where links go round
    looked = 0
    for _ in range(depth + 1):
        below: list[Path] = []
        for path in level:
            looked += 1
            if looked > MOST_FOLDERS:
                break
            if place := _at(path):
                found.append(place)
            else:
                below.extend(_folders_in(path))
        level = below
    return sorted(found, key=lambda place: place.path)


def _at(path: Path) -> Found | None:
    """What this folder is; None if it is neither a queue nor a pipeline."""
    if _is_queue(path):
        return Found(path, (path,))
    lock = path / PIPELINE_LOCK
    try:
        if not _is_own(path) or not stat.S_ISREG(lock.lstat().st_mode):
            return None
        is_running = is_owned(lock)
    except OSError:
        return None
    queues = tuple(path / name for name in PIPELINE_QUEUES if _is_queue(path / name))
    pid = _pid_in(lock) if is_running else None
    return Found(path, queues, is_pipeline=True, is_running=is_running, pid=pid)


def _is_queue(path: Path) -> bool:
    return _is_own(path) and _is_own(Folder(path).alive)


def _is_own(path: Path) -> bool:
    """Whether it is a folder of this user's: looking at a queue makes and locks files in it."""
    try:
        found = path.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid()


def _folders_in(path: Path) -> Iterator[Path]:
    try:
        with os.scandir(path) as entries:
            yield from [Path(each.path) for each in entries if each.is_dir(follow_symlinks=False)]
    except OSError:
        return


def _pid_in(lock: Path) -> int | None:
    try:
        descriptor = open_regular(str(lock))
    except OSError:
        return None
    if descriptor is None:
        return None
    try:
        text = os.read(descriptor, _MOST_PID_BYTES).strip()
    finally:
        os.close(descriptor)
    return int(text) if text.isdigit() else None

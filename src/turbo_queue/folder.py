"""The queue's folder: the only module that renames and unlinks.

    ready_….db  chosen_….db     batches; a batch's state is how its name begins (see `states`)
    bad/                        files that are no batches, each with a text that says why
    .alive/                     a locked file for each producer and consumer that lives
    .ready  .room               bells
    .closed  .recovery  .totals marks: the queue was closed; recovery's turn; events so far

A batch file is moved only by who holds its lock, and a name is followed only if it is no link.
"""

from __future__ import annotations

import logging
import os
import stat
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

from turbo_queue.bad_files import free_place, note_reason
from turbo_queue.batch_file import PROGRESS_OFFSET, progress
from turbo_queue.bells import Bell
from turbo_queue.errors import FolderFailed, NameTaken, reporting
from turbo_queue.files import NOT_OURS, names_on_disk, read_all, write_all
from turbo_queue.locks import (
    create_locked,
    leads_to,
    lock,
    open_to_lock,
    release,
    status_of_name,
)
from turbo_queue.names import BatchName
from turbo_queue.safe_folders import make_private, refuse_network
from turbo_queue.states import State, check_move

logger = logging.getLogger(__name__)

_NOTHING_LOST = "Nothing that was flushed is lost; it works again once the cause is gone"

#: How the file of a batch that is being rewritten begins.
_NEW = ".new_"


@dataclass(slots=True)
class Held:
    """A batch file that this process owns: its lock is held until it is released."""

    name: BatchName
    descriptor: int
    is_released: bool = False

    def release(self) -> None:
        """Give up the lock; does nothing the second time."""
        if not self.is_released:
            self.is_released = True
            release(self.descriptor)


class Folder:
    """One queue's folder.

    Args:
        path: Where it is; absolute.
        fsync: Make each publication survive a loss of power.
    """

    def __init__(self, path: Path, *, fsync: bool = False) -> None:
        self.path = path
        self.bad = path / "bad"
        self.alive = path / ".alive"
        self.totals = path / ".totals"
        self.recovery = path / ".recovery"
        self._closed = path / ".closed"
        self._root = str(path)
        self._fsync = fsync

    # The folder itself

    def prepare(self) -> None:
        """Make the folder, or check that the one that is there is safe to use.

        Raises:
            FolderRefused: it is no folder of this user's alone on a local file system.
            FolderFailed: it cannot be made.
        """
        for path in (self.path, self.bad, self.alive):
            make_private(path)
        refuse_network(self.path)

    def exists(self) -> bool:
        """Whether somebody has made a queue here."""
        return self.alive.is_dir()

    def bell(self, name: str) -> Bell:
        """The bell of this name: `ready` or `room`.

        Raises:
            FolderFailed: it cannot be made.
        """
        path = self.path / f".{name}"
        with reporting("opening a bell", path):
            return Bell(path)

    def ring_ready(self) -> None:
        """Wake a consumer, for those who keep no bell of their own.

        Raises:
            FolderFailed: the bell cannot be opened.
        """
        bell = self.bell("ready")
        bell.ring()
        bell.close()

    def path_of(self, name: BatchName) -> str:
        """Where the file of this name is, as a text: a Path costs more than the calls on it."""
        return f"{self._root}/{name}"

    def names(self, *states: State) -> list[str]:
        """The names of the files in these states, oldest first; foreign names among them.

        Raises:
            FolderFailed: the folder cannot be read.
        """
        start = tuple(f"{state.value}_" for state in states)
        with reporting("listing the folder", self.path):
            return sorted(name for name in os.listdir(self._root) if name.startswith(start))  # noqa: PTH208

    def count(self, state: State) -> int:
        """How many files are in this state."""
        return len(self.names(state))

    def close(self) -> None:
        """Mark the queue as closed."""
        with reporting("closing the queue", self._closed):
            self._closed.touch(mode=0o600)

    def reopen(self) -> None:
        """Take the mark away."""
        with reporting("opening the queue", self._closed):
            self._closed.unlink(missing_ok=True)

    def is_closed(self) -> bool:
        """Whether the queue is marked as closed."""
        return self._closed.exists()

    # A producer's side

    def begin(self, name: BatchName) -> Held | None:
        """Make the file of a new batch; None if the name cannot be had, so that another is taken.

        Raises:
            FolderFailed: the file cannot be made.
        """
        path = self.path_of(name)
        with reporting("beginning a batch", path, _NOTHING_LOST):
            try:
                descriptor = open_to_lock(path, os.O_RDWR | os.O_CREAT | os.O_EXCL)
            except FileExistsError:
                return None
        # Between the two calls recovery may have removed it as a dead producer's.
        if lock(descriptor) and os.fstat(descriptor).st_nlink:
            return Held(name, descriptor)
        release(descriptor)
        return None

    def publish(self, held: Held, data: bytes) -> None:
        """Write a batch, make it ready and give up its lock.

        Whatever is raised, the lock is free afterwards, and `held.name` tells whether the batch is
        ready, or its file is gone.

        Raises:
            FolderFailed: the disk is full, or the system refuses something else. If the batch is
                ready nonetheless, its name may not survive a loss of power.
        """
        try:
            with reporting("writing a batch", self.path_of(held.name), _NOTHING_LOST):
                write_all(held.descriptor, data)
                if self._fsync:
                    os.fsync(held.descriptor)
            with names_on_disk(self._root) if self._fsync else nullcontext():
                self.move(held, State.READY)
        except BaseException:
            self.abandon(held)
            raise
        held.release()

    def abandon(self, held: Held) -> None:
        """Remove the file of a batch that was begun, if it has not become ready; free its lock."""
        ready = held.name.to(State.READY)
        try:
            if leads_to(self.path_of(ready), held.descriptor):
                held.name = ready  # Something was raised between the rename and its note.
            else:
                os.ftruncate(held.descriptor, 0)  # Recovery may not find it whole.
                os.unlink(self.path_of(held.name))  # noqa: PTH108 - a Path costs more
        except OSError:
            pass  # Recovery removes what is empty.
        held.release()

    # A consumer's side

    def claim(self, name: BatchName) -> Held | None:
        """Make a ready batch this process's own; None if another was faster, or it is no batch.

        Raises:
            FolderFailed: the system refuses.
        """
        held = self.own(name)
        if held is None:
            return None
        try:
            self.move(held, State.CHOSEN)
        except NameTaken as error:
            self.set_aside(str(name), str(error))
        except BaseException:
            held.release()
            raise
        else:
            return held
        held.release()
        return None

    def own(self, name: BatchName) -> Held | None:
        """Take the lock of a batch that nobody alive owns; None if there is no such batch.

        Raises:
            FolderFailed: the system refuses.
        """
        path = self.path_of(name)
        try:
            descriptor = open_to_lock(path, os.O_RDWR)
        except FileNotFoundError:
            return None
        except OSError as error:
            if error.errno in NOT_OURS:
                self.set_aside(str(name), f"it is no file of this user's: {error.strerror}")
                return None
            raise FolderFailed("taking a batch", path, error) from error
        held = Held(name, descriptor)
        try:
            # It may have been moved on and released since it was opened.
            status = status_of_name(path, descriptor) if lock(descriptor) else None
            if status:
                if (
                    stat.S_ISREG(status.st_mode)
                    and status.st_nlink == 1
                    and status.st_uid == os.getuid()
                ):
                    return held
                self.set_aside(str(name), "it is no regular file of this user's with one name")
        except BaseException:
            held.release()
            raise
        held.release()
        return None

    def note_progress(self, held: Held, done: int) -> None:
        """Note that the first `done` events of the batch are finished.

        Raises:
            FolderFailed: the system refuses.
        """
        try:  # Without `reporting`: this is called for every hundred events.
            os.pwrite(held.descriptor, progress(done), PROGRESS_OFFSET)
        except OSError as error:
            raise FolderFailed("noting progress", self.path_of(held.name), error) from error

    def remove(self, held: Held) -> None:
        """Remove a batch that is finished, and give up its lock.

        Raises:
            FolderFailed: it cannot be removed; it is still held.
        """
        path = self.path_of(held.name)
        with reporting("removing a batch", path):
            try:
                os.unlink(path)  # noqa: PTH108 - a Path costs more than the call
            except FileNotFoundError:
                pass  # Somebody removed it by hand.
        held.release()

    # Both

    def read(self, held: Held) -> bytes:
        """The bytes of a batch file.

        Raises:
            BatchDamaged: there are more than a batch has.
            FolderFailed: they cannot be read.
        """
        with reporting("reading a batch", self.path_of(held.name)):
            return read_all(held.descriptor)

    def move(self, held: Held, state: State) -> None:
        """Give a held batch another state.

        Raises:
            NameTaken: there is another file of that name, which is left as it is.
            FolderFailed: the system refuses; the batch is where it was.
        """
        check_move(held.name.state, state)
        after = held.name.to(state)
        before_path, after_path = self.path_of(held.name), self.path_of(after)
        with reporting(f"making a batch {state.value}", before_path):
            if os.path.lexists(after_path):  # rename() would replace it.
                raise NameTaken(after_path)
            os.rename(before_path, after_path)  # noqa: PTH104 - a Path costs more than the call
        held.name = after

    def rewrite(self, held: Held, data: bytes) -> None:
        """Put other contents in a held batch's place, in one step.

        Raises:
            FolderFailed: the system refuses; the batch is as it was, and still held.
        """
        path = f"{self._root}/{_NEW}{held.name}"
        with reporting("rewriting a batch", path):
            descriptor = create_locked(path)
            try:
                write_all(descriptor, data)
                if self._fsync:
                    os.fsync(descriptor)
                os.replace(path, self.path_of(held.name))  # noqa: PTH105 - as above
            except BaseException:
                release(descriptor)
                Path(path).unlink(missing_ok=True)
                raise
        release(held.descriptor)
        held.descriptor = descriptor

    def set_aside(self, name: str, reason: str) -> None:
        """Move something that is no batch into `bad/`, with a text that says why.

        Raises:
            FolderFailed: the system refuses; the file is where it was.
        """
        path = self.path / name
        with reporting("setting a file aside", path):
            self.bad.mkdir(mode=0o700, exist_ok=True)
            place = free_place(self.bad, name)
            try:
                path.rename(place)
            except FileNotFoundError:
                return  # Another process was faster.
        note_reason(place, reason)
        logger.warning(
            "set aside %r in %s: %s",
            name,
            self.bad,
            reason,
            extra={"event": "file.set_aside", "file": name},
        )

    def sweep(self) -> None:
        """Remove what a process left that died while it rewrote a batch.

        Raises:
            FolderFailed: the folder cannot be read.
        """
        with reporting("listing the folder", self.path):
            left = [name for name in os.listdir(self._root) if name.startswith(_NEW)]  # noqa: PTH208
        for name in left:
            if BatchName.parse(name.removeprefix(_NEW)):
                self._discard(self.path / name)

    def _discard(self, path: Path) -> None:
        """Remove a file of the queue's own, no batch, unless somebody holds its lock."""
        try:
            descriptor = open_to_lock(path, os.O_RDWR)
        except OSError:
            return
        try:
            if lock(descriptor) and leads_to(path, descriptor):
                path.unlink(missing_ok=True)
        except OSError:
            pass  # The next recovery tries again.
        finally:
            release(descriptor)

    def forget(self, path: Path) -> None:
        """Remove an owner's sign of life."""
        path.unlink(missing_ok=True)

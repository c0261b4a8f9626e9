"""Whether a folder is safe to keep a queue in: its owner's alone, on a local file system."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from turbo_queue.errors import FolderRefused, reporting

_NETWORK = {
    "9p", "afs", "ceph", "cifs", "fuse.glusterfs", "fuse.s3fs", "fuse.sshfs", "lustre", "ncpfs",
    "nfs", "nfs4", "smb3", "smbfs",
}  # fmt: skip

_MOUNTS = Path("/proc/self/mountinfo")


def make_private(path: Path) -> None:
    """Make a folder that only its owner may enter, or check the one that is there.

    Raises:
        FolderRefused: it is no folder, or another user's, or others may write to it.
        FolderFailed: it cannot be made.
    """
    with reporting("making the folder", path):
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError):
            pass  # The check says what it is.
        found = path.lstat()
    if not stat.S_ISDIR(found.st_mode):
        raise FolderRefused(str(path), "it is a link or a file; choose another place")
    if found.st_uid != os.getuid():
        raise FolderRefused(str(path), "it belongs to another user; choose another place")
    if found.st_mode & 0o022:
        raise FolderRefused(str(path), "other users may write to it; use 'chmod 700'")


def refuse_network(path: Path) -> None:
    """Check that a folder is on a local file system, where that can be known.

    Raises:
        FolderRefused: it is on a network file system.
    """
    try:
        mounts = _MOUNTS.read_text()
    except OSError:
        return  # Not Linux.
    kind = filesystem_of(path.stat().st_dev, mounts)
    if kind in _NETWORK:
        raise FolderRefused(
            str(path),
            f"{kind} is a network file system, whose locks do not tell who is alive; choose a "
            f"folder on a local disk",
        )


def filesystem_of(device: int, mounts: str) -> str | None:
    """The kind of file system on a device, from the text of /proc/self/mountinfo (proc(5))."""
    number = f"{os.major(device)}:{os.minor(device)}"
    for line in mounts.splitlines():
        mount, _, source = line.partition(" - ")
        if mount.split()[2] == number:
            return source.split()[0]
    return None

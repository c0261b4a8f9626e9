"""Which file system a folder is on: the locks of network ones do not tell who is alive."""

from __future__ import annotations

import os
from pathlib import Path

_NETWORK = {
    "9p", "afs", "ceph", "cifs", "fuse.glusterfs", "fuse.s3fs", "fuse.sshfs", "lustre", "ncpfs",
    "nfs", "nfs4", "smb3", "smbfs",
}  # fmt: skip

_MOUNTS = Path("/proc/self/mountinfo")


def network_filesystem(path: Path) -> str | None:
    """The kind of network file system that this folder is on; None if it is local, or not known."""
    try:
        mounts = _MOUNTS.read_text()
    except OSError:
        return None  # Not Linux.
    kind = filesystem_of(os.stat(path).st_dev, mounts)  # noqa: PTH116
    return kind if kind in _NETWORK else None


def filesystem_of(device: int, mounts: str) -> str | None:
    """The kind of file system on a device, from the text of /proc/self/mountinfo (proc(5))."""
    number = f"{os.major(device)}:{os.minor(device)}"
    for line in mounts.splitlines():
        mount, _, source = line.partition(" - ")
        if mount.split()[2] == number:
            return source.split()[0]
    return None

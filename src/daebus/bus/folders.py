"""Folders for sockets and locks: of one user, closed to all others, and short enough."""

from __future__ import annotations

import hashlib
import os
import stat
import tempfile
from pathlib import Path

from daebus.errors import SettingsError

#: Longest path of a unix socket, in bytes, with room for its name: 108 with the final zero on
#: Linux, 104 on macOS (unix(7), unix(4)).
MAX_SOCKET_FOLDER = 90


def private_folder(path: Path) -> Path:
    """The folder at this path, made if it is not there, with rights for its owner alone.

    Raises:
        SettingsError: it is a link, or no folder, or another user's, or others may write to it.
    """
    path = Path(os.path.abspath(path))  # noqa: PTH100 - resolve() would follow a link
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        pass  # The check below says what it is.
    except OSError as error:
        raise SettingsError(f"the folder {path} cannot be made: {error.strerror}") from None
    found = path.lstat()
    if not stat.S_ISDIR(found.st_mode):
        raise SettingsError(f"{path} must be a folder, not a link or a file; name another place")
    if found.st_uid != os.getuid():
        raise SettingsError(f"the folder {path} belongs to another user; name another place")
    if found.st_mode & 0o022:
        raise SettingsError(
            f"other users may write to the folder {path}; use 'chmod 700' or name another place"
        )
    return path


def short_folder(folder: Path) -> Path:
    """The folder itself, or one with a short path in its stead if a socket's would be too long.

    Raises:
        SettingsError: the short one is not this user's alone.
    """
    if len(os.fsencode(folder)) <= MAX_SOCKET_FOLDER:
        return folder
    digest = hashlib.sha256(os.fsencode(folder)).hexdigest()[:16]
    return private_folder(Path(tempfile.gettempdir()) / f"daebus-{os.getuid()}-{digest}")

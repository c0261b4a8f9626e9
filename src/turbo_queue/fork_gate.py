"""Keeps this process from forking while any of its threads is in SQLite.

SQLite has locks that all connections of a process share (https://www.sqlite.org/threadsafe.html).
A child of `fork` that was made while another thread held one would wait for it for ever.
"""

from __future__ import annotations

import os
import threading

#: Held by the thread that is in SQLite, and by one that forks. The child has only the thread that
#: forked, so it can give the lock back there, too.
in_sqlite = threading.RLock()

os.register_at_fork(
    before=in_sqlite.acquire,
    after_in_parent=in_sqlite.release,
    after_in_child=in_sqlite.release,
)

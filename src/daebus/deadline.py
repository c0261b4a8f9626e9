"""Deadline: a moment on the monotonic clock after which an answer is of no use to anybody.

A wall clock may jump, and two machines' clocks differ; so a deadline never leaves the process as a
date. On the wire it is the milliseconds that remain.
"""

from __future__ import annotations

from time import monotonic


class Deadline:
    """The end of a wait, made once at the top and passed down, so that all parts share it.

    Example:
        >>> deadline = Deadline.after(5.0)
        >>> 4.9 < deadline.remaining_s() <= 5.0
        True
    """

    __slots__ = ("at_s",)

    def __init__(self, at_s: float) -> None:
        self.at_s = at_s

    @classmethod
    def after(cls, seconds: float) -> Deadline:
        """The deadline that is `seconds` from now."""
        return cls(monotonic() + seconds)

    def remaining_s(self) -> float:
        """Seconds that remain, 0.0 when it has passed."""
        return max(0.0, self.at_s - monotonic())

    def has_passed(self) -> bool:
        """Whether it is too late."""
        return monotonic() >= self.at_s

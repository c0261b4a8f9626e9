"""What a service has: the decorators record handlers here, once for the app and for blueprints."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from numbers import Real
from typing import Any, ParamSpec, TypeVar

from daebus.channels import BUILT_IN_PREFIX, check_name, is_pattern
from daebus.errors import RegistrationError
from daebus.settings import LONGEST_S

P = ParamSpec("P")
R = TypeVar("R")

#: A user's function, whatever it takes and gives.
Function = Callable[..., Any]


#: Where a handler runs: `workers=` of the decorators.
THREAD = "thread"
PROCESS = "process"


@dataclass(frozen=True)
class Action:
    """Answers the requests that ask for this action."""

    name: str
    function: Function
    timeout_s: float | None = None
    workers: str = THREAD


@dataclass(frozen=True)
class Listener:
    """Takes what is published to a channel, or to the channels of a pattern."""

    channel: str
    function: Function
    timeout_s: float | None = None
    workers: str = THREAD
    #: Whether messages wait for the service in its inbox while it is down.
    is_durable: bool = False

    @property
    def is_pattern(self) -> bool:
        """Whether the channel is a pattern, such as `events.*`."""
        return is_pattern(self.channel)


@dataclass(frozen=True)
class Background:
    """Runs at an interval in seconds, or by a cron expression."""

    name: str
    schedule: float | str
    function: Function
    #: `each`: in every replica; `cluster`: once among all of them.
    scope: str = "each"
    #: A run that was due while nobody ran: `skip` it, or `run` once as soon as somebody does.
    misfire: str = "skip"
    #: A run that is due while the last one is under way elsewhere: `skip` it, or `allow` both.
    overlap: str = "skip"


@dataclass(frozen=True)
class ThreadTask:
    """Runs in a thread of its own for as long as the service does."""

    name: str
    function: Function


@dataclass
class Registry:
    """All that was registered."""

    actions: dict[str, Action] = field(default_factory=dict)
    listeners: list[Listener] = field(default_factory=list)
    background: dict[str, Background] = field(default_factory=dict)
    threads: dict[str, ThreadTask] = field(default_factory=dict)
    on_start: list[Function] = field(default_factory=list)
    on_stop: list[Function] = field(default_factory=list)
    on_gap: list[Function] = field(default_factory=list)
    on_worker_start: list[Function] = field(default_factory=list)
    #: Why nothing may be added any more, if so.
    closed_because: str | None = None

    def add_action(self, action: Action) -> None:
        """Add an action, or raise `RegistrationError` when its name is taken."""
        self._check_open()
        _add_named("action", self.actions, action.name, action)

    def add_listener(self, listener: Listener) -> None:
        """Add a listener; a channel may have several."""
        self._check_open()
        self.listeners.append(listener)

    def add_background(self, task: Background) -> None:
        """Add a background task, or raise `RegistrationError` when its name is taken."""
        self._check_open()
        _add_named("background task", self.background, task.name, task)

    def add_thread(self, task: ThreadTask) -> None:
        """Add a thread, or raise `RegistrationError` when its name is taken."""
        self._check_open()
        _add_named("thread", self.threads, task.name, task)

    def add_hook(self, hooks: list[Function], function: Function) -> None:
        """Add a function to one of the lists of hooks."""
        self._check_open()
        hooks.append(function)

    def merge(self, other: Registry) -> None:
        """Add all that `other` has; nothing is added when a name is in both.

        Raises:
            RegistrationError: two handlers have one name.
        """
        for kind, mine, theirs in (
            ("action", self.actions, other.actions),
            ("background task", self.background, other.background),
            ("thread", self.threads, other.threads),
        ):
            for name in theirs:
                if name in mine:
                    raise _taken(kind, name, mine[name].function, theirs[name].function)
        self._check_open()
        self.actions.update(other.actions)
        self.listeners.extend(other.listeners)
        self.background.update(other.background)
        self.threads.update(other.threads)
        self.on_start.extend(other.on_start)
        self.on_stop.extend(other.on_stop)
        self.on_gap.extend(other.on_gap)
        self.on_worker_start.extend(other.on_worker_start)

    def _check_open(self) -> None:
        if self.closed_because:
            raise RegistrationError(f"nothing can be registered here: {self.closed_because}")


class Registrar:
    """The decorators. A decorated function stays as it is and can be called as before."""

    def __init__(self) -> None:
        self.registry = Registry()

    def action(
        self, name: str, *, timeout: float | None = None, workers: str = THREAD
    ) -> Callable[[Callable[P, R]], Callable[P, R]]:
        """Answer requests for the action `name`.

        A function without parameters reads `request.payload`. One with parameters gets them from
        the payload's fields by name, checked against its type hints; with a wrong payload it does
        not run and the caller is told which field is wrong. What it returns is the response,
        unless it has sent one. `async def` functions run on one event loop beside the threads.

        Args:
            name: the action's name, unique in the service.
            timeout: a time limit in seconds. When it is over the caller gets an error; an
                `async def` handler is cancelled, a worker process is killed and replaced, a thread
                cannot be stopped and works on.
            workers: where it runs: `"thread"`, or `"process"` for work that keeps a core busy.

        Raises:
            RegistrationError: the name is taken, there are no such workers, or the time limit is
                none.

        Example:
            >>> @app.action("add")
            ... def add(a: int, b: int = 0) -> int:
            ...     return a + b
        """
        _check_no_function("action", name)
        check_name("action", name)
        if name.startswith(BUILT_IN_PREFIX):
            raise RegistrationError(
                f"the action {name!r} needs another name: those that begin with "
                f"{BUILT_IN_PREFIX!r} are the actions that every service has"
            )
        _check_choice(f"action {name!r}: workers", workers, THREAD, PROCESS)
        _check_timeout(f"action {name!r}", timeout)

        def register(function: Callable[P, R]) -> Callable[P, R]:
            self.registry.add_action(Action(name, function, timeout, workers))
            return function

        return register

    def listen(
        self,
        channel: str,
        *,
        timeout: float | None = None,
        workers: str = THREAD,
        durable: bool = False,
    ) -> Callable[[Callable[P, R]], Callable[P, R]]:
        """Take what is published to `channel`, a name or a pattern such as `events.*`.

        A function with one parameter gets the whole payload, checked against its type hint if it
        has one; with several, the payload's fields by name. `request.channel` is the channel.

        Args:
            channel: the channel's name or pattern; several functions may listen to one.
            timeout: a time limit in seconds. When it is over that is logged and counted as
                `handler_timeout`; an `async def` function is cancelled, a worker process is killed
                and replaced, a thread cannot be stopped and works on.
            workers: where it runs, as for `action`.
            durable: messages wait for the service while it is down, one of its replicas handles
                each, and one that fails is tried again. The channel must be a name, not a pattern.

        Raises:
            RegistrationError: there are no such workers, a pattern is to be durable, or the time
                limit is none.

        Example:
            >>> @app.listen("events.*")
            ... def on_event(data: dict) -> None:
            ...     logger.info("%s: %s", request.channel, data)
        """
        _check_no_function("listen", channel)
        check_name("channel", channel)
        _check_choice(f"listener {channel!r}: workers", workers, THREAD, PROCESS)
        _check_timeout(f"listener {channel!r}", timeout)
        if durable and is_pattern(channel):
            raise RegistrationError(
                f"listener {channel!r}: a pattern cannot be durable; name each channel"
            )

        def register(function: Callable[P, R]) -> Callable[P, R]:
            listener = Listener(channel, function, timeout, workers, durable)
            self.registry.add_listener(listener)
            return function

        return register

    def background(
        self,
        name: str,
        schedule: float | str,
        *,
        scope: str = "each",
        misfire: str = "skip",
        overlap: str = "skip",
    ) -> Callable[[Callable[P, R]], Callable[P, R]]:
        """Run a function again and again.

        With scope `"cluster"` each due time is run once, by whichever replica takes it first; an
        interval's due times are its multiples, counted from 1970 on the server's clock. When the
        replica that runs it dies, that run is not repeated: another replica runs at the next due
        time after the service's `lease`. The function may take one parameter, a `Lease`, which has
        the run's growing number and tells whether another replica may have begun meanwhile.

        Args:
            name: the task's name, unique in the service.
            schedule: seconds between two runs, or a cron expression of five fields in local time.
            scope: `"each"`: in every replica; `"cluster"`: once among all replicas.
            misfire: with scope `"cluster"`, a run that was due while no replica was there: `"skip"`
                it, or `"run"` it once as soon as one is there.
            overlap: a run that is due while the last one is under way, with scope `"cluster"` in
                any replica: `"skip"` it, or `"allow"` both.

        Raises:
            RegistrationError: the name is taken, the schedule cannot be read, or there is no such
                choice.

        Example:
            >>> @app.background("cleanup", "0 3 * * *")
            ... def clean_up() -> None: ...
        """
        check_name("background task", name)
        if not isinstance(schedule, str) and not _is_duration(schedule):
            raise RegistrationError(
                f"background task {name!r}: {schedule!r} is no interval; give seconds above 0 or "
                f"a cron expression such as '*/5 * * * *'"
            )

        task_name = f"background task {name!r}"
        _check_choice(f"{task_name}: scope", scope, "each", "cluster")
        _check_choice(f"{task_name}: misfire", misfire, "skip", "run")
        _check_choice(f"{task_name}: overlap", overlap, "skip", "allow")

        def register(function: Callable[P, R]) -> Callable[P, R]:
            task = Background(name, schedule, function, scope, misfire, overlap)
            self.registry.add_background(task)
            return function

        return register

    def thread(self, name: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
        """Run a function in a thread of its own while the service runs.

        It is started again when it raises. It must return soon after `app.is_running()` is false;
        with one parameter it is given a function that tells the same.

        Args:
            name: the thread's name, unique in the service.

        Raises:
            RegistrationError: the name is taken.

        Example:
            >>> @app.thread("poller")
            ... def poll(goes_on) -> None:
            ...     while goes_on():
            ...         fetch()
        """
        _check_no_function("thread", name)
        check_name("thread", name)

        def register(function: Callable[P, R]) -> Callable[P, R]:
            self.registry.add_thread(ThreadTask(name, function))
            return function

        return register

    def on_start(self, function: Callable[P, R]) -> Callable[P, R]:
        """Call a function before the first message is taken; an exception ends the start."""
        self.registry.add_hook(self.registry.on_start, function)
        return function

    def on_stop(self, function: Callable[P, R]) -> Callable[P, R]:
        """Call a function after the last message was handled."""
        self.registry.add_hook(self.registry.on_stop, function)
        return function

    def on_gap(self, function: Callable[P, R]) -> Callable[P, R]:
        """Call a function with a `Gap` each time that messages may have been missed."""
        self.registry.add_hook(self.registry.on_gap, function)
        return function

    def on_worker_start(self, function: Callable[P, R]) -> Callable[P, R]:
        """Call a function in each worker process before its first message, to load a model, say."""
        self.registry.add_hook(self.registry.on_worker_start, function)
        return function


@dataclass(frozen=True)
class Gap:
    """A time in which the service was not connected: what was published then was missed."""

    seconds: float
    reason: str


def where(function: Function) -> str:
    """A function's name and where it is written, for an error's text."""
    code = getattr(inspect.unwrap(function), "__code__", None)
    name = getattr(function, "__qualname__", repr(function))
    return f"{name} ({code.co_filename}:{code.co_firstlineno})" if code else name


def _check_no_function(decorator: str, name: Any) -> None:
    if callable(name):
        raise RegistrationError(
            f'@{decorator} needs parentheses and a name, such as @app.{decorator}("my_name")'
        )


def _check_choice(what: str, given: str, *choices: str) -> None:
    if given not in choices:
        raise RegistrationError(
            f"{what}={given!r} is unknown; use {' or '.join(map(repr, choices))}"
        )


def _check_timeout(what: str, timeout: float | None) -> None:
    if timeout is not None and not _is_duration(timeout):
        raise RegistrationError(
            f"{what}: timeout={timeout!r} is no time limit; give seconds above 0 and up to 1e9, "
            f"or leave it out"
        )


def _is_duration(seconds: Any) -> bool:
    """Whether it is a number of seconds above 0, as the user's code may give anything."""
    is_number = isinstance(seconds, Real) and not isinstance(seconds, bool)
    return is_number and 0 < seconds <= LONGEST_S


def _add_named(kind: str, mine: dict[str, Any], name: str, entry: Any) -> None:
    if name in mine:
        raise _taken(kind, name, mine[name].function, entry.function)
    mine[name] = entry


def _taken(kind: str, name: str, first: Function, second: Function) -> RegistrationError:
    return RegistrationError(
        f"the {kind} {name!r} is registered twice: by {where(first)} and by "
        f"{where(second)}. Give one of them another name."
    )

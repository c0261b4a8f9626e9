"""A handler's parameters, taken from a payload by their type hints, and checked by msgspec."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from operator import attrgetter
from typing import Any, TypeVar, get_type_hints

import msgspec

from daebus.errors import BadMessage, RegistrationError
from daebus.messages import DECODE_ERRORS
from daebus.service.registry import Function, where

T = TypeVar("T")

#: Makes a handler's positional arguments of a raw payload; raises BadMessage.
Arguments = Callable[[bytes | msgspec.Raw], tuple[Any, ...]]


def action_arguments(function: Function) -> Arguments | None:
    """How to call an action; None when it takes no parameters.

    Raises:
        RegistrationError: a parameter cannot be taken from a payload.
    """
    parameters = parameters_of(function)
    return _by_name(function, parameters) if parameters else None


def listener_arguments(function: Function) -> Arguments | None:
    """How to call a listener: one parameter is the whole payload, several are its fields.

    Raises:
        RegistrationError: a parameter cannot be taken from a payload.
    """
    parameters = parameters_of(function)
    if len(parameters) != 1:
        return _by_name(function, parameters) if parameters else None
    kind = next(iter(parameters.values()))[0]
    return _decoder(function, kind, _only)


def count_parameters(function: Function, most: int, what: str) -> int:
    """How many parameters a function takes that is not called with a payload.

    Raises:
        RegistrationError: it needs more than `most`, or to call it does not run it.
    """
    check_plain(function, what)
    parameters = _signature(function).parameters.values()
    needed = [each for each in parameters if each.default is each.empty]
    if len(needed) > most:
        raise RegistrationError(f"{where(function)} is {what}: it takes {most} parameters at most")
    return len(needed)


def check_hook(function: Function, given: int, what: str) -> None:
    """Check that a function can be called with so many arguments, before that is needed.

    Raises:
        RegistrationError: it cannot, or to call it does not run it.
    """
    check_plain(function, what)
    try:
        signature = inspect.signature(function)
    except (ValueError, TypeError):
        return  # One of those in C that do not tell it.
    try:
        signature.bind(*range(given))
    except TypeError as error:
        raise RegistrationError(
            f"{where(function)} is {what}, which is called with {given} arguments: {error}"
        ) from None


def check_plain(function: Function, what: str) -> None:
    """Check that to call a function runs it.

    Raises:
        RegistrationError: it is async, or a generator.
    """
    if inspect.iscoroutinefunction(function):
        raise RegistrationError(
            f"{where(function)} is an async function; {what} is called without an event loop, so "
            f"write a plain one that calls asyncio.run"
        )
    check_no_generator(function, "write a plain function")


def check_no_generator(function: Function, instead: str) -> None:
    """Check that a function is no generator: nothing of it would run when it is called.

    Raises:
        RegistrationError: it is one.
    """
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise RegistrationError(f"{where(function)} is a generator; {instead}")


def _signature(function: Function) -> inspect.Signature:
    try:
        return inspect.signature(function)
    except (ValueError, TypeError):
        raise RegistrationError(
            f"{where(function)} does not tell its parameters; wrap it in a function of your own"
        ) from None


def parameters_of(function: Function) -> dict[str, tuple[Any, Any]]:
    """Each parameter's type and default."""
    try:
        hints = get_type_hints(function, include_extras=True)
    except (NameError, TypeError, AttributeError) as error:
        raise RegistrationError(
            f"the type hints of {where(function)} cannot be resolved: {error}"
        ) from error
    found = {}
    for name, parameter in _signature(function).parameters.items():
        if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.POSITIONAL_ONLY):
            raise RegistrationError(
                f"{where(function)}: the parameter {parameter} cannot be taken from a payload; "
                f"use plain parameters, or none and request.payload"
            )
        found[name] = (hints.get(name, Any), parameter.default)
    return found


def _by_name(function: Function, parameters: dict[str, tuple[Any, Any]]) -> Arguments:
    fields: list[Any] = []
    for name, (kind, default) in parameters.items():
        if default is inspect.Parameter.empty:
            fields.append((name, kind))
        else:
            # A factory, because msgspec takes no mutable default; it is the function's own default.
            fields.append((name, kind, msgspec.field(default_factory=partial(_same, default))))
    payload = msgspec.defstruct("Payload", fields, kw_only=True)
    get = attrgetter(*parameters)
    if len(parameters) == 1:
        return _decoder(function, payload, lambda decoded: (get(decoded),))
    return _decoder(function, payload, get)


def _same(value: T) -> T:
    return value


def _only(value: T) -> tuple[T]:
    return (value,)


def _decoder(function: Function, kind: Any, spread: Callable[[Any], tuple[Any, ...]]) -> Arguments:
    """Decode a payload as `kind`, and spread it over the parameters."""
    try:
        decode = msgspec.json.Decoder(kind).decode
    except TypeError as error:
        raise RegistrationError(
            f"{where(function)}: a parameter's type cannot be checked: {error}"
        ) from error

    def arguments(raw: bytes | msgspec.Raw) -> tuple[Any, ...]:
        try:
            return spread(decode(raw))
        except DECODE_ERRORS as error:
            raise BadMessage(f"the payload is wrong: {error}") from error

    return arguments

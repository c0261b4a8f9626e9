"""Errors carry facts, survive a copy, and have one code on the wire."""

from __future__ import annotations

import copy
import pickle

import pytest

from daebus import errors

ERRORS = [
    errors.SettingsError("text"),
    errors.RegistrationError("text"),
    errors.OutsideMessage("request"),
    errors.AlreadyAnswered("act", "id"),
    errors.BadMessage("why"),
    errors.TooLarge(2_000_000, 1_000_000),
    errors.CallTimeout("svc", "act", 1.5),
    errors.ServiceUnavailable("svc"),
    errors.ServerUnavailable("redis://host", "refused"),
    errors.ConnectionLost("redis://host", "reset"),
    errors.ReplicaLost("svc", "act"),
    errors.InboxFull("svc", "1,000 messages wait already"),
    errors.ServerFull("svc", "out of memory"),
    *(
        errors.remote_error(code, "said", service="svc", action="act")
        for code in [*errors.REMOTE_ERRORS, "error", "handler_error", "of_a_later_version"]
    ),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_an_error_survives_a_copy_and_a_pickle(error: errors.DaebusError) -> None:
    for twin in (copy.copy(error), copy.deepcopy(error), pickle.loads(pickle.dumps(error))):
        assert type(twin) is type(error)
        assert str(twin) == str(error)
        assert vars(twin) == vars(error)


def test_every_class_is_covered() -> None:
    classes = {
        each
        for each in vars(errors).values()
        if isinstance(each, type) and issubclass(each, errors.DaebusError)
    }

    assert classes - {errors.DaebusError} == {type(error) for error in ERRORS}


@pytest.mark.parametrize(
    ("error", "builtin"),
    [
        (errors.CallTimeout, TimeoutError),
        (errors.ServiceUnavailable, ConnectionError),
        (errors.ServerUnavailable, errors.ServiceUnavailable),
        (errors.ConnectionLost, errors.ServerUnavailable),
        (errors.OutsideMessage, RuntimeError),
        (errors.TooLarge, ValueError),
    ],
)
def test_errors_are_caught_as_what_one_expects(error: type, builtin: type) -> None:
    assert issubclass(error, builtin)


def test_a_code_names_its_class_and_an_unknown_one_is_kept() -> None:
    for code, kind in errors.REMOTE_ERRORS.items():
        error = errors.remote_error(code, "m", service="s", action="a")
        assert (type(error), error.code) == (kind, code)
    later = errors.remote_error("of_a_later_version", "m", service="s", action="a")
    assert (type(later), later.code) == (errors.RemoteError, "of_a_later_version")


def test_texts_say_what_happened_with_which_value() -> None:
    texts = [str(error) for error in ERRORS]

    assert "no final reply from service 'svc', action 'act', within 1.5 s" in texts
    assert any("no service 'svc' is listening" in text for text in texts)
    assert any("the outcome is unknown" in text for text in texts)

"""The argument, then the environment, then the default; and errors that say what is allowed."""

from __future__ import annotations

import sys

import pytest

from daebus import Broadcast, Daebus, DaebusCaller, SettingsError
from daebus.bus.connection import check_url, client, display
from daebus.settings import runtime_folder, seconds, server_url, whole_number


def test_the_order_is_argument_environment_default(monkeypatch: pytest.MonkeyPatch) -> None:
    assert whole_number("max_workers", None, 10) == 10
    assert server_url() == "redis://localhost:6379"
    monkeypatch.setenv("DAEBUS_MAX_WORKERS", "20")
    monkeypatch.setenv("DAEBUS_GRACE", "1.5")
    monkeypatch.setenv("DAEBUS_URL", "redis://elsewhere")
    assert whole_number("max_workers", None, 10) == 20
    assert whole_number("max_workers", 30, 10) == 30
    assert seconds("grace", None, 10.0) == 1.5
    assert server_url() == "redis://elsewhere"
    assert server_url("redis://here") == "redis://here"


@pytest.mark.parametrize("bad", [0, -1, "ten", 1.5, True, "1.5"])
def test_a_bad_count_is_told(bad: object) -> None:
    with pytest.raises(SettingsError, match="max_workers is .* whole number of 1 or more"):
        Daebus("app", max_workers=bad)


@pytest.mark.parametrize("bad", [-1, "soon", float("nan"), float("inf"), sys.maxsize])
def test_a_bad_time_is_told(bad: object) -> None:
    with pytest.raises(SettingsError, match="grace is .* number of seconds"):
        Daebus("app", grace=bad)


def test_a_stall_of_no_time_is_refused_because_it_does_not_mean_never() -> None:
    with pytest.raises(SettingsError, match="max_stall is 0"):
        Daebus("app", max_stall=0)


def test_a_bad_environment_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAEBUS_MAX_WORKERS", "many")

    with pytest.raises(SettingsError, match="max_workers is 'many'"):
        Daebus("app")


def test_an_unknown_overflow_is_told() -> None:
    with pytest.raises(SettingsError, match="overflow is 'drop'"):
        Daebus("app", overflow="drop")


@pytest.mark.parametrize("url", ["localhost:6379", "http://host", "", "redis//host", 5])
def test_an_address_that_is_none_is_told(url: str) -> None:
    for make in (lambda: Daebus("app", url=url), lambda: DaebusCaller("svc", url)):
        with pytest.raises(SettingsError, match="is no server address"):
            make()
    with pytest.raises(SettingsError):
        check_url(url)


@pytest.mark.parametrize(
    "rest",
    [
        "redis://h/one",
        "redis://h?tls=1",
        "redis://h?socket_timeout=x",
        "rediss://h?ssl_cert_reqs=x",
    ],
)
def test_what_stands_behind_the_host_is_checked(rest: str) -> None:
    with pytest.raises(SettingsError, match="is no server address: "):
        Daebus("app", url=rest)
    assert check_url("valkey://u:p@h:1/7?socket_timeout=2&db=7")
    assert check_url("unix:///run/a.sock?db=1")


@pytest.mark.parametrize(
    "url",
    [
        "redis://user:secret@host:port/0",
        "redis://:sec/ret@host",
        "redis://u:secret@h:1/x",
        "redis://u:p?secret=1@h",
    ],
)
def test_no_error_shows_a_password(url: str) -> None:
    assert "sec" not in display(url)
    try:
        client(url)
    except SettingsError as error:
        assert "sec" not in str(error)
        assert error.__cause__ is None


def test_a_broadcast_takes_an_address(url: str) -> None:
    with_address = Broadcast(url)

    assert with_address.send("nobody_listens_here", 1) == 0
    with_address.close()


def test_the_runtime_folder_is_the_systems_or_one_of_the_users_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/run/user/5")
    assert str(runtime_folder()) == "/run/user/5/daebus"
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    assert runtime_folder().name.startswith("daebus-")

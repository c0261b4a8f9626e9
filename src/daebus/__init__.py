"""Services that talk over Redis or Valkey, with Flask-like decorators."""

from daebus.bus.broadcast import Broadcast, broadcast
from daebus.client.caller import DaebusCaller
from daebus.errors import (
    AlreadyAnswered,
    BadMessage,
    BadRequest,
    CallTimeout,
    ConnectionLost,
    DaebusError,
    Expired,
    HandlerTimeout,
    OutsideMessage,
    Overloaded,
    RegistrationError,
    RemoteError,
    ServerUnavailable,
    ServiceStopping,
    ServiceUnavailable,
    SettingsError,
    TooLarge,
    UnknownAction,
)
from daebus.service.app import Daebus
from daebus.service.blueprint import Blueprint
from daebus.service.context import direct_logger, logger, request, response
from daebus.service.registry import Gap

__all__ = [
    "AlreadyAnswered",
    "BadMessage",
    "BadRequest",
    "Blueprint",
    "Broadcast",
    "CallTimeout",
    "ConnectionLost",
    "Daebus",
    "DaebusCaller",
    "DaebusError",
    "Expired",
    "Gap",
    "HandlerTimeout",
    "OutsideMessage",
    "Overloaded",
    "RegistrationError",
    "RemoteError",
    "ServerUnavailable",
    "ServiceStopping",
    "ServiceUnavailable",
    "SettingsError",
    "TooLarge",
    "UnknownAction",
    "broadcast",
    "direct_logger",
    "logger",
    "request",
    "response",
]

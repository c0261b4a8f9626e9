"""Services that talk over Redis or Valkey, with Flask-like decorators."""

from daebus.bus.broadcast import Broadcast, broadcast
from daebus.client.caller import DaebusCaller
from daebus.errors import (
    AlreadyAnswered,
    BadMessage,
    BadRequest,
    CallCancelled,
    CallTimeout,
    ConnectionLost,
    DaebusError,
    Expired,
    HandlerTimeout,
    InboxFull,
    OutsideMessage,
    Overloaded,
    RegistrationError,
    RemoteError,
    ReplicaLost,
    ServerFull,
    ServerUnavailable,
    ServiceStopping,
    ServiceUnavailable,
    SettingsError,
    TooLarge,
    UnknownAction,
    WorkerDied,
)
from daebus.service.app import Daebus
from daebus.service.blueprint import Blueprint
from daebus.service.cluster_tasks import Lease
from daebus.service.context import direct_logger, logger, request, response
from daebus.service.health import Vitals
from daebus.service.registry import Gap

__all__ = [
    "AlreadyAnswered",
    "BadMessage",
    "BadRequest",
    "Blueprint",
    "Broadcast",
    "CallCancelled",
    "CallTimeout",
    "ConnectionLost",
    "Daebus",
    "DaebusCaller",
    "DaebusError",
    "Expired",
    "Gap",
    "HandlerTimeout",
    "InboxFull",
    "Lease",
    "OutsideMessage",
    "Overloaded",
    "RegistrationError",
    "RemoteError",
    "ReplicaLost",
    "ServerFull",
    "ServerUnavailable",
    "ServiceStopping",
    "ServiceUnavailable",
    "SettingsError",
    "TooLarge",
    "UnknownAction",
    "Vitals",
    "WorkerDied",
    "broadcast",
    "direct_logger",
    "logger",
    "request",
    "response",
]

"""turbo_queue: a queue for many processes, whose batches are SQLite files in a folder."""

from turbo_queue.batch import Batch
from turbo_queue.classic import Dequeue, Enqueue, Startup, dequeue, enqueue, startup
from turbo_queue.consumer import Consumer
from turbo_queue.dead_batches import DeadBatch, DeadBatches
from turbo_queue.discovery import Found, discover
from turbo_queue.errors import (
    BadEvent,
    BatchDamaged,
    BatchNotFound,
    BatchSettled,
    EventTooLarge,
    FolderFailed,
    FolderRefused,
    QueueClosed,
    QueueEmpty,
    QueueFull,
    SettingsError,
    TurboQueueError,
)
from turbo_queue.monitor import Monitor, QueueStats, StateStats
from turbo_queue.owners import Traffic
from turbo_queue.producer import Producer
from turbo_queue.queue import Queue
from turbo_queue.recovery import Recovered

__all__ = [
    "BadEvent",
    "Batch",
    "BatchDamaged",
    "BatchNotFound",
    "BatchSettled",
    "Consumer",
    "DeadBatch",
    "DeadBatches",
    "Dequeue",
    "Enqueue",
    "EventTooLarge",
    "FolderFailed",
    "FolderRefused",
    "Found",
    "Monitor",
    "Producer",
    "Queue",
    "QueueClosed",
    "QueueEmpty",
    "QueueFull",
    "QueueStats",
    "Recovered",
    "SettingsError",
    "Startup",
    "StateStats",
    "Traffic",
    "TurboQueueError",
    "dequeue",
    "discover",
    "enqueue",
    "startup",
]

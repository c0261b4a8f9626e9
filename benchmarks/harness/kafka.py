"""The Kafka broker of a run: the one that KAFKA_BOOTSTRAP names, or one that is started here."""

from __future__ import annotations

import os
from types import TracebackType
from typing import Self

from tools.kafka_broker import KafkaBroker, KafkaUnavailable

from benchmarks.harness.environments import Unavailable
from benchmarks.harness.processes import cpu_s_of


class Kafka:
    """A broker on loopback TCP, the same for every party."""

    def __enter__(self) -> Self:
        self._broker: KafkaBroker | None = None
        self.bootstrap = os.environ.get("KAFKA_BOOTSTRAP", "")
        if not self.bootstrap:
            try:
                self._broker = KafkaBroker().__enter__()
            except KafkaUnavailable as error:
                raise Unavailable(str(error)) from None
            self.bootstrap = self._broker.bootstrap
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._broker is not None:
            self._broker.close()

    @property
    def is_ours(self) -> bool:
        """Whether it was started here, so that its CPU time can be told."""
        return self._broker is not None

    def cpu_s(self) -> float:
        """The CPU time that the broker has used so far."""
        if self._broker is None or self._broker._guard is None:
            return 0.0
        return sum(cpu_s_of(self._broker._guard.pid).values())

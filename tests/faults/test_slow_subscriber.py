"""A service that is stopped past its output buffer is cut off, and that is told (F16)."""

from __future__ import annotations

import signal

import redis

from daebus import DaebusCaller
from daebus.bus.embedded import EmbeddedServer
from fixtures import services, wire
from fixtures.processes import Processes
from fixtures.waiting import eventually

MIB = 1024 * 1024


def test_the_loss_is_seen_and_the_servers_memory_stays_bounded(
    own_server: EmbeddedServer, service_name: str, processes: Processes
) -> None:
    service = services.start(processes, service_name, own_server.url)
    message = b'"' + b"x" * (MIB - 2) + b'"'
    with redis.Redis.from_url(own_server.url) as client:
        client.execute_command("CONFIG", "RESETSTAT")

        service.signal(signal.SIGSTOP)
        receivers = wire.publish(own_server.socket_path, "fault.events", *[message] * 200)
        peak = int(client.info("memory")["used_memory_peak"])
        cut = int(client.info("stats")["client_output_buffer_limit_disconnections"])
        service.signal(signal.SIGCONT)

    assert peak <= 64 * MIB
    assert cut == 1
    assert receivers[0] == 1
    assert receivers[-1] == 0
    service.wait_for("what was published meanwhile was missed")
    with DaebusCaller(service_name, own_server.url) as caller:
        eventually(lambda: caller.call("stats")["gaps"] == 1)
        assert len(caller.call("stats")["told"]) == 1
        heard = caller.call("heard")
        assert wire.publish(own_server.socket_path, "fault.events", b"1") == [1]
        eventually(lambda: caller.call("heard") == heard + 1)


def test_a_foreign_servers_small_buffers_are_told_at_the_start(
    own_server: EmbeddedServer, service_name: str, processes: Processes
) -> None:
    with redis.Redis.from_url(own_server.url) as client:
        client.config_set("client-output-buffer-limit", "pubsub 33554432 8388608 60")
        client.config_set("min-string-size-avoid-copy-reply", 16384)

    service = services.start(processes, service_name, own_server.url)

    assert "CONFIG SET client-output-buffer-limit 'pubsub 256mb 64mb 60'" in service.output
    assert "CONFIG SET min-string-size-avoid-copy-reply 0" in service.output


def test_the_bundled_server_needs_no_warning(
    own_server: EmbeddedServer, service_name: str, processes: Processes
) -> None:
    service = services.start(processes, service_name, own_server.url)

    assert "WARNING" not in service.output

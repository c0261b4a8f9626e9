"""Over plain Pub/Sub every replica handles every message, and that is told (F10)."""

from __future__ import annotations

from daebus import Broadcast, DaebusCaller
from fixtures import services
from fixtures.processes import Processes
from fixtures.waiting import eventually


def test_three_replicas_each_handle_every_message(
    url: str, service_name: str, processes: Processes, broadcaster: Broadcast
) -> None:
    replicas = [services.start(processes, service_name, url) for _ in range(3)]
    with DaebusCaller(service_name, url) as caller:
        sent = [caller.send_message("echo", number) for number in range(3000)]

        assert sum(sent) == 9000
        pids = list({caller.call("pid") for _ in range(50)})
        assert pids

    assert "another replica serves" not in replicas[0].output
    for replica in replicas[1:]:
        replica.wait_for("another replica serves")


def test_the_first_of_several_replies_is_the_result(
    url: str, service_name: str, processes: Processes
) -> None:
    for _ in range(2):
        services.start(processes, service_name, url)

    with DaebusCaller(service_name, url) as caller:
        assert [caller.call("echo", number) for number in range(200)] == list(range(200))
        replies = caller._replies
        assert replies is not None
        eventually(lambda: replies.incidents.counts().get("unknown_reply") == 200)

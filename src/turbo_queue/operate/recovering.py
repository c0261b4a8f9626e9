"""`turbo-queue recover`: take over what dead owners left, now."""

from __future__ import annotations

from turbo_queue.operate import options, output


def recover(path: options.QueuePath) -> None:
    """Take over what dead producers and consumers left, and tell what that was.

    Consumers do it by themselves within a second; this is for a queue that
    nobody consumes. It touches nothing of those who live.

    Example:
      turbo-queue recover ./queue
    """
    recovered = options.existing(path).recover()
    for number, what in (
        (recovered.given_back, "of dead consumers, ready again"),
        (recovered.published, "of dead producers, ready now"),
        (recovered.buried, "whose consumers died too often, dead; see 'turbo-queue dead list'"),
    ):
        if number:
            output.say(f"{output.count(number, 'batch')} {what}")
    if recovered.set_aside:
        files = output.count(recovered.set_aside, "file")
        output.say(f"{files} that cannot be batches, set aside in bad/")
    if not recovered:
        output.say("nothing to recover")

"""Background tasks: every half second, or when the clock says so.

Serve it:
  DAEBUS_URL=embedded:// python examples/heartbeat.py

Use it, in another terminal:
  DAEBUS_URL=embedded:// daebus listen heartbeat
"""

import os
import time

from daebus import Daebus, broadcast, direct_logger

app = Daebus("heartbeat")
started = time.monotonic()


@app.background("beat", 0.5)
def beat() -> None:
    uptime_s = round(time.monotonic() - started, 1)
    broadcast.send("heartbeat", {"pid": os.getpid(), "uptime_s": uptime_s})


@app.background("nightly", "0 3 * * *")
def clean_up() -> None:
    direct_logger.info("three o'clock, cleaning up")


@app.on_stop
def say_goodbye() -> None:
    broadcast.send("heartbeat", {"pid": os.getpid(), "stopped": True})


if __name__ == "__main__":
    app.run()

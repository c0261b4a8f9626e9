"""A stream: progress while the work goes on, and the result last.

Serve it:
  DAEBUS_URL=embedded:// python examples/report.py

Use it, in another terminal:
  DAEBUS_URL=embedded:// daebus call report build '{"year": 2026}'
"""

import time

from daebus import Daebus, response

app = Daebus("report")


@app.action("build", timeout=60.0)
def build(year: int) -> dict[str, object]:
    for quarter in range(1, 5):
        time.sleep(0.05)  # The work.
        receivers = response.send({"quarter": quarter, "done": quarter * 25}, final=False)
        if receivers == 0:
            return {}  # The caller has gone: nobody waits for the rest.
    return {"year": year, "total": 42_000}


if __name__ == "__main__":
    app.run()

"""Broadcasts: one handler tells the world, and listeners take it, here and in other processes.

Serve it:
  DAEBUS_URL=embedded:// python examples/orders.py

Use it, in another terminal:
  DAEBUS_URL=embedded:// daebus listen 'orders.*'
  DAEBUS_URL=embedded:// daebus call orders place '{"article": "tea", "count": 2}'
  DAEBUS_URL=embedded:// daebus call orders sold
"""

from collections import Counter
from threading import Lock

from daebus import Daebus, broadcast, logger, request

app = Daebus("orders")

sold: Counter[str] = Counter()
lock = Lock()  # Handlers run in several threads.


@app.action("place")
def place(article: str, count: int = 1) -> dict[str, object]:
    order = {"article": article, "count": count}
    return {"listeners": broadcast.send("orders.placed", order)}


@app.listen("orders.placed")
def count_order(article: str, count: int) -> None:
    with lock:
        sold[article] += count


@app.listen("orders.*")
def log_event(data: dict[str, object]) -> None:
    logger.info("%s: %s", request.channel, data)


@app.action("sold")
def tell_sold() -> dict[str, int]:
    with lock:
        return dict(sold)


if __name__ == "__main__":
    app.run()

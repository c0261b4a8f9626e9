"""Typed actions: parameters come from the payload, checked against their type hints.

Serve it:
  DAEBUS_URL=embedded:// python examples/calculator.py

Use it, in another terminal:
  DAEBUS_URL=embedded:// daebus call calculator divide '{"a": 7, "b": 2}'
  DAEBUS_URL=embedded:// daebus call calculator mean '{"points": [{"x": 1, "y": 2}]}'
  DAEBUS_URL=embedded:// daebus call calculator divide '{"a": "seven"}'
"""

import msgspec

from daebus import Daebus

app = Daebus("calculator")


class Point(msgspec.Struct):
    x: float
    y: float = 0.0


@app.action("divide")
def divide(a: float, b: float = 1.0) -> float:
    return a / b  # Dividing by 0 is an error response, and no other message is touched.


@app.action("mean")
def mean(points: list[Point]) -> Point:
    count = len(points)
    return Point(sum(point.x for point in points) / count, sum(point.y for point in points) / count)


if __name__ == "__main__":
    app.run()

"""Writes orders to work on, one a line.

Run it:
  python make_orders.py orders.jsonl 100000
"""

import json
import sys
from pathlib import Path


def order(number: int) -> dict[str, object]:
    buyer = f"Buyer-{number % 5_000}" if number % 100 else "?"  # Some are no address.
    return {"id": number, "email": f"{buyer}@Example.org", "cents": number * 37 % 10_000}


if __name__ == "__main__":
    path, count = Path(sys.argv[1]), int(sys.argv[2])
    with path.open("w") as file:
        for number in range(count):
            print(json.dumps(order(number)), file=file)

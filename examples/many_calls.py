"""A caller: many calls under way at once, over one connection. It needs examples/calculator.py.

Run it:
  DAEBUS_URL=embedded:// python examples/many_calls.py
"""

from daebus import DaebusCaller, RemoteError

with DaebusCaller("calculator", timeout=10.0) as calculator:
    print("one call:", calculator.call("divide", {"a": 7, "b": 2}))

    futures = [calculator.submit("divide", {"a": n, "b": 4}) for n in range(1000)]
    print("a thousand at once:", sum(future.result() for future in futures))

    try:
        calculator.call("divide", {"a": 1, "b": 0})
    except RemoteError as error:
        print("an error:", error.message)

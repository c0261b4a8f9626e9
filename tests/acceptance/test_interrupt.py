"""Ctrl-C in a program that makes calls: whoever catches it can go on."""

from __future__ import annotations

from fixtures.processes import Processes

CODE = """
    import sys

    from daebus import DaebusCaller, ServiceUnavailable

    caller = DaebusCaller(sys.argv[1], timeout=5.0)

    def call():
        while True:
            try:
                return caller.call("add", {"a": 1, "b": 2})
            except ServiceUnavailable:
                pass  # The interrupted connection is being replaced.

    def interrupted_at(step):
        steps = 0

        def watch(frame, event, function):
            nonlocal steps
            # Python looks for signals after each call of a C function. One that comes in the very
            # moment in which a lock is taken is beyond what Python code can answer for.
            if event != "c_return" or function.__name__ == "acquire":
                return
            steps += 1
            if steps == step:
                raise KeyboardInterrupt

        sys.setprofile(watch)
        try:
            caller.call("add", {"a": 1, "b": 2})
        except KeyboardInterrupt:
            return True
        except ServiceUnavailable:
            return True
        finally:
            sys.setprofile(None)
        return steps >= step

    assert call() == 3
    step = 1
    while interrupted_at(step):
        assert call() == 3, step
        step += 1
    caller.close()
    print(f"went on after {step - 1} interrupts")
"""


def test_an_interrupted_call_does_not_break_those_after_it(
    service: str, processes: Processes, url: str
) -> None:
    process = processes.python(CODE, service)

    assert process.wait(40) == 0, process.output
    assert int(process.lines[-1].split()[-2]) > 20, "too few places to interrupt were found"

"""How tests wait for what happens in other processes."""
import time


def wait_for(condition, what, limit_s):
    """The first value of `condition` that is true; an error that names `what` after `limit_s` seconds."""
    deadline = time.monotonic() + limit_s
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(0.005)
    raise AssertionError(f"waited {limit_s} s for {what}")

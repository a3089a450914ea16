"""How tests wait for what happens in other processes."""
import os
import time

# On a machine that has other work a test sees things late. With this many seconds of delay after all that is awaited, a test
# that passes only when it is quick fails every time.
LATE_S = float(os.environ.get("PACELINE_TEST_LATE_S", "0"))


def wait_for(condition, what, limit_s):
    """The first value of `condition` that is true; an error that names `what` after `limit_s` seconds."""
    deadline = time.monotonic() + limit_s
    while time.monotonic() < deadline:
        value = condition()
        if value:
            time.sleep(LATE_S)
            return value
        time.sleep(0.005)
    raise AssertionError(f"waited {limit_s} s for {what}")


class Hold:
    """Steps after which no worker of a run begins another one before the test says so. A run that ends by itself needs one
    wherever the test is to see it, or do something to it, before its end."""

    def __init__(self, folder, *steps):
        Hold.made += 1
        self.files = {step: folder / f"hold-{Hold.made}-{step}" for step in steps}
        # Committed steps are told ten times a second: so that all of them are, the last one takes longer than that.
        faults = [f"*:data@{step}-{step}:wait=200,*:data@{step + 1}:until={file}" for step, file in self.files.items()]
        self.environment = {"PACELINE_FAULTS": ",".join(faults)}

    def let_go(self, step):
        self.files[step].touch()

    made = 0

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


def end_with(test, process):
    """Ends a program together with the test that has started it; and where that fails, tells what the program said."""
    def end():
        process.kill()
        # What was read already, Python gives again, and not always decoded.
        said = "".join(text.decode(errors="replace") if isinstance(text, bytes) else text
                       for text in process.communicate() if text)
        if said and not test._outcome.success:
            raise AssertionError(f"the last words of {process.args[:3]}: " + " | ".join(said[-1500:].splitlines()))
    test.addCleanup(end)


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


class Slowness:
    """Steps `first` to `last` of a run take minutes together, so that it can be seen, and something be done to it, before its
    end. Other than while it is held, its ranks go on to report what they do beside the steps: parts of checkpoints."""

    TOGETHER_S = 150

    def __init__(self, first, last):
        each = 1000 * self.TOGETHER_S // (last - first + 1)
        self.environment = {"PACELINE_FAULTS": f"*:data@{first}-{last}:wait={each}"}

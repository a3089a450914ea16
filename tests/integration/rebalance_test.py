"""Jobs whose ranks are not equally fast: shares follow, and the result doesn't."""

import contextlib
import json
import os
import pathlib
import signal
import sys
import threading
import time
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import coordinated
from elastic_test import wait_for
from waiting import Hold

GRAINS = 32
JOB = ("--ranks", "2", "--set", "model={kind: cnn}", "--set", "batch={global: 256, grain: 8}", "--set", "epochs=100000",
       "--set", "reproducible=true")


@contextlib.contextmanager
def slowed(pid, part=0.5, period_s=0.02):
    """The process stands still for `part` of the time."""
    ended = threading.Event()

    def hold_back():
        with contextlib.suppress(ProcessLookupError):  # it has done its work
            while not ended.is_set():
                os.kill(pid, signal.SIGSTOP)
                time.sleep(part * period_s)
                os.kill(pid, signal.SIGCONT)
                ended.wait((1 - part) * period_s)

    thread = threading.Thread(target=hold_back)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


class Rebalance(coordinated.Coordinated):
    def shares(self, run):
        """All changes so far, as the journal has them."""
        text = (run.folder / "journal/1.jsonl").read_text()
        lines = [json.loads(line) for line in text.splitlines(keepends=True) if '"shares"' in line and line.endswith("\n")]
        return [line for line in lines if line["type"] == "shares"]

    def test_a_slow_rank_gets_fewer_samples_and_gets_them_back(self):
        run = self.begin(*JOB, "--set", "rebalance=true", steps=20)
        slow = run.workers()[1]
        with slowed(slow, part=0.6):
            wait_for(lambda: any(change["shares"][1] < 0.8 * GRAINS / 2 for change in self.shares(run)), "fewer grains for rank 1")
            # Each rank's own words, which may be of different steps.
            status = run.await_status(lambda status: status["ranks"][1]["share"] < 0.8 * GRAINS / 2 and
                                      sum(rank["share"] for rank in status["ranks"]) == GRAINS, "its share in the status")
            self.assertGreater(status["ranks"][1]["step_ms"], 0)
        wait_for(lambda: self.shares(run)[-1]["shares"][1] > 0.8 * GRAINS / 2, "more grains again")
        summary, _ = self.stop_and_prove(run)
        changes = self.shares(run)
        self.assertEqual(summary["rebalances"], len(changes))
        self.assertEqual(summary["repairs"], 0)
        for change in changes:
            self.assertEqual(sum(change["shares"]), GRAINS)
            self.assertGreater(change["gain"], 0)
        self.assertIn("from step ", run.out)
        self.assertIn("rank 1 is the slowest", run.out)

    def test_the_result_does_not_depend_on_the_shares(self):
        alone = self.start("--ranks", "1", *JOB[2:], "--set", "steps=80").finish()
        hold = Hold(self.folder, 10)
        run = self.start(*JOB, "--set", "rebalance=true", "--set", "steps=80", environment=hold.environment)
        run.await_steps(5)
        with slowed(run.workers()[0], part=0.7):
            hold.let_go(10)
            summary = run.finish()
        self.assertGreater(summary["rebalances"], 0, run.out)
        self.assertEqual(summary["weights_sha256"], alone["weights_sha256"])
        self.assert_accounted_for(run, 80)

    def test_without_it_shares_stay(self):
        run = self.begin(*JOB, steps=5)
        with slowed(run.workers()[1], part=0.6):
            run.await_steps(run.steps() + 40)
        summary, _ = self.stop_and_prove(run)
        self.assertEqual((summary["rebalances"], self.shares(run)), (0, []))

    def test_a_lost_rank_and_new_shares(self):
        """Repairs begin anew with equal shares, and go on from there."""
        run = self.begin(*JOB, "--set", "rebalance=true", steps=10)
        with slowed(run.workers()[1], part=0.6):
            wait_for(lambda: self.shares(run), "other shares")
            run.kill(0)
            run.await_ranks(2, after=run.generation())
        self.stop_and_prove(run)


if __name__ == "__main__":
    unittest.main()

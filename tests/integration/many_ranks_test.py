"""64 ranks on four hosts of this machine: from the command to the first step, and to the end."""

import pathlib
import signal
import sys
import time
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import hosts_test as hosts
from elastic_test import wait_for

RANKS = 64
JOB = ("--set", "model={kind: mlp, hidden: 64}", "--set", "batch={global: 256, grain: 1}", "--set", "epochs=100000", "--set",
       f"ranks.max={RANKS}")


@unittest.skipIf(hosts.missing(), hosts.missing())
class ManyRanks(hosts.OnHosts):
    hosts = 4

    def test_they_form_and_train_and_end(self):
        begin = time.monotonic()
        run = self.start_on(",".join(f"{address}:{RANKS // self.hosts}" for address in self.addresses), "--ranks", str(RANKS), *JOB)
        run.await_steps(1)
        print(f"{RANKS} ranks: {time.monotonic() - begin:.1f} s to the first step", flush=True)
        run.await_status(lambda status: len(status["ranks"]) == RANKS, f"{RANKS} ranks")
        run.await_steps(run.steps() + 20)
        begin = time.monotonic()
        run.process.send_signal(signal.SIGTERM)
        summary = run.finish()
        self.assertEqual((summary["status"], summary["ranks"]), ("stopped", RANKS), run.err)
        wait_for(lambda: run.process.poll() is not None, "the launcher's end")
        self.assert_nothing_left()
        print(f"{time.monotonic() - begin:.1f} s from SIGTERM until nothing was left", flush=True)
        self.assert_accounted_for(run, summary["steps"])


if __name__ == "__main__":
    unittest.main()

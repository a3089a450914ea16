"""`paceline logs`: what the ranks of real runs wrote, while they run and afterwards."""

import os
import pathlib
import signal
import subprocess
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import training_test as small
from coordinated import ENDLESS, MODEL, Coordinated
from elastic_test import LIMIT_S, wait_for
from refusals import Refusals
from waiting import end_with

# Worker 1 dies in a step, and the one that takes its place when it gets the others' state: by then that is rank 2.
FAULTS = {"PACELINE_FAULTS": "1:commit@6:kill,3:transfer@0:kill"}
FIRST = "[rank 1] paceline warning: PACELINE_FAULTS: signal 9 at commit of step 6"
SECOND = "[rank 2, worker 3] paceline warning: PACELINE_FAULTS: signal 9 at transfer of step 0"


class Logs(Coordinated, Refusals):
    def logs(self, run, *arguments):
        done = subprocess.run([str(small.PACELINE), "logs", str(run), *arguments], text=True, capture_output=True, timeout=LIMIT_S)
        return done.returncode, done.stdout, done.stderr

    def follow(self, run, *arguments):
        process = subprocess.Popen([str(small.PACELINE), "logs", str(run.folder), "--follow", *arguments], text=True,
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        end_with(self, process)
        return process

    def finish(self, process):
        out, err = process.communicate(timeout=LIMIT_S)
        return process.returncode, out, err

    def begin_with_deaths(self):
        """Returns once three ranks train again, the third of them worker 4."""
        # No checkpoints: on a slow machine one is passed over, which is said in the logs too.
        run = self.start("--ranks", "3", *ENDLESS, "--set", "checkpoint.every_steps=-1", environment=FAULTS)
        wait_for(lambda: (run.folder / "job.json").exists(), "the run")
        followers = self.follow(run), self.follow(run, "--rank", "2")
        wait_for(lambda: SECOND in self.logs(run.folder)[1] or run.process.poll() is not None, "both deaths")
        run.await_ranks(3, after=2)
        return run, followers

    def stop(self, run):
        run.process.send_signal(signal.SIGTERM)
        self.assertEqual(run.finish()["status"], "stopped", run.err)

    def test_of_a_run_that_lost_ranks(self):
        run, (all_ranks, one_rank) = self.begin_with_deaths()
        expected = f"{FIRST}\n{SECOND}\n"
        self.assertEqual(self.logs(run.folder), (0, expected, ""))
        self.assertEqual([all_ranks.poll(), one_rank.poll()], [None, None])
        self.stop(run)
        self.assertEqual(self.finish(all_ranks), (0, expected, ""))
        self.assertEqual(self.finish(one_rank), (0, SECOND + "\n", ""))
        self.assertEqual(self.logs(run.folder, "--rank", "1"), (0, FIRST + "\n", ""))
        self.assertEqual(self.logs(run.folder, "--lines", "1", "--follow"), (0, expected, ""))
        self.assertEqual(self.logs(run.folder, "--rank", "0"), (0, "", f"paceline: rank 0 of {run.folder} has written nothing\n"))
        self.assert_refused(self.logs(run.folder, "--rank", "3"), 2, "never had a rank 3: its ranks were 0 to 2")
        merged = (run.folder / "logs/all-0.log").read_text().splitlines()
        self.assertEqual([line.split(" ", 1)[1] for line in merged], [FIRST, SECOND])
        self.assertEqual((run.folder / "logs/rank-001.log").read_text(), FIRST.split("] ", 1)[1] + "\n")

    def test_of_a_run_that_is_resumed(self):
        # One checkpoint, when it is stopped: others might be passed over on a slow machine, and that is said in the logs.
        run = self.begin("--ranks", "2", *ENDLESS, "--set", "checkpoint.every_steps=1000000")
        self.stop(run)
        silent = f"paceline: no rank of {run.folder} has written anything\n"
        self.assertEqual(self.logs(run.folder, "--follow"), (0, "", silent))
        resumed = subprocess.Popen([str(small.PACELINE), "train", "--resume", str(run.folder)], cwd=self.folder,
                                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                                   env={**os.environ, "PACELINE_FAULTS": f"3:commit@{run.steps() + 20}:kill"})
        self.jobs.append(resumed)
        self.addCleanup(lambda: (resumed.kill(), resumed.wait()))
        wait_for(lambda: (run.folder / "logs/all-0-2.log").exists(), "its log")
        follower = self.follow(run)
        wait_for(lambda: "[rank 1, worker 3] paceline warning" in self.logs(run.folder)[1], "its death")
        self.assertIsNone(follower.poll())
        resumed.send_signal(signal.SIGTERM)
        resumed.wait(LIMIT_S)
        code, out, err = self.finish(follower)
        self.assertEqual((code, out.count("\n"), err), (0, 1, ""))
        self.assertIn("[rank 1, worker 3] paceline warning", out)

    def test_signals_end_it(self):
        run = self.begin("--ranks", "2", *ENDLESS)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            follower = self.follow(run)
            blocked = f"/proc/{follower.pid}/status"
            wait_for(lambda: int(pathlib.Path(blocked).read_text().split("SigCgt:")[1].split()[0], 16) >> (number - 1) & 1,
                     "its handlers")
            follower.send_signal(number)
            self.assertEqual(self.finish(follower), (128 + number, "", ""))
        self.stop(run)

    def test_a_run_that_is_killed(self):
        run = self.begin("--ranks", "2", *ENDLESS)
        follower = self.follow(run)
        run.process.kill()
        code, out, err = self.finish(follower)
        self.assertEqual((code, out), (0, ""))
        self.assertIn(f"paceline: the run {run.folder} was not finished, and nobody runs it now\n", err)

    def test_what_is_no_run_or_has_no_logs(self):
        self.assert_refused(self.logs(self.folder), 2, "is no run directory: it has no job.json")
        self.assert_refused(self.logs(self.folder / "nosuch"), 2, "nosuch is no run directory")
        empty = self.folder / "empty"
        empty.mkdir()
        (empty / "job.json").write_text("{}")
        self.assert_refused(self.logs(empty), 2, "has no logs: none of its ranks was started")
        self.assert_refused(self.logs(empty, "--rank", "0"), 2, "never had a rank 0: it has not begun to train")
        self.assert_refused(self.logs(empty, "--rank", "-1"), 2, "--rank")
        self.assert_refused(self.logs(empty, "--lines", "0"), 2, "--lines")

    def test_a_rank_that_can_never_be(self):
        run = self.begin("--ranks", "2", *MODEL, "--set", "epochs=100000", "--set", "ranks.max=4")
        self.assert_refused(self.logs(run.folder, "--rank", "4", "--follow"), 2, "never had a rank 4: it has at most 4")
        follower = self.follow(run, "--rank", "3")
        self.stop(run)
        self.assertEqual(self.finish(follower), (0, "", f"paceline: rank 3 of {run.folder} has written nothing\n"))


if __name__ == "__main__":
    unittest.main()

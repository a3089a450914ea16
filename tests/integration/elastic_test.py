"""Ranks that die, all kinds of ways, in real training: it goes on, and no sample is lost or used twice."""

import functools
import json
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import training_test as small
import waiting

# No test waits longer for anything; each thing takes far less, also on a busy machine.
LIMIT_S = 120
wait_for = functools.partial(waiting.wait_for, limit_s=LIMIT_S)


class Run:
    """A training in the background."""

    def __init__(self, test, *arguments, environment=None, launcher=()):
        type(test).runs += 1
        self.folder = test.folder / f"runs/r{test.runs}"
        self.process = subprocess.Popen(
            [*launcher, str(small.PACELINE), "train", "job.yaml", "--run-dir", str(self.folder), "--set", "eval_every=0", *arguments],
            cwd=test.folder, text=True, errors="replace", stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            env={**os.environ, **(environment or {})})
        waiting.end_with(test, self.process)

    def steps(self):
        """Committed, as far as they are written down."""
        try:
            return (self.folder / "metrics.jsonl").read_text().count("\n")
        except FileNotFoundError:
            return 0

    def await_steps(self, count):
        wait_for(lambda: self.steps() >= count or self.process.poll() is not None, f"step {count}")
        if self.process.poll() is not None:
            raise AssertionError("it ended: " + self.process.communicate()[1])

    def workers(self):
        """By age: the first ones by rank, then those who came later."""
        return sorted(small.workers_of(self.process.pid), key=small.age_of)

    def await_workers(self, count):
        """Those that are there then."""
        def there():
            workers = self.workers()
            return workers if len(workers) == count or self.process.poll() is not None else None
        return wait_for(there, f"{count} workers")

    def kill(self, *places):
        """Those that are there now, and waits for their end: who is dying counts as a worker for a while."""
        workers = self.workers()
        killed = {workers[place] for place in places}
        for pid in killed:
            os.kill(pid, signal.SIGKILL)
        wait_for(lambda: killed.isdisjoint(self.workers()), "the end of who was killed")

    def await_generation(self, number):
        wait_for(lambda: self.generation() >= number or self.process.poll() is not None, f"generation {number}")

    def await_ranks(self, count, after):
        """Until so many train, in a generation later than `after`: one that is recorded may still be prepared."""
        def there():
            return any(number > after and ranks == count for number, ranks in self.trained_in()) or self.process.poll() is not None
        wait_for(there, f"{count} ranks")

    def trained_in(self):
        """The generations that the ranks have changed to, with their sizes."""
        text = (self.folder / "journal/1.jsonl").read_text()
        lines = [json.loads(line) for line in text.splitlines(keepends=True) if '"generation"' in line and line.endswith("\n")]
        return [(line["generation"], line["ranks"]) for line in lines if line["type"] == "generation"]

    def generation(self):
        try:
            return max(int(name.stem) for name in (self.folder / "generations").glob("[0-9]*.json"))
        except (FileNotFoundError, ValueError):
            return 0

    def members(self, number):
        return len(json.loads((self.folder / f"generations/{number}.json").read_text())["members"])

    def finish(self):
        self.out, self.err = self.process.communicate(timeout=LIMIT_S)
        return json.loads((self.folder / "summary.json").read_text())


class Elastic(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = pathlib.Path(tempfile.mkdtemp(prefix="paceline-elastic-"))
        (cls.folder / "idx").mkdir()
        small.write_idx(cls.folder / "idx")
        (cls.folder / "job.yaml").write_text(small.JOB)
        subprocess.run([str(small.PACELINE), "data", "import", "fashion-mnist", "idx", "--out", "data"], cwd=cls.folder,
                       check=True, capture_output=True, timeout=LIMIT_S)
        cls.runs = 0

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.folder)

    def assert_no_worker_left(self):
        wait_for(lambda: not small.workers(self.folder), "the end of all workers")

    def stop_and_prove(self, run):
        """It trains on, and can be stopped; and the audit finds nothing amiss in what was used until then."""
        run.await_steps(run.steps() + 20)
        run.process.send_signal(signal.SIGTERM)
        summary = run.finish()
        self.assertEqual((run.process.returncode, summary["status"]), (143, "stopped"), run.err)
        self.assert_accounted_for(run, summary["steps"])
        return summary

    def assert_proved(self, run, steps):
        """It completed, and the audit finds that every sample was used once."""
        summary = run.finish()
        self.assertEqual((run.process.returncode, summary["status"], summary["steps"]), (0, "completed", steps), run.err)
        self.assert_accounted_for(run, steps)
        return summary

    def assert_accounted_for(self, run, steps):
        audit = subprocess.run([str(small.PACELINE), "audit", str(run.folder)], text=True, capture_output=True, timeout=LIMIT_S)
        self.assertEqual(audit.returncode, 0, audit.stdout + audit.stderr)
        lines = [json.loads(line) for line in (run.folder / "metrics.jsonl").read_text().splitlines()]
        self.assertEqual([line["step"] for line in lines], list(range(1, steps + 1)))
        self.assert_no_worker_left()

    def test_a_killed_rank_is_replaced(self):
        for nodes in ("n", "a,b,c"):
            with self.subTest(nodes):
                run = Run(self, "--ranks", "3", "--set", "epochs=100000", environment={"PACELINE_NODE": nodes})
                run.await_steps(20)
                victim = run.workers()[1]
                run.kill(1)
                run.await_ranks(3, after=1)
                summary = self.stop_and_prove(run)
                # On a machine that is busy enough the new one is there before the others have settled.
                self.assertIn((summary["repairs"], summary["resizes"], summary["generation"]), ((1, 1, 3), (1, 0, 2)))
                self.assertRegex(run.err, rf"paceline: rank 1 on node \w+ \(pid {victim}\) was killed by signal 9 \(Killed\) at step \d+ of 2400000")
                self.assertRegex(run.out, rf"generation 2: [23] ranks from step \d+, since worker 1 \(pid {victim} on node \w+\) was killed")
                if summary["resizes"] == 1:
                    self.assertIn("generation 3: 3 ranks, larger by 1", run.out)

    def test_the_result_is_what_it_would_have_been(self):
        # But for rounding: the sums are of the same samples, in another order.
        undisturbed = self.assert_proved(Run(self, "--ranks", "2", "--set", "epochs=100000", "--set", "steps=600"), 600)
        hold = waiting.Hold(self.folder, 300)
        run = Run(self, "--ranks", "2", "--set", "epochs=100000", "--set", "steps=600", environment=hold.environment)
        run.await_steps(50)
        run.kill(0)
        hold.let_go(300)
        disturbed = self.assert_proved(run, 600)
        self.assertGreaterEqual(disturbed["repairs"], 1)
        self.assertAlmostEqual(disturbed["train_loss"], undisturbed["train_loss"], delta=0.02)
        self.assertAlmostEqual(disturbed["eval"]["accuracy"], undisturbed["eval"]["accuracy"], delta=0.01)

    def test_several_at_once(self):
        run = Run(self, "--ranks", "4", "--set", "epochs=100000")
        run.await_steps(20)
        run.kill(0, 2)
        run.await_ranks(4, after=1)
        run.await_steps(run.steps() + 20)
        generation = run.generation()
        run.kill(*range(len(run.workers()) - 1))  # all but one
        run.await_ranks(4, after=generation)
        summary = self.stop_and_prove(run)
        self.assertGreaterEqual(summary["repairs"], 2)

    def test_a_death_during_repair_and_during_joining(self):
        run = Run(self, "--ranks", "4", "--set", "epochs=100000")
        run.await_steps(20)
        run.kill(0)
        run.await_generation(2)  # recorded, and hardly told
        run.kill(0)
        generation = run.generation()
        os.kill(run.await_workers(4)[3], signal.SIGKILL)  # while it loads
        run.await_generation(generation + 1)
        os.kill(run.await_workers(4)[3], signal.SIGKILL)  # while it joins, or just after
        self.stop_and_prove(run)

    def test_a_frozen_rank_that_is_killed_later(self):
        run = Run(self, "--ranks", "2", "--set", "epochs=100000")
        run.await_steps(20)
        frozen = run.workers()[1]
        os.kill(frozen, signal.SIGSTOP)
        def stands_still():
            before = run.steps()
            time.sleep(0.5)
            return run.steps() == before
        wait_for(stands_still, "the others to wait for the frozen rank")
        os.kill(frozen, signal.SIGKILL)
        run.await_generation(2)
        self.stop_and_prove(run)

    def test_a_frozen_rank_is_replaced(self):
        run = Run(self, "--ranks", "3", "--set", "epochs=100000")
        run.await_steps(20)
        frozen = run.workers()[1]
        os.kill(frozen, signal.SIGSTOP)
        run.await_generation(2)
        # Before that is recorded it must be dead, or it could wake up and write to what the others share with it.
        self.assertFalse(pathlib.Path(f"/proc/{frozen}").exists())
        run.await_ranks(3, after=1)
        self.assertEqual(self.stop_and_prove(run)["repairs"], 1)
        self.assertRegex(run.err, r"worker 1 \(rank 1 on node \S+\) has not been heard of for \d+ s, and is ended")
        self.assertRegex(run.out, r"generation 2: [23] ranks from step \d+, since worker 1 \(rank 1 on node \S+\) has not been heard of")

    def test_ranks_that_are_all_frozen_go_on_when_they_may(self):
        run = Run(self, "--ranks", "2", "--set", "epochs=100000")
        run.await_steps(20)
        workers = run.workers()
        for pid in workers:
            os.kill(pid, signal.SIGSTOP)
        time.sleep(8)  # longer than one of them would be waited for
        self.assertEqual(run.workers(), workers)
        for pid in workers:
            os.kill(pid, signal.SIGCONT)
        summary = self.stop_and_prove(run)
        self.assertEqual((summary["repairs"], summary["generation"]), (0, 1), run.err)
        self.assertIn("is waited for: no other holds the training state", run.err)

    def test_one_that_computes_differently_is_refused_alone(self):
        # All that are started after the first three use another instruction set.
        worker = self.folder / "worker.sh"
        worker.write_text('#!/bin/sh\n[ "$PACELINE_RANK" -ge 3 ] && export ATEN_CPU_CAPABILITY=default\n'
                          f'exec {small.PACELINE.parent}/paceline-worker "$@"\n')
        worker.chmod(0o755)
        run = Run(self, "--ranks", "3", "--set", "epochs=100000", "--set", "reproducible=true",
                  environment={"PACELINE_WORKER": str(worker)})
        run.await_steps(20)
        run.kill(1)
        wait_for(lambda: (run.folder / "logs/rank-004.log").exists() or run.process.poll() is not None, "the one after it")
        summary = self.stop_and_prove(run)
        self.assertIn("worker 3 could not join: rank 2 cannot train reproducibly together with rank 0: they differ in ", run.err)
        self.assertIn(summary["repairs"], (1, 2), run.err)  # the new one may be there before the others have settled
        self.assertEqual(run.members(summary["generation"]), 2)

    def test_loss_of_all(self):
        run = Run(self, "--ranks", "2", "--set", "epochs=100000")
        run.await_steps(20)
        run.kill(0, 1)
        summary = run.finish()
        self.assertEqual((run.process.returncode, summary["status"]), (1, "failed"))
        self.assertIn("no rank is left that holds the whole training state", run.err)
        self.assertGreaterEqual(summary["steps"], 20)
        self.assert_no_worker_left()

    def test_a_job_that_needs_all_its_ranks_waits_for_the_new_one(self):
        run = Run(self, "--ranks", "2", "--set", "ranks.min=2", "--set", "epochs=100000")
        run.await_steps(20)
        run.kill(1)
        run.await_generation(2)
        self.stop_and_prove(run)
        self.assertEqual([run.members(number) for number in range(1, run.generation() + 1)], [2] * run.generation())

    def kill_at_random(self, run, most, seed):
        """Kills workers until so many are dead, or the job is done. One always stays who holds the state, and not more than
        one at a time dies before it has trained: of three in a row the job would learn to start no more."""
        generator = random.Random(seed)
        deaths = young = 0
        deadline = time.monotonic() + LIMIT_S
        while run.process.poll() is None and deaths < most:
            self.assertLess(time.monotonic(), deadline, f"only {deaths} of {most} deaths: {run.workers()}")
            pids = run.workers()
            all_train = run.members(run.generation()) == len(pids)
            if len(pids) > 1 and (all_train or young == 0):
                os.kill(generator.choice(pids[1:]), signal.SIGKILL)
                deaths += 1
                young = 0 if all_train else 1
            time.sleep(generator.uniform(0.1, 1.2))
        return deaths

    def test_many_random_deaths(self):
        # Many short epochs, so that evaluations are met too.
        run = Run(self, "--ranks", "3", "--set", "model={kind: cnn}", "--set", "epochs=100000", "--set", "batch.global=256",
                  "--set", "eval_every=1")
        run.await_steps(5)
        self.assertEqual(self.kill_at_random(run, 10, seed=7), 10)
        # Deaths that come together are one repair, and that of a joiner is none.
        self.assertIn(self.stop_and_prove(run)["repairs"], range(1, 11))

    def test_in_reproducible_mode_deaths_do_not_change_a_bit(self):
        for model, steps in (("{kind: cnn}", 120), ("{kind: resnet18, width: 4}", 50)):
            with self.subTest(model):
                job = ["--set", f"model={model}", "--set", "epochs=100000", "--set", f"steps={steps}", "--set", "reproducible=true",
                       "--set", "optimizer.learning_rate=0.02", "--set", "augment.flip=true"]
                undisturbed = self.assert_proved(Run(self, "--ranks", "1", *job), steps)
                hold = waiting.Hold(self.folder, 10)
                run = Run(self, "--ranks", "3", *job, environment=hold.environment)
                run.await_steps(3)
                hold.let_go(10)
                self.kill_at_random(run, 6, seed=steps)
                disturbed = self.assert_proved(run, steps)
                self.assertGreaterEqual(disturbed["repairs"], 1)
                self.assertEqual(disturbed["weights_sha256"], undisturbed["weights_sha256"])
                self.assertEqual(disturbed["train_loss"], undisturbed["train_loss"])


if __name__ == "__main__":
    unittest.main()

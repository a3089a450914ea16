"""Runs that were killed or stopped, and go on from their newest checkpoint as if nothing had been."""

import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import training_test as small
from elastic_test import LIMIT_S, wait_for
from refusals import Refusals
from waiting import Slowness, end_with

# Small steps, and so many that some are left whenever a run is killed.
STEPS = 400
JOB = f"""
name: resumed
data: {{train: data/train, eval: data/test, budget_mib: 64}}
model: {{kind: mlp, hidden: 64}}
optimizer: {{kind: sgd, learning_rate: 0.02, momentum: 0.9}}
schedule: cosine
batch: {{global: 128}}
epochs: 1000
steps: {STEPS}
ranks: {{min: 1, max: 4}}
checkpoint: {{every_steps: 5, keep: 3}}
seed: 3
eval_every: 4
reproducible: true
"""


class Resume(unittest.TestCase, Refusals):
    @classmethod
    def setUpClass(cls):
        cls.folder = pathlib.Path(tempfile.mkdtemp(prefix="paceline-resume-"))
        cls.addClassCleanup(shutil.rmtree, cls.folder)
        (cls.folder / "idx").mkdir()
        small.write_idx(cls.folder / "idx")
        (cls.folder / "job.yaml").write_text(JOB)
        done = cls.paceline("data", "import", "fashion-mnist", "idx", "--out", "data")
        assert done[0] == 0, done
        cls.runs = 0

    @classmethod
    def paceline(cls, *arguments):
        done = subprocess.run([str(small.PACELINE), *arguments], cwd=cls.folder, text=True, capture_output=True,
                              timeout=LIMIT_S)
        return done.returncode, done.stdout, done.stderr

    def begin(self, *arguments, slowness=None):
        """A run in the background, and its folder."""
        type(self).runs += 1
        run = self.folder / f"runs/r{self.runs}"
        return self.start("job.yaml", "--run-dir", str(run), *arguments, slowness=slowness), run

    def start(self, *arguments, slowness=None):
        process = subprocess.Popen([str(small.PACELINE), "train", *arguments], cwd=self.folder, text=True,
                                   env={**os.environ, **(slowness.environment if slowness else {})},
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        end_with(self, process)
        return process

    @staticmethod
    def checkpoints(run):
        """Steps of those that are published, newest last."""
        found = [re.fullmatch(r"step-(\d+)\.term-(\d+)", path.name) for path in (run / "checkpoints").glob("step-*")]
        return [step for _, step in sorted((int(name[2]), int(name[1])) for name in found if name)]

    @staticmethod
    def newest(run):
        """The folder."""
        return max((run / "checkpoints").glob("step-*"),
                   key=lambda path: [int(number) for number in reversed(re.findall(r"\d+", path.name))])

    def await_checkpoint(self, process, run, step):
        wait_for(lambda: process.poll() is not None or (self.checkpoints(run) or [0])[-1] >= step, f"a checkpoint of step {step}")
        if process.poll() is not None:
            self.fail("it ended: " + process.communicate()[1])

    def kill_all(self, process):
        """As if the machine had lost its power: nobody sees another's end before their own."""
        pids = [process.pid, *small.children_of(process.pid)]
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        process.communicate()
        wait_for(lambda: not small.workers(self.folder), "the end of all workers")

    def finish(self, process, run, status="completed"):
        out, err = process.communicate(timeout=LIMIT_S)
        summary = json.loads((run / "summary.json").read_text())
        self.assertEqual(summary["status"], status, err)
        return summary, out, err

    def assert_accounted_for(self, run, terms, steps=STEPS):
        code, text, err = self.paceline("audit", str(run), "--json", "audit.json")
        self.assertEqual(code, 0, text + err)
        audit = json.loads((self.folder / "audit.json").read_text())
        self.assertEqual([each["term"] for each in audit["terms"]], terms)
        self.assertEqual(audit["terms"][-1]["last_step"], steps)
        lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        self.assertEqual([line["step"] for line in lines], list(range(1, steps + 1)))
        return lines

    def undisturbed(self, *arguments, steps=STEPS):
        process, run = self.begin("--ranks", "1", *arguments)
        return self.finish(process, run)[0], self.assert_accounted_for(run, [1], steps)

    def test_killed_at_any_time_and_resumed_on_any_ranks_it_ends_with_the_same_bits(self):
        for model, steps in (("{kind: mlp, hidden: 64}", 600), ("{kind: cnn}", 120)):
            with self.subTest(model):
                job = ("--set", f"model={model}", "--set", f"steps={steps}")
                expected, expected_lines = self.undisturbed(*job, steps=steps)
                process, run = self.begin("--ranks", "3", *job, slowness=Slowness(steps // 3, steps))
                self.await_checkpoint(process, run, 10)
                self.kill_all(process)
                before = self.checkpoints(run)[-1]
                process = self.start("--resume", str(run), "--ranks", "2", slowness=Slowness(2 * steps // 3, steps))
                self.await_checkpoint(process, run, before + 10)
                self.kill_all(process)
                before = self.checkpoints(run)[-1]
                process = self.start("--resume", str(run), "--ranks", "1")
                result, out, err = self.finish(process, run)
                self.assertEqual(err, "")
                self.assertIn(f"resumed after step {before} of {steps}", out)
                self.assertEqual((result["steps"], result["ranks"], result["samples"]),
                                 (expected["steps"], 1, expected["samples"]))
                for key in ("weights_sha256", "train_loss", "epochs"):
                    self.assertEqual(result[key], expected[key], key)
                self.assertEqual(result["eval"]["accuracy"], expected["eval"]["accuracy"])
                lines = self.assert_accounted_for(run, [1, 2, 3], steps)
                for key in ("loss", "learning_rate", "gradient_norm", "accuracy"):
                    self.assertEqual([line[key] for line in lines], [line[key] for line in expected_lines], key)
                self.assertLessEqual(len(self.checkpoints(run)), 3)

    def test_a_stopped_run_goes_on_where_it_stopped(self):
        process, run = self.begin("--ranks", "2", slowness=Slowness(STEPS // 2, STEPS))
        self.await_checkpoint(process, run, 5)
        process.send_signal(signal.SIGTERM)
        stopped = self.finish(process, run, "stopped")[0]["steps"]
        self.assertEqual(self.checkpoints(run)[-1], stopped)
        process = self.start("--resume", str(run), "--ranks", "3")
        result, out, _ = self.finish(process, run)
        self.assertIn(f"resumed after step {stopped} of {STEPS}", out)
        self.assertEqual(result["weights_sha256"], self.undisturbed()[0]["weights_sha256"])
        self.assert_accounted_for(run, [1, 2])
        self.assert_refused(self.paceline("train", "--resume", str(run)), 2, "is completed, after 400 steps")

    def test_a_rank_that_is_lost_costs_at_most_the_checkpoint_in_hand(self):
        process, run = self.begin("--ranks", "3", slowness=Slowness(STEPS // 3, STEPS))
        self.await_checkpoint(process, run, 10)
        os.kill(sorted(small.workers_of(process.pid), key=small.age_of)[1], signal.SIGKILL)
        self.await_checkpoint(process, run, self.checkpoints(run)[-1] + 10)
        self.kill_all(process)
        process = self.start("--resume", str(run), "--ranks", "2")
        self.finish(process, run)
        self.assert_accounted_for(run, [1, 2])

    def damage(self, checkpoint):
        part = sorted(checkpoint.glob("part-*.bin"))[-1]
        content = bytearray(part.read_bytes())
        content[len(content) // 2] ^= 1
        part.write_bytes(content)

    def killed_run(self):
        """With three checkpoints."""
        process, run = self.begin("--ranks", "2", slowness=Slowness(10, STEPS))
        wait_for(lambda: len(self.checkpoints(run)) >= 3, "three checkpoints")
        self.kill_all(process)
        return run

    def test_a_damaged_checkpoint_is_passed_over(self):
        run = self.killed_run()
        steps = self.checkpoints(run)
        self.damage(self.newest(run))
        process = self.start("--resume", str(run), "--ranks", "1")
        result, out, err = self.finish(process, run)
        self.assertIn(f"resumed after step {steps[-2]} of {STEPS}", out)
        self.assertRegex(err, r"a checkpoint is passed over: .*part-1-of-2.bin: block 0 .*: the file was changed or damaged")
        self.assertEqual(result["weights_sha256"], self.undisturbed()[0]["weights_sha256"])
        self.assert_accounted_for(run, [1, 2])

    def test_without_a_checkpoint_the_run_begins_anew(self):
        run = self.killed_run()
        checkpoints = list((run / "checkpoints").glob("step-*"))
        for checkpoint in checkpoints:
            self.damage(checkpoint)
        process = self.start("--resume", str(run), "--ranks", "1")
        _, out, err = self.finish(process, run)
        self.assertIn(f"resumed after step 0 of {STEPS}", out)
        self.assertIn(f"holds no checkpoint that is whole: {len(checkpoints)} are damaged: the run begins anew", err)
        self.assert_accounted_for(run, [1, 2])

    def test_what_would_change_the_result_is_refused(self):
        run = self.killed_run()
        resume = ("train", "--resume", str(run), "--ranks", "1")
        self.assert_refused(self.paceline(*resume, "--set", "optimizer.learning_rate=0.1"), 2,
                            "optimizer.learning_rate was 0.02 and would be 0.1")
        self.assert_refused(self.paceline(*resume, "--threads", "2"), 2, "threads was 1 and would be 2")
        self.assert_refused(self.paceline(*resume, "job.yaml"), 2, "leave job.yaml out")
        self.assert_refused(self.paceline(*resume, "--run-dir", "x"), 2, "leave --run-dir out")
        self.assert_refused(self.paceline("train", "--resume", "data"), 2, "data is not a run directory")
        self.assert_refused(self.paceline("train"), 2, "train needs a JOB file, or --resume RUN")
        job = run / "job.json"
        original = job.read_text()
        job.write_text(original.replace('"momentum": 0.9', '"momentum": 0.5'))
        self.assert_refused(self.paceline(*resume), 1, "optimizer.momentum was 0.9 and is 0.5")
        job.write_text(original)
        self.assertEqual(sorted(path.name for path in (run / "journal").iterdir()), ["1.jsonl"])
        # What doesn't change it is taken over.
        process = self.start("--resume", str(run), "--ranks", "1", "--set", "checkpoint.keep=2",
                             slowness=Slowness(STEPS // 2, STEPS))
        self.await_checkpoint(process, run, self.checkpoints(run)[-1] + 10)
        self.assert_refused(self.paceline(*resume), 1, "is in use by process")
        process.send_signal(signal.SIGTERM)
        self.finish(process, run, "stopped")
        self.assertEqual(len(self.checkpoints(run)), 2)
        self.assertEqual(json.loads(job.read_text())["checkpoint"], {"every_steps": 5, "keep": 2})

    def test_checkpoints_at_the_end_of_epochs_and_none_at_all(self):
        process, run = self.begin("--ranks", "2", "--set", "checkpoint={every_steps: 0}", "--set", "steps=100000")
        wait_for(lambda: len(self.checkpoints(run)) >= 3, "three checkpoints")
        self.kill_all(process)
        self.assertEqual({step % 24 for step in self.checkpoints(run)}, {0})
        process, run = self.begin("--ranks", "2", "--set", "checkpoint={every_steps: -1}", "--set", "steps=100000")
        wait_for(lambda: (run / "metrics.jsonl").exists() and (run / "metrics.jsonl").read_text().count("\n") > 30, "30 steps")
        process.send_signal(signal.SIGTERM)
        self.finish(process, run, "stopped")
        self.assertFalse((run / "checkpoints").exists())


if __name__ == "__main__":
    unittest.main()

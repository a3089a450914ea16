"""One job that is disturbed again and again: ranks and coordinators killed and frozen, agents that join, leave and die, changes of
size. It ends with the bits of an undisturbed run of one rank.

PACELINE_SOAK says how often (default 12), PACELINE_SOAK_MODELS which models (default cnn), PACELINE_SOAK_SEED what (default 1)."""

import os
import pathlib
import random
import signal
import subprocess
import sys
import time
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import training_test as small
from coordinated import Coordinated, is_alive, state_of
from elastic_test import LIMIT_S, wait_for

TIMES = int(os.environ.get("PACELINE_SOAK", "12"))
MODELS = os.environ.get("PACELINE_SOAK_MODELS", "cnn").split(",")
SEED = int(os.environ.get("PACELINE_SOAK_SEED", "1"))
MOST_RANKS = 4
JOB = ("--set", "epochs=100000", "--set", "reproducible=true", "--set", "checkpoint={every_steps: 50}")
SLOWLY = ("--set", "optimizer.learning_rate=0.01")
OF_MODEL = {
    "cnn": ("--set", "model={kind: cnn}", *SLOWLY, "--set", "batch.global=256", "--set", "augment.flip=true"),
    "mlp": ("--set", "model={kind: mlp, hidden: 512}", *SLOWLY, "--set", "batch.global=512"),
    "resnet18": ("--set", "model={kind: resnet18}", *SLOWLY, "--set", "batch.global=16", "--set", "batch.grain=4"),
    "gpt": ("--set", "task=language-modelling", "--set", "data={train: text/train, eval: text/test}",
            "--set", "model={kind: gpt, layers: 2, heads: 2, width: 64, context: 64, dropout: 0.1}",
            "--set", "optimizer={kind: adamw, learning_rate: 0.002, clip_norm: 1}"),
}


class Disturbance:
    """A job, and what is done to it. Of ranks one always stays that holds the state: nothing can save a job without. That is one
    that trains and is not frozen, and that no change of size which may be under way sends home."""

    def __init__(self, test, run, generator):
        self.test, self.run, self.generator = test, run, generator
        self.least_wish = MOST_RANKS  # since the job had as many ranks as it wishes
        self.joined = []
        self.leaving = set()  # nodes
        self.frozen = []  # the coordinator that is, of frozen_term
        self.done = []

    def training(self):
        """The ranks that train, as the coordinator sees it: one who died just now may be among them."""
        status = self.run.await_status(lambda status: status["state"] in ("running", "preparing"), "a running job")
        there = [rank for rank in status["ranks"] if rank["rank"] is not None and rank["state"] == "training"
                 and state_of(rank["pid"]) not in (None, "Z", "T")]
        if status["state"] == "running" and len(there) == status["wish"]:
            self.least_wish = status["wish"]
        return there

    def stays(self, rank):
        return rank["rank"] < self.least_wish and rank["node"] not in self.leaving

    def disturb(self):
        kind = self.generator.choice((self.kill, self.kill, self.kill_most, self.freeze, self.resize, self.resize, self.kill_coordinator,
                                      self.freeze_coordinator, self.join, self.leave, self.kill_agent))
        self.done.append(kind.__name__)
        kind()
        time.sleep(self.generator.uniform(0, 2))
        for pid in self.frozen:  # a successor is there, or will be; this one learns of it
            if self.run.term() > self.frozen_term:
                os.kill(pid, signal.SIGCONT)
        self.frozen = [pid for pid in self.frozen if is_alive(pid) and self.run.term() == self.frozen_term]

    def signal_some(self, count, number):
        there = self.training()
        saviours = [rank for rank in there if self.stays(rank)]
        if not saviours:
            return
        there.remove(self.generator.choice(saviours))
        for rank in self.generator.sample(there, min(count, len(there))):
            try:
                os.kill(rank["pid"], number)
            except ProcessLookupError:
                pass

    def kill(self):
        self.signal_some(1, signal.SIGKILL)

    def kill_most(self):
        self.signal_some(self.generator.randrange(2, MOST_RANKS), signal.SIGKILL)

    def freeze(self):
        self.signal_some(1, signal.SIGSTOP)

    def resize(self):
        ranks = self.generator.randrange(1, MOST_RANKS + 1)
        self.least_wish = min(self.least_wish, ranks)
        wait_for(lambda: self.run.ask("resize", ranks)[0] == 0, "a resize")

    def kill_coordinator(self):
        self.run.kill_coordinator()

    def freeze_coordinator(self):
        if self.frozen:
            return
        self.frozen_term = self.run.term()
        pid = self.run.address(self.frozen_term)["pid"]
        if is_alive(pid):
            os.kill(pid, signal.SIGSTOP)
            self.frozen = [pid]
            self.test.coordinators.append(pid)

    def join(self):
        if len(self.joined) < 2:
            node = f"joined{len(self.test.jobs)}"
            self.joined.append((node, self.test.join(self.run, node)))

    def leave(self):
        if self.joined:
            node, agent = self.joined.pop()
            self.leaving.add(node)
            agent.send_signal(signal.SIGTERM)

    def kill_agent(self):
        """With its workers, which must not be all."""
        if not self.joined:
            return
        node, agent = self.joined[-1]
        if not any(self.stays(rank) and rank["node"] != node for rank in self.training()):
            return
        self.joined.pop()
        agent.kill()


class Soak(Coordinated):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        (cls.folder / "words.txt").write_text("\n\n".join(f"The {i}th of some paragraphs, which ends here." for i in range(5000)))
        subprocess.run([str(small.PACELINE), "data", "import", "text", "words.txt", "--out", "text"], cwd=cls.folder, check=True,
                       capture_output=True, timeout=LIMIT_S)

    def setUp(self):
        super().setUp()
        self.coordinators = []
        self.addCleanup(self.thaw)

    def thaw(self):
        for pid in self.coordinators:
            if is_alive(pid):
                os.kill(pid, signal.SIGCONT)

    def test_disturbed_and_undisturbed_end_with_the_same_bits(self):
        for model in MODELS:
            with self.subTest(model):
                self.soak(model)

    def soak(self, model):
        job = (*OF_MODEL[model], *JOB)
        run = self.begin("--ranks", "3", *job, steps=3)
        disturbance = Disturbance(self, run, random.Random(SEED))
        for _ in range(TIMES):
            before = run.steps()
            disturbance.disturb()
            # However it was disturbed, it goes on.
            wait_for(lambda: run.steps() > before or run.process.poll() is not None, f"a step after {disturbance.done[-3:]}")
            if run.process.poll() is not None:
                self.fail(f"after {len(disturbance.done)} disturbances, at last {disturbance.done[-5:]}, it ended: "
                          f"{run.process.communicate()[1]}")
        self.thaw()
        summary, terms = self.stop_and_prove(run)
        for process in self.jobs:
            process.wait(LIMIT_S)
        steps = summary["steps"]
        print(f"{model}: {len(disturbance.done)} disturbances in {steps} steps, {summary['repairs']} repairs, {summary['resizes']} "
              f"resizes, {len(terms)} terms, generation {summary['generation']}", flush=True)
        undisturbed = self.start("--ranks", "1", *job, "--set", f"steps={steps}", "--set", "checkpoint={every_steps: -1}")
        wait_for(lambda: undisturbed.process.poll() is not None, "the end of the undisturbed run", limit_s=LIMIT_S + steps)
        self.assertEqual(undisturbed.finish()["weights_sha256"], summary["weights_sha256"],
                         f"{undisturbed.err}; it says {undisturbed.out[-500:]}")


if __name__ == "__main__":
    unittest.main()

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
from coordinated import Coordinated, is_alive
from elastic_test import LIMIT_S, wait_for

TIMES = int(os.environ.get("PACELINE_SOAK", "12"))
MODELS = os.environ.get("PACELINE_SOAK_MODELS", "cnn").split(",")
SEED = int(os.environ.get("PACELINE_SOAK_SEED", "1"))
MOST_RANKS = 4
JOB = ("--set", "epochs=100000", "--set", "reproducible=true", "--set", "optimizer.learning_rate=0.01",
       "--set", "checkpoint={every_steps: 50}")
OF_MODEL = {
    "cnn": ("--set", "model={kind: cnn}", "--set", "batch.global=256", "--set", "augment.flip=true"),
    "mlp": ("--set", "model={kind: mlp, hidden: 512}", "--set", "batch.global=512"),
    "resnet18": ("--set", "model={kind: resnet18}", "--set", "batch.global=16"),
}


class Disturbance:
    """A job, and what is done to it. Of ranks one always stays that holds the state: nothing can save a job without."""

    def __init__(self, test, run, generator):
        self.test, self.run, self.generator = test, run, generator
        self.joined = []
        self.frozen = []  # coordinators
        self.done = []

    def training(self):
        """The ranks that train, as the coordinator sees it: one who died just now may be among them."""
        status = self.run.await_status(lambda status: status["state"] in ("running", "preparing"), "a running job")
        return [rank for rank in status["ranks"] if rank["rank"] is not None and rank["state"] == "training"
                and is_alive(rank["pid"])]

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
        chosen = self.generator.sample(there, min(count, max(len(there) - 1, 0)))
        for rank in chosen:
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
        wait_for(lambda: self.run.ask("resize", self.generator.randrange(1, MOST_RANKS + 1))[0] == 0, "a resize")

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
            self.joined.append(self.test.join(self.run))

    def leave(self):
        if self.joined:
            self.joined.pop().send_signal(signal.SIGTERM)

    def kill_agent(self):
        """With its workers, which must not be all."""
        if not self.joined:
            return
        agent = self.joined[-1]
        try:
            own = small.workers_of(agent.pid)
        except FileNotFoundError:
            return
        if all(rank["pid"] in own for rank in self.training()):
            return
        self.joined.pop()
        agent.kill()


class Soak(Coordinated):
    def setUp(self):
        super().setUp()
        self.coordinators = []
        self.addCleanup(self.thaw)

    def thaw(self):
        for pid in self.coordinators:
            if is_alive(pid):
                os.kill(pid, signal.SIGCONT)

    def join(self, run):
        name = f"joined{len(self.jobs)}"
        process = subprocess.Popen([str(small.PACELINE), "join", str(run.folder), "--places", "2"], cwd=self.folder,
                                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env={**os.environ, "PACELINE_NODE": name})
        self.jobs.append(process)
        self.addCleanup(lambda: (process.kill(), process.wait()))
        return process

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
            self.assertIsNone(run.process.poll(), f"after {disturbance.done[-5:]}: " + (run.process.poll() is not None and run.process.communicate()[1] or ""))
        self.thaw()
        summary, terms = self.stop_and_prove(run)
        for process in self.jobs:
            process.wait(LIMIT_S)
        steps = summary["steps"]
        print(f"{model}: {len(disturbance.done)} disturbances in {steps} steps, {summary['repairs']} repairs, {summary['resizes']} "
              f"resizes, {len(terms)} terms, generation {summary['generation']}", flush=True)
        undisturbed = self.start("--ranks", "1", *job, "--set", f"steps={steps}", "--set", "checkpoint={}")
        wait_for(lambda: undisturbed.process.poll() is not None, "the end of the undisturbed run", limit_s=LIMIT_S + steps)
        self.assertEqual(undisturbed.finish()["weights_sha256"], summary["weights_sha256"])


if __name__ == "__main__":
    unittest.main()

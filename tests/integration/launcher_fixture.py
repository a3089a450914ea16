"""What the tests of the program `paceline` share: a folder with a job and a dataset, workers that only pretend to train
(tests/support/fake_worker.cpp), and that nothing is left behind.

ctest sets PACELINE_PROGRAM and FAKE_WORKER_PROGRAM, or PACELINE_BUILD_DIR, under which they are found.
"""
import functools
import glob
import json
import os
import shutil
import struct
import subprocess
import sys
import tempfile
import time
import unittest

import waiting
from refusals import Refusals

BUILD = os.environ.get("PACELINE_BUILD_DIR", ".")
PROGRAM = os.environ.get("PACELINE_PROGRAM", os.path.join(BUILD, "bin", "paceline"))
FAKE_WORKER = os.environ.get("FAKE_WORKER_PROGRAM", os.path.join(BUILD, "tests", "integration", "fake_worker"))
# No test waits longer for anything; each thing takes far less.
LIMIT_S = 20
wait_for = functools.partial(waiting.wait_for, limit_s=LIMIT_S)

JOB = """
name: tiny
data: {train: ds/train, eval: ds/test, import: fashion-mnist, source: idx}
model: cnn
optimizer: {kind: sgd, learning_rate: 0.05}
batch: {global: 64}
epochs: 2
ranks: {min: 1, max: 4}
"""


def write_idx(folder):
    """The smallest images that the importer takes."""
    os.makedirs(folder)
    for name, samples in (("train", 256), ("t10k", 64)):
        with open(f"{folder}/{name}-images-idx3-ubyte", "wb") as out:
            out.write(struct.pack(">IIII", 0x803, samples, 28, 28))
            out.write(bytes(i % 251 for i in range(samples * 784)))
        with open(f"{folder}/{name}-labels-idx1-ubyte", "wb") as out:
            out.write(struct.pack(">II", 0x801, samples) + bytes(i % 10 for i in range(samples)))


def clean_environment():
    """Ours without what a launcher around the tests, or a person, may have set."""
    kept = {}
    for name, value in os.environ.items():
        if not name.startswith(("PACELINE_", "OMPI_", "PMIX_", "SLURM", "FAKE_WORKER", "OMP_", "GLIBC_")):
            kept[name] = value
    kept["PACELINE_WORKER"] = FAKE_WORKER
    return kept


def is_alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


class Launched(Refusals):
    """For a unittest.TestCase."""

    @classmethod
    def setUpClass(cls):
        cls.shared = tempfile.mkdtemp(prefix="paceline-launcher-test-")
        write_idx(cls.shared + "/idx")
        imported = subprocess.run(
            [PROGRAM, "data", "import", "fashion-mnist", "idx", "--out", "ds"], cwd=cls.shared,
            env=clean_environment(), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=LIMIT_S)
        assert imported.returncode == 0, imported.stderr

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.shared)

    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="paceline-launcher-test-")
        os.symlink(self.shared + "/ds", self.folder + "/ds")
        os.symlink(self.shared + "/idx", self.folder + "/idx")
        self.write("job.yaml", JOB)
        self.processes = []
        self.may_be_killed = False

    def tearDown(self):
        for process in self.processes:
            if process.poll() is None:
                process.kill()
            process.communicate()
        for pid in self.worker_pids():
            self.assertFalse(is_alive(pid), f"worker {pid} is still there")
        leftovers = glob.glob(self.folder + "/**/.*", recursive=True) + glob.glob(self.folder + "/**/*.partial-*", recursive=True)
        shutil.rmtree(self.folder)
        # mpirun kills what has not left after a second, however slow the disk is.
        self.assertEqual([] if self.may_be_killed else leftovers, [])

    # ---- tools

    def path(self, name):
        return os.path.join(self.folder, name)

    def write(self, name, text):
        with open(self.path(name), "w") as out:
            out.write(text)

    def start(self, *arguments, before=(), **environment):
        variables = clean_environment()
        variables.update(environment)
        process = subprocess.Popen(
            [*before, PROGRAM, *arguments], cwd=self.folder, env=variables, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.processes.append(process)
        return process

    def run_program(self, *arguments, **environment):
        return self.finish(self.start(*arguments, **environment))

    def finish(self, process):
        out, err = process.communicate(timeout=LIMIT_S)
        return process.returncode, out, err

    def start_long(self, *arguments, **environment):
        """A training that lasts a minute; returns once both of its workers train."""
        process = self.start("train", "job.yaml", "--ranks", "2", "--run-dir", "run", *arguments,
                             FAKE_WORKER_STEPS="3000", **environment)
        for rank in (0, 1):
            wait_for(lambda: "cpus" in self.started("run", rank) or process.poll() is not None, f"rank {rank}")
        time.sleep(0.15)  # into the second step, where workers misbehave
        return process

    def started(self, run, rank, action="train"):
        """How a worker says it was started."""
        try:
            with open(self.path(f"{run}/fake-{action}-{rank}")) as lines:
                return dict(line.rstrip("\n").split(" ", 1) for line in lines if " " in line)
        except FileNotFoundError:
            return {}

    def worker_pids(self):
        pids = []
        for name in glob.glob(self.folder + "/**/fake-*-*", recursive=True):
            with open(name) as lines:
                pids += [int(line.split()[1]) for line in lines if line.startswith("pid ")]
        return pids

    def summary(self, name):
        with open(self.path(name)) as text:
            return json.load(text)

    def generation(self, number):
        """The workers that are its members; none where it is not recorded."""
        try:
            with open(self.path(f"run/generations/{number}.json")) as record:
                return [member["worker"] for member in json.load(record)["members"]]
        except FileNotFoundError:
            return []

def main():
    for program in (PROGRAM, FAKE_WORKER):
        if not os.access(program, os.X_OK):
            sys.exit(f"{program} is not there: build it, and set PACELINE_BUILD_DIR to the build folder")
    unittest.main(verbosity=2)

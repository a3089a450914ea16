#!/usr/bin/env python3
"""Three ranks of which two share a core, as on nodes of different speed: how much of what the cores can do together they reach,
with equal shares and balanced ones. Beside them two ranks with a core each, which are as fast as the cores together can be."""

import contextlib
import json
import os
import pathlib
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time

import command_line
import machine
from command_line import BAD_USAGE, FAILED, INTERRUPTED, Refused

REPOSITORY = pathlib.Path(__file__).resolve().parents[1]
LIMIT_S = 300
SETTLING_STEPS = 60
JOB = """
name: unequal-nodes
data: {train: data/train}
model: cnn
optimizer: {kind: sgd, learning_rate: 0.02, momentum: 0.9}
batch: {global: 384, grain: 8}
epochs: 100000
threads: 1
checkpoint: {every_steps: -1}
"""


class Training:
    """One in the background, whose rank i has only cores[i]."""

    def __init__(self, program, folder, name, cores, rebalance):
        self.program, self.run = program, folder / name
        self.process = subprocess.Popen(
            [program, "train", "job.yaml", "--run-dir", name, "--ranks", str(len(cores)), "--set", f"rebalance={rebalance}"],
            cwd=folder, text=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        self.cores = cores

    def __enter__(self):
        try:
            self.await_steps(15)
            for rank in self.ranks():
                for thread in os.listdir(f"/proc/{rank['pid']}/task"):
                    with contextlib.suppress(ProcessLookupError):  # it has ended meanwhile
                        os.sched_setaffinity(int(thread), {self.cores[rank["rank"]]})
            return self
        except BaseException:
            self.end()
            raise

    def __exit__(self, *_):
        self.end()

    def end(self):
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.communicate(timeout=LIMIT_S)
        except BaseException:
            self.process.kill()
            self.process.communicate()
            raise

    def times(self):
        """Of the commits so far, in seconds."""
        try:
            text = (self.run / "metrics.jsonl").read_text()
        except FileNotFoundError:
            return []
        return [json.loads(line)["time"] for line in text.splitlines(keepends=True) if line.endswith("\n")]

    def await_steps(self, count):
        deadline = time.monotonic() + LIMIT_S
        while len(self.times()) < count:
            if self.process.poll() is not None:
                raise RuntimeError(f"the training ended: {self.process.communicate(timeout=LIMIT_S)[1].strip()}")
            if time.monotonic() > deadline:
                raise RuntimeError(f"the training took no {count} steps in {LIMIT_S} s")
            time.sleep(0.05)

    def ranks(self):
        done = subprocess.run([self.program, "status", self.run, "--json"], text=True, capture_output=True, timeout=LIMIT_S)
        if done.returncode != 0:
            raise RuntimeError(f"there is no status: {done.stderr.strip()}")
        return json.loads(done.stdout)["ranks"]

    def measure(self, steps):
        """What a step takes in ms, and the shares at the end."""
        first = len(self.times()) + SETTLING_STEPS
        self.await_steps(first + steps)
        times = self.times()
        return (times[first + steps - 1] - times[first - 1]) / steps * 1000, [rank["share"] for rank in self.ranks()]


def measure(options, folder):
    cores = sorted(os.sched_getaffinity(0))[:2]
    if len(cores) < 2:
        raise Refused("it takes two cores")
    if not pathlib.Path(options.source).is_dir():
        raise Refused(f"--source {options.source} is not a folder: Fashion-MNIST's four files are to be in it")
    imported = subprocess.run([options.paceline, "data", "import", "fashion-mnist", options.source, "--out", "data"], cwd=folder,
                              text=True, capture_output=True, timeout=LIMIT_S)
    if imported.returncode != 0:
        raise RuntimeError(imported.stderr.strip())
    (folder / "job.yaml").write_text(JOB)
    shared = [cores[0], cores[1], cores[1]]
    rounds = []
    for number in range(options.rounds):
        ways = {"alone": (cores, "false"), "equal": (shared, "false"), "balanced": (shared, "true")}
        found = {}
        for way, (of_ranks, rebalance) in ways.items():
            with Training(options.paceline, folder, f"{way}-{number}", of_ranks, rebalance) as training:
                found[f"{way}_ms"], found[f"{way}_shares"] = training.measure(options.steps)
        for way in ("equal", "balanced"):
            found[f"{way}_fraction"] = found["alone_ms"] / found[f"{way}_ms"]
        rounds.append(found)
        print(f"a core each {found['alone_ms']:.1f} ms; two of three on one core: equal shares {found['equal_ms']:.1f} ms "
              f"({found['equal_fraction']:.2f}), balanced {found['balanced_ms']:.1f} ms ({found['balanced_fraction']:.2f}), "
              f"shares {', '.join(map(str, found['balanced_shares']))}", flush=True)
    return rounds


def main():
    parser = command_line.Parser(description=__doc__)
    parser.add_argument("--rounds", type=command_line.whole_number(1), default=3)
    parser.add_argument("--steps", type=command_line.whole_number(5), default=250, help="measured, of each training")
    parser.add_argument("--paceline", default=str(REPOSITORY / "build/release/bin/paceline"), help="the program")
    parser.add_argument("--source", default="/usr/share/datasets/fashion-mnist", help="folder with Fashion-MNIST's files")
    parser.add_argument("--json", metavar="FILE", help="write the figures to this file too")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, command_line.stop_by_signal)
    folder = pathlib.Path(tempfile.mkdtemp(prefix="paceline-unequal-"))
    try:
        if options.json:
            command_line.write_json(options.json, "")
        if shutil.which(options.paceline) is None:
            raise Refused(f"--paceline {options.paceline} is not a program: build it with ./paceline build")
        options.paceline = shutil.which(options.paceline)
        figures = {"machine": machine.fingerprint(), "rounds": measure(options, folder)}
        fractions = [found["balanced_fraction"] for found in figures["rounds"]]
        print(f"balanced: {statistics.median(fractions):.2f} of the cores together, at least 0.90 is wanted")
        if options.json:
            command_line.write_json(options.json, json.dumps(figures, indent=1) + "\n")
        return 0
    except Refused as refused:
        print(f"unequal_nodes.py: {refused}", file=sys.stderr)
        return BAD_USAGE
    except (RuntimeError, OSError, subprocess.TimeoutExpired) as failure:
        print(f"unequal_nodes.py: {failure}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        return INTERRUPTED
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())

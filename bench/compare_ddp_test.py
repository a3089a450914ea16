#!/usr/bin/python3
"""Tests of bench/: the driver with stand-ins for both programs, and the peer on a small dataset."""

import gzip
import json
import os
import pathlib
import signal
import struct
import subprocess
import sys
import tempfile
import time
import unittest

BENCH = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(BENCH), str(BENCH / "peers")]
DEADLINE_S = 60

import machine  # noqa: E402

try:
    import torch

    import fashion_mnist
except ImportError:
    torch = None

# Steps of a stand-in take exactly batch / ranks / SPEED ms, and it notes the cores that it was given.
STAND_IN = """#!/usr/bin/python3
import json, os, sys, time
words = sys.argv
def value(name): return words[words.index(name) + 1]
if "--version" in words: print("stand-in 1"); sys.exit()
behaviour = {behaviour!r}
if behaviour == "fail": print("rank 1 fell over", file=sys.stderr); sys.exit(1)
if behaviour == "hang":
    open({log!r}, "a").write(str(os.getpid()) + "\\n")
    time.sleep(600)
batch = [int(word.split("=")[1]) for word in words if word.startswith("batch.global=")]
batch = batch[0] if batch else int(value("--batch"))
ms = batch / int(value("--ranks")) / {speed}
cores = value("--cores") if "--cores" in words else ",".join(map(str, sorted(os.sched_getaffinity(0))))
open({log!r}, "a").write(f"{{value('--ranks')}} {{batch}} {{cores}}\\n")
summary = {{"step_ms": {{"p50": ms, "p90": 2 * ms}}, "samples_per_second": batch / ms * 500}}
if behaviour == "silent": summary = {{}}
json.dump(summary, open(value("--json"), "w"))
"""


def is_alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@unittest.skipIf(len(machine.physical_cores()) < 2, "the comparison needs two physical cores")
class Driver(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        self.json = self.folder / "out.json"

    def stand_in(self, name, speed, behaviour="good"):
        path = self.folder / name
        log = str(self.folder / f"{name}.log")
        path.write_text(STAND_IN.format(speed=speed, behaviour=behaviour, log=log))
        path.chmod(0o755)
        return str(path)

    def log(self, name):
        return (self.folder / f"{name}.log").read_text().split("\n")[:-1]

    def command(self, *more, ddp_speed=4, paceline_speed=6, behaviour="good"):
        return [sys.executable, str(BENCH / "compare_ddp.py"), "--peer", self.stand_in("ddp", ddp_speed),
                "--paceline", self.stand_in("paceline", paceline_speed, behaviour), "--json", str(self.json),
                *more]

    def run_driver(self, *more, **stand_ins):
        environment = dict(os.environ, TMPDIR=str(self.folder))
        done = subprocess.run(self.command(*more, **stand_ins), capture_output=True, text=True,
                              timeout=DEADLINE_S, check=False, env=environment)
        self.assertEqual(list(self.folder.glob("paceline-compare-*")), [], "a temporary folder is left")
        self.assertEqual(list(self.folder.glob("*.partial-*")), [], "a half-written file is left")
        return done

    def test_ratios_are_those_of_the_stand_ins(self):
        done = self.run_driver("--rounds", "3")
        self.assertEqual(done.returncode, 0, done.stderr)
        result = json.loads(self.json.read_text())
        self.assertEqual(list(result["models"]), ["cnn", "mlp"])
        for model, met in (("cnn", [True, True, True]), ("mlp", [None, True, None])):
            ratios = result["models"][model]["ratios"]
            self.assertEqual([one["met"] for one in ratios], met)
            for one, expected in zip(ratios, [1.5, 1.5, 1.0]):
                for key in ("median", "min", "max"):
                    self.assertAlmostEqual(one[key], expected)
            contenders = result["models"][model]["contenders"]
            self.assertAlmostEqual(contenders["DDP, 2 ranks"]["step_ms"]["median"], 256 / 2 / 4)
            side_by_side = contenders["Paceline, 2 side by side"]
            self.assertAlmostEqual(side_by_side["step_ms"]["median"], 128 / 6)
            self.assertAlmostEqual(side_by_side["samples_per_second"]["median"], 2 * 6 * 1000)
        self.assertEqual(done.stdout.count(": met"), 4)
        self.assertEqual(done.stdout.count("no target"), 2)
        self.assertEqual(result["machine"]["torch"], "stand-in 1")

    def test_a_missed_target_is_said(self):
        done = self.run_driver("--rounds", "1", ddp_speed=8)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(done.stdout.count("not met"), 3)

    def test_everyone_gets_one_core_per_rank(self):
        self.assertEqual(self.run_driver("--rounds", "1", "--models", "cnn").returncode, 0)
        first, second = machine.physical_cores()[:2]
        self.assertEqual(self.log("ddp"), [f"1 256 {first}", f"2 256 {first},{second}"])
        log = self.log("paceline")
        self.assertEqual(log[:2], [f"1 256 {first}", f"2 256 {first},{second}"])
        self.assertEqual(sorted(log[2:]), sorted([f"1 128 {first}", f"1 128 {second}"]))

    def test_a_failure_ends_it_with_the_last_words(self):
        done = self.run_driver(behaviour="fail")
        self.assertEqual(done.returncode, 1)
        self.assertIn("ended with exit status 1: rank 1 fell over", done.stderr)
        self.assertFalse(self.json.exists())

    def test_a_summary_without_figures_is_refused(self):
        done = self.run_driver(behaviour="silent")
        self.assertEqual(done.returncode, 1)
        self.assertIn("no usable step_ms.p50", done.stderr)

    def test_a_program_that_hangs_is_ended(self):
        done = self.run_driver("--timeout", "2", behaviour="hang")
        self.assertEqual(done.returncode, 1)
        self.assertIn("took longer than 2 s", done.stderr)
        self.assertFalse(is_alive(int(self.log("paceline")[0])))

    def end_driver_with(self, number):
        # One that is killed leaves its temporary folder, which then ends with the test's.
        driver = subprocess.Popen(self.command(behaviour="hang"), stderr=subprocess.PIPE, text=True,
                                  env=dict(os.environ, TMPDIR=str(self.folder)))
        started = self.folder / "paceline.log"
        deadline = time.monotonic() + DEADLINE_S
        while not (started.exists() and started.read_text().endswith("\n")):
            self.assertLess(time.monotonic(), deadline, "the stand-in never started")
            time.sleep(0.05)
        driver.send_signal(number)
        driver.communicate(timeout=DEADLINE_S)
        pid = int(self.log("paceline")[0])
        while is_alive(pid):
            self.assertLess(time.monotonic(), deadline, "the stand-in outlived the driver")
            time.sleep(0.05)
        return driver.returncode

    def test_signals_leave_nothing_behind(self):
        self.assertEqual(self.end_driver_with(signal.SIGTERM), 130)

    def test_not_even_a_killed_driver_does(self):
        self.assertEqual(self.end_driver_with(signal.SIGKILL), -signal.SIGKILL)

    def test_bad_usage_is_one_sentence(self):
        for words, sentence in (
                (["--rounds", "0"], "0 is not a whole number of at least 1"),
                (["--models", "rnn"], "rnn is not a list of cnn and mlp"),
                (["--batch", "255"], "--batch 255 has no half"),
                (["--paceline", "/nowhere/paceline"], "/nowhere/paceline can't be started"),
                (["--json", "/nowhere/out.json"], "--json /nowhere/out.json can't be written"),
                (["--json", str(self.folder)], "it is a folder")):
            with self.subTest(words=words):
                done = self.run_driver(*words)
                self.assertEqual(done.returncode, 2)
                self.assertIn(sentence, done.stderr)
                self.assertEqual(len(done.stderr.strip().splitlines()), 1, done.stderr)


@unittest.skipIf(torch is None, "the peer needs python3-torch")
class Peer(unittest.TestCase):
    SAMPLES = 96

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        # Image n is n everywhere, and its label is n % 10: a batch shows which samples it is made of.
        images = b"".join(bytes([n]) * 784 for n in range(self.SAMPLES))
        self.write("train-images-idx3-ubyte.gz", struct.pack(">I3I", 0x803, self.SAMPLES, 28, 28) + images)
        self.write("train-labels-idx1-ubyte.gz",
                   struct.pack(">II", 0x801, self.SAMPLES) + bytes(n % 10 for n in range(self.SAMPLES)))

    def write(self, name, raw):
        (self.folder / name).write_bytes(gzip.compress(raw))

    def run_peer(self, *words):
        command = [sys.executable, str(BENCH / "peers/ddp.py"), "--data", str(self.folder), *words]
        return subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S, check=False)

    def test_batches_are_normalised_and_each_sample_comes_once(self):
        data = fashion_mnist.Data(str(self.folder))
        deviation = ((self.SAMPLES**2 - 1) / 12) ** 0.5 / 255  # of 0 .. n-1
        self.assertAlmostEqual(data.mean, (self.SAMPLES - 1) / 2 / 255)
        self.assertAlmostEqual(data.deviation, deviation)
        parts = [fashion_mnist.batches(data, 32, part, 2, seed=1) for part in range(2)]
        seen = []
        for _ in range(self.SAMPLES // 32):
            for part in parts:
                values, labels = next(part)
                self.assertEqual(tuple(values.shape), (16, 1, 28, 28))
                numbers = ((values[:, 0, 0, 0] * data.deviation + data.mean) * 255).round().long()
                self.assertEqual(labels.tolist(), (numbers % 10).tolist())
                seen += numbers.tolist()
        self.assertEqual(sorted(seen), list(range(self.SAMPLES)))
        self.assertNotEqual(seen, sorted(seen))

    def test_both_models_train_over_ranks_and_by_themselves(self):
        cores = len(os.sched_getaffinity(0))
        for model, parameters in (("cnn", 105866), ("mlp", 5824522)):
            for how in (["--ranks", "1"], ["--ranks", "2"], ["--independent", "2"]):
                if int(how[1]) > cores:
                    continue
                with self.subTest(model=model, how=how):
                    out = self.folder / "out.json"
                    done = self.run_peer("--model", model, *how, "--batch", "32", "--steps", "5",
                                         "--warmup", "2", "--json", str(out))
                    self.assertEqual(done.returncode, 0, done.stderr)
                    result = json.loads(out.read_text())
                    self.assertEqual(result["parameters"], parameters)
                    self.assertEqual(len(result["processes"]), int(how[1]))
                    self.assertLessEqual(result["step_ms"]["min"], result["step_ms"]["p50"])
                    self.assertLessEqual(result["step_ms"]["p50"], result["step_ms"]["p90"])

    def test_bad_input_is_one_sentence(self):
        self.write("train-labels-idx1-ubyte.gz", struct.pack(">II", 0x801, 3) + bytes(3))
        cases = [(["--ranks", "1"], "3 labels"),
                 (["--ranks", "1", "--batch", "0"], "not a whole number of at least 1"),
                 (["--ranks", "3", "--batch", "256"], "does not divide"), (["--cores", "0;1"], "as in 0,1"),
                 (["--ranks", "1", "--data", "/nowhere"], "dataset-fashion-mnist")]
        for words, sentence in cases:
            with self.subTest(words=words):
                done = self.run_peer(*words)
                self.assertEqual(done.returncode, 2, done.stderr)
                self.assertIn(sentence, done.stderr)
                self.assertEqual(len(done.stderr.strip().splitlines()), 1, done.stderr)


if __name__ == "__main__":
    unittest.main()

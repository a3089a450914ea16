"""`paceline audit` on real runs: right ones, and ones that were tampered with afterwards.

A small dataset is made from IDX files, so that a sample can be changed in its source and the dataset made again.
"""

import json
import os
import pathlib
import random
import shutil
import signal
import struct
import subprocess
import tempfile
import unittest

from refusals import Refusals
from waiting import wait_for

BUILD = pathlib.Path(os.environ["PACELINE_BUILD_DIR"])
PACELINE = BUILD / "bin" / "paceline"
PATIENCE_S = 60
SAMPLES = 1000
BATCH = 64
STEPS = 16  # per epoch; the last one has 40 samples
IMAGE = 28 * 28

JOB = f"""
name: small
data: {{train: data/train, budget_mib: 64}}
model: {{kind: mlp, hidden: 16}}
optimizer: {{kind: sgd, learning_rate: 0.01}}
batch: {{global: {BATCH}}}
epochs: 3
seed: 3
"""


def write_idx(folder, swap=None, label=None):
    """The source; with `swap`, two of its samples in each other's place; with `label`, one sample's changed."""
    generator = random.Random(11)
    folder.mkdir()
    for name, count in (("train", SAMPLES), ("t10k", 10)):
        images = [generator.randbytes(IMAGE) for _ in range(count)]
        labels = [generator.randrange(10) for _ in range(count)]
        if name == "train" and swap:
            a, b = swap
            images[a], images[b], labels[a], labels[b] = images[b], images[a], labels[b], labels[a]
        if name == "train" and label is not None:
            labels[label] = (labels[label] + 1) % 10
        (folder / f"{name}-images-idx3-ubyte").write_bytes(
            struct.pack(">IIII", 0x803, count, 28, 28) + b"".join(images))
        (folder / f"{name}-labels-idx1-ubyte").write_bytes(struct.pack(">II", 0x801, count) + bytes(labels))


class Audit(unittest.TestCase, Refusals):
    @classmethod
    def setUpClass(cls):
        cls.folder = pathlib.Path(tempfile.mkdtemp(prefix="paceline-audit-"))
        cls.addClassCleanup(shutil.rmtree, cls.folder)
        (cls.folder / "job.yaml").write_text(JOB)
        cls.import_data("data")
        cls.train("right", "--ranks", "2")

    @classmethod
    def paceline(cls, *arguments):
        done = subprocess.run([str(PACELINE), *arguments], cwd=cls.folder, text=True, capture_output=True,
                              timeout=120)
        return done.returncode, done.stdout, done.stderr

    @classmethod
    def import_data(cls, out, **changes):
        """Makes the dataset again where there is one."""
        shutil.rmtree(cls.folder / "idx", ignore_errors=True)
        shutil.rmtree(cls.folder / out, ignore_errors=True)
        write_idx(cls.folder / "idx", **changes)
        code, _, errors = cls.paceline("data", "import", "fashion-mnist", "idx", "--out", out)
        assert code == 0, errors

    @classmethod
    def train(cls, run, *arguments):
        code, _, errors = cls.paceline("train", "job.yaml", "--run-dir", run, "--threads", "1", "--quiet", *arguments)
        assert code == 0, errors

    def audit(self, run):
        """Exit status, the faults as {(kind, step)} or the proof, and the JSON."""
        out = self.folder / "audit.json"
        out.unlink(missing_ok=True)
        code, text, errors = self.paceline("audit", str(run), "--json", str(out))
        result = json.loads(out.read_text())
        self.assertEqual(result["status"], "not proved" if code else "proved", errors)
        self.assertEqual(len(errors.splitlines()), len(result["first_faults"]) + (1 if code else 0), errors)
        return code, errors if code else text, result

    def tampered(self, change):
        """A copy of the right run whose journal's lines `change` has had a hand in, audited. Line n is step n."""
        run = self.folder / "tampered"
        shutil.rmtree(run, ignore_errors=True)
        shutil.copytree(self.folder / "right", run)
        lines = [json.loads(line) for line in (run / "journal/1.jsonl").read_text().splitlines()]
        lines = [line for line in lines if line["type"] not in ("generation", "checkpoint")]  # which the audit passes over
        change(lines)
        (run / "journal/1.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        return self.audit(run)

    def assert_faults(self, audited, *expected):
        """Just these kinds of faults; each expected one is its kind and a part of its message."""
        code, errors, result = audited
        self.assertEqual(code, 1)
        self.assertEqual([fault["kind"] for fault in result["first_faults"]], [kind for kind, _ in expected], errors)
        for fault, (_, part) in zip(result["first_faults"], expected):
            self.assertIn(part, fault["message"])
            self.assertIn(fault["message"], errors)

    def test_any_number_of_ranks_is_proved(self):
        for ranks in (1, 2, 3):
            run = f"ranks{ranks}"
            self.train(run, "--ranks", str(ranks), "--set", "batch.micro=10")
            code, text, result = self.audit(run)
            self.assertEqual(code, 0, text)
            self.assertIn("proved: 3 epochs, 48 steps, 3,000 samples; each of the 1,000 positions", text)
            self.assertEqual(len(text.splitlines()), 1)
            self.assertEqual((result["epochs"], result["steps"], result["samples"]), (3, 48, 3000))
            self.assertEqual((result["end"], result["unfinished"], result["faults"]), ("completed", None, 0))

    def test_the_journal_has_a_line_for_each_thing(self):
        lines = [json.loads(line) for line in (self.folder / "right/journal/1.jsonl").read_text().splitlines()]
        # A checkpoint is in there as soon as it is written, which in a run so short may be never; and on a busy machine a rank may be slow.
        types = [line["type"] for line in lines if line["type"] not in ("checkpoint", "straggler")]
        self.assertEqual(types, ["journal", "generation"] + (["step"] * STEPS + ["epoch"]) * 3 + ["end"])
        self.assertEqual(lines[0]["order"]["seed"], 3)
        self.assertEqual(lines[0]["order"]["dataset"], str(self.folder / "data/train"))
        steps = [line for line in lines if line["type"] == "step"]
        self.assertEqual([line["step"] for line in steps], list(range(1, 49)))
        self.assertEqual([line["first"] for line in steps[:STEPS]], list(range(0, SAMPLES, BATCH)))
        self.assertGreater(lines[-1].pop("time"), lines[1]["time"])
        self.assertEqual(lines[-1], {"type": "end", "status": "completed", "steps": 48})

    def test_a_hole_is_found(self):
        self.assert_faults(self.tampered(lambda lines: lines.pop(3)),
                           ("hole", "positions 128 to 191 of epoch 1 were never used: step 3 is missing"))

    def test_a_repeat_is_found(self):
        def repeat(lines):
            lines[9]["first"] = lines[3]["first"]
            lines[9]["consumed"] = lines[3]["consumed"]
        self.assert_faults(self.tampered(repeat),
                           ("repeat", "positions 128 to 191 of epoch 1 were used more than once: by step 3 and by step 9"),
                           ("hole", "positions 512 to 575 of epoch 1 were never used"))

    def test_a_range_that_does_not_fit_is_found(self):
        def stretch(lines):
            lines[STEPS]["count"] = BATCH
        self.assert_faults(self.tampered(stretch), ("range", "step 16 used positions to 1023 of epoch 1"),
                           ("hole", "positions 960 to 999 of epoch 1 were never used"))

    def test_consumed_sums_that_changed_places_are_found(self):
        def swap(lines):
            lines[3]["consumed"], lines[4]["consumed"] = lines[4]["consumed"], lines[3]["consumed"]
        self.assert_faults(self.tampered(swap), ("consumed", "step 3 "), ("consumed", "step 4 "))

    def test_another_epochs_order_is_found(self):
        def exchange(lines):
            lines[1]["epoch"], lines[STEPS + 2]["epoch"] = 2, 1
        code, _, result = self.tampered(exchange)
        self.assertEqual(code, 1)
        self.assertEqual({(fault["kind"], fault["step"]) for fault in result["first_faults"]},
                         {("consumed", 1), ("consumed", 17)})

    def test_a_lost_end_is_found(self):
        def lose(lines):
            del lines[-4:-1]
        self.assert_faults(self.tampered(lose),
                           ("hole", "positions 896 to 999 of epoch 3 were never used: steps 47 to 48 are missing"))

    def test_another_seed_is_found(self):
        def reseed(lines):
            lines[0]["order"]["seed"] = 4
        code, errors, result = self.tampered(reseed)
        self.assertEqual(code, 1)
        self.assertEqual(result["first_faults"][0]["kind"], "job")
        self.assertEqual(result["faults"], 1 + 48)
        self.assertIn("49 faults, of which the first 20 are shown", errors)

    def test_foreign_bytes_are_one_clear_sentence(self):
        run = self.folder / "foreign"
        shutil.copytree(self.folder / "right", run)
        self.addCleanup(shutil.rmtree, run)
        whole = (run / "journal/1.jsonl").read_bytes()
        for content in (b"", random.Random(1).randbytes(100_000), b"\0" * 100, whole[whole.index(b"\n") + 1:],
                        b"{" * 3_000_000):
            (run / "journal/1.jsonl").write_bytes(content)
            code, errors, _ = self.audit(run)
            self.assertEqual(code, 1)
            self.assertIn("has no journal's header in its first line", errors)
        # One line in the middle: the rest is looked at all the same.
        lines = whole.splitlines(keepends=True)
        (run / "journal/1.jsonl").write_bytes(b"".join(lines[:6]) + b'{"type":"st\xff\n' + b"".join(lines[7:]))
        self.assert_faults(self.audit(run), ("journal", "line 7 of journal/1.jsonl can't be used: it is not JSON"),
                           ("hole", "positions 256 to 319 of epoch 1 were never used: step 5 is missing"))
        # A last line that was not written to its end is what a killed run leaves.
        (run / "journal/1.jsonl").write_bytes(whole[:-20])
        code, text, result = self.audit(run)
        self.assertEqual((code, result["torn_end"], result["end"]), (0, True, None), text)
        self.assertIn("last line is cut off", text)
        (run / "journal/1.jsonl").unlink()
        self.assertIn("journal/1.jsonl: No such file", self.audit(run)[1])

    def test_a_dataset_that_changed_is_found(self):
        self.import_data("other")
        self.train("on-other", "--ranks", "2", "--set", "data.train=other/train")
        self.assertEqual(self.audit("on-other")[0], 0)
        self.import_data("other")
        self.assertEqual(self.audit("on-other")[0], 0, "the same dataset, made again")
        for changes, samples in (({"swap": (17, 717)}, 2), ({"label": 500}, 1)):
            self.import_data("other", **changes)
            _, errors, result = self.audit("on-other")
            kinds = [fault["kind"] for fault in result["first_faults"]]
            self.assertEqual(kinds[0], "dataset", errors)
            self.assertIn("has changed since the run", errors)
            # In each epoch the samples stand at one position each: one step or two didn't use what is there now.
            steps = [fault["step"] for fault in result["first_faults"][1:]]
            self.assertEqual(set(kinds[1:]), {"consumed"})
            for epoch in range(3):
                of_epoch = [step for step in steps if (step - 1) // STEPS == epoch]
                self.assertIn(len(of_epoch), range(1, samples + 1), errors)

    def test_a_damaged_or_missing_dataset_is_named(self):
        self.import_data("frail")
        self.train("on-frail", "--set", "data.train=frail/train")
        shard = self.folder / "frail/train/shard-00000.h5"
        damaged = bytearray(shard.read_bytes())
        damaged[len(damaged) // 2] ^= 1
        shard.write_bytes(damaged)
        self.assert_faults(self.audit("on-frail"), ("dataset", "shard-00000.h5"))
        shutil.rmtree(self.folder / "frail")
        self.assert_faults(self.audit("on-frail"), ("dataset", "there is no dataset at"))

    def test_a_killed_run_proves_its_finished_epochs(self):
        run = self.folder / "killed"
        process = subprocess.Popen([str(PACELINE), "train", "job.yaml", "--run-dir", str(run), "--ranks", "2",
                                    "--threads", "1", "--set", "epochs=100000"], cwd=self.folder,
                                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.addCleanup(lambda: (process.kill(), process.wait()))
        journal = run / "journal/1.jsonl"
        def has_three_epochs():
            self.assertIsNone(process.poll(), "it ended")
            return journal.exists() and journal.read_text().count('"epoch","epoch"') >= 3
        wait_for(has_three_epochs, "three epochs", PATIENCE_S)
        others = [int(pid) for pid in
                  pathlib.Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]
        self.assertEqual(len(others), 3, "two workers, and the coordinator")
        self.assertEqual(self.audit(run)[0], 0, "while it runs")
        for pid in [*others, process.pid]:
            os.kill(pid, signal.SIGKILL)
        process.wait(timeout=PATIENCE_S)
        wait_for(lambda: not any(pathlib.Path(f"/proc/{pid}").exists() for pid in others), "the end of all", PATIENCE_S)
        code, text, result = self.audit(run)
        self.assertEqual(code, 0, text)
        self.assertGreaterEqual(result["epochs"], 3)
        self.assertEqual(result["samples"], SAMPLES * result["epochs"])
        self.assertIn("the run was killed", text)
        self.assertIsNone(result["end"])

    def test_a_failed_run_says_so_in_its_journal(self):
        code, _, _ = self.paceline("train", "job.yaml", "--run-dir", "failed", "--set",
                                   "optimizer.learning_rate=1e30")
        self.assertEqual(code, 1)
        last = json.loads((self.folder / "failed/journal/1.jsonl").read_text().splitlines()[-1])
        self.assertEqual((last["type"], last["status"]), ("end", "failed"))
        self.assertIn("learning_rate", last["error"])
        self.assertEqual(self.audit("failed")[0], 0)

    def test_bad_usage(self):
        self.assert_refused(self.paceline("audit", "data"), 2, "data is not a run directory")
        self.assert_refused(self.paceline("audit", "right", "--json", "nowhere/x.json"), 2, "nowhere/x.json")


if __name__ == "__main__":
    unittest.main()

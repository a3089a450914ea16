"""Reproducible mode as people use it: the same job on other numbers of ranks ends with the same weights, bit for bit."""

import json
import os
import pathlib
import random
import shutil
import subprocess
import tempfile
import unittest

from training_test import PACELINE, write_idx

JOB = """
name: same-bits
data: {train: data/train, eval: data/test, budget_mib: 64}
model: mlp
optimizer: {kind: sgd, learning_rate: 0.02, momentum: 0.9}
batch: {global: 128}
epochs: 2
seed: 3
reproducible: true
"""

# What is added up in a step beside gradients travels the same way.
COMPARED = ("step", "loss", "accuracy", "perplexity", "gradient_norm", "learning_rate")


def write_text(path):
    generator = random.Random(5)
    words = ["".join(generator.choices("abcdefghijkl", k=generator.randint(2, 7))) for _ in range(50)]
    path.write_text(" ".join(generator.choice(words) for _ in range(12000)))


class Reproducible(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = pathlib.Path(tempfile.mkdtemp(prefix="paceline-reproducible-"))
        cls.addClassCleanup(shutil.rmtree, cls.folder)
        (cls.folder / "idx").mkdir()
        write_idx(cls.folder / "idx")
        write_text(cls.folder / "words.txt")
        (cls.folder / "job.yaml").write_text(JOB)
        for arguments in (("fashion-mnist", "idx", "--out", "data"), ("text", "words.txt", "--out", "text")):
            done = cls.paceline("data", "import", *arguments)
            assert done.returncode == 0, done.stderr
        cls.runs = 0

    @classmethod
    def paceline(cls, *arguments, nodes=""):
        return subprocess.run([str(PACELINE), *arguments], cwd=cls.folder, text=True, capture_output=True, timeout=200,
                              env={**os.environ, "PACELINE_NODE": nodes})

    def train(self, ranks, *settings, nodes=""):
        """Gives the run's result, and for every step what must be the same."""
        type(self).runs += 1
        run = f"runs/r{self.runs}"
        out = self.folder / f"out{self.runs}.json"
        overrides = [argument for setting in settings for argument in ("--set", setting)]
        done = self.paceline("train", "job.yaml", "--ranks", str(ranks), "--run-dir", run, "--json", str(out),
                             *overrides, nodes=nodes)
        self.assertEqual(done.returncode, 0, done.stderr)
        lines = [json.loads(line) for line in (self.folder / run / "metrics.jsonl").read_text().splitlines()]
        steps = [tuple(line.get(key) for key in COMPARED) for line in lines]
        return json.loads(out.read_text()), steps

    def check_any_size_gives_the_same(self, *settings):
        alone, steps = self.train(1, *settings)
        for ranks, nodes in ((2, ""), (3, "a,b,a")):
            result, its_steps = self.train(ranks, *settings, nodes=nodes)
            self.assertEqual(result["ranks"], ranks)
            self.assertEqual(result["weights_sha256"], alone["weights_sha256"])
            self.assertEqual(result["train_loss"], alone["train_loss"])
            self.assertEqual(its_steps, steps)
        return alone

    def test_mlp(self):
        self.check_any_size_gives_the_same("model={kind: mlp, hidden: 256}", "steps=8")

    def test_cnn_through_short_steps_and_grains(self):
        # 3,000 samples in steps of 200 and grains of 24: the last of a step has 8.
        result = self.check_any_size_gives_the_same("model=cnn", "steps=17", "batch={global: 200, grain: 24}",
                                                    "augment={padding: 2, crop: 28, flip: true}")
        self.assertEqual(result["epochs"], 1)

    def test_batch_norm(self):
        self.check_any_size_gives_the_same("model={kind: resnet18, width: 8}", "steps=4",
                                           "optimizer={kind: adamw, learning_rate: 0.002, clip_norm: 1}")

    def test_text_with_dropout(self):
        self.check_any_size_gives_the_same(
            "task=language-modelling", "data={train: text/train, eval: text/test}", "steps=5",
            "model={kind: gpt, layers: 2, heads: 2, width: 32, context: 32, dropout: 0.1}",
            "optimizer={kind: adamw, learning_rate: 0.002, clip_norm: 1}")

    def test_the_bits_are_those_of_this_job(self):
        settings = ("model={kind: mlp, hidden: 64}", "steps=5")
        hashes = {self.train(2, *settings, *more)[0]["weights_sha256"]
                  for more in ((), ("seed=4",), ("batch.grain=16",), ("reproducible=false",))}
        self.assertEqual(len(hashes), 4)

    def test_what_decides_the_bits_stands_in_the_resolved_job(self):
        self.train(2, "model={kind: mlp, hidden: 64}", "steps=1")
        job = json.loads((self.folder / f"runs/r{self.runs}/job.json").read_text())
        self.assertEqual((job["reproducible"], job["batch"]["grain"], job["threads"]), (True, 32, 1))

    def test_more_ranks_than_grains_are_refused(self):
        done = self.paceline("train", "job.yaml", "--ranks", "5")
        self.assertEqual(done.returncode, 2)
        self.assertIn("5 ranks cannot share 4 grains per step", done.stderr)


if __name__ == "__main__":
    unittest.main()

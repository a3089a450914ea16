"""Real training: the programs as people run them, on a small dataset that the test makes.

Images are noise around one pattern per class, so that a small network learns them in seconds.
"""

import gzip
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

from waiting import end_with, wait_for

BUILD = pathlib.Path(os.environ["PACELINE_BUILD_DIR"])
PACELINE = BUILD / "bin" / "paceline"
PATIENCE_S = 60
SAMPLES = {"train": 3000, "t10k": 700}

JOB = """
name: small
data: {train: data/train, eval: data/test, budget_mib: 64}
model: {kind: mlp, hidden: 64}
optimizer: {kind: sgd, learning_rate: 0.05, momentum: 0.9}
batch: {global: 128}
epochs: 3
ranks: {min: 1, max: 4}
seed: 3
"""


def write_idx(folder):
    generator = random.Random(11)
    patterns = [[generator.randrange(256) for _ in range(784)] for _ in range(10)]
    for name, count in SAMPLES.items():
        labels = bytes(generator.randrange(10) for _ in range(count))
        images = bytearray()
        for label in labels:
            noise = generator.randbytes(784)
            images += bytes((3 * p + n) // 4 for p, n in zip(patterns[label], noise))
        with gzip.open(folder / f"{name}-images-idx3-ubyte.gz", "wb", 1) as file:
            file.write(struct.pack(">IIII", 0x803, count, 28, 28) + images)
        (folder / f"{name}-labels-idx1-ubyte").write_bytes(struct.pack(">II", 0x801, count) + labels)


def workers(folder):
    """Process ids of all paceline-worker processes that were started in a folder; other tests may run beside this one."""
    found = set()
    for entry in pathlib.Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            is_worker = os.readlink(entry / "exe") == str(BUILD / "bin" / "paceline-worker")
            if is_worker and os.readlink(entry / "cwd") == str(folder.resolve()):
                found.add(int(entry.name))
        except OSError:
            pass
    return found


def children_of(pid):
    return [int(child) for child in pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def workers_of(pid):
    """Those of an agent."""
    return [child for child in children_of(pid) if program_of(child) == "paceline-worker"]


def age_of(pid):
    """To sort by: numbers of processes begin again after the highest one."""
    try:
        return int(pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]), pid
    except OSError:
        return 0, pid


def program_of(pid):
    try:
        return os.path.basename(os.readlink(f"/proc/{pid}/exe"))
    except OSError:
        return ""


class Training(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = pathlib.Path(tempfile.mkdtemp(prefix="paceline-training-"))
        (cls.folder / "idx").mkdir()
        write_idx(cls.folder / "idx")
        (cls.folder / "job.yaml").write_text(JOB)
        done = cls.paceline("data", "import", "fashion-mnist", "idx", "--out", "data")
        assert done.returncode == 0, done.stderr
        cls.runs = 0

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.folder)

    @classmethod
    def environment(cls, extra):
        return {**os.environ, "OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1", **extra}

    @classmethod
    def paceline(cls, *arguments, environment=None, launcher=()):
        return subprocess.run([*launcher, str(PACELINE), *arguments], cwd=cls.folder, text=True,
                              capture_output=True, timeout=120, env=cls.environment(environment or {}))

    def train(self, *arguments, **options):
        """Trains; gives the completed process, the JSON and the run directory."""
        type(self).runs += 1
        run = f"runs/r{self.runs}"
        out = self.folder / f"out{self.runs}.json"
        done = self.paceline("train", "job.yaml", "--run-dir", run, "--json", str(out), *arguments, **options)
        return done, json.loads(out.read_text()) if out.exists() else None, self.folder / run

    def start(self, *arguments):
        """Starts a long training in the background; gives it once all workers have taken steps."""
        type(self).runs += 1
        run = self.folder / f"runs/r{self.runs}"
        process = subprocess.Popen([str(PACELINE), "train", "job.yaml", "--run-dir", str(run), "--set",
                                    "epochs=100000", "--set", "eval_every=0", *arguments],
                                   cwd=self.folder, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        end_with(self, process)
        def taken():
            self.assertIsNone(process.poll(), "it ended")
            return (run / "metrics.jsonl").exists() and (run / "metrics.jsonl").read_text()
        wait_for(taken, "a step", PATIENCE_S)
        return process, run

    def assert_no_worker_left(self):
        wait_for(lambda: not workers(self.folder), "the end of all workers", PATIENCE_S)

    def test_any_number_of_ranks_learns_the_same(self):
        results = {}
        for ranks in (1, 2, 3):
            done, result, run = self.train("--ranks", str(ranks))
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertEqual(result["status"], "completed")
            self.assertEqual(result["ranks"], ranks)
            self.assertEqual(result["steps"], 3 * 24)
            self.assertEqual(result["samples"], 3 * 3000)
            lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
            self.assertEqual([line["step"] for line in lines], list(range(1, 73)))
            self.assertLess(lines[-1]["loss"], lines[0]["loss"] / 4)
            results[ranks] = result
        for ranks in (2, 3):
            self.assertAlmostEqual(results[ranks]["train_loss"], results[1]["train_loss"], delta=1e-3)
            self.assertEqual(results[ranks]["eval"]["accuracy"], results[1]["eval"]["accuracy"])
        self.assertGreater(results[1]["eval"]["accuracy"], 0.95)

    def test_the_same_job_gives_the_same_weights(self):
        hashes = {self.train("--ranks", "2")[1]["weights_sha256"] for _ in range(2)}
        self.assertEqual(len(hashes), 1)
        other = self.train("--ranks", "2", "--set", "seed=4")[1]["weights_sha256"]
        self.assertNotIn(other, hashes)

    def test_nodes_that_share_no_memory_train_alike(self):
        _, one, _ = self.train("--ranks", "3")
        done, several, _ = self.train("--ranks", "3", environment={"PACELINE_NODE": "a,b,a"})
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertAlmostEqual(several["train_loss"], one["train_loss"], delta=1e-3)

    def test_small_passes_and_batch_norm(self):
        done, result, _ = self.train("--ranks", "2", "--set", "model={kind: resnet18, width: 4}", "--set",
                                     "epochs=1", "--set", "batch.micro=16", "--set", "optimizer.learning_rate=0.02")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertGreater(result["eval"]["accuracy"], 0.3)

    def test_16_bits(self):
        _, full, run = self.train("--ranks", "2")
        self.assertNotIn("loss_scale", (run / "metrics.jsonl").read_text())
        done, half, run = self.train("--ranks", "2", "--set", "dtype=bf16")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertNotEqual(half["weights_sha256"], full["weights_sha256"])
        self.assertAlmostEqual(half["train_loss"], full["train_loss"], delta=0.1)
        self.assertGreater(half["eval"]["accuracy"], 0.9)
        again = self.folder / "eval16.json"
        self.assertEqual(self.paceline("eval", str(run), "--json", str(again)).returncode, 0)
        self.assertEqual(json.loads(again.read_text())["eval"]["accuracy"], half["eval"]["accuracy"])
        # A factor that is a power of two changes nothing.
        done, scaled, run = self.train("--ranks", "2", "--set", "loss_scale=1024")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(scaled["weights_sha256"], full["weights_sha256"])
        self.assertEqual({json.loads(line)["loss_scale"] for line in (run / "metrics.jsonl").read_text().splitlines()}, {1024})
        done, _, _ = self.train("--set", "dtype=f16")
        self.assertEqual(done.returncode, 2)
        self.assertIn("dtype is f16, in which only GPUs compute", done.stderr)

    def test_adamw_with_schedules(self):
        for schedule in ("{kind: cosine, warmup_epochs: 0.5}", "{kind: step, step_epochs: 1, gamma: 0.5}"):
            done, result, run = self.train("--set", "optimizer={kind: adamw, learning_rate: 0.002, weight_decay: 0.01}",
                                           "--set", f"schedule={schedule}")
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertGreater(result["eval"]["accuracy"], 0.9)
            rates = [json.loads(line)["learning_rate"] for line in (run / "metrics.jsonl").read_text().splitlines()]
            if "cosine" in schedule:
                self.assertAlmostEqual(rates[-1], 0, places=9)
                self.assertLess(rates[0], 0.0002)
                self.assertAlmostEqual(max(rates), 0.002, places=6)
            else:
                self.assertEqual([rates[0], rates[24], rates[48]], [0.002, 0.001, 0.0005])

    def test_a_job_that_ends_within_an_epoch(self):
        done, result, run = self.train("--ranks", "2", "--set", "steps=30", "--set",
                                       "schedule={kind: cosine, warmup_steps: 5}", "--set", "optimizer.clip_norm=0.5")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual((result["steps"], result["epochs"]), (30, 1))  # of 24 steps, and a part of the next
        self.assertEqual(result["samples"], 3000 + 6 * 128)
        self.assertIn("epoch 2/2: ", done.stdout)
        self.assertGreater(result["eval"]["accuracy"], 0.8)
        lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        self.assertEqual(len(lines), 30)
        self.assertAlmostEqual(lines[0]["learning_rate"], 0.05 / 6)
        self.assertAlmostEqual(lines[-1]["learning_rate"], 0, places=9)
        self.assertGreater(max(line["gradient_norm"] for line in lines), 0.5)  # before clipping

    def test_under_mpirun(self):
        if not shutil.which("mpirun"):
            self.skipTest("mpirun is not installed")
        done, result, _ = self.train(launcher=("mpirun", "--oversubscribe", "-np", "2"))
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual((result["status"], result["ranks"]), ("completed", 2))
        _, alone, _ = self.train("--ranks", "2")
        self.assertEqual(result["weights_sha256"], alone["weights_sha256"])
        self.assert_no_worker_left()

    def test_eval_and_export(self):
        done, result, run = self.train("--ranks", "2")
        self.assertEqual(done.returncode, 0, done.stderr)
        for ranks in (1, 3):
            again = self.folder / "eval.json"
            done = self.paceline("eval", str(run), "--ranks", str(ranks), "--json", str(again))
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertEqual(json.loads(again.read_text())["eval"]["accuracy"], result["eval"]["accuracy"])
        for kind in ("safetensors", "pickle", "torchscript"):
            out = self.folder / f"model.{kind}"
            done = self.paceline("export", str(run), "--format", kind, "--out", str(out))
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertGreater(out.stat().st_size, 4 * 64 * 784)
        blob = (self.folder / "model.safetensors").read_bytes()
        header = json.loads(blob[8:8 + struct.unpack("<Q", blob[:8])[0]])
        self.assertEqual(header["1.weight"]["shape"], [64, 784])
        self.check_with_pytorch(result)

    def check_with_pytorch(self, result):
        script = """
import gzip, struct, torch
state = torch.load("model.pickle")
module = torch.jit.load("model.torchscript")
assert set(state) == set(dict(module.named_parameters())), (set(state), set(dict(module.named_parameters())))
raw = gzip.open("idx/t10k-images-idx3-ubyte.gz").read()[16:]
labels = torch.tensor(list(open("idx/t10k-labels-idx1-ubyte", "rb").read()[8:]))
import json
blob = open("model.safetensors", "rb").read()
spec = json.loads(json.loads(blob[8:8 + struct.unpack("<Q", blob[:8])[0]])["__metadata__"]["paceline"])
images = torch.tensor(list(raw), dtype=torch.float32).view(-1, 1, 28, 28)
mean, deviation = (torch.tensor(spec[key]).view(-1, 1, 1) for key in ("mean", "standard_deviation"))
inputs = (images / 255 - mean) / deviation
print((module(inputs).argmax(1) == labels).float().mean().item())
"""
        done = subprocess.run(["/usr/bin/python3", "-c", script], cwd=self.folder, text=True, capture_output=True)
        if "No module named" in done.stderr:
            print("skipped: python3-torch is not installed, so exports are not loaded in PyTorch")
            return
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertAlmostEqual(float(done.stdout), result["eval"]["accuracy"], places=6)

    def test_interrupts_leave_cleanly_with_the_model_saved(self):
        process, run = self.start("--ranks", "2")
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)
        self.assertEqual(process.returncode, 130)
        self.assert_no_worker_left()
        self.assertEqual(json.loads((run / "summary.json").read_text())["status"], "stopped")
        self.assertTrue((run / "model.safetensors").exists())

    def test_a_killed_agent_takes_its_workers_along(self):
        process, _ = self.start("--ranks", "2")
        process.kill()
        process.communicate(timeout=30)
        self.assert_no_worker_left()

    def test_a_corrupt_shard_is_named(self):
        shutil.copytree(self.folder / "data", self.folder / "damaged")
        self.addCleanup(shutil.rmtree, self.folder / "damaged")
        shard = sorted((self.folder / "damaged/train").glob("*.h5"))[0]
        blob = bytearray(shard.read_bytes())
        place = len(blob) // 2
        blob[place] ^= 0x40
        shard.write_bytes(blob)
        done, result, _ = self.train("--ranks", "2", "--set", "data.train=damaged/train")
        self.assertEqual(done.returncode, 1)
        self.assertIn(shard.name, done.stderr)
        self.assertIn("checksum", done.stderr)
        self.assertEqual(result["status"], "failed")
        self.assert_no_worker_left()

    def test_a_diverging_job_fails_with_advice(self):
        done, _, _ = self.train("--set", "optimizer.learning_rate=1e9", "--set", "optimizer.momentum=0")
        self.assertEqual(done.returncode, 1)
        self.assertIn("learning_rate", done.stderr)

    def test_a_missing_plugin_is_one_sentence(self):
        done, _, _ = self.train("--ranks", "2", "--set", "model={plugin: ./nothing.so}")
        self.assertEqual(done.returncode, 1)
        self.assertIn("cannot load the model plugin", done.stderr)
        self.assert_no_worker_left()


GPT = {"layers": "2", "heads": "2", "width": "8", "context": "6", "dropout": "0.1"}
GPT_VOCABULARY = 11


def gpt_shapes(tied):
    """Names and shapes of the weights of that model."""
    shapes = {"tokens.weight": (GPT_VOCABULARY, 8), "positions.weight": (6, 8)}
    for layer in range(2):
        for name, shape in {"norm1": (8,), "attention.qkv": (24, 8), "attention.projection": (8, 8), "norm2": (8,),
                            "up": (32, 8), "down": (8, 32)}.items():
            shapes[f"blocks.{layer}.{name}.weight"] = shape
            shapes[f"blocks.{layer}.{name}.bias"] = shape[:1]
    shapes.update({"norm.weight": (8,), "norm.bias": (8,)})
    if not tied:
        shapes["head.weight"] = (GPT_VOCABULARY, 8)
    return shapes


# The network once more, in the plainest form.
GPT_IN_PYTORCH = """
import sys, torch
import torch.nn.functional as F
weights = torch.load("model.pickle")
module = torch.jit.load("model.torchscript")
assert set(weights) == set(dict(module.named_parameters()))

def linear(x, name):
    return F.linear(x, weights[name + ".weight"], weights[name + ".bias"])

def norm(x, name):
    return F.layer_norm(x, (8,), weights[name + ".weight"], weights[name + ".bias"])

def logits_of(ids):
    x = weights["tokens.weight"][ids] + weights["positions.weight"]
    for layer in range(2):
        block = f"blocks.{layer}."
        qkv = linear(norm(x, block + "norm1"), block + "attention.qkv")
        heads = []
        for head in range(2):
            q, k, v = (qkv[:, :, 8 * part + 4 * head:8 * part + 4 * head + 4] for part in range(3))
            scores = q @ k.transpose(1, 2) / 2
            unseen = torch.ones(6, 6).triu(1).bool()
            heads.append(scores.masked_fill(unseen, float("-inf")).softmax(-1) @ v)
        x = x + linear(torch.cat(heads, -1), block + "attention.projection")
        x = x + linear(F.gelu(linear(norm(x, block + "norm2"), block + "up")), block + "down")
    return norm(x, "norm") @ weights.get("head.weight", weights["tokens.weight"]).t()

with torch.no_grad():
    for samples in (1, 2, 7):
        ids = (torch.arange(samples * 6).view(samples, 6) * 7) % 11
        assert torch.allclose(module(ids), logits_of(ids), atol=1e-5), samples
"""


class ExportOfText(unittest.TestCase):
    def setUp(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="paceline-export-"))
        self.addCleanup(shutil.rmtree, self.folder)

    def write_run(self, tied):
        run = self.folder / "run"
        (run / "logs").mkdir(parents=True)
        model = {"kind": "gpt", **GPT, "tied_embeddings": str(tied).lower()}
        (run / "job.json").write_text(json.dumps(
            {"name": "t", "data": {"train": "a"}, "task": "language-modelling", "model": model,
             "batch": {"global": 8}, "epochs": 1}))
        generator = random.Random(5)
        header, data = {}, b""
        for name, shape in gpt_shapes(tied).items():
            values = [generator.uniform(-0.5, 0.5) for _ in range(shape[0] * (shape[1] if len(shape) > 1 else 1))]
            block = struct.pack(f"<{len(values)}f", *values)
            header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [len(data), len(data) + len(block)]}
            data += block
        takes = {"sample_shape": [6], "classes": 0, "mean": [], "standard_deviation": [],
                 "vocabulary": GPT_VOCABULARY}
        header["__metadata__"] = {"paceline": json.dumps(takes)}
        text = json.dumps(header).encode()
        (run / "model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + data)
        return run

    def test_a_gpt_is_in_pytorch_what_its_description_says(self):
        for tied in (True, False):
            run = self.write_run(tied)
            for kind in ("safetensors", "pickle", "torchscript"):
                done = subprocess.run([str(PACELINE), "export", str(run), "--format", kind, "--out", f"model.{kind}"],
                                      cwd=self.folder, text=True, capture_output=True, timeout=120)
                self.assertEqual(done.returncode, 0, done.stderr)
            done = subprocess.run(["/usr/bin/python3", "-c", GPT_IN_PYTORCH], cwd=self.folder, text=True,
                                  capture_output=True)
            if "No module named" in done.stderr:
                print("skipped: python3-torch is not installed, so exports are not loaded in PyTorch")
                return
            self.assertEqual(done.returncode, 0, done.stderr)
            shutil.rmtree(run)


if __name__ == "__main__":
    unittest.main()

"""Training while the filesystem under it fails: a real MooseFS with two copies of everything, and damaged local files.

Whatever the filesystem can make good costs nothing but time: the weights have the same hash as those from a local
folder. Whatever it cannot ends the job, names the file, and leaves no process.
"""

import contextlib
import gzip
import json
import os
import pathlib
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import unittest

TESTS = pathlib.Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TESTS / "support"), str(TESTS / "integration")]
import moosefs  # noqa: E402
from waiting import Hold, end_with, wait_for  # noqa: E402

BUILD = pathlib.Path(os.environ["PACELINE_BUILD_DIR"])
PACELINE = BUILD / "bin" / "paceline"
WORKER = BUILD / "bin" / "paceline-worker"
FASHION_MNIST = pathlib.Path("/usr/share/datasets/fashion-mnist")
IMAGES = {"train": 16_000, "t10k": 500}
BATCH = 500
STEPS = IMAGES["train"] // BATCH
PATIENCE_S = 90

NO_MOOSEFS = moosefs.unavailable()
NO_IMAGES = None if FASHION_MNIST.is_dir() else f"{FASHION_MNIST} is not there: install dataset-fashion-mnist"
HAS_DEADLINE = "`data.read_timeout_s`" in (TESTS.parent / "docs" / "job-file.md").read_text()

# A loader with so little memory that most of an epoch is still to be read when the first steps are done.
JOB = f"""
name: faults
data: {{train: data/train, eval: data/test, budget_mib: 1}}
model: cnn
optimizer: {{kind: sgd, learning_rate: 0.05, momentum: 0.9}}
batch: {{global: {BATCH}}}
epochs: 1
ranks: 2
seed: 5
"""


def cut_fashion_mnist(folder):
    """Its first images: an epoch of few steps."""
    for name, count in IMAGES.items():
        for kind, head_bytes, item_bytes in (("images-idx3", 16, 784), ("labels-idx1", 8, 1)):
            with gzip.open(FASHION_MNIST / f"{name}-{kind}-ubyte.gz") as file:
                head, items = file.read(head_bytes), file.read(count * item_bytes)
            (folder / f"{name}-{kind}-ubyte").write_bytes(head[:4] + struct.pack(">I", count) + head[8:] + items)


def workers(folder):
    """Process ids of the paceline-worker processes that were started in a folder; other tests run theirs beside these."""
    found = set()
    for entry in pathlib.Path("/proc").iterdir():
        try:
            is_worker = entry.name.isdigit() and os.readlink(entry / "exe") == str(WORKER)
            if is_worker and os.readlink(entry / "cwd") == str(folder.resolve()):
                found.add(int(entry.name))
        except OSError:
            pass
    return found


def is_alive(thread):
    try:
        return (thread / "stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def is_there(pid):
    """Whether any of its threads still is, be it only in the kernel, on its way out, with no program any more."""
    try:
        return any(map(is_alive, pathlib.Path(f"/proc/{pid}/task").iterdir()))
    except OSError:
        return False


def shard_of(dataset):
    return sorted((dataset / "train").glob("shard-*.h5"))[0]


def flip(path, offset):
    with open(path, "r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ 1]))


@unittest.skipIf(NO_IMAGES, NO_IMAGES)
class Faults(unittest.TestCase):
    """On a local folder; what the tests on MooseFS need as well."""

    @classmethod
    def setUpClass(cls):
        cls.folder = pathlib.Path(tempfile.mkdtemp(prefix="paceline-data-faults-"))
        cls.addClassCleanup(shutil.rmtree, cls.folder)
        (cls.folder / "idx").mkdir()
        cut_fashion_mnist(cls.folder / "idx")
        (cls.folder / "job.yaml").write_text(JOB)
        cls.runs = 0

    def setUp(self):
        self.seen = set()  # workers that had taken a step

    @classmethod
    def paceline(cls, *arguments):
        return subprocess.run([str(PACELINE), *map(str, arguments)], cwd=cls.folder, text=True, capture_output=True,
                              timeout=PATIENCE_S)

    @classmethod
    def import_into(cls, folder):
        done = cls.paceline("data", "import", "fashion-mnist", "idx", "--out", folder)
        assert done.returncode == 0, done.stderr
        return folder

    def start(self, dataset, *settings, hold=None):
        """Starts a training; gives the process and its run directory."""
        type(self).runs += 1
        run = self.folder / f"run{self.runs}"
        command = [str(PACELINE), "train", "job.yaml", "--run-dir", str(run), "--threads", "1"]
        for setting in (f"data.train={dataset}/train", f"data.eval={dataset}/test", *settings):
            command += ["--set", setting]
        process = subprocess.Popen(command, cwd=self.folder, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                   env={**os.environ, **(hold.environment if hold else {})})
        end_with(self, process)
        return process, run

    @contextlib.contextmanager
    def early(self, dataset, *settings):
        """A training that is held when most of its epoch is still to be read; it goes on when the block ends."""
        hold = Hold(self.folder, 3)
        process, run = self.start(dataset, *settings, hold=hold)
        self.wait_for_a_step(process, run)
        yield process, run
        hold.let_go(3)

    def wait_for_a_step(self, process, run):
        def taken():
            self.assertIsNone(process.poll(), "it ended")
            return (run / "metrics.jsonl").exists() and (run / "metrics.jsonl").read_text()
        wait_for(taken, "a step", PATIENCE_S)
        self.seen |= workers(self.folder)

    def assert_completes(self, process, run):
        """Gives the hash of its weights."""
        _, errors = process.communicate(timeout=PATIENCE_S)
        self.assertEqual(process.returncode, 0, errors)
        summary = json.loads((run / "summary.json").read_text())
        self.assertEqual((summary["status"], summary["steps"]), ("completed", STEPS))
        return summary["weights_sha256"]

    def assert_fails(self, process, code=1):
        """Gives what it said."""
        _, errors = process.communicate(timeout=PATIENCE_S)
        self.assertEqual(process.returncode, code, errors)
        return errors

    def assert_no_worker_left(self):
        wait_for(lambda: not workers(self.folder) and not any(is_there(pid) for pid in self.seen), "the end of all workers",
                 PATIENCE_S)

    def assert_names_chunk(self, text, shard, offset):
        """Shard, chunk, file offset and both checksums; the chunk is the one with this byte in it."""
        named = re.search(rf"{re.escape(shard.name)}: chunk (\d+) at byte (\d+)\b", text)
        self.assertIsNotNone(named, text)
        chunk_samples = json.loads((shard.parent / "manifest.json").read_text())["chunk_samples"]
        self.assertLessEqual(int(named[2]), offset, text)
        self.assertLess(offset, int(named[2]) + chunk_samples * (784 + 4), text)
        self.assertEqual(len(set(re.findall(r"\b0x[0-9a-f]{16}\b", text))), 2, text)


class LocalFaults(Faults):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.dataset = cls.import_into(cls.folder / "data")

    def copy(self):
        copy = self.folder / self.id().rpartition(".")[2]
        shutil.copytree(self.dataset, copy)
        self.addCleanup(shutil.rmtree, copy)
        return copy

    def test_a_flipped_byte_is_named_by_verify_and_by_train(self):
        dataset = self.copy()
        shard = shard_of(dataset)
        offset = shard.stat().st_size // 2
        flip(shard, offset)
        verified = self.paceline("data", "verify", dataset)
        self.assertEqual(verified.returncode, 1, verified.stderr)
        self.assert_names_chunk(verified.stdout + verified.stderr, shard, offset)
        process, _ = self.start(dataset)
        self.assert_names_chunk(self.assert_fails(process), shard, offset)
        self.assert_no_worker_left()

    def test_a_shard_that_is_not_there(self):
        """That is bad input, found before anything starts."""
        dataset = self.copy()
        shard_of(dataset).unlink()
        process, _ = self.start(dataset)
        self.assertIn(f"{shard_of(self.dataset).name} is missing", self.assert_fails(process, code=2))
        self.assert_no_worker_left()

    def test_a_shard_that_is_cut_while_training(self):
        dataset = self.copy()
        shard = shard_of(dataset)
        with self.early(dataset) as (process, _):
            os.truncate(shard, shard.stat().st_size // 4)
        self.assertIn(shard.name, self.assert_fails(process))
        self.assert_no_worker_left()

    def test_a_shard_that_disappears_before_its_first_read(self):
        """Of the dataset to evaluate on, which is read after the last step."""
        dataset = self.copy()
        with self.early(dataset) as (process, _):
            shutil.rmtree(dataset / "test")
        self.assertIn("test/shard-00000.h5 is missing", self.assert_fails(process))
        self.assert_no_worker_left()


@unittest.skipIf(NO_MOOSEFS, NO_MOOSEFS)
class MooseFsFaults(Faults):
    DATASETS = ("whole", "bereft", "half", "lost", "silent", "deleted")

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        local = cls.import_into(cls.folder / "data")
        cls.filesystem = moosefs.MooseFs()
        cls.filesystem.start()
        cls.addClassCleanup(cls.filesystem.stop)
        # All now, while both chunk servers take new data.
        cls.import_into(cls.filesystem.mount / "whole")
        for name in cls.DATASETS[1:]:
            shutil.copytree(cls.filesystem.mount / "whole", cls.filesystem.mount / name)
        reference = cls()
        cls.expected = reference.assert_completes(*reference.start(local))
        reference.doCleanups()

    def setUp(self):
        super().setUp()
        self.filesystem.drop_caches()

    def dataset(self, name):
        return self.filesystem.mount / name

    def corrupt(self, name, **how):
        """In the middle of its first shard, which is a chunk's; gives the shard and the place."""
        shard = shard_of(self.dataset(name))
        offset = shard.stat().st_size // 2
        self.filesystem.corrupt(shard, offset, **how)
        return shard, offset

    def test_the_same_weights_as_from_a_local_folder(self):
        self.assertEqual(self.assert_completes(*self.start(self.dataset("whole"))), self.expected)

    def test_a_chunk_server_killed_while_training(self):
        with self.early(self.dataset("bereft")) as (process, run):
            self.filesystem.kill_chunk_server(0)
            self.addCleanup(self.filesystem.start_chunk_server, 0)
        self.assertEqual(self.assert_completes(process, run), self.expected)

    def test_one_damaged_copy(self):
        self.corrupt("half", copies=1)
        self.assertEqual(self.assert_completes(*self.start(self.dataset("half"))), self.expected)

    def test_two_damaged_copies(self):
        shard, _ = self.corrupt("lost", copies=2)
        process, _ = self.start(self.dataset("lost"))
        self.assertRegex(self.assert_fails(process), rf"{shard.name}.*(Input/output error|No such device or address)")
        self.assert_no_worker_left()

    def test_damage_that_the_filesystem_does_not_see(self):
        shard, offset = self.corrupt("silent", copies=2, kind="silent")
        process, _ = self.start(self.dataset("silent"))
        self.assert_names_chunk(self.assert_fails(process), shard, offset)
        self.assert_no_worker_left()

    def test_a_shard_deleted_while_training(self):
        """A file that is open stays until it is closed, on MooseFS too."""
        with self.early(self.dataset("deleted")) as (process, run):
            for shard in (self.dataset("deleted") / "train").glob("*.h5"):
                shard.unlink()
        self.assertEqual(self.assert_completes(process, run), self.expected)


@unittest.skipIf(NO_MOOSEFS, NO_MOOSEFS)
@unittest.skipUnless(HAS_DEADLINE, "there is no data.read_timeout_s yet")
class Deadline(Faults):
    """On a mount that never gives up."""

    def test_reads_that_hang_end_the_job(self):
        filesystem = moosefs.MooseFs(tries=1000, timeout_s=0)
        filesystem.start()
        self.addCleanup(filesystem.stop)
        dataset = self.import_into(filesystem.mount / "data")
        filesystem.drop_caches()
        with self.early(dataset, "data.read_timeout_s=3") as (process, _):
            for server in (0, 1):
                filesystem.freeze_chunk_server(server)
        self.assertRegex(self.assert_fails(process), rf"{shard_of(dataset).name}.*data\.read_timeout_s")
        # The kernel holds a process that waits for a filesystem until it answers, whoever kills the process.
        filesystem.thaw_chunk_servers()
        self.assert_no_worker_left()


if __name__ == "__main__":
    unittest.main(verbosity=2)

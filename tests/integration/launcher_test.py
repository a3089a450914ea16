#!/usr/bin/python3
"""The program `paceline` with workers that only pretend to train (tests/support/fake_worker.cpp).

ctest sets PACELINE_PROGRAM and FAKE_WORKER_PROGRAM, or PACELINE_BUILD_DIR, under which they are found.
"""
import fcntl
import glob
import json
import os
import pty
import re
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import termios
import time
import unittest

from refusals import Refusals

BUILD = os.environ.get("PACELINE_BUILD_DIR", ".")
PROGRAM = os.environ.get("PACELINE_PROGRAM", os.path.join(BUILD, "bin", "paceline"))
FAKE_WORKER = os.environ.get("FAKE_WORKER_PROGRAM", os.path.join(BUILD, "tests", "integration", "fake_worker"))
# No test waits longer for anything; each thing takes far less.
LIMIT_S = 20

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


def wait_for(condition, what):
    deadline = time.monotonic() + LIMIT_S
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(0.01)
    raise AssertionError(f"waited {LIMIT_S} s for {what}")


class LauncherTest(Refusals, unittest.TestCase):
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

    # ---- what works

    def test_train(self):
        code, out, err = self.run_program("train", "job.yaml", "--ranks", "2", "--json", "out.json",
                                          OMP_NUM_THREADS="64", GLIBC_TUNABLES="glibc.malloc.check=0")
        self.assertEqual((code, err), (0, ""))
        lines = out.splitlines()
        self.assertRegex(lines[0], r"^tiny: cnn on fashion-mnist/train \(256 samples\), 2 ranks with \d+ threads? each")
        self.assertRegex(out, r"epoch 1/2: train loss 0\.\d+, test loss 0\.440, test accuracy 84\.2%")
        self.assertIn("completed: 2 epochs, 6 steps, 1,536 samples in 0.1 s (25,600 samples/s)", out)
        run = re.search(r"run directory (\S+)", out).group(1)
        self.assertRegex(run, re.escape(os.path.realpath(self.folder)) + r"/runs/tiny/\d{8}T\d{6}Z$")
        self.assertEqual(sorted(os.listdir(run + "/logs")), ["rank-000.log", "rank-001.log"])
        summary = self.summary("out.json")
        self.assertEqual(summary, self.summary(run + "/summary.json"))
        self.assertEqual(summary["status"], "completed")
        self.assertEqual((summary["ranks"], summary["steps"], summary["samples"]), (2, 6, 1536))
        self.assertEqual(self.summary(run + "/job.json")["name"], "tiny")
        zero, one = self.started(run, 0), self.started(run, 1)
        for rank, worker in enumerate((zero, one)):
            self.assertEqual(worker["PACELINE_RANK"], str(rank))
            self.assertEqual(worker["OMP_NUM_THREADS"], worker["threads"])
            self.assertEqual(worker["GLIBC_TUNABLES"], "glibc.malloc.check=0:glibc.malloc.hugetlb=1")
            self.assertEqual(worker["group"], worker["pid"])
        # Standard streams, the agent's socket, and the listening socket; nothing else.
        self.assertEqual((zero["descriptors"], one["descriptors"]), ("5", "5"))
        self.assertEqual((zero["listener"], one["listener"]), ("1", "1"))
        self.assertEqual(zero["host"], "127.0.0.1")
        self.assertRegex(zero["secret"], r"^[0-9a-f]{32}$")
        self.assertEqual(zero["secret"], one["secret"])
        if len(os.sched_getaffinity(0)) >= 2:
            self.assertNotEqual(zero["cpus"], one["cpus"])

    def test_import_on_first_use(self):
        os.remove(self.path("ds"))
        code, out, err = self.run_program("train", "job.yaml")
        self.assertEqual((code, err), (0, ""))
        self.assertIn("importing fashion-mnist into", out)
        self.assertTrue(os.path.exists(self.path("ds/train/manifest.json")))
        self.assertTrue(os.path.exists(self.path("ds/test/manifest.json")))

    def test_more_ranks_than_cores_share_them(self):
        ranks = len(os.sched_getaffinity(0)) + 1
        self.write("job.yaml", JOB.replace("max: 4", f"max: {ranks}").replace("global: 64", f"global: {16 * ranks}"))
        code, out, _ = self.run_program("train", "job.yaml", "--ranks", str(ranks), "--run-dir", "run")
        self.assertEqual(code, 0)
        self.assertIn("sharing the cores", out)
        self.assertEqual(self.started("run", ranks - 1)["threads"], "1")
        self.assertEqual(self.started("run", 0)["cpus"], self.started("run", ranks - 1)["cpus"])

    def test_overrides_threads_nodes_and_quiet(self):
        code, out, err = self.run_program("train", "--set", "epochs=1", "job.yaml", "--threads", "3", "--quiet", "--ranks", "2",
                                          "--run-dir", "a/b/run", PACELINE_NODE="h0,h1")
        self.assertEqual((code, out, err), (0, "", ""))
        self.assertEqual(self.summary("a/b/run/summary.json")["epochs"], 1)
        self.assertEqual(self.summary("a/b/run/job.json")["threads"], 3)
        self.assertEqual(self.started("a/b/run", 1)["OPENBLAS_NUM_THREADS"], "3")
        self.assertEqual(self.started("a/b/run", 1)["node"], "h1")

    def test_eval_and_export(self):
        self.assertEqual(self.run_program("train", "job.yaml", "--run-dir", "run")[0], 0)
        code, out, err = self.run_program("eval", "run", "--ranks", "2", "--json", "eval.json")
        self.assertEqual((code, err), (0, ""))
        self.assertEqual(out, "tiny after epoch 2: test loss 0.2500, test accuracy 90.00% of 10,000 samples\n")
        self.assertEqual(self.summary("eval.json")["eval"], {"loss": 0.25, "accuracy": 0.9})
        self.assertEqual(self.started("run", 1, "eval")["ranks"], "2")
        for form in ("safetensors", "pickle", "torchscript"):
            code, out, err = self.run_program("export", "run", "--format", form, "--out", "model." + form)
            self.assertEqual((code, err), (0, ""))
            with open(self.path("model." + form)) as exported:
                self.assertEqual(exported.read(), form + "\n")
        self.assertEqual(self.started("run", 0, "export")["ranks"], "1")

    def test_data_commands(self):
        code, out, _ = self.run_program("data", "info", "ds")
        self.assertEqual(code, 0)
        self.assertIn("256 of 1x28x28 (chw) bytes", out)
        self.assertIn("64 of 1x28x28 (chw) bytes", out)
        code, out, _ = self.run_program("data", "verify", "ds/train")
        self.assertEqual(code, 0)
        shutil.copytree(self.path("ds"), self.path("bad"))
        shard = self.path("bad/train/shard-00000.h5")
        with open(shard, "r+b") as file:
            file.seek(os.path.getsize(shard) // 2)
            byte = file.read(1)
            file.seek(-1, os.SEEK_CUR)
            file.write(bytes([byte[0] ^ 255]))
        code, _, err = self.run_program("data", "verify", "bad/train")
        self.assertEqual(code, 1)
        self.assertIn("shard-00000.h5", err)

    def test_help_and_version_are_quick(self):
        times = []
        for argument in ("--help", "--version") * 3:
            begin = time.monotonic()
            code, out, _ = self.run_program(argument)
            times.append(time.monotonic() - begin)
            self.assertEqual(code, 0)
            self.assertIn("paceline", out)
        self.assertLess(min(times), 1)

    def test_talkative_worker_has_all_in_its_log(self):
        self.assertEqual(self.run_program("train", "job.yaml", "--ranks", "2", "--run-dir", "run", FAKE_WORKER="1:talk")[0], 0)
        with open(self.path("run/logs/rank-001.log")) as log:
            self.assertEqual(log.read(), "".join(f"line {i}\n" for i in range(100000)))

    # ---- workers that fail

    def test_killed_worker_is_replaced_while_the_others_go_on(self):
        process = self.start_long("--json", "out.json", PACELINE_NODE="h0,h1")
        pid = int(self.started("run", 1)["pid"])
        os.kill(pid, signal.SIGKILL)
        # The pretended worker may be there before the others have settled, or join them later.
        wait_for(lambda: any(len(self.generation(number)) == 2 for number in (2, 3)), "two ranks again")
        last = 2 if len(self.generation(2)) == 2 else 3
        wait_for(lambda: self.started("run", 2).get("ranks") == "2", "the new worker")
        time.sleep(0.2)  # so that the other hears of it
        process.send_signal(signal.SIGTERM)
        code, out, err = self.finish(process)
        self.assertEqual(code, 143)
        self.assertRegex(err, rf"^paceline: rank 1 on node h1 \(pid {pid}\) was killed by signal 9 \(Killed\)"
                              r" at step \d+ of 6000; it said nothing\n")
        self.assertRegex(out, r"generation 2: \d ranks? from step \d+, since worker 1 \(pid \d+ on node h1\) was killed by signal 9")
        if last == 3:
            self.assertRegex(out, r"generation 3: 2 ranks, larger by 1\n")
        summary = self.summary("out.json")
        self.assertEqual(summary, self.summary("run/summary.json"))
        self.assertEqual((summary["status"], summary["generation"], summary["repairs"], summary["resizes"]), ("stopped", last, 1, last - 2))
        self.assertEqual(self.generation(1), [0, 1])
        self.assertEqual(self.generation(last), [0, 2])

    def generation(self, number):
        """The workers that are its members; none where it is not recorded."""
        try:
            with open(self.path(f"run/generations/{number}.json")) as record:
                return [member["worker"] for member in json.load(record)["members"]]
        except FileNotFoundError:
            return []

    def test_last_words(self):
        code, _, err = self.run_program("train", "job.yaml", "--ranks", "2", "--run-dir", "run", FAKE_WORKER="1:exit",
                                        FAKE_WORKER_STEPS="100")
        self.assertEqual(code, 0)
        self.assertRegex(err, r"^paceline: rank 1 on node \S+ \(pid \d+\) exited with status 3.*; its last words \(.*/run/logs/rank-001\.log\):\n"
                              r"  reading the data\n  something terrible happened\n$")
        with open(self.path("run/logs/rank-001.log")) as log:
            self.assertEqual(log.read(), "reading the data\nsomething terrible happened\n")

    def test_loss_of_all_ranks(self):
        code, _, err = self.run_program("train", "job.yaml", "--ranks", "2", "--run-dir", "run", FAKE_WORKER="exit",
                                        FAKE_WORKER_STEPS="1000")
        self.assertEqual(code, 1)
        self.assertRegex(err, r"paceline: (no rank is left that holds the whole training state; the last to be lost"
                              r"|step 1 was begun 4 times, and each time a rank was lost; the last): "
                              r"worker \d \(pid \d+ on node \S+\) exited with status 3\n$")
        self.assertEqual(self.summary("run/summary.json")["status"], "failed")

    def test_failures_that_other_ranks_do_not_mend(self):
        causes = {
            "1:fail": "rank 1 .* failed.*: chunk 7 of shard-00000.h5 is damaged",
            "version": "3 workers in a row were lost before they could train; the last .* does not speak as a worker should: .*999",
        }
        for behaviour, message in causes.items():
            with self.subTest(behaviour):
                code, _, err = self.run_program("train", "job.yaml", "--ranks", "2", FAKE_WORKER=behaviour,
                                                FAKE_WORKER_STEPS="1000")
                self.assertEqual(code, 1)
                self.assertRegex(err, "(?m)^paceline: " + message)

    def test_worker_that_does_not_speak_as_it_should(self):
        code, _, err = self.run_program("train", "job.yaml", "--ranks", "2", FAKE_WORKER="1:garbage", FAKE_WORKER_STEPS="100")
        self.assertEqual(code, 0)
        self.assertRegex(err, r"^paceline: rank 1 on node \S+ \(pid \d+\) does not speak as a worker should: .*; it is killed\n")

    def test_children_of_workers_die_too(self):
        process = self.start_long(FAKE_WORKER="1:child")
        name = self.path("run/grandchild")
        wait_for(lambda: os.path.exists(name) and os.path.getsize(name) > 0, "the worker's child")
        with open(name) as text:
            grandchild = int(text.read())
        os.kill(int(self.started("run", 1)["pid"]), signal.SIGKILL)
        wait_for(lambda: not is_alive(grandchild), "the end of the worker's child")
        process.send_signal(signal.SIGTERM)
        self.assertEqual(self.finish(process)[0], 143)

    def test_worker_that_cannot_start(self):
        self.write("script", "#!/nonexistent/interpreter\n")
        os.chmod(self.path("script"), 0o755)
        code, _, err = self.run_program("train", "job.yaml", "--run-dir", "run", PACELINE_WORKER=self.path("script"))
        self.assertEqual(code, 1)
        self.assertRegex(err, r"workers in a row were lost before they could train; the last could not be started: .*No such file.*\n$")
        self.assertEqual(self.summary("run/summary.json")["status"], "failed")
        self.assert_refused(self.run_program("train", "job.yaml", PACELINE_WORKER="/nonexistent"), 1, "/nonexistent",
                            "PACELINE_WORKER")

    # ---- signals

    def test_interrupt_stops_at_the_next_commit(self):
        for number, code in ((signal.SIGINT, 130), (signal.SIGTERM, 143)):
            with self.subTest(number):
                process = self.start_long()
                process.send_signal(number)
                returncode, out, err = self.finish(process)
                self.assertEqual(returncode, code, err)
                self.assertIn("stopping after the step in progress", err)
                self.assertIn("stopped: ", out)
                self.assertEqual(self.summary("run/summary.json")["status"], "stopped")
                shutil.rmtree(self.path("run"))

    def test_interrupt_kills_who_does_not_listen(self):
        process = self.start_long(FAKE_WORKER="1:hang")
        begin = time.monotonic()
        process.send_signal(signal.SIGINT)
        returncode, _, err = self.finish(process)
        self.assertEqual(returncode, 130)
        self.assertIn("did not stop within 5 s", err)
        self.assertGreater(time.monotonic() - begin, 4)

    def test_second_interrupt_kills_at_once(self):
        process = self.start_long(FAKE_WORKER="hang")
        process.send_signal(signal.SIGINT)
        time.sleep(0.1)
        begin = time.monotonic()
        process.send_signal(signal.SIGINT)
        self.assertEqual(self.finish(process)[0], 130)
        self.assertLess(time.monotonic() - begin, 4)

    def test_killed_agent_takes_its_workers(self):
        process = self.start_long(FAKE_WORKER="1:hang")
        process.kill()
        process.wait(timeout=LIMIT_S)
        for pid in self.worker_pids():
            wait_for(lambda: not is_alive(pid), f"the end of worker {pid}")

    # ---- bad input

    def test_bad_job_and_bad_ranks(self):
        self.assert_refused(self.run_program("train", "missing.yaml"), 2, "missing.yaml")
        for ranks, part in (("0", "from 1"), ("-2", "from 1"), ("x", "from 1"), ("1:4", "one number"), ("5", "1 to 4")):
            self.assert_refused(self.run_program("train", "job.yaml", "--ranks=" + ranks), 2, part)
        self.assert_refused(self.run_program("train", "job.yaml", "--set", "batch.global=2", "--ranks", "3"), 2, "grains")
        self.assert_refused(self.run_program("train", "job.yaml", "--set", "model=cnnn"), 2, "cnn")
        self.assert_refused(self.run_program("train", "job.yaml", "--set", "epochs"), 2, "key=value")
        self.assert_refused(self.run_program("trian", "job.yaml"), 2, "did you mean train")
        self.assert_refused(self.run_program("train", "job.yaml", "--ranks", "2", PACELINE_NODE="a,b,c"), 2, "PACELINE_NODE")
        self.assertFalse(os.path.exists(self.path("runs")))

    def test_bad_data(self):
        self.write("plain.yaml", JOB.replace(", import: fashion-mnist, source: idx", ""))
        self.assert_refused(self.run_program("train", "plain.yaml", "--set", "data.train=nowhere/train"), 2,
                            "nowhere/train", "paceline data import")
        self.assert_refused(self.run_program("train", "plain.yaml", "--set", "data.train=idx"), 2, "idx")
        self.assert_refused(self.run_program("data", "info", "idx"), 2, "idx")
        self.assert_refused(self.run_program("train", "job.yaml", "--set", "data.train=other/place"), 2, "other/place")
        shutil.copytree(self.path("ds"), self.path("bad"))
        with open(self.path("bad/train/shard-00000.h5"), "r+b") as shard:
            shard.truncate(1000)
        self.assert_refused(self.run_program("train", "plain.yaml", "--set", "data.train=bad/train"), 1, "shard-00000.h5")
        self.assertFalse(os.path.exists(self.path("runs")))

    def test_unwritable_json_is_found_before_training(self):
        for name in ("nowhere/out.json", "."):
            self.assert_refused(self.run_program("train", "job.yaml", "--json", name), 2, "--json", name)
        self.assertFalse(os.path.exists(self.path("runs")))

    def test_json_of_what_could_not_start(self):
        code, _, _ = self.run_program("train", "job.yaml", "--json", "out.json", PACELINE_WORKER="/nonexistent")
        self.assertEqual(code, 1)
        summary = self.summary("out.json")
        self.assertEqual(summary["status"], "failed")
        self.assertIn("/nonexistent", summary["error"])

    def test_run_directory_is_for_one(self):
        process = self.start_long()
        self.assert_refused(self.run_program("train", "job.yaml", "--run-dir", "run"), 1, "in use by process", str(process.pid))
        process.send_signal(signal.SIGINT)
        self.finish(process)
        self.assert_refused(self.run_program("train", "job.yaml", "--run-dir", "run"), 1, "already holds a run")

    def test_ports(self):
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            port = taken.getsockname()[1]
            result = self.run_program("train", "job.yaml", PACELINE_PORTS=f"{port}-{port}")
            self.assert_refused(result, 1, f"port {port}", "PACELINE_PORTS")
        self.assert_refused(self.run_program("train", "job.yaml", PACELINE_PORTS="9-8"), 2, "PACELINE_PORTS", "9-8")
        self.assertFalse(os.path.exists(self.path("runs")))
        code, _, _ = self.run_program("train", "job.yaml", "--run-dir", "run", PACELINE_PORTS=f"{port}-{min(port + 20, 65535)}")
        self.assertEqual(code, 0)
        self.assertTrue(port <= int(self.started("run", 0)["port"]) <= port + 20)

    def test_eval_of_what_is_no_run(self):
        self.assert_refused(self.run_program("eval", "ds"), 2, "ds", "not a run directory")
        self.assert_refused(self.run_program("export", "ds", "--format", "pickle", "--out", "x"), 2, "not a run directory")
        self.run_program("train", "job.yaml", "--run-dir", "run", FAKE_WORKER="fail")
        self.assert_refused(self.run_program("eval", "run"), 2, "holds no model")

    # ---- a terminal

    def test_progress_bar_on_a_terminal(self):
        leader, follower = pty.openpty()
        fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 79, 0, 0))
        variables = dict(clean_environment(), FAKE_WORKER_STEPS="20")
        process = subprocess.Popen([PROGRAM, "train", "job.yaml"], cwd=self.folder, env=variables,
                                   stdin=subprocess.DEVNULL, stdout=follower, stderr=follower)
        self.processes.append(process)
        os.close(follower)
        shown = b""
        deadline = time.monotonic() + LIMIT_S
        while time.monotonic() < deadline and select.select([leader], [], [], LIMIT_S)[0]:
            try:
                block = os.read(leader, 65536)
            except OSError:  # the last writer is gone
                break
            shown += block
        os.close(leader)
        self.assertEqual(process.wait(timeout=LIMIT_S), 0)
        text = shown.decode()
        bars = re.findall(r"\r\x1b\[K(epoch \d/2 \[[=> ]+\] +\d+%  8,214 samples/s  loss \d\.\d{3}  0:0\d left)", text)
        self.assertGreaterEqual(len(bars), 2)
        self.assertTrue(all(len(bar) <= 78 for bar in bars))
        self.assertIn("\r\x1b[Kepoch 2/2: train loss", text)

    # ---- mpirun

    def start_mpirun(self, ranks, *arguments, **environment):
        mpirun = shutil.which("mpirun")
        if mpirun is None or "Open MPI" not in subprocess.run([mpirun, "--version"], capture_output=True, text=True).stdout:
            self.skipTest("there is no mpirun of Open MPI here")
        environment.update(OMPI_ALLOW_RUN_AS_ROOT="1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1")
        return self.start("train", "job.yaml", *arguments, before=(mpirun, "--oversubscribe", "-np", str(ranks)), **environment)

    def test_mpirun(self):
        code, out, err = self.finish(self.start_mpirun(2, "--json", "out.json", "--run-dir", "run"))
        self.assertEqual(code, 0, err)
        self.assertEqual(out.count("completed: 2 epochs"), 1)
        self.assertIn("started by mpirun", out)
        self.assertEqual(self.summary("out.json")["ranks"], 2)
        zero, one = self.started("run", 0), self.started("run", 1)
        self.assertNotEqual(zero["parent"], one["parent"])
        for key in ("secret", "host", "port"):
            self.assertEqual(zero[key], one[key])
        self.assertEqual((zero["listener"], one["listener"]), ("1", "0"))
        self.assertEqual(zero["host"], "127.0.0.1")

    def test_mpirun_with_a_default_run_directory(self):
        code, out, err = self.finish(self.start_mpirun(3))
        self.assertEqual(code, 0, err)
        runs = glob.glob(self.path("runs/tiny/*"))
        self.assertEqual(len(runs), 1)
        self.assertEqual(self.started(runs[0], 2)["ranks"], "3")

    def test_mpirun_and_a_worker_that_dies(self):
        process = self.start_mpirun(2, "--run-dir", "run", "--json", "out.json", FAKE_WORKER="1:segfault,0:lost 1")
        code, _, err = self.finish(process)
        self.assertEqual(code, 1)
        self.assertRegex(err, r"paceline: rank 1 on node \S+ \(pid \d+\) was killed by signal 11")
        self.assertEqual(self.summary("out.json")["status"], "failed")
        self.assertEqual(self.summary("out.json")["rank"], 1)

    def test_mpirun_and_bad_input(self):
        code, out, err = self.finish(self.start_mpirun(2, "--ranks", "3"))
        self.assertEqual(code, 2)
        self.assertEqual((out + err).count("--ranks 3 under mpirun, which started 2 processes"), 1)
        code, out, err = self.finish(self.start_mpirun(2, "--set", "batch.global=1"))
        self.assertEqual(code, 2)
        self.assertEqual((out + err).count("2 ranks cannot share 1 grain"), 1)
        self.assertFalse(os.path.exists(self.path("runs")))

    def test_mpirun_told_to_stop(self):
        self.may_be_killed = True
        process = self.start_mpirun(2, "--run-dir", "run", FAKE_WORKER_STEPS="3000")
        for rank in (0, 1):
            wait_for(lambda: "cpus" in self.started("run", rank), f"rank {rank}")
        wait_for(lambda: not glob.glob(self.path(".launch-*")), "the removal of the launch's file")
        process.send_signal(signal.SIGTERM)
        self.assertNotEqual(self.finish(process)[0], 0)
        for pid in self.worker_pids():
            wait_for(lambda: not is_alive(pid), f"the end of worker {pid}")

    def test_killed_mpirun_takes_everything(self):
        process = self.start_mpirun(2, "--run-dir", "run", FAKE_WORKER_STEPS="3000")
        for rank in (0, 1):
            wait_for(lambda: "cpus" in self.started("run", rank), f"rank {rank}")
        process.kill()
        process.wait(timeout=LIMIT_S)
        for pid in self.worker_pids():
            wait_for(lambda: not is_alive(pid), f"the end of worker {pid}")
        wait_for(lambda: not glob.glob(self.path(".launch-*")), "the removal of the launch's file")


if __name__ == "__main__":
    for program in (PROGRAM, FAKE_WORKER):
        if not os.access(program, os.X_OK):
            sys.exit(f"{program} is not there: build it, and set PACELINE_BUILD_DIR to the build folder")
    unittest.main(verbosity=2)

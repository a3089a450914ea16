#!/usr/bin/python3
"""The program `paceline`: what works, and what it refuses."""
import fcntl
import os
import pty
import re
import select
import shutil
import signal
import socket
import struct
import subprocess
import termios
import time
import unittest

from launcher_fixture import Launched, JOB, LIMIT_S, PROGRAM, clean_environment, main


class LauncherTest(Launched, unittest.TestCase):
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
        self.assertEqual(sorted(os.listdir(run + "/logs")), ["all-0.log", "coordinator-1.log", "rank-000.log", "rank-001.log"])
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


if __name__ == "__main__":
    main()

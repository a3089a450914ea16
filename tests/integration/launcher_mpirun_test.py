#!/usr/bin/python3
"""The program `paceline` as a task of Open MPI's mpirun."""
import glob
import os
import shutil
import signal
import subprocess
import unittest

from launcher_fixture import Launched, LIMIT_S, is_alive, main, wait_for


class LauncherMpirunTest(Launched, unittest.TestCase):
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
        self.assertEqual((zero["listener"], one["listener"]), ("1", "1"))
        self.assertEqual(zero["host"], "127.0.0.1")

    def test_mpiexec_of_mpich(self):
        mpiexec = shutil.which("mpiexec.mpich") or shutil.which("mpiexec.hydra")
        if mpiexec is None:
            self.skipTest("there is no mpiexec of MPICH here")
        process = self.start("train", "job.yaml", "--json", "out.json", before=(mpiexec, "-n", "3"))
        code, out, err = self.finish(process)
        self.assertEqual(code, 0, err)
        self.assertEqual(out.count("completed: 2 epochs"), 1)
        self.assertIn("3 ranks with 1 thread each, sharing the cores, started by mpiexec" if os.cpu_count() < 3 else "started by mpiexec", out)
        self.assertEqual(self.summary("out.json")["ranks"], 3)
        runs = glob.glob(self.path("runs/tiny/*"))
        self.assertEqual(len(runs), 1)
        zero, two = self.started(runs[0], 0), self.started(runs[0], 2)
        self.assertNotEqual(zero["parent"], two["parent"])
        self.assertEqual(zero["secret"], two["secret"])
        code, out, err = self.finish(self.start("train", "job.yaml", "--ranks", "2", before=(mpiexec, "-n", "3")))
        self.assertNotEqual(code, 0)
        self.assertEqual(err.count("--ranks 2 under mpiexec, which started 3 processes"), 1, err)

    def test_mpirun_with_a_default_run_directory(self):
        code, out, err = self.finish(self.start_mpirun(3))
        self.assertEqual(code, 0, err)
        runs = glob.glob(self.path("runs/tiny/*"))
        self.assertEqual(len(runs), 1)
        self.assertEqual(self.started(runs[0], 2)["ranks"], "3")

    def test_mpirun_and_a_worker_that_dies(self):
        process = self.start_mpirun(2, "--run-dir", "run", "--json", "out.json", FAKE_WORKER="1:segfault", FAKE_WORKER_STEPS="100")
        code, _, err = self.finish(process)
        self.assertEqual(code, 0, err)
        self.assertRegex(err, r"paceline: rank 1 on node \S+ \(pid \d+\) was killed by signal 11")
        self.assertEqual(self.summary("out.json")["status"], "completed")
        self.assertGreaterEqual(self.summary("out.json")["repairs"], 1)

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
    main()

"""Jobs that Slurm starts, preempts, drains, cuts off and cancels: a real cluster of four nodes (slurm/test-cluster.sh)."""

import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import coordinated
import training_test as small
from elastic_test import LIMIT_S, wait_for

SOURCE = pathlib.Path(os.environ["PACELINE_SOURCE_DIR"])
CLUSTER = SOURCE / "slurm" / "test-cluster.sh"
NODES = 4
STEPS = 60
JOB = ("--set", "model={kind: cnn}", "--set", "batch.global=256", "--set", "epochs=100000", "--set", "reproducible=true")
BOUNDED = (*JOB, "--set", f"steps={STEPS}")


def missing():
    if os.geteuid() != 0:
        return "only root can start Slurm's daemons"
    for tool in ("slurmctld", "slurmd", "munged", "ip", "nsenter"):
        if shutil.which(tool, path=os.environ["PATH"] + ":/usr/sbin:/sbin") is None:
            return f"there is no {tool} (slurm-wlm, munge, iproute2)"
    return ""


def slurm(*command, check=True):
    done = subprocess.run(command, text=True, capture_output=True, timeout=LIMIT_S)
    if check and done.returncode != 0:
        raise AssertionError(f"{command}: {done.stderr}")
    return done.stdout.strip()


class Submitted(coordinated.Run):
    """A run that sbatch has started."""

    def __init__(self, test, *arguments, nodes=2, options=()):
        self.process = subprocess.Popen(
            ["sbatch", "--wait", f"--nodes={nodes}", "--exclusive", *options, SOURCE / "slurm/train.sbatch", "job.yaml", "--set",
             "eval_every=0", *arguments], cwd=test.folder, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            env={**os.environ, "PACELINE": str(small.PACELINE)})
        self.job = self.process.stdout.readline().split()[-1]
        self.folder = test.folder / f"runs/slurm-{self.job}"
        self.log = test.folder / f"paceline-{self.job}.log"
        test.addCleanup(self.end)

    def end(self):
        slurm("scancel", self.job, check=False)
        self.process.kill()
        self.process.communicate()

    def await_steps(self, count):
        wait_for(lambda: self.steps() >= count or self.process.poll() is not None, f"step {count}")
        if self.process.poll() is not None:
            raise AssertionError("it ended: " + self.log.read_text())

    def workers(self):
        raise NotImplementedError  # they are not this process's children

    def state(self):
        return slurm("squeue", "--noheader", f"--jobs={self.job}", "--format=%T", check=False)

    def finish(self):
        self.process.communicate(timeout=LIMIT_S)
        self.err = self.log.read_text()
        return json.loads((self.folder / "summary.json").read_text())


@unittest.skipIf(missing(), missing())
class Slurm(coordinated.Coordinated):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.name = f"s{os.getpid() % 1000000}"
        done = subprocess.run([CLUSTER, "up", "--nodes", str(NODES), cls.name], text=True, capture_output=True, timeout=LIMIT_S)
        if done.returncode != 0:
            raise AssertionError(done.stderr)
        cls.addClassCleanup(subprocess.run, [CLUSTER, "down", cls.name], check=True, timeout=LIMIT_S)
        for line in done.stdout.splitlines():
            name, value = line.removeprefix("export ").split("=", 1)
            os.environ[name] = value
            cls.addClassCleanup(os.environ.pop, name)
        cls.undisturbed = None

    def tearDown(self):
        for job in slurm("squeue", "--noheader", "--format=%i", check=False).split():
            slurm("scancel", job, check=False)
        self.await_idle()
        super().tearDown()

    def await_idle(self):
        def idle():
            return slurm("sinfo", "--noheader", "--Node", "--partition=normal", "--states=idle", "--format=%N", check=False)
        wait_for(lambda: len(idle().split()) == NODES, "idle nodes")

    def submit(self, *arguments, **more):
        return Submitted(self, *arguments, **more)

    def weights(self):
        """Those of an undisturbed job on this machine."""
        if self.undisturbed is None:
            summary, _ = self.assert_proved(self.start("--ranks", "1", *BOUNDED), STEPS)
            type(self).undisturbed = summary["weights_sha256"]
        return self.undisturbed

    def assert_same_bits(self, run):
        summary, _ = self.assert_proved(run, STEPS)
        self.assertEqual(summary["weights_sha256"], self.weights())
        return summary

    def agents_on(self, node):
        """Process ids of a node's agents of this test."""
        inside = slurm("ip", "netns", "pids", f"{self.name}-{node}").split()
        return [int(pid) for pid in inside if self.words_of(pid)[1:2] == ["agent"]]

    @staticmethod
    def words_of(pid):
        try:
            return pathlib.Path(f"/proc/{pid}/cmdline").read_text().split("\0")
        except OSError:
            return []

    def processes(self):
        """All that have the program of this build and belong to this test's folder."""
        found = []
        for entry in pathlib.Path("/proc").iterdir():
            try:
                if entry.name.isdigit() and os.readlink(entry / "exe").startswith(str(small.BUILD / "bin")) and \
                        os.readlink(entry / "cwd") == str(self.folder.resolve()):
                    found.append(int(entry.name))
            except OSError:
                pass
        return found

    # ---- from the beginning to the end

    def test_a_submitted_job_has_the_bits_of_a_local_one(self):
        run = self.submit("--ranks", "3", *BOUNDED)
        self.assert_same_bits(run)
        self.assertIn("3 ranks on 2 nodes, started by srun", run.err)

    def test_the_number_of_tasks_is_that_of_ranks(self):
        run = self.submit(*BOUNDED, nodes=3, options=("--ntasks=3",))
        summary = self.assert_same_bits(run)
        self.assertEqual(summary["ranks"], 3)
        self.assertIn("3 ranks on 3 nodes", run.err)

    def test_from_the_shell_of_an_allocation(self):
        # Which is not on one of its nodes.
        done = subprocess.run(["salloc", "--nodes=2", "--exclusive", small.PACELINE, "train", "job.yaml", "--run-dir", "runs/salloc",
                               "--ranks", "2", "--set", "eval_every=0", *BOUNDED], cwd=self.folder, text=True, capture_output=True,
                              timeout=LIMIT_S)
        self.assertEqual(done.returncode, 0, done.stderr)
        summary = json.loads((self.folder / "runs/salloc/summary.json").read_text())
        self.assertEqual(summary["weights_sha256"], self.weights())

    def test_tasks_that_are_ranks(self):
        command = ["srun", "--nodes=3", "--ntasks=3", "--mpi=none", small.PACELINE, "train"]
        self.folder_of_tasks = self.folder / "runs/tasks"
        started = subprocess.Popen([*command, "job.yaml", "--run-dir", self.folder_of_tasks, "--set", "eval_every=0", *BOUNDED],
                                   cwd=self.folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.addCleanup(lambda: (started.kill(), started.wait()))
        metrics = self.folder_of_tasks / "metrics.jsonl"
        wait_for(lambda: metrics.exists() and metrics.read_text().count("\n") >= 10, "step 10")
        slurm(str(small.PACELINE), "stop", str(self.folder_of_tasks))
        started.wait(LIMIT_S)
        done = subprocess.run([*command, "--resume", self.folder_of_tasks], cwd=self.folder, text=True, capture_output=True,
                              timeout=LIMIT_S)
        self.assertEqual(done.returncode, 0, done.stderr)
        summary = json.loads((self.folder_of_tasks / "summary.json").read_text())
        self.assertEqual((summary["status"], summary["weights_sha256"]), ("completed", self.weights()))

    def test_a_job_that_cannot_begin(self):
        run = self.submit("--ranks", "9", *BOUNDED)
        run.process.communicate(timeout=LIMIT_S)
        self.assertEqual(run.process.returncode, 2)
        self.assertIn("9 ranks are outside the job's limits of 1 to 4", run.log.read_text())
        self.assertFalse(run.folder.exists())

    # ---- what happens to nodes

    def test_the_processes_of_a_node_are_killed(self):
        run = self.submit("--ranks", "4", *BOUNDED)
        run.await_steps(10)
        for pid in self.agents_on("h2"):
            os.kill(pid, signal.SIGKILL)
        self.assertGreaterEqual(self.assert_same_bits(run)["repairs"], 1)

    def test_a_node_that_is_cut_off(self):
        run = self.submit("--ranks", "4", *BOUNDED)
        run.await_steps(10)
        subprocess.run([CLUSTER, "cut", "h2", self.name], check=True)
        try:
            self.assertGreaterEqual(self.assert_same_bits(run)["repairs"], 1)
        finally:
            subprocess.run([CLUSTER, "mend", "h2", self.name], check=True)

    def test_a_job_that_is_preempted_goes_on_later(self):
        run = self.submit("--ranks", "4", *BOUNDED, nodes=NODES)
        run.await_steps(10)
        urgent = subprocess.run(["sbatch", "--wait", "--partition=urgent", f"--nodes={NODES}", "--exclusive", "--output=/dev/null",
                                 "--wrap=true"], capture_output=True, text=True, timeout=LIMIT_S)
        self.assertEqual(urgent.returncode, 0, urgent.stderr)
        wait_for(lambda: run.state() == "PENDING", "the job to be in the queue again")
        done = run.steps()
        self.assertLess(done, STEPS)
        slurm("scontrol", "update", f"jobid={run.job}", "starttime=now")  # Slurm waits two minutes
        self.assert_same_bits(run)
        self.assertIn(f"resumed after step {done} of {STEPS}", run.err)

    def test_nodes_are_lent_and_go(self):
        run = self.submit("--ranks", "2", *JOB, nodes=1)
        run.await_steps(10)
        lent = slurm("sbatch", "--parsable", "--nodes=2", "--exclusive", "--output=grow.log",
                     f"--export=ALL,PACELINE={small.PACELINE}", f"--chdir={self.folder}", str(SOURCE / "slurm/grow.sbatch"), str(run.folder))
        log = self.folder / "grow.log"
        wait_for(lambda: log.exists() and log.read_text().count("joining") == 2, "the nodes that are lent")
        wait_for(lambda: run.ask("resize", 4)[0] == 0, "room for four")
        run.await_ranks(4, after=1)
        nodes = {rank["node"] for rank in run.status()["ranks"]}
        self.assertGreater(len(nodes), 1)
        slurm("scancel", lent)
        wait_for(lambda: {rank["node"] for rank in run.status()["ranks"]} == {"h1"}, "the nodes to leave")
        run.await_steps(run.steps() + 20)
        self.assertEqual(run.ask("stop")[0], 0)
        summary = run.finish()
        self.assertEqual(summary["status"], "stopped", run.err)
        self.assert_accounted_for(run, summary["steps"])

    # ---- nothing is left, however it ends

    def assert_nothing_left(self):
        self.await_idle()
        wait_for(lambda: not self.processes(), "the end of all processes")

    def test_a_job_that_is_cancelled(self):
        run = self.submit("--ranks", "4", *JOB)
        run.await_steps(10)
        slurm("scancel", run.job)
        run.process.communicate(timeout=LIMIT_S)
        self.assert_nothing_left()
        self.assertNotIn("back into the queue", run.log.read_text())

    def test_a_launcher_that_is_killed(self):
        run = self.submit("--ranks", "4", *JOB)
        run.await_steps(10)
        launcher, = [pid for pid in self.processes() if self.words_of(pid)[1:2] == ["train"]]
        os.kill(launcher, signal.SIGKILL)
        run.process.communicate(timeout=LIMIT_S)
        self.assertEqual(run.process.returncode, 137)
        self.assert_nothing_left()


if __name__ == "__main__":
    unittest.main()

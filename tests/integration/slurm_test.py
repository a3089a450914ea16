"""Jobs that Slurm starts, preempts, drains, cuts off and cancels: a real cluster of four nodes (slurm/test-cluster.sh)."""

import json
import os
import pathlib
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import coordinated
import training_test as small
from elastic_test import LIMIT_S, wait_for
from refusals import Refusals
from waiting import Hold

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


def slurm(*command, check=True, environment=None):
    done = subprocess.run(command, text=True, capture_output=True, timeout=LIMIT_S, env={**os.environ, **(environment or {})})
    if check and done.returncode != 0:
        raise AssertionError(f"{command}: {done.stderr}")
    return done.stdout.strip()


class Job:
    """One of Slurm, like a process. `sbatch --wait` would look for its end every ten seconds only."""

    def __init__(self, number):
        self.number = number
        self.returncode = None
        self.looked_at = 0

    def poll(self):
        if self.returncode is None and time.monotonic() - self.looked_at > 0.1:
            self.looked_at = time.monotonic()
            facts = dict(word.split("=", 1) for word in slurm("scontrol", "show", "job", "--oneliner", self.number).split() if "=" in word)
            # Others it passes through on its way.
            if facts["JobState"] in ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "BOOT_FAIL", "OUT_OF_MEMORY", "DEADLINE"):
                status, number = map(int, facts["ExitCode"].split(":"))
                self.returncode = -number if number else status
        return self.returncode

    def wait(self):
        return wait_for(lambda: self.poll() is not None, f"the end of Slurm's job {self.number}")

    def kill(self):
        slurm("scancel", self.number, check=False)


class Submitted(coordinated.Run):
    """A run that sbatch has started."""

    def __init__(self, test, *arguments, nodes=2, options=(), environment=None):
        self.job = slurm("sbatch", "--parsable", f"--nodes={nodes}", "--exclusive", f"--chdir={test.folder}", *options,
                         str(SOURCE / "slurm/train.sbatch"), "job.yaml", "--set", "eval_every=0", *arguments, environment=environment)
        self.process = Job(self.job)
        self.folder = test.folder / f"runs/slurm-{self.job}"
        self.log = test.folder / f"paceline-{self.job}.log"
        test.addCleanup(self.process.kill)

    def await_steps(self, count):
        wait_for(lambda: self.steps() >= count or self.process.poll() is not None, f"step {count}")
        if self.process.poll() is not None:
            raise AssertionError("it ended: " + self.log.read_text())

    def workers(self):
        raise NotImplementedError  # they are not this process's children

    def state(self):
        return slurm("squeue", "--noheader", f"--jobs={self.job}", "--format=%T", check=False)

    def finish(self):
        self.process.wait()
        self.err = self.log.read_text()
        return json.loads((self.folder / "summary.json").read_text())


@unittest.skipIf(missing(), missing())
class Slurm(coordinated.Coordinated, Refusals):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.name = f"s{os.getpid() % 1000000}"
        done = subprocess.run([CLUSTER, "up", "--nodes", str(NODES), cls.name], text=True, capture_output=True, timeout=LIMIT_S)
        if done.returncode != 0:
            raise AssertionError(done.stderr)
        cls.addClassCleanup(subprocess.run, [CLUSTER, "down", cls.name], check=True, timeout=LIMIT_S)
        os.environ["PACELINE"] = str(small.PACELINE)
        cls.addClassCleanup(os.environ.pop, "PACELINE")
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
        hold = Hold(self.folder, 20)
        started = subprocess.Popen([*command, "job.yaml", "--run-dir", self.folder_of_tasks, "--set", "eval_every=0", *BOUNDED],
                                   cwd=self.folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                                   env={**os.environ, **hold.environment})
        self.addCleanup(lambda: (started.kill(), started.wait()))
        metrics = self.folder_of_tasks / "metrics.jsonl"
        wait_for(lambda: metrics.exists() and metrics.read_text().count("\n") >= 10, "step 10")
        slurm(str(small.PACELINE), "stop", str(self.folder_of_tasks))
        hold.let_go(20)
        started.wait(LIMIT_S)
        done = subprocess.run([*command, "--resume", self.folder_of_tasks], cwd=self.folder, text=True, capture_output=True,
                              timeout=LIMIT_S)
        self.assertEqual(done.returncode, 0, done.stderr)
        summary = json.loads((self.folder_of_tasks / "summary.json").read_text())
        self.assertEqual((summary["status"], summary["weights_sha256"]), ("completed", self.weights()))

    def test_a_job_that_cannot_begin(self):
        run = self.submit("--ranks", "9", *BOUNDED)
        run.process.wait()
        self.assertEqual(run.process.returncode, 2)
        self.assertIn("9 ranks are outside the job's limits of 1 to 4", run.log.read_text())
        self.assertFalse(run.folder.exists())

    def test_an_agent_that_cannot_take_part(self):
        run = self.submit("--interface", "eth7", "--ranks", "2", *BOUNDED)
        run.process.wait()
        self.assertEqual(run.process.returncode, 2)
        self.assertRegex(run.log.read_text(), "an agent cannot take part: srun: .*: PACELINE_INTERFACE is 'eth7'")

    # ---- submitted with `paceline submit`

    def submit_by_program(self, *words, path=None):
        done = subprocess.run([small.PACELINE, "submit", "job.yaml", *words], cwd=self.folder, text=True, capture_output=True,
                              timeout=LIMIT_S, env={**os.environ, **({"PATH": path} if path else {})})
        return done.returncode, done.stdout, done.stderr

    def jobs_of_slurm(self):
        return slurm("squeue", "--noheader", "--format=%i").split()

    def facts_of(self, job):
        words = slurm("scontrol", "show", "job", "--oneliner", job).split()
        return dict(word.split("=", 1) for word in words if "=" in word)

    def test_submit_trains_to_the_end(self):
        # The program is not on the path of the batch script.
        kept = os.environ.pop("PACELINE")
        self.addCleanup(os.environ.__setitem__, "PACELINE", kept)
        code, out, err = self.submit_by_program("--slurm", "--time", "10", "--", "--set", "eval_every=0", "--set", "ranks.max=8",
                                                "--ranks", "5", *BOUNDED)
        self.assertEqual((code, err), (0, ""))
        said = out.splitlines()
        job = said[0].split()[1].rstrip(":")
        self.addCleanup(slurm, "scancel", job, check=False)
        self.assertEqual(said[:2], [f"job {job}: 2 nodes of partition normal",
                                    f"output paceline-{job}.log, run directory runs/slurm-{job}"])
        commands = [shlex.split(line) for line in said if line.startswith("  ")]
        self.assertEqual(commands, [["paceline", "status", f"runs/slurm-{job}"],
                                    ["paceline", "logs", f"runs/slurm-{job}", "--follow"], ["scancel", job]])
        facts = self.facts_of(job)
        self.assertEqual((facts["NumNodes"].split("-")[0], facts["TimeLimit"], facts["OverSubscribe"]), ("2", "00:10:00", "NO"))
        ended = Job(job)
        ended.wait()
        log = (self.folder / f"paceline-{job}.log").read_text()
        self.assertEqual(ended.returncode, 0, log)
        self.assertIn("5 ranks on 2 nodes, started by srun", log)
        run = f"runs/slurm-{job}"
        summary = json.loads((self.folder / run / "summary.json").read_text())
        self.assertEqual((summary["status"], summary["weights_sha256"]), ("completed", self.weights()), log)
        done = subprocess.run([small.PACELINE, "logs", run, "--follow"], cwd=self.folder, text=True, capture_output=True,
                              timeout=LIMIT_S)
        self.assertEqual((done.returncode, done.stdout), (0, ""), done.stderr)
        self.assertEqual(len(list((self.folder / run / "logs").glob("all-*.log"))), 2)  # one for each node

    def test_submit_asks_for_as_many_nodes_as_the_ranks_need(self):
        for limits, options, nodes, text in ((("ranks.min=5", "ranks.max=16"), (), "2-4", "2 to 4 nodes of partition normal"),
                                             (("ranks.max=4096",), ("-p", "urgent"), "1-4", "1 to 4 nodes of partition urgent"),
                                             (("ranks.max=4096",), ("--nodes", "3"), "3-3", None),
                                             (("ranks.max=16",), ("--ntasks=6",), "1-1", None)):
            with self.subTest(limits=limits, options=options):
                sets = [word for limit in limits for word in ("--set", limit)]
                code, out, err = self.submit_by_program("--slurm", "--hold", *options, "--", *sets)
                self.assertEqual((code, err), (0, ""))
                job = out.split()[1].rstrip(":")
                self.addCleanup(slurm, "scancel", job, check=False)
                self.assertEqual(out.splitlines()[0], f"job {job}: {text}" if text else f"job {job}")
                if "--ntasks=6" not in options:
                    least, most = nodes.split("-")
                    self.assertIn(self.facts_of(job)["NumNodes"], (nodes, most if least == most else None))
                slurm("scancel", job)

    def test_submit_shows_what_it_would_do(self):
        before = self.jobs_of_slurm()
        code, out, err = self.submit_by_program("--slurm", "--dry-run", "--comment", "it's mine", "--", "--set", "ranks.max=16")
        self.assertEqual((code, err), (0, ""))
        self.assertEqual(shlex.split(out),
                         ["sbatch", "--parsable", f"--export=ALL,PACELINE={small.PACELINE.resolve()}", "--nodes=1-4", "--exclusive",
                          "--comment", "it's mine", str(small.BUILD.resolve() / "share/paceline/slurm/train.sbatch"), "job.yaml",
                          "--set", "ranks.max=16"])
        self.assertEqual(self.jobs_of_slurm(), before)

    def test_submit_refuses_what_cannot_be(self):
        before = self.jobs_of_slurm()
        for code, words, sentence in ((2, (), "submit knows no queue but Slurm's: write --slurm"),
                                      (2, ("--slurm", "--", "--set", "nosuch=1"), "nosuch"),
                                      (2, ("--slurm", "--", "--nosuch"), "--nosuch"),
                                      (2, ("--slurm", "--", "--ranks", "9"), "9 ranks are outside the job's limits of 1 to 4"),
                                      (2, ("--slurm", "--", "--run-dir", "x"), "leave --run-dir out"),
                                      (2, ("--slurm", "--wait"), "leave --wait out"),
                                      (2, ("--slurm", "--nodes=2", "--", "--set", "device=gpu"), "say how many nodes and GPUs it gets"),
                                      (2, ("--slurm", "--gpus=2", "--", "--set", "device=gpu"), "say how many nodes and GPUs it gets"),
                                      (1, ("--slurm", "--partition=nosuch"), "Slurm has no partition nosuch"),
                                      (1, ("--slurm", "--partition=nosuch", "--nodes=1"), "sbatch refused: invalid partition specified: nosuch"),
                                      (1, ("--slurm", "--nosuch"), "options of `paceline train` come after --")):
            with self.subTest(words):
                self.assert_refused(self.submit_by_program(*words), code, sentence)
        self.assert_refused(self.submit_by_program("--slurm", path="/nonexistent"), 1, "there is no sbatch on the path")
        self.assertEqual(self.jobs_of_slurm(), before)

    # ---- what happens to nodes

    def test_the_processes_of_a_node_are_killed(self):
        hold = Hold(self.folder, 20)
        run = self.submit("--ranks", "4", *BOUNDED, environment=hold.environment)
        run.await_steps(10)
        for pid in self.agents_on("h2"):
            os.kill(pid, signal.SIGKILL)
        hold.let_go(20)
        self.assertGreaterEqual(self.assert_same_bits(run)["repairs"], 1)

    def test_a_node_that_is_cut_off(self):
        hold = Hold(self.folder, 20)
        run = self.submit("--ranks", "4", *BOUNDED, environment=hold.environment)
        run.await_steps(10)
        subprocess.run([CLUSTER, "cut", "h2", self.name], check=True)
        hold.let_go(20)
        try:
            self.assertGreaterEqual(self.assert_same_bits(run)["repairs"], 1)
        finally:
            subprocess.run([CLUSTER, "mend", "h2", self.name], check=True)

    def test_a_job_that_is_preempted_goes_on_later(self):
        hold = Hold(self.folder, 20)
        run = self.submit("--ranks", "3", *BOUNDED, nodes=NODES, environment=hold.environment)
        run.await_steps(10)
        urgent = Job(slurm("sbatch", "--parsable", "--partition=urgent", f"--nodes={NODES}", "--exclusive", "--output=/dev/null", "--wrap=true"))
        wait_for(lambda: re.search(r"PreemptTime=\d", slurm("scontrol", "show", "job", run.job)), "Slurm's warning")
        hold.let_go(20)
        urgent.wait()
        self.assertEqual(urgent.returncode, 0)
        wait_for(lambda: run.state() == "PENDING", "the job to be in the queue again")
        done = run.steps()
        self.assertLess(done, STEPS)
        self.start_again(run)
        self.assertEqual(self.assert_same_bits(run)["ranks"], 3)
        self.assertIn(f"resumed after step {done} of {STEPS}", run.err)

    def start_again(self, run):
        """Slurm would wait two minutes. A node refuses what it has ended in the same second, and the job then fails."""
        time.sleep(2.5)
        slurm("scontrol", "update", f"jobid={run.job}", "starttime=now")

    def test_a_node_that_slurm_drains(self):
        run = self.submit("--ranks", "2", *JOB, nodes=2, options=("--ntasks=2", "--export=ALL,PACELINE_SLURM_POLL_S=1"))
        run.await_steps(10)
        self.assertEqual({rank["node"] for rank in run.status()["ranks"]}, {"h1", "h2"})
        slurm("scontrol", "update", "nodename=h2", "state=drain", "reason=test")
        try:
            wait_for(lambda: {rank["node"] for rank in run.status()["ranks"]} == {"h1"}, "the job to leave h2")
        finally:
            slurm("scontrol", "update", "nodename=h2", "state=resume")
        run.await_steps(run.steps() + 20)
        self.assertEqual(run.ask("stop")[0], 0)
        summary = run.finish()
        self.assertEqual(summary["status"], "stopped", run.err)
        self.assertIn("Slurm drains node h2: the job leaves it", run.err)
        self.assert_accounted_for(run, summary["steps"])

    def test_nodes_are_lent_and_go(self):
        run = self.submit("--ranks", "2", *JOB, nodes=1)
        run.await_steps(10)
        lent = slurm("sbatch", "--parsable", "--nodes=2", "--exclusive", "--output=grow.log",
                     f"--chdir={self.folder}", str(SOURCE / "slurm/grow.sbatch"), str(run.folder))
        log = self.folder / "grow.log"
        wait_for(lambda: log.exists() and log.read_text().count("joining") == 2, "the nodes that are lent")
        # Not before the coordinator knows them, or the ranks would crowd on the first node.
        run.await_status(lambda status: sum(agent["connected"] for agent in status["agents"]) == 4, "their agents")
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

    def grown(self):
        """Slurm's numbers of the jobs that lend nodes, with their states."""
        lines = slurm("squeue", "--noheader", "--format=%i %T %j").splitlines()
        return [tuple(line.split()[:2]) for line in lines if line.split()[2].startswith("paceline-grow")]

    def test_a_job_that_asks_for_nodes_itself(self):
        os.environ["PACELINE_SLURM_POLL_S"] = "1"
        self.addCleanup(os.environ.pop, "PACELINE_SLURM_POLL_S")
        run = self.submit(*JOB, "--ranks", "2", "--set", "ranks.grow=--exclusive --output=/dev/null", nodes=1)
        run.await_steps(5)
        self.assertEqual(self.grown(), [])
        places = run.status()["room"]
        code, out, err = run.ask("resize", str(places + 1))
        self.assertEqual((code, "Slurm is asked for more nodes" in out), (0, True), out + err)
        status = run.await_status(lambda status: len({rank["node"] for rank in status["ranks"] if rank["rank"] is not None}) == 2,
                                  "ranks on two nodes")
        self.assertGreater(status["room"], places)
        (number, state), = self.grown()
        self.assertEqual(state, "RUNNING")
        self.assertIn("there are no places for 1 rank: Slurm is asked for 1 more node", run.log.read_text())
        # Lost again, they are asked for again.
        slurm("scancel", number)
        wait_for(lambda: [job for job in self.grown() if job[0] != number and job[1] == "RUNNING"], "another node")
        slurm("scancel", run.job)
        run.finish()
        wait_for(lambda: not self.grown(), "the end of the jobs that lent nodes")

    def test_a_plan_of_large_nodes(self):
        """Whose reports are longer than the lines that Slurm hands on."""
        large = {**os.environ, "HWLOC_SYNTHETIC": "package:2 numa:1 core:64 pu:2", "SLURM_EXPORT_ENV": "ALL"}
        done = subprocess.run(["salloc", "--nodes=2", "--exclusive", str(small.PACELINE), "plan", self.folder / "job.yaml", "--json",
                               "--ranks", "4"], env=large, text=True, capture_output=True, timeout=LIMIT_S)
        self.assertEqual(done.returncode, 0, done.stderr)
        plan = json.loads(done.stdout)
        self.assertEqual([len(node["cores"]) for node in plan["nodes"]], [128, 128])
        # Of which Slurm gives this job no more than it knows of.
        self.assertEqual(sorted({rank["node"] for rank in plan["ranks"]}), ["h1", "h2"])

    def test_nodes_that_are_not_needed_any_more_are_not_waited_for(self):
        os.environ["PACELINE_SLURM_POLL_S"] = "1"
        self.addCleanup(os.environ.pop, "PACELINE_SLURM_POLL_S")
        run = self.submit(*JOB, "--ranks", "2", "--set", "ranks.grow=--exclusive --begin=now+1hour", nodes=1)
        run.await_steps(5)
        places = run.status()["room"]
        run.ask("resize", str(places + 1))
        wait_for(lambda: [state for _, state in self.grown()] == ["PENDING"], "a job in the queue")
        run.ask("resize", "2")
        wait_for(lambda: not self.grown(), "an empty queue")
        run.ask("resize", str(places + 1))
        wait_for(lambda: [state for _, state in self.grown()] == ["PENDING"], "a job in the queue again")
        run.ask("stop")
        run.finish()
        wait_for(lambda: not self.grown(), "an empty queue after the end")

    def test_a_job_that_is_cancelled(self):
        run = self.submit("--ranks", "4", *JOB)
        run.await_steps(10)
        slurm("scancel", run.job)
        run.process.wait()
        self.assert_nothing_left()
        self.assertNotIn("back into the queue", run.log.read_text())

    def test_a_launcher_that_is_killed(self):
        run = self.submit("--ranks", "4", *JOB)
        run.await_steps(10)
        launcher, = [pid for pid in self.processes() if self.words_of(pid)[1:2] == ["train"]]
        os.kill(launcher, signal.SIGKILL)
        run.process.wait()
        self.assertEqual(run.process.returncode, 137)
        self.assert_nothing_left()


if __name__ == "__main__":
    unittest.main()

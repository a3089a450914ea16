"""Ways in which a job ends, good and bad: soon after each nothing of it is left, no process and no file but its run directory."""

import fcntl
import os
import pathlib
import shutil
import signal
import sys
import time
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import coordinated
import training_test as small
from coordinated import ENDLESS, Run
from elastic_test import wait_for

# From the end of the launcher to that of all else it takes some three seconds at most, on a machine that has time.
SOON_S = 20
MPI = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}


def processes_of(mark):
    """All that were started by this job, whoever their parents are now: their environment has the mark."""
    found = []
    for entry in pathlib.Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            if mark.encode() in (entry / "environ").read_bytes() and coordinated.is_alive(int(entry.name)):
                found.append(int(entry.name))
        except OSError:
            pass
    return found


def told(pid):
    try:
        return pathlib.Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
    except OSError:
        return "?"


def kill(*pids, number=signal.SIGKILL):
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            pass


class Marked(coordinated.Coordinated):
    """Jobs whose processes are known by a mark."""
    slowest = 0.0

    @classmethod
    def tearDownClass(cls):
        print(f"from the end of a launcher to that of all else: at most {cls.slowest:.1f} s", flush=True)
        super().tearDownClass()

    def start_marked(self, *arguments, launcher=(), environment=None):
        """A job in a session of its own, as a terminal or a batch system starts it."""
        self.mark = f"PACELINE_TEST_MARK={self.id()}-{os.getpid()}-{type(self).runs}"
        self.temporary = self.folder / f"tmp{type(self).runs}"
        self.temporary.mkdir()
        name, _, value = self.mark.partition("=")
        self.shared_before = self.shared_memory()
        run = Run(self, *arguments, launcher=("setsid", *launcher),
                  environment={name: value, "TMPDIR": str(self.temporary), **(environment or {})})
        self.jobs.append(run.process)
        return run

    @staticmethod
    def shared_memory():
        return {path.name for path in pathlib.Path("/dev/shm").iterdir() if path.name.startswith("paceline") and
                not path.name.startswith("paceline-bench")}  # benchmarks may run beside this

    def begin_marked(self, *arguments, steps=10, **keys):
        run = self.start_marked("--ranks", "3", *ENDLESS, *arguments, **keys)
        run.await_steps(steps)
        return run

    def others_of(self, run):
        return [pid for pid in processes_of(self.mark) if pid != run.process.pid]

    def await_end(self, run):
        """Of the launcher."""
        wait_for(lambda: run.process.poll() is not None, "the end of the launcher")

    def assert_nothing_left(self):
        begin = time.monotonic()
        try:
            wait_for(lambda: not processes_of(self.mark), "the end of all processes", limit_s=SOON_S)
        except AssertionError:
            left = {pid: told(pid) for pid in processes_of(self.mark)}
            kill(*left)
            raise AssertionError(f"{SOON_S} s after the end of its launcher there are still {left}") from None
        type(self).slowest = max(self.slowest, time.monotonic() - begin)
        self.assertEqual([path.name for path in self.temporary.iterdir() if not path.name.startswith("ompi")], [])
        self.assertEqual(self.shared_memory() - self.shared_before, set())


class Endings(Marked):
    # ---- it ends by itself ----

    def test_it_completes(self):
        run = self.start_marked("--ranks", "3", "--set", "steps=20")
        self.await_end(run)
        self.assertEqual(run.finish()["status"], "completed")
        self.assert_nothing_left()

    def test_it_is_refused(self):
        run = self.start_marked("--set", "model=nonesuch")
        self.await_end(run)
        self.assertEqual(run.process.returncode, 2)
        self.assert_nothing_left()

    def test_a_rank_fails_for_good(self):
        run = self.start_marked("--ranks", "3", *ENDLESS, "--set", "optimizer.learning_rate=1e30")
        self.await_end(run)
        self.assertEqual(run.process.returncode, 1)
        self.assert_nothing_left()

    def test_all_ranks_die_in_the_first_step(self):
        run = self.start_marked("--ranks", "3", *ENDLESS, environment={"PACELINE_FAULTS": "*:data@1:kill"})
        self.await_end(run)
        self.assertEqual(run.process.returncode, 1)
        self.assert_nothing_left()

    def test_workers_cannot_start(self):
        run = self.start_marked("--ranks", "3", *ENDLESS, environment={"PACELINE_WORKER": "/bin/false"})
        self.await_end(run)
        self.assertEqual(run.process.returncode, 1)
        self.assert_nothing_left()

    # ---- it is told to end ----

    def end_by(self, number, times=1):
        run = self.begin_marked()
        for _ in range(times):
            kill(run.process.pid, number=number)
            time.sleep(0.05)
        self.await_end(run)
        self.assert_nothing_left()
        return run

    def test_interrupted(self):
        self.end_by(signal.SIGINT)

    def test_interrupted_twice(self):
        self.end_by(signal.SIGINT, times=2)

    def test_terminated(self):
        self.end_by(signal.SIGTERM)

    def test_its_terminal_is_closed(self):
        self.end_by(signal.SIGHUP)

    def test_control_c_reaches_all_processes_of_the_terminal(self):
        run = self.begin_marked()
        os.killpg(run.process.pid, signal.SIGINT)
        self.await_end(run)
        self.assert_nothing_left()

    def test_the_stop_command(self):
        run = self.begin_marked()
        self.assertEqual(run.ask("stop")[0], 0)
        self.await_end(run)
        self.assert_nothing_left()

    def test_stopped_before_its_first_step(self):
        run = self.start_marked("--ranks", "3", *ENDLESS)
        wait_for(lambda: len(self.others_of(run)) >= 2, "its first processes")
        kill(run.process.pid, number=signal.SIGTERM)
        self.await_end(run)
        self.assert_nothing_left()

    def test_stopped_after_its_coordinator_was_lost(self):
        run = self.begin_marked()
        term = run.kill_coordinator()
        run.await_term(term + 1)
        self.assertEqual(run.ask("stop")[0], 0)
        self.await_end(run)
        self.assert_nothing_left()

    def test_whoever_read_what_it_says_has_gone(self):
        run = self.begin_marked()
        run.process.stdout.close()
        run.process.stderr.close()
        run.kill_coordinator()  # something to be told
        run.await_term(2)
        kill(run.process.pid, number=signal.SIGTERM)
        self.await_end(run)
        self.assert_nothing_left()

    def test_whoever_reads_what_it_says_has_paused(self):
        # A line for each epoch, of two steps, and room for some hundred lines: it trains on, and ends as it should.
        run = self.start_marked("--ranks", "1", "--set", "epochs=100000", "--set", "batch.global=1500")
        fcntl.fcntl(run.process.stdout, fcntl.F_SETPIPE_SZ, 4096)
        run.await_steps(300)
        time.sleep(8)  # a worker whose agent has no time for it gives up after 5
        run.await_steps(run.steps() + 20)
        self.assertEqual(run.generation(), 1)
        kill(run.process.pid, number=signal.SIGTERM)
        self.await_end(run)
        self.assertEqual(run.finish()["status"], "stopped")
        self.assert_nothing_left()

    # ---- it is killed ----

    def test_the_launcher_is_killed(self):
        self.end_by(signal.SIGKILL)

    def test_the_launcher_is_killed_while_it_starts_workers(self):
        run = self.start_marked("--ranks", "3", *ENDLESS)
        wait_for(lambda: len(self.others_of(run)) >= 2, "its first processes")
        kill(run.process.pid)
        self.await_end(run)
        self.assert_nothing_left()

    def test_the_launcher_is_killed_while_the_job_grows(self):
        run = self.begin_marked("--set", "ranks.max=4")
        self.assertEqual(run.ask("resize", 4)[0], 0)
        kill(run.process.pid)
        self.await_end(run)
        self.assert_nothing_left()

    def test_the_launcher_is_killed_while_its_workers_are_frozen(self):
        run = self.begin_marked()
        kill(*small.workers_of(run.process.pid), number=signal.SIGSTOP)
        kill(run.process.pid)
        self.await_end(run)
        self.assert_nothing_left()

    def test_the_launcher_and_the_coordinator_are_killed(self):
        run = self.begin_marked()
        run.kill_coordinator()
        kill(run.process.pid)
        self.await_end(run)
        self.assert_nothing_left()

    def test_the_launcher_is_killed_while_a_successor_begins(self):
        run = self.begin_marked()
        term = run.kill_coordinator()
        wait_for(lambda: run.term() > term, "a successor")
        kill(run.process.pid)
        self.await_end(run)
        self.assert_nothing_left()

    def test_all_workers_are_killed(self):
        run = self.begin_marked()
        kill(*small.workers_of(run.process.pid))
        self.await_end(run)
        self.assertEqual(run.process.returncode, 1)
        self.assert_nothing_left()

    def test_everything_is_killed(self):
        run = self.begin_marked()
        kill(*self.others_of(run), run.process.pid)
        self.await_end(run)
        self.assert_nothing_left()

    def test_its_run_directory_is_removed(self):
        run = self.begin_marked()
        shutil.rmtree(run.folder, ignore_errors=True)
        kill(run.process.pid, number=signal.SIGTERM)
        self.await_end(run)
        shutil.rmtree(run.folder, ignore_errors=True)
        self.assert_nothing_left()

    # ---- with an agent that has joined ----

    def begin_with_joined(self):
        run = self.begin_marked("--set", "ranks.max=4")
        name, _, value = self.mark.partition("=")
        os.environ[name] = value
        self.addCleanup(os.environ.pop, name, None)
        joined = self.join(run, "elsewhere")
        generation = run.generation()
        wait_for(lambda: run.ask("resize", 4)[0] == 0, "a resize")
        run.await_ranks(4, after=generation)
        return run, joined

    def test_launcher_and_joined_agent_are_killed(self):
        run, joined = self.begin_with_joined()
        kill(run.process.pid, joined.pid)
        self.await_end(run)
        joined.wait()
        self.assert_nothing_left()

    def test_a_joined_agent_is_killed_and_the_job_stopped(self):
        run, joined = self.begin_with_joined()
        kill(joined.pid)
        joined.wait()
        self.assertEqual(run.ask("stop")[0], 0)
        self.await_end(run)
        self.assert_nothing_left()


@unittest.skipUnless(shutil.which("mpirun"), "Open MPI is not installed")
class EndingsUnderMpirun(Marked):
    def begin_under_mpirun(self, *arguments):
        run = self.start_marked(*(arguments or ENDLESS), launcher=("mpirun", "--oversubscribe", "-n", "3"), environment=MPI)
        return run

    def agents_of(self, run):
        return [pid for pid in small.children_of(run.process.pid) if "train" in told(pid).split(" ")]

    def disturb_after_some_steps(self, disturb):
        run = self.begin_under_mpirun()
        run.await_steps(10)
        disturb(run)
        self.await_end(run)
        self.assert_nothing_left()
        return run

    def test_it_completes(self):
        run = self.begin_under_mpirun("--set", "steps=20")
        self.await_end(run)
        self.assertEqual(run.process.returncode, 0, run.process.communicate())
        self.assert_nothing_left()

    def test_mpirun_is_terminated(self):
        self.disturb_after_some_steps(lambda run: kill(run.process.pid, number=signal.SIGTERM))

    def test_mpirun_is_killed(self):
        self.disturb_after_some_steps(lambda run: kill(run.process.pid))

    def test_a_task_is_killed(self):
        self.disturb_after_some_steps(lambda run: kill(self.agents_of(run)[1]))

    def test_all_workers_are_killed(self):
        self.disturb_after_some_steps(lambda run: kill(*small.workers(self.folder)))

    def test_everything_is_killed(self):
        self.disturb_after_some_steps(lambda run: kill(*processes_of(self.mark)))


if __name__ == "__main__":
    unittest.main()

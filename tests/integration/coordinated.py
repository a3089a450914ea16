"""Jobs in the background whose coordinator is asked, killed and succeeded: what such tests share."""

import json
import os
import pathlib
import shutil
import signal
import subprocess
import tempfile
import unittest

import elastic_test as elastic
import training_test as small
from elastic_test import LIMIT_S, wait_for

# Steps of some milliseconds, so that there is a middle of the job to disturb.
MODEL = ("--set", "model={kind: cnn}", "--set", "batch.global=256")
ENDLESS = (*MODEL, "--set", "epochs=100000")


def state_of(pid):
    """The kernel's letter for what a process does, Z and T among them; nothing where there is none."""
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return None


def is_alive(pid):
    return state_of(pid) not in (None, "Z")


def coordinators(folder):
    """Process ids of all coordinators of runs in a folder."""
    found = []
    for entry in pathlib.Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if words[1:2] == [b"coordinator"] and words[2].startswith(bytes(folder.resolve())):
            found.append(int(entry.name))
    return found


class Run(elastic.Run):
    def ask(self, command, *arguments):
        done = subprocess.run([str(small.PACELINE), command, str(self.folder), *map(str, arguments)], text=True, capture_output=True,
                              timeout=LIMIT_S)
        return done.returncode, done.stdout, done.stderr

    def status(self):
        """What the coordinator says; nothing where there is none just now."""
        code, out, _ = self.ask("status", "--json")
        return json.loads(out) if code == 0 else None

    def await_status(self, condition, what):
        def there():
            if self.process.poll() is not None:
                raise AssertionError("it ended: " + self.process.communicate()[1])
            status = self.status()
            return status if status and condition(status) else None
        return wait_for(there, what)

    def await_term(self, term):
        """Until its coordinator has taken over: before that it answers too, and waits for agents."""
        def there(status):
            return status["coordinator"]["term"] >= term and status["state"] != "gathering"
        return self.await_status(there, f"a coordinator of term {term}")

    def term(self):
        """The highest that was taken."""
        try:
            return max((int(name.stem) for name in (self.folder / "coordinators").glob("[0-9]*.json")), default=0)
        except FileNotFoundError:
            return 0

    def address(self, term):
        return json.loads((self.folder / f"coordinators/{term}.json").read_text())

    def kill_coordinator(self):
        """The one in charge, without asking it; it may be dead already."""
        term = self.term()
        try:
            os.kill(self.address(term)["pid"], signal.SIGKILL)
        except ProcessLookupError:
            pass
        return term

    def trained_in(self):
        lines = []
        for path in (self.folder / "journal").glob("*.jsonl"):
            lines += [json.loads(line) for line in path.read_text().splitlines(keepends=True)
                      if '"generation"' in line and line.endswith("\n")]
        return sorted((line["generation"], line["ranks"]) for line in lines if line["type"] == "generation")


class Coordinated(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = pathlib.Path(tempfile.mkdtemp(prefix="paceline-coordinator-"))
        cls.addClassCleanup(shutil.rmtree, cls.folder)
        (cls.folder / "idx").mkdir()
        small.write_idx(cls.folder / "idx")
        (cls.folder / "job.yaml").write_text(small.JOB)
        subprocess.run([str(small.PACELINE), "data", "import", "fashion-mnist", "idx", "--out", "data"], cwd=cls.folder,
                       check=True, capture_output=True, timeout=LIMIT_S)
        cls.runs = 0

    def setUp(self):
        self.jobs = []

    def tearDown(self):
        if any(job.poll() is None for job in self.jobs):  # the test went wrong
            for job in self.jobs:
                job.kill()
            for pid in coordinators(self.folder):
                os.kill(pid, signal.SIGKILL)
        wait_for(lambda: not coordinators(self.folder), "the end of all coordinators")
        for folder in (self.folder, self.folder / "elsewhere"):
            wait_for(lambda folder=folder: not small.workers(folder), "the end of all workers")

    def start(self, *arguments, environment=None, launcher=()):
        run = Run(self, *arguments, environment=environment, launcher=launcher)
        self.jobs.append(run.process)
        return run

    def join(self, run, node, places=2):
        """Another agent, of a node of its own, which has another working directory."""
        (self.folder / "elsewhere").mkdir(exist_ok=True)
        process = subprocess.Popen([str(small.PACELINE), "join", str(run.folder), "--places", str(places)],
                                   cwd=self.folder / "elsewhere", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                                   env={**os.environ, "PACELINE_NODE": node})
        self.jobs.append(process)
        self.addCleanup(lambda: (process.kill(), process.wait()))
        return process

    def begin(self, *arguments, environment=None, steps=10):
        run = self.start(*arguments, environment=environment)
        run.await_steps(steps)
        return run

    def assert_accounted_for(self, run, steps):
        report = run.folder / "audit.json"
        code, out, err = run.ask("audit", "--json", report)
        self.assertEqual(code, 0, out + err)
        terms = [each["term"] for each in json.loads(report.read_text())["terms"]]
        self.assertEqual(terms, sorted(set(terms)))
        lines = [json.loads(line) for line in (run.folder / "metrics.jsonl").read_text().splitlines()]
        self.assertEqual([line["step"] for line in lines], list(range(1, steps + 1)))
        return terms

    def stop_and_prove(self, run):
        """It trains on, and can be stopped; and the audit finds nothing amiss in what was used until then. Gives the summary and
        the terms that trained."""
        run.await_steps(run.steps() + 20)
        run.process.send_signal(signal.SIGTERM)
        summary = run.finish()
        self.assertEqual((run.process.returncode, summary["status"]), (143, "stopped"), run.err)
        return summary, self.assert_accounted_for(run, summary["steps"])

    def assert_proved(self, run, steps):
        """It completed, and the audit finds that every sample was used once."""
        summary = run.finish()
        self.assertEqual((run.process.returncode, summary["status"], summary["steps"]), (0, "completed", steps), run.err)
        return summary, self.assert_accounted_for(run, steps)

    def assert_unharmed(self, summary):
        self.assertEqual((summary["repairs"], summary["resizes"], summary["generation"]), (0, 0, 1))

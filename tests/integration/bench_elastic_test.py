"""`paceline bench elastic` with real training: small, few losses, and no times asserted."""

import functools
import json
import os
import pathlib
import shutil
import signal
import subprocess
import tempfile
import unittest

import waiting
from refusals import Refusals

PACELINE = pathlib.Path(os.environ["PACELINE_BUILD_DIR"]) / "bin" / "paceline"
# No test waits longer for anything; each thing takes far less, also on a busy machine.
LIMIT_S = 600
wait_for = functools.partial(waiting.wait_for, limit_s=LIMIT_S)
SMALL = ("--model", "cnn", "--ranks", "2", "--batch", "32", "--images", "512")


class BenchElastic(Refusals, unittest.TestCase):
    def setUp(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="paceline-bench-elastic-"))

    def tearDown(self):
        try:
            wait_for(lambda: not self.processes(), "processes that are left behind to end")
            wait_for(lambda: not list(self.folder.glob("paceline-bench-*")), "files that are left behind to go")
        finally:
            shutil.rmtree(self.folder)

    def processes(self):
        """Those that work in this test's folder."""
        found = []
        for entry in pathlib.Path("/proc").iterdir():
            try:
                if entry.name.isdigit() and os.readlink(entry / "cwd") == str(self.folder.resolve()):
                    found.append(int(entry.name))
            except OSError:
                pass
        return found

    def start(self, *arguments):
        process = subprocess.Popen([str(PACELINE), "bench", "elastic", *arguments], cwd=self.folder, text=True,
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.addCleanup(lambda: (process.kill(), process.communicate()))
        return process

    def finish(self, process):
        out, err = process.communicate(timeout=LIMIT_S)
        return process.returncode, out, err

    def test_measures_every_part(self):
        figures = self.folder / "figures.json"
        code, out, err = self.finish(self.start(
            *SMALL, "--folder", str(self.folder), "--json", str(figures), "--kills", "1", "--coordinator-kills", "1",
            "--resizes", "2", "--cost-pairs", "2", "--checkpoints", "1", "--checkpoint-steps", "200"))
        self.assertEqual((code, err), (0, ""), out)
        parts = {part["part"]: part for part in json.loads(figures.read_text())["parts"]}
        self.assertEqual(list(parts), ["kill", "coordinator", "resize", "cost", "checkpoint"])
        for name, part in parts.items():
            self.assertIn(f"\n{name}: ", out)
            for figure in part["figures"]:
                self.assertEqual(len(figure["values"]), figure["count"], figure)
                self.assertGreater(figure["count"], 0, f"{name}: {figure['name']} was not measured")
                self.assertLessEqual(figure["least"], figure["median"])
                self.assertLessEqual(figure["median"], figure["most"])
            for target in part["targets"]:
                self.assertEqual(target["met"], target["value"] >= target["limit"] if target["at_least"]
                                 else target["value"] <= target["limit"])
        whole = {figure["name"]: figure for figure in parts["kill"]["figures"]}["until all ranks train again"]
        self.assertGreater(whole["least"], 0)

    def test_ctrl_c_ends_the_job_too(self):
        process = self.start(*SMALL, "--folder", str(self.folder), "--only", "kill", "--kills", "1000")
        wait_for(lambda: list(self.folder.glob("paceline-bench-*/run-*/metrics.jsonl")) or process.poll() is not None,
                 "a training")
        process.send_signal(signal.SIGINT)
        code, _, err = self.finish(process)
        self.assertEqual(code, 130, err)
        self.assertEqual(err.count("\n"), 1, err)
        self.assertEqual(self.processes(), [])

    def test_refuses_in_one_sentence(self):
        def refused(*arguments):
            return self.finish(self.start(*arguments))
        self.assert_refused(refused("--kills", "none"), 2, "--kills")
        self.assert_refused(refused("--only", "everything"), 2, "everything")
        self.assert_refused(refused("--folder", str(self.folder / "missing")), 2, "missing")
        self.assert_refused(refused("--json", str(self.folder / "missing" / "x.json")), 2, "missing")


if __name__ == "__main__":
    unittest.main(verbosity=2)

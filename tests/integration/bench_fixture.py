"""Benchmarks that start processes of their own: a folder for each test, in which none of them may be left behind."""

import functools
import os
import pathlib
import shutil
import subprocess
import tempfile
import unittest

import waiting
from refusals import Refusals

PACELINE = pathlib.Path(os.environ["PACELINE_BUILD_DIR"]) / "bin" / "paceline"
# No test waits longer for anything; each thing takes far less, also on a busy machine.
LIMIT_S = 600
wait_for = functools.partial(waiting.wait_for, limit_s=LIMIT_S)


class BenchTest(Refusals, unittest.TestCase):
    benchmark = ""  # the word after `paceline bench`
    leaving_s = LIMIT_S  # for what it has started, after its end

    def setUp(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix=f"paceline-bench-{self.benchmark}-"))

    def tearDown(self):
        try:
            waiting.wait_for(lambda: not self.processes(), "processes that are left behind to end", self.leaving_s)
            waiting.wait_for(lambda: not list(self.folder.glob("paceline-bench-*")), "files that are left behind to go",
                             self.leaving_s)
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
        process = subprocess.Popen([str(PACELINE), "bench", self.benchmark, *arguments], cwd=self.folder, text=True,
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        waiting.end_with(self, process)
        return process

    def finish(self, process):
        out, err = process.communicate(timeout=LIMIT_S)
        return process.returncode, out, err

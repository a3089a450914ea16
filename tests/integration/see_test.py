"""`paceline top`, `timeline` and `report` on a short real run: while it trains, and when it has ended."""

import fcntl
import json
import os
import pathlib
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import training_test as small
from coordinated import ENDLESS, MODEL, Coordinated
from elastic_test import LIMIT_S, wait_for
from refusals import Refusals

ESCAPES = re.compile(rb"\x1b\[[0-9;?]*[A-Za-z]")


class Terminal:
    """`paceline top` with somebody at a terminal of its own."""

    def __init__(self, *arguments, size=(30, 160)):
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.environ["TERM"] = "xterm"
            os.execv(str(small.PACELINE), [str(small.PACELINE), "top", *map(str, arguments)])
        self.resize(*size)
        self.output = b""
        self.status = None

    def resize(self, rows, columns):
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def modes(self):
        """Of those that are changed while it runs."""
        return termios.tcgetattr(self.fd)[3] & (termios.ECHO | termios.ICANON)

    def press(self, keys):
        os.write(self.fd, keys)

    def read(self):
        while select.select([self.fd], [], [], 0)[0]:
            try:
                more = os.read(self.fd, 65536)
            except OSError:  # its other end was closed
                return
            if not more:
                return
            self.output += more

    def frame(self):
        """What is on the screen now, as lines."""
        self.read()
        last = self.output.rsplit(b"\x1b[H", 1)[-1]
        return [line.rstrip("\r") for line in ESCAPES.sub(b"", last).decode(errors="replace").split("\n")]

    def await_text(self, text):
        return wait_for(lambda: any(text in line for line in self.frame()) and self.frame(), text)

    def finish(self):
        """Its exit status, as a shell would say it."""
        def ended():
            self.read()
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.status = os.waitstatus_to_exitcode(status)
            return pid != 0
        wait_for(ended, "its end")
        return self.status

    def close(self):
        if self.status is None:
            try:
                os.kill(self.pid, signal.SIGKILL)
                os.waitpid(self.pid, 0)
            except (ProcessLookupError, ChildProcessError):
                pass
        os.close(self.fd)


class See(Coordinated, Refusals):
    def paceline(self, *arguments):
        done = subprocess.run([str(small.PACELINE), *map(str, arguments)], text=True, capture_output=True, timeout=LIMIT_S,
                              stdin=subprocess.DEVNULL)
        return done.returncode, done.stdout, done.stderr

    def terminal(self, *arguments, **keywords):
        terminal = Terminal(*arguments, **keywords)
        self.addCleanup(terminal.close)
        return terminal

    def stop(self, run):
        run.process.send_signal(signal.SIGTERM)
        self.assertEqual(run.finish()["status"], "stopped", run.err)

    def test_top_while_a_job_trains(self):
        run = self.begin("--ranks", "2", *ENDLESS)
        code, out, err = self.paceline("top", run.folder, "--once", "--interval", "0.5")
        self.assertEqual((code, err), (0, ""))
        self.assertIn("generation 1, wish 2 ranks", out)
        self.assertRegex(out, r"samples/s")
        # Without a terminal it is one look too.
        self.assertEqual(self.paceline("top", run.folder)[0], 0)

        terminal = self.terminal(run.folder, "--interval", "0.2")
        frame = terminal.await_text("step ms")
        titles = next(i for i, line in enumerate(frame) if "step ms" in line)
        self.assertEqual([line.split()[0] for line in frame[titles + 1:titles + 3]], ["0", "1"])
        self.assertEqual(len(frame), 30)
        self.assertEqual(terminal.modes(), 0)
        terminal.press(b"r")
        wait_for(lambda: terminal.frame()[titles + 1].split()[:1] == ["1"], "the other order")
        terminal.resize(12, 60)
        wait_for(lambda: len(terminal.frame()) == 12 and max(map(len, terminal.frame())) <= 60, "the other size")

        # The coordinator is killed: another takes over, and is asked.
        term = run.kill_coordinator()
        run.await_term(term + 1)
        wait_for(lambda: not any("is old" in line for line in terminal.frame()), "its successor")
        terminal.press(b"q")
        self.assertEqual(terminal.finish(), 0)
        self.assertTrue(terminal.output.rstrip().endswith(b"\x1b[?1049l"))
        self.assertEqual(terminal.modes(), termios.ECHO | termios.ICANON)

        for number in (signal.SIGTERM, signal.SIGINT):
            terminal = self.terminal(run.folder)
            terminal.await_text("step ms")
            os.kill(terminal.pid, number)
            self.assertEqual(terminal.finish(), 128 + number)
            self.assertIn(b"\x1b[?1049l", terminal.output)
            self.assertEqual(terminal.modes(), termios.ECHO | termios.ICANON)

        terminal = self.terminal(run.folder, "--interval", "0.2")
        terminal.await_text("step ms")
        self.stop(run)
        self.assertEqual(terminal.finish(), 0)
        self.assertIn(b"the run has ended: stopped", terminal.output)
        self.assert_refused(self.paceline("top", run.folder, "--once"), 2, "the run has ended: stopped")

    def test_timeline_and_report_of_a_run(self):
        run = self.begin("--ranks", "2", *ENDLESS, "--set", "checkpoint.every_steps=10", steps=30)
        page = self.folder / "going.html"
        self.assertEqual(self.paceline("report", run.folder, "--html", page)[0], 0)
        self.assertIn("not finished", page.read_text())
        self.assertEqual(run.ask("resize", 1)[0], 0)
        run.await_ranks(1, after=1)
        run.await_steps(run.steps() + 30)
        self.stop(run)
        code, out, err = self.paceline("report", run.folder, "--html", page)
        self.assertEqual((code, out, err), (0, f"wrote {page}\n", ""))
        text = page.read_text()
        for expected in ("stopped", "Throughput", "Scaling", "resize", "Efficiency E(N)"):
            self.assertIn(expected, text)

        code, out, err = self.paceline("timeline", run.folder)
        self.assertEqual((code, err), (0, ""), err)
        self.assertIn("2 workers on 1 node", out)
        trace = json.loads((run.folder / "timeline.json").read_text())
        slices = [event for event in trace["traceEvents"] if event["ph"] == "X"]
        steps = [event for event in slices if event["name"].startswith("step ")]
        self.assertGreaterEqual(len({event["tid"] for event in steps}), 2)
        # Both ranks of a step end it together.
        ends = {}
        for event in steps:
            ends.setdefault(event["name"], []).append(event["ts"] + event["dur"])
        spans = sorted(max(each) - min(each) for each in ends.values() if len(each) == 2)
        self.assertLess(spans[len(spans) // 2], 20_000)
        self.assertTrue(any("resize" in event["name"] or "rank" in event["name"] for event in slices))
        self.assertIn("Where the time went", text)
        self.assertIn("computing", text)

    def test_refuses_what_is_wrong(self):
        self.assert_refused(self.paceline("timeline", self.folder), 2, "is no run directory")
        self.assert_refused(self.paceline("top", self.folder), 2, "is no run directory")
        self.assert_refused(self.paceline("report", self.folder, "--html", "x.html"), 2, "is no run directory")
        self.assert_refused(self.paceline("top", self.folder, "--interval", "0"), 2, "--interval")
        self.assert_refused(self.paceline("report", self.folder), 2, "--html")
        run = self.start("--ranks", "1", *MODEL, "--set", "epochs=1")
        run.finish()
        nowhere = self.folder / "nowhere" / "x.html"
        self.assert_refused(self.paceline("report", run.folder, "--html", nowhere), 1, "cannot create")
        self.assertFalse(nowhere.parent.exists())
        target = self.folder / "a-folder"
        target.mkdir()
        code, _, err = self.paceline("report", run.folder, "--html", target)
        self.assertEqual((code, len(err.splitlines())), (1, 1), err)
        self.assertEqual([path.name for path in self.folder.iterdir() if "partial" in path.name], [])
        self.assert_refused(self.paceline("timeline", run.folder, "--from", 9, "--to", 8), 2, "--from 9 is after --to 8")


if __name__ == "__main__":
    unittest.main()

"""What workers write of themselves while they train: docs/telemetry.md."""

import json
import pathlib
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import coordinated
from elastic_test import wait_for

PARTS = ("data", "forward", "backward", "reduce", "commit", "optimizer")


def took_s(step):
    return sum(step[part] for part in PARTS) / 1e6


class Telemetry(coordinated.Coordinated):
    def lines(self, run, worker):
        text = (run.folder / f"telemetry/worker-{worker}.jsonl").read_text()
        return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n") and line.strip()]

    def of_type(self, lines, *types):
        return [line for line in lines if line["type"] in types]

    def assert_adds_up(self, steps):
        """One after the other, with next to nothing in between."""
        for step, following in zip(steps, steps[1:]):
            self.assertLessEqual(step["time"] + took_s(step), following["time"] + 1e-4, step)
            for part in PARTS:
                self.assertGreaterEqual(step[part], 0, step)
        wall_s = steps[-1]["time"] + took_s(steps[-1]) - steps[0]["time"]
        self.assertGreater(sum(map(took_s, steps)), 0.75 * wall_s)

    def test_every_step_is_there_and_its_parts_add_up(self):
        run = self.start("--ranks", "2", *coordinated.MODEL, "--set", "epochs=100", "--set", "steps=100")
        summary = run.finish()
        self.assertEqual((run.process.returncode, summary["steps"]), (0, 100), run.err)
        ends = []
        for worker in range(2):
            lines = self.lines(run, worker)
            self.assertEqual((lines[0]["type"], lines[0]["version"], lines[0]["worker"]), ("worker", 1, worker))
            ranks = self.of_type(lines, "rank")
            self.assertEqual([(line["generation"], line["ranks"], line["step"]) for line in ranks], [(1, 2, 0)])
            self.assertEqual(self.of_type(lines, "lost"), [])
            steps = self.of_type(lines, "step")
            self.assertEqual([step["step"] for step in steps], list(range(1, 101)))
            self.assert_adds_up(steps)
            ends.append([step["time"] + took_s(step) - step["optimizer"] / 1e6 for step in steps])
            for part in ("forward", "backward", "optimizer"):
                self.assertGreater(sum(step[part] for step in steps), 0, part)
            phases = [line["phase"] for line in self.of_type(lines, "phase")]
            self.assertIn("loading", phases)
            self.assertIn("evaluate", phases)
            samples = self.of_type(lines, "sample")
            self.assertGreater(len(samples), 3)
            self.assertGreater(samples[-1]["cpu_s"], samples[0]["cpu_s"])
            self.assertGreater(next(line["memory_bytes"] for line in reversed(samples) if "memory_bytes" in line), 50e6)
            read = [line["read_bytes"] for line in samples if "read_bytes" in line]
            self.assertGreater(read[-1], 3000 * 784 / 2, "its part of the samples, whatever they were read by")
        # A commit ends on all ranks at once; so the clocks of two workers of one node agree.
        apart = sorted(abs(a - b) for a, b in zip(*ends))
        self.assertLess(apart[len(apart) // 2], 0.02)

    def test_ranks_of_other_nodes_are_reached_by_wires(self):
        run = self.start("--ranks", "2", *coordinated.MODEL, "--set", "epochs=100", "--set", "steps=300",
                         environment={"PACELINE_NODE": "a,b"})
        run.finish()
        for worker, node in enumerate("ab"):
            lines = self.lines(run, worker)
            self.assertEqual(lines[0]["node"], node)
            sent = [line["wire_bytes"] for line in self.of_type(lines, "sample") if "wire_bytes" in line]
            self.assertGreater(sent[-1], 1e6)
            self.assertEqual(sent, sorted(sent))

    def test_a_rank_that_is_replaced_goes_on_in_a_file_of_its_own(self):
        run = self.begin("--ranks", "2", *coordinated.ENDLESS, steps=30)
        run.kill(1)
        run.await_ranks(2, after=run.generation())
        summary, _ = self.stop_and_prove(run)
        survivor = self.lines(run, 0)
        self.assertEqual([step["step"] for step in self.of_type(survivor, "step")], list(range(1, summary["steps"] + 1)))
        generations = [line["generation"] for line in self.of_type(survivor, "rank")]
        self.assertEqual(generations, sorted(set(generations)))
        self.assertGreater(len(generations), 1)
        joiner = self.lines(run, 2)
        steps = [step["step"] for step in self.of_type(joiner, "step")]
        self.assertEqual(steps, list(range(self.of_type(joiner, "rank")[0]["step"] + 1, summary["steps"] + 1)))

    def test_a_folder_that_cannot_be_written_stops_nobody(self):
        run = self.begin("--ranks", "2", *coordinated.ENDLESS, steps=20)
        folder = run.folder / "telemetry"
        wait_for(lambda: len(list(folder.glob("*.jsonl"))) == 2, "both files")
        folder.rename(run.folder / "elsewhere")
        folder.write_text("a file where the folder was")
        run.kill(1)
        run.await_ranks(2, after=run.generation())
        run.await_steps(run.steps() + 100)
        summary, _ = self.stop_and_prove(run)
        self.assertEqual(summary["status"], "stopped")
        lines = [line for path in (run.folder / "logs").glob("all-*.log") for line in path.read_text().splitlines()]
        said = [line for line in lines if "telemetry is not written, and training goes on: cannot open" in line]
        self.assertEqual(len(said), 1, lines)
        self.assertIn("worker 2]", said[0])


if __name__ == "__main__":
    unittest.main()

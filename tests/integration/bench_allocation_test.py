"""`paceline bench allocation` with real trainings: two runs of each way and two tasks, and no times asserted."""

import json
import signal
import unittest

from bench_fixture import BenchTest, wait_for

SMALL = ("--batch", "64", "--images", "512", "--steps", "40", "--checkpoint-steps", "10")


class BenchAllocation(BenchTest):
    benchmark = "allocation"

    def test_measures_both_tables(self):
        figures = self.folder / "figures.json"
        # With that many failures wanted the runs of seeds 1 and 2 have faults.
        code, out, err = self.finish(self.start(
            *SMALL, "--folder", str(self.folder), "--json", str(figures), "--runs", "2", "--static-failures", "0.9",
            "--tasks", "2", "--seconds", "1"))
        self.assertEqual((code, err), (0, ""), out)
        measured = json.loads(figures.read_text())
        jobs, tasks = measured["jobs"], measured["tasks"]
        self.assertGreater(jobs["reference"]["seconds"], 0)
        self.assertAlmostEqual(jobs["reference"]["deadline_s"], 1.5 * jobs["reference"]["seconds"])
        self.assertEqual([way["way"] for way in jobs["ways"]], ["static", "policy", "policy and balancing"])
        for way in jobs["ways"]:
            runs = jobs["runs"][way["way"]]
            self.assertEqual((way["runs"], len(runs)), (2, 2))
            self.assertEqual(way["failures"], sum(not run["completed"] or
                                                  run["seconds"] > jobs["reference"]["deadline_s"] for run in runs))
            self.assertGreater(way["faults"], 0, way)
            for run in runs:
                self.assertTrue(run["completed"], run["why"])
                # All steps of 64 samples, each counted once, and memory over time.
                self.assertEqual(run["totals"]["useful_samples"], 40 * 64, run)
                self.assertGreater(run["totals"]["samples_per_byte_s"], 0, run)
        fixed, policy, _ = jobs["ways"]
        self.assertEqual(fixed["launches"], 2 + fixed["faults"], "each fault is a launch more")
        for run in jobs["runs"]["static"]:
            self.assertAlmostEqual(run["cost"], 0.05 / 3600 * 2 * run["seconds"])
        self.assertGreater(policy["repairs"] + policy["launches"], 2)
        self.assertEqual(fixed["time_ratio"], 1)
        (row,) = tasks["rows"]
        self.assertEqual((row["tasks"], row["skipped"], row["published_tasks_per_second"]), (2, None, None))
        self.assertGreater(row["grains_per_second"], 0)
        self.assertGreater(row["resource_efficiency"]["samples_per_byte_s"], 0)
        self.assertGreater(tasks["worker_resident_bytes"], 20 << 20)
        for line in ("jobs: faults and a slow rank", "tasks: one grain each"):
            self.assertIn(line, out)

    def test_ctrl_c_ends_the_job_too(self):
        process = self.start(*SMALL, "--folder", str(self.folder), "--only", "jobs")
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
        self.assert_refused(refused("--runs", "none"), 2, "--runs")
        self.assert_refused(refused("--tasks", "10,many"), 2, "many")
        self.assert_refused(refused("--slow", "rank=7,factor=2"), 2, "rank 7")
        self.assert_refused(refused("--folder", str(self.folder / "missing")), 2, "missing")
        self.assert_refused(refused("--json", str(self.folder / "missing" / "x.json")), 2, "missing")


if __name__ == "__main__":
    unittest.main(verbosity=2)

"""`paceline bench elastic` with real training: small, few losses, and no times asserted."""

import json
import signal
import unittest

from bench_fixture import BenchTest, wait_for

SMALL = ("--model", "cnn", "--ranks", "2", "--batch", "32", "--images", "512")


class BenchElastic(BenchTest):
    benchmark = "elastic"

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

"""`paceline bench scaling` with real training: a tiny job, few steps, and no times asserted.

Its page is opened in a browser where there is one."""

import json
import re
import shutil
import signal
import subprocess
import unittest

from bench_fixture import LIMIT_S, BenchTest, wait_for

JOB = """
name: tiny
data: {{train: {folder}/data/train, import: {kind}}}
task: image-classification
model: {{kind: mlp, hidden: 16}}
batch: {{global: 64}}
epochs: 1
ranks: {{min: 1, max: 4}}
"""


class BenchScaling(BenchTest):
    benchmark = "scaling"
    leaving_s = 60

    def setUp(self):
        super().setUp()
        self.job = self.write_job("fashion-mnist")

    def write_job(self, kind):
        path = self.folder / f"{kind}.yaml"
        path.write_text(JOB.format(folder=self.folder, kind=kind))
        return str(path)

    def start(self, *arguments):
        return super().start("--folder", str(self.folder), *arguments)

    def run_bench(self, *arguments):
        return self.finish(self.start(*arguments))

    def check_row(self, row, ranks, batch):
        self.assertEqual((row["ranks"], row["samples_per_step"]), (ranks, batch))
        for key in ("step_ms", "samples_per_second", "efficiency", "ceiling_step_ms", "fraction_of_ceiling"):
            self.assertGreater(row[key], 0, key)
            self.assertLessEqual(row[f"{key}_low"], row[key])
            self.assertGreaterEqual(row[f"{key}_high"], row[key])
        self.assertAlmostEqual(row["samples_per_second"], batch / row["step_ms"] * 1e3, delta=1e-6)
        self.assertEqual(len(row["step_ms_by_round"]), 1)

    def test_measures_a_job_and_makes_a_page(self):
        figures, page = self.folder / "figures.json", self.folder / "page.html"
        code, out, err = self.run_bench(self.job, "--ranks", "2,1", "--weak", "--rounds", "1", "--steps", "12",
                                        "--simulate", "4", "--json", str(figures), "--html", str(page))
        self.assertEqual((code, err), (0, ""), out)
        result = json.loads(figures.read_text())
        measured = [row for row in result["rows"] if not row["simulated"]]
        self.assertEqual([row["mode"] for row in measured], ["strong"] * 2 + ["weak"] * 2)
        for row, (ranks, batch) in zip(measured, [(1, 64), (2, 64), (1, 64), (2, 128)]):
            self.check_row(row, ranks, batch)
        self.assertEqual(measured[0]["fraction_of_ceiling"], 1)
        self.assertEqual(measured[0]["step_ms"], measured[2]["step_ms"], "the same training")
        simulated = [row for row in result["rows"] if row["simulated"]]
        self.assertEqual([(row["mode"], row["ranks"]) for row in simulated], [("strong", 4), ("weak", 4)])
        self.assertIn("simulated", out)
        self.assertTrue(page.read_text().startswith("<!DOCTYPE html>"))
        self.look_at(page, charts=6)
        # What it has written is what --compare reads.
        again = self.run_bench(self.job, "--ranks", "1", "--rounds", "1", "--steps", "5", "--compare", str(figures))
        self.assertEqual(again[0], 0, again)
        self.assertIn("strong, 1 rank: ", again[1])

    def look_at(self, page, charts):
        browser = shutil.which("chromium")
        if browser is None:
            print("no chromium is installed: the page was not opened", flush=True)
            return
        shown = subprocess.run([browser, "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom",
                                f"--user-data-dir={self.folder}/browser", page.as_uri()],
                               capture_output=True, text=True, timeout=LIMIT_S, check=True)
        self.assertIn(f'data-charts="{charts}"', shown.stdout[:2000], "a chart was not drawn")

    def test_a_training_that_fails_is_told_of(self):
        (self.folder / "data").mkdir()
        (self.folder / "data" / "train").write_text("no dataset")
        result = self.run_bench(self.job, "--ranks", "1,2", "--rounds", "1", "--steps", "5")
        self.assert_refused((result[0], result[1], result[2]), result[0], "a training of 2 ranks", "data/train")
        self.assertIn(result[0], (1, 2))

    def test_a_step_of_more_samples_than_there_are(self):
        result = self.run_bench(self.job, "--ranks", "1,2", "--weak", "--set", "batch.global=60000",
                                "--rounds", "1", "--steps", "5")
        self.assert_refused(result, 2, "120000 samples", "60000 samples")

    def test_ctrl_c_ends_the_trainings_too(self):
        process = self.start(self.job, "--ranks", "1,2", "--rounds", "1000", "--steps", "1000")
        wait_for(lambda: list(self.folder.glob("paceline-bench-*/run-2/metrics.jsonl")) or process.poll() is not None, "a training")
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=LIMIT_S)
        self.assertEqual(process.returncode, 130, err)
        self.assertEqual(err.count("\n"), 1, err)

    def test_refuses_before_it_measures(self):
        missing = str(self.folder / "missing" / "x")
        for arguments, part in ((("nowhere.yaml",), "nowhere.yaml"),
                                ((), "which job"),
                                ((self.job, "--ranks", "1,8"), "1 to 4 ranks"),
                                ((self.job, "--ranks", "1,1"), "twice"),
                                ((self.job, "--ranks", "0"), "0"),
                                ((self.job, "--ranks", "some"), "some"),
                                ((self.job, "--ranks", "1,2", "--simulate", "2"), "--simulate 2"),
                                ((self.job, "--set", "modle=mlp"), "model"),
                                ((self.job, "--ranks", "1", "--json", missing), "--json"),
                                ((self.job, "--ranks", "1", "--html", missing), "--html"),
                                ((self.job, "--ranks", "1", "--compare", missing), "missing"),
                                ((self.job, "--ranks", "1", "--compare", self.job), "--compare")):
            with self.subTest(arguments=arguments):
                result = self.run_bench(*arguments)
                self.assert_refused(result, 2, part)
                self.assertEqual(re.findall("round", result[1]), [])


if __name__ == "__main__":
    unittest.main(verbosity=2)

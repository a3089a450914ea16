"""bench/unequal_nodes.py with few steps, and with what it must refuse. No times are asserted."""

import json
import os
import pathlib
import subprocess
import sys
import tempfile
import unittest

BENCH = pathlib.Path(__file__).resolve().parent
PACELINE = pathlib.Path(os.environ["PACELINE_BUILD_DIR"]) / "bin" / "paceline"
IMAGES = pathlib.Path("/usr/share/datasets/fashion-mnist")


def run(*arguments):
    return subprocess.run([sys.executable, "-B", str(BENCH / "unequal_nodes.py"), "--paceline", str(PACELINE), *arguments], text=True,
                          capture_output=True, timeout=300)


class UnequalNodes(unittest.TestCase):
    @unittest.skipIf(len(os.sched_getaffinity(0)) < 2, "it takes two cores")
    @unittest.skipUnless(IMAGES.is_dir(), f"{IMAGES} is not there: install dataset-fashion-mnist")
    def test_it_measures_all_three_ways(self):
        with tempfile.TemporaryDirectory(prefix="paceline-unequal-test-") as folder:
            out = pathlib.Path(folder) / "out.json"
            done = run("--rounds", "1", "--steps", "5", "--json", str(out))
            self.assertEqual((done.returncode, done.stderr), (0, ""))
            found, = json.loads(out.read_text())["rounds"]
            self.assertEqual(found["alone_shares"], [24, 24])
            self.assertEqual(found["equal_shares"], [16, 16, 16])
            self.assertEqual(sum(found["balanced_shares"]), 48)
            for way in ("equal", "balanced"):
                self.assertAlmostEqual(found[f"{way}_fraction"], found["alone_ms"] / found[f"{way}_ms"])
            self.assertIn("of the cores together", done.stdout)

    def test_wrong_arguments_get_one_sentence(self):
        for arguments, sentence in ((("--rounds", "0"), "0 is not a whole number of at least 1"),
                                    (("--source", "/nonexistent"), "is not a folder"),
                                    (("--json", "/nonexistent/out.json"), "can't be written"),
                                    (("--paceline", "/nonexistent"), "is not a program")):
            with self.subTest(arguments):
                done = run(*arguments)
                self.assertEqual((done.returncode, done.stdout), (2, ""))
                self.assertIn(sentence, done.stderr)
                self.assertEqual(done.stderr.count("\n"), 1)


if __name__ == "__main__":
    unittest.main()

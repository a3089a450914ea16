"""Every name in the Python programs is defined and every import used: what a test that is not run until CI would tell too late."""

import pathlib
import shutil
import subprocess
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
FOLDERS = ("bench", "examples", "tests")


class PythonNames(unittest.TestCase):
    def test_nothing_is_undefined_or_unused(self):
        if not shutil.which("pyflakes3"):
            self.skipTest("there is no pyflakes3 here (apt-get install pyflakes3)")
        programs = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")]
        self.assertGreater(len(programs), 20)
        done = subprocess.run(["pyflakes3", *map(str, programs)], text=True, capture_output=True, timeout=100, check=False)
        self.assertEqual((done.returncode, done.stdout), (0, ""))


if __name__ == "__main__":
    unittest.main()

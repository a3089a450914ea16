#!/usr/bin/python3
"""`paceline data`, and imports by a job, as a person meets them.

ctest sets PACELINE_PROGRAM and FAKE_WORKER_PROGRAM, or PACELINE_BUILD_DIR, under which they are found.
"""
import os
import pty
import shutil
import signal
import struct
import subprocess
import tempfile
import unittest
import zlib

from refusals import Refusals

BUILD = os.environ.get("PACELINE_BUILD_DIR", ".")
PROGRAM = os.environ.get("PACELINE_PROGRAM", os.path.join(BUILD, "bin", "paceline"))
FAKE_WORKER = os.environ.get("FAKE_WORKER_PROGRAM", os.path.join(BUILD, "tests", "integration", "fake_worker"))
# No test waits longer for anything; each thing takes far less.
LIMIT_S = 60


def png(rows, columns, value):
    """A grey PNG of one value."""
    def chunk(kind, content):
        body = kind + content
        return struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))
    lines = (b"\0" + bytes([value]) * columns) * rows
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", columns, rows, 8, 0, 0, 0, 0))
            + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b""))


class DataCommandsTest(Refusals, unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="paceline-data-commands-")
        for label, name in enumerate(("big cats", "dogs")):
            os.makedirs(self.path(f"pets/{name}"))
            for i in range(30):
                self.write(f"pets/{name}/{i}.png", png(28, 28, 100 * label + i))
        os.makedirs(self.path("books"))
        for i in range(30):
            self.write(f"books/{i}.txt", b"Once there was a shepherd, \x1b[31m in red, with a flock.\n" * 400)

    def tearDown(self):
        shutil.rmtree(self.folder)

    def path(self, name):
        return os.path.join(self.folder, name)

    def write(self, name, content):
        with open(self.path(name), "wb") as out:
            out.write(content)

    def environment(self):
        kept = {name: value for name, value in os.environ.items()
                if not name.startswith(("PACELINE_", "OMPI_", "PMIX_", "SLURM"))}
        kept["PACELINE_WORKER"] = FAKE_WORKER
        return kept

    def run_program(self, *arguments):
        done = subprocess.run([PROGRAM, *arguments], cwd=self.folder, env=self.environment(), stdin=subprocess.DEVNULL,
                              capture_output=True, text=True, timeout=LIMIT_S)
        return done.returncode, done.stdout, done.stderr

    def data(self, *arguments):
        code, out, err = self.run_program("data", *arguments)
        self.assertEqual((code, err), (0, ""))
        return out

    def test_images_import_info_verify_preview(self):
        out = self.data("import", "image-folder", "pets", "--out", "set", "--size", "14x28", "--storage", "zstd",
                        "--test-fraction", "0.2", "--threads", "2")
        self.assertEqual(out, self.data("info", "set"))
        for part in ("pets/train", "classes  big cats, dogs", "of 14x28x1 (hwc) bytes", "storage  zstd", "% of the decoded"):
            self.assertIn(part, out)
        self.assertIn("every chunk is as it was written", self.data("verify", "set"))
        shown = self.data("preview", "set/train", "--count", "4", "--out", "a picture.png")
        self.assertIn('the images are in "a picture.png"\n', shown)
        self.assertRegex(shown, r"^(big cats|dogs) +(big cats|dogs)\n")
        with open(self.path("a picture.png"), "rb") as file:
            self.assertEqual(file.read(8), b"\x89PNG\r\n\x1a\n")

    def test_text_is_shown_without_its_control_codes(self):
        out = self.data("import", "text", "books", "--out", "set")
        for part in ("language-modelling", "vocabulary 256", "made by  bytes", "of up to 262,144 tokens"):
            self.assertIn(part, out)
        shown = self.data("preview", "set/train", "--count", "2")
        self.assertIn("--- 1 of 2\n", shown)
        self.assertIn("shepherd, \\x1b[31m in red", shown)
        self.assertNotIn("\x1b", shown)
        self.assert_refused(self.run_program("data", "preview", "set/train", "--out", "x.png"), 2, "leave --out out")

    def test_tokens_of_a_vocabulary_of_its_own(self):
        out = self.data("import", "text", "books", "--out", "set", "--tokenizer", "train:320")
        self.assertIn("SentencePiece, set/train/../tokenizer.model", out)
        self.assertIn("Once there was a shepherd", self.data("preview", "set/train"))

    def test_bad_files_are_named_and_counted(self):
        self.write('pets/dogs/a "b"\n.png', b"no image")
        code, _, err = self.run_program("data", "import", "image-folder", "pets", "--out", "set")
        self.assertEqual(code, 0)
        self.assertIn('paceline: left out: "pets/dogs/a \\"b\\"\\n.png": it is neither a JPEG nor a PNG\n', err)
        self.assertIn("paceline: left out 1 of 61 files", err)
        self.assert_refused(self.run_program("data", "import", "image-folder", "pets", "--out", "s2", "--strict"), 1,
                            "neither a JPEG nor a PNG")
        self.assertFalse(os.path.exists(self.path("s2")))

    def test_usage_that_is_wrong(self):
        refused = lambda *parts: lambda *arguments: self.assert_refused(
            self.run_program("data", "import", *arguments, "--out", "set"), 2, *parts)
        refused("--size is for image-folder, and not for text")("text", "books", "--size", "8x8")
        refused("--size 8: write ROWSxCOLUMNS")("image-folder", "pets", "--size", "8")
        refused("did you mean image-folder?")("image-foldr", "pets")
        refused("there is no storage gzip")("image-folder", "pets", "--storage", "gzip")
        self.write("pets/dogs/other.png", png(3, 4, 0))
        refused("not all of one size", "pets/dogs/other.png", "--size ROWSxCOLUMNS")("image-folder", "pets")

    def on_a_terminal(self, *arguments, interrupt=False):
        """Exit status and what a terminal showed."""
        pid, terminal = pty.fork()
        if pid == 0:
            os.chdir(self.folder)
            os.execve(PROGRAM, [PROGRAM, *arguments], self.environment())
        shown = b""
        while True:
            try:
                got = os.read(terminal, 4096)
            except OSError:  # nobody holds the other end any more
                break
            if not got:
                break
            if interrupt and not shown:
                os.write(terminal, b"\x03")
            shown += got
        os.close(terminal)
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), shown.decode()

    def test_a_bar_on_a_terminal(self):
        code, shown = self.on_a_terminal("data", "import", "image-folder", "pets", "--out", "set")
        self.assertEqual(code, 0, shown)
        self.assertRegex(shown, r"\r\x1b\[Ktrain: [0-9]+ of [0-9]+ images \[[#.]+\]")

    def test_an_interrupt_leaves_nothing(self):
        code, shown = self.on_a_terminal("data", "import", "text", "books", "--out", "set", "--tokenizer", "train:1000",
                                         interrupt=True)
        self.assertEqual(code, 128 + signal.SIGINT, shown)
        self.assertIn("the import into set was cancelled", shown)
        self.assertEqual(sorted(os.listdir(self.folder)), ["books", "pets"])

    def test_a_job_imports_a_folder_of_images_on_first_use(self):
        self.write("job.yaml", b"""
name: tiny
data: {train: ds/train, eval: ds/test, import: image-folder, source: pets, size: 28x28, storage: raw}
model: cnn
batch: {global: 8}
epochs: 1
ranks: 1
""")
        code, out, err = self.run_program("train", "job.yaml")
        self.assertEqual((code, err), (0, ""))
        self.assertIn("importing image-folder into", out)
        self.assertIn("of 28x28x1", self.data("info", "ds/train"))
        self.assert_refused(self.run_program("train", "job.yaml", "--set", "data.train=d2/train", "--set",
                                             "data.eval=d2/test", "--set", "data.tokenizer=train:400"), 2,
                            "--tokenizer is for text, and not for image-folder")


if __name__ == "__main__":
    unittest.main()

"""The installed package, as others use it: a program with the allreduce library, a model plugin, training."""

import json
import os
import pathlib
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import unittest

BUILD = pathlib.Path(os.environ["PACELINE_BUILD_DIR"])
SOURCE = pathlib.Path(os.environ["PACELINE_SOURCE_DIR"])
CUDA_INCLUDE = os.environ.get("PACELINE_CUDA_INCLUDE")  # where it was built with CUDA
sys.path.insert(0, str(SOURCE / "tests" / "integration"))


def run(*command, **options):
    return subprocess.run([str(part) for part in command], text=True, capture_output=True, timeout=300, **options)


class Installed(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = pathlib.Path(tempfile.mkdtemp(prefix="paceline-install-"))
        done = run("cmake", "--install", BUILD, "--prefix", cls.folder / "prefix")
        assert done.returncode == 0, done.stderr

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.folder)

    def build(self, source, name):
        binary = self.folder / name
        configured = run("cmake", "-S", source, "-B", binary, f"-DCMAKE_PREFIX_PATH={self.folder / 'prefix'}",
                         "-DCMAKE_BUILD_TYPE=Release")
        self.assertEqual(configured.returncode, 0, configured.stderr)
        built = run("cmake", "--build", binary)
        self.assertEqual(built.returncode, 0, built.stdout + built.stderr)
        return binary

    def test_public_headers_compile_on_their_own(self):
        include = self.folder / "prefix/include"
        headers = sorted(include.rglob("*.hpp"))
        self.assertGreater(len(headers), 10)
        for header in headers:
            if "train" in header.parts or header.name == "torch.hpp":
                continue  # compiled by the plugin below and by embed_test.py; each costs half a minute of LibTorch
            cuda = ("-isystem", CUDA_INCLUDE) if header.name == "cuda_kernels.hpp" else ()
            done = run("c++", "-std=c++20", "-fsyntax-only", "-Wall", "-Wextra", "-Werror", "-I", include, *cuda,
                       "-include", header, "-x", "c++", "/dev/null")
            self.assertEqual(done.returncode, 0, done.stderr)

    @unittest.skipIf(CUDA_INCLUDE is None, "it was built without CUDA")
    def test_programs_with_buffers_on_gpus(self):
        binary = self.build(SOURCE / "tests/install/cuda", "cuda")
        done = run(binary / "cuda_consumer")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertRegex(done.stdout, "^(no GPUs: .+|[0-9]+ GPUs, and 265 bytes .*)$")
        done = run(binary / "cuda_consumer_c")
        self.assertEqual((done.returncode, done.stdout), (0, "33554432 bytes for CUDA IPC\n"), done.stderr)

    def test_a_program_with_the_allreduce_library(self):
        program = self.build(SOURCE / "tests/install/consumer", "consumer") / "consumer"
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        ranks = [
            subprocess.Popen([program], text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                             env={**os.environ, "RANK": str(rank), "WORLD_SIZE": "3", "MASTER_ADDR": "127.0.0.1",
                                  "PACELINE_PORT": str(port)})
            for rank in range(3)
        ]
        for rank, process in enumerate(ranks):
            out, errors = process.communicate(timeout=60)
            self.assertEqual((process.returncode, out), (0, f"rank {rank} of 3: 6\n"), errors)
        alone = run(program, env={"PATH": os.environ["PATH"]})
        self.assertEqual(alone.returncode, 1)
        self.assertIn("set RANK, WORLD_SIZE", alone.stderr)

    def test_text_with_a_tokenizer_of_its_own(self):
        programs = self.folder / "prefix/bin"
        alone = run(programs / "paceline-tokenizer")
        self.assertEqual((alone.returncode, alone.stderr),
                         (2, "paceline-tokenizer is started by paceline data import and preview\n"))
        texts = self.folder / "texts"
        texts.mkdir()
        for number in range(30):
            lines = [f"Document {number}, line {line}, of sheep and shepherds.\n" for line in range(50)]
            (texts / f"{number}.txt").write_text("".join(lines))
        done = run(programs / "paceline", "data", "import", "text", "texts", "--tokenizer", "train:400", "--out",
                   "tokens", cwd=self.folder)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("SentencePiece, tokens/train/../tokenizer.model", done.stdout)
        shown = run(programs / "paceline", "data", "preview", "tokens/train", cwd=self.folder)
        self.assertEqual(shown.returncode, 0, shown.stderr)
        self.assertIn("of sheep and shepherds.", shown.stdout)

    def test_a_model_of_ones_own(self):
        from training_test import write_idx

        plugin = self.build(SOURCE / "examples/my-model", "my-model") / "libmy-model.so"
        (self.folder / "idx").mkdir()
        write_idx(self.folder / "idx")
        job = (SOURCE / "examples/my-model/job.yaml").read_text()
        job = re.sub(r"plugin: [^,]*", f"plugin: {plugin}", job)
        job = job.replace("datasets/fashion-mnist", "data")
        (self.folder / "job.yaml").write_text(job)
        paceline = self.folder / "prefix/bin/paceline"
        done = run(paceline, "data", "import", "fashion-mnist", "idx", "--out", "data", cwd=self.folder)
        self.assertEqual(done.returncode, 0, done.stderr)
        results = []
        for _ in range(2):
            done = run(paceline, "train", "job.yaml", "--ranks", "2", "--json", "out.json", "--run-dir",
                       f"run{len(results)}", cwd=self.folder)
            self.assertEqual(done.returncode, 0, done.stderr)
            results.append(json.loads((self.folder / "out.json").read_text()))
        self.assertGreater(results[0]["eval"]["accuracy"], 0.15)  # of ten classes, after 48 steps
        # Dropout and batch norm included.
        self.assertEqual(results[0]["weights_sha256"], results[1]["weights_sha256"])


if __name__ == "__main__":
    unittest.main()

"""examples/embed, built against the installed tree in a place to which it was moved, and run."""

import os
import pathlib
import re
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
import unittest

BUILD = pathlib.Path(os.environ["PACELINE_BUILD_DIR"])
SOURCE = pathlib.Path(os.environ["PACELINE_SOURCE_DIR"])
EXAMPLES = SOURCE / "examples/embed"
MPI_ENVIRONMENT = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}


def run(*command, **options):
    return subprocess.run([str(part) for part in command], text=True, capture_output=True, timeout=300, **options)


def cached(name):
    """What this build found out about its surroundings."""
    found = re.search(rf"^{name}(?::\w+)?=(.*)$", (BUILD / "CMakeCache.txt").read_text(), re.MULTILINE)
    return found.group(1) if found else ""


def run_ranks(command, size, **more):
    """The output of each rank, which all ended well."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    ranks = [
        subprocess.Popen([str(part) for part in command], text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                         env={**os.environ, "RANK": str(rank), "WORLD_SIZE": str(size), "MASTER_ADDR": "127.0.0.1",
                              "PACELINE_PORT": str(port), "OMP_NUM_THREADS": "1", **more}) for rank in range(size)
    ]
    outputs = []
    try:
        for process in ranks:
            out, errors = process.communicate(timeout=120)
            outputs.append((process.returncode, out, errors))
    finally:
        for process in ranks:
            process.kill()
    for code, out, errors in outputs:
        assert code == 0, (code, out, errors)
    return [out for _, out, _ in outputs]


class Embed(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = pathlib.Path(tempfile.mkdtemp(prefix="paceline-embed-"))
        done = run("cmake", "--install", BUILD, "--prefix", cls.folder / "first")
        assert done.returncode == 0, done.stderr
        cls.prefix = cls.folder / "a place with spaces"
        (cls.folder / "first").rename(cls.prefix)
        cls.library = next(cls.prefix.rglob("libpaceline_allreduce.so.1"))

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.folder)

    def build(self, source, name, *more):
        binary = self.folder / name
        configured = run("cmake", "-S", source, "-B", binary, f"-DCMAKE_PREFIX_PATH={self.prefix}",
                         "-DCMAKE_BUILD_TYPE=Release", *more)
        self.assertEqual(configured.returncode, 0, configured.stderr)
        built = run("cmake", "--build", binary)
        self.assertEqual(built.returncode, 0, built.stdout + built.stderr)
        return binary

    def pkg_config(self, package, *arguments):
        folder = next(self.prefix.rglob(f"{package}.pc")).parent
        done = run("pkg-config", *arguments, package, env={**os.environ, "PKG_CONFIG_PATH": str(folder)})
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout.strip()

    def flags(self, package):
        return shlex.split(self.pkg_config(package, "--cflags", "--libs"))

    def test_nothing_installed_remembers_where_it_was_built(self):
        for path in self.prefix.rglob("*"):
            if path.suffix in (".cmake", ".pc", ".h", ".hpp"):
                for place in (BUILD, SOURCE, self.folder / "first"):
                    self.assertNotIn(f"{place}/", path.read_text(), path)

    def test_c_by_cmake(self):
        program = self.build(EXAMPLES / "c", "c") / "sum"
        self.assertEqual(run_ranks([program], 3), [f"rank {r} of 3: every element is 6\n" for r in range(3)])
        alone = run(program, env={"PATH": os.environ["PATH"]})
        self.assertEqual(alone.returncode, 1)
        self.assertIn("beginning: nothing in the environment says which rank this is", alone.stderr)

    def test_c_by_pkg_config(self):
        if shutil.which("pkg-config") is None:
            self.skipTest("there is no pkg-config here")
        program = self.folder / "sum-by-pkg-config"
        done = run("cc", "-std=c99", "-Wall", "-Wextra", "-Wpedantic", "-Werror", EXAMPLES / "c/sum.c", "-o", program,
                   *self.flags("paceline-allreduce"), f"-Wl,-rpath,{self.library.parent}")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(run_ranks([program], 2), [f"rank {r} of 2: every element is 3\n" for r in range(2)])

    def test_python_without_numpy(self):
        hidden = self.folder / "no-numpy"
        hidden.mkdir()
        (hidden / "numpy.py").write_text("raise ImportError('hidden by the test')\n")
        script = EXAMPLES / "python/sum_numpy.py"
        outputs = run_ranks([sys.executable, "-B", script], 2, PACELINE_LIBRARY=str(self.library),
                            PYTHONPATH=str(hidden))
        self.assertEqual(outputs, [f"rank {r} of 2: right, with array\n" for r in range(2)])

    def test_python_with_numpy(self):
        interpreters = [path for path in (sys.executable, "/usr/bin/python3")
                        if os.access(path, os.X_OK) and run(path, "-c", "import numpy").returncode == 0]
        if not interpreters:
            self.skipTest("no Python here has numpy: install python3-numpy")
        script = EXAMPLES / "python/sum_numpy.py"
        outputs = run_ranks([interpreters[0], "-B", script], 3, PACELINE_LIBRARY=str(self.library))
        self.assertEqual(outputs, [f"rank {r} of 3: right, with numpy\n" for r in range(3)])

    def test_python_says_what_is_wrong(self):
        script = EXAMPLES / "python/sum_numpy.py"
        done = run(sys.executable, "-B", script, env={"PATH": os.environ["PATH"], "PACELINE_LIBRARY": str(self.library)})
        self.assertEqual(done.returncode, 1)
        self.assertIn("nothing in the environment says which rank this is", done.stderr)

    def mpirun(self):
        if not list(self.prefix.rglob("PacelineMpiTargets.cmake")):
            self.skipTest("this build has no MPI")
        program = cached("MPIEXEC_EXECUTABLE") or shutil.which("mpirun")
        if not program or not os.access(program, os.X_OK):
            self.skipTest("there is no mpirun here")
        share = ["--oversubscribe"] if "Open" in run(program, "--version").stdout else []
        return [program, *share]

    def expect_average(self, program, size, **more):
        done = run(*self.mpirun(), "-np", size, program, env={**os.environ, **MPI_ENVIRONMENT, **more})
        self.assertEqual((done.returncode, done.stdout), (0, f"after 50 steps on {size} ranks: {size - 1}.000\n"),
                         done.stderr)

    def test_mpi_by_cmake(self):
        self.mpirun()
        program = self.build(EXAMPLES / "mpi", "mpi") / "average"
        self.expect_average(program, 2)
        self.expect_average(program, 3, PACELINE_TRANSPORT="tcp")

    def test_mpi_by_pkg_config(self):
        self.mpirun()
        if shutil.which("pkg-config") is None or shutil.which("mpicc") is None:
            self.skipTest("there is no pkg-config or no mpicc here")
        program = self.folder / "average-by-pkg-config"
        done = run("mpicc", EXAMPLES / "mpi/average.c", "-o", program, *self.flags("paceline-mpi"),
                   f"-Wl,-rpath,{self.library.parent}", "-lm")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.expect_average(program, 2)

    def test_mpi_by_cmake_in_cpp(self):
        self.mpirun()
        source = self.folder / "mpi-cpp-source"
        source.mkdir()
        (source / "CMakeLists.txt").write_text(
            "cmake_minimum_required(VERSION 3.25)\nproject(x LANGUAGES C CXX)\n"
            "find_package(Paceline REQUIRED COMPONENTS allreduce mpi)\n"
            "add_executable(x x.cpp)\ntarget_link_libraries(x PRIVATE paceline::mpi)\n")
        (source / "x.cpp").write_text(
            "#include <paceline/mpi.h>\n#include <cstdio>\nint main(int argc, char** argv) {\n"
            "  MPI_Init(&argc, &argv);\n  int sum = 1;\n  {\n"
            "    auto communicator = paceline::communicator_from_mpi(MPI_COMM_WORLD);\n"
            "    if (!communicator.ok()) return 1;\n"
            "    if (!communicator->all_reduce(&sum, 1, paceline::DataType::i32).ok()) return 1;\n  }\n"
            "  MPI_Finalize();\n  return sum == 2 ? 0 : 1;\n}\n")
        program = self.build(source, "mpi-cpp") / "x"
        done = run(*self.mpirun(), "-np", 2, program, env={**os.environ, **MPI_ENVIRONMENT})
        self.assertEqual(done.returncode, 0, done.stderr)

    def test_libtorch(self):
        torch = cached("Torch_DIR")
        known = [f"-DTorch_DIR={torch}"] if torch and not torch.endswith("NOTFOUND") else []
        if not known and run("cmake", "-S", EXAMPLES / "libtorch", "-B", self.folder / "probe",
                             f"-DCMAKE_PREFIX_PATH={self.prefix}").stderr.find('provided by "Torch"') >= 0:
            self.skipTest("there is no LibTorch here: install libtorch-dev")
        program = self.build(EXAMPLES / "libtorch", "libtorch", *known) / "loop"
        outputs = run_ranks([program], 2)
        pattern = re.compile(r"rank \d of 2: (loss \S+, weights \S+)\n")
        self.assertEqual(pattern.fullmatch(outputs[0]).group(1), pattern.fullmatch(outputs[1]).group(1))

    def test_components_that_are_not_there_are_named(self):
        source = self.folder / "absent"
        source.mkdir()
        (source / "CMakeLists.txt").write_text("cmake_minimum_required(VERSION 3.25)\nproject(x LANGUAGES CXX)\n"
                                               "find_package(Paceline REQUIRED COMPONENTS mpi)\n")
        done = run("cmake", "-S", source, "-B", self.folder / "absent-build", f"-DCMAKE_PREFIX_PATH={self.prefix}")
        self.assertNotEqual(done.returncode, 0)
        said = " ".join(done.stderr.split())
        self.assertTrue("built without MPI" in said or "add C to the project's LANGUAGES" in said, done.stderr)


if __name__ == "__main__":
    unittest.main()

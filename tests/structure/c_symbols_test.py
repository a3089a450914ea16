"""The shared library shows the functions that paceline/allreduce.h declares, and nothing else."""

import os
import pathlib
import re
import subprocess
import unittest

SOURCE = pathlib.Path(os.environ["PACELINE_SOURCE_DIR"])
HEADER = SOURCE / "allreduce/include/paceline/allreduce.h"
MPI_HEADER = SOURCE / "allreduce/include/paceline/mpi.h"
CUDA_HEADER = SOURCE / "allreduce/include/paceline/cuda.h"
DECLARATION = re.compile(r"PACELINE_API\b[^;(]*?\b(paceline_\w+)\s*\(")


def declared(*headers):
    return sorted(name for header in headers for name in DECLARATION.findall(header.read_text()))


def exported(library):
    lines = subprocess.run(["nm", "-D", "--defined-only", library], check=True, capture_output=True, text=True).stdout
    symbols = [line.split()[-2:] for line in lines.splitlines()]
    # "A" are the names of versions.
    return sorted(name.split("@")[0] for kind, name in symbols if kind != "A")


class Symbols(unittest.TestCase):
    def test_of_the_c_library(self):
        names = declared(HEADER)
        self.assertGreater(len(names), 30)
        self.assertEqual(exported(os.environ["PACELINE_C_LIBRARY"]), names)

    def test_of_the_c_library_with_mpi(self):
        if "PACELINE_MPI_LIBRARY" not in os.environ:
            self.skipTest("this build has no MPI")
        self.assertEqual(exported(os.environ["PACELINE_MPI_LIBRARY"]), sorted(declared(HEADER, MPI_HEADER)))

    def test_of_the_c_library_with_cuda(self):
        if "PACELINE_CUDA_LIBRARY" not in os.environ:
            self.skipTest("this build has no CUDA")
        self.assertEqual(exported(os.environ["PACELINE_CUDA_LIBRARY"]), sorted(declared(HEADER, CUDA_HEADER)))

    def test_every_symbol_has_a_version(self):
        lines = subprocess.run(["nm", "-D", "--defined-only", os.environ["PACELINE_C_LIBRARY"]], check=True,
                               capture_output=True, text=True).stdout
        for name in declared(HEADER):
            self.assertIn(f" {name}@@PACELINE_ALLREDUCE_1.0\n", lines)


if __name__ == "__main__":
    unittest.main()

"""A component includes only what it may see: the table of docs/architecture.md, checked.

It also keeps heavy libraries where they belong: the launcher must not need LibTorch, the worker neither gRPC
nor Protobuf, base and allreduce nothing at all, and nobody's public headers HDF5 or YAML.
"""

import pathlib
import re
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]

# component: (components it may see, libraries whose headers it may include)
MAY_SEE = {
    "base": (set(), set()),
    "allreduce": ({"base"}, set()),
    "job": ({"base"}, {"yaml-cpp", "nlohmann", "xxhash"}),
    "data": ({"base"}, {"hdf5", "nlohmann", "zlib", "xxhash", "lz4", "zstd", "uring", "turbojpeg", "spng"}),
    "page": ({"base"}, {"nlohmann"}),
    "sched": ({"base"}, set()),
    # The control plane around it.
    "sched/control": ({"base", "control"}, {"grpc", "openssl", "nlohmann"}),
    "worker": ({"base", "allreduce", "train", "data", "job", "sched"}, {"torch", "nlohmann", "openssl"}),
    "bench": ({"base", "allreduce", "data", "sched", "job", "page"},
              {"CLI", "nlohmann", "mpi", "gloo", "hdf5", "lz4", "zstd"}),
    "launcher": ({"base", "job", "data", "sched", "control", "bench", "page"}, {"CLI", "hwloc", "nlohmann"}),
}
# The training step is a library of its own inside worker/.
TRAIN_MAY_SEE = {"base", "allreduce", "train"}
# Single files for a library that the rest of their component must not need.
ALLOWED_IN_FILE = {
    ("data/tokenizer/main.cpp", "sentencepiece"),  # a program of its own: frames.hpp says why
    ("allreduce/src/tcp/cipher_openssl.cpp", "openssl"),
    ("allreduce/include/paceline/mpi.h", "mpi"),
    ("allreduce/include/paceline/torch.hpp", "torch"),
}

LIBRARIES = [
    ("torch", re.compile(r"^(torch|ATen|c10|caffe2)/")),
    ("hdf5", re.compile(r"^H5|^hdf5")),
    ("yaml-cpp", re.compile(r"^yaml-cpp/")),
    ("nlohmann", re.compile(r"^nlohmann/")),
    ("CLI", re.compile(r"^CLI/")),
    ("hwloc", re.compile(r"^hwloc")),
    ("zlib", re.compile(r"^zlib\.h")),
    ("xxhash", re.compile(r"^(xxhash|xxh_)")),
    ("uring", re.compile(r"^liburing")),
    ("turbojpeg", re.compile(r"^turbojpeg\.h")),
    ("spng", re.compile(r"^spng\.h")),
    ("sentencepiece", re.compile(r"^sentencepiece")),
    ("lz4", re.compile(r"^lz4")),
    ("zstd", re.compile(r"^zstd|^zdict")),
    ("openssl", re.compile(r"^openssl/")),
    ("grpc", re.compile(r"^(grpc|grpcpp|google/protobuf)/")),
    ("mpi", re.compile(r"^mpi\.h")),
    ("gloo", re.compile(r"^gloo/")),
]
INCLUDE = re.compile(r'^\s*#\s*include\s*[<"]([^>"]+)[>"]')


def component_of(include):
    """The component that a public header belongs to; None for other headers."""
    if include == "paceline/allreduce.hpp":
        return "allreduce"
    match = re.match(r"^paceline/([a-z]+)/", include)
    return match.group(1) if match else None


def faults_in(root):
    faults = []
    for component, (visible, libraries) in MAY_SEE.items():
        for path in sorted((root / component).rglob("*")):
            if path.suffix not in (".hpp", ".cpp", ".h", ".c", ".inc"):
                continue
            within = [inner for inner in MAY_SEE if (root / inner) in path.parents]
            if max(within, key=len) != component:
                continue
            public = "include" in path.relative_to(root).parts
            train = component == "worker" and "program" not in path.parts
            may = TRAIN_MAY_SEE if train else visible | {component}
            for number, line in enumerate(path.read_text().splitlines(), 1):
                match = INCLUDE.match(line)
                if not match:
                    continue
                include = match.group(1)
                where = f"{path.relative_to(root)}:{number}"
                target = component_of(include)
                if target and target not in may:
                    faults.append(f"{where} includes {include}, but {component} may not see {target}")
                for name, pattern in LIBRARIES:
                    if not pattern.match(include) or (str(path.relative_to(root)), name) in ALLOWED_IN_FILE:
                        continue
                    if name not in libraries or (public and name != "torch"):
                        faults.append(f"{where} includes {include}, which has no place there")
                    if train and name != "torch":
                        faults.append(f"{where} includes {include}: the training step needs only LibTorch")
    return faults


class ComponentBoundaries(unittest.TestCase):
    def test_the_project_keeps_to_the_table(self):
        self.assertEqual(faults_in(ROOT), [])

    def test_every_folder_with_code_is_in_the_table(self):
        folders = {p.parent.parent.name for p in ROOT.glob("*/src/*.cpp")}
        self.assertEqual(folders - set(MAY_SEE), set())

    def test_a_fault_would_be_found(self):
        with tempfile.TemporaryDirectory() as folder:
            root = pathlib.Path(folder)
            for component in MAY_SEE:
                (root / component / "src").mkdir(parents=True)
            (root / "launcher/src/x.cpp").write_text("#include <torch/torch.h>\n")
            (root / "data/src/x.cpp").write_text('#include "paceline/allreduce.hpp"\n')
            (root / "job/include/paceline/job").mkdir(parents=True)
            (root / "job/include/paceline/job/x.hpp").write_text("#include <yaml-cpp/yaml.h>\n")
            (root / "worker/src/x.cpp").write_text('#include "paceline/data/loader.hpp"\n')
            self.assertEqual(len(faults_in(root)), 4)


if __name__ == "__main__":
    unittest.main()

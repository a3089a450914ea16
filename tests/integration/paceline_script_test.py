"""The script ./paceline, in a folder of its own with fake apt-get, sudo, dpkg-query, cmake, ninja and ctest.

Each fake is a few lines of shell that note how they were called. The search path holds them and a handful of the
system's own tools, so that nothing is installed or built for real, whatever this machine has.
"""

import os
import shutil
import signal
import subprocess
import tempfile
import time
import unittest
from pathlib import Path

SOURCE = Path(__file__).resolve().parents[2]
TOOLS = ["bash", "cat", "chmod", "cp", "echo", "env", "flock", "grep", "ls", "make", "mkdir", "mv", "nproc", "readlink",
         "rm", "sed", "sleep", "stty", "tee", "touch", "tr", "c++"]
WAIT_S = 60

FAKES = {
    "id": 'echo "${FAKE_UID:-0}"',
    "dpkg-query": """
echo "$*" >> "$FAKE/dpkg-query.log"
while read -r package; do echo "$package ii "; done < "$FAKE/installed"
exit 1""",
    "apt-get": """
echo "$*" >> "$FAKE/apt-get.log"
cp "$FAKE/stderr" "$FAKE/stderr-at-apt-get"
if [[ -e $FAKE/apt-get-fails ]]; then rm "$FAKE/apt-get-fails"; echo "E: no such package"; exit 100; fi
[[ -z ${FAKE_APT_BROKEN-} ]] || { echo "E: disk full"; exit 100; }
for word in "$@"; do [[ $word == -* || $word == install || $word == update ]] || echo "$word" >> "$FAKE/installed"; done""",
    "sudo": """
echo "$*" >> "$FAKE/sudo.log"
[[ -z ${FAKE_SUDO_REFUSES-} ]] || exit 1
[[ $1 == -n ]] && shift
[[ "$*" == "apt-get --version" ]] || exec "$@\"""",
    "cmake": """
echo "$*" >> "$FAKE/cmake.log"
root=$2
mkdir -p "$root/build/release/worker"
echo "CMAKE_HOME_DIRECTORY:INTERNAL=$root" > "$root/build/release/CMakeCache.txt"
touch "$root/build/release/build.ninja" "$root/build/release/worker/cmake_install.cmake" """,
    "ninja": """
echo "$*" >> "$FAKE/ninja.log"
[[ -z ${FAKE_NINJA_FAILS-} ]] || { echo "main.cpp:1:1: error: oops"; exit 1; }
build=$2
if [[ -e $build/bin/paceline ]]; then echo "ninja: no work to do."; exit; fi
echo "[1/1] Linking paceline"
echo start >> "$FAKE/built.log"
for ((i = 0; i < 600; ++i)); do [[ -e $FAKE/go ]] && break; sleep 0.1; done
mkdir -p "$build/bin"
cp "$FAKE/program" "$build/bin/paceline"
echo end >> "$FAKE/built.log" """,
    "ctest": 'echo "ctest $*"; exit "${FAKE_CTEST_STATUS:-0}"',
}

PROGRAM = """#!/bin/bash
echo "program in $PWD with $*"
readlink /proc/$$/fd/*
exit 7
"""


class PacelineScript(unittest.TestCase):
    def setUp(self):
        self.top = Path(tempfile.mkdtemp(prefix="paceline-script-")).resolve()
        self.addCleanup(shutil.rmtree, self.top, ignore_errors=True)
        self.fake = self.top / "fake"
        self.bin = self.top / "bin"
        self.root = self.top / "clone"
        for folder in (self.fake, self.bin, self.root):
            folder.mkdir()
        for name in ("paceline", "CMakePresets.json"):
            shutil.copy(SOURCE / name, self.root)
        for tool in TOOLS:
            found = shutil.which(tool, path="/usr/bin:/bin:/usr/local/bin")
            if found:
                (self.bin / tool).symlink_to(found)
        for name, body in FAKES.items():
            self.write_program(self.bin / name, "#!/bin/bash\n" + body + "\n")
        self.write_program(self.fake / "program", PROGRAM)
        (self.fake / "go").touch()
        (self.fake / "installed").write_text("".join(f"{package}\n" for package in self.packages()))
        (self.fake / "stderr").touch()
        (self.top / "os-release").write_text('ID=debian\nVERSION_ID="12"\n')

    def write_program(self, path, text):
        path.write_text(text)
        path.chmod(0o755)

    def packages(self):
        text = (SOURCE / "paceline").read_text()
        lists = [part[:part.index(")")].split() for part in text.split("packages=(")[1:]]
        self.assertEqual(len(lists), 2)
        return lists[0] + lists[1]

    def start(self, *arguments, script=None, cwd=None, stderr="stderr", **more):
        environment = {"PATH": str(self.bin), "FAKE": str(self.fake), "HOME": str(self.top),
                       "PACELINE_OS_RELEASE": str(self.top / "os-release"), **more}
        with open(self.fake / stderr, "wb") as sink:
            return subprocess.Popen([script or self.root / "paceline", *arguments], cwd=cwd or self.top, env=environment,
                                    stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=sink, text=True,
                                    start_new_session=True)

    def run_script(self, *arguments, **more):
        """The script's (status, standard output, standard error)."""
        process = self.start(*arguments, **more)
        try:
            out, _ = process.communicate(timeout=WAIT_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            raise
        return process.returncode, out, (self.fake / more.get("stderr", "stderr")).read_text()

    def log(self, name):
        path = self.fake / f"{name}.log"
        return path.read_text().splitlines() if path.exists() else []

    def without(self, *packages):
        kept = [package for package in self.packages() if package not in packages]
        (self.fake / "installed").write_text("".join(f"{package}\n" for package in kept))

    def wait_until(self, what, condition):
        deadline = time.monotonic() + WAIT_S
        while not condition():
            self.assertLess(time.monotonic(), deadline, f"waited in vain until {what}")
            time.sleep(0.02)

    # ---- running ---------------------------------------------------------------------------------------

    def test_builds_and_then_is_the_program(self):
        status, out, err = self.run_script("train", "a b")
        self.assertEqual((status, out.splitlines()[0]), (7, f"program in {self.top} with train a b"))
        self.assertEqual(err, "paceline: building in build/release\n")
        self.assertIn("--preset release", self.log("cmake")[0])
        self.assertTrue(self.log("ninja")[0].endswith("launcher/all worker/all"), "tests are built without need")
        self.assertEqual(self.log("apt-get"), [])

    def test_does_not_hand_the_lock_to_the_program(self):
        for _ in range(2):
            _, out, _ = self.run_script()
            self.assertIn("/dev/null", out, "the program's descriptors are listed")
            self.assertNotIn(".lock", out)

    def test_a_second_call_only_asks_ninja_and_says_nothing(self):
        self.run_script("x")
        before = {name: self.log(name) for name in ("cmake", "dpkg-query", "apt-get")}
        status, _, err = self.run_script("x")
        self.assertEqual((status, err), (7, ""))
        self.assertEqual({name: self.log(name) for name in before}, before)
        self.assertEqual(len(self.log("ninja")), 2)

    def test_works_through_a_link_and_from_any_folder(self):
        elsewhere = self.top / "else where"
        elsewhere.mkdir()
        link = elsewhere / "pl"
        link.symlink_to(self.root / "paceline")
        _, out, _ = self.run_script("train", script=link, cwd=elsewhere)
        self.assertEqual(out.splitlines()[0], f"program in {elsewhere} with train")
        self.assertTrue((self.root / "build/release/bin/paceline").exists())
        self.assertEqual(sorted(path.name for path in elsewhere.iterdir()), ["pl"])

    def test_build_only_builds_everything(self):
        status, out, _ = self.run_script("build")
        self.assertEqual((status, out), (0, ""))
        self.assertNotIn("launcher/all", self.log("ninja")[0])
        self.assertEqual(self.run_script("build", "x")[0], 2)

    def test_test_runs_ctest_with_its_status(self):
        status, out, _ = self.run_script("test", "-R", "job", FAKE_CTEST_STATUS="8")
        self.assertEqual(status, 8)
        self.assertRegex(out, r"^ctest --test-dir \S+/build/release --output-on-failure -j2 --timeout \d+ "
                              r"-LE nightly -R job\n$")
        _, out, _ = self.run_script("test", "--nightly", "-N")
        self.assertNotIn("nightly", out)
        self.assertTrue(out.endswith(" -N\n"))

    def test_shows_what_the_compiler_said(self):
        status, out, err = self.run_script("train", FAKE_NINJA_FAILS="1")
        self.assertEqual((status, out), (1, ""))
        self.assertIn("main.cpp:1:1: error: oops\n", err)
        self.assertTrue(err.endswith("paceline: the build failed: see above\n"), err)
        self.assertEqual(self.run_script("train")[0], 7)

    def test_tells_progress_to_continuous_integration(self):
        self.assertIn("[1/1] Linking paceline\n", self.run_script("train", CI="true")[2])

    # ---- installing ------------------------------------------------------------------------------------

    def test_says_what_it_installs_before_it_does(self):
        self.without("mold", "libhdf5-dev")
        status, _, err = self.run_script("train")
        self.assertEqual(status, 7, err)
        said = "paceline: installing with apt-get: mold libhdf5-dev\n"
        self.assertEqual((self.fake / "stderr-at-apt-get").read_text(), said)
        self.assertEqual(self.log("apt-get"), ["install -y --no-install-recommends mold libhdf5-dev"])
        self.assertEqual(self.log("sudo"), [])

    def test_updates_the_package_lists_once_where_installing_fails(self):
        self.without("mold")
        (self.fake / "apt-get-fails").touch()
        status, _, err = self.run_script("train")
        self.assertEqual(status, 7, err)
        install = "install -y --no-install-recommends mold"
        self.assertEqual(self.log("apt-get"), [install, "update", install])

    def test_shows_why_installing_failed(self):
        self.without("mold")
        status, _, err = self.run_script("train", FAKE_APT_BROKEN="1")
        self.assertEqual(status, 1)
        self.assertIn("E: disk full\n", err)
        self.assertEqual((self.log("cmake"), self.log("ninja")), ([], []))

    def test_goes_through_sudo(self):
        self.without("mold")
        status, _, err = self.run_script("train", FAKE_UID="1000")
        self.assertEqual(status, 7, err)
        self.assertIn("paceline: installing with sudo -n apt-get: mold\n", err)
        self.assertEqual(self.log("sudo")[-1], "-n apt-get install -y --no-install-recommends mold")

    def test_prints_the_command_without_root_and_sudo(self):
        self.without("mold", "ccache")
        for has_sudo in (True, False):
            with self.subTest(has_sudo=has_sudo):
                if not has_sudo:
                    (self.bin / "sudo").unlink()
                status, _, err = self.run_script("train", FAKE_UID="1000", FAKE_SUDO_REFUSES="1")
                self.assertEqual(status, 1)
                self.assertIn("    apt-get update && apt-get install -y --no-install-recommends ccache mold\n", err)
                self.assertEqual((self.log("apt-get"), self.log("cmake"), self.log("ninja")), ([], [], []))

    def test_installs_nothing_where_it_is_told_not_to(self):
        self.without("mold")
        self.assertEqual(self.run_script("train", PACELINE_INSTALL="0")[0], 7)
        self.assertEqual((self.log("apt-get"), self.log("dpkg-query")), ([], []))

    def test_takes_a_libtorch_of_ones_own(self):
        self.without("libtorch-dev")
        self.assertEqual(self.run_script("train", Torch_DIR="/opt/torch")[0], 7)
        self.assertEqual(self.log("apt-get"), [])
        self.assertIn("-DTorch_DIR=/opt/torch", self.log("cmake")[0])
        self.assertEqual(self.run_script("train")[0], 7)
        self.assertEqual(len(self.log("cmake")), 1, "it stays where it is once said")
        self.assertEqual(self.run_script("train", Torch_DIR="/opt/other")[0], 7)
        self.assertIn("-DTorch_DIR=/opt/other", self.log("cmake")[1])

    def test_on_other_systems_names_the_tools_that_are_missing(self):
        (self.top / "os-release").write_text("ID=fedora\nVERSION_ID=40\n")
        self.without("mold")
        self.assertEqual(self.run_script("train")[0], 7)
        self.assertEqual((self.log("apt-get"), self.log("dpkg-query")), ([], []))
        shutil.rmtree(self.root / "build")
        for tools, sentence in ((["c++"], "'c++' is no C++20 compiler: install one, or name it in CXX"),
                                (["ninja", "make"], "neither ninja nor make is there: install one of them"),
                                (["cmake"], "cmake is missing: install CMake 3.25 or newer")):
            for tool in tools:
                (self.bin / tool).unlink()
            status, _, err = self.run_script("train")
            self.assertEqual((status, err), (1, f"paceline: {sentence}\n"))

    def test_says_which_packages_are_gone_where_the_build_fails(self):
        self.run_script("train")
        self.without("libcli11-dev")
        _, _, err = self.run_script("train", FAKE_NINJA_FAILS="1")
        self.assertIn("these packages are gone: libcli11-dev: call ./paceline again to install them\n", err)
        self.assertEqual(self.run_script("train")[0], 7)
        self.assertEqual(self.log("apt-get"), ["install -y --no-install-recommends libcli11-dev"])

    def test_what_only_tests_need_is_installed_for_them_alone(self):
        self.without("slurm-wlm")
        self.run_script("build")
        self.assertEqual(self.log("apt-get"), [])
        self.run_script("test")
        self.assertEqual(self.log("apt-get"), ["install -y --no-install-recommends slurm-wlm"])

    # ---- configuring -----------------------------------------------------------------------------------

    def test_configures_again_where_the_clone_was_moved(self):
        self.run_script("train")
        (self.root / "build/release/old").touch()
        moved = self.top / "moved clone"
        self.root.rename(moved)
        status, _, err = self.run_script("train", script=moved / "paceline")
        self.assertEqual(status, 7, err)
        self.assertIn(f"-S {moved} ", self.log("cmake")[1])
        self.assertFalse((moved / "build/release/old").exists(), "what was built for another path is still there")

    def test_configures_again_where_the_presets_changed(self):
        self.run_script("train")
        (self.root / "build/release/old").touch()
        with open(self.root / "CMakePresets.json", "a") as presets:
            presets.write("\n\n ")
        self.run_script("train")
        self.assertEqual(len(self.log("cmake")), 2)
        self.assertTrue((self.root / "build/release/old").exists(), "more was thrown away than need be")

    # ---- several at once -------------------------------------------------------------------------------

    def test_two_at_once_build_once(self):
        (self.fake / "go").unlink()
        first = self.start("one")
        self.wait_until("the first one builds", lambda: self.log("built") == ["start"])
        second = self.start("two", stderr="stderr-2")
        waits = "paceline: another ./paceline is building here, waiting for it\n"
        self.wait_until("the second one waits", lambda: (self.fake / "stderr-2").read_text() == waits)
        (self.fake / "go").touch()
        for process, word in ((first, "one"), (second, "two")):
            out, _ = process.communicate(timeout=WAIT_S)
            self.assertEqual((process.returncode, out.splitlines()[0]), (7, f"program in {self.top} with {word}"))
        self.assertEqual(self.log("built"), ["start", "end"])
        self.assertEqual(len(self.log("cmake")), 1)

    def test_goes_on_where_the_one_that_built_was_killed(self):
        (self.fake / "go").unlink()
        first = self.start("one")
        self.wait_until("the first one builds", lambda: self.log("built") == ["start"])
        os.killpg(first.pid, signal.SIGKILL)
        first.communicate(timeout=WAIT_S)
        (self.fake / "go").touch()
        self.assertEqual(self.run_script("two")[0], 7)

    def test_never_builds_under_mpirun_or_srun(self):
        launchers = ({"OMPI_COMM_WORLD_RANK": "0"}, {"PMIX_RANK": "1"}, {"SLURM_PROCID": "0", "SLURM_STEP_ID": "0"})
        self.without("mold")
        for launcher in launchers:
            with self.subTest(launcher):
                status, out, err = self.run_script("train", **launcher)
                self.assertEqual((status, out), (1, ""))
                self.assertEqual(err, f"paceline: {self.root}/build/release/bin/paceline is not there, and nothing is "
                                      "built under mpirun or srun: run ./paceline build first\n")
                self.assertEqual(self.run_script("test", **launcher)[0], 1)
                self.assertEqual(self.run_script("build", **launcher)[0], 1)
        self.assertFalse((self.root / "build").exists())
        for name in ("apt-get", "dpkg-query", "cmake", "ninja"):
            self.assertEqual(self.log(name), [], name)
        self.run_script("train")
        built = self.log("ninja")
        for launcher in launchers:
            self.assertEqual(self.run_script("train", **launcher)[0], 7)
        self.assertEqual(self.log("ninja"), built)

    def test_builds_in_a_slurm_batch_script(self):
        for step in ("4294967291", "4294967290", ""):
            self.assertEqual(self.run_script("train", SLURM_PROCID="0", SLURM_STEP_ID=step)[0], 7)
        self.assertEqual(len(self.log("ninja")), 3)


if __name__ == "__main__":
    unittest.main(verbosity=2)

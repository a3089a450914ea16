#!/usr/bin/python3
"""`paceline bench allreduce` with real ranks, peers that are there, and peers that only pretend. It asserts no times.

ctest sets PACELINE_PROGRAM and PACELINE_SOURCE_DIR, or PACELINE_BUILD_DIR, under which the program is found.
"""
import glob
import functools
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest
import uuid

import waiting
from refusals import Refusals

BUILD = os.environ.get("PACELINE_BUILD_DIR", ".")
PROGRAM = os.path.realpath(os.environ.get("PACELINE_PROGRAM", os.path.join(BUILD, "bin", "paceline")))
SOURCE = os.environ.get("PACELINE_SOURCE_DIR", str(pathlib.Path(__file__).resolve().parents[2]))
NETNS = os.path.join(SOURCE, "bench", "netns.sh")
PEERS = ("openmpi", "mpich", "gloo")
# No test waits longer for anything; each thing takes far less.
LIMIT_S = 60
wait_for = functools.partial(waiting.wait_for, limit_s=LIMIT_S)
SMALL = ("--max-bytes", "4K", "--factor", "32", "--rounds", "1")
# Goes on until it is ended.
ENDLESS = ("--max-bytes", "4", "--rounds", "1000")

# A rank that speaks the protocol of bench/peers/contender.h and does no work. What it does wrong is in FAKE.
FAKE_RANK = r"""#!/usr/bin/python3
import os, socket, sys, time
option = dict(zip(sys.argv[1::2], sys.argv[2::2]))
fake = os.environ["FAKE"]
host, port = option["--driver"].rsplit(":", 1)
if fake == "stranger":
    for words in (b"GET / HTTP/1.0\r\n\r\n", b"hello " + b"0" * 32 + b" 0 1\n", b"x" * 5000):
        stranger = socket.create_connection((host, int(port)))
        stranger.sendall(words)
driver = socket.create_connection((host, int(port)))
say = lambda text: driver.sendall(text.encode() + b"\n")
if fake == "silent":
    time.sleep(600)
say(f"hello {option['--token']} {option['--rank']} {os.getpid()}")
if fake == "fails":
    say("error the moon is in the way")
    sys.exit(1)
say("ready")
for line in driver.makefile():
    words = line.split()
    if words[0] == "quit":
        sys.exit(3 if fake == "bad-end" else 0)
    if words[0] == "time":
        batches = int(words[3]) - (fake == "too-few")
        say("ns" + " 1000" * batches)
    if words[0] == "check":
        say("errors 7" if fake == "wrong" else "errors 0")
"""


def missing_peer(peer):
    """Why it cannot be tried; empty if it can."""
    built = os.path.join(os.path.dirname(PROGRAM), "bench", f"allreduce_{peer}")
    return "" if os.path.exists(built) else f"{built} was not built"


def missing_for_netns():
    if os.geteuid() != 0:
        return "only root can make network namespaces"
    for tool in ("ip", "tc", "nsenter", "unshare"):
        if shutil.which(tool) is None:
            return f"there is no {tool}"
    tried = subprocess.run([NETNS, "run", "1", "--", "true"], capture_output=True, text=True, timeout=LIMIT_S)
    return "" if tried.returncode == 0 else f"this kernel makes no slow wires: {tried.stderr.strip()}"


class BenchAllreduce(Refusals, unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="paceline-bench-test-")
        self.addCleanup(shutil.rmtree, self.folder)
        self.environment = {name: value for name, value in os.environ.items()
                            if not name.startswith(("PACELINE_", "OMPI_", "PMIX_", "SLURM"))}
        # What is started inherits it, wherever a launcher puts it, and is found by it.
        self.mark = f"PACELINE_BENCH_TEST={uuid.uuid4()}"
        self.environment.update([self.mark.split("=")])
        self.before = set(self.folders_of_drivers())
        self.hosts_before = self.hosts()

    def tearDown(self):
        try:
            wait_for(lambda: not self.processes(), "processes that are left behind to end")
            wait_for(lambda: not self.abandoned_folders(), "files that are left behind to go")
        finally:
            for pid in self.processes():
                os.kill(pid, signal.SIGKILL)

    # ---- tools

    @staticmethod
    def folders_of_drivers():
        return glob.glob("/dev/shm/paceline-bench-*-*") + glob.glob("/tmp/paceline-bench-[0-9]*-*")

    def abandoned_folders(self):
        """Those of this test whose driver has ended; others may be measuring on this machine, or have been killed on it."""
        folders = set(self.folders_of_drivers()) - self.before
        return [folder for folder in folders if not os.path.exists(f"/proc/{folder.split('-')[2]}")]

    def processes(self, *words):
        """Those that this test has started, with all words among their arguments."""
        found = []
        for entry in os.listdir("/proc"):
            try:
                environment = pathlib.Path("/proc", entry, "environ").read_bytes().split(b"\0")
                arguments = pathlib.Path("/proc", entry, "cmdline").read_text().split("\0")
            except (OSError, ValueError):
                continue
            names = arguments + [os.path.basename(arguments[0])]
            if self.mark.encode() in environment and all(word in names for word in words):
                found.append(int(entry))
        return found

    def start(self, *arguments, program=PROGRAM, before=(), **environment):
        process = subprocess.Popen([*before, program, "bench", "allreduce", *arguments], cwd=self.folder,
                                   env={**self.environment, **environment}, stdin=subprocess.DEVNULL,
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.addCleanup(process.stdout.close)
        self.addCleanup(process.stderr.close)
        self.addCleanup(process.kill)
        return process

    def finish(self, process):
        out, err = process.communicate(timeout=LIMIT_S)
        return process.returncode, out, err

    def bench(self, *arguments, **more):
        return self.finish(self.start(*arguments, **more))

    def measure(self, *arguments, **more):
        """A run that has to succeed: its report."""
        path = os.path.join(self.folder, "out.json")
        code, out, err = self.bench(*arguments, "--json", path, **more)
        self.assertEqual((code, err), (0, ""), out)
        with open(path) as file:
            report = json.load(file)
        self.assertEqual(len(out.splitlines()), 5 + len(report["rows"]), out)
        return report

    def bench_with_fake(self, fake, *arguments):
        """A run whose peer gloo is a fake, beside a copy of the program."""
        program = os.path.join(self.folder, "paceline")
        peer = os.path.join(self.folder, "bench", "allreduce_gloo")
        shutil.copy(PROGRAM, program)
        os.makedirs(os.path.dirname(peer), exist_ok=True)
        with open(peer, "w") as file:
            file.write(FAKE_RANK.replace("/usr/bin/python3", sys.executable, 1))
        os.chmod(peer, 0o755)
        return self.bench("--peers", "gloo", *SMALL, *arguments, program=program, FAKE=fake)

    # ---- what works

    def test_report(self):
        report = self.measure("--ranks", "2", *SMALL)
        self.assertEqual([row["bytes"] for row in report["rows"]], [4, 128, 4096])
        for row in report["rows"]:
            self.assertEqual(row["count"], row["bytes"] / 4)
            self.assertEqual((row["errors"], row["peers"]), (0, {}))
            self.assertGreater(row["us_p50"], 0)
            self.assertAlmostEqual(row["algbw_gbytes_per_s"], row["bytes"] / row["us_p50"] / 1e3)
            self.assertAlmostEqual(row["busbw_gbytes_per_s"], row["algbw_gbytes_per_s"])
            self.assertAlmostEqual(row["fraction_of_probe"], row["probe_us_p50"] / row["us_p50"])
            self.assertEqual(row["fraction_of_limit"], row["fraction_of_probe"])
        self.assertEqual(set(report["machine"]), {
            "processor", "cores", "memory_bytes", "kernel", "transparent_huge_pages",
            "transparent_huge_pages_shared", "load_before"})
        self.assertEqual(report["settings"]["layout"], [2])
        self.assertEqual(report["settings"]["limit"], "probe")

    def test_peers(self):
        peers = [peer for peer in PEERS if not missing_peer(peer)]
        if not peers:
            self.skipTest("; ".join(missing_peer(peer) for peer in PEERS))
        for row in self.measure("--peers", ",".join(peers), *SMALL)["rows"]:
            self.assertEqual(set(row["peers"]), set(peers))
            for peer in row["peers"].values():
                self.assertEqual(peer["errors"], 0)
                self.assertAlmostEqual(peer["ratio"], peer["us_p50"] / row["us_p50"])

    def test_types_memory_layouts_and_codecs(self):
        for arguments, sizes in [
                (("--dtype", "f64"), [8, 128, 4096]), (("--dtype", "f16"), [4, 128, 4096]),
                (("--dtype", "bf16", "--min-bytes", "1"), [2, 32, 1024]), (("--dtype", "i32",), [4, 128, 4096]),
                (("--dtype", "i64",), [8, 128, 4096]), (("--dtype", "u8", "--min-bytes", "3"), [3, 96, 3072]),
                (("--memory", "plain"), [4, 128, 4096]), (("--ranks", "1"), [4, 128, 4096]),
                (("--ranks", "3", "--nodes", "2"), [4, 128, 4096]), (("--layout", "1,2"), [4, 128, 4096]),
                (("--nodes", "2", "--codec", "f16"), [4, 128, 4096]),
                (("--nodes", "2", "--codec", "bf16"), [4, 128, 4096]),
                (("--nodes", "2", "--codec", "int8"), [4, 128, 4096]),
                (("--nodes", "2", "--codec", "fixed-point", "--dtype", "f64"), [8, 128, 4096])]:
            with self.subTest(arguments):
                report = self.measure(*SMALL, *arguments)
                self.assertEqual([row["bytes"] for row in report["rows"]], sizes)
                self.assertEqual([row["errors"] for row in report["rows"]], [0] * len(sizes))
                if len(report["settings"]["layout"]) > 1:
                    self.assertEqual([row["fraction_of_probe"] for row in report["rows"]], [None] * len(sizes))

    def test_messages_of_mpi_between_nodes(self):
        for needed in ("paceline_mpi", "openmpi"):
            if missing_peer(needed):
                self.skipTest(missing_peer(needed))
        report = self.measure("--nodes", "2", "--transport", "mpi", "--peers", "openmpi", *SMALL)
        self.assertEqual([row["errors"] for row in report["rows"]], [0] * 3)
        self.assertEqual(set(report["rows"][0]["peers"]), {"openmpi"})

    def test_strangers_do_not_disturb(self):
        self.assertEqual(self.bench_with_fake("stranger")[0], 0)

    # ---- what is refused

    def test_bad_usage(self):
        hosts = os.path.join(self.folder, "hosts")
        with open(hosts, "w") as file:
            file.write("h1\n")
        for part, arguments in [
                ("--ranks", ("--ranks", "0")), ("--ranks", ("--ranks", "two")), ("--ranks", ("--ranks", "5000")),
                ("only 2 ranks", ("--nodes", "3")), ("3,x", ("--layout", "3,x")),
                ("leave --ranks out", ("--layout", "1,1", "--ranks", "3")),
                ("leave --nodes out", ("--layout", "1,1", "--nodes", "3")), ("--memory", ("--memory", "cheap")),
                ("--dtype", ("--dtype", "f8")), ("for f32", ("--codec", "int8", "--dtype", "i32")),
                ("3Q", ("--min-bytes", "3Q")), ("2G", ("--max-bytes", "2G")),
                ("more than", ("--min-bytes", "2M", "--max-bytes", "1M")), ("--factor", ("--factor", "1")),
                ("openmpy", ("--peers", "openmpy")), ("twice", ("--peers", "gloo,gloo")),
                ("pretended", ("--nodes", "2", "--peers", "gloo")),
                ("pretended", ("--nodes", "2", "--transport", "mpi", "--peers", "openmpi,gloo")),
                ("--transport", ("--transport", "pigeons")),
                ("/nonexistent", ("--hosts", "/nonexistent")), ("line 1", ("--hosts", hosts)),
                ("--hosts", ("--wire-gbits", "1")), ("a folder", ("--json", "/nonexistent/x.json")),
                ("--unheard-of", ("--unheard-of",))]:
            with self.subTest(arguments):
                self.assert_refused(self.bench(*arguments), 2, part)

    def test_peers_that_are_not_there(self):
        self.assert_refused(self.bench("--peers", "mpich", PATH=self.folder), 2, "mpich", "install", "libmpich-dev")
        alone = os.path.join(self.folder, "paceline")
        shutil.copy(PROGRAM, alone)
        self.assert_refused(self.bench("--peers", "gloo", program=alone), 2, "gloo", "install", "libgloo-dev")
        self.assert_refused(self.bench("--transport", "mpi", program=alone), 2, "libopenmpi-dev")

    def test_ranks_are_not_started_by_hand(self):
        for arguments in ((), ("probe",), ("paceline",)):
            done = subprocess.run([PROGRAM, "bench", "rank", *arguments], capture_output=True, text=True,
                                  stdin=subprocess.DEVNULL, timeout=LIMIT_S, env=self.environment)
            self.assertNotEqual(done.returncode, 0)
            self.assertIn("paceline bench allreduce", done.stderr)

    # ---- what fails

    def test_contenders_that_misbehave(self):
        for fake, parts in [("wrong", ("gloo got 14 elements wrong", "4 bytes")),
                            ("fails", ("gloo", "rank ", "the moon is in the way")),
                            ("too-few", ("gloo", "times")), ("bad-end", ("gloo", "exit status 3"))]:
            with self.subTest(fake):
                self.assert_refused(self.bench_with_fake(fake), 1, *parts)
        self.assert_refused(self.bench_with_fake("silent", "--timeout", "2"), 1, "gloo", "not done: rank 0, 1")

    def ranks_of(self, contender):
        if contender in ("paceline", "probe"):
            return self.processes("bench", "rank", "--members" if contender == "paceline" else "probe")
        return self.processes(f"allreduce_{contender}")

    def start_endless(self, *arguments):
        """A run of all contenders that are there; returns when all of their ranks are."""
        self.contenders = ["paceline", "probe"] + [peer for peer in PEERS if not missing_peer(peer)]
        peers = self.contenders[2:]
        process = self.start(*ENDLESS, *arguments, *(["--peers", ",".join(peers)] if peers else []))
        for contender in self.contenders:
            wait_for(lambda: len(self.ranks_of(contender)) == 2 or process.poll() is not None, contender)
        self.assertIsNone(process.poll(), "the run should go on until it is ended")
        time.sleep(0.3)  # into the measurement
        return process

    def test_killed_rank(self):
        for contender in ["paceline", "probe"] + [peer for peer in PEERS if not missing_peer(peer)]:
            with self.subTest(contender):
                process = self.start_endless()
                os.kill(max(self.ranks_of(contender)), signal.SIGKILL)
                self.assert_refused(self.finish(process), 1, f"contender {contender}", "rank ", "ended")
                self.assertEqual(self.processes(), [], "something is left behind")
                self.assertEqual(glob.glob(f"/dev/shm/paceline-bench-{process.pid}-*"), [])

    def test_frozen_rank(self):
        process = self.start_endless("--timeout", "3")
        os.kill(max(self.ranks_of(self.contenders[-1])), signal.SIGSTOP)
        self.assert_refused(self.finish(process), 1, f"contender {self.contenders[-1]} took longer than 3 s")

    def test_stopped_driver(self):
        for number in (signal.SIGINT, signal.SIGTERM):
            process = self.start_endless()
            process.send_signal(number)
            self.assert_refused(self.finish(process), 128 + number, "stopped by signal")
            self.assertEqual(self.processes(), [], "something is left behind")

    def test_killed_driver_takes_all_along(self):
        process = self.start_endless()
        process.kill()
        self.assertEqual(self.finish(process)[0], -signal.SIGKILL)  # tearDown looks for what is left

    # ---- several hosts

    def test_hosts_behind_slow_wires(self):
        if missing_for_netns():
            self.skipTest(missing_for_netns())
        peers = [peer for peer in ("openmpi", "gloo") if not missing_peer(peer)]
        arguments = ["--peers", ",".join(peers)] if peers else []
        report = self.measure("--layout", "2,1", *SMALL, *arguments, before=(NETNS, "run", "2", "--"))
        self.assertEqual(report["settings"]["hosts"], ["h1", "h2"])
        self.assertEqual(report["settings"]["limit"], "wire")
        for row in report["rows"]:
            self.assertEqual(row["errors"], 0)
            self.assertAlmostEqual(row["limit_us"], row["bytes"] * 8 / 1e3)  # 1 Gbit/s, 2(2-1)/2 of the bytes
            self.assertAlmostEqual(row["fraction_of_limit"], row["limit_us"] / row["us_p50"])
            self.assertEqual(set(row["peers"]), set(peers))
        self.assert_no_hosts_left()

    def test_hosts_end_with_their_command(self):
        if missing_for_netns():
            self.skipTest(missing_for_netns())
        process = self.start(*ENDLESS, before=(NETNS, "run", "2", "--"))
        wait_for(lambda: len(self.ranks_of("paceline")) == 2 or process.poll() is not None, "ranks on hosts")
        process.terminate()
        self.assertEqual(self.finish(process)[0], 128 + signal.SIGTERM)
        self.assert_no_hosts_left()

    @staticmethod
    def hosts():
        return set(glob.glob("/run/paceline-netns/*") + glob.glob("/run/netns/pl*-h*"))

    def assert_no_hosts_left(self):
        self.assertEqual(self.hosts() - self.hosts_before, set())

    def test_netns_refuses(self):
        if os.geteuid() != 0:
            self.skipTest("only root gets as far as the arguments")
        for arguments in [(), ("fly",), ("run",), ("run", "2"), ("run", "0", "--", "true"), ("run", "x", "--", "true"),
                          ("run", "1", "--gbits", "fast", "--", "true"), ("up", "1", "Bad_Name"),
                          ("exec", "nobody", "h1", "true")]:
            with self.subTest(arguments):
                done = subprocess.run([NETNS, *arguments], capture_output=True, text=True, timeout=LIMIT_S)
                self.assertEqual((done.returncode, done.stderr.count("\n")), (2, 1), done.stderr)


if __name__ == "__main__":
    unittest.main()

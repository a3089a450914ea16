"""The MooseFS that other tests run on: its faults are real, and it leaves nothing behind."""

import functools
import hashlib
import os
import pathlib
import random
import signal
import subprocess
import sys
import unittest

SUPPORT = pathlib.Path(__file__).resolve().parents[1] / "support"
sys.path.insert(0, str(SUPPORT))
import moosefs  # noqa: E402
import waiting  # noqa: E402

WHY_NOT = moosefs.unavailable()
PATIENCE_S = 60
wait_for = functools.partial(waiting.wait_for, limit_s=PATIENCE_S)
CONTENT = random.Random(5).randbytes(3_000_000)


def traces(folder):
    """What is there of a filesystem: its folder, mounts in it, processes that are about it."""
    found = [str(folder)] if folder.exists() else []
    found += [line for line in pathlib.Path("/proc/self/mounts").read_text().splitlines() if str(folder) in line]
    for entry in pathlib.Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and str(folder).encode() in (entry / "cmdline").read_bytes():
                found.append(f"process {entry.name}")
        except OSError:
            pass
    return found


@unittest.skipIf(WHY_NOT, WHY_NOT)
class Faults(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.filesystem = moosefs.MooseFs()
        cls.filesystem.start()
        cls.addClassCleanup(cls.filesystem.stop)
        # All now, while both chunk servers take new data.
        for name in ("whole", "bereft", "data", "crc", "lost", "silent", "frozen"):
            (cls.filesystem.mount / name).write_bytes(CONTENT)

    def setUp(self):
        self.filesystem.drop_caches()

    def file(self, name):
        return self.filesystem.mount / name

    def read(self, path):
        """In a process of its own: what the filesystem doesn't answer, it may not survive."""
        code = "import pathlib, sys; sys.stdout.buffer.write(pathlib.Path(sys.argv[1]).read_bytes())"
        done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, timeout=PATIENCE_S)
        return done.stdout if done.returncode == 0 else done.stderr.decode().splitlines()[-1]

    def test_a_file_is_on_both_chunk_servers(self):
        path = self.file("whole")
        self.assertEqual([server for server, _ in self.filesystem.chunk_files(path)], [0, 1])
        self.assertEqual(self.read(path), CONTENT)

    def test_a_killed_chunk_server(self):
        path = self.file("bereft")
        for server in (0, 1):
            with self.subTest(server):
                self.filesystem.kill_chunk_server(server)
                self.filesystem.drop_caches()
                self.assertEqual(self.read(path), CONTENT)
                self.filesystem.start_chunk_server(server)

    def test_one_damaged_copy_is_read_from_the_other(self):
        for kind in ("data", "crc"):
            with self.subTest(kind):
                path = self.file(kind)
                self.filesystem.corrupt(path, 1_234_567, copies=1, kind=kind)
                self.assertEqual(self.read(path), CONTENT)

    def test_two_damaged_copies_are_an_error(self):
        path = self.file("lost")
        self.filesystem.corrupt(path, 1_234_567, copies=2)
        self.assertRegex(self.read(path), "OSError")

    def test_damage_that_moosefs_does_not_see(self):
        path = self.file("silent")
        self.filesystem.corrupt(path, 1_234_567, copies=2, kind="silent")
        expected = bytearray(CONTENT)
        expected[1_234_567] ^= 1
        self.assertEqual(hashlib.sha256(self.read(path)).digest(), hashlib.sha256(expected).digest())

    def test_frozen_chunk_servers_are_an_error(self):
        path = self.file("frozen")
        for server in (0, 1):
            self.filesystem.freeze_chunk_server(server)
        try:
            self.assertRegex(self.read(path), "OSError")
        finally:
            self.filesystem.thaw_chunk_servers()
        self.assertEqual(self.read(path), CONTENT)


@unittest.skipIf(WHY_NOT, WHY_NOT)
class NothingIsLeft(unittest.TestCase):
    def start(self, command):
        process = subprocess.Popen([sys.executable, "-B", str(SUPPORT / "moosefs.py"), "run", "--", "sh", "-c", command],
                                   stdout=subprocess.PIPE, text=True, start_new_session=True)
        self.addCleanup(process.stdout.close)
        return process

    def folder(self, process):
        """Once the command has printed its mount."""
        return pathlib.Path(process.stdout.readline().strip()).parent

    def test_however_it_ends(self):
        """All of them are up at once, and none disturbs another."""
        hold = 'echo "$MOOSEFS_MOUNT"; exec sleep 1000 > "$MOOSEFS_MOUNT/held"'
        crashed, interrupted = self.start(hold), self.start(hold)
        finished = self.start('echo "$MOOSEFS_MOUNT"; head -c 100000 /dev/zero > "$MOOSEFS_MOUNT/file"; exit 7')

        folders = [self.folder(process) for process in (crashed, interrupted, finished)]
        self.assertEqual(len(set(folders)), 3)
        self.assertEqual(finished.wait(PATIENCE_S), 7)
        self.assertEqual(traces(folders[2]), [])

        self.assertGreater(len(traces(folders[1])), 4)
        os.killpg(interrupted.pid, signal.SIGINT)
        self.assertEqual(interrupted.wait(PATIENCE_S), 128 + signal.SIGINT)
        self.assertEqual(traces(folders[1]), [])

        self.assertGreater(len(traces(folders[0])), 4)
        os.killpg(crashed.pid, signal.SIGKILL)
        crashed.wait(PATIENCE_S)
        wait_for(lambda: not traces(folders[0]), f"the end of {folders[0]}")


if __name__ == "__main__":
    unittest.main(verbosity=2)

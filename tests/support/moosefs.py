#!/usr/bin/python3
"""A real MooseFS for tests: a master, chunk servers and a mount, every file on two chunk servers.

    with moosefs.MooseFs() as filesystem:
        (filesystem.mount / "file").write_bytes(b"...")
        filesystem.kill_chunk_server(0)

    python3 tests/support/moosefs.py run -- COMMAND     with MOOSEFS_MOUNT in its environment

Everything runs in a network namespace of its own, so any number of them can be up at once, and in one temporary folder.
The keeper (moosefs_keeper.py), a process of its own, holds the namespace and cleans up when the test is over, however
that came. Nothing else ever cleans up, so that way is taken by every test.

`unavailable()` says why a machine cannot have this: it takes root, FUSE, network namespaces and MooseFS's programs.
"""

import ctypes
import os
import pathlib
import re
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
import zlib

import moosefs_keeper
from moosefs_keeper import ADDRESS, LIBC

PROGRAMS = ("mfsmaster", "mfschunkserver", "mfsmount", "mfsfileinfo", "mfssetgoal", "unshare", "nsenter")
MASTER_PORTS = {9420, 9421}  # for chunk servers and for mounts
FIRST_CHUNK_SERVER_PORT = 9422
PATIENCE_S = 30

# A chunk of MooseFS is 64 MiB of a file. Its file on a chunk server: a header, room for a CRC-32 per block, the blocks.
CHUNK_BYTES = 64 << 20
BLOCK_BYTES = 64 << 10
CRC_BYTES = 4 * (CHUNK_BYTES // BLOCK_BYTES)



class Error(Exception):
    """MooseFS could not be brought up, or does not do what was asked of it."""


def find(program):
    return shutil.which(program, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin:/usr/bin:/bin")


def unavailable():
    """Why there can be no MooseFS here; None if there can."""
    if os.geteuid() != 0:
        return "MooseFS is brought up by root only"
    missing = [program for program in PROGRAMS if not find(program)]
    if missing:
        return f"{', '.join(missing)} not found: MooseFS's packages are not installed"
    try:
        os.close(os.open("/dev/fuse", os.O_RDWR))
    except OSError as error:
        return f"no FUSE: /dev/fuse: {error.strerror}"
    tried = subprocess.run([find("unshare"), "--net", "true"], capture_output=True, text=True)
    return f"no network namespaces: {tried.stderr.strip()}" if tried.returncode else None


def wait_for(condition, what, every_s=0.01):
    """The first true value of condition()."""
    deadline = time.monotonic() + PATIENCE_S
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise Error(f"MooseFS: {what}: not within {PATIENCE_S} s")
        time.sleep(every_s)
    return value


class MooseFs:
    """One filesystem. Its methods are for one thread, and raise Error where something does not come about."""

    def __init__(self, chunk_servers=2, tries=3, timeout_s=5):
        """`tries` and `timeout_s` (0: none) say when a read or write that cannot be done ends with an error."""
        self.folder = None
        self.mount = None
        self.mount_options = f"mfsioretries={tries},mfstimeout={timeout_s},mfsnice=0,mfsallowoomkiller"
        self.chunk_servers = [None] * chunk_servers
        self.keeper = None
        self.processes = []

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.stop()

    # ---- up and down -------------------------------------------------------------------------------------------

    def start(self):
        reason = unavailable()
        if reason:
            raise Error(reason)
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="paceline-moosefs-"))
        self.mount = self.folder / "mount"
        keeper = os.path.abspath(moosefs_keeper.__file__)
        command = [find("unshare"), "--net", sys.executable, "-B", keeper, str(self.folder)]
        # A session of its own: an interrupt from the terminal is for the test, and its end is what the keeper waits for.
        self.keeper = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True)
        try:
            if self.keeper.stdout.readline() != b"ready\n":
                raise Error("MooseFS: there could be no namespace for it")
            self._start_all()
        except BaseException:
            self.stop()
            raise

    def _start_all(self):
        for name in ("mount", "master", "log"):
            (self.folder / name).mkdir()
        (self.folder / "exports").write_text("* / rw,alldirs,maproot=0\n")
        (self.folder / "topology").touch()
        (self.folder / "master" / "metadata.mfs").write_bytes(b"MFSM NEW")
        config = self._config("master", EXPORTS_FILENAME="exports", TOPOLOGY_FILENAME="topology")
        self._spawn("master", "mfsmaster", "-f", "-c", config, "start")
        wait_for(lambda: MASTER_PORTS <= self._listening(), "the master listens")
        for i in range(len(self.chunk_servers)):
            self._make_chunk_server(i)
            self._spawn_chunk_server(i)
        for i in range(len(self.chunk_servers)):
            self._wait_registered(i, 0)
        self._mount()
        self.command("mfssetgoal", "2", self.mount)
        self.wait_for_room()

    def stop(self):
        """Leaves nothing. What still has files open on the mount loses them."""
        if self.keeper is None:
            return
        keeper, self.keeper = self.keeper, None
        keeper.stdin.close()
        keeper.wait(PATIENCE_S)
        keeper.stdout.close()
        for process in self.processes:
            process.kill()  # if the keeper was killed
            process.wait(PATIENCE_S)
        if keeper.returncode != 0 or self.folder.exists():
            raise Error(f"MooseFS: the keeper of {self.folder} ended with {keeper.returncode} and left something")

    # ---- chunk servers -----------------------------------------------------------------------------------------

    def kill_chunk_server(self, i):
        """As if it lost power."""
        self.chunk_servers[i].kill()
        self.chunk_servers[i].wait()

    def start_chunk_server(self, i):
        """After kill_chunk_server(); comes back when the master knows what it holds. See wait_for_room()."""
        if self.chunk_servers[i].poll() is None:
            raise Error(f"MooseFS: chunk server {i} runs")
        before = self._registrations(i)
        self._spawn_chunk_server(i)
        self._wait_registered(i, before)

    def freeze_chunk_server(self, i):
        """It keeps its connections and answers nothing. Whether reads then go to the other in time is a matter of luck."""
        self.chunk_servers[i].send_signal(signal.SIGSTOP)

    def thaw_chunk_servers(self):
        """All that were frozen."""
        for server in self.chunk_servers:
            server.send_signal(signal.SIGCONT)
        self.wait_for_room()

    def wait_for_room(self):
        """Comes back when new data gets its two copies.

        A chunk server tells what room it has a second or two after the master knows it, and gets no data till then.
        """
        wait_for(self._has_room, "room on the chunk servers", every_s=0.1)

    def _has_room(self):
        space = os.statvfs(self.mount)
        if space.f_bavail == 0:
            return False
        probe = self.mount / ".room"
        probe.write_bytes(b"x")
        copies = len(self.chunk_files(probe))
        probe.unlink()
        return copies == min(2, sum(server.poll() is None for server in self.chunk_servers))

    def _make_chunk_server(self, i):
        for name in ("chunks", "state"):
            (self.folder / f"{name}{i}").mkdir()
        # The tilde: that other people's files come and go on this disk is no reason to give it up.
        (self.folder / f"disks{i}").write_text(f"~{self.folder}/chunks{i}\n")
        self._config(f"state{i}", HDD_CONF_FILENAME=f"disks{i}", MASTER_HOST=ADDRESS,
                     CSSERV_LISTEN_PORT=FIRST_CHUNK_SERVER_PORT + i, MASTER_RECONNECTION_DELAY=1,
                     HDD_LEAVE_SPACE_DEFAULT="64MiB", HDD_ERROR_TOLERANCE_COUNT=10, HDD_ERROR_TOLERANCE_PERIOD=10)

    def _spawn_chunk_server(self, i):
        config = self.folder / f"state{i}.cfg"
        self.chunk_servers[i] = self._spawn(f"chunks{i}", "mfschunkserver", "-f", "-c", config, "start")

    def _registrations(self, i):
        log = (self.folder / "log" / "master").read_text(errors="replace")
        return len(re.findall(rf"chunkserver register end .*port: {FIRST_CHUNK_SERVER_PORT + i}\b", log))

    def _wait_registered(self, i, before):
        wait_for(lambda: self._registrations(i) > before, f"chunk server {i} is known to the master")

    # ---- files -------------------------------------------------------------------------------------------------

    def drop_caches(self):
        """The next reads go to the chunk servers. For a mount on which no file is open."""
        if LIBC.umount2(os.fsencode(self.mount), 0) != 0:
            raise Error(f"MooseFS: {self.mount} is in use: {os.strerror(ctypes.get_errno())}")
        # Nothing is open, so everything is written: MooseFS does that when a file is closed. Its own way out takes seconds.
        self.mount_process.kill()
        self.mount_process.wait()
        self._mount()

    def chunk_files(self, file, offset=0):
        """The files on the chunk servers that hold this byte of a file: [(chunk server, path)]."""
        chunk, copies = None, []
        for line in self.command("mfsfileinfo", file).splitlines():
            if match := re.match(r"\s*chunk (\d+): ([0-9A-F]{16})_([0-9A-F]{8})\b", line):
                chunk = match.groups()
            elif (match := re.search(r"copy \d+: .*:(\d+) ", line)) and int(chunk[0]) == offset // CHUNK_BYTES:
                server = int(match[1]) - FIRST_CHUNK_SERVER_PORT
                pattern = f"**/chunk_{chunk[1]}_{chunk[2]}.mfs"
                copies += [(server, path) for path in (self.folder / f"chunks{server}").glob(pattern)]
        return sorted(copies)

    def corrupt(self, file, offset, copies=1, kind="data"):
        """Flips a bit of the byte at this offset of a file that lies on the mount, in so many of its copies.

        kind "data": MooseFS's own checksum then finds it. "crc": that checksum is damaged instead. "silent": the data
        is damaged and the checksum made to fit, so that MooseFS knows nothing of it. The chunk servers are started anew
        (they keep checksums in memory), and the caches dropped. See wait_for_room().
        """
        found = wait_for(lambda: (places := self.chunk_files(file, offset)) and len(places) >= copies and places,
                         f"{copies} copies of {file} at byte {offset}")[:copies]
        for server, _ in found:
            self.chunk_servers[server].terminate()  # so that what it holds in memory is in its files
            self.chunk_servers[server].wait(PATIENCE_S)
        for _, path in found:
            damage_chunk(path, offset % CHUNK_BYTES, kind)
        for server, _ in found:
            self.start_chunk_server(server)
        self.drop_caches()

    # ---- parts -------------------------------------------------------------------------------------------------

    def command(self, program, *arguments):
        """Runs one of MooseFS's tools where it sees the master; gives its standard output."""
        done = subprocess.run([*self._inside(), find(program), *map(str, arguments)], capture_output=True, text=True,
                              timeout=PATIENCE_S)
        if done.returncode != 0:
            raise Error(f"MooseFS: {program}: {done.stdout}{done.stderr}")
        return done.stdout

    def _inside(self):
        return [find("nsenter"), f"--net=/proc/{self.keeper.pid}/ns/net"]

    def _listening(self):
        """TCP ports in the namespace."""
        lines = pathlib.Path(f"/proc/{self.keeper.pid}/net/tcp").read_text().splitlines()[1:]
        return {int(fields[1].split(":")[1], 16) for fields in map(str.split, lines) if fields[3] == "0A"}

    def _config(self, name, **options):
        files = {key: self.folder / value for key, value in options.items() if key.endswith("_FILENAME")}
        options = {"WORKING_USER": "root", "WORKING_GROUP": "root", "LOCK_MEMORY": 0, "NICE_LEVEL": 0,
                   "DISABLE_OOM_KILLER": 0, "DATA_PATH": self.folder / name, **options, **files}
        path = self.folder / f"{name}.cfg"
        path.write_text("".join(f"{key} = {value}\n" for key, value in options.items()))
        return path

    def _spawn(self, name, program, *arguments):
        with open(self.folder / "log" / name, "ab") as log:
            process = subprocess.Popen([*self._inside(), find(program), *map(str, arguments)], stdin=subprocess.DEVNULL,
                                       stdout=log, stderr=log, cwd="/", start_new_session=True)
        self.processes.append(process)
        return process

    def _mount(self):
        options = f"mfsmaster={ADDRESS},{self.mount_options}"
        self.mount_process = self._spawn("mount", "mfsmount", "-f", self.mount, "-o", options)
        wait_for(lambda: self.mount_process.poll() is not None or self.mount.is_mount(), "the mount")
        if self.mount_process.poll() is not None:
            raise Error("MooseFS: mfsmount: " + (self.folder / "log" / "mount").read_text(errors="replace"))


def damage_chunk(path, offset, kind):
    """Damages the byte at this offset of a chunk, in the chunk server's file."""
    block = offset // BLOCK_BYTES
    with open(path, "r+b", buffering=0) as file:
        blocks_at = os.fstat(file.fileno()).st_size % BLOCK_BYTES  # blocks are stored in full
        crc_at = blocks_at - CRC_BYTES + 4 * block
        block_at = blocks_at + BLOCK_BYTES * block
        content = bytearray(os.pread(file.fileno(), BLOCK_BYTES, block_at))
        stored = os.pread(file.fileno(), 4, crc_at)
        if len(content) != BLOCK_BYTES or zlib.crc32(content) != struct.unpack(">I", stored)[0]:
            raise Error(f"MooseFS: {path}: byte {offset} of the chunk is not where it is looked for")
        content[offset % BLOCK_BYTES] ^= 1
        if kind == "crc":
            os.pwrite(file.fileno(), bytes([stored[0] ^ 1]), crc_at)
            return
        os.pwrite(file.fileno(), content, block_at)
        if kind == "silent":
            os.pwrite(file.fileno(), struct.pack(">I", zlib.crc32(content)), crc_at)


def main(arguments):
    if len(arguments) < 3 or arguments[:2] != ["run", "--"]:
        print("usage: moosefs.py run -- COMMAND", file=sys.stderr)
        return 2
    try:
        with MooseFs() as filesystem:
            return subprocess.call(arguments[2:], env={**os.environ, "MOOSEFS_MOUNT": str(filesystem.mount)})
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except Error as error:
        print(error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

#!/usr/bin/python3
"""`paceline doctor` on this machine, in folders and with settings that are wrong, under mpirun, and over hosts and Slurm's nodes."""
import contextlib
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))
import moosefs
import hosts_test
import slurm_test
from launcher_fixture import PROGRAM, clean_environment, main, wait_for
from refusals import Refusals

LIMIT_S = 120
STATES = {"ok", "warning", "problem", "not there"}
# The place of a job is not the doctor's, but each node says what it finds.
EXPECTED = {"worker", "process_vm_readv", "cores", "memory", "/dev/shm", "open files", "locked memory", "processes", "stack",
            "io_uring", "memfd", "pidfd", "huge pages", "clock", "GPU driver", "CUDA driver", "NCCL", "interface", "ports", "folder",
            "free space", "fsync", "rename", "O_EXCL", "link", "flock"}
ONLY_HERE = {"place", "mpirun", "srun", "sbatch", "ssh"}
TOGETHER = {"connections", "shared folder", "exclusive creation", "new files", "renames", "locks"}
FAKE_DRIVER = """
#include <stdlib.h>
#include <string.h>
int nvmlInit_v2(void) { if (getenv("FAKE_CRASH")) abort(); return getenv("FAKE_ERROR") ? 9 : 0; }
int nvmlShutdown(void) { return 0; }
const char *nvmlErrorString(int code) { return "Driver Not Loaded"; }
int nvmlDeviceGetCount_v2(unsigned *count) { *count = 2; return 0; }
int nvmlDeviceGetHandleByIndex_v2(unsigned i, void **device) { *device = (void *)(long)(i + 1); return 0; }
int nvmlDeviceGetName(void *d, char *name, unsigned size) { strncpy(name, "Test GPU", size); return 0; }
int nvmlDeviceGetUUID(void *d, char *uuid, unsigned size) { strncpy(uuid, (long)d == 1 ? "GPU-1" : "GPU-2", size); return 0; }
int nvmlSystemGetDriverVersion(char *version, unsigned size) { strncpy(version, "535.1", size); return 0; }
int nvmlDeviceGetMemoryInfo(void) { return 3; }
int nvmlDeviceGetPciInfo_v3(void) { return 3; }
int nvmlDeviceGetP2PStatus(void) { return 3; }
int nvmlDeviceGetMigMode(void) { return 3; }
int nvmlDeviceGetMaxMigDeviceCount(void) { return 3; }
int nvmlDeviceGetMigDeviceHandleByIndex(void) { return 3; }
"""
FAKE_NCCL = "int ncclGetVersion(int *version) { *version = 21803; return 0; }"


class DoctorTest(Refusals, unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="paceline-doctor-test-")
        self.addCleanup(shutil.rmtree, self.folder)

    def tearDown(self):
        self.assertEqual([name for name in os.listdir(self.folder) if name.startswith(".")], [])

    # ---- tools

    def run_doctor(self, *arguments, before=(), **environment):
        done = subprocess.run([*before, PROGRAM, "doctor", *arguments], cwd=self.folder, env={**clean_environment(), **environment},
                              stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=LIMIT_S)
        return done.returncode, done.stdout, done.stderr

    def examine(self, *arguments, **options):
        """The exit code, and what was found on this machine, by the checks' names."""
        code, out, err = self.run_doctor("--json", *arguments, **options)
        self.assertEqual(err, "")
        self.report = json.loads(out)
        nodes = [*self.report["nodes"], {"node": "together", "checks": self.report["together"]}]
        for node in nodes:
            for check in node["checks"]:
                self.assertEqual(set(check), {"name", "state", "found", "mend"})
                self.assertIn(check["state"], STATES)
                self.assertEqual(check["mend"] == "", check["state"] == "ok", check)
                self.assertNotEqual(check["found"], "")
        problems = [check for node in nodes for check in node["checks"] if check["state"] == "problem"]
        self.assertEqual(self.report["problems"], len(problems))
        self.assertEqual(code, 1 if problems else 0)
        return code, {check["name"]: check for check in nodes[0]["checks"]}

    def assert_problem(self, checks, name, *parts):
        self.assertEqual(checks[name]["state"], "problem", checks[name])
        for part in parts:
            self.assertIn(part, checks[name]["found"] + ": " + checks[name]["mend"])

    # ---- this machine

    def test_a_machine_on_which_jobs_run(self):
        code, checks = self.examine()
        self.assertEqual(code, 0, self.report)
        self.assertEqual(set(checks), EXPECTED | ONLY_HERE)
        self.assertEqual(len(self.report["nodes"]), 1)
        self.assertEqual(self.report["together"], [])
        for name in ("rename", "O_EXCL", "link", "memfd", "pidfd"):
            self.assertEqual(checks[name]["state"], "ok", checks[name])

    def test_what_people_see(self):
        code, out, err = self.run_doctor("--folder", self.folder)
        self.assertEqual((code, err), (0, ""))
        lines = out.splitlines()
        self.assertRegex(lines[0], r"^node \S+ \(this machine, paceline ")
        self.assertRegex(lines[-1], r"^no problems, (no|\d+) warnings?$")
        for line in lines[1:-1]:
            self.assertRegex(line, r"^  (ok|warning|problem|not there) +\S")
        self.assertEqual(len(lines), len(EXPECTED | ONLY_HERE) + 2)

    def test_settings_that_are_wrong(self):
        _, checks = self.examine(PACELINE_INTERFACE="eth77", PACELINE_PORTS="20-x", PACELINE_READS="quickly", PACELINE_NODE="n1")
        self.assertEqual(self.report["nodes"][0]["node"], "n1")
        self.assert_problem(checks, "interface", "PACELINE_INTERFACE is 'eth77'")
        self.assert_problem(checks, "ports", "PACELINE_PORTS is '20-x'", "give a port or a range of ports")
        self.assert_problem(checks, "io_uring", "PACELINE_READS is quickly")
        _, checks = self.examine(PACELINE_INTERFACE="lo")
        self.assertEqual(checks["interface"]["state"], "warning")

    def test_ports_that_are_taken(self):
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            port = taken.getsockname()[1]
            _, checks = self.examine(PACELINE_PORTS=str(port))
            self.assert_problem(checks, "ports", f"port {port} at 127.0.0.1 is taken", "set PACELINE_PORTS=A-B")
        _, checks = self.examine(PACELINE_PORTS=str(port))
        self.assertEqual(checks["ports"]["state"], "warning")

    def test_workers_that_do_not_start(self):
        broken = os.path.join(self.folder, "worker")
        for text, part in (("#!/bin/sh\necho no such library >&2; exit 127", "exited with status 127: no such library"),
                           ("#!/bin/sh\nkill -11 $$", "was killed by signal 11"), ("#!/bin/sh\n", "exited with status 0")):
            with open(broken, "w") as out:
                out.write(text)
            os.chmod(broken, 0o755)
            _, checks = self.examine(PACELINE_WORKER=broken)
            self.assert_problem(checks, "worker", part)
        _, checks = self.examine(PACELINE_WORKER="/nonexistent")
        self.assert_problem(checks, "worker", "there is no worker program at /nonexistent")

    def test_limits(self):
        _, checks = self.examine(before=("sh", "-c", 'ulimit -n 200; ulimit -s 128; exec "$@"', "sh"))
        self.assert_problem(checks, "open files", "200 of at most 200", "have the hard limit raised")
        self.assert_problem(checks, "stack", "128.0 KiB")
        if len(os.sched_getaffinity(0)) > 1:
            _, checks = self.examine(before=("taskset", "-c", str(min(os.sched_getaffinity(0)))))
            self.assertEqual(checks["cores"]["state"], "warning")

    def test_programs_that_are_not_there(self):
        _, checks = self.examine(PATH="/nonexistent")
        for name in ("mpirun", "srun", "sbatch", "ssh"):
            self.assertEqual(checks[name]["state"], "not there", checks[name])
            self.assertIn(f"there is no {name} on the path", checks[name]["found"])

    def test_flavours_of_mpi(self):
        mpirun = os.path.join(self.folder, "mpirun")
        for text, found in (("HYDRA build details:\n    Version: 4.0.2", "MPICH 4.0.2"), ("mpirun (Open MPI) 5.0.3", "Open MPI 5.0.3")):
            with open(mpirun, "w") as out:
                out.write(f"#!/bin/sh\necho '{text}'\n")
            os.chmod(mpirun, 0o755)
            _, checks = self.examine(PATH=self.folder + ":" + os.environ["PATH"], OMPI_ALLOW_RUN_AS_ROOT="1",
                                     OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1")
            self.assertEqual((checks["mpirun"]["state"], checks["mpirun"]["found"]), ("ok", found))

    # ---- folders

    def test_folders_that_are_not_there(self):
        _, checks = self.examine("--folder", "missing")
        self.assert_problem(checks, "folder", f"{self.folder}/missing cannot be looked at: No such file or directory", "make it")
        open(os.path.join(self.folder, "file"), "w").close()
        _, checks = self.examine("--folder", "file")
        self.assert_problem(checks, "folder", "file is no folder")

    def on_a_filesystem(self, options):
        """What comes before a program so that it finds another filesystem in the folder `mounted`, which nobody else sees."""
        mounted = os.path.join(self.folder, "mounted")
        os.makedirs(mounted, exist_ok=True)
        command = ["unshare", "-m", "sh", "-c", f'mount -t tmpfs -o {options} none "$0" && exec "$@"', mounted]
        if subprocess.run([*command, "true"], capture_output=True).returncode != 0:
            self.skipTest("only root can mount filesystems")
        return command

    def test_folders_that_cannot_be_written(self):
        _, checks = self.examine("--folder", "mounted", before=self.on_a_filesystem("ro"))
        self.assert_problem(checks, "writing", "Read-only file system")
        _, checks = self.examine("--folder", "mounted", before=self.on_a_filesystem("size=64k"))
        self.assert_problem(checks, "free space", "64.0 KiB free of 64.0 KiB", "make room")
        self.assert_problem(checks, "fsync", "No space left on device")
        self.assertEqual(checks["rename"]["state"], "ok")
        _, checks = self.examine("--folder", "mounted", before=self.on_a_filesystem("nr_inodes=3"))
        self.assert_problem(checks, "free space", "more files", "no more inodes")

    @unittest.skipIf(moosefs.unavailable(), moosefs.unavailable())
    def test_a_filesystem_that_stops_answering(self):
        with moosefs.MooseFs(timeout_s=0) as filesystem:
            def leftovers():
                return [name for name in os.listdir(filesystem.mount) if name.startswith(".paceline-doctor")]
            code, checks = self.examine("--folder", str(filesystem.mount))
            self.assertEqual((code, leftovers()), (0, []), self.report)
            self.assertIn("fuse (mfs#", checks["folder"]["found"])
            for server in (0, 1):
                filesystem.freeze_chunk_server(server)
            _, checks = self.examine("--folder", str(filesystem.mount))
            self.assert_problem(checks, "files", "no answer within 20 s, after the check of free space")
            # What hung has its end when the filesystem answers, and removes what it made.
            filesystem.thaw_chunk_servers()
            wait_for(lambda: not leftovers(), "the end of the check of files")

    # ---- GPUs

    def compiled(self, name, text):
        compiler = shutil.which("cc")
        if compiler is None:
            self.skipTest("there is no C compiler")
        library = os.path.join(self.folder, name)
        subprocess.run([compiler, "-w", "-shared", "-fPIC", "-x", "c", "-", "-o", library], input=text, text=True, check=True)
        return library

    def test_gpu_libraries(self):
        driver = self.compiled("libdriver.so", FAKE_DRIVER)
        self.compiled("libnccl.so.2", FAKE_NCCL)
        _, checks = self.examine(PACELINE_NVML=driver, LD_LIBRARY_PATH=self.folder)
        self.assertEqual(checks["GPU driver"]["found"], "NVIDIA 535.1, 2 x Test GPU")
        self.assertEqual(checks["NCCL"]["found"], "2.18.3")
        _, checks = self.examine(PACELINE_NVML=driver, CUDA_VISIBLE_DEVICES="1")
        self.assertEqual(checks["GPU driver"]["found"], "NVIDIA 535.1, 1 x Test GPU")
        _, checks = self.examine(PACELINE_NVML=driver, FAKE_ERROR="1")
        self.assertEqual(checks["GPU driver"]["state"], "warning")
        self.assertIn("Driver Not Loaded", checks["GPU driver"]["found"])
        _, checks = self.examine(PACELINE_NVML=driver, FAKE_CRASH="1")
        self.assert_problem(checks, "GPU libraries", "was killed by signal 6")
        self.assertIn("rename", checks)

    # ---- how it ends

    def test_bad_usage(self):
        self.assert_refused(self.run_doctor("--hosts", "a,a"), 2, "a is there twice")
        self.assert_refused(self.run_doctor("--hosts", "./missing"), 2, "--hosts", "missing")
        self.assert_refused(self.run_doctor("--nonsense"), 2, "--nonsense")
        full = ("sh", "-c", 'exec "$@" > /dev/full', "sh")
        self.assert_refused(self.run_doctor(before=full), 1, "cannot write what was found to standard output")
        contradictory = {"SLURM_STEP_ID": "0", "SLURM_PROCID": "0", "SLURM_STEP_NUM_TASKS": "nonsense"}
        _, checks = self.examine(**contradictory)
        self.assert_problem(checks, "place", "SLURM_STEP_NUM_TASKS is 'nonsense'")

    def test_interrupted(self):
        slow = os.path.join(self.folder, "worker")
        with open(slow, "w") as out:
            out.write(f"#!/bin/sh\necho $$ > {self.folder}/pid\nexec sleep 60\n")
        os.chmod(slow, 0o755)
        process = subprocess.Popen([PROGRAM, "doctor"], cwd=self.folder, env={**clean_environment(), "PACELINE_WORKER": slow},
                                   stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        pid = int(wait_for(lambda: os.path.exists(self.folder + "/pid") and pathlib.Path(self.folder, "pid").read_text(), "the worker"))
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=LIMIT_S)
        self.assertEqual(process.returncode, 130)
        self.assertEqual(err, "paceline: stopped before all was checked\n")
        self.assertFalse(os.path.exists(f"/proc/{pid}"))

    # ---- several tasks, several machines

    def test_one_task_of_mpirun_speaks(self):
        mpirun = shutil.which("mpirun")
        if mpirun is None or "Open MPI" not in subprocess.run([mpirun, "--version"], capture_output=True, text=True).stdout:
            self.skipTest("there is no mpirun of Open MPI here")
        _, checks = self.examine(before=(mpirun, "--oversubscribe", "-n", "2"), OMPI_ALLOW_RUN_AS_ROOT="1",
                                 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1")
        self.assertEqual(checks["place"]["found"], "task 0 of 2 of mpirun (OMPI_COMM_WORLD_RANK is set)")
        code, out, err = self.run_doctor("--hosts", "a", OMPI_COMM_WORLD_RANK="0", OMPI_COMM_WORLD_SIZE="1",
                                         OMPI_COMM_WORLD_LOCAL_RANK="0", OMPI_COMM_WORLD_LOCAL_SIZE="1")
        self.assert_refused((code, out, err), 2, "--hosts under mpirun")

    def test_a_host_that_cannot_be_reached(self):
        code, _ = self.examine("--hosts", "n1,n2", PACELINE_SSH="/nonexistent/ssh")
        self.assertEqual(code, 1)
        for node in self.report["nodes"][1:]:
            self.assertEqual(node["checks"][0]["found"], "there is no /nonexistent/ssh on the path")
        self.examine("--hosts", "n1,n2", PACELINE_SSH="echo Welcome to")
        for node in self.report["nodes"][1:]:
            self.assertIn("exited with status 0", node["checks"][0]["found"])
        self.assertEqual(self.report["together"], [])

    def assert_examined(self, node):
        names = {check["name"]: check for check in node["checks"]}
        self.assertEqual(set(names), EXPECTED | {"clock of the node"})
        self.assertEqual(names["clock of the node"]["state"], "ok", names)

    @unittest.skipIf(hosts_test.missing(), hosts_test.missing())
    def test_hosts(self):
        with hosts_of(self.folder) as (addresses, ssh):
            code, _ = self.examine("--hosts", ",".join(addresses), PACELINE_SSH=ssh)
            self.assertEqual(code, 0, self.report)
            self.assertEqual([node["node"] for node in self.report["nodes"][1:]], ["h1", "h2"])
            for node in self.report["nodes"][1:]:
                self.assert_examined(node)
            self.assertEqual({check["name"] for check in self.report["together"]}, TOGETHER)
            # Each host has another filesystem there.
            code, _ = self.examine("--hosts", ",".join(addresses), "--folder", "private", PACELINE_SSH=ssh)
            self.assertEqual(code, 1)
            shared, = [check for check in self.report["together"] if check["name"] == "shared folder"]
            self.assertEqual(shared["state"], "problem")
            self.assertIn("is not seen by h1", shared["found"])
            code, _ = self.examine("--hosts", f"{addresses[0]},root@{addresses[0]}", PACELINE_SSH=ssh)
            self.assertIn("node h1 is there twice", [check["found"] for check in self.report["together"]])

    @unittest.skipIf(slurm_test.missing(), slurm_test.missing())
    def test_nodes_of_slurm(self):
        cluster = (str(slurm_test.CLUSTER), "run", "--nodes", "2", "--", "salloc", "--quiet", "-N2", "--exclusive")
        done = subprocess.run([*cluster, PROGRAM, "doctor", "--json"], cwd=self.folder, env=clean_environment(),
                              stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=LIMIT_S)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        report = json.loads(done.stdout)
        self.assertEqual(sorted(node["node"] for node in report["nodes"][1:]), ["h1", "h2"])
        for node in report["nodes"][1:]:
            self.assert_examined(node)
        self.assertEqual({check["name"] for check in report["together"]}, TOGETHER)


@contextlib.contextmanager
def hosts_of(folder):
    """The addresses of two hosts with ssh servers, on this machine, and the command that reaches them. Each has a filesystem of its
    own in `folder`/private."""
    name = f"d{os.getpid() % 1000000}"
    quiet = {"check": True, "stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with contextlib.ExitStack() as cleanup:
        home = pathlib.Path.home() / ".ssh"
        if not home.exists():
            home.mkdir(mode=0o700)
            cleanup.callback(home.rmdir)
        os.mkdir(f"{folder}/private")
        os.mkdir(f"{folder}/keys")
        subprocess.run(["ssh-keygen", "-t", "ed25519", "-N", "", "-f", f"{folder}/keys/key"], **quiet)
        subprocess.run(["dropbearkey", "-t", "ed25519", "-f", f"{folder}/keys/server"], **quiet)
        subprocess.run([hosts_test.NETNS, "up", "2", name], **quiet)
        cleanup.callback(subprocess.run, [hosts_test.NETNS, "down", name], **quiet)
        for number in (1, 2):
            server = f"mount -t tmpfs none {folder}/private && " + hosts_test.SERVER
            process = subprocess.Popen([hosts_test.NETNS, "exec", name, f"h{number}", "unshare", "-m", "sh", "-c", server, "sh",
                                        f"{folder}/keys", str(number)], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                       stderr=subprocess.DEVNULL)
            cleanup.callback(lambda process=process: (process.kill(), process.wait()))
        lines = pathlib.Path(f"/run/paceline-netns/{name}").read_text().splitlines()
        ssh = (f"ssh -o BatchMode=yes -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR "
               f"-o ConnectTimeout=10 -i {folder}/keys/key")
        addresses = [line.split()[1] for line in lines]
        for address in addresses:
            wait_for(lambda address=address: subprocess.run([*ssh.split(), address, "true"], capture_output=True).returncode == 0,
                     f"the ssh server of {address}")
        yield addresses, ssh


if __name__ == "__main__":
    main()

"""Jobs on machines that are reached by ssh: three hosts on this one (bench/netns.sh), each with an ssh server."""

import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import coordinated
import insight_test as insight
import training_test as small
from elastic_test import LIMIT_S, wait_for

NETNS = pathlib.Path(os.environ["PACELINE_SOURCE_DIR"]) / "bench" / "netns.sh"
STEPS = 150
JOB = ("--set", "model={kind: cnn}", "--set", "batch.global=256", "--set", "epochs=100000", "--set", "reproducible=true")
BOUNDED = (*JOB, "--set", f"steps={STEPS}")
# The server takes keys from the home of whoever logs in; there it is put for this server alone.
SERVER = """mount -t tmpfs -o mode=700 none ~/.ssh && cp "$1/key.pub" ~/.ssh/authorized_keys && chmod 600 ~/.ssh/authorized_keys &&
exec dropbear -F -E -s -r "$1/server" -p 22 -P "$1/pid-$2" """


def stragglers(run):
    return insight.lines(run, "straggler")


def missing():
    if os.geteuid() != 0:
        return "only root can make hosts"
    for tool in ("ssh", "ssh-keygen", "dropbear", "dropbearkey", "ip", "tc", "nsenter", "unshare"):
        if shutil.which(tool, path=os.environ["PATH"] + ":/usr/sbin:/sbin") is None:
            return f"there is no {tool} (openssh-client, dropbear-bin, iproute2)"
    return ""


class OnHosts(coordinated.Coordinated):
    """Hosts of their own, named h1 and so on, with ssh servers."""

    hosts = 3

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.name = f"t{os.getpid() % 1000000}"
        done = subprocess.run([NETNS, "up", str(cls.hosts), cls.name], text=True, capture_output=True, timeout=LIMIT_S)
        if done.returncode != 0:
            raise AssertionError(done.stderr)
        cls.addClassCleanup(subprocess.run, [NETNS, "down", cls.name], check=True, timeout=LIMIT_S)
        cls.keys = cls.folder / "keys"
        cls.keys.mkdir()
        made = pathlib.Path.home() / ".ssh"
        if not made.exists():
            made.mkdir(mode=0o700)
            cls.addClassCleanup(made.rmdir)
        quiet = {"check": True, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", cls.keys / "key"], **quiet)
        subprocess.run(["dropbearkey", "-t", "ed25519", "-f", cls.keys / "server"], **quiet)
        cls.addresses = [line.split()[1] for line in pathlib.Path(f"/run/paceline-netns/{cls.name}").read_text().splitlines()]
        for number in range(1, cls.hosts + 1):
            server = subprocess.Popen([NETNS, "exec", cls.name, f"h{number}", "unshare", "-m", "sh", "-c", SERVER, "sh", cls.keys,
                                       str(number)], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            cls.addClassCleanup(lambda server=server: (server.kill(), server.wait()))
        cls.environment = {"PACELINE_SSH": f"ssh -o BatchMode=yes -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null "
                                           f"-o LogLevel=ERROR -o ConnectTimeout=10 -i {cls.keys}/key"}
        for address in cls.addresses:
            wait_for(lambda address=address: cls.ssh(address, "true").returncode == 0, f"the ssh server of {address}")
        cls.undisturbed = None

    @classmethod
    def ssh(cls, address, command):
        return subprocess.run([*cls.environment["PACELINE_SSH"].split(), address, command], capture_output=True, text=True,
                              timeout=LIMIT_S)

    def start_on(self, hosts, *arguments):
        return self.start("--hosts", hosts, *arguments, environment=self.environment)

    def weights(self):
        if self.undisturbed is None:
            summary, _ = self.assert_proved(self.start("--ranks", "1", *BOUNDED), STEPS)
            type(self).undisturbed = summary["weights_sha256"]
        return self.undisturbed

    def assert_same_bits(self, run):
        summary, _ = self.assert_proved(run, STEPS)
        self.assertEqual(summary["weights_sha256"], self.weights())
        return summary

    def ours_on(self, host):
        """Our programs there, with what they were told to do."""
        found = {}
        for pid in subprocess.run(["ip", "netns", "pids", f"{self.name}-{host}"], text=True, capture_output=True).stdout.split():
            try:
                program, *words = pathlib.Path(f"/proc/{pid}/cmdline").read_text().split("\0")
            except OSError:
                continue
            if pathlib.Path(program).name.startswith("paceline"):
                found[int(pid)] = words[:1]
        return found

    def agents_on(self, host):
        return [pid for pid, words in self.ours_on(host).items() if words == ["agent"]]

    def assert_nothing_left(self):
        for host in (f"h{number}" for number in range(1, self.hosts + 1)):
            wait_for(lambda host=host: not self.ours_on(host), f"the end of all that is ours on {host}")
        wait_for(lambda: not small.workers(self.folder), "the end of all workers")


@unittest.skipIf(missing(), missing())
class Hosts(OnHosts):
    def test_hosts_of_a_file(self):
        hosts = self.folder / "hosts"
        hosts.write_text(f"# two of them\n{self.addresses[0]} slots=1\n\n{self.addresses[1]} slots=2\n")
        run = self.start_on(hosts, *JOB)
        run.await_steps(5)
        nodes = sorted(rank["node"] for rank in run.status()["ranks"])
        self.assertEqual(nodes, ["h1", "h2", "h2"])
        self.stop_and_prove(run)
        self.assertIn("3 ranks on 2 nodes, started by ssh", run.out)
        self.assert_nothing_left()

    def test_a_plan_of_hosts(self):
        done = subprocess.run([small.PACELINE, "plan", self.folder / "job.yaml", "--json", "--ranks", "3", "--hosts",
                               f"{self.addresses[0]}:1,{self.addresses[1]}:2"],
                              env={**os.environ, **self.environment}, text=True, capture_output=True, timeout=LIMIT_S)
        self.assertEqual(done.returncode, 0, done.stderr)
        plan = json.loads(done.stdout)
        self.assertEqual([rank["node"] for rank in plan["ranks"]], ["h1", "h2", "h2"])
        self.assertEqual([node["slots"] for node in plan["nodes"]], [1, 2])
        self.assertGreater(plan["nodes"][0]["free_memory_gib"], 0)
        self.assert_nothing_left()

    def test_the_bits_are_those_of_one_machine(self):
        self.assert_same_bits(self.start_on(",".join(self.addresses), "--ranks", "4", *BOUNDED))

    def test_ranks_on_gpus(self):
        # Two on each host, as a stand-in for the driver says; the CPU computes in their place.
        on_gpus = {**self.environment, "PACELINE_NVML": str(small.BUILD / "tests/unit/libpaceline_fake_nvml.so"),
                   "PACELINE_GPU_STAND_IN": "cpu"}
        hosts = ",".join(self.addresses)
        run = self.start("--hosts", hosts, "--ranks", "7", *BOUNDED, "--set", "device=gpu", "--set", "ranks.max=8", environment=on_gpus)
        _, err = run.process.communicate(timeout=LIMIT_S)
        self.assertIn("7 ranks need a GPU each, and the 3 nodes have room for 6", err)
        # A host without any is left out.
        run = self.start("--hosts", hosts, "--ranks", "3", *BOUNDED, "--set", "device=gpu",
                         environment={**on_gpus, "PACELINE_FAKE_NVML_NONE_ON": "h2"})
        run.await_steps(2)
        self.assertEqual(sorted(rank["node"] for rank in run.status()["ranks"]), ["h1", "h1", "h3"])
        self.assert_same_bits(run)
        run = self.start("--hosts", hosts, "--ranks", "5", *BOUNDED, "--set", "device=gpu", "--set", "ranks.max=8", environment=on_gpus)
        run.await_steps(2)
        status = run.status()
        self.assertEqual(sorted(rank["node"] for rank in status["ranks"]), ["h1", "h1", "h2", "h2", "h3"])
        pids = [rank["pid"] for rank in status["ranks"] if rank["node"] == "h1"]
        gpus = {entry for pid in pids for entry in pathlib.Path(f"/proc/{pid}/environ").read_text().split("\0")
                if entry.startswith("CUDA_VISIBLE_DEVICES=")}
        self.assertEqual(gpus, {"CUDA_VISIBLE_DEVICES=GPU-00000000", "CUDA_VISIBLE_DEVICES=GPU-00000001"})
        self.assert_same_bits(run)

    def test_the_agent_of_a_host_is_killed(self):
        run = self.start_on(f"{self.addresses[0]}:2,{self.addresses[1]}:2", *BOUNDED)
        run.await_steps(10)
        for pid in self.agents_on("h2"):
            os.kill(pid, signal.SIGKILL)
        self.assertGreaterEqual(self.assert_same_bits(run)["repairs"], 1)

    def mpirun_environment(self):
        return {**self.environment, "OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
                "OMPI_MCA_plm_rsh_agent": self.environment["PACELINE_SSH"].replace("ssh ", shutil.which("ssh") + " ", 1)}

    @unittest.skipIf(shutil.which("mpirun") is None, "there is no mpirun")
    def test_agents_that_mpirun_starts(self):
        hosts = f"{self.addresses[0]},{self.addresses[1]}"
        run = self.start("--hosts", hosts, "--starter", "mpirun", "--ranks", "4", *BOUNDED, environment=self.mpirun_environment())
        self.assert_same_bits(run)
        self.assertIn("4 ranks on 2 nodes, started by mpirun", run.out)
        self.assert_nothing_left()

    @unittest.skipIf(shutil.which("mpirun") is None, "there is no mpirun")
    def test_ranks_that_mpirun_starts_on_hosts(self):
        mpirun = ("mpirun", "--host", f"{self.addresses[0]}:1,{self.addresses[1]}:2", "-np", "3")
        run = self.start(*BOUNDED, launcher=mpirun, environment=self.mpirun_environment())
        run.await_steps(10)
        os.kill(max(small.workers(self.folder)), signal.SIGKILL)
        self.assertGreaterEqual(self.assert_same_bits(run)["repairs"], 1)
        self.assertIn("started by mpirun, on 2 nodes", run.out)
        self.assert_nothing_left()

    @unittest.skipIf(shutil.which("mpirun") is None, "there is no mpirun")
    def test_a_plan_of_large_nodes_through_mpirun(self):
        """Whose reports are longer than what mpirun hands on at once."""
        large = {**os.environ, **self.mpirun_environment(), "OMPI_MCA_orte_launch_agent": "env HWLOC_SYNTHETIC='package:2 numa:1 core:128 pu:2' orted"}
        done = subprocess.run([small.PACELINE, "plan", self.folder / "job.yaml", "--json", "--ranks", "4", "--starter", "mpirun",
                               "--hosts", f"{self.addresses[0]},{self.addresses[1]}"],
                              env=large, text=True, capture_output=True, timeout=LIMIT_S)
        self.assertEqual(done.returncode, 0, done.stderr)
        cluster = json.loads(done.stdout)
        self.assertEqual([len(node["cores"]) for node in cluster["nodes"]], [256, 256])
        self.assert_nothing_left()

    @unittest.skipIf(shutil.which("mpirun") is None, "there is no mpirun")
    def test_mpirun_and_a_launcher_that_is_killed(self):
        run = self.start("--hosts", f"{self.addresses[0]},{self.addresses[1]}", "--starter", "mpirun", *JOB,
                         environment=self.mpirun_environment())
        run.await_steps(5)
        run.process.kill()
        run.process.communicate()
        self.assert_nothing_left()

    def test_a_connection_that_breaks(self):
        run = self.start_on(f"{self.addresses[0]}:2,{self.addresses[1]}:2", *BOUNDED)
        run.await_steps(10)
        connection, = [pid for pid in small.children_of(run.process.pid)
                       if self.addresses[1] in pathlib.Path(f"/proc/{pid}/cmdline").read_text().split("\0")]
        os.kill(connection, signal.SIGKILL)
        self.assert_same_bits(run)
        self.assertIn(f"ssh to {self.addresses[1]} was killed by signal 9", run.err)

    def slow_down(self, host, rate):
        """Both directions of a host's wire, as bench/netns.sh has made it."""
        for where in (("-n", f"{self.name}-{host}", "qdisc", "change", "dev", "eth0"), ("qdisc", "change", "dev", f"{self.name}b{host[1:]}")):
            subprocess.run(["tc", *where, "root", "tbf", "rate", rate, "burst", "128kb", "latency", "20ms"], check=True, timeout=LIMIT_S)

    def test_a_slow_wire_is_named(self):
        run = self.start_on(",".join(f"{address}:1" for address in self.addresses), *JOB, "--set", "threads=1", "--set",
                            "batch={global: 240, grain: 10}")
        run.await_steps(150)
        before = time.time()
        self.slow_down("h2", "100mbit")
        try:
            def blamed(ended):
                return [line for line in stragglers(run) if line["part"] == "wire" and line.get("node") == "h2" and line["ended"] == ended]
            wait_for(lambda: blamed(False), f"the slow wires of h2; there are {stragglers(run)}")
            self.assertEqual(blamed(False)[0]["cause"], "slow_wire")
            self.assertGreater(blamed(False)[0]["time"], before)
        finally:
            self.slow_down("h2", "1gbit")
        wait_for(lambda: blamed(True), f"their end; there are {stragglers(run)}")
        self.stop_and_prove(run)

    def test_a_launcher_that_is_interrupted_or_killed(self):
        for number in (signal.SIGINT, signal.SIGKILL):
            with self.subTest(number):
                run = self.start_on(",".join(self.addresses[:2]), "--ranks", "3", *JOB)
                run.await_steps(10)
                run.process.send_signal(number)
                run.process.communicate(timeout=LIMIT_S)
                self.assertEqual(run.process.returncode, 130 if number == signal.SIGINT else -number)
                self.assert_nothing_left()

    # ---- what is wrong is said before anything is started

    def refused(self, hosts, *arguments, environment=None):
        run = self.start("--hosts", hosts, *arguments, environment={**self.environment, **(environment or {})})
        run.process.wait(LIMIT_S)
        out, err = run.process.communicate()
        self.assertNotEqual(run.process.returncode, 0, out)
        self.assertFalse(run.folder.exists(), out)
        self.assertEqual(err.count("\n"), 1, err)
        return run.process.returncode, err

    def test_a_host_that_nobody_knows(self):
        code, err = self.refused(f"{self.addresses[0]},no-such-host.invalid")
        self.assertEqual(code, 1)
        self.assertRegex(err, "ssh to no-such-host.invalid exited with status 255: ssh: Could not resolve hostname no-such-host.invalid")

    def test_a_host_that_refuses(self):
        other = {"PACELINE_SSH": self.environment["PACELINE_SSH"].replace(f"-i {self.keys}/key", "-p 23")}
        code, err = self.refused(self.addresses[0], environment=other)
        self.assertEqual(code, 1)
        self.assertRegex(err, f"ssh to {self.addresses[0]} exited with status 255: .*Connection refused")

    def test_a_machine_with_two_names(self):
        code, err = self.refused(f"{self.addresses[0]},root@{self.addresses[0]}")
        self.assertEqual(code, 2)
        self.assertIn("node h1 is there twice", err)

    def test_more_ranks_than_the_job_may_have(self):
        code, err = self.refused(",".join(self.addresses), "--ranks", "5")
        self.assertEqual(code, 2)
        self.assertIn("5 ranks are outside the job's limits of 1 to 4", err)

    def test_a_launcher_that_has_chosen_the_machines_already(self):
        code, err = self.refused("a,b", environment={"SLURM_STEP_ID": "0", "SLURM_PROCID": "0", "SLURM_STEP_NUM_TASKS": "1",
                                                      "SLURM_LOCALID": "0", "SLURM_NODEID": "0", "SLURM_STEP_TASKS_PER_NODE": "1",
                                                      "SLURM_NNODES": "1"})
        self.assertEqual(code, 2)
        self.assertIn("--hosts under srun", err)

    def test_an_agent_that_cannot_take_part(self):
        code, err = self.refused(self.addresses[0], environment={"PACELINE_INTERFACE": "eth7"})
        self.assertEqual(code, 2)
        self.assertIn(f"an agent cannot take part: {self.addresses[0]}: paceline: PACELINE_INTERFACE is 'eth7'", err)

    def test_programs_that_are_not_there(self):
        code, err = self.refused("a", environment={"PACELINE_SSH": "/nonexistent/ssh"})
        self.assertEqual(code, 2)
        self.assertIn("there is no /nonexistent/ssh", err)


if __name__ == "__main__":
    unittest.main()

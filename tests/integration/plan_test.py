#!/usr/bin/python3
"""`paceline plan`: for this machine, for one with GPUs (a driver that is a test's), and for clusters in files."""
import json
import os
import pathlib
import shutil
import subprocess
import unittest

from launcher_fixture import BUILD, Launched, main

NVML = os.path.join(BUILD, "tests", "unit", "libpaceline_fake_nvml.so")
CLUSTER = {"nodes": [
    {"name": "gpu[01-03]", "cores": 64, "numa_nodes": 2, "free_memory_gib": 500,
     "gpus": {"count": 8, "kind": "NVIDIA H100 80GB HBM3", "memory_gib": 80, "nvlink": True},
     "cards": [{"name": "mlx5_0:1", "numa_node": 0, "gbit_per_s": 400}, {"name": "mlx5_1:1", "numa_node": 1, "gbit_per_s": 400}]},
    {"name": "old1", "cores": 16, "gpus": {"count": 2, "kind": "Tesla T4", "memory_gib": 16}},
    {"name": "gpu09", "cores": 64, "refused": "is drained: bad disk"}]}
DOCUMENT = pathlib.Path(os.environ.get("PACELINE_SOURCE_DIR", ".")) / "docs" / "planning.md"


class PlanTest(Launched, unittest.TestCase):
    def plan(self, *arguments, **environment):
        return self.run_program("plan", "job.yaml", *arguments, **environment)

    def plan_json(self, *arguments, **environment):
        code, out, err = self.plan("--json", *arguments, **environment)
        self.assertEqual(code, 0, err)
        return json.loads(out)

    def plan_cluster(self, *arguments):
        self.write("cluster.json", json.dumps(CLUSTER))
        return self.plan("--inventory", "cluster.json", "--set", "ranks.max=64", *arguments)

    def test_here_it_is_what_train_does(self):
        planned = self.plan_json("--ranks", "2")
        code, _, err = self.run_program("train", "job.yaml", "--ranks", "2", "--run-dir", "run")
        self.assertEqual(code, 0, err)
        self.assertEqual([",".join(map(str, rank["cpus"])) for rank in planned["ranks"]],
                         [self.started("run", rank)["cpus"] for rank in (0, 1)])
        self.assertEqual([str(rank["threads"]) for rank in planned["ranks"]], [self.started("run", rank)["threads"] for rank in (0, 1)])
        self.assertEqual(os.listdir(self.folder).count("runs"), 0)

    def test_gpus_of_this_machine(self):
        planned = self.plan_json("--device", "gpu", PACELINE_NVML=NVML, FAKE_NVML_GPUS="4", CUDA_VISIBLE_DEVICES="1,2,3")
        self.assertEqual([rank["gpu"]["uuid"] for rank in planned["ranks"]], ["GPU-00000001", "GPU-00000002", "GPU-00000003"])
        self.assertEqual([gpu["linked"] for gpu in planned["nodes"][0]["gpus"]], [[], [2], [1]])
        planned = self.plan_json("--device", "gpu", "--ranks", "2", PACELINE_NVML=NVML, FAKE_NVML_GPUS="4", CUDA_VISIBLE_DEVICES="1,2,3")
        self.assertEqual([rank["gpu"]["uuid"] for rank in planned["ranks"]], ["GPU-00000002", "GPU-00000003"])
        code, out, err = self.plan(PACELINE_NVML=NVML, FAKE_NVML_BROKEN="1")
        self.assertEqual(code, 0)
        self.assertIn("the GPU driver does not start: Driver Not Loaded", err)
        self.assert_refused(self.plan("--gpu-memory", "100", PACELINE_NVML=NVML), 2, "has no GPU with 100 GiB (but 80 GiB)")

    def test_a_cluster_in_a_file(self):
        code, out, err = self.plan_cluster("--device", "gpu", "--ranks", "12", "--gpu-memory", "40")
        self.assertEqual(code, 0, err)
        lines = out.splitlines()
        self.assertEqual(lines[0], "tiny: 12 ranks, each with a GPU, on 2 of 5 nodes")
        self.assertEqual(lines[2].split(), ["0", "gpu01", "0", "NVIDIA", "H100", "80GB", "HBM3", "0-7", "8", "mlx5_0:1"])
        self.assertEqual(lines[-3:], ["gpu03  is not needed", "old1   has no GPU with 40 GiB (but 16 GiB)", "gpu09  is drained: bad disk"])
        # What it writes, it reads.
        code, again, err = self.plan_cluster("--device", "gpu", "--ranks", "12", "--json")
        self.write("again.json", again)
        code, out2, err = self.plan("--inventory", "again.json", "--set", "ranks.max=64", "--device", "gpu", "--ranks", "12", "--gpu-memory", "40")
        self.assertEqual((code, out2), (0, out), err)

    def test_the_documents_example(self):
        text = DOCUMENT.read_text()
        self.write("cluster.json", text.split("```json\n")[1].split("```")[0])
        shown = text.split("    $ paceline plan ")[1].split("\n\n")[0].splitlines()
        code, out, err = self.plan(*shown[0].split()[1:], "--set", "ranks.max=64")
        self.assertEqual(code, 0, err)
        self.assertEqual([line.strip() for line in shown[1:]], [line.strip() for line in out.split("\n\n")[0].replace("tiny:", "gpt:").splitlines()])

    def test_refusals(self):
        self.assert_refused(self.plan_cluster("--gpu-kind", "A100"), 2, "1 rank needs a GPU, and the 5 nodes have room for 0",
                            "gpu01 has no GPU of kind A100 (but NVIDIA H100 80GB HBM3)", "and 2 more")
        self.assert_refused(self.plan_cluster("--device", "gpu", "--ranks", "27"), 2, "27 ranks need a GPU each, and the 5 nodes have room for 26")
        self.assert_refused(self.plan_cluster("--ranks", "65"), 2, "65 ranks are outside the job's limits")
        self.assert_refused(self.plan_cluster("--hosts", "a"), 2, "--inventory and --hosts or --starter")
        self.assert_refused(self.plan_cluster("--device", "cpu", "--gpu-kind", "T4"), 2, "--device cpu")
        self.assert_refused(self.plan("--inventory", "none.json"), 2, "--inventory: cannot open none.json")
        self.write("bad.json", '{"nodes": [{"name": "a", "coers": 3}]}')
        self.assert_refused(self.plan("--inventory", "bad.json"), 2, "bad.json, node a: the node has an unknown key coers (did you mean cores?)")
        self.assert_refused(self.run_program("plan", "none.yaml"), 2, "none.yaml")

    def test_inventory_on_standard_input(self):
        done = subprocess.run([os.environ.get("PACELINE_PROGRAM", os.path.join(BUILD, "bin", "paceline")), "plan", "job.yaml", "--inventory", "-"],
                              cwd=self.folder, input=json.dumps(CLUSTER), capture_output=True, text=True, timeout=20)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("tiny: 4 ranks on 1 of 5 nodes", done.stdout)

    def test_under_mpirun(self):
        mpirun = shutil.which("mpirun")
        if mpirun is None:
            self.skipTest("there is no mpirun here")
        process = self.start("plan", "job.yaml", before=(mpirun, "--oversubscribe", "-np", "2"), OMPI_ALLOW_RUN_AS_ROOT="1",
                             OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1")
        code, _, err = self.finish(process)
        self.assertEqual(code, 2)
        self.assertEqual(err.count("plan is the work of one process"), 1, err)


if __name__ == "__main__":
    main()

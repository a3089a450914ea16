"""Ranks on GPUs, of which a stand-in for the driver tells, and the CPU computes in their place: what the launcher and the
workers do for them is all there, and so is the whole of training."""

import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import coordinated
import training_test as small
from coordinated import Run
from elastic_test import LIMIT_S, wait_for
from waiting import end_with

GPUS = {"PACELINE_NVML": str(small.BUILD / "tests/unit/libpaceline_fake_nvml.so"), "PACELINE_GPU_STAND_IN": "cpu",
        "FAKE_NVML_GPUS": "4", "CUDA_VISIBLE_DEVICES": "0,1,2,3"}
ON_GPUS = ("--set", "device=gpu")


def gpu_of(pid):
    environment = pathlib.Path(f"/proc/{pid}/environ").read_bytes().decode().split("\0")
    return [entry.partition("=")[2] for entry in environment if entry.startswith("CUDA_VISIBLE_DEVICES=")]


class GpuRanks(coordinated.Coordinated):
    def paceline(self, *arguments, **environment):
        done = subprocess.run([str(small.PACELINE), *arguments], cwd=self.folder, text=True, capture_output=True, timeout=LIMIT_S,
                              env={**os.environ, **GPUS, **environment})
        return done.returncode, done.stdout, done.stderr

    def train(self, run, *arguments, **environment):
        code, out, err = self.paceline("train", "job.yaml", "--run-dir", run, *ON_GPUS, *arguments, **environment)
        return code, out, err

    def assert_refused(self, done, code, sentence):
        self.assertEqual(done[0], code, done)
        self.assertIn(sentence, done[2])

    def test_they_train_as_ranks_on_cpus_do(self):
        job = ("--ranks", "2", "--set", "model={kind: cnn}", "--set", "steps=30", "--set", "reproducible=true", "--set",
               "checkpoint.every_steps=10")
        code, out, err = self.train("on-gpus", *job)
        self.assertEqual(code, 0, err)
        self.assertIn("2 ranks with 1 thread each and a GPU of its own, on node ", out)
        summary = json.loads((self.folder / "on-gpus/summary.json").read_text())
        done = self.paceline("train", "job.yaml", "--run-dir", "on-cpus", *job)
        self.assertEqual(done[0], 0, done[2])
        on_cpus = json.loads((self.folder / "on-cpus/summary.json").read_text())
        for key in ("weights_sha256", "train_loss", "eval"):
            self.assertEqual(summary[key], on_cpus[key])
        self.assertEqual(self.paceline("audit", "on-gpus")[0], 0)
        done = self.paceline("eval", "on-gpus", "--ranks", "1", "--json", "eval.json")
        self.assertEqual(done[0], 0, done[2])
        self.assertEqual(json.loads((self.folder / "eval.json").read_text())["eval"]["accuracy"], summary["eval"]["accuracy"])
        # An export needs none, and can be made of what only GPUs compute in.
        job = self.folder / "on-gpus/job.json"
        job.write_text(job.read_text().replace('"dtype": "f32"', '"dtype": "f16"'))
        self.assertIn("f16", job.read_text())
        done = self.paceline("export", "on-gpus", "--format", "torchscript", "--out", "model.pt", FAKE_NVML_GPUS="0")
        self.assertEqual(done[0], 0, done[2])

    def test_each_has_a_gpu_of_its_own_whoever_comes_and_goes(self):
        run = Run(self, "--ranks", "2", *ON_GPUS, "--set", "epochs=100000", "--set", "ranks.max=8", environment=GPUS)
        run.await_steps(20)

        def gpus():
            return sorted(gpu for pid in run.workers() for gpu in gpu_of(pid))
        first = gpus()
        self.assertEqual(len(set(first)), 2)
        self.assertRegex(" ".join(first), r"^GPU-\d{8} GPU-\d{8}$")
        run.kill(0)
        run.await_ranks(2, after=1)
        self.assertEqual(len(set(gpus())), 2)
        generation = run.generation()
        asked = self.paceline("resize", str(run.folder), "4")
        self.assertEqual(asked[0], 0, asked)
        run.await_ranks(4, after=generation)
        self.assertEqual(gpus(), [f"GPU-{number:08}" for number in range(4)])
        # One dies where all are taken: the new one gets its GPU.
        generation = run.generation()
        run.kill(1)
        run.await_ranks(4, after=generation)
        self.assertEqual(gpus(), [f"GPU-{number:08}" for number in range(4)])
        # For a fifth there is none, and the job goes on with those that it has.
        asked = self.paceline("resize", str(run.folder), "5")
        self.assertIn("4", asked[1] + asked[2])
        run.await_steps(run.steps() + 20)
        self.assertEqual(len(run.workers()), 4)
        self.stop_and_prove(run)

    def test_who_joins_brings_gpus_that_no_other_agent_has(self):
        run = Run(self, "--ranks", "2", *ON_GPUS, "--set", "epochs=100000", "--set", "ranks.max=8",
                  environment={**GPUS, "CUDA_VISIBLE_DEVICES": "0,1"})
        run.await_steps(20)
        generation = run.generation()
        refused = self.paceline("join", str(run.folder), CUDA_VISIBLE_DEVICES="1,2")
        self.assertEqual(refused[0], 1, refused)
        self.assertRegex(refused[2], r"GPU GPU-0+1 of node \S+ is another agent's of this job already: "
                                     r"leave it out of CUDA_VISIBLE_DEVICES")
        self.assertEqual(run.generation(), generation, "the job is as it was")
        joiner = subprocess.Popen([str(small.PACELINE), "join", str(run.folder)], cwd=self.folder, text=True,
                                  env={**os.environ, **GPUS, "CUDA_VISIBLE_DEVICES": "2,3"},
                                  stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        end_with(self, joiner)
        wait_for(lambda: len(run.status()["agents"]) == 2, "the second agent")
        asked = self.paceline("resize", str(run.folder), "4")
        self.assertEqual(asked[0], 0, asked)
        run.await_ranks(4, after=generation)
        gpus = sorted(gpu for pid in small.workers(self.folder) for gpu in gpu_of(pid))
        self.assertEqual(gpus, [f"GPU-{number:08}" for number in range(4)])
        self.stop_and_prove(run)
        self.assertEqual(joiner.wait(timeout=LIMIT_S), 128 + signal.SIGTERM, "the job was stopped")

    def test_a_worker_waits_for_the_process_that_holds_its_gpu(self):
        # Two GPUs for two ranks, and a process that stays for a while when its worker is dead.
        slow_to_go = self.folder / "slow-to-go.sh"
        slow_to_go.write_text(f'#!/bin/sh\n{small.PACELINE.parent}/paceline-worker "$@"\nsleep 4\n'
                              f'touch "{self.folder}/exit-$PACELINE_RANK"\n')
        slow_to_go.chmod(0o755)
        run = Run(self, "--ranks", "2", *ON_GPUS, "--set", "epochs=100000",
                  environment={**GPUS, "FAKE_NVML_GPUS": "2", "PACELINE_WORKER": str(slow_to_go),
                               "PACELINE_FAULTS": "1:commit@20:kill"})
        run.await_ranks(2, after=1)
        self.assertTrue((self.folder / "exit-1").exists(), "its process had ended when the next one was there")
        self.stop_and_prove(run)

    def test_a_run_goes_on_on_the_other_kind(self):
        job = ("--ranks", "2", "--set", "epochs=100000", "--set", "checkpoint.every_steps=10")
        run = Run(self, *job, *ON_GPUS, environment=GPUS)
        run.await_steps(30)
        run.process.send_signal(signal.SIGTERM)
        self.assertEqual(run.finish()["status"], "stopped", run.err)
        for device in ("cpu", "gpu"):
            steps = json.loads((run.folder / "summary.json").read_text())["steps"]
            done = self.paceline("train", "--resume", str(run.folder), "--ranks", "2", "--set", f"device={device}",
                                 "--set", f"steps={steps + 20}")
            self.assertEqual(done[0], 2, "steps decide what becomes of a job")
            process = subprocess.Popen([str(small.PACELINE), "train", "--resume", str(run.folder), "--ranks", "2", "--set",
                                        f"device={device}"], cwd=self.folder, text=True, env={**os.environ, **GPUS},
                                       stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            wait_for(lambda steps=steps: run.steps() > steps + 10 or process.poll() is not None, "more steps")
            process.send_signal(signal.SIGTERM)
            out, err = process.communicate(timeout=LIMIT_S)
            self.assertEqual(json.loads((run.folder / "summary.json").read_text())["status"], "stopped", err)
            self.assertEqual("a GPU of its own" in out, device == "gpu", out)
        self.assertEqual(self.paceline("audit", str(run.folder))[0], 0)

    def test_without_gpus_it_says_what_is_missing(self):
        run = ("runs/none", "--ranks", "2")
        self.assert_refused(self.train(*run, FAKE_NVML_GPUS="1"), 2, "2 ranks need a GPU each, and the node has room for 1")
        self.assert_refused(self.train(*run, FAKE_NVML_GPUS="0"), 2,
                            "2 ranks need a GPU each, and the node has room for 0: ")
        self.assert_refused(self.train(*run, PACELINE_NVML="/nonexistent"), 1, "PACELINE_NVML: /nonexistent: cannot open")
        self.assert_refused(self.train(*run, FAKE_NVML_BROKEN="1"), 1, "Driver Not Loaded")
        self.assert_refused(self.train(*run, FAKE_NVML_LOST="1", CUDA_VISIBLE_DEVICES="1"), 1, "GPU 1 does not answer: ")
        self.assert_refused(self.train(*run, FAKE_NVML_LOST="1", CUDA_VISIBLE_DEVICES="0,1"), 2, "the node has room for 1")
        self.assertFalse((self.folder / "runs/none").exists())
        done = self.train(*run, "--set", "epochs=1", PACELINE_GPU_STAND_IN="")
        self.assertEqual(done[0], 1, done)
        self.assertRegex(done[2], "was built without CUDA: build Paceline with one that has it|this process sees no GPU")

    @unittest.skipUnless(shutil.which("mpirun"), "Open MPI is not installed")
    def test_tasks_take_the_gpus_in_turn_and_are_told_where_two_have_the_same(self):
        def under_mpirun(run, tasks="2", **environment):
            done = subprocess.run(["mpirun", "--allow-run-as-root", "--oversubscribe", "-n", tasks, str(small.PACELINE), "train",
                                   "job.yaml", "--run-dir", run, *ON_GPUS, "--set", "epochs=1", "--set", "steps=20"],
                                  cwd=self.folder, text=True, capture_output=True, timeout=LIMIT_S,
                                  env={**os.environ, **GPUS, **environment})
            return done.returncode, done.stdout, done.stderr
        done = under_mpirun("tasks")
        self.assertEqual(done[0], 0, done)
        self.assertIn("a GPU of its own", done[1])
        done = under_mpirun("few", "3", CUDA_VISIBLE_DEVICES="1,2")
        self.assertNotEqual(done[0], 0)
        self.assertIn("sees 2 GPUs, neither one of its own nor one for each task", done[1] + done[2])
        done = under_mpirun("same", CUDA_VISIBLE_DEVICES="2")
        self.assertNotEqual(done[0], 0)
        self.assertRegex(done[1] + done[2], r"two tasks on node \S+ have the same GPU, GPU-\S+: give each one of its own")
        self.assertEqual((done[1] + done[2]).count("have the same GPU"), 2, "each task says it, and nothing else was tried")


if __name__ == "__main__":
    unittest.main()

"""Coordinators that die, freeze or are spoken to by strangers, in real training, and what people ask of them."""

import json
import os
import pathlib
import random
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import time
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import training_test as small
from coordinated import ENDLESS, MODEL, Coordinated, Run, coordinators, is_alive
from elastic_test import LIMIT_S, wait_for
from refusals import Refusals
from waiting import Hold, end_with

class Coordinators(Coordinated, Refusals):
    # ---- coordinators that are killed

    def test_a_killed_coordinator_is_succeeded(self):
        run = self.begin("--ranks", "3", *ENDLESS)
        status = run.status()
        self.assertEqual((status["coordinator"]["term"], status["coordinator"]["pid"]), (1, run.address(1)["pid"]))
        self.assertEqual(coordinators(self.folder), [status["coordinator"]["pid"]])
        workers = run.workers()
        os.kill(status["coordinator"]["pid"], signal.SIGKILL)
        status = run.await_term(2)
        self.assertEqual((status["state"], status["generation"], status["repairs"]), ("running", 1, 0))
        self.assertEqual(sorted(rank["pid"] for rank in status["ranks"]), sorted(workers))
        self.assertEqual(run.workers(), workers)
        summary, terms = self.stop_and_prove(run)
        self.assert_unharmed(summary)
        self.assertEqual(terms, [1, 2])
        self.assertRegex(run.err, r"the coordinator was lost; another coordinator, of term 2, has taken over after step \d+, with 3 workers")

    def test_a_coordinator_and_a_worker_at_once(self):
        for place in (0, 2):
            with self.subTest(place):
                run = self.begin("--ranks", "3", *ENDLESS)
                victims = (run.workers()[place], run.address(1)["pid"])
                for pid in victims:
                    os.kill(pid, signal.SIGKILL)
                run.await_term(2)
                run.await_ranks(3, after=1)
                summary, terms = self.stop_and_prove(run)
                self.assertEqual((summary["repairs"], terms), (1, [1, 2]))

    def test_again_and_again(self):
        run = self.begin("--ranks", "3", *ENDLESS)
        generator = random.Random(1)
        for kill in range(1, 6):
            self.assertEqual(run.kill_coordinator(), kill)
            if kill in (2, 4):
                time.sleep(generator.uniform(0, 0.5))
                generation = run.generation()
                run.kill(1)
                run.await_ranks(3, after=generation)
            run.await_term(kill + 1)
            run.await_steps(run.steps() + generator.randrange(1, 30))
        summary, terms = self.stop_and_prove(run)
        self.assertEqual(terms, [1, 2, 3, 4, 5, 6])
        self.assertGreaterEqual(summary["generation"], 3)

    def test_during_repair(self):
        for when in ("at once", "recorded", "a joiner"):
            with self.subTest(when):
                run = self.begin("--ranks", "3", *ENDLESS)
                run.kill(1)
                if when == "recorded":
                    run.await_generation(2)
                elif when == "a joiner":
                    wait_for(lambda: (run.folder / "logs/rank-003.log").exists(), "a new worker")
                run.kill_coordinator()
                run.await_term(2)
                run.await_ranks(3, after=1)
                summary, _ = self.stop_and_prove(run)
                self.assertGreaterEqual(summary["generation"], 2)

    def test_during_preparation(self):
        for when in ("at once", "started", "recorded"):
            with self.subTest(when):
                run = self.begin("--ranks", "2", *ENDLESS)
                self.assertEqual(run.ask("resize", 4)[0], 0)
                if when == "started":
                    wait_for(lambda: len(run.workers()) == 4, "new workers")
                elif when == "recorded":
                    run.await_generation(2)
                run.kill_coordinator()
                run.await_ranks(4, after=1)
                summary, terms = self.stop_and_prove(run)
                self.assertEqual((summary["repairs"], terms), (0, [1, 2]))
                # Also a change that the ranks made while there was no coordinator is known.
                changes = [number for number, _ in run.trained_in() if number > 1]
                self.assertEqual(summary["resizes"], len(changes))
                self.assertEqual(summary["generation"], changes[-1])

    def test_who_joins_knows_what_no_coordinator_has_heard(self):
        # Two ranks change while nobody listens, and then the one dies that trained before. The other holds all that came of it.
        hold = Hold(self.folder, 40)
        run = self.start("--ranks", "1", *ENDLESS, environment={**hold.environment, "PACELINE_LOG": "info"})
        run.await_steps(40)
        self.assertEqual(run.ask("resize", 2)[0], 0)
        run.await_generation(2)
        time.sleep(1)  # both are told of it; the rest needs no coordinator
        os.kill(run.address(1)["pid"], signal.SIGSTOP)
        hold.let_go(40)
        joiner = run.folder / "logs/rank-001.log"
        wait_for(lambda: "generation 2 goes on after step" in joiner.read_text(), "the change")
        os.kill(run.workers()[0], signal.SIGKILL)
        run.kill_coordinator()
        run.await_term(2)
        run.await_ranks(2, after=2)
        _, terms = self.stop_and_prove(run)
        self.assertEqual(terms, [1, 2])

    def test_at_any_time_of_a_short_job(self):
        steps = 25
        job = (*MODEL, "--set", "epochs=100000", "--set", f"steps={steps}", "--set", "reproducible=true", "--set", "ranks.max=3")
        undisturbed, _ = self.assert_proved(self.start("--ranks", "1", *job), steps)
        generator = random.Random(2)
        # Before it has its term, before the first step, in the middle, near the end.
        for delay in (None, 0, 0.05, *(generator.uniform(0.1, 5) for _ in range(9))):
            with self.subTest(delay):
                run = self.start("--ranks", "2", *job)
                if delay is None:
                    for pid in wait_for(lambda: coordinators(run.folder), "a coordinator"):
                        os.kill(pid, signal.SIGKILL)
                else:
                    wait_for(run.term, "a coordinator in charge")
                    time.sleep(delay)
                    run.kill_coordinator()
                summary, _ = self.assert_proved(run, steps)
                self.assertEqual(summary["weights_sha256"], undisturbed["weights_sha256"])
                self.assertEqual(summary["repairs"], 0, run.err)

    def test_at_the_end(self):
        steps = 30
        generator = random.Random(3)
        for delay in [0] + [generator.uniform(0, 0.3) for _ in range(5)]:
            with self.subTest(delay):
                hold = Hold(self.folder, steps - 1)
                run = self.begin("--ranks", "2", *MODEL, "--set", "epochs=100000", "--set", f"steps={steps}", "--set", "eval_every=1",
                                 environment=hold.environment, steps=steps - 2)
                hold.let_go(steps - 1)
                time.sleep(delay)
                run.kill_coordinator()
                self.assert_proved(run, steps)

    def test_deaths_of_all_kinds_do_not_change_a_bit(self):
        steps = 150
        job = (*MODEL, "--set", "epochs=100000", "--set", f"steps={steps}", "--set", "reproducible=true",
               "--set", "optimizer.learning_rate=0.02", "--set", "augment.flip=true", "--set", "checkpoint={every_steps: 10}")
        undisturbed, _ = self.assert_proved(self.start("--ranks", "1", *job), steps)
        deaths = range(10, 130, 20)
        hold = Hold(self.folder, *(step + 15 for step in deaths))
        run = self.begin("--ranks", "3", *job, environment=hold.environment, steps=3)
        generator = random.Random(4)
        for step in deaths:
            run.await_steps(step)
            run.kill_coordinator()
            time.sleep(generator.uniform(0, 0.6))
            # Never one that has not trained: of three such deaths in a row the job would learn to start no more.
            if len(run.workers()) == 3 and run.trained_in()[-1][1] == 3:
                run.kill(generator.randrange(3))
            hold.let_go(step + 15)
        disturbed, terms = self.assert_proved(run, steps)
        self.assertGreaterEqual(len(terms), 4)
        self.assertEqual(disturbed["weights_sha256"], undisturbed["weights_sha256"])
        self.assertEqual(disturbed["train_loss"], undisturbed["train_loss"])

    def test_a_frozen_coordinator_is_succeeded(self):
        run = self.begin("--ranks", "2", *ENDLESS)
        frozen = run.address(1)["pid"]
        workers = run.workers()
        os.kill(frozen, signal.SIGSTOP)
        wait_for(lambda: run.term() >= 2 or run.process.poll() is not None, "another coordinator")
        run.await_term(2)
        os.kill(frozen, signal.SIGCONT)
        wait_for(lambda: not is_alive(frozen), "the end of the one that was frozen")
        self.assertIn("a coordinator of term 2 has taken over from that of term 1", (run.folder / "logs/coordinator-1.log").read_text())
        self.assertEqual(run.workers(), workers)
        summary, terms = self.stop_and_prove(run)
        self.assert_unharmed(summary)
        self.assertEqual(terms, [1, 2])

    def test_a_newer_coordinator_takes_over_while_the_old_one_works(self):
        run = self.begin("--ranks", "2", *ENDLESS)
        old = run.address(1)["pid"]
        process = subprocess.Popen([str(small.PACELINE), "coordinator", str(run.folder), "--after", "1"], cwd=self.folder,
                                   stderr=subprocess.PIPE)
        self.jobs.append(process)
        end_with(self, process)
        run.await_term(2)
        wait_for(lambda: not is_alive(old), "the end of the old one")
        # Who comes too late for a term says so, and has done nothing.
        late = subprocess.run([str(small.PACELINE), "coordinator", str(run.folder), "--after", "1"], cwd=self.folder, text=True,
                              capture_output=True, timeout=LIMIT_S)
        self.assert_refused((late.returncode, late.stdout, late.stderr), 0, "coordinators/2.json is there already")
        summary, terms = self.stop_and_prove(run)
        self.assert_unharmed(summary)
        self.assertEqual(terms, [1, 2])
        process.communicate(timeout=LIMIT_S)
        self.assertEqual(process.returncode, 0)

    def test_what_was_trained_under_another_coordinator_can_be_resumed(self):
        job = ("--ranks", "2", *ENDLESS, "--set", "checkpoint={every_steps: 10}")
        run = self.begin(*job)
        run.kill_coordinator()
        run.await_term(2)
        run.await_steps(run.steps() + 40)
        # The ranks are those of the first term still; others follow, and may overtake what those have not written to its end.
        self.assertEqual(run.ask("resize", 3)[0], 0)
        run.await_ranks(3, after=1)
        self.stop_and_prove(run)
        stopped = json.loads((run.folder / "summary.json").read_text())["steps"]
        self.assertEqual({path.name[-6:] for path in (run.folder / "checkpoints").glob("step-*")}, {"term-2"})
        for path in (run.folder / "checkpoints").glob(f"step-{stopped:09}.*"):
            shutil.rmtree(path)
        run.process = subprocess.Popen([str(small.PACELINE), "train", "--resume", str(run.folder), "--ranks", "1"], cwd=self.folder,
                                       text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.jobs.append(run.process)
        end_with(self, run.process)
        run.await_term(3)
        run.await_steps(stopped + 5)
        summary, terms = self.stop_and_prove(run)
        self.assertEqual(terms, [1, 2, 3])
        resumed = int(re.search(r"resumed after step (\d+)", run.out)[1])
        self.assertGreater(resumed, stopped - 40)
        self.assertLess(resumed, stopped)

    def test_more_checkpoints_than_can_be_published(self):
        # Steps of less than a millisecond, and a checkpoint after each.
        run = self.begin("--ranks", "2", "--set", "epochs=100000", "--set", "checkpoint={every_steps: 1}", steps=100)
        self.assertEqual(run.ask("resize", 3)[0], 0)
        for _ in range(20):
            self.assertIsNotNone(run.status())
        run.await_ranks(3, after=1)
        summary, terms = self.stop_and_prove(run)
        self.assertEqual((summary["repairs"], summary["resizes"], terms), (0, 1, [1]))

    def test_a_worker_whose_last_words_are_no_text(self):
        # 400 bytes of a line are kept, and may end anywhere in a letter.
        worker = self.folder / "worker.sh"
        worker.write_text('#!/bin/sh\nif [ "$PACELINE_RANK" = 1 ]; then printf "\\377\\376 x%.0s\\n" >&2; for i in 1 2 3; do printf "ü%.0s" '
                          '$(seq 300) >&2; echo >&2; done; sleep 2; exit 3; fi\n'
                          f'exec {small.PACELINE.parent}/paceline-worker "$@"\n')
        worker.chmod(0o755)
        run = self.start("--ranks", "2", *ENDLESS, environment={"PACELINE_WORKER": str(worker)})
        run.await_steps(10)
        summary, terms = self.stop_and_prove(run)
        self.assertIn("exited with status 3", run.err)
        self.assertEqual(terms, [1])

    def test_an_agent_that_is_stopped_for_a_while(self):
        for with_workers in (False, True):
            with self.subTest(with_workers):
                run = self.begin("--ranks", "2", *ENDLESS)
                pids = [run.process.pid, *(run.workers() if with_workers else ())]
                for pid in pids:
                    os.kill(pid, signal.SIGSTOP)
                time.sleep(8)  # longer than one of several would be waited for
                for pid in pids:
                    os.kill(pid, signal.SIGCONT)
                # Of workers that trained on nothing was heard, so that one of them may have been replaced.
                summary, terms = self.stop_and_prove(run)
                self.assertLessEqual(summary["repairs"], 0 if with_workers else 1)
                self.assertEqual(terms, [1])

    # ---- what people ask

    def await_size(self, run, size):
        """Until so many ranks train, and nobody else is there."""
        def settled(status):
            ranks = status["ranks"]
            return (status["state"] == "running" and len(ranks) == size
                    and all(rank["rank"] is not None and rank["state"] == "training" for rank in ranks))
        status = run.await_status(settled, f"{size} ranks")
        wait_for(lambda: len(run.workers()) == size, f"{size} workers")
        self.assertEqual([rank["rank"] for rank in status["ranks"]], list(range(size)))
        self.assertEqual(sorted(rank["pid"] for rank in status["ranks"]), run.workers())
        return status

    def test_resize(self):
        run = self.begin("--ranks", "2", *ENDLESS)
        first = self.await_size(run, 2)
        for before, size in ((2, 4), (4, 1), (1, 3)):
            generation = run.generation()
            code, out, err = run.ask("resize", size)
            self.assertEqual((code, err), (0, ""))
            self.assertIn(f"from {before} to {size}", out)
            run.await_ranks(size, after=generation)
            status = self.await_size(run, size)
            self.assertEqual((status["wish"], status["repairs"]), (size, 0))
        self.assertEqual(run.ask("resize", 3), (0, "the job is to have 3 ranks already\n", ""))
        self.assertEqual(status["ranks"][0]["pid"], first["ranks"][0]["pid"])
        text = run.ask("status")[1]
        self.assertRegex(text, r"running: step \d+ of \d+, generation 4, 0 repairs, 3 resizes\n"
                               r"coordinator of term 1: pid \d+ on \S+, 127.0.0.1:\d+\nrank +worker")
        summary, _ = self.stop_and_prove(run)
        self.assertEqual((summary["repairs"], summary["resizes"]), (0, 3))

    def test_resizes_that_overtake_each_other(self):
        run = self.begin("--ranks", "2", *ENDLESS)
        generator = random.Random(5)
        for _ in range(12):
            self.assertEqual(run.ask("resize", generator.randrange(1, 5))[0], 0)
            time.sleep(generator.uniform(0, 0.7))
        self.assertEqual(run.ask("resize", 3)[0], 0)
        self.await_size(run, 3)
        summary, _ = self.stop_and_prove(run)
        self.assertEqual(summary["repairs"], 0)

    def test_what_cannot_be_asked_is_refused(self):
        run = self.begin("--ranks", "2", *ENDLESS, "--set", "ranks={min: 2, max: 4}")
        self.assert_refused(run.ask("resize", 5), 2, "the job can have 2 to 4 ranks", "not 5")
        self.assert_refused(run.ask("resize", 1), 2, "the job can have 2 to 4 ranks", "not 1")
        for nonsense in ("0", "-1", "x", "1e9", "99999999999999999999", ""):
            with self.subTest(nonsense):
                self.assert_refused(run.ask("resize", nonsense), 2)
        self.assert_refused(run.ask("resize"), 2)
        self.assert_refused(run.ask("drain", "nowhere"), 2, "the job has nothing on a node nowhere; its nodes are ")
        self.assert_refused(run.ask("drain", "\udcff\n"), 2, "the job has nothing on a node ")
        for command in (("status",), ("resize", 2), ("drain", "n"), ("stop",)):
            for place in ("data", "job.yaml", "nowhere"):
                with self.subTest(command=command, place=place):
                    done = subprocess.run([str(small.PACELINE), command[0], place, *map(str, command[1:])], cwd=self.folder, text=True,
                                          capture_output=True, timeout=LIMIT_S)
                    self.assert_refused((done.returncode, done.stdout, done.stderr), 2, place, "is no run directory")
        self.assertEqual(run.ask("stop"), (0, "the ranks stop together after the step in progress\n", ""))
        summary = run.finish()
        self.assert_unharmed(summary)
        self.assert_accounted_for(run, summary["steps"])
        for command in (("status",), ("resize", 2), ("drain", "n"), ("stop",)):
            self.assert_refused(run.ask(*command), 2, "has ended: stopped")

    def test_only_who_has_the_credentials_is_answered(self):
        run = self.begin("--ranks", "2", *ENDLESS)
        other = self.begin("--ranks", "1", *ENDLESS)
        own, away = run.folder / "credentials", run.folder / "away"
        self.assertEqual(own.stat().st_mode & 0o777, 0o700)
        for path in own.iterdir():
            self.assertEqual(path.stat().st_mode & 0o777, 0o600, path)
        commands = (("status",), ("resize", 1), ("stop",))
        own.rename(away)
        for command in commands:
            self.assert_refused(run.ask(*command), 2, str(own))
        shutil.copytree(other.folder / "credentials", own)
        for command in commands:
            code, _, err = run.ask(*command)
            self.assertNotEqual(code, 0)
            self.assertEqual(err.count("\n"), 1, err)
        for path in own.iterdir():
            path.write_text("nonsense")
        for command in commands:
            code, _, err = run.ask(*command)
            self.assertNotEqual(code, 0)
            self.assertEqual(err.count("\n"), 1, err)
        shutil.rmtree(own)
        away.rename(own)
        self.assertEqual(run.status()["state"], "running")
        for each in (run, other):
            self.assert_unharmed(self.stop_and_prove(each)[0])

    def test_drain(self):
        run = self.begin("--ranks", "2", *ENDLESS, environment={"PACELINE_NODE": "a,b"})
        self.assert_refused(run.ask("drain", "c"), 2, "the job has nothing on a node c; its nodes are a, b")
        status = run.status()
        self.assertEqual([rank["node"] for rank in status["ranks"]], ["a", "b"])
        code, out, err = run.ask("drain", "b")
        self.assertEqual((code, err), (0, ""))
        self.assertIn("on b leave at the next change of ranks", out)
        def drained(status):
            return status["state"] == "running" and status["generation"] > 1 and {rank["node"] for rank in status["ranks"]} == {"a"}
        run.await_status(drained, "the end of what was on b")
        # What was drained stays so, also under another coordinator.
        run.kill_coordinator()
        run.await_term(2)
        generation = run.generation()
        run.kill(1) if len(run.workers()) > 1 else run.ask("resize", 2)
        run.await_status(lambda status: status["generation"] > generation and drained(status), "a change after that")
        summary, _ = self.stop_and_prove(run)
        self.assertNotIn("b", [member["node"] for member in
                               json.loads((run.folder / f"generations/{summary['generation']}.json").read_text())["members"]])

    def test_drain_of_the_only_node(self):
        run = self.begin("--ranks", "2", *ENDLESS, environment={"PACELINE_NODE": "a"})
        code, out, _ = run.ask("drain", "a")
        self.assertEqual(code, 0)
        self.assertIn("they stay until there are more", out)
        self.assert_unharmed(self.stop_and_prove(run)[0])

    def await_nodes(self, run, *nodes):
        """Until exactly these have ranks, and those train."""
        def there(status):
            ranks = status["ranks"]
            return (status["state"] == "running" and sorted(rank["node"] for rank in ranks) == sorted(nodes)
                    and all(rank["state"] == "training" for rank in ranks))
        return run.await_status(there, f"ranks on {nodes}")

    def test_a_node_that_joins_and_leaves(self):
        run = self.begin("--ranks", "2", *ENDLESS, environment={"PACELINE_NODE": "a,a"})
        def agents(count):
            run.await_status(lambda status: len(status["agents"]) == count, f"{count} agents")
        other = self.join(run, "b")
        agents(2)
        # Cores of its own are better than those that other ranks use.
        self.assertEqual(run.ask("resize", 4)[0], 0)
        self.await_nodes(run, "a", "a", "b", "b")
        other.send_signal(signal.SIGTERM)
        self.await_nodes(run, "a", "a", "a", "a")
        self.assertEqual(other.wait(LIMIT_S), 0)
        agents(1)
        # And one that does not say goodbye, while nobody listens.
        self.assertEqual(run.ask("resize", 2)[0], 0)
        self.await_nodes(run, "a", "a")
        third = self.join(run, "c")
        agents(2)
        self.assertEqual(run.ask("resize", 4)[0], 0)
        self.await_nodes(run, "a", "a", "c", "c")
        run.kill_coordinator()
        third.kill()
        run.await_term(2)
        self.await_nodes(run, "a", "a", "a", "a")
        summary, _ = self.stop_and_prove(run)
        self.assertEqual(summary["ranks"], 4)
        self.assertGreaterEqual(summary["repairs"], 1)

    def test_stop(self):
        run = self.begin("--ranks", "2", *ENDLESS)
        self.assertEqual(run.ask("stop")[0], 0)
        summary = run.finish()
        self.assertEqual((run.process.returncode, summary["status"]), (143, "stopped"), run.err)
        self.assert_accounted_for(run, summary["steps"])
        self.assertTrue((run.folder / f"checkpoints/step-{summary['steps']:09}.term-1").is_dir())

    def test_stop_just_before_the_coordinator_dies(self):
        run = self.begin("--ranks", "2", *ENDLESS)
        self.assertEqual(run.ask("stop")[0], 0)
        run.kill_coordinator()
        # The stop may have died with it; whoever wants it asks again.
        time.sleep(1)
        run.ask("stop")
        summary = run.finish()
        self.assertEqual((run.process.returncode, summary["status"]), (143, "stopped"), run.err)
        self.assert_accounted_for(run, summary["steps"])

    # ---- strangers, and a disk that is full

    def test_strangers_at_the_port(self):
        run = self.begin("--ranks", "2", *ENDLESS)
        place = ("127.0.0.1", run.address(1)["port"])
        generator = random.Random(6)
        for size in (0, 1, 5, 100, 10_000, 1_000_000):
            with socket.create_connection(place, timeout=LIMIT_S) as stranger:
                try:
                    stranger.sendall(generator.randbytes(size))
                except OSError:
                    pass  # it has hung up
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        try:
            context.wrap_bio(incoming, outgoing, server_hostname="job.paceline").do_handshake()
        except ssl.SSLWantReadError:
            pass
        hello = outgoing.read()
        halves = []
        for part in (hello[:10], hello[:len(hello) // 2], hello):
            halves.append(socket.create_connection(place, timeout=LIMIT_S))
            halves[-1].sendall(part)
        for _ in range(3):
            flood = [socket.create_connection(place, timeout=LIMIT_S) for _ in range(200)]
            self.assertEqual(run.status()["state"], "running")
            for each in flood:
                each.close()
        # Somebody who speaks TLS, but has no certificate.
        with socket.create_connection(place, timeout=LIMIT_S) as plain:
            with self.assertRaises((ssl.SSLError, ConnectionError)):
                with context.wrap_socket(plain, server_hostname="job.paceline") as stranger:
                    stranger.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
                    while stranger.recv(4096):
                        pass
                    raise ConnectionError("it was closed")
        summary, terms = self.stop_and_prove(run)
        for half in halves:
            half.close()
        self.assert_unharmed(summary)
        self.assertEqual(terms, [1])

    def small_disk(self):
        """A folder on a filesystem of a few MiB."""
        folder = self.folder / f"disk{self.runs}"
        folder.mkdir()
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "paceline-test", str(folder)], capture_output=True, text=True)
        if done.returncode != 0:
            self.skipTest("no filesystem can be mounted here: " + done.stderr.strip())
        self.addCleanup(subprocess.run, ["umount", str(folder)], check=True)
        return folder

    def fill(self, folder):
        with open(folder / "filler", "ab", buffering=0) as filler:
            for size in (1 << 20, 4096, 1):
                try:
                    while True:
                        filler.write(bytes(size))
                except OSError:
                    pass

    def begin_on(self, folder):
        run = Run.__new__(Run)
        run.folder = folder / "run"
        run.process = subprocess.Popen(
            [str(small.PACELINE), "train", "job.yaml", "--run-dir", str(run.folder), "--ranks", "2", "--set", "eval_every=0", *ENDLESS],
            cwd=self.folder, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.jobs.append(run.process)
        end_with(self, run.process)
        run.await_steps(10)
        return run

    def test_a_full_disk_ends_the_job_with_a_sentence(self):
        folder = self.small_disk()
        run = self.begin_on(folder)
        self.fill(folder)
        out, err = run.process.communicate(timeout=LIMIT_S)
        self.assertEqual(run.process.returncode, 1, err)
        self.assertRegex(err, rf"paceline: .*{re.escape(str(run.folder))}/\S+: No space left on device")

    def test_a_successor_on_a_full_disk_ends_the_job_with_a_sentence(self):
        folder = self.small_disk()
        run = self.begin_on(folder)
        os.kill(run.address(1)["pid"], signal.SIGKILL)
        self.fill(folder)
        out, err = run.process.communicate(timeout=LIMIT_S)
        self.assertEqual(run.process.returncode, 1, err)
        self.assertIn(str(run.folder), err)
        self.assertIn("No space left on device", err)


if __name__ == "__main__":
    unittest.main()

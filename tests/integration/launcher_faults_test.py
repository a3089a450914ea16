#!/usr/bin/python3
"""The program `paceline` with workers that die, hang or misbehave, and when it is interrupted or killed itself."""
import os
import shutil
import signal
import time
import unittest

from launcher_fixture import Launched, LIMIT_S, is_alive, main, wait_for


class LauncherFaultsTest(Launched, unittest.TestCase):
    def test_killed_worker_is_replaced_while_the_others_go_on(self):
        process = self.start_long("--json", "out.json", PACELINE_NODE="h0,h1")
        pid = int(self.started("run", 1)["pid"])
        os.kill(pid, signal.SIGKILL)
        # The pretended worker may be there before the others have settled, or join them later.
        wait_for(lambda: any(len(self.generation(number)) == 2 for number in (2, 3)), "two ranks again")
        last = 2 if len(self.generation(2)) == 2 else 3
        wait_for(lambda: self.started("run", 2).get("ranks") == "2", "the new worker")
        time.sleep(0.2)  # so that the other hears of it
        process.send_signal(signal.SIGTERM)
        code, out, err = self.finish(process)
        self.assertEqual(code, 143)
        self.assertRegex(err, rf"^paceline: rank 1 on node h1 \(pid {pid}\) was killed by signal 9 \(Killed\)"
                              r" at step \d+ of 6000; it said nothing\n")
        self.assertRegex(out, r"generation 2: \d ranks? from step \d+, since worker 1 \(pid \d+ on node h1\) was killed by signal 9")
        if last == 3:
            self.assertRegex(out, r"generation 3: 2 ranks, larger by 1\n")
        summary = self.summary("out.json")
        self.assertEqual(summary, self.summary("run/summary.json"))
        self.assertEqual((summary["status"], summary["generation"], summary["repairs"], summary["resizes"]), ("stopped", last, 1, last - 2))
        self.assertEqual(self.generation(1), [0, 1])
        self.assertEqual(self.generation(last), [0, 2])

    def test_last_words(self):
        code, _, err = self.run_program("train", "job.yaml", "--ranks", "2", "--run-dir", "run", FAKE_WORKER="1:exit",
                                        FAKE_WORKER_STEPS="100")
        self.assertEqual(code, 0)
        self.assertRegex(err, r"^paceline: rank 1 on node \S+ \(pid \d+\) exited with status 3.*; its last words \(.*/run/logs/rank-001\.log\):\n"
                              r"  reading the data\n  something terrible happened\n$")
        with open(self.path("run/logs/rank-001.log")) as log:
            self.assertEqual(log.read(), "reading the data\nsomething terrible happened\n")

    def test_loss_of_all_ranks(self):
        code, _, err = self.run_program("train", "job.yaml", "--ranks", "2", "--run-dir", "run", FAKE_WORKER="exit",
                                        FAKE_WORKER_STEPS="1000")
        self.assertEqual(code, 1)
        # Which of them depends on whether fresh workers, who do not wait for each other, come while the last dies.
        self.assertRegex(err, r"paceline: (no rank is left that holds the whole training state; the last to be lost"
                              r"|step 1 was begun 4 times, and each time a rank was lost; the last"
                              r"|the ranks could not begin to train in 11 generations in a row; the last): "
                              r"worker \d+ \(pid \d+ on node \S+\) exited with status 3\n$")
        self.assertEqual(self.summary("run/summary.json")["status"], "failed")

    def test_failures_that_other_ranks_do_not_mend(self):
        causes = {
            "1:fail": "rank 1 .* failed.*: chunk 7 of shard-00000.h5 is damaged",
            "version": "3 workers in a row were lost before they could train; the last .* does not speak as a worker should: .*999",
        }
        for behaviour, message in causes.items():
            with self.subTest(behaviour):
                code, _, err = self.run_program("train", "job.yaml", "--ranks", "2", FAKE_WORKER=behaviour,
                                                FAKE_WORKER_STEPS="1000")
                self.assertEqual(code, 1)
                self.assertRegex(err, "(?m)^paceline: " + message)

    def test_worker_that_does_not_speak_as_it_should(self):
        code, _, err = self.run_program("train", "job.yaml", "--ranks", "2", FAKE_WORKER="1:garbage", FAKE_WORKER_STEPS="100")
        self.assertEqual(code, 0)
        self.assertRegex(err, r"^paceline: rank 1 on node \S+ \(pid \d+\) does not speak as a worker should: .*; it is killed\n")

    def test_children_of_workers_die_too(self):
        process = self.start_long(FAKE_WORKER="1:child")
        name = self.path("run/grandchild")
        wait_for(lambda: os.path.exists(name) and os.path.getsize(name) > 0, "the worker's child")
        with open(name) as text:
            grandchild = int(text.read())
        os.kill(int(self.started("run", 1)["pid"]), signal.SIGKILL)
        wait_for(lambda: not is_alive(grandchild), "the end of the worker's child")
        process.send_signal(signal.SIGTERM)
        self.assertEqual(self.finish(process)[0], 143)

    def test_worker_that_cannot_start(self):
        self.write("script", "#!/nonexistent/interpreter\n")
        os.chmod(self.path("script"), 0o755)
        code, _, err = self.run_program("train", "job.yaml", "--run-dir", "run", PACELINE_WORKER=self.path("script"))
        self.assertEqual(code, 1)
        self.assertRegex(err, r"workers in a row were lost before they could train; the last could not be started: .*No such file.*\n$")
        self.assertEqual(self.summary("run/summary.json")["status"], "failed")
        self.assert_refused(self.run_program("train", "job.yaml", PACELINE_WORKER="/nonexistent"), 1, "/nonexistent",
                            "PACELINE_WORKER")

    # ---- signals

    def test_interrupt_stops_at_the_next_commit(self):
        for number, code in ((signal.SIGINT, 130), (signal.SIGTERM, 143)):
            with self.subTest(number):
                process = self.start_long()
                process.send_signal(number)
                returncode, out, err = self.finish(process)
                self.assertEqual(returncode, code, err)
                self.assertIn("stopping after the step in progress", err)
                self.assertIn("stopped: ", out)
                self.assertEqual(self.summary("run/summary.json")["status"], "stopped")
                shutil.rmtree(self.path("run"))

    def test_interrupt_kills_who_does_not_listen(self):
        process = self.start_long(FAKE_WORKER="1:hang")
        begin = time.monotonic()
        process.send_signal(signal.SIGINT)
        returncode, _, err = self.finish(process)
        self.assertEqual(returncode, 130)
        self.assertIn("did not stop within 15 s", err)
        self.assertGreater(time.monotonic() - begin, 14)

    def test_second_interrupt_kills_at_once(self):
        process = self.start_long(FAKE_WORKER="hang")
        process.send_signal(signal.SIGINT)
        time.sleep(0.1)
        begin = time.monotonic()
        process.send_signal(signal.SIGINT)
        self.assertEqual(self.finish(process)[0], 130)
        self.assertLess(time.monotonic() - begin, 4)

    def test_killed_agent_takes_its_workers(self):
        process = self.start_long(FAKE_WORKER="1:hang")
        process.kill()
        process.wait(timeout=LIMIT_S)
        for pid in self.worker_pids():
            wait_for(lambda: not is_alive(pid), f"the end of worker {pid}")


if __name__ == "__main__":
    main()

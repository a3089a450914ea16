"""paceline::mpi under a real mpirun: ranks of several "nodes" on this machine, and what goes wrong."""

import os
import shutil
import subprocess
import unittest

PROGRAM = os.environ["PACELINE_MPI_RANKS"]
MPIRUN = os.environ.get("PACELINE_MPIRUN") or shutil.which("mpirun")


def arguments_of(mpirun):
    """Open MPI must be told that ranks may share cores; others need nothing."""
    version = subprocess.run([mpirun, "--version"], capture_output=True, text=True, timeout=60).stdout
    return ["--oversubscribe"] if "Open" in version else []  # "mpiexec (OpenRTE) 4", "mpirun (Open MPI) 5"


@unittest.skipUnless(MPIRUN, "there is no mpirun here")
class Mpi(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.arguments = arguments_of(MPIRUN)

    def ranks(self, scenario, nodes, *more, transport=None, timeout=120):
        environment = {**os.environ, "OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
        environment.pop("PACELINE_TRANSPORT", None)
        if transport:
            environment["PACELINE_TRANSPORT"] = transport
        command = [MPIRUN, "-np", str(len(nodes)), *self.arguments, PROGRAM, scenario, nodes, *more]
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, env=environment)
        lines = sorted(line for line in done.stdout.splitlines() if line.startswith("rank "))
        return done, [line.split(": ", 1)[1] for line in lines]

    def all_well(self, *arguments, **options):
        done, said = self.ranks(*arguments, **options)
        self.assertEqual((done.returncode, said), (0, ["ok"] * len(arguments[1])), done.stderr)

    def test_every_collective_over_messages_of_mpi(self):
        for nodes in ("ab", "abc", "aab", "abab"):
            with self.subTest(nodes=nodes):
                self.all_well("everything", nodes)

    def test_every_collective_where_any_thread_may_call_mpi(self):
        for nodes in ("ab", "aabb"):
            with self.subTest(nodes=nodes):
                self.all_well("everything", nodes, "multiple")

    def test_every_collective_within_a_node_and_over_tcp(self):
        self.all_well("everything", "aaa")
        self.all_well("everything", "a")
        self.all_well("everything", "abc", transport="tcp")

    def test_different_calls_are_named(self):
        done, said = self.ranks("mismatch", "abc")
        self.assertEqual(len(said), 3, done.stderr)
        for line in said:
            self.assertIn("mismatch: ranks do not call the same collective", line)
            self.assertIn("5001 f32", line)
            self.assertIn("5000 f32", line)

    def test_an_abort_ends_every_wait_and_the_next_communicator_is_well(self):
        for nodes in ("ab", "abb"):
            with self.subTest(nodes=nodes):
                self.all_well("abort", nodes)
                self.all_well("abort", nodes, "multiple")

    def test_a_rank_that_does_not_come_is_not_waited_for(self):
        done, said = self.ranks("absent", "abc")
        self.assertGreaterEqual(len(said), 2, done.stderr)
        self.assertEqual({line.split(":")[0] for line in said} - {"absent"}, {"timed out"}, said)

    def test_ranks_that_want_different_transports(self):
        done, said = self.ranks("other-transports", "ab")
        self.assertEqual(len(said), 2, done.stderr)
        for line in said:
            self.assertIn("set PACELINE_TRANSPORT alike", line)

    def test_one_rank_with_options_that_make_no_sense(self):
        done, said = self.ranks("one-is-wrong", "abc")
        self.assertEqual(len(said), 3, done.stderr)
        self.assertIn("pigeon", said[1])
        for line in (said[0], said[2]):
            self.assertIn("another rank cannot take part", line)

    def test_arguments_and_the_wrong_order_of_the_ends(self):
        self.all_well("arguments", "ab")


if __name__ == "__main__":
    unittest.main()

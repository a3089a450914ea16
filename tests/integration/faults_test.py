"""Ranks that die or freeze at each named point of a step, in real training. PACELINE_FAULTS says where (worker/program/faults.hpp)."""

import pathlib
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from coordinated import Coordinated

STEPS = 30
JOB = ("--set", "model={kind: cnn}", "--set", "batch.global=256", "--set", "epochs=100000", "--set", f"steps={STEPS}",
       "--set", "reproducible=true")
# Of each step, and where a rank is before and after all steps.
POINTS = ("data@6", "compute@6", "reduce@6", "commit@6", "apply@6", "evaluate@12", "save@0")


class Faults(Coordinated):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.undisturbed = None

    def expected_weights(self):
        """Those of one undisturbed rank."""
        if self.undisturbed is None:
            type(self).undisturbed = self.assert_proved(self.start("--ranks", "1", *JOB), STEPS)[0]["weights_sha256"]
        return self.undisturbed

    def check(self, faults, ranks, evaluates=False):
        """It completes with the bits of one undisturbed rank, and every sample was used once."""
        more = ("--set", "eval_every=1") if evaluates else ()
        run = self.start("--ranks", str(ranks), *JOB, *more, environment={"PACELINE_FAULTS": faults})
        summary, _ = self.assert_proved(run, STEPS)
        happened = sum(path.read_text().count("PACELINE_FAULTS: signal") for path in (run.folder / "logs").glob("rank-*.log"))
        self.assertEqual(happened, faults.count("@"), run.err)
        self.assertEqual(summary["weights_sha256"], self.expected_weights())
        return summary

    def test_a_death_at_each_point(self):
        for index, point in enumerate(POINTS):
            rank = (2, 0)[index % 2]
            with self.subTest(point=point, rank=rank):
                self.check(f"{rank}:{point}:kill", 3, evaluates=point.startswith("evaluate"))

    def test_one_death_after_the_other_in_the_same_step(self):
        # Nobody has applied it when the first dies; then the second dies where it alone may have.
        self.check("0:commit@6:kill,1:apply@6:kill", 3)
        self.check("2:reduce@6:kill,1:apply@6:kill", 3)

    def test_deaths_while_the_first_ranks_meet(self):
        for point in ("idle@0", "connect@0", "transfer@0"):
            with self.subTest(point):
                self.check(f"1:{point}:kill", 2)

    def test_frozen_ranks(self):
        for point in ("reduce@6", "apply@6"):
            with self.subTest(point):
                self.assertGreaterEqual(self.check(f"1:{point}:stop", 3)["repairs"], 1)

    def test_ranks_that_wait_for_each_other_for_ever_begin_anew(self):
        # Nobody is dead, frozen or at work: rank 1 hangs in a collective, the other waits for its vote.
        ends = self.folder / "hang-ends"
        run = self.start("--ranks", "2", *JOB, environment={"PACELINE_FAULTS": f"1:reduce@6:until={ends}"})
        run.await_status(lambda status: status["state"] == "repairing", "a repair")
        ends.touch()
        summary, _ = self.assert_proved(run, STEPS)
        journal = "".join(path.read_text() for path in (run.folder / "journal").glob("*.jsonl"))
        self.assertRegex(journal, "all 2 ranks have waited for each other for 3. s at step 6")
        self.assertEqual((summary["repairs"], summary["weights_sha256"]), (1, self.expected_weights()))


if __name__ == "__main__":
    unittest.main()

"""What a coordinator finds out about its job while it trains, in real runs with planted faults."""

import base64
import json
import pathlib
import sys
import unittest
import urllib.error
import urllib.request

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import coordinated
from elastic_test import LIMIT_S, wait_for

JOB = ("--ranks", "2", "--set", "model={kind: cnn}", "--set", "batch={global: 256, grain: 8}", "--set", "epochs=100000",
       "--set", "threads=1", "--set", "checkpoint.every_steps=-1")


def lines(run, kind):
    """All whole lines of a type that the journal has so far."""
    text = (run.folder / "journal/1.jsonl").read_text()
    found = [json.loads(line) for line in text.splitlines(keepends=True) if f'"{kind}"' in line and line.endswith("\n")]
    return [line for line in found if line["type"] == kind]


class Insight(coordinated.Coordinated):
    def await_straggler(self, run, **what):
        def there():
            if run.process.poll() is not None:
                raise AssertionError("it ended: " + run.process.communicate()[1])
            return [line for line in lines(run, "straggler") if all(line.get(key) == value for key, value in what.items())]
        return wait_for(there, f"a straggler with {what}; there are {lines(run, 'straggler')}")[0]

    def test_a_rank_that_computes_for_longer_is_named(self):
        # All steps are mostly waits, so that what else the machine does makes no rank another's straggler.
        faults = "1:compute@60-160:wait=120,*:compute@1-100000:wait=30"
        run = self.begin(*JOB, environment={"PACELINE_FAULTS": faults}, steps=30)
        slow = run.status()["ranks"][1]
        found = self.await_straggler(run, rank=1, part="compute", ended=False)
        self.assertEqual((found["worker"], found["node"]), (slow["worker"], slow["node"]))
        self.assertGreater(found["ratio"], 1.3)
        self.assertIn("rank 1", found["reason"])
        self.assertIn(1, [one["rank"] for one in run.status()["stragglers"]])
        ended = self.await_straggler(run, rank=1, part="compute", ended=True)
        self.assertGreaterEqual(ended["step"], 160)
        self.stop_and_prove(run)

    def test_a_rank_that_waits_for_its_data_is_named_and_its_peer_is_not(self):
        # Steps of some 20 ms, in which worker 1 waits 30 ms for its samples, and all others for it.
        run = self.begin(*JOB, environment={"PACELINE_FAULTS": "1:data@120-400:wait=30"}, steps=60)
        found = self.await_straggler(run, part="data", ended=False, rank=1)
        self.assertEqual(found["cause"], "slow_read")
        ended = self.await_straggler(run, part="data", ended=True, rank=1)
        self.assertGreaterEqual(ended["step"], 400)
        blamed = [line for line in lines(run, "straggler") if line.get("rank") == 0 and line["part"] == "data"]
        self.assertEqual(blamed, [])
        self.stop_and_prove(run)

    def test_heartbeats_carry_what_a_rank_measures(self):
        run = self.begin(*JOB, steps=30)
        first = run.status()["ranks"]
        run.await_steps(run.steps() + 50)
        second = run.status()["ranks"]
        for before, after in zip(first, second):
            a, b = before["telemetry"], after["telemetry"]
            steps = b["steps"] - a["steps"]
            self.assertGreater(steps, 0)
            grains = b["grains"] - a["grains"]  # the last step of an epoch is short
            self.assertLessEqual(grains, steps * after["share"])
            self.assertGreater(grains, 0.8 * steps * after["share"])
            self.assertLessEqual(b["samples"] - a["samples"], 8 * grains)
            self.assertGreater(b["samples"] - a["samples"], 7 * grains)
            for part in ("forward_s", "backward_s", "optimizer_s", "cpu_s"):
                self.assertGreater(b[part], a[part], part)
            self.assertGreater(b["memory_bytes"], 50e6)
        status = run.await_status(lambda status: status["efficiency"], "the efficiency model")
        self.assertLess(status["efficiency"]["low"], status["efficiency"]["high"])
        status = run.await_status(lambda status: status["gradient_noise_scale"], "the gradient noise scale")
        self.assertGreater(status["gradient_noise_scale"], 0)
        self.stop_and_prove(run)

    # ---- metrics

    def fetch(self, run, password):
        targets = json.loads((run.folder / "prometheus-targets.json").read_text())
        request = urllib.request.Request(f"http://{targets[0]['targets'][0]}/metrics")
        if password is not None:
            request.add_header("Authorization", "Basic " + base64.b64encode(f"paceline:{password}".encode()).decode())
        with urllib.request.urlopen(request, timeout=LIMIT_S) as answer:
            return answer.read().decode()

    def test_prometheus_can_read_a_job_with_its_password(self):
        run = self.begin(*JOB, "--set", "metrics.port=0", steps=30)
        password = (run.folder / "credentials/metrics-password").read_text().strip()
        self.assertEqual((run.folder / "credentials/metrics-password").stat().st_mode & 0o077, 0)
        for wrong in (None, "", password + "x"):
            with self.assertRaises(urllib.error.HTTPError) as refused:
                self.fetch(run, wrong)
            self.assertEqual(refused.exception.code, 401)
        def committed():
            values = [line.rsplit(" ", 1) for line in self.fetch(run, password).splitlines() if not line.startswith("#")]
            return {name: float(value) for name, value in values}
        first = committed()
        name = next(name for name in first if name.startswith("paceline_steps_total"))
        wait_for(lambda: committed()[name] > first[name] + 20, "more steps in the metrics")
        self.assertEqual(sum("forward" in each for each in first), 2, "one for each rank")
        self.stop_and_prove(run)
        self.assertFalse((run.folder / "prometheus-targets.json").exists())


if __name__ == "__main__":
    unittest.main()

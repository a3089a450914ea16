"""The Grafana dashboard and the examples of docs/metrics.md ask only for what is served.

That docs/metrics.md has exactly what is served is checked by launcher_metrics_test.
"""

import json
import pathlib
import re
import shutil
import subprocess
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/metrics.md").read_text()
DASHBOARD = json.loads((ROOT / "grafana/paceline.json").read_text())

# What prometheus-targets.json adds to every series.
TARGET_LABELS = {"job", "run", "instance"}
# What Grafana puts in place of its variables.
VARIABLES = {"$__rate_interval": "1m", "$job": "a", "$run": "b", "$rank": "0|1"}


def served():
    """The metrics of the page's table with their labels."""
    row = re.compile(r"^\| `(paceline_\w+)` \| \w+ \| [^|]+ \| ([^|]*) \|", re.MULTILINE)
    return {name: set(re.findall(r"`(\w+)`", labels)) for name, labels in row.findall(PAGE)}


def dashboard_queries():
    for panel in DASHBOARD["panels"]:
        for target in panel.get("targets", []):
            yield panel["title"], target["expr"], target["legendFormat"]
    for annotation in DASHBOARD["annotations"]["list"]:
        yield annotation["name"], annotation["expr"], ""


def page_queries():
    section = PAGE[PAGE.index("Some queries:"):]
    for question, query in re.findall(r"^\| ([^|]+\?|joules per sample) \| `(.+)` \|$", section, re.MULTILINE):
        yield question, query.replace("\\|", "|"), ""


def metrics_of(query):
    return re.findall(r"\bpaceline_\w+", query)


def labels_of(query, legend):
    """Those that a query selects or groups by, and those that its legend shows."""
    labels = set(re.findall(r"[{,]\s*(\w+)\s*(?:=~|!=|!~|=)", query))
    for group in re.findall(r"\b(?:by|without|on)\s*\(([^)]*)\)", query):
        labels |= {label.strip() for label in group.split(",") if label.strip()}
    return labels | set(re.findall(r"{{(\w+)}}", legend))


def promtool(*arguments):
    return subprocess.run(["promtool", *arguments], capture_output=True, text=True)


needs_promtool = unittest.skipUnless(
    shutil.which("promtool"), "promtool is not installed (Debian's package prometheus has it)")


class MetricsFiles(unittest.TestCase):
    def test_there_is_something_to_check(self):
        self.assertGreater(len(served()), 40)
        self.assertGreater(len(list(dashboard_queries())), 30)
        self.assertEqual(len(list(page_queries())), 4)

    def test_every_query_asks_for_metrics_that_are_served(self):
        known = served()
        for title, query, _ in [*dashboard_queries(), *page_queries()]:
            with self.subTest(title):
                self.assertTrue(metrics_of(query), query)
                self.assertEqual(set(metrics_of(query)) - set(known), set(), query)

    def test_every_label_of_a_query_is_one_of_its_metrics(self):
        known = served()
        for title, query, legend in [*dashboard_queries(), *page_queries()]:
            with self.subTest(title):
                there = TARGET_LABELS.union(*(known[name] for name in metrics_of(query)))
                self.assertEqual(labels_of(query, legend) - there, set(), query)

    def test_the_dashboards_variables_come_from_metrics_that_are_served(self):
        known = served()
        for variable in DASHBOARD["templating"]["list"]:
            if variable["type"] != "query":
                continue
            match = re.fullmatch(r"label_values\((\w+)(?:{.*})?, (\w+)\)", variable["definition"])
            self.assertIsNotNone(match, variable["definition"])
            self.assertEqual(match.group(2), variable["name"])
            self.assertIn(match.group(2), known[match.group(1)] | TARGET_LABELS)

    def test_the_dashboard_shows_every_metric_that_people_look_for(self):
        shown = {name for _, query, _ in dashboard_queries() for name in metrics_of(query)}
        for name in ("paceline_loss", "paceline_samples_per_second", "paceline_step_part_seconds_total",
                     "paceline_rank_share_grains", "paceline_scaling_efficiency_ratio", "paceline_ranks",
                     "paceline_ranks_wish", "paceline_ranks_room", "paceline_repairs_total", "paceline_resizes_total",
                     "paceline_rank_straggler", "paceline_rank_cpu_seconds_total", "paceline_rank_memory_bytes",
                     "paceline_node_network_sent_bytes_total", "paceline_node_energy_joules_total"):
            self.assertIn(name, shown)

    def test_the_dashboards_panels_can_be_told_apart(self):
        numbers = [panel["id"] for panel in DASHBOARD["panels"]]
        self.assertEqual(len(numbers), len(set(numbers)))
        for panel in DASHBOARD["panels"]:
            self.assertLessEqual(panel["gridPos"]["x"] + panel["gridPos"]["w"], 24, panel["title"])

    @needs_promtool
    def test_prometheus_understands_every_query(self):
        rules = []
        for number, (_, query, _) in enumerate([*dashboard_queries(), *page_queries()]):
            for variable, value in VARIABLES.items():
                query = query.replace(variable, value)
            self.assertNotIn("$", query)
            rules.append({"record": f"query_{number}", "expr": query})
        with tempfile.TemporaryDirectory() as folder:
            file = pathlib.Path(folder, "rules.json")  # which is YAML, too
            file.write_text(json.dumps({"groups": [{"name": "queries", "rules": rules}]}))
            checked = promtool("check", "rules", str(file))
            self.assertEqual(checked.returncode, 0, checked.stdout + checked.stderr)

    @needs_promtool
    def test_prometheus_understands_the_pages_configuration(self):
        configuration = re.search(r"```yaml\n(scrape_configs:.*?)```", PAGE, re.DOTALL).group(1)
        with tempfile.TemporaryDirectory() as folder:
            run = pathlib.Path(folder)
            (run / "credentials").mkdir()
            (run / "credentials/metrics-password").write_text("0123456789abcdef")
            (run / "prometheus-targets.json").write_text('[{"targets": ["127.0.0.1:1"], "labels": {"job": "j"}}]')
            (run / "prometheus.yml").write_text(configuration.replace("RUN", folder))
            checked = promtool("check", "config", str(run / "prometheus.yml"))
            self.assertEqual(checked.returncode, 0, checked.stdout + checked.stderr)
            self.assertNotIn("WARN", checked.stdout + checked.stderr)


if __name__ == "__main__":
    unittest.main()

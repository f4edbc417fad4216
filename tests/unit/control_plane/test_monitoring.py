"""What other systems are given to watch Penstock with: it parses, and names only metrics that there are."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import yaml
from prometheus_client.parser import text_string_to_metric_families

from control_plane.monitoring.exposition import exposition
from control_plane.monitoring.grafana import FILE, dashboard, dashboard_text
from control_plane.monitoring.page import metrics_page
from penstock.events.alerts import AlertKind
from penstock.events.measures import GAUGES, MEASURES, MeasureKind, Tally
from penstock.ports.metrics import Sample

ROOT = Path(__file__).parents[3]
RULES = ROOT / "control_plane" / "monitoring" / "alert_rules.yml"
PROMTOOL = ROOT / ".tools" / "prometheus" / "usr" / "bin" / "promtool"
NAMED = re.compile(r"penstock_[a-z_]+")
LANE = ("crm", "registry")


def _shown() -> set[str]:
    names = set()
    for measure in MEASURES.values():
        is_histogram = measure.kind is MeasureKind.HISTOGRAM
        endings = ("_bucket", "_sum", "_count") if is_histogram else ("",)
        names |= {measure.shown + ending for ending in endings}
    return names


def test_a_scrape_holds_every_metric_as_prometheus_reads_it() -> None:
    """Counters, cumulative buckets and gauges come back as they were given; those without values are declared."""
    tallies = [
        Tally(name="batches_landed", labels=("crm",), value=3),
        Tally(name="publish_latency_seconds", labels=LANE, part="5", value=2),
        Tally(name="publish_latency_seconds", labels=LANE, part="+Inf", value=1),
        Tally(name="publish_latency_seconds", labels=LANE, part="sum", value=86_408),
    ]
    waiting = Sample(
        name="queue_batches", labels={"target": "registry", "source": 'a"b\n'}, value=7
    )
    text = exposition(tallies, [waiting]).decode()
    families = {f.name: f for f in text_string_to_metric_families(text)}
    assert len(families) == len(MEASURES)
    values = {(s.name, *s.labels.values()): s.value for f in families.values() for s in f.samples}
    assert values["penstock_batches_landed_total", "crm"] == 3
    assert values["penstock_queue_batches", 'a"b\n', "registry"] == 7
    latency = {
        s.labels["le"]: s.value
        for s in families["penstock_publish_latency_seconds"].samples
        if s.name.endswith("_bucket")
    }
    assert latency["2.5"] == 0
    assert latency["5"] == latency["14400"] == 2
    assert latency["+Inf"] == 3
    assert values["penstock_publish_latency_seconds_count", *LANE] == 3


def test_the_dashboard_file_is_current_and_asks_for_metrics_that_there_are() -> None:
    """Grafana's file follows from the code, and each query names metrics of ours."""
    assert FILE.read_text() == dashboard_text()
    panels = [panel for panel in dashboard()["panels"] if panel["type"] != "row"]
    assert len({p["id"] for p in dashboard()["panels"]}) == len(dashboard()["panels"])
    for panel in panels:
        for target in panel["targets"]:
            named = set(NAMED.findall(target["expr"]))
            assert named, panel["title"]
            assert named <= _shown(), panel["title"]


def test_the_rules_are_sound_to_promtool_and_link_to_runbooks_that_there_are() -> None:
    """Prometheus' own tool finds no fault; every metric and every runbook that is named exists."""
    checked = subprocess.run(
        [PROMTOOL, "check", "rules", RULES], capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr
    runbooks = (ROOT / "docs" / "howto" / "runbooks.md").read_text()
    headings = set(re.findall(r"^## (\w+)$", runbooks, re.MULTILINE))
    assert headings == {str(kind) for kind in AlertKind}
    (group,) = yaml.safe_load(RULES.read_text())["groups"]
    for rule in group["rules"]:
        assert set(NAMED.findall(rule["expr"])) <= _shown(), rule["alert"]
        link = rule["annotations"].get("runbook_url")
        assert link is None or link.partition("#")[2] in headings
        assert rule["labels"]["severity"] in ("warning", "critical")


def test_prometheus_takes_the_configuration() -> None:
    """The configuration that is shipped is sound to Prometheus' own tool, rules included."""
    folder = RULES.parent
    checked = subprocess.run(
        [PROMTOOL, "check", "config", "--syntax-only", folder / "prometheus.yml"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_the_page_of_metrics_names_each() -> None:
    """The reference page is current and complete."""
    page = (ROOT / "docs" / "reference" / "metrics.md").read_text()
    assert page == metrics_page()
    for gauge in GAUGES:
        assert f"`{gauge.shown}`" in page

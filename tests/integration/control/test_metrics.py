"""Metrics over HTTP, as Prometheus scrapes them, folded by the server's own loop."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from control_plane.service.looping import LoopState
from control_plane.service.loops import alerts, metrics
from penstock.batch.source import SourceSpec
from penstock.events.alerts import AlertKind, AlertRoute
from penstock.events.measures import MEASURES
from penstock.identity.ids import SourceId
from resources.control_db.store import SqlControlStore
from resources.settings import Settings
from tests.contracts.control_values import NOW, admit, at, publish
from tests.contracts.event_values import told
from tests.fixtures.control_server import ControlServer


def _values(control: ControlServer) -> dict[tuple[str, ...], float]:
    answer = control.request("GET", "/metrics", role="viewer")
    assert answer.status_code == 200
    assert answer.headers["Content-Type"].startswith("text/plain")
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def test_a_publish_is_counted_once_however_often_it_is_folded(control: ControlServer) -> None:
    """What was landed and published is counted; folding again, and scraping again, change nothing."""
    store = control.services.platform.control
    store.sync_sources([SourceSpec(source_id=SourceId("crm"))])
    admit(store, "crm", 0)
    publish(store, now=at(1))
    admit(store, "crm", 2)
    told(SqlControlStore.from_engine(control.services.engine))
    for _ in range(3):
        metrics.run_once(control.services)
        found = _values(control)
        assert found["penstock_batches_landed_total", "crm"] == 2
        assert found["penstock_publishes_total", "published", "crm", "registry"] == 1
        assert found["penstock_queue_batches", "crm", "registry"] == 1
    latency = ("penstock_publish_latency_seconds", "crm", "registry")
    assert found[f"{latency[0]}_count", *latency[1:]] == 1
    assert found[f"{latency[0]}_sum", *latency[1:]] == 60


def test_a_token_of_one_tenant_sees_no_metrics(control: ControlServer) -> None:
    """Metrics name every tenant's sources, so only those who run the platform are shown them."""
    answer = control.request("GET", "/metrics", role="admin", tenant="acme")
    assert answer.status_code == 403
    assert control.request("GET", "/metrics", role=None).status_code == 401


def test_loops_that_fail_are_shown_as_overdue() -> None:
    """A loop that fails is overdue since it last ended well; one that is well, by how late it began."""
    fine = LoopState(name="alerts", runs=3, last_run_at=NOW, late_s=0.25)
    failing = LoopState(name="metrics", runs=1, failures=4, failures_in_a_row=2, last_run_at=NOW)
    samples = {
        (s.name, s.labels["loop"]): s.value for s in metrics.loop_samples([fine, failing], at(2))
    }
    assert samples["loop_lag_seconds", "alerts"] == 0.25
    assert samples["loop_lag_seconds", "metrics"] == 120
    assert samples["loop_failures", "metrics"] == 4
    assert {name for name, _ in samples} <= set(MEASURES)


def test_without_routes_everything_goes_to_the_alert_urls() -> None:
    """Routes win over addresses alone; without either nobody is told."""
    route = {"urls": ["json://x"], "kinds": ["hold"]}
    assert alerts.routes_of(Settings()) == []
    (plain,) = alerts.routes_of(Settings.model_validate({"alert_urls": ["json://y"]}))
    assert plain.kinds is None
    both = {"alert_urls": ["json://y"], "alert_routes": [route]}
    assert alerts.routes_of(Settings.model_validate(both)) == [AlertRoute.model_validate(route)]
    assert AlertRoute.model_validate(route).kinds == (AlertKind.HOLD,)

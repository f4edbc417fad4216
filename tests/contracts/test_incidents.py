"""Incidents are opened once, told when they are opened and resolved, and keep what was said, on both databases."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import select

from penstock.errors import NotFound, NothingToDo
from penstock.events.catalogue import checked
from penstock.forecast.incidents import Condition, IncidentKind, Phase, Severity
from penstock.identity.ids import SourceId, TenantId
from penstock.ports.incidents import NewIncident
from penstock.use_cases.acts import By
from resources.control_db.incidents import SqlIncidents
from resources.control_db.outbox_tables import outbox_event
from resources.control_db.store import SqlControlStore
from tests.contracts.control_values import NOW, at

ADA = By(actor="ada", reason="they asked")
LATE = Condition(
    rule_key="sla_breach:crm:registry",
    kind=IncidentKind.SLA_BREACH,
    severity=Severity.WARNING,
    tenant_id=TenantId("acme"),
    source_id=SourceId("crm"),
    target_id=None,
    title="crm is later than it should be",
    explanation="3 batches are late",
    since=NOW,
)
NEW = NewIncident(
    tenant_id=TenantId("acme"),
    source_id=None,
    target_id=None,
    severity=Severity.INFO,
    phase=Phase.INVESTIGATING,
    public=True,
    title="Planned work",
    text="On Sunday\0 nothing is published.",
)


@pytest.fixture
def incidents(control_store: SqlControlStore) -> SqlIncidents:
    return SqlIncidents.from_engine(control_store.engine)


def _told(store: SqlIncidents) -> list[tuple[str, str, dict[str, Any]]]:
    with store.engine.connect().execution_options(penstock_reading=True) as connection:
        rows = connection.execute(select(outbox_event).order_by(outbox_event.c.position)).all()
    return [(row.type, row.tenant_id, row.data) for row in rows]


def test_a_trouble_has_one_incident_at_a_time(incidents: SqlIncidents) -> None:
    """A rule opens one incident for its trouble, and another only when that has ended."""
    opened = incidents.open_by_rule(LATE, now=NOW)
    assert opened is not None
    assert opened.is_open
    assert opened.public
    assert incidents.open_by_rule(LATE, now=at(1)) is None
    worse = replace(LATE, severity=Severity.CRITICAL, explanation="4 batches are late")
    incidents.see_again(opened.incident_id, worse, now=at(2))
    (seen,) = incidents.list_incidents()
    assert (seen.severity, seen.explanation, seen.seen_at) == (
        Severity.CRITICAL,
        "4 batches are late",
        at(2),
    )
    assert incidents.resolve_by_rule(opened.incident_id, text="It is back.", now=at(3))
    assert not incidents.resolve_by_rule(opened.incident_id, text="It is back.", now=at(4))
    assert incidents.open_by_rule(LATE, now=at(5)) is not None
    kinds = [(kind, tenant) for kind, tenant, _ in _told(incidents)]
    assert kinds == [
        ("incident_opened", "acme"),
        ("incident_resolved", "acme"),
        ("incident_opened", "acme"),
    ]


def test_servers_that_find_it_at_once_open_it_once(incidents: SqlIncidents) -> None:
    """However many find the same trouble at the same moment, one incident is opened and told."""
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: incidents.open_by_rule(LATE, now=NOW), range(16)))
    assert sum(each is not None for each in found) == 1
    assert len(_told(incidents)) == 1


def test_operators_open_tell_and_end(
    incidents: SqlIncidents, control_store: SqlControlStore
) -> None:
    """An operator's incident keeps each message with who said it, and every act is in the audit log."""
    opened = incidents.open_incident(
        NEW, now=NOW, actor="ada", act=ADA.entry("incident.open", "", now=NOW)
    )
    assert opened.messages[0].text == "On Sunday\ufffd nothing is published."
    about: dict[str, Any] = {"actor": "ada", "public": False}
    act = ADA.entry("incident.update", opened.incident_id, now=at(1))
    updated = incidents.update_incident(
        opened.incident_id, phase=Phase.MONITORING, text="Soon.", now=at(1), act=act, **about
    )
    assert (updated.phase, updated.public, updated.is_open) == (Phase.MONITORING, False, True)
    act = ADA.entry("incident.resolve", opened.incident_id, now=at(2))
    ended = incidents.update_incident(
        opened.incident_id,
        phase=Phase.RESOLVED,
        text="Done.",
        now=at(2),
        act=act,
        actor="ada",
        public=None,
    )
    assert (ended.resolved_at, ended.resolved_by) == (at(2), "ada")
    assert [each.text for each in ended.messages][1:] == ["Soon.", "Done."]
    with pytest.raises(NothingToDo, match="has ended"):
        incidents.update_incident(
            opened.incident_id, phase=Phase.RESOLVED, text="Again.", now=at(3), act=act, **about
        )
    acts = control_store.list_acts(subject=opened.incident_id)
    assert [each.act for each in acts] == ["incident.resolve", "incident.update", "incident.open"]
    assert [kind for kind, _, _ in _told(incidents)] == ["incident_opened", "incident_resolved"]


def test_incidents_are_told_as_the_catalogue_says(incidents: SqlIncidents) -> None:
    """An event has the incident, its source, how bad it is, its title, and when it began and ended."""
    opened = incidents.open_by_rule(LATE, now=NOW)
    assert opened is not None
    incidents.resolve_by_rule(opened.incident_id, text="It is back.", now=at(3))
    told = {
        "incident_id": opened.incident_id,
        "source_id": "crm",
        "severity": "warning",
        "title": "crm is later than it should be",
        "opened_at": "2026-01-01T12:00:00+00:00",
    }
    assert [data for _, _, data in _told(incidents)] == [
        told,
        {**told, "resolved_at": "2026-01-01T12:03:00+00:00"},
    ]
    for kind, _, data in _told(incidents):
        checked(kind, data)


def test_a_list_is_what_was_asked_for(incidents: SqlIncidents) -> None:
    """Incidents are found by tenant, source, whether they are over, by whom and for whom; newest first."""
    by_rule = incidents.open_by_rule(LATE, now=NOW)
    hidden = replace(LATE, rule_key="x", kind=IncidentKind.ANOMALY, tenant_id=TenantId("other"))
    secret = incidents.open_by_rule(hidden, now=at(1))
    act = ADA.entry("incident.open", "", now=at(2))
    said = incidents.open_incident(NEW, now=at(2), actor="ada", act=act)
    assert by_rule is not None
    assert secret is not None
    incidents.resolve_by_rule(by_rule.incident_id, text="It is back.", now=at(3))

    def ids(**asked: Any) -> list[str]:
        return [each.incident_id for each in incidents.list_incidents(**asked)]

    every = [said.incident_id, secret.incident_id, by_rule.incident_id]
    assert ids() == every
    assert ids(limit=1) == every[:1]
    assert ids(tenant=TenantId("acme")) == [every[0], every[2]]
    assert ids(source=SourceId("crm")) == every[1:]
    assert ids(open_only=True) == every[:2]
    assert ids(by_rules=True, open_only=True) == [every[1]]
    assert ids(public_only=True) == [every[0], every[2]]
    assert ids(since=at(4)) == every[:2]
    with pytest.raises(NotFound, match="there is no incident"):
        incidents.get_incident("0" * 32)

"""The audit log on SQLite and PostgreSQL: what people did, in order, and never changed."""

from __future__ import annotations

from dataclasses import replace

from penstock.identity.ids import SourceId
from penstock.ports.audit_log import AuditEntry
from resources.control_db.store import SqlControlStore
from tests.contracts.control_values import NOW, at

PAUSED = AuditEntry(
    at=NOW, actor="ada", act="source.pause", subject="crm", source_id=SourceId("crm"), reason="why"
)


def test_acts_come_back_newest_first(control_store: SqlControlStore) -> None:
    """What was recorded is listed whole, of all, of one subject or of one source."""
    resumed = replace(PAUSED, at=at(1), act="source.resume", details={"after_s": 60})
    other = AuditEntry(at=at(2), actor="bob", act="target.pause", subject="registry")
    for entry in (PAUSED, resumed, other):
        control_store.record_act(entry)
    assert control_store.list_acts() == [other, resumed, PAUSED]
    assert control_store.list_acts(subject="crm") == [resumed, PAUSED]
    assert control_store.list_acts(source=SourceId("crm"), limit=1) == [resumed]


def test_text_that_a_database_refuses_is_kept_readable(control_store: SqlControlStore) -> None:
    """A NUL in a reason or in the details does not lose the act."""
    control_store.record_act(replace(PAUSED, reason="a\0b", details={"x": ["\0"]}))
    (entry,) = control_store.list_acts()
    assert (entry.reason, entry.details) == ("a\ufffdb", {"x": ["\ufffd"]})

"""The registry's log, and what its database's errors come to."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import create_engine, select, text

from penstock.ports.target import Applied, Rejected, Unavailable
from resources.control_db.engine import open_engine
from resources.control_db.schema import upgrade
from resources.targets.outcomes import TargetTablesWrong
from resources.targets.registry import RegistryTarget, open_registry
from resources.targets.registry_tables import registry_entity, registry_event
from tests.unit.targets.chunks import CONTEXT, Change, chunk, created


@pytest.fixture
def registry(control_url: str) -> Iterator[RegistryTarget]:
    target = open_registry(open_engine(control_url))
    yield target
    target.engine.dispose()


def test_every_operation_that_took_effect_is_an_event(registry: RegistryTarget) -> None:
    """The log holds each applied operation once, in order, with what it was part of; conflicts leave none."""
    registry.apply(chunk([created("a", n=1)]), CONTEXT)
    later = replace(CONTEXT, fencing_token=7, plan_digest="f" * 32)
    second = chunk([Change("a", {"n": 1}, {"n": 2}), Change("b", {"n": 1}, {"n": 2})], version=1)
    outcome = registry.apply(second, later)
    assert isinstance(outcome, Applied)
    assert (outcome.applied, len(outcome.failures)) == (1, 1)
    registry.apply(second, later)
    event = registry_event.c
    query = select(
        event.action, event.key, event.attributes, event.plan_digest, event.fencing_token
    ).order_by(event.position)
    with registry.engine.connect() as connection:
        events = [tuple(row) for row in connection.execute(query)]
        recorded = connection.scalars(select(event.recorded_at)).all()
    assert events == [
        ("create", "a", '{"n":1}', "0" * 32, 1),
        ("update", "a", '{"n":2}', "f" * 32, 7),
    ]
    assert recorded == [datetime(2026, 1, 1, tzinfo=UTC)] * 2


def test_the_log_retold_is_the_projection(registry: RegistryTarget) -> None:
    """Replaying the events gives exactly what the projection holds."""
    keys = [f"k{n}" for n in range(50)]
    registry.apply(chunk([created(key, n=0) for key in keys]), CONTEXT)
    updates = [Change(key, {"n": 0}, {"n": 1}) for key in keys[:30]]
    registry.apply(chunk(updates, version=1), CONTEXT)
    deletes = [Change(key, {"n": 1}, None) for key in keys[:10]]
    registry.apply(chunk([*deletes, created("new", n=9)], version=2), CONTEXT)
    told: dict[str, str] = {}
    event, entity = registry_event.c, registry_entity.c
    with registry.engine.connect() as connection:
        for row in connection.execute(select(registry_event).order_by(event.position)):
            if row.action == "delete":
                del told[row.key]
            else:
                told[row.key] = row.attributes
        held = {row[0]: row[1] for row in connection.execute(select(entity.key, entity.attributes))}
    assert told == held
    assert len(held) == 41


@pytest.mark.postgres
def test_a_key_that_no_index_can_hold_is_refused(
    postgres_url: str,
) -> None:
    """A key over PostgreSQL's limit for index entries rejects the chunk, so that bisection finds it."""
    target = open_registry(open_engine(postgres_url))
    target.prepare()
    noise = "".join(hashlib.sha512(str(n).encode()).hexdigest() for n in range(28))
    outcome = target.apply(chunk([created("a"), created(noise)]), CONTEXT)
    assert isinstance(outcome, Rejected)
    assert "index row" in outcome.message
    assert target.apply(chunk([created("a")]), CONTEXT) == Applied(applied=1, already_applied=0)
    target.engine.dispose()


def test_a_locked_database_is_unavailable(tmp_path: Path) -> None:
    """While SQLite's write lock is held elsewhere, nothing takes effect and the chunk may be sent again."""
    url = f"sqlite:///{tmp_path}/control.db"
    upgrade(url)
    impatient = create_engine(url, connect_args={"timeout": 0.05}, isolation_level=None)
    target = open_registry(impatient)
    holder = open_engine(url)
    with holder.begin():
        outcome = target.apply(chunk([created("a")]), CONTEXT)
    assert outcome == Unavailable(message="database is locked")
    impatient.dispose()
    holder.dispose()


def test_a_database_that_was_not_migrated_is_an_error(tmp_path: Path) -> None:
    """Without its tables the registry stops with an error that says what to do."""
    target = open_registry(open_engine(f"sqlite:///{tmp_path}/control.db"))
    with pytest.raises(TargetTablesWrong, match="penstock up"):
        target.apply(chunk([created("a")]), CONTEXT)
    target.engine.dispose()


@pytest.mark.postgres
def test_a_lost_connection_is_unavailable_and_mended(postgres_url: str) -> None:
    """A session that the server ends while events are loaded costs one answer; then the chunk goes through."""
    target = open_registry(open_engine(postgres_url))
    target.prepare()
    with target.engine.begin() as admin:
        admin.execute(
            text(
                "CREATE FUNCTION stop() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
                "PERFORM pg_terminate_backend(pg_backend_pid()); RETURN new; END $$"
            )
        )
        admin.execute(
            text("CREATE TRIGGER stop BEFORE INSERT ON registry_event EXECUTE FUNCTION stop()")
        )
    assert isinstance(target.apply(chunk([created("a")]), CONTEXT), Unavailable)
    with target.engine.begin() as admin:
        admin.execute(text("DROP TRIGGER stop ON registry_event"))
    assert target.apply(chunk([created("a")]), CONTEXT) == Applied(applied=1, already_applied=0)
    target.engine.dispose()

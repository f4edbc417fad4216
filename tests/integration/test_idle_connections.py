"""A connection that the server closed while it lay idle is replaced before anybody is given it."""

from __future__ import annotations

import pytest
from sqlalchemy import Engine, text

from resources.control_db import engine as module
from resources.control_db.engine import open_engine


def _close_all_others(engine: Engine) -> int:
    """Have the server end every other session of this database, and return how many there were."""
    query = text(
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
        "WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    other = open_engine(engine.url)
    try:
        with other.connect() as connection:
            return int(connection.execute(query).scalar_one())
    finally:
        other.dispose()


def _hold_three(engine: Engine) -> list[int]:
    """Take three connections at once, give them back, and return the server's ids of them."""
    held = [engine.connect() for _ in range(3)]
    try:
        return [int(c.execute(text("SELECT pg_backend_pid()")).scalar_one()) for c in held]
    finally:
        for connection in held:
            connection.close()


@pytest.mark.postgres
def test_what_the_server_closed_meanwhile_is_noticed_by_nobody(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All that lay idle are replaced at the first sign; what is used again and again is not asked about."""
    engine = open_engine(postgres_url)
    try:
        before = _hold_three(engine)
        assert sorted(_hold_three(engine)) == sorted(before)
        assert _close_all_others(engine) == 3
        monkeypatch.setattr(module, "_ASKED_AFTER_S", 0.0)
        assert not set(_hold_three(engine)) & set(before)
    finally:
        engine.dispose()

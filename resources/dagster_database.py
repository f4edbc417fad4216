"""Where Dagster keeps its runs when the control database is PostgreSQL: beside it, in a schema of its own.

Both name a table ``alembic_version``, so that in one schema neither could migrate. Nothing here imports Dagster.
"""

from __future__ import annotations

from sqlalchemy import make_url, text

from resources.control_db.engine import open_engine

SCHEMA = "dagster"


def dagster_url_beside(control_url: str) -> str:
    """Return the URL for Dagster's storage in the control database's own server and database, secrets and all."""
    url = make_url(control_url)
    given = url.query.get("options", ())
    options = [given] if isinstance(given, str) else list(given)
    options.append(f"-csearch_path={SCHEMA}")
    url = url.update_query_dict({"options": " ".join(options)})
    return for_dagster(url.render_as_string(hide_password=False))


def for_dagster(url: str) -> str:
    """Return a PostgreSQL URL with the driver that dagster-postgres is written for.

    Without one, SQLAlchemy from 2.1 on takes psycopg 3, which refuses the NOTIFY of Dagster's event log.
    """
    _, _, rest = url.partition("://")
    return f"postgresql+psycopg2://{rest}"


def create_dagster_schema(control_url: str) -> None:
    """Create the schema for Dagster's tables, if it is not there."""
    engine = open_engine(control_url)
    try:
        with engine.begin() as connection:
            connection.execute(text(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}"))
    finally:
        engine.dispose()

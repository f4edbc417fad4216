"""The sources of this installation: the one place where they are named.

To add a source, write it in a module of its own (``docs/howto/add_a_source.md``) and name it in
:func:`declared_sources`; its assets, checks, schedule and sensors follow. Nothing here does I/O: a
URL is asked for when its source is extracted.
"""

from __future__ import annotations

import os
from collections import Counter

from penstock.batch.source import SourceDefinition
from penstock.errors import PenstockError
from resources.sources.python_environment import python_environment
from resources.sources.sql_catalog import sql_catalog

DEMO_URL = "DEMO_URL"
"""The environment variable that names a database of one's own to catalog."""


def declared_sources() -> tuple[SourceDefinition, ...]:
    """Return every source that this installation extracts, in the order in which they are shown."""
    return unique(
        sql_catalog(
            "control_catalog",
            url=_control_url,
            name="control",
            cadence_s=3600,
            description="The tables of Penstock's own control database.",
        ),
        sql_catalog(
            "dagster_catalog",
            url=_dagster_url,
            name="dagster",
            cadence_s=3600,
            importance=0.4,
            description="The tables of Dagster's instance database.",
        ),
        python_environment("python_environment", cadence_s=3600, complexity=0.7),
        *_demo_catalog(),
    )


def unique(*sources: SourceDefinition) -> tuple[SourceDefinition, ...]:
    """Return the sources; raises :class:`PenstockError` where two have one id."""
    counted = Counter(each.spec.source_id for each in sources)
    twice = [name for name, count in counted.items() if count > 1]
    if twice:
        raise PenstockError(
            f"source {twice[0]!r} is declared {counted[twice[0]]} times in "
            "platform_assets/sources.py: give each source an id of its own"
        )
    return sources


def _demo_catalog() -> tuple[SourceDefinition, ...]:
    if not os.environ.get(DEMO_URL):
        return ()
    description = f"The database that the environment variable {DEMO_URL} names."
    return (sql_catalog("demo_catalog", url_env=DEMO_URL, importance=0.9, description=description),)


def _control_url() -> str:
    from resources.settings import Settings

    return Settings.from_env().control_url


def _dagster_url() -> str:
    from resources.settings import Settings
    from resources.sources.dagster_instance import dagster_database_url

    return dagster_database_url(Settings.from_env().dagster_folder)

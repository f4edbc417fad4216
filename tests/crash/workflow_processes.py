"""Processes that a crash of workflows is tried on: a Dagster run of one step, and a server that looks.

``python -m tests.crash.workflow_processes step|serve`` over the home that the environment names.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from penstock.batch.rows import Entity
from penstock.batch.source import Extract, SourceDefinition, source
from penstock.use_cases.coordination import Coordination

STOP_AT = "STOP_AT"
"""Environment variable with a file: a source that is extracted makes it, and then hangs."""


def people() -> SourceDefinition:
    """A source of two people."""

    @source("crm")
    def crm(extract: Extract) -> Iterator[Entity]:
        """People."""
        with extract.scope("person"):
            yield Entity(entity_type="person", entity_key="crm/ada")
            stop_at = os.environ.get(STOP_AT)
            if stop_at:
                Path(stop_at).touch()
                time.sleep(600)
            yield Entity(entity_type="person", entity_key="crm/grace")

    return crm


def open_home() -> Coordination:
    """Open the platform that the environment describes, with its source declared."""
    from resources.settings import Settings
    from resources.wiring import open_coordination, open_platform

    platform = open_platform(Settings.from_env())
    platform.control.sync_sources([people().spec])
    return open_coordination(platform)


def _declare() -> None:
    import jobs.collect

    jobs.collect.declared_sources = lambda: (people(),)


def step(asked: str) -> None:
    """Be the run that the sensor asked for."""
    import dagster as dg

    from jobs.workflow_step import workflow_step
    from resources.dagster_resources import PlatformResource

    _declare()
    request = json.loads(asked)
    with dg.DagsterInstance.get() as instance:
        workflow_step.execute_in_process(
            instance=instance,
            resources={"platform": PlatformResource()},
            run_config=request["run_config"],
            tags=request["tags"],
        )


def serve() -> None:
    """Be a server: look for what is due of workflows, for ever."""
    from penstock.use_cases.progress_workflows import progress_workflows

    co = open_home()
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    while True:
        looked = progress_workflows(co)
        assert not looked.troubles, looked.troubles


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["step", asked]:
            step(asked)
        case ["serve"]:
            serve()

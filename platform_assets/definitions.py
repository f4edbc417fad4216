"""Everything that Dagster is told, in one place. Open this first.

The sources are named in ``platform_assets/sources.py``; all else follows from them.
"""

from __future__ import annotations

import dagster as dg

from jobs.collect import collect
from jobs.dead_letters import DEAD_LETTER_JOBS
from jobs.drift import drift_audit, drift_schedule
from jobs.holds import approve_hold, reject_hold
from jobs.operate import OPERATOR_JOBS
from jobs.publish import publish
from jobs.republish import republish
from jobs.retention import retention, retention_schedule
from jobs.rollback import rollback
from jobs.workflow_step import workflow_step
from penstock.batch.source import SourceDefinition
from platform_assets.assets import source_assets
from platform_assets.checks import published_checks
from platform_assets.sources import declared_sources
from resources.dagster_resources import platform_resource
from resources.settings import Settings
from sensors.cadence import schedule_of
from sensors.dead_letter_alerts import alert_schedules, dead_letter_alerts
from sensors.s3_batches import s3_batches
from sensors.workflow_tasks import workflow_tasks


def definitions_of(sources: tuple[SourceDefinition, ...]) -> dg.Definitions:
    """Return assets, checks, jobs, sensors and schedules for some sources."""
    return dg.Definitions(
        assets=[asset for source in sources for asset in source_assets(source)],
        asset_checks=[published_checks(s.spec.source_id) for s in sources],
        jobs=[
            publish,
            republish,
            *OPERATOR_JOBS,
            collect,
            approve_hold,
            reject_hold,
            *DEAD_LETTER_JOBS,
            dead_letter_alerts,
            drift_audit,
            rollback,
            retention,
            workflow_step,
        ],
        sensors=[s3_batches, workflow_tasks],
        schedules=[
            *(schedule_of(s.spec) for s in sources if s.spec.cadence_s is not None),
            *alert_schedules(),
            drift_schedule,
            retention_schedule,
        ],
        resources={"platform": platform_resource(Settings.from_env())},
        executor=dg.in_process_executor,
    )


defs = definitions_of(declared_sources())

"""What the tests do with Dagster's jobs and sensor, in process."""

from __future__ import annotations

import dagster as dg

from jobs.collect import collect
from jobs.publish import publish
from penstock.identity.ids import SourceId
from resources.dagster_resources import PlatformResource
from sensors.s3_batches import s3_batches

CRM = SourceId("crm")


def resources() -> dict[str, PlatformResource]:
    """Return the platform that the environment describes, for jobs."""
    return {"platform": PlatformResource()}


def tick(instance: dg.DagsterInstance, cursor: str | None = None) -> dg.SensorResult:
    """Let the sensor look once."""
    with dg.build_sensor_context(
        instance=instance, cursor=cursor, resources=resources()
    ) as context:
        answer = s3_batches(context)
    assert isinstance(answer, dg.SensorResult)
    return answer


def collect_now(instance: dg.DagsterInstance) -> dg.ExecuteInProcessResult:
    """Extract and land the declared sources."""
    return collect.execute_in_process(instance=instance, resources=resources())


def publish_now(instance: dg.DagsterInstance) -> dg.ExecuteInProcessResult:
    """Work through the queue."""
    return publish.execute_in_process(instance=instance, resources=resources())

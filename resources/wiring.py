"""Wiring: settings in, a :class:`Platform` out. The only module that knows every adapter."""

from __future__ import annotations

from typing import TYPE_CHECKING

from penstock.errors import PenstockError
from penstock.identity import ids
from penstock.identity.ids import TargetId
from penstock.ports.object_store import ObjectStore
from penstock.ports.target import Target
from penstock.publish.queue import QueuePolicy
from penstock.use_cases.platform import Platform
from resources.settings import Settings

if TYPE_CHECKING:
    from penstock.use_cases.coordination import Coordination
    from penstock.use_cases.forecasting import Forecasting
    from penstock.use_cases.work import Workshop


def open_platform(settings: Settings, *, objects: ObjectStore | None = None) -> Platform:
    """Build the platform that ``settings`` describe, bringing the control database's schema up to date.

    ``objects`` takes the place of the object store that the settings name.
    """
    from resources.clock import SystemClock
    from resources.control_db.store import SqlControlStore, upgrade
    from resources.maintenance import MaintenanceWindows
    from resources.object_store import open_object_store
    from resources.row_cache import RowCache
    from resources.row_cache.scratch import LocalScratch
    from resources.tracing import open_tracer

    settings.home.mkdir(parents=True, exist_ok=True)
    upgrade(settings.control_url)
    control = SqlControlStore(settings.control_url)
    if objects is None:
        objects = open_object_store(
            settings.store_url,
            endpoint_url=settings.s3_endpoint_url,
            region=settings.s3_region,
            path_style=settings.s3_path_style,
        )
    targets = _open_targets(settings, control)
    return Platform(
        objects=objects,
        control=control,
        batches=RowCache(objects, settings.home / "cache", max_bytes=settings.cache_bytes),
        targets=targets,
        clock=SystemClock(),
        scratch=LocalScratch(settings.home / "scratch"),
        queue_policy=_queue_policy(settings, targets=len(targets)),
        guard_policy=settings.guard_policy,
        retry_policy=settings.retry_policy,
        breaker_policy=settings.breaker_policy,
        requeues_per_minute=settings.requeues_per_minute,
        delete_extras=settings.drift_extras == "delete",
        next_window=MaintenanceWindows(settings.maintenance_windows, targets),
        verify_sample=settings.verify_sample,
        retention_policy=settings.retention_policy,
        tracer=open_tracer(settings.otlp_url),
        lease_s=settings.lease_s,
        chunk_operations=settings.chunk_operations,
    )


def open_coordination(platform: Platform) -> Coordination:
    """Return the workflows over a platform that :func:`open_platform` has opened."""
    from penstock.use_cases.coordination import Coordination
    from resources.control_db.engine import Database
    from resources.control_db.workflows import SqlWorkflows
    from resources.cron import next_due

    control = platform.control
    assert isinstance(control, Database), "the platform's control store is no database"
    workflows = SqlWorkflows.from_engine(control.engine)
    return Coordination(platform=platform, workflows=workflows, next_due=next_due)


def open_workshop(platform: Platform, settings: Settings | None = None) -> Workshop:
    """Return the workers over a platform that :func:`open_platform` has opened."""
    from penstock.use_cases.work import Workshop
    from resources.control_db.engine import Database
    from resources.control_db.work import SqlWork

    settings = settings or Settings.from_env()
    control = platform.control
    assert isinstance(control, Database), "the platform's control store is no database"
    return Workshop(
        work=SqlWork.from_engine(control.engine),
        clock=platform.clock,
        policy=settings.worker_policy,
        priorities=settings.workflow_policy,
    )


def open_forecasting(settings: Settings, platform: Platform) -> Forecasting:
    """Build what forecasting use cases are given, on a platform that :func:`open_platform` built."""
    from penstock.use_cases.forecasting import Forecasting
    from resources.control_db.engine import Database
    from resources.control_db.forecasts import SqlForecasts
    from resources.control_db.incidents import SqlIncidents

    control = platform.control
    assert isinstance(control, Database), "the platform's control store is no database"
    return Forecasting(
        platform=platform,
        forecasts=SqlForecasts.from_engine(control.engine),
        incidents=SqlIncidents.from_engine(control.engine),
        policy=settings.forecast_policy,
        workers=settings.workers,
    )


def _queue_policy(settings: Settings, *, targets: int) -> QueuePolicy:
    """Return the policy with a limit that keeps one target, should it hang, from taking every worker of a run.

    Not where there is one target alone, or where the setting names a limit: null for none. Nor with fewer than three
    workers: a limit of one lane would have the sources of one target wait for each other, which the breaker of a
    target that hangs ends sooner.
    """
    policy = settings.queue_policy
    named = "most_lanes_per_target" in policy.model_fields_set
    if targets < 2 or settings.workers < 3 or named:
        return policy
    return policy.model_copy(update={"most_lanes_per_target": settings.workers - 1})


def _open_targets(settings: Settings, control: object) -> dict[TargetId, Target]:
    from resources.control_db.store import SqlControlStore
    from resources.targets.http import open_http
    from resources.targets.registry import open_registry
    from resources.targets.sql_table import open_sql_table

    assert isinstance(control, SqlControlStore)
    registry = open_registry(control.engine)
    targets: dict[TargetId, Target] = {registry.target_id: registry}
    for name, url in settings.sql_targets.items():
        target = ids.target_id(name)
        if target in targets:
            raise PenstockError(
                f"target {name!r} in PENSTOCK_SQL_TARGETS is taken: choose another id"
            )
        targets[target] = open_sql_table(url.get_secret_value(), target)
    for name, endpoint in settings.http_targets.items():
        target = ids.target_id(name)
        if target in targets:
            raise PenstockError(
                f"target {name!r} in PENSTOCK_HTTP_TARGETS is taken: choose another id"
            )
        targets[target] = open_http(endpoint, target)
    return targets

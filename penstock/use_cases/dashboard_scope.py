"""What a caller may see: things of its own tenant, and of the others not even that they are there."""

from __future__ import annotations

from penstock.errors import NotFound, UndeclaredSource
from penstock.identity.ids import BatchId, SourceId, TargetId, TenantId
from penstock.ports.control import BatchRecord
from penstock.ports.dead_letters import DeadLetter
from penstock.publish.state import PublishState
from penstock.use_cases.dashboard import Dashboard


def own_batch(dashboard: Dashboard, batch: BatchId, tenant: TenantId | None) -> BatchRecord:
    """Return an admitted batch, or raise ``NotFound``."""
    found = dashboard.platform.control.get_batch(batch)
    if tenant is not None and found.manifest.tenant_id != tenant:
        raise NotFound(
            f"no batch {batch!r} has been admitted: `penstock batches` lists those that have"
        )
    return found


def own_state(
    dashboard: Dashboard, batch: BatchId, target: TargetId, tenant: TenantId | None
) -> PublishState:
    """Return a publish state, or raise ``NotFound``."""
    own_batch(dashboard, batch, tenant)
    return dashboard.platform.control.get_state(batch, target)


def own_letter(dashboard: Dashboard, dead_letter_id: str, tenant: TenantId | None) -> DeadLetter:
    """Return a dead letter, or raise ``NotFound``."""
    found = dashboard.platform.control.get_dead_letter(dead_letter_id)
    if tenant is not None and not dashboard.views.owns_letter(tenant, found):
        raise NotFound(
            f"there is no dead letter {dead_letter_id!r}: `penstock dead-letters` lists what there is"
        )
    return found


def own_source(dashboard: Dashboard, source: SourceId, tenant: TenantId | None) -> SourceId:
    """Return a source that is declared or has batches, or raise ``UndeclaredSource``."""
    control = dashboard.platform.control
    batches = control.list_batches(source=source, limit=1)
    spec = None if batches else control.get_source(source)
    owner = spec.tenant_id if spec else batches[0].manifest.tenant_id
    if tenant is not None and owner != tenant:
        raise UndeclaredSource(
            f"source {source!r} was never declared: name it in platform_assets/sources.py and reload the "
            "code location"
        )
    return source

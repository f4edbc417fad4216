"""Dagster's way to the platform: one resource, opened once per process.

The import of this module is paid at every run's start. dagster-aws costs 0.4 s more, so only an installation whose
object store is S3 imports it (``dagster_s3.py``).
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING

from dagster import ConfigurableResource
from pydantic import Field

from penstock.identity.trace import read_trace_parent
from resources.settings import Settings

if TYPE_CHECKING:
    from penstock.ports.object_store import ObjectStore
    from penstock.use_cases.platform import Platform

TRACE_TAG = "penstock/trace_parent"
"""The tag of a run whose work belongs to a trace: its W3C trace context."""
_lock = threading.Lock()
_opened: dict[str, Platform] = {}


class PlatformResource(ConfigurableResource["PlatformResource"]):
    """The platform that the environment describes (``PENSTOCK_*``)."""

    objects_url: str | None = Field(
        default=None,
        description="Where batches, plans and snapshots are, in place of what PENSTOCK_OBJECTS_URL names.",
    )

    def open(self) -> Platform:
        """Return the platform; every caller in this process with the same settings gets the same one."""
        settings = Settings.from_env()
        if self.objects_url:
            settings = settings.model_copy(update={"objects_url": self.objects_url})
        key = f"{settings!r}|{settings.control_url}|{self!r}"
        with _lock:
            if key not in _opened:
                _opened[key] = self._open(settings)
            return _opened[key]

    def _open(self, settings: Settings) -> Platform:
        from resources.wiring import open_platform

        return open_platform(settings, objects=self._objects(settings))

    def _objects(self, _settings: Settings) -> ObjectStore | None:
        """Return the object store to open the platform on; None for the one that the settings name."""
        return None


def trace_of(tags: Mapping[str, str]) -> str | None:
    """Return the trace that a run belongs to, as its tags say; None if they name none, or none that is one."""
    return read_trace_parent(tags.get(TRACE_TAG))


def platform_resource(settings: Settings) -> PlatformResource:
    """Return the resource for an installation: through dagster-aws where its object store is S3.

    Path-style addresses are left to the platform's own client, since dagster-aws has no word for them.
    """
    if not settings.store_url.startswith("s3://") or settings.s3_path_style:
        return PlatformResource(objects_url=settings.store_url)
    from resources.dagster_s3 import s3_platform_resource

    return s3_platform_resource(settings)

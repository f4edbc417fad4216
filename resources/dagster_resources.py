"""Dagster's way to the platform: one resource, opened once per process, its S3 through dagster-aws."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from dagster import ConfigurableResource
from dagster_aws.s3 import S3Resource
from pydantic import Field

from resources.settings import Settings

if TYPE_CHECKING:
    from penstock.ports.object_store import ObjectStore
    from penstock.use_cases.platform import Platform

_lock = threading.Lock()
_opened: dict[str, Platform] = {}


class PlatformResource(ConfigurableResource["PlatformResource"]):
    """The platform that the environment describes (``PENSTOCK_*``), with S3 as Dagster has it configured."""

    s3: S3Resource | None = Field(
        default=None,
        description="Credentials, region and endpoint of S3; by default those of the environment.",
    )

    def open(self) -> Platform:
        """Return the platform; every caller in this process with the same settings gets the same one."""
        settings = Settings.from_env()
        key = f"{settings.model_dump_json()}|{self.s3!r}"
        with _lock:
            if key not in _opened:
                _opened[key] = self._open(settings)
            return _opened[key]

    def _open(self, settings: Settings) -> Platform:
        from resources.wiring import open_platform

        return open_platform(settings, objects=self._objects(settings))

    def _objects(self, settings: Settings) -> ObjectStore | None:
        parts = urlsplit(settings.store_url)
        if parts.scheme != "s3" or self.s3 is None:
            return None
        from resources.object_store.s3 import S3ObjectStore

        return S3ObjectStore(
            self.s3.get_client(), bucket=parts.netloc, prefix=parts.path.strip("/")
        )


def s3_from_settings(settings: Settings) -> S3Resource | None:
    """Return dagster-aws's resource for the endpoint that the settings name, or None without S3.

    Path-style addresses are left to the platform's own client, since the resource has no word for them.
    """
    if not settings.store_url.startswith("s3://") or settings.s3_path_style:
        return None
    return S3Resource(endpoint_url=settings.s3_endpoint_url, region_name=settings.s3_region)

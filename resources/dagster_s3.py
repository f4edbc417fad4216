"""The platform on S3 as dagster-aws has it configured: credentials, region, endpoint, profile and retries."""

from __future__ import annotations

from urllib.parse import urlsplit

from dagster_aws.s3 import S3Resource
from pydantic import Field

from penstock.ports.object_store import ObjectStore
from resources.dagster_resources import PlatformResource
from resources.settings import Settings


class S3PlatformResource(PlatformResource):
    """The platform that the environment describes, with its object store through dagster-aws's S3."""

    s3: S3Resource = Field(
        description="Credentials, region and endpoint of S3; by default those of the environment."
    )

    def _objects(self, settings: Settings) -> ObjectStore:
        from resources.object_store.s3 import S3ObjectStore

        parts = urlsplit(settings.store_url)
        return S3ObjectStore(
            self.s3.get_client(), bucket=parts.netloc, prefix=parts.path.strip("/")
        )


def s3_platform_resource(settings: Settings) -> S3PlatformResource:
    """Return the resource for the endpoint and region that the settings name."""
    return S3PlatformResource(
        objects_url=settings.store_url,
        s3=S3Resource(endpoint_url=settings.s3_endpoint_url, region_name=settings.s3_region),
    )

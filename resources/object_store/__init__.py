"""Object stores behind :class:`penstock.ports.object_store.ObjectStore`: S3, and a folder on disk."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlsplit

from penstock.errors import PenstockError
from penstock.ports.object_store import ObjectStore


def open_object_store(
    url: str,
    *,
    endpoint_url: str | None = None,
    region: str | None = None,
    path_style: bool | None = None,
) -> ObjectStore:
    """Open ``s3://bucket/prefix`` or ``file:///folder``.

    The other arguments are for S3 alone; credentials come by boto3's own chain: environment, profile, instance.
    A folder that is not there is made; a bucket is not.
    """
    parts = urlsplit(url)
    if parts.scheme == "s3" and parts.netloc:
        from resources.object_store.s3 import S3ObjectStore, s3_client

        client = s3_client(endpoint_url=endpoint_url, region=region, path_style=path_style)
        return S3ObjectStore(client, bucket=parts.netloc, prefix=parts.path)
    if parts.scheme == "file" and parts.path not in {"", "/"} and parts.netloc in {"", "localhost"}:
        from resources.object_store.local import LocalObjectStore

        return LocalObjectStore(Path(unquote(parts.path)))
    raise PenstockError(
        f"object store {url!r} is neither s3://bucket/prefix nor file:///folder: "
        "set PENSTOCK_OBJECTS_URL to one of the two"
    )

"""Objects in S3, or whatever speaks its words: any endpoint, region and addressing style.

Only what every S3-compatible service has is used: plain, conditional (``If-None-Match: *``) and multipart puts, ranged
gets, listings by pages, and deletes by the thousand. Transient errors are retried by botocore; a read that
breaks off goes on where it stopped.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from itertools import islice
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from botocore.config import Config
from botocore.exceptions import ClientError, HTTPClientError, IncompleteReadError

from penstock.errors import ObjectMissing
from penstock.ports.object_store import ObjectInfo
from resources.object_store.keys import checked_folder, checked_key

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

PART_BYTES = 8 * 1024 * 1024
_PARTS_OF_ONE_SIZE = 1_000
_MAX_RESUMES = 3
_MAX_CONFLICTS = 5
_MISSING = {"NoSuchKey", "404", "NotFound"}
_TAKEN = {"PreconditionFailed", "412"}
_CONFLICT = {"ConditionalRequestConflict", "409"}


def s3_client(
    *,
    endpoint_url: str | None = None,
    region: str | None = None,
    path_style: bool | None = None,
) -> S3Client:
    """Return a client; None for path style means: where an endpoint is given, as most such services need it."""
    import boto3

    if path_style is None:
        path_style = endpoint_url is not None
    config = Config(
        retries={"mode": "standard", "max_attempts": 5},
        s3={"addressing_style": "path" if path_style else "auto"},
        max_pool_connections=32,
        connect_timeout=10,
        read_timeout=60,
    )
    return boto3.session.Session().client(
        "s3", endpoint_url=endpoint_url, region_name=region, config=config
    )


class S3ObjectStore:
    """The objects under one prefix of one bucket."""

    def __init__(self, client: S3Client, *, bucket: str, prefix: str = "") -> None:
        self._client = client
        self._bucket = bucket
        prefix = prefix.strip("/")
        self._prefix = checked_key(prefix) + "/" if prefix else ""

    def __repr__(self) -> str:
        return f"S3ObjectStore({self.url('')!r})"

    def _at(self, key: str) -> dict[str, Any]:
        return {"Bucket": self._bucket, "Key": self._prefix + checked_key(key)}

    # Reading ----------------------------------------------------------------------------------------

    def get(self, key: str) -> bytes:
        """Return a whole object."""
        with self.open(key) as file:
            return file.read()

    def read_range(self, key: str, offset: int, length: int) -> bytes:
        """Return exactly ``length`` bytes from ``offset``; fewer raise ``ObjectMissing``."""
        if length == 0:
            return b""
        try:
            with self._body(key, offset, offset + length - 1) as body:
                data = body.readall()
        except ClientError as error:
            if _code(error) not in {"InvalidRange", "416"}:
                raise
            data = b""
        if len(data) != length:
            raise ObjectMissing(f"{self.url(key)} ends before byte {offset + length}")
        return data

    @contextmanager
    def open(self, key: str) -> Iterator[BinaryIO]:
        """Stream an object from its beginning."""
        with self._body(key, 0, None) as body:
            yield cast("BinaryIO", io.BufferedReader(body, buffer_size=1024 * 1024))

    def _body(self, key: str, offset: int, last: int | None) -> _Body:
        try:
            return _Body(self._client, self._at(key), offset, last)
        except ClientError as error:
            if _code(error) in _MISSING:
                raise ObjectMissing(f"{self.url(key)} is not in the object store") from error
            raise

    def stat(self, key: str) -> ObjectInfo | None:
        """Return what is known of an object, or None if there is none."""
        try:
            head = self._client.head_object(**self._at(key))
        except ClientError as error:
            if _code(error) in _MISSING:
                return None
            raise
        return ObjectInfo(
            key=key, size_bytes=head["ContentLength"], last_modified=head["LastModified"]
        )

    def list(self, prefix: str, *, start_after: str = "") -> Iterator[ObjectInfo]:
        """Yield the objects whose keys come after ``start_after``, in order of their UTF-8 bytes."""
        for page in self._pages(prefix, start_after, {}):
            for found in page.get("Contents", ()):
                yield ObjectInfo(
                    key=found["Key"].removeprefix(self._prefix),
                    size_bytes=found["Size"],
                    last_modified=found["LastModified"],
                )

    def list_folders(self, prefix: str, *, start_after: str = "") -> Iterator[str]:
        """Yield the distinct ``prefix<segment>/`` that hold an object, in order, after ``start_after``."""
        checked_folder(prefix)
        # 0 is what follows / in UTF-8: so the service passes over every key inside the folder itself.
        after = start_after[:-1] + "0" if start_after.endswith("/") else start_after
        for page in self._pages(prefix, after, {"Delimiter": "/"}):
            for found in page.get("CommonPrefixes", ()):
                folder = found["Prefix"].removeprefix(self._prefix)
                if folder.encode() > start_after.encode():
                    yield folder

    def _pages(self, prefix: str, start_after: str, extra: dict[str, Any]) -> Iterator[Any]:
        if start_after:
            extra = {**extra, "StartAfter": self._prefix + start_after}
        pages = self._client.get_paginator("list_objects_v2")
        yield from pages.paginate(Bucket=self._bucket, Prefix=self._prefix + prefix, **extra)

    def url(self, key: str) -> str:
        """Return the address a person would look at."""
        return f"s3://{self._bucket}/{self._prefix}{key}"

    # Writing ----------------------------------------------------------------------------------------

    def put(self, key: str, data: bytes) -> None:
        """Write an object, over whatever is there."""
        self._client.put_object(Body=data, **self._at(key))

    def put_if_absent(self, key: str, data: bytes) -> bool:
        """Write an object only if the key is free; say whether it was. Exactly one of many racers wins.

        A put whose answer was lost is asked again, and then finds its own object there: a caller to whom that
        matters compares what stands there with what it wrote.
        """
        for attempt in range(_MAX_CONFLICTS):
            try:
                self._client.put_object(Body=data, IfNoneMatch="*", **self._at(key))
            except ClientError as error:
                if _code(error) in _TAKEN:
                    return False
                # A conflict says that another put is under way, not that it will win: ask again.
                if _code(error) not in _CONFLICT or attempt == _MAX_CONFLICTS - 1:
                    raise
            else:
                return True
        raise AssertionError("the loop returns or raises")

    @contextmanager
    def upload(self, key: str) -> Iterator[BinaryIO]:
        """Stream an object in bounded memory; it appears, whole, when the block ends without an error."""
        upload = _Upload(self._client, self._at(key))
        try:
            yield cast("BinaryIO", upload)
            upload.complete()
        except BaseException:
            upload.abort()
            raise

    def delete(self, keys: Iterable[str]) -> None:
        """Delete objects; absent ones are no error."""
        remaining = iter(keys)
        while some := list(islice(remaining, 1000)):
            named = [{"Key": self._at(key)["Key"]} for key in some]
            answer = self._client.delete_objects(
                Bucket=self._bucket, Delete={"Objects": cast("Any", named), "Quiet": True}
            )
            for failed in answer.get("Errors", ()):
                raise ClientError({"Error": cast("Any", failed)}, "DeleteObjects")


class _Body(io.RawIOBase):
    """An object's bytes; a connection that breaks is replaced, from where it broke, on the same version."""

    def __init__(self, client: S3Client, at: dict[str, Any], offset: int, last: int | None) -> None:
        self._client = client
        self._at = at
        self._offset = offset
        self._last = last
        self._resumes = 0
        self._etag: str | None = None
        self._stream = self._open()

    def _open(self) -> Any:
        extra: dict[str, Any] = {}
        if self._offset or self._last is not None:
            extra["Range"] = f"bytes={self._offset}-{'' if self._last is None else self._last}"
        if self._etag is not None:
            extra["IfMatch"] = self._etag
        answer = self._client.get_object(**self._at, **extra)
        self._etag = answer["ETag"]
        return answer["Body"]

    def readable(self) -> bool:
        return True

    def readall(self) -> bytes:
        return b"".join(iter(lambda: self._next(PART_BYTES), b""))

    def readinto(self, buffer: Any) -> int:
        data = self._next(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def _next(self, length: int) -> bytes:
        while True:
            try:
                data: bytes = self._stream.read(length)
            except (HTTPClientError, IncompleteReadError, OSError):
                if self._resumes == _MAX_RESUMES:
                    raise
                self._resumes += 1
                self._stream.close()
                self._stream = self._open()
                continue
            self._offset += len(data)
            return data

    def close(self) -> None:
        if not self.closed:
            self._stream.close()
        super().close()


class _Upload(io.RawIOBase):
    """Collects a part, sends it, and forgets it; an object of one part is put at once."""

    def __init__(self, client: S3Client, at: dict[str, Any]) -> None:
        self._client = client
        self._at = at
        self._pending = bytearray()
        self._upload_id: str | None = None
        self._parts: list[Any] = []

    def writable(self) -> bool:
        return True

    def write(self, data: Any, /) -> int:
        view = memoryview(data).cast("B")
        for start in range(0, len(view), PART_BYTES):
            self._pending += view[start : start + PART_BYTES]
            # At most 10,000 parts are allowed: parts grow, so that an object may have 5 TB.
            if len(self._pending) >= PART_BYTES << (len(self._parts) // _PARTS_OF_ONE_SIZE):
                self._send()
        return len(view)

    def _send(self) -> None:
        if self._upload_id is None:
            self._upload_id = self._client.create_multipart_upload(**self._at)["UploadId"]
        number = len(self._parts) + 1
        answer = self._client.upload_part(
            UploadId=self._upload_id, PartNumber=number, Body=bytes(self._pending), **self._at
        )
        self._parts.append({"PartNumber": number, "ETag": answer["ETag"]})
        self._pending.clear()

    def complete(self) -> None:
        if self._upload_id is None:
            self._client.put_object(Body=bytes(self._pending), **self._at)
            return
        if self._pending:
            self._send()
        self._client.complete_multipart_upload(
            UploadId=self._upload_id, MultipartUpload={"Parts": self._parts}, **self._at
        )

    def abort(self) -> None:
        if self._upload_id is not None:
            with suppress(ClientError, HTTPClientError):
                self._client.abort_multipart_upload(UploadId=self._upload_id, **self._at)


def _code(error: ClientError) -> str:
    return str(error.response["Error"].get("Code", ""))

"""What has to be known of an HTTP endpoint: its address, its secret, and how far it is trusted with time and memory."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, model_validator

_LOOPBACK = {"localhost", "127.0.0.1", "::1"}


def _address(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError("url is no http:// or https:// address")
    if parts.username is not None or parts.query or parts.fragment:
        raise ValueError("url has a user, a query or a fragment: the secret goes into token")
    return url.rstrip("/")


class HttpEndpoint(BaseModel):
    """One endpoint that speaks the protocol of ``docs/reference/http_target.md``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    url: Annotated[str, AfterValidator(_address)]
    """``/operations`` and ``/read`` are below it."""
    token: SecretStr | None = None
    """Sent as ``Authorization: Bearer``, over TLS or to this machine itself, and shown nowhere."""
    connect_timeout_s: float = Field(default=10.0, gt=0)
    timeout_s: float = Field(default=60.0, gt=0)
    """From the beginning of a call to the last byte of its answer."""
    max_body_bytes: int = Field(default=4 * 2**20, ge=1024)
    """Most that one request carries before compression; a chunk of operations takes as many as it needs."""
    max_operations: int = Field(default=1000, ge=1)
    """Most that one request carries, of operations or of keys to read."""
    max_answer_bytes: int = Field(default=16 * 2**20, ge=1024)
    """After decompression; what answers more is cut off."""
    gzip: bool = True
    """Compress requests of more than a kilobyte."""
    ca_file: Path | None = None
    """Certificates to trust in place of the system's."""

    @model_validator(mode="after")
    def _keeps_its_secret(self) -> Self:
        parts = urlsplit(self.url)
        if self.token is not None and parts.scheme == "http" and parts.hostname not in _LOOPBACK:
            raise ValueError("a token goes over https:// only")
        if self.token is not None and not self.token.get_secret_value().isprintable():
            raise ValueError("token holds characters that no header can carry")
        return self

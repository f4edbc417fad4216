"""What documents of both servers have in common, and the problem document."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

Json = dict[str, Any]
Moment = Annotated[
    str, Field(json_schema_extra={"format": "date-time"}, examples=["2026-11-20T19:24:14.000000Z"])
]


class Document(BaseModel):
    """What is said of every document: nothing but what is declared is in it."""

    model_config = ConfigDict(extra="forbid")


class ErrorDocument(BaseModel):
    """One thing that is wrong."""

    path: str = Field(description="A JSON pointer into what was sent.")
    rule: str
    message: str
    value_type: str | None = None
    remedy: str | None = None


class ProblemDocument(BaseModel):
    """A refusal (RFC 9457): nothing of what was asked for was done."""

    type: str = Field(examples=["urn:penstock:problem:schema_violation"])
    title: str
    status: int
    detail: str
    code: str = Field(examples=["schema_violation"])
    instance: str
    errors: list[ErrorDocument]

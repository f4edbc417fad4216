"""Acts of people: who asks for something and why, as it goes into the audit log."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from penstock.errors import Unsigned
from penstock.identity.ids import SourceId
from penstock.ports.audit_log import AuditEntry

LONGEST_ACTOR = 255
"""Characters of a name, as the audit log keeps it."""
LONGEST_REASON = 2000
"""Characters of a reason, as the manifest of a correction keeps it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class By:
    """Who asks for an act, and why; raises ``Unsigned`` unless somebody does."""

    actor: str
    reason: str | None = None

    def __post_init__(self) -> None:
        if not self.actor.strip():
            raise Unsigned("nobody is named as the one who asks for this: give a name")
        if len(self.actor) > LONGEST_ACTOR:
            raise Unsigned(
                f"the name of who asks has {len(self.actor)} characters: at most {LONGEST_ACTOR} are kept"
            )
        if self.reason is not None and len(self.reason) > LONGEST_REASON:
            raise Unsigned(
                f"the reason has {len(self.reason):,} characters: at most {LONGEST_REASON:,} are kept"
            )

    def why(self, act: str) -> str:
        """Return the reason, or raise ``Unsigned`` for an act that others have to understand later."""
        if self.reason is None or not self.reason.strip():
            raise Unsigned(
                f"to {act}, give a reason: those who meet it later have to understand why"
            )
        return self.reason

    def entry(
        self,
        act: str,
        subject: str,
        *,
        now: datetime,
        source: SourceId | None = None,
        details: Mapping[str, Any] | None = None,
    ) -> AuditEntry:
        """Return the audit log's entry of one act, ``<what>.<verb>``, on one subject."""
        return AuditEntry(
            at=now,
            actor=self.actor,
            act=act,
            subject=subject,
            source_id=source,
            reason=self.reason,
            details=details or {},
        )

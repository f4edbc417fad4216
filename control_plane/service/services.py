"""What the control plane's server stands on: the use cases' platform, who may come in, and what else loops share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

from sqlalchemy import Engine
from sqlalchemy.exc import OperationalError

from control_plane.service.intake import open_intake
from control_plane.service.leasing import HeldLease
from control_plane.service.reports import open_reports
from control_plane.service.together import Together
from control_plane.service.waiting_room import WaitingRoom
from control_plane.web.answering import database_is_away
from control_plane.web.gate import CannotTell
from control_plane.web.places import Places
from control_plane.web.remembering import Remembered
from penstock.access.limits import RequestLimits
from penstock.access.tokens import Principal
from penstock.ports.audit_log import AuditLog
from penstock.ports.clock import Clock
from penstock.ports.events import Received
from penstock.ports.tokens import Tokens
from penstock.use_cases.access_tokens import admit_token
from penstock.use_cases.coordination import Coordination
from penstock.use_cases.platform import Platform
from penstock.use_cases.reporting import Ended
from penstock.use_cases.work import Workshop
from penstock.workflow.records import Task
from resources.control_db.inbox import SqlInbox
from resources.control_db.loop_leases import SqlLoopLeases
from resources.control_db.outbox_tables import CHANNEL as OUTBOX
from resources.control_db.signals import Signal, open_signal
from resources.settings import Settings
from resources.wiring import open_coordination, open_workshop


@dataclass(frozen=True, kw_only=True)
class Services:
    """Everything behind one server. Threads share it."""

    platform: Platform
    engine: Engine
    """Of the control database: for stores of their own, ``from_engine``."""
    tokens: Tokens
    audit: AuditLog
    settings: Settings
    limits: RequestLimits = field(default_factory=RequestLimits)
    live_poll_s: float = 1.0
    """Seconds between two looks on behalf of a page that follows what happens."""
    heartbeat_s: float = 15.0
    """Seconds after which a follower of a stream is told that there is nothing new."""
    close: Callable[[], None] = lambda: None
    """Let go of what is open."""

    @property
    def clock(self) -> Clock:
        """The time."""
        return self.platform.clock

    @cached_property
    def remembered(self) -> Remembered:
        """Who was let in a moment ago."""
        return Remembered(clock=self.clock)

    @cached_property
    def intake(self) -> Together[Received, int]:
        """Where events come in over HTTP."""
        return open_intake(SqlInbox.from_engine(self.engine), self.clock)

    @cached_property
    def reports(self) -> Together[Ended, Task]:
        """Where workers report how tasks ended."""
        return open_reports(self.workshop, self.coordination)

    @cached_property
    def streams(self) -> Places:
        """Room for followers of streams."""
        return Places(self.limits.streams)

    @cached_property
    def workshop(self) -> Workshop:
        """The workers, and what they are given."""
        return open_workshop(self.platform, self.settings)

    @cached_property
    def coordination(self) -> Coordination:
        """The workflows."""
        return open_coordination(self.platform)

    @cached_property
    def room(self) -> WaitingRoom:
        """Where workers wait for tasks."""
        return WaitingRoom(self.workshop)

    @cached_property
    def work_signal(self) -> Signal:
        """What wakes those who wait for tasks; one thread waits for it."""
        return open_signal(self.engine, OUTBOX)

    @cached_property
    def _leases(self) -> dict[str, HeldLease]:
        return {}

    def lease(self, name: str) -> HeldLease:
        """Return this server's lease on what one server at a time does."""
        if name not in self._leases:
            leases = SqlLoopLeases.from_engine(self.engine)
            self._leases[name] = HeldLease(name=name, leases=leases, clock=self.clock)
        return self._leases[name]

    def let_go(self) -> None:
        """Close what is open, once nobody uses it any more."""
        if "work_signal" in self.__dict__:
            self.work_signal.close()
        self.close()

    def admit(self, text: str) -> Principal | None:
        """Return the caller whom a token speaks for; raises ``CannotTell`` while the database does not answer."""
        try:
            return admit_token(self.tokens, text, now=self.clock.now())
        except OperationalError as error:
            if database_is_away(error):
                raise CannotTell("the control database does not answer for now") from error
            raise

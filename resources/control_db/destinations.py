"""Where events are sent to, in the control database.

Whatever somebody changes of a destination takes it away from the server that is sending to it: that one's record of
how far it came is then refused, and what it sent is sent again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Self

from sqlalchemy import Connection, and_, delete, func, or_, select, update

from penstock.errors import IllegalMove, NotFound, SecretUnreadable
from penstock.events.delivery import (
    Delivery,
    Destination,
    DestinationKind,
    DestinationStatus,
    Wanted,
)
from penstock.events.envelope import OutboxCursor
from penstock.events.facts import shortened
from penstock.events.workflows import DestinationDisabled
from penstock.identity.ids import TenantId
from penstock.ports.audit_log import AuditEntry
from penstock.ports.events import DeliveryLease
from resources.control_db.audit_log import add_act
from resources.control_db.engine import Database, insert_if_new
from resources.control_db.event_tables import delivery, destination, destination_secret
from resources.control_db.outbox import add_events
from resources.control_db.rows import storable_text
from resources.sealing import SecretBox

_table = destination.c
_secret = destination_secret.c
_FREE: Mapping[str, Any] = {"lease_owner": None, "lease_until": None}
_UNFAILED: Mapping[str, Any] = {
    "failures": 0,
    "failing_since": None,
    "retry_at": None,
    "last_error": None,
}


class SqlDestinations(Database):
    """:class:`penstock.ports.events.Destinations` in SQL. Without a box it neither keeps nor tells secrets."""

    _box: SecretBox | None = None

    def with_box(self, box: SecretBox) -> Self:
        """Have secrets sealed and opened."""
        self._box = box
        return self

    @property
    def box(self) -> SecretBox:
        """What seals."""
        assert self._box is not None, "nothing here is to touch secrets"
        return self._box

    def add(self, new: Destination, secret: str | None, *, act: AuditEntry) -> None:
        """Add one; raises ``IllegalMove`` if its id is taken."""
        with self._writing() as connection:
            if not insert_if_new(connection, destination, _row_of(new)):
                raise IllegalMove(
                    f"there is a destination {new.destination_id!r} already: choose another id"
                )
            if secret is not None:
                _add_secret(connection, new.destination_id, self.box.seal(secret), act.at)
            add_act(connection, act)

    def get(self, destination_id: str) -> Destination:
        """Return one, or raise ``NotFound``."""
        with self._reading() as connection:
            return _read(connection, destination_id)

    def find(self, tenant: TenantId | None = None) -> list[Destination]:
        """Return all, or those of a tenant, by id."""
        query = select(destination).order_by(_table.destination_id)
        if tenant is not None:
            query = query.where(_table.tenant_id == tenant)
        with self._reading() as connection:
            return [_destination_of(row) for row in connection.execute(query).mappings()]

    def change(
        self,
        destination_id: str,
        *,
        address: str | None = None,
        wanted: Wanted | None = None,
        act: AuditEntry,
    ) -> Destination:
        """Change where or what is sent; what is None stays."""
        changes: dict[str, Any] = {}
        if address is not None:
            changes["address"] = address
        if wanted is not None:
            changes |= {"types": list(wanted.types), "subjects": list(wanted.subjects)}
        return self._act_on(destination_id, changes, act)

    def remove(self, destination_id: str, *, act: AuditEntry) -> None:
        """Remove one, with its secrets and deliveries; raises ``NotFound``."""
        with self._writing() as connection:
            _read(connection, destination_id, lock=True)
            for table in (destination_secret, delivery, destination):
                mine = table.c.destination_id == destination_id
                connection.execute(delete(table).where(mine))
            add_act(connection, act)

    def enable(self, destination_id: str, *, act: AuditEntry) -> Destination:
        """Have it sent events again, from where it was."""
        enabled = {"status": "enabled", "disabled_at": None, "disabled_why": None}
        return self._act_on(destination_id, {**enabled, **_UNFAILED}, act)

    def disable(self, destination_id: str, *, why: str, act: AuditEntry) -> Destination:
        """Have it sent nothing."""
        disabled = {
            "status": "disabled",
            "disabled_at": act.at,
            "disabled_why": storable_text(why),
        }
        return self._act_on(destination_id, disabled, act, tells=True)

    def replay(self, destination_id: str, place: OutboxCursor, *, act: AuditEntry) -> Destination:
        """Have it sent again all that comes after a place."""
        return self._act_on(destination_id, {**_cursor(place), **_UNFAILED}, act)

    def rotate(
        self, destination_id: str, secret: str, *, old_until: datetime, act: AuditEntry
    ) -> None:
        """Sign with another secret, and with those before until a moment."""
        before = and_(
            _secret.destination_id == destination_id,
            or_(_secret.expires_at.is_(None), _secret.expires_at > old_until),
        )
        with self._writing() as connection:
            _read(connection, destination_id, lock=True)
            connection.execute(
                update(destination_secret).where(before).values(expires_at=old_until)
            )
            _add_secret(connection, destination_id, self.box.seal(secret), act.at)
            gone = and_(_secret.destination_id == destination_id, _secret.expires_at <= act.at)
            connection.execute(delete(destination_secret).where(gone))
            add_act(connection, act)

    def secrets(self, destination_id: str, now: datetime) -> Sequence[str]:
        """Return the secrets to sign with, the newest first; raises ``SecretUnreadable`` if a key is missing."""
        query = select(_secret.secret).where(
            _secret.destination_id == destination_id,
            or_(_secret.expires_at.is_(None), _secret.expires_at > now),
        )
        with self._reading() as connection:
            kept = list(connection.execute(query.order_by(_secret.number.desc())).scalars())
        return [self.box.open(each) for each in kept]

    def seal_anew(self) -> int:
        """Seal by the newest key what is sealed by an older one, or not at all; return how many were."""
        sealed = 0
        with self._reading() as connection:
            rows = connection.execute(select(destination_secret)).mappings().all()
        for row in rows:
            if self.box.is_current(row["secret"]):
                continue
            try:
                fresh = self.box.seal(self.box.open(row["secret"]))
            except SecretUnreadable:
                # Whoever sends to it says so; the others are not to wait for that.
                continue
            same = and_(
                _secret.destination_id == row["destination_id"],
                _secret.number == row["number"],
                _secret.secret == row["secret"],
            )
            with self._writing() as connection:
                statement = update(destination_secret).where(same).values(secret=fresh)
                sealed += connection.execute(statement).rowcount
        return sealed

    def deliveries(self, destination_id: str, *, limit: int = 100) -> list[Delivery]:
        """Return the last tries, newest first."""
        table = delivery.c
        query = select(delivery).where(table.destination_id == destination_id)
        with self._reading() as connection:
            rows = connection.execute(query.order_by(table.delivery_number.desc()).limit(limit))
            return [_delivery_of(row) for row in rows.mappings()]

    def due(self, now: datetime) -> list[Destination]:
        """Return those that may be sent something now, and that nobody has a lease on."""
        query = select(destination).where(_is_free(now), _is_due(now))
        with self._reading() as connection:
            rows = connection.execute(query.order_by(_table.destination_id)).mappings()
            return [_destination_of(row) for row in rows]

    def has_enabled(self) -> bool:
        """Say whether anybody is to be sent anything, now or later."""
        query = select(_table.destination_id).where(_table.status == "enabled").limit(1)
        with self._reading() as connection:
            return connection.execute(query).first() is not None

    def lease(
        self, destination_id: str, owner: str, *, now: datetime, lease_s: float
    ) -> DeliveryLease | None:
        """Take a destination, or return None if somebody has it, or it is not to be sent anything now."""
        taken = {
            "lease_owner": owner,
            "lease_until": now + timedelta(seconds=lease_s),
            "fencing_token": _table.fencing_token + 1,
        }
        free = and_(_table.destination_id == destination_id, _is_free(now), _is_due(now))
        statement = update(destination).where(free).values(**taken).returning(destination)
        with self._writing() as connection:
            row = connection.execute(statement).mappings().one_or_none()
        if row is None:
            return None
        return DeliveryLease(
            destination=_destination_of(row), owner=owner, fencing_token=row["fencing_token"]
        )

    def record(
        self,
        lease: DeliveryLease,
        *,
        cursor: OutboxCursor,
        deliveries: Sequence[Delivery],
        failed: Destination | None,
        keep: int,
        act: AuditEntry | None = None,
    ) -> bool:
        """Record how far it was sent to and what happened, and let go of it; False if the lease was lost."""
        name = lease.destination.destination_id
        values: dict[str, Any] = {**_cursor(cursor), **_FREE}
        taken = [each.at for each in deliveries if each.delivered]
        if taken:
            values["delivered_at"] = max(taken)
        if failed is not None:
            values |= {
                "failures": failed.failures,
                "failing_since": failed.failing_since,
                "retry_at": failed.retry_at,
                "last_error": storable_text(failed.last_error),
                "status": failed.status.value,
                "disabled_at": failed.disabled_at,
                "disabled_why": storable_text(failed.disabled_why),
            }
        elif taken:
            values |= _UNFAILED
        mine = and_(_table.destination_id == name, _table.fencing_token == lease.fencing_token)
        with self._writing() as connection:
            if not connection.execute(update(destination).where(mine).values(**values)).rowcount:
                return False
            _add_deliveries(connection, name, deliveries, keep)
            if act is not None:
                _tell_disabled(connection, lease.destination, act)
                add_act(connection, act)
        return True

    def _act_on(
        self,
        destination_id: str,
        changes: Mapping[str, Any],
        act: AuditEntry,
        *,
        tells: bool = False,
    ) -> Destination:
        taken_away = {"fencing_token": _table.fencing_token + 1, **_FREE}
        mine = _table.destination_id == destination_id
        with self._writing() as connection:
            before = _read(connection, destination_id, lock=True)
            connection.execute(update(destination).where(mine).values(**{**changes, **taken_away}))
            if tells and before.status is DestinationStatus.ENABLED:
                _tell_disabled(connection, before, act)
            add_act(connection, act)
            return _read(connection, destination_id)


def _tell_disabled(connection: Connection, of: Destination, act: AuditEntry) -> None:
    told = DestinationDisabled(
        destination_id=of.destination_id,
        why=shortened(storable_text(act.reason) or "asked for"),
        by=storable_text(act.actor) or "unknown",
    )
    add_events(connection, [told.as_event(tenant_id=of.tenant_id, time=act.at)])


def _is_free(now: datetime) -> Any:
    return or_(_table.lease_until.is_(None), _table.lease_until <= now)


def _is_due(now: datetime) -> Any:
    return and_(_table.status == "enabled", or_(_table.retry_at.is_(None), _table.retry_at <= now))


def _cursor(place: OutboxCursor) -> dict[str, int]:
    return {"cursor_transaction": place.transaction, "cursor_position": place.position}


def _read(connection: Connection, destination_id: str, *, lock: bool = False) -> Destination:
    query = select(destination).where(_table.destination_id == destination_id)
    row = connection.execute(query.with_for_update() if lock else query).mappings().one_or_none()
    if row is None:
        raise NotFound(
            f"there is no destination {destination_id!r}: `penstock destinations` lists what there is"
        )
    return _destination_of(row)


def _add_secret(connection: Connection, destination_id: str, secret: str, now: datetime) -> None:
    newest = select(func.coalesce(func.max(_secret.number), 0) + 1)
    number = connection.execute(newest.where(_secret.destination_id == destination_id)).scalar_one()
    row = {
        "destination_id": destination_id,
        "number": number,
        "secret": secret,
        "created_at": now,
        "expires_at": None,
    }
    connection.execute(destination_secret.insert(), row)


def _add_deliveries(
    connection: Connection, destination_id: str, deliveries: Sequence[Delivery], keep: int
) -> None:
    rows = [
        {
            "destination_id": destination_id,
            "event_id": each.event_id,
            "event_type": each.event_type,
            "at": each.at,
            "outcome": "delivered" if each.delivered else "failed",
            "attempt": each.attempt,
            "status_code": each.status_code,
            "error": storable_text(each.error),
            "duration_ms": each.duration_ms,
        }
        for each in deliveries[-keep:]
    ]
    if not rows:
        return
    connection.execute(delivery.insert(), rows)
    table = delivery.c
    mine = table.destination_id == destination_id
    oldest_kept = (
        select(table.delivery_number)
        .where(mine)
        .order_by(table.delivery_number.desc())
        .offset(keep - 1)
        .limit(1)
    )
    number = connection.execute(oldest_kept).scalar()
    if number is not None:
        connection.execute(delete(delivery).where(mine, table.delivery_number < number))


def _row_of(new: Destination) -> dict[str, Any]:
    return {
        "destination_id": new.destination_id,
        "tenant_id": new.tenant_id,
        "kind": new.kind.value,
        "address": new.address,
        "types": list(new.wanted.types),
        "subjects": list(new.wanted.subjects),
        "status": new.status.value,
        "created_at": new.created_at,
        "created_by": new.created_by,
        **_cursor(new.cursor),
        **_UNFAILED,
        "fencing_token": 0,
    }


def _destination_of(row: Mapping[Any, Any]) -> Destination:
    return Destination(
        destination_id=row["destination_id"],
        tenant_id=TenantId(row["tenant_id"]),
        kind=DestinationKind(row["kind"]),
        address=row["address"],
        wanted=Wanted(types=tuple(row["types"]), subjects=tuple(row["subjects"])),
        status=DestinationStatus(row["status"]),
        created_at=row["created_at"],
        created_by=row["created_by"],
        cursor=OutboxCursor(transaction=row["cursor_transaction"], position=row["cursor_position"]),
        failures=row["failures"],
        failing_since=row["failing_since"],
        retry_at=row["retry_at"],
        last_error=row["last_error"],
        delivered_at=row["delivered_at"],
        disabled_at=row["disabled_at"],
        disabled_why=row["disabled_why"],
    )


def _delivery_of(row: Mapping[Any, Any]) -> Delivery:
    return Delivery(
        event_id=row["event_id"],
        event_type=row["event_type"],
        at=row["at"],
        delivered=row["outcome"] == "delivered",
        attempt=row["attempt"],
        status_code=row["status_code"],
        error=row["error"],
        duration_ms=row["duration_ms"],
    )

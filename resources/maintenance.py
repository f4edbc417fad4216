"""Maintenance windows: when a target may be tried again after all else, as cron expressions."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from penstock.errors import PenstockError
from penstock.identity.ids import TargetId

_CRON_FIELDS = 5


class BadMaintenanceWindow(PenstockError):
    """A maintenance window is no cron expression, or names a target or a zone that there is not."""

    code = "bad_maintenance_window"


class MaintenanceWindows:
    """Each target's windows; as a function, when the next one begins.

    A window is five cron fields as Debian's cron reads them, and the name of a time zone where it is not UTC:
    ``0 2 * * SUN`` or ``0 2 * * SUN Europe/Berlin``.
    """

    def __init__(self, windows: Mapping[str, str], targets: Collection[TargetId]) -> None:
        """Read windows by target id; raises :class:`BadMaintenanceWindow`."""
        for name in windows:
            if name not in targets:
                raise BadMaintenanceWindow(
                    f"there is a maintenance window of target {name!r}, which is not configured: name one of "
                    f"{', '.join(sorted(targets))}"
                )
        self._windows = {TargetId(name): _parsed(name, text) for name, text in windows.items()}

    def __call__(self, target: TargetId, now: datetime) -> datetime | None:
        """Return when the next window of a target begins, after ``now``; None where it has none."""
        if target not in self._windows:
            return None
        cron, zone = self._windows[target]
        local = now.astimezone(zone).replace(microsecond=0)
        return next(CronSim(cron, local)).astimezone(UTC)


def _parsed(name: str, window: str) -> tuple[str, ZoneInfo]:
    fields = window.split()
    cron, rest = " ".join(fields[:_CRON_FIELDS]), fields[_CRON_FIELDS:]
    try:
        zone = ZoneInfo(rest[0] if rest else "UTC")
        next(CronSim(cron, datetime(2026, 1, 1, tzinfo=zone)))
    except StopIteration:
        raise _bad(name, window, "it never begins") from None
    except CronSimError as error:
        raise _bad(name, window, str(error)) from None
    except (OSError, ValueError, KeyError):
        raise _bad(name, window, f"there is no time zone {rest[0]!r}") from None
    if len(rest) > 1:
        raise _bad(name, window, f"{rest[1]!r} stands behind the time zone")
    return cron, zone


def _bad(name: str, window: str, why: str) -> BadMaintenanceWindow:
    return BadMaintenanceWindow(
        f"the maintenance window {window!r} of target {name!r} cannot be used ({why}): write five cron fields, and a "
        "time zone where it is not UTC, such as '0 2 * * SUN Europe/Berlin'"
    )

"""When a schedule is due next."""

from __future__ import annotations

from datetime import UTC, datetime

from cronsim import CronSim, CronSimError

from penstock.errors import PenstockError


class BadSchedule(PenstockError):
    """A schedule is no cron expression, or one that is never due."""

    code = "bad_schedule"


def next_due(cron: str, after: datetime) -> datetime:
    """Return when a cron expression (five fields, as Debian's cron reads them, in UTC) is due next after a moment."""
    try:
        return next(CronSim(cron, after.astimezone(UTC).replace(microsecond=0)))
    except StopIteration:
        raise BadSchedule(
            f"the schedule {cron!r} is never due: mind the days of its months"
        ) from None
    except CronSimError as error:
        raise BadSchedule(
            f"the schedule {cron!r} is no cron expression ({error}): write five fields, like '0 2 * * *'"
        ) from error

"""Taking in how tasks ended: what several workers report at once of one workflow is one transaction."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from control_plane.service.together import Together, one_by_one
from penstock.errors import PenstockError
from penstock.use_cases.coordination import Coordination
from penstock.use_cases.reporting import Ended, report_each
from penstock.use_cases.work import Workshop
from penstock.workflow.records import Task

MOST_TOGETHER = 200


def open_reports(workshop: Workshop, co: Coordination) -> Together[Ended, Task]:
    """Return where workers wait until a report is taken, and are told how their task stands then."""

    def take(reports: Sequence[Ended]) -> Sequence[Task | PenstockError]:
        return report_each(workshop, co, reports)

    return Together(do=partial(one_by_one, take), most=MOST_TOGETHER)

"""Runs whose process is gone without a word: nothing else would ever end them, and they keep others from starting.

A run is a child of the code server that launched it, which reports it when it dies. When the code server dies as
well, as in a power cut, the run stays in progress for ever. What such a run had in hand is taken over when its leases
expire; here it is made to count no more.
"""

import json
import socket
from collections.abc import Iterable
from datetime import UTC, datetime

import dagster as dg

from jobs.publish import PUBLISH_JOB
from penstock.ports.control import Lease

LAUNCHED = [dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED]
LOADED_AT = datetime.now(UTC)
"""When this code server began: what it launched began later."""
_CODE_SERVER_TAG = ".dagster/grpc_info"
_LOCAL = frozenset({"127.0.0.1", "localhost"})
_PATIENCE_S = 0.5


def end_lost_runs(
    instance: dg.DagsterInstance, leases: Iterable[Lease], *, loaded_at: datetime = LOADED_AT
) -> list[str]:
    """Mark what no process works on any more as failed, and return the ids.

    ``leases`` are those in force: a publish run that has one is alive, whoever launched it.
    """
    records = instance.get_run_records(dg.RunsFilter(statuses=LAUNCHED))
    workers = [lease.worker_id for lease in leases]
    lost = [
        record.dagster_run
        for record in records
        if _began(record) < loaded_at and _is_lost(record.dagster_run, workers)
    ]
    for run in lost:
        instance.report_run_failed(
            run, "its process is gone, and so is the code server that launched it"
        )
    return [run.run_id for run in lost]


def _began(record: dg.RunRecord) -> datetime:
    if record.start_time is not None:
        return datetime.fromtimestamp(record.start_time, UTC)
    return record.update_timestamp.astimezone(UTC)


def _is_lost(run: dg.DagsterRun, workers: list[str]) -> bool:
    launcher = json.loads(run.tags.get(_CODE_SERVER_TAG, "{}"))
    if launcher.get("host") not in _LOCAL or any(w.startswith(run.run_id) for w in workers):
        return False
    # Another kind of run shows no sign of life of its own: only one whose code server is gone is surely dead.
    return run.job_name == PUBLISH_JOB or not _listens(launcher)


def _listens(launcher: dict[str, object]) -> bool:
    with socket.socket() as probe:
        probe.settimeout(_PATIENCE_S)
        return probe.connect_ex((str(launcher["host"]), int(str(launcher.get("port") or 0)))) == 0

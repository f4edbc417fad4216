"""A platform that has some of everything, and the ids of it, so that what schemathesis asks for is mostly there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from penstock.identity.ids import TenantId
from penstock.ports.events import Arrival, Handled
from penstock.use_cases.acts import By
from penstock.use_cases.work import register_worker
from penstock.use_cases.workflows import create_workflow
from penstock.workflow.spec import WorkflowSpec
from resources.control_db.inbox import SqlInbox
from tests.contracts.workflow_values import claim
from tests.fixtures.control_server import ControlServer
from tests.integration.published_home import publish_letters

DEFAULT = TenantId("default")
BY = By(actor="ada", reason="there has to be some of everything")
SEVERAL = 6
"""Of each: some are cancelled, removed or revoked on the way."""


@dataclass(frozen=True, kw_only=True)
class Known:
    """Ids of what there is."""

    path: dict[str, list[str]] = field(default_factory=dict)
    """By the name of the parameter in a path."""
    held: dict[str, dict[str, Any]] = field(default_factory=dict)
    """By the id of a task that a worker has: what it reports with."""
    plans: dict[str, str] = field(default_factory=dict)
    """By the id of a batch with operations that are held: the digest of its plan."""
    tasks: dict[str, str] = field(default_factory=dict)
    """By the id of a workflow: one of its tasks."""

    def as_json(self) -> Mapping[str, Any]:
        """Return it as a JSON object."""
        return asdict(self)


def filled(control: ControlServer) -> Known:
    """Add to a published home what it lacks, and return what there is."""
    platform, known = control.services.platform, Known()
    publish_letters(platform, SEVERAL, "")
    _works(control, known)
    _made(control, known)
    states = platform.control.list_states()
    known.plans.update({s.batch_id: s.plan_digest for s in states if s.held and s.plan_digest})
    known.path.update(
        {
            "source": [spec.source_id for spec in platform.control.list_sources()],
            "target": sorted(platform.targets),
            # What has a plan that is held is asked for more often: it takes more to get right.
            "batch": [*(state.batch_id for state in states), *known.plans, *known.plans],
            "letter": [letter.dead_letter_id for letter in platform.control.list_dead_letters()],
            "position": _dead(control),
        }
    )
    return known


def _works(control: ControlServer, known: Known) -> None:
    """Make workflows of every kind, workers, and tasks that those have."""
    services = control.services
    co = services.coordination
    bodies: list[dict[str, Any]] = [
        *[{"name": f"now {number}"} for number in range(SEVERAL)],
        {"name": "nightly", "kind": "scheduled", "cron": "0 3 * * *"},
        {"name": "driven", "kind": "event_driven", "event": {"type": "batch_landed"}},
        {"name": "again", "kind": "recovery", "steps": ["collect"]},
    ]
    made = []
    for body in bodies:
        spec = WorkflowSpec.model_validate({"sources": ["shop", "depot"], **body})
        made.append(create_workflow(co, spec, tenant=DEFAULT, by=BY).workflow.workflow_id)
    workers = [f"w{number}" for number in range(SEVERAL)]
    for worker in workers:
        register_worker(
            services.workshop,
            worker,
            tenant=DEFAULT,
            capabilities=["collect", "transform"],
            capacity=4,
            details={},
            by=BY,
        )
    for workflow, worker in zip(made, workers, strict=False):
        report = claim(co, workflow, "shop collect", worker=worker, lease_s=3600)
        token = report.fencing_token
        known.held[report.task_id] = {"worker_id": worker, "fencing_token": token}
        known.tasks[workflow] = report.task_id
    known.path.update(workflow_id=made, worker_id=workers, task_id=list(known.held))


def _made(control: ControlServer, known: Known) -> None:
    """Make what people make, as they do."""

    def make(path: str, body: Mapping[str, Any], name: str) -> str:
        answer = control.request("POST", path, role="admin", json=dict(body))
        assert answer.status_code == 201, answer.text
        return str(answer.json()[name])

    numbers = range(SEVERAL)
    hook = {"address": "https://example.org/hook"}
    token = {"name": "eve", "role": "viewer"}
    incident = {"title": "It is slow", "text": "It is being moved.", "tenant": "default"}
    known.path.update(
        {
            "destination_id": [
                make("/destinations", {**hook, "id": f"hook{number}"}, "id") for number in numbers
            ],
            "token_id": [make("/tokens", token, "token_id") for _ in numbers],
            "incident_id": [make("/incidents", incident, "incident_id") for _ in numbers],
        }
    )


def _dead(control: ControlServer) -> list[str]:
    """Return the positions of events that came in and could not be acted on."""
    inbox, now = SqlInbox.from_engine(control.services.engine), control.services.clock.now()
    arrivals = [
        Arrival(
            source="/collector",
            event_id=str(number),
            type="collection_completed",
            subject="shop",
            tenant_id=DEFAULT,
            time=now,
            data={"source_id": "shop"},
        )
        for number in range(SEVERAL)
    ]
    inbox.accept(arrivals, received_from="ada", now=now)
    came = inbox.find()
    inbox.settle(
        [Handled(position=e.position, code="not_found", message="x") for e in came], now=now
    )
    return [str(event.position) for event in came]

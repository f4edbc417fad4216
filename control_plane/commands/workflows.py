"""``penstock workflows ...``: collecting sources as a group that can be paused, resumed, cancelled and done again."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from control_plane import showing
from control_plane.showing import AsJson, By, Limit

if TYPE_CHECKING:
    from rich.console import RenderableType

    from penstock.use_cases.coordination import Coordination
    from penstock.use_cases.workflow_queries import WorkflowDetails, WorkflowOverview
    from penstock.workflow.records import Workflow
    from penstock.workflow.spec import WorkflowSpec

app = typer.Typer(
    help="Collect sources as workflows: begin, look at, pause, resume, cancel and retry them.",
    no_args_is_help=True,
)
Word = TypeVar("Word", bound=StrEnum)
WorkflowArgument = Annotated[str, typer.Argument(help="Workflow id.", metavar="WORKFLOW")]
Why = Annotated[
    str | None, typer.Option("--reason", help="Why; kept in the audit log.", metavar="WHY")
]


def _coordination() -> Coordination:
    from resources.wiring import open_coordination

    return open_coordination(showing.platform())


@app.command("list")
def list_workflows(
    status: Annotated[
        list[str] | None, typer.Option(help="Only of this status; may be repeated.")
    ] = None,
    kind: Annotated[
        list[str] | None, typer.Option(help="Only of this kind; may be repeated.")
    ] = None,
    source: showing.Source = None,
    tenant: Annotated[str | None, typer.Option(help="Only of this tenant.")] = None,
    limit: Limit = 100,
    as_json: AsJson = False,
) -> None:
    """List workflows, newest first."""
    from penstock.identity import ids
    from penstock.ports.workflows import WorkflowFilter
    from penstock.use_cases.workflow_queries import workflow_overviews
    from penstock.workflow.status import WorkflowKind, WorkflowStatus

    wanted = WorkflowFilter(
        tenant_id=None if tenant is None else ids.tenant_id(tenant),
        statuses=[_word(WorkflowStatus, each) for each in status or ()],
        kinds=[_word(WorkflowKind, each) for each in kind or ()],
        source_id=showing.source(source),
    )
    found = workflow_overviews(_coordination().workflows, wanted, limit=limit)
    showing.show({"workflows": found}, as_json, lambda: _listed(found))


@app.command("show")
def show(workflow: WorkflowArgument, as_json: AsJson = False) -> None:
    """Show one workflow with its turns, and the tasks of the last one."""
    _show(_coordination(), workflow, as_json)


@app.command("create")
def create(
    spec: Annotated[
        Path,
        typer.Argument(
            help="File with the workflow as JSON; - for standard input.", metavar="FILE"
        ),
    ],
    tenant: Annotated[str, typer.Option(help="Whose it is.")] = "default",
    key: Annotated[
        str | None,
        typer.Option(help="Idempotency key: asked for again with it, nothing is made anew."),
    ] = None,
    by: By = None,
    reason: Why = None,
    as_json: AsJson = False,
) -> None:
    """Make a workflow; one that does not repeat begins at once."""
    from penstock.identity import ids
    from penstock.use_cases.workflows import create_workflow

    co = _coordination()
    made = create_workflow(
        co,
        _spec(spec),
        tenant=ids.tenant_id(tenant),
        by=showing.signed(by, reason),
        idempotency_key=key,
    )
    _show(co, made.workflow.workflow_id, as_json)


@app.command("pause")
def pause(
    workflow: WorkflowArgument, by: By = None, reason: Why = None, as_json: AsJson = False
) -> None:
    """Give out nothing more of a workflow; what was given out, ends."""
    from penstock.use_cases.workflows import pause_workflow

    co = _coordination()
    pause_workflow(co, workflow, by=showing.signed(by, reason))
    _show(co, workflow, as_json)


@app.command("resume")
def resume(
    workflow: WorkflowArgument, by: By = None, reason: Why = None, as_json: AsJson = False
) -> None:
    """Let a paused workflow go on."""
    from penstock.use_cases.workflows import resume_workflow

    co = _coordination()
    resume_workflow(co, workflow, by=showing.signed(by, reason))
    _show(co, workflow, as_json)


@app.command("cancel")
def cancel(
    workflow: WorkflowArgument, by: By = None, reason: Why = None, as_json: AsJson = False
) -> None:
    """Begin nothing more of a workflow, undo what declares how, and end it."""
    from penstock.use_cases.workflows import cancel_workflow

    co = _coordination()
    cancel_workflow(co, workflow, by=showing.signed(by, reason))
    _show(co, workflow, as_json)


@app.command("retry")
def retry(
    workflow: WorkflowArgument,
    from_task: Annotated[
        str | None,
        typer.Option(help="Do this task, and what follows it, again, whether it failed or not."),
    ] = None,
    by: By = None,
    reason: Why = None,
    as_json: AsJson = False,
) -> None:
    """Do again what failed in a workflow's last turn, or one task and what follows it."""
    from penstock.use_cases.workflows import rerun_workflow, retry_workflow

    co, signed = _coordination(), showing.signed(by, reason)
    if from_task is None:
        retry_workflow(co, workflow, by=signed)
    else:
        rerun_workflow(co, workflow, from_task, by=signed)
    _show(co, workflow, as_json)


@app.command("reconcile")
def reconcile(
    mend: Annotated[
        bool, typer.Option("--mend", help="Mend what differs, as Dagster's sensor does by itself.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Compare tasks with the Dagster runs that do them; exits with 1 if they do not tell the same story."""
    import subprocess

    showing.platform()
    options = [*(["--mend"] if mend else []), *(["--json"] if as_json else [])]
    # The command line knows no Dagster: the comparison is a program of its own.
    done = subprocess.run(  # noqa: S603  our own module
        [sys.executable, "-m", "sensors.workflow_runs", *options], check=False
    )
    raise typer.Exit(done.returncode)


def _word(words: type[Word], text: str) -> Word:
    from penstock.errors import InvalidIdentifier

    try:
        return words(text)
    except ValueError:
        raise InvalidIdentifier(f"{text!r} is none of: {', '.join(words)}") from None


def _spec(path: Path) -> WorkflowSpec:
    from pydantic import ValidationError

    from penstock.errors import PenstockError
    from penstock.workflow.spec import WorkflowSpec

    try:
        text = sys.stdin.read() if str(path) == "-" else path.read_text(encoding="utf-8")
        return WorkflowSpec.model_validate_json(text)
    except OSError as error:
        raise PenstockError(f"{path} cannot be read: {error.strerror}") from None
    except ValidationError as error:
        said = "; ".join(
            f"{'.'.join(str(part) for part in each['loc']) or 'it'}: {each['msg']}"
            for each in error.errors()
        )
        raise PenstockError(f"{path} asks for no workflow: {said}") from None


def _show(co: Coordination, workflow_id: str, as_json: bool) -> None:
    from penstock.use_cases.workflow_queries import workflow_details

    found = workflow_details(co.workflows, co.workflows.get_workflow(workflow_id))
    showing.show(found, as_json, lambda: _details(found))


def _listed(found: Sequence[WorkflowOverview]) -> Iterator[RenderableType]:
    from control_plane.tables import cell, table

    made = table("workflows", "workflow", "name", "kind", "status", "turns", "tasks")
    for each in found:
        made.add_row(
            cell(each.workflow.workflow_id),
            cell(each.workflow.spec.name),
            cell(each.workflow.kind),
            cell(each.workflow.status),
            cell(each.workflow.turns),
            cell(_counts(each)),
        )
    yield made


def _counts(each: WorkflowOverview) -> str:
    return ", ".join(f"{count} {status}" for status, count in sorted(each.tasks.items()))


def _details(found: WorkflowDetails) -> Iterator[RenderableType]:
    from control_plane.tables import cell, table

    workflow = found.overview.workflow
    yield from _listed([found.overview])
    yield from _notes(workflow)
    if found.overview.can:
        yield f"it can: {', '.join(found.overview.can)}"
    made = table("tasks", "task", "source", "step", "status", "attempt", "worker or batch", "error")
    for task in found.tasks:
        made.add_row(
            cell(task.task_id),
            cell(task.source_id),
            cell(task.step),
            cell(task.status),
            cell(task.attempt),
            cell(task.worker_id or task.batch_id or ""),
            cell(task.trouble.message if task.trouble else ""),
        )
    yield made


def _notes(workflow: Workflow) -> Iterator[str]:
    if workflow.trouble:
        yield f"{workflow.trouble.code}: {workflow.trouble.message}"
    if workflow.next_due_at:
        yield f"its next turn begins at {workflow.next_due_at:%Y-%m-%d %H:%M:%S} UTC"
    if workflow.queued_triggers:
        yield f"triggers that wait: {len(workflow.queued_triggers)}"
    if workflow.dropped_triggers:
        yield f"triggers that were dropped: {workflow.dropped_triggers}"

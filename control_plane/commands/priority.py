"""``penstock priority preview|tasks``: what a changed policy would do to what waits, and where each task stands."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from control_plane import showing
from control_plane.showing import AsJson, Limit

if TYPE_CHECKING:
    from rich.console import RenderableType

    from penstock.use_cases.priority import Preview, Shift, Standing
    from penstock.use_cases.work import Workshop
    from penstock.workflow.allotment import Place

app = typer.Typer(
    help="See what goes first, and what a changed policy would do.", no_args_is_help=True
)


class Queue(StrEnum):
    """What is put in order."""

    QUEUE = "queue"
    TASKS = "tasks"


@app.command("preview")
def preview(
    policy: Annotated[
        Path, typer.Argument(help="A policy as JSON: what its setting would be.", metavar="FILE")
    ],
    of: Annotated[
        Queue, typer.Option(help="`queue`: batches to publish. `tasks`: tasks of workflows.")
    ] = Queue.QUEUE,
    limit: Limit = 50,
    as_json: AsJson = False,
) -> None:
    """Show what a changed policy would do to what waits: each place before and after. Nothing is changed."""
    from penstock.publish.queue import QueuePolicy
    from penstock.use_cases import priority
    from penstock.workflow.priority import WorkflowPolicy

    platform = showing.platform()
    if of is Queue.QUEUE:
        found = priority.preview_queue(platform, _read(policy, QueuePolicy))
    else:
        found = priority.preview_tasks(_workshop(platform), _read(policy, WorkflowPolicy))
    shown = found.shifts[:limit]
    showing.show(_answer(found, shown), as_json, lambda: _preview(found, shown))


@app.command("tasks")
def tasks(limit: Limit = 50, as_json: AsJson = False) -> None:
    """List tasks that are ready in the order of the allotment, with the arithmetic and what each waits for."""
    from control_plane.answers import plain
    from penstock.use_cases.priority import standing_of_task
    from penstock.use_cases.work import task_places

    found = task_places(_workshop(showing.platform()))
    shown = [(each, standing_of_task(each)) for each in found[:limit]]
    answer = {
        "waiting": len(found),
        "tasks": [{**plain(told), "task": plain(each.task)} for each, told in shown],
    }
    showing.show(answer, as_json, lambda: _tasks(shown, len(found)))


def _workshop(platform: Any) -> Workshop:
    from resources.settings import Settings
    from resources.wiring import open_workshop

    return open_workshop(platform, Settings.from_env())


def _read(path: Path, policy: Any) -> Any:
    from pydantic import ValidationError

    from penstock.errors import PenstockError

    try:
        return policy.model_validate_json(path.read_bytes())
    except OSError as error:
        raise PenstockError(f"{path} cannot be read: {error.strerror}") from error
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(str(part) for part in e['loc'])}: {e['msg']}" for e in error.errors()
        )
        raise PenstockError(f"the policy in {path} cannot be used: {problems}") from error


def _answer(found: Preview, shown: Sequence[Shift]) -> dict[str, Any]:
    from control_plane.answers import plain

    items = [{**plain(shift), "forward": shift.forward} for shift in shown]
    return {"waiting": len(found.shifts), "moved": found.moved, "preview": items}


def _preview(found: Preview, shown: Sequence[Shift]) -> Iterator[RenderableType]:
    from control_plane.tables import cell, table

    if not found.shifts:
        yield "nothing waits"
        return
    numbers = ("now", "then", "points now", "points then")
    made = table("preview", *numbers[:2], "what", *numbers[2:], "because", numbers=numbers)
    for shift in shown:
        made.add_row(
            cell(shift.before.place),
            cell(shift.after.place, "bold" if shift.forward else ""),
            cell(f"{shift.subject}\n{shift.about}"),
            cell(f"{shift.before.points:.2f}"),
            cell(f"{shift.after.points:.2f}"),
            cell(_because(shift.before, shift.after)),
        )
    yield made
    yield f"{found.moved:,} of {len(found.shifts):,} would stand elsewhere; nothing was changed"


def _because(before: Standing, after: Standing) -> str:
    """Return the parts of a score that differ."""
    names = [*after.parts, *(name for name in before.parts if name not in after.parts)]
    changes = [
        f"{name} {before.parts.get(name, 0.0):+.2f} -> {after.parts.get(name, 0.0):+.2f}"
        for name in names
        if round(before.parts.get(name, 0.0), 2) != round(after.parts.get(name, 0.0), 2)
    ]
    return "\n".join(changes)


def _tasks(shown: Sequence[tuple[Place, Standing]], waiting: int) -> Iterator[RenderableType]:
    from control_plane.tables import cell, table

    if not shown:
        yield "no task is ready"
        return
    made = table("tasks", "#", "task", "points", "parts", "waits for", numbers=("#", "points"))
    for each, told in shown:
        parts = [f"{name} {points:+.2f}" for name, points in told.parts.items() if points]
        made.add_row(
            cell(each.place),
            cell(f"{each.task.task_id}\n{each.task.capability} of {each.task.source_id}"),
            cell(f"{told.points:.2f}"),
            cell("\n".join(parts)),
            cell(told.waits_for or ""),
        )
    yield made
    if len(shown) < waiting:
        yield f"the first {len(shown):,} of {waiting:,}: --limit shows more"

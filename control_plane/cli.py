"""The ``penstock`` command.

Each command asks one use case and shows its answer, as tables for a person or with ``--json`` as one document.
What is wrong with a question (an unknown id, a setting that cannot be used) goes to stderr and ends with exit status
2. Everything heavy is imported where it is used, so that ``penstock --help`` is quick.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from typing import Annotated

import typer

from control_plane import showing
from control_plane.commands import (
    audit,
    breakers,
    dead_letters,
    destinations,
    drift,
    events,
    forecasts,
    holds,
    operate,
    plan,
    priority,
    registry,
    retention,
    rollback,
    serve,
    worker,
    workflows,
)
from control_plane.showing import AsJson, Batch, Limit, Source, Target

USAGE_ERROR = 2
BENCHES = (
    "diff",
    "plan",
    "land",
    "execute",
    "drift",
    "letters",
    "latency",
    "overhead",
    "neighbour",
    "registry",
    "control",
    "eta",
)

app = typer.Typer(
    name="penstock",
    help="Plan and apply for metadata, running continuously.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    rich_markup_mode=None,
    context_settings={"max_content_width": 100},
)
batch_app = typer.Typer(help="Look at one batch.", no_args_is_help=True)
plan_app = typer.Typer(invoke_without_command=True)
schema_app = typer.Typer(help="Print the contracts as JSON Schema.", no_args_is_help=True)
app.add_typer(batch_app, name="batch")
plan_app.callback()(plan.plan)
plan_app.command("compare")(plan.compare)
app.add_typer(plan_app, name="plan")
app.add_typer(schema_app, name="schema")
app.add_typer(dead_letters.app, name="dead-letters")
app.add_typer(destinations.app, name="destinations")
app.add_typer(drift.app, name="drift")
app.add_typer(events.app, name="events")
app.add_typer(holds.app, name="holds")
app.add_typer(registry.app, name="registry")
app.add_typer(workflows.app, name="workflows")
app.add_typer(serve.token_app, name="token")
app.command()(serve.serve)
app.command()(holds.approve)
app.command()(holds.reject)
app.command()(operate.prioritise)
app.command(context_settings={"ignore_unknown_options": True})(operate.boost)
app.command()(operate.pause)
app.command()(operate.resume)
app.command()(operate.pauses)
app.command()(operate.requeue)
app.command()(operate.republish)
app.command()(operate.cancel)
app.command()(rollback.rollback)
app.command()(retention.retain)
app.command()(audit.audit)
app.command()(breakers.breakers)
app.add_typer(breakers.app, name="breaker")
app.command()(forecasts.eta)
app.command()(forecasts.slas)
app.command()(forecasts.incidents)
app.add_typer(forecasts.incident_app, name="incident")
app.add_typer(priority.app, name="priority")
app.add_typer(worker.app, name="worker")


def main() -> None:
    """Run the command line; whatever Penstock itself raises becomes one line on stderr and exit status 2."""
    from penstock.errors import PenstockError

    try:
        app()
    except PenstockError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        raise SystemExit(USAGE_ERROR) from None


# Running ----------------------------------------------------------------------------------------------------


@app.command()
def up(
    port: Annotated[int, typer.Option(help="Port of the web page.", min=1, max=65535)] = 3000,
    host: Annotated[str, typer.Option(help="Address that the web page listens on.")] = "127.0.0.1",
    registry_port: Annotated[
        int, typer.Option(help="Port of the registry; 0 leaves it out.", min=0, max=65535)
    ] = 8484,
    control_port: Annotated[
        int, typer.Option(help="Port of the control plane; 0 leaves it out.", min=0, max=65535)
    ] = 8585,
) -> None:
    """Run the whole stack until Ctrl-C; its data stays in PENSTOCK_HOME."""
    from control_plane.supervisor import run_up
    from resources.settings import Settings

    raise typer.Exit(
        run_up(
            Settings.from_env(),
            host=host,
            port=port,
            registry_port=registry_port or None,
            control_port=control_port or None,
        )
    )


@app.command()
def demo(
    keep: Annotated[
        bool, typer.Option("--keep", help="Keep its folder: control database and logs.")
    ] = False,
) -> None:
    """Publish real sources twice with a change in between, show it, and end."""
    from control_plane.demo import run_demo

    raise typer.Exit(run_demo(keep=keep))


@app.command(help=f"Run one benchmark: {', '.join(BENCHES)}.")
def bench(
    name: Annotated[str, typer.Argument(metavar="NAME")],
    quick: Annotated[bool, typer.Option("--quick", help="Small sizes, some seconds.")] = False,
    as_json: AsJson = False,
) -> None:
    """Run one benchmark, and show its figures against their peers and goals."""
    from importlib import import_module

    from benchmarks.harness import report
    from penstock.errors import NotFound

    if name not in BENCHES:
        raise NotFound(f"there is no bench {name!r}: choose one of {', '.join(BENCHES)}")
    with _stdout_to_stderr():
        results = import_module(f"benchmarks.{name}").run(quick=quick)
    report(name, results, as_json=as_json)


@app.command()
def version(as_json: AsJson = False) -> None:
    """Print the version of Penstock, and of what its stored forms follow."""
    from control_plane.answers import versions

    found = versions()
    lines = [f"{name} {value}" for name, value in found.items()]
    showing.show(found, as_json, lambda: ["\n".join(lines)])


# Looking ----------------------------------------------------------------------------------------------------


@app.command()
def sources(as_json: AsJson = False) -> None:
    """List the declared sources, each with its newest batch."""
    from control_plane import answers, tables
    from penstock.use_cases.queries import source_overviews

    found = source_overviews(showing.platform())
    showing.show(answers.sources(found), as_json, lambda: tables.sources(found))


@app.command()
def batches(source: Source = None, limit: Limit = 20, as_json: AsJson = False) -> None:
    """List batches, newest source timestamp first."""
    from control_plane import answers, tables
    from penstock.use_cases.queries import batch_overviews

    found = batch_overviews(showing.platform(), source=showing.source(source), limit=limit)
    showing.show(answers.batches(found), as_json, lambda: tables.batches(found))


@batch_app.command("show")
def batch_show(batch: Batch, limit: Limit = 20, as_json: AsJson = False) -> None:
    """Show one batch: scopes, the ledger per target, and what was not applied."""
    from control_plane import answers, tables
    from penstock.use_cases.queries import batch_details, batch_id_of

    found = batch_details(showing.platform(), batch_id_of(batch), exceptions=limit)
    showing.show(answers.batch(found), as_json, lambda: tables.batch(found))


@app.command()
def queue(
    explain: Annotated[bool, typer.Option("--explain", help="Show each score's parts.")] = False,
    limit: Limit = 50,
    as_json: AsJson = False,
) -> None:
    """List what waits to be published, in the order in which it will be claimed."""
    from control_plane import answers, tables
    from penstock.use_cases.queries import queue_places

    platform = showing.platform()
    places, policy = queue_places(platform), platform.queue_policy
    found, waiting = places[:limit], len(places)
    showing.show(
        answers.queue(found, policy, waiting=waiting),
        as_json,
        lambda: tables.queue(found, policy if explain else None, waiting=waiting),
    )


@plan_app.command("show")
def plan_show(
    batch: Batch, target: Target = None, limit: Limit = 20, as_json: AsJson = False
) -> None:
    """Show a batch's stored plan: its guards, its operations counted, and the first of them."""
    from control_plane import answers, plan_tables
    from penstock.use_cases.queries import batch_id_of, plan_overview

    found = plan_overview(
        showing.platform(), batch_id_of(batch), target=showing.target(target), operations=limit
    )
    showing.show(answers.plan(found), as_json, lambda: plan_tables.plan(found))


@plan_app.command("explain")
def plan_explain(
    batch: Batch,
    entity_key: Annotated[str, typer.Argument(help="The whole key.", metavar="ENTITY_KEY")],
    target: Target = None,
    as_json: AsJson = False,
) -> None:
    """Explain what a plan does to one entity: what changed from what to what, and why it may be deleted or not."""
    from control_plane import answers, plan_tables
    from penstock.use_cases.explain_entity import explain_entity
    from penstock.use_cases.queries import batch_id_of

    found = explain_entity(
        showing.platform(), batch_id_of(batch), entity_key, target=showing.target(target)
    )
    showing.show(answers.explanations(found), as_json, lambda: plan_tables.explanations(found))


@app.command("publish-state")
def publish_state(
    batch: Annotated[str | None, typer.Argument(help="Batch id.", metavar="[BATCH]")] = None,
    source: Source = None,
    target: Target = None,
    limit: Limit = 20,
    as_json: AsJson = False,
) -> None:
    """Show where batches are on their way to their targets: all of one batch and its attempts, or the newest."""
    from control_plane import answers, attempts, tables
    from penstock.use_cases.queries import attempts_of, batch_id_of, publish_states

    platform = showing.platform()
    found = publish_states(
        platform,
        batch=batch_id_of(batch) if batch else None,
        source=showing.source(source),
        target=showing.target(target),
        limit=limit,
    )
    if batch is None:
        showing.show(answers.states(found), as_json, lambda: tables.states(found, whole=False))
        return
    tried = attempts_of(platform, found)
    showing.show(
        {**answers.states(found), "attempts": attempts.answer(tried)},
        as_json,
        lambda: [*tables.states(found, whole=True), *attempts.tables(tried)],
    )


@schema_app.command("manifest")
def schema_manifest(
    as_json: Annotated[bool, typer.Option("--json", help="It is JSON either way.")] = True,
) -> None:
    """Print the JSON Schema of a batch's _manifest.json."""
    from control_plane.answers import manifest_schema

    showing.show(manifest_schema(), as_json, list)


# What they share --------------------------------------------------------------------------------------------


@contextmanager
def _stdout_to_stderr() -> Iterator[None]:
    """Send to stderr what is printed in the block, by child processes too: stdout is for the answer alone."""
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)


if __name__ == "__main__":
    main()

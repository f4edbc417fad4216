"""``penstock worker run``: a worker that has a command do each task."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from control_plane.worker.running import OutsideWorker

_LOOK_S = 0.2
app = typer.Typer(help="Work for a control plane from outside.", no_args_is_help=True)


@app.command("run", context_settings={"ignore_unknown_options": True})
def run(
    command: Annotated[
        list[str], typer.Argument(help="What does a task, with its arguments; after `--`.")
    ],
    url: Annotated[
        str, typer.Option(help="Of the control plane.", envvar="PENSTOCK_CONTROL_URL")
    ] = "http://127.0.0.1:8585",
    token: Annotated[
        str,
        typer.Option(
            help="With the role worker or operator.",
            envvar="PENSTOCK_WORKER_TOKEN",
            show_default=False,
        ),
    ] = "",
    capability: Annotated[
        list[str] | None,
        typer.Option(help="What it can do: `collect`, or `collect:crm`. May be said repeatedly."),
    ] = None,
    capacity: Annotated[int, typer.Option(help="Tasks at once.", min=1, max=1000)] = 1,
    worker_id: Annotated[
        str | None, typer.Option("--id", help="Its id; by default one of this process alone.")
    ] = None,
) -> None:
    """Pull tasks over HTTP and run a command for each, until Ctrl-C or SIGTERM; then end what is running."""
    import os
    import secrets
    import socket

    from control_plane.worker.calls import Calls
    from control_plane.worker.outside_command import OutsideCommand
    from control_plane.worker.running import OutsideWorker, capabilities_of
    from penstock.errors import PenstockError

    if not token:
        raise PenstockError("no token is given: use --token, or set PENSTOCK_WORKER_TOKEN")
    host = socket.gethostname()
    # Of this process alone: one that comes after a crash must not wait until this one is given up.
    mine = worker_id or f"{host}-{os.getpid()}-{secrets.token_hex(3)}"
    calls = Calls(url=url, token=token, worker_id=mine)
    worker = OutsideWorker(
        calls=calls,
        handlers=capabilities_of(capability or ["collect"], OutsideCommand(command)),
        capacity=capacity,
        details={"host": host, "pid": os.getpid()},
    )
    typer.echo(f"worker {mine} works for {url}", err=True)
    _until_stopped(worker)
    calls.close()


def _until_stopped(worker: OutsideWorker) -> None:
    """Run a worker until it ends by itself, or a signal has it drain."""
    import logging
    import signal
    from concurrent.futures import ThreadPoolExecutor, wait

    logging.basicConfig(level=logging.INFO, format="%(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    asked: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _frame: asked.append(number))
    # In a thread: a signal may come while this one holds a lock, and the handler must take none.
    with ThreadPoolExecutor(1) as pool:
        working = pool.submit(worker.run)
        while not wait([working], timeout=_LOOK_S).done:
            if asked:
                worker.stop()
        working.result()

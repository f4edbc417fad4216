"""The pages of ``docs/reference`` that follow from the code: commands, settings, the control plane's API, events.

``python -m control_plane.reference`` writes them; tests hold them current.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

PAGES = Path("docs") / "reference"


def cli_page() -> str:
    """Return the page on the command line as Markdown."""
    import typer.main

    from control_plane.cli import app

    return "\n".join([*_cli_head(), *_group("penstock", typer.main.get_command(app))]) + "\n"


def _cli_head() -> Iterator[str]:
    yield "# The command line"
    yield ""
    yield "<!-- Generated from control_plane/cli.py by control_plane/reference.py. -->"
    yield ""
    yield "After `make setup` the command is `.venv/bin/penstock`. It reads its settings from the"
    yield "environment: see [settings](settings.md). Queries read the control database and the object store"
    yield "directly, so they work whether or not `penstock up` is running."
    yield ""
    yield "With `--json`, standard output is one JSON document and nothing else. Without it, tables fit a"
    yield "terminal of 100 columns; long ids are folded and never cut."
    yield ""
    yield "| exit status | meaning |"
    yield "|---|---|"
    yield "| 0 | it was answered, or done |"
    yield "| 1 | `up` or `demo` could not do what it is for; the last line says why |"
    yield "| 2 | the question is wrong: an unknown id, a setting or an option that cannot be used |"
    yield ""


def _group(prefix: str, group: Any) -> Iterator[str]:
    for name, command in group.commands.items():
        full = f"{prefix} {name}"
        if hasattr(command, "commands"):
            if command.invoke_without_command:
                yield from _command(full, command)
            yield from _group(full, command)
        else:
            yield from _command(full, command)


def _command(name: str, command: Any) -> Iterator[str]:
    arguments = [p for p in command.params if p.param_type_name == "argument"]
    options = [p for p in command.params if p.param_type_name == "option"]
    usage = " ".join([name, *(_argument(a) for a in arguments)])
    yield f"## `{usage}`"
    yield ""
    yield from (line.strip() for line in command.help.strip().splitlines())
    yield ""
    documented = [a for a in arguments if a.help]
    if not documented and not options:
        return
    yield "| argument or option | meaning |"
    yield "|---|---|"
    for each in documented:
        yield f"| `{_argument(each)}` | {_escaped(each.help)} |"
    for each in options:
        yield f"| {_option(each)} | {_escaped(each.help)}{_default(each)} |"
    yield ""


def _escaped(text: str) -> str:
    return text.replace("<", "&lt;").replace("|", "\\|")


def _argument(argument: Any) -> str:
    name = (argument.metavar or argument.name).strip("[]").upper()
    return name if argument.required else f"[{name}]"


def _option(option: Any) -> str:
    names = ", ".join(f"`{name}`" for name in [*option.opts, *option.secondary_opts])
    return names if option.is_flag else f"{names} {(option.metavar or option.name).upper()}"


def _default(option: Any) -> str:
    if option.is_flag or option.default is None:
        return ""
    return f" Default: {option.default}."


def settings_page() -> str:
    """Return the page on settings as Markdown."""
    return "\n".join([*_settings_head(), *_settings_rows(), *_settings_tail()]) + "\n"


def _settings_head() -> Iterator[str]:
    yield "# Settings"
    yield ""
    yield "<!-- Generated from resources/settings.py by control_plane/reference.py. -->"
    yield ""
    yield "Everything that differs between one installation and another is an environment variable. With none"
    yield "of them set, Penstock keeps all its data in `.penstock` below the folder it is started in."
    yield ""
    yield "| variable | meaning | default |"
    yield "|---|---|---|"


def _settings_rows() -> Iterator[str]:
    from resources.settings import PREFIX, Settings

    for name, field in Settings.model_fields.items():
        yield f"| `{PREFIX}{name.upper()}` | {field.description} | {_setting_default(field)} |"


def _setting_default(field: Any) -> str:
    default = field.get_default(call_default_factory=True)
    match default:
        case None:
            return ""
        case bool():
            return f"`{str(default).lower()}`"
        case _ if hasattr(default, "model_dump_json"):
            return f"`{default.model_dump_json()}`"
        case _:
            return f"`{default}`"


def _settings_tail() -> Iterator[str]:
    yield ""
    yield "A value that cannot be used ends the command with exit status 2 and names the variable. URLs with"
    yield "passwords are kept out of logs and messages."
    yield ""
    yield "Besides these, boto3 reads its own variables (`AWS_ACCESS_KEY_ID`, `AWS_PROFILE`, ...) or the"
    yield "machine's instance profile for credentials, Dagster reads `DAGSTER_HOME`, and `DEMO_URL` names a"
    yield "database of one's own to catalog."


def write_pages(root: Path) -> None:
    """Write all pages, and Grafana's dashboard, below ``root``."""
    from control_plane.event_pages import event_files
    from control_plane.monitoring import grafana
    from control_plane.monitoring.page import metrics_page
    from control_plane.service.reference import api_page

    (root / PAGES / "control_api.md").write_text(api_page(), encoding="utf-8")
    (root / PAGES / "cli.md").write_text(cli_page(), encoding="utf-8")
    (root / PAGES / "settings.md").write_text(settings_page(), encoding="utf-8")
    (root / PAGES / "metrics.md").write_text(metrics_page(), encoding="utf-8")
    grafana.FILE.write_text(grafana.dashboard_text(), encoding="utf-8")
    for name, text in event_files().items():
        (root / PAGES / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    write_pages(Path.cwd())

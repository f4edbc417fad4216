"""Where Dagster keeps its runs: read from ``dagster.yaml``, without importing Dagster.

The forms are those of https://docs.dagster.io/deployment/oss/dagster-yaml.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from penstock.errors import PenstockError


def dagster_database_url(folder: Path, environ: Mapping[str, str] | None = None) -> str:
    """Return the SQLAlchemy URL of the database of the instance in ``folder``, secrets and all.

    On SQLite this is the database of runs. Raises :class:`PenstockError` for a storage of another
    kind.
    """
    config = _resolved(_read(folder / "dagster.yaml"), os.environ if environ is None else environ)
    kind, options = _storage(config)
    if "postgres_url" in options or "postgres_db" in options:
        return _postgres_url(options)
    match kind:
        case "sqlite":
            base = Path(options.get("base_dir") or folder.absolute())
            return f"sqlite:///{base / 'history' / 'runs.db'}"
        case "run_storage" if "base_dir" in options:
            return f"sqlite:///{Path(options['base_dir']) / 'runs.db'}"
        case _:
            raise PenstockError(
                f"{folder / 'dagster.yaml'} keeps Dagster's storage in {kind}, which is neither "
                "sqlite nor postgres: declare the source with sql_catalog(..., url_env=...) instead"
            )


def _storage(config: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return the kind of storage that is configured, and its options."""
    if "storage" in config:
        kind, options = next(iter(config["storage"].items()))
        return kind, options.get("config", options) if kind == "custom" else options or {}
    if "run_storage" in config:
        return "run_storage", config["run_storage"].get("config") or {}
    return "sqlite", {}


def _read(path: Path) -> dict[str, Any]:
    import yaml  # type: ignore[import-untyped]

    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise PenstockError(f"{path} cannot be read: {error}") from None
    return document if isinstance(document, dict) else {}


def _resolved(value: Any, environ: Mapping[str, str]) -> Any:
    """Replace ``{env: NAME}`` by the variable's value."""
    match value:
        case {"env": str(name), **rest} if not rest:
            if name not in environ:
                raise PenstockError(f"dagster.yaml asks for the variable {name}, which is not set")
            return environ[name]
        case dict():
            return {key: _resolved(item, environ) for key, item in value.items()}
        case _:
            return value


def _is_url(config: Mapping[str, Any]) -> bool:
    return "postgres_url" in config or "postgres_db" in config


def _postgres_url(config: Mapping[str, Any]) -> str:
    from sqlalchemy import URL

    if url := config.get("postgres_url"):
        return str(url)
    parts = config["postgres_db"]
    return URL.create(
        "postgresql+psycopg",
        username=parts.get("username"),
        password=parts.get("password"),
        host=parts.get("hostname"),
        port=int(parts.get("port", 5432)),
        database=parts.get("db_name"),
        query={name: str(value) for name, value in (parts.get("params") or {}).items()},
    ).render_as_string(hide_password=False)

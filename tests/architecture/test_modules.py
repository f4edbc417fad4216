"""How modules are named, how long they are, and what they may touch."""

from __future__ import annotations

import ast

from tests.architecture.tree import PACKAGES, definitions, imported, modules

NAMELESS = {"util", "utils", "common", "helper", "helpers", "manager", "managers", "misc", "base"}
OUTSIDE = {
    "alembic",
    "boto3",
    "botocore",
    "dagster",
    "fastapi",
    "fsspec",
    "httpx",
    "moto",
    "obstore",
    "psycopg",
    "requests",
    "shutil",
    "socket",
    "sqlalchemy",
    "sqlite3",
    "subprocess",
    "tempfile",
    "urllib.request",
}
"""Packages, or modules, that talk to the outside: file system, network, other processes, databases."""
MODULE_LINES = 500
LONG_MODULES: dict[str, int] = {}
"""Modules that are longer on purpose, and how long they may be."""
FUNCTION_LINES = 60
LONG_FUNCTIONS = {
    "penstock/diff/compiled.py: _merge_runs": 100,  # one pass for a compiler, which inlines nothing cheaper
    "resources/control_db/migrations/versions/0001_control.py: upgrade": 300,  # DDL, table by table
    "resources/control_db/migrations/versions/0003_trust.py: upgrade": 300,  # the same
}
"""Functions that are longer on purpose, and how long they may be."""


def outside(name: str) -> bool:
    """Say whether an imported module talks to the outside."""
    return name in OUTSIDE or name.partition(".")[0] in OUTSIDE


def test_no_module_has_a_name_that_says_nothing() -> None:
    """No module is called utils, common, helpers, manager or the like."""
    named = [module.name for module in modules(*PACKAGES, "tests") if module.path.stem in NAMELESS]
    assert named == []


def test_no_package_does_io_by_being_imported_through() -> None:
    """The top level of an __init__.py imports nothing that talks to the outside."""
    guilty = []
    for module in modules(*PACKAGES):
        if module.path.name != "__init__.py":
            continue
        guilty += [
            f"{module.name}: {name}" for _, name in imported(module, top=True) if outside(name)
        ]
    assert guilty == []


def test_the_domain_touches_nothing_outside() -> None:
    """penstock imports no library that talks to the outside, at the top or inside a function."""
    guilty = [
        f"{module.name}:{line}: {name}"
        for module in modules("penstock")
        for line, name in imported(module)
        if outside(name)
    ]
    assert guilty == []


def test_the_domain_opens_no_files() -> None:
    """penstock never calls the built-in open: adapters open files."""
    guilty = [
        f"{module.name}:{node.lineno}"
        for module in modules("penstock")
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "open"
    ]
    assert guilty == []


def test_the_domain_is_told_the_time() -> None:
    """penstock reads no clock: datetime.now, time.time and their like appear nowhere in it."""
    clocks = {
        "now",
        "utcnow",
        "today",
        "time",
        "time_ns",
        "monotonic",
        "monotonic_ns",
        "perf_counter",
        "sleep",
    }
    owners = {"datetime", "date", "time"}
    guilty = [
        f"{module.name}:{node.lineno}: {node.value.id}.{node.attr}"
        for module in modules("penstock")
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id in owners
        and node.attr in clocks
    ]
    assert guilty == []
    assert not [m.name for m in modules("penstock") for _, name in imported(m) if name == "time"]


def test_modules_stay_short() -> None:
    """No module is longer than 500 lines, but for those named here with a limit of their own."""
    long = {
        module.name: lines
        for module in modules(*PACKAGES)
        if (lines := module.text.count("\n")) > LONG_MODULES.get(module.name, MODULE_LINES)
    }
    assert long == {}


def test_functions_stay_short() -> None:
    """No function is longer than 60 lines, its docstring included, but for those named here with a limit."""
    long = {
        f"{module.name}: {name}": node.end_lineno - node.lineno + 1
        for module in modules(*PACKAGES)
        for name, node in definitions(module)
        if isinstance(node, ast.FunctionDef) and node.end_lineno is not None
    }
    allowed = {name: LONG_FUNCTIONS.get(name, FUNCTION_LINES) for name in long}
    assert {name: lines for name, lines in long.items() if lines > allowed[name]} == {}


def test_every_module_says_what_it_is_for() -> None:
    """Every module with code in it opens with a docstring."""
    silent = [
        module.name
        for module in modules(*PACKAGES)
        if module.tree.body and ast.get_docstring(module.tree) is None
    ]
    assert silent == []


def test_everything_public_in_the_domain_is_documented() -> None:
    """Every public function, method and class of penstock has a docstring."""
    silent = [
        f"{module.name}: {name}"
        for module in modules("penstock")
        for name, node in definitions(module)
        if not any(part.startswith("_") for part in name.split("."))
        and ast.get_docstring(node) is None
    ]
    assert silent == []


def test_every_test_says_what_it_shows() -> None:
    """Every test function opens with a docstring that ends as a sentence does."""
    silent = [
        f"{module.name}: {name}"
        for module in modules("tests")
        for name, node in definitions(module)
        if isinstance(node, ast.FunctionDef)
        and name.rpartition(".")[2].startswith("test_")
        and not (ast.get_docstring(node) or "").strip().endswith(".")
    ]
    assert silent == []


def test_no_test_is_skipped() -> None:
    """No test is skipped or expected to fail."""
    marks = {"skip", "skipif", "xfail", "importorskip"}
    found = [
        f"{module.name}:{node.lineno}"
        for module in modules("tests")
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Attribute) and node.attr in marks
    ]
    assert found == []

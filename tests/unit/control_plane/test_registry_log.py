"""The commands on the registry's log and its projections, over a real database."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator

import pytest
from sqlalchemy import text

from control_plane import cli
from resources.control_db.engine import open_engine
from resources.registry.store import SqlRegistryStore
from tests.contracts.registry_values import create, entity
from tests.unit.control_plane.commands import Ran


@pytest.fixture
def store(
    new_control_url: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[SqlRegistryStore]:
    url = new_control_url("sqlite")
    monkeypatch.setenv("PENSTOCK_DATABASE_URL", url)
    monkeypatch.setenv("COLUMNS", "100")
    made = SqlRegistryStore(open_engine(url))
    for n in range(3):
        create(made, entity(f"k{n}"), {"n": n})
    yield made
    made.close()


@pytest.fixture
def run(
    store: SqlRegistryStore, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Ran]:
    def run(*arguments: str) -> Ran:
        monkeypatch.setattr(sys, "argv", ["penstock", "registry", *arguments])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.main()
        captured = capsys.readouterr()
        return Ran(int(ended.value.code or 0), captured.out, captured.err)

    return run


def test_projections_are_listed_with_what_they_are_behind(run: Callable[..., Ran]) -> None:
    """Before they have run, after they have caught up, and after one was made anew."""
    before = run("projections", "--json").document["projections"]
    names = ["search", "counts", "activity", "seal"]
    assert [(p["name"], p["status"], p["behind"]) for p in before] == [
        (n, "none", 3) for n in names
    ]
    caught_up = run("projections", "catch-up", "--json").document["projected"]
    assert caught_up == dict.fromkeys(names, 3)
    ran = run("projections", "rebuild", "search")
    assert (ran.status, ran.err) == (0, "")
    assert ran.out == "search was made anew from 3 events; generation 2 is live\n"
    after = run("projections", "--json").document["projections"]
    assert [(p["generation"], p["status"], p["behind"]) for p in after] == [
        (2, "live", 0),
        (1, "live", 0),
        (1, "live", 0),
        (1, "live", 0),
    ]
    assert "search" in run("projections").out
    assert "counts: 0 events" in run("projections", "catch-up").out


def test_what_cannot_be_made_anew_is_refused(run: Callable[..., Ran]) -> None:
    """An unknown projection, and the seal, end with exit status 2 and say why."""
    for name, said in (("sraech", "choose one of search, counts"), ("seal", "registry verify")):
        ran = run("projections", "rebuild", name)
        assert ran.status == 2
        assert said in " ".join(ran.err.split())


def test_a_log_is_verified(run: Callable[..., Ran], store: SqlRegistryStore) -> None:
    """Exit status 0 and the last hash where it holds; 1 and the event where it does not."""
    assert run("verify", "--json").document["unsealed"] == 3
    run("projections", "catch-up")
    ran = run("verify")
    assert (ran.status, ran.err) == (0, "")
    assert "1 blocks with 3 events hold; the last hash is" in " ".join(ran.out.split())
    with store.engine.begin() as connection:
        connection.execute(text("UPDATE registry_event SET actor = 'eve' WHERE position = 2"))
    ran = run("verify")
    assert ran.status == 1
    assert "block 1 does not: event 2 is not as it was sealed" in ran.out
    document = run("verify", "--json").document
    assert (document["holds"], document["broken"]["position"]) == (False, 2)

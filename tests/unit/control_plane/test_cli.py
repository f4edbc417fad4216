"""The command line, over a platform in memory."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from control_plane.cli import BENCHES
from penstock.errors import InvalidIdentifier
from penstock.publish.state import PublishStatus
from tests.fixtures.memory import TARGET, Bench, knows, person
from tests.unit.control_plane.commands import Run, runner

UNKNOWN = "crm@2020-01-01T00-00-00.000000Z"
LONG_KEY = "crm/" + "very_long_container_name_" * 8 + "/leaf"


@pytest.fixture
def run(bench: Bench, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    return runner(bench, monkeypatch, capsys)


def published(bench: Bench) -> str:
    """Publish two batches with a change in between, and return the second's id."""
    bench.land([person("crm/a", name="Ada"), person("crm/b"), person(LONG_KEY)])
    bench.publish()
    second = bench.land(
        [person("crm/a", name="Ada [bold]L.[/bold]"), person(LONG_KEY), knows("crm/a", LONG_KEY)]
    )
    bench.publish()
    return second.batch_id


QUERIES = [
    ("sources",),
    ("batches",),
    ("batches", "--source", "crm"),
    ("batch", "show", "BATCH"),
    ("queue",),
    ("queue", "--explain"),
    ("plan", "show", "BATCH"),
    ("plan", "show", "BATCH", "--target", "model"),
    ("plan", "explain", "BATCH", "crm/a"),
    ("plan", "explain", "BATCH", "crm/b"),
    ("plan", "explain", "BATCH", LONG_KEY),
    ("publish-state",),
    ("publish-state", "BATCH"),
    ("dead-letters",),
    ("schema", "manifest"),
    ("version",),
]


@pytest.mark.parametrize("query", QUERIES, ids=" ".join)
def test_every_query_has_one_json_document(bench: Bench, run: Run, query: tuple[str, ...]) -> None:
    """With --json standard output is one JSON object and nothing else."""
    batch = published(bench)
    bench.land([person("crm/a")])
    ran = run(*(batch if word == "BATCH" else word for word in query), "--json")
    assert (ran.status, ran.err) == (0, "")
    assert isinstance(ran.document, dict)


@pytest.mark.parametrize("query", QUERIES, ids=" ".join)
def test_every_table_fits_a_hundred_columns(bench: Bench, run: Run, query: tuple[str, ...]) -> None:
    """No line of any table is wider than the terminal, and nothing is cut off by an ellipsis."""
    batch = published(bench)
    bench.land([person("crm/a")])
    ran = run(*(batch if word == "BATCH" else word for word in query))
    assert (ran.status, ran.err) == (0, "")
    assert ran.out.strip()
    if query[0] != "schema":
        assert max(map(len, ran.out.splitlines())) <= 100
        assert "\N{HORIZONTAL ELLIPSIS}" not in ran.out


@pytest.mark.parametrize(
    "question",
    [
        ("batches", "--source", "nobody"),
        ("batch", "show", UNKNOWN),
        ("batch", "show", "not-a-batch"),
        ("plan", "show", UNKNOWN),
        ("plan", "show", "BATCH", "--target", "elsewhere"),
        ("plan", "explain", UNKNOWN, "crm/a"),
        ("plan", "explain", "BATCH", "crm/nobody"),
        ("publish-state", UNKNOWN),
        ("publish-state", "--source", "nobody"),
        ("dead-letters", "--source", "../x"),
        ("republish", UNKNOWN),
        ("boost", UNKNOWN, "1"),
        ("bench", "nothing"),
    ],
    ids=" ".join,
)
def test_an_unknown_id_is_an_error_with_status_two(
    bench: Bench, run: Run, question: tuple[str, ...]
) -> None:
    """What names nothing gives one line on stderr, nothing on stdout, and exit status 2, with --json too."""
    batch = published(bench)
    words = [batch if word == "BATCH" else word for word in question]
    for arguments in (words, [*words, "--json"]):
        ran = run(*arguments)
        assert (ran.status, ran.out) == (2, "")
        assert ran.err.startswith("error: ")
        assert ran.err.count("\n") == 1


def test_a_misspelt_command_has_status_two(run: Run) -> None:
    """A command that does not exist is a usage error."""
    assert run("batchs").status == 2


def test_a_folded_key_is_whole(bench: Bench, run: Run) -> None:
    """A key wider than the terminal is folded over lines, every character of it."""
    batch = published(bench)
    ran = run("plan", "explain", batch, LONG_KEY)
    assert LONG_KEY in "".join(line.strip() for line in ran.out.splitlines())


def test_values_are_text_and_never_markup(bench: Bench, run: Run) -> None:
    """Brackets in attributes are shown as they are, and control characters are written out."""
    bench.land([person("crm/a", name="[red]x[/red] \x1b[31mescape")])
    batch = bench.publish().state.batch_id
    ran = run("plan", "explain", batch, "crm/a")
    assert "[red]x[/red]" in ran.out
    assert "\x1b" not in ran.out
    assert r"\x1b[31mescape" in ran.out


def test_explain_shows_both_sides_of_a_change(bench: Bench, run: Run) -> None:
    """An update is shown by attribute, from what to what."""
    batch = published(bench)
    document = run("plan", "explain", batch, "crm/a", "--json").document
    (explanation,) = document["explanations"]
    assert explanation["changes"] == [
        {"path": "name", "change": "changed", "before": "Ada", "after": "Ada [bold]L.[/bold]"}
    ]
    assert explanation["operation"]["action"] == "update"
    assert explanation["completeness"] == "complete"


def test_the_queue_adds_up(bench: Bench, run: Run) -> None:
    """Each place's total is the sum of the parts that are shown with it."""
    bench.land([person("crm/a")])
    bench.land([person("crm/b")])
    document = run("queue", "--explain", "--json").document
    assert [place["place"] for place in document["queue"]] == [1, 2]
    for place in document["queue"]:
        parts = dict(place["score"])
        rules = sum(points for _, points in parts.pop("rules"))
        assert parts.pop("total") == pytest.approx(sum(parts.values()) + rules)
    assert set(document["policy"]) >= {"age_weight", "importance_weight"}


def test_a_boost_moves_the_score(bench: Bench, run: Run) -> None:
    """Boosting sets the points that the score shows; below zero is as good as above."""
    batch = bench.land([person("crm/a")]).batch_id
    assert run("boost", batch, "3").status == 0
    assert bench.control.get_state(batch, TARGET).priority_boost == 3.0
    ran = run("boost", batch, "-1.5", "--json")
    assert ran.document["publish_states"][0]["priority_boost"] == -1.5
    assert run("boost", batch, "soon").status == 2


def test_republish_puts_a_batch_back(bench: Bench, run: Run) -> None:
    """A published batch is PENDING again after republish; one that waits already is an error."""
    batch = published(bench)
    ran = run("republish", batch, "--json")
    assert [state["status"] for state in ran.document["publish_states"]] == ["PENDING"]
    again = run("republish", batch)
    assert again.status == 2
    assert "PENDING" in again.err


def test_a_failed_batch_tells_why(bench: Bench, run: Run) -> None:
    """The state of a FAILED batch shows code, step and message, and its dead letter is listed."""
    manifest = bench.land([person("crm/a")])
    object.__setattr__(bench.platform, "targets", {})
    report = bench.publish()
    assert report.state.status is PublishStatus.FAILED
    ran = run("publish-state", manifest.batch_id)
    assert "is not configured" in " ".join(ran.out.split())
    (letter,) = run("dead-letters", "--json").document["dead_letters"]
    assert letter["subject"] == manifest.batch_id
    assert manifest.batch_id in "".join(run("dead-letters").out.split())


def test_limits_are_kept(bench: Bench, run: Run) -> None:
    """--limit bounds what is listed; zero is a usage error."""
    for _ in range(3):
        bench.land([person("crm/a")])
    assert len(run("batches", "--limit", "2", "--json").document["batches"]) == 2
    assert run("batches", "--limit", "0").status == 2


def test_a_long_queue_says_what_it_leaves_out(bench: Bench, run: Run) -> None:
    """What --limit cuts off the queue is counted, in words and in JSON."""
    for _ in range(3):
        bench.land([person("crm/a")])
    assert "the first 2 of 3: --limit shows more" in run("queue", "--limit", "2").out
    document = run("queue", "--limit", "2", "--json").document
    assert (len(document["queue"]), document["waiting"]) == (2, 3)


def test_nothing_yet_is_said_in_words(run: Run) -> None:
    """Where there is nothing to list, a person is told so, and a machine gets an empty list."""
    assert run("batches").out == "no batches yet\n"
    assert run("dead-letters").out == "no dead letters\n"
    assert run("queue").out == "nothing waits to be published\n"
    assert run("batches", "--json").document == {"batches": []}


def test_a_folder_without_data_is_an_error(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A query never makes an empty installation: it says where it looked, and what to do."""
    monkeypatch.delenv("PENSTOCK_DATABASE_URL")
    monkeypatch.setenv("PENSTOCK_HOME", str(tmp_path / "empty"))
    ran = run("sources")
    assert ran.status == 2
    assert str(tmp_path / "empty") in ran.err
    assert not (tmp_path / "empty").exists()
    assert "penstock up" in ran.err


def test_a_setting_that_cannot_be_used_is_named(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bad environment variable gives exit status 2 and is named."""
    monkeypatch.setenv("PENSTOCK_LEASE_S", "soon")
    ran = run("sources")
    assert ran.status == 2
    assert "PENSTOCK_LEASE_S" in ran.err


def test_a_bench_prints_nothing_but_its_results(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a bench prints on its way goes to stderr, so that --json is one document."""
    import benchmarks
    import benchmarks.diff
    from benchmarks.harness import at_most, result

    def measured(*, quick: bool) -> list[object]:
        print("warming up")  # noqa: T201
        assert quick
        return [result("share", 0.5, "x", goal=at_most(1, "x"))]

    monkeypatch.setattr(benchmarks.diff, "run", measured)
    ran = run("bench", "diff", "--quick", "--json")
    assert ran.err == "warming up\n"
    assert ran.document["bench"] == "diff"
    assert ran.document["results"] == [
        {"name": "share", "value": 0.5, "unit": "x", "peer": None, "goal": "<= 1 x", "met": True}
    ]
    folder = Path(benchmarks.__file__).parent
    assert set(BENCHES) == {p.stem for p in folder.glob("*.py") if "\ndef run(" in p.read_text()}


def test_only_what_penstock_raises_is_a_short_error(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A domain error becomes one line; a defect keeps its traceback."""

    def broken(settings: object) -> None:
        raise ZeroDivisionError

    def refused(settings: object) -> None:
        raise InvalidIdentifier("no")

    monkeypatch.setattr("resources.wiring.open_platform", refused)
    assert run("sources").err == "error: no\n"
    monkeypatch.setattr("resources.wiring.open_platform", broken)
    with pytest.raises(ZeroDivisionError):
        run("sources")


def test_json_is_not_wrapped_or_coloured(bench: Bench, run: Run) -> None:
    """JSON output is what json.dumps gives, whatever the width of the terminal."""
    batch = published(bench)
    ran = run("plan", "show", batch, "--json")
    assert ran.out == json.dumps(ran.document, ensure_ascii=False, indent=1) + "\n"

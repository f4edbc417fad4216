"""What an operator does over HTTP: look, decide, mend, pause, put in order; and what nobody else sees of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import TypeAdapter

from control_plane.service.app import create_app
from control_plane.service.services import Services
from penstock.batch.rows import Entity
from penstock.publish.state import PublishState, PublishStatus
from resources.control_db.control_tokens import SqlControlTokens
from resources.settings import Settings
from tests.fixtures.control_server import UNLIMITED, ControlServer, running_control
from tests.fixtures.memory import SOURCE, TARGET, Bench, person

WHY = {"reason": "they left"}
NOBODY = "nobody@2026-01-01T00-00-00.000000Z"


@pytest.fixture
def served(bench: Bench, tmp_path: Path) -> Iterator[ControlServer]:
    """The control plane over a platform with one source, of the tenant default."""
    services = Services(
        platform=bench.platform,
        engine=bench.control.engine,
        tokens=SqlControlTokens.from_engine(bench.control.engine),
        audit=bench.control,
        settings=Settings(home=tmp_path / "home"),
        limits=UNLIMITED,
    )
    with running_control(services) as control:
        yield control


def ok(answer: httpx.Response) -> Any:
    assert answer.status_code == 200, answer.text
    return answer.json()


def held(bench: Bench) -> PublishState:
    """The state of a full batch whose deletes are held."""
    bench.land([person(f"crm/{n}") for n in range(100)])
    bench.publish()
    bench.land([person(f"crm/{n}") for n in range(40)])
    return bench.publish().state


def poisoned(bench: Bench) -> None:
    """Publish a batch of which the target refuses one entity."""
    bench.target.poison.add("crm/a")
    bench.land([person("crm/a", v=1), person("crm/b", v=1)])
    bench.publish()


def test_a_hold_is_looked_at_and_approved(bench: Bench, served: ControlServer) -> None:
    """What is held is listed with its plan; an approval of that plan executes it, another plan is refused."""
    state = held(bench)
    (hold,) = ok(served.request("GET", "/holds", role="viewer"))["items"]
    assert (hold["state"]["batch_id"], hold["state"]["held"]) == (state.batch_id, 60)
    assert (
        ok(served.request("GET", f"/holds/{state.batch_id}"))["plan_digest"] == hold["plan_digest"]
    )
    order = {**WHY, "plan_digest": hold["plan_digest"]}
    path = f"/holds/{state.batch_id}/approve"
    assert served.request("POST", path, role="viewer", json=order).status_code == 403
    wrong = served.request("POST", path, json={**order, "plan_digest": "0" * 32})
    assert (wrong.status_code, wrong.json()["code"]) == (409, "illegal_move")
    silent = served.request("POST", path, json={"plan_digest": hold["plan_digest"]})
    assert silent.status_code == 400, "a reason is needed"
    decided = ok(served.request("POST", path, json=order))
    assert (decided["approver"], decided["status"]) == ("ada", "active")
    assert bench.publish().state.metrics.entities_deleted == 60
    assert ok(served.request("GET", "/holds"))["items"] == []
    about = {"subject": state.batch_id}
    acts = ok(served.request("GET", "/audit", role="viewer", params=about))["items"]
    assert (acts[0]["act"], acts[0]["actor"], acts[0]["reason"]) == (
        *("hold.approve", "ada"),
        "they left",
    )
    assert [(act["act"], act["details"]["code"]) for act in acts[1:]] == [
        ("command.refused", "illegal_move"),
        ("command.refused", "forbidden"),
    ]


def test_a_hold_is_rejected(bench: Bench, served: ControlServer) -> None:
    """What is rejected is not listed any more, unless all are asked for."""
    state = held(bench)
    order = {**WHY, "plan_digest": state.plan_digest}
    ok(served.request("POST", f"/holds/{state.batch_id}/reject", json=order))
    assert ok(served.request("GET", "/holds"))["items"] == []
    (hold,) = ok(served.request("GET", "/holds?all=true"))["items"]
    assert hold["decisions"][0]["decision"] == "reject"


def test_a_dead_letter_is_inspected_fixed_and_published(
    bench: Bench, served: ControlServer
) -> None:
    """A letter is found by its cause, shown with its data, mended by a patch, and what it brings is published."""
    poisoned(bench)
    (group,) = ok(served.request("GET", "/dead-letters/groups?status=open"))["items"]
    listed = ok(served.request("GET", f"/dead-letters?fingerprint={group['fingerprint']}"))
    (letter,) = listed["items"]
    assert (letter["key"], listed["next"]) == ("crm/a", None)
    path = f"/dead-letters/{letter['dead_letter_id']}"
    assert ok(served.request("GET", path, role="viewer"))["attributes"] == {"v": 1}
    bad = {"patch": [{"op": "remove", "path": "/nothing"}], "reason": "x"}
    refused = served.request("POST", f"{path}/fix", json=bad)
    assert (refused.status_code, refused.json()["code"]) == (422, "bad_patch")
    bench.target.poison.clear()
    patch = {"patch": [{"op": "replace", "path": "/v", "value": 2}], "reason": "typo"}
    done = ok(served.request("POST", f"{path}/fix", json=patch))
    assert (done["letters"], len(done["corrections"])) == (1, 1)


@pytest.mark.parametrize("by", ["id", "fingerprint"])
def test_dead_letters_are_requeued(bench: Bench, served: ControlServer, by: str) -> None:
    """By their ids or by what they have in common; all of them at once is no choice."""
    poisoned(bench)
    (letter,) = ok(served.request("GET", "/dead-letters"))["items"]
    assert served.request("POST", "/dead-letters/requeue", json={}).status_code == 409
    bench.target.poison.clear()
    chosen = {"dead_letter_ids": [letter["dead_letter_id"]]}
    if by == "fingerprint":
        chosen = {"fingerprint": letter["fingerprint"]}
    assert ok(served.request("POST", "/dead-letters/requeue", json=chosen))["letters"] == 1
    (after,) = ok(served.request("GET", "/dead-letters"))["items"]
    assert after["status"] == "requeued"


def test_a_batch_of_no_moment_is_not_found(served: ControlServer) -> None:
    """An id of the right form names nothing where no calendar has its moment; another form is no id."""
    for batch, status in (("people@2026-02-30T00-00-00.000000Z", 404), ("people@yesterday", 400)):
        for path in (f"/batches/{batch}", f"/holds/{batch}"):
            assert served.request("GET", path).status_code == status


@pytest.mark.parametrize("word", ["requeue", "discard"])
def test_acts_on_letters_are_no_letters(served: ControlServer, word: str) -> None:
    """What can only be posted to is not looked at as if it were a letter's id, and says what it takes."""
    refused = served.request("GET", f"/dead-letters/{word}")
    assert (refused.status_code, refused.headers["Allow"]) == (405, "POST")


def test_dead_letters_are_discarded(bench: Bench, served: ControlServer) -> None:
    """With a reason, once."""
    poisoned(bench)
    (letter,) = ok(served.request("GET", "/dead-letters"))["items"]
    order = {"dead_letter_ids": [letter["dead_letter_id"]], **WHY}
    assert ok(served.request("POST", "/dead-letters/discard", json=order)) == {"discarded": 1}
    again = served.request("POST", "/dead-letters/discard", json=order)
    assert (again.status_code, again.json()["code"]) == (409, "illegal_move")


def test_the_queue_explains_each_place_and_takes_orders(
    bench: Bench, served: ControlServer
) -> None:
    """Arithmetic adds up; a boost, a pause, a cancel and a requeue do what they say, and say so twice."""
    batch = bench.land([person("crm/a")]).batch_id
    queue = ok(served.request("GET", "/queue", role="viewer"))
    (place,) = queue["queue"]
    parts = place["score"]
    assert queue["waiting"] == 1
    assert parts["total"] == pytest.approx(
        sum(parts[name] for name in ("age", "importance", "complexity", "boost", "deadline"))
        + sum(points for _, points in parts["rules"])
    )
    boosted = ok(served.request("POST", f"/batches/{batch}/prioritise", json={"boost": 3}))
    assert boosted["publish_states"][0]["priority_boost"] == 3
    paused = ok(served.request("POST", f"/sources/{SOURCE}/pause", json=WHY))
    assert paused["paused_by"] == "ada"
    again = served.request("POST", f"/sources/{SOURCE}/pause", json=WHY)
    assert (again.status_code, again.json()["code"]) == (409, "nothing_to_do")
    (place,) = ok(served.request("GET", "/queue"))["queue"]
    assert "paused" in place["waits_for"]
    (source,) = ok(served.request("GET", "/sources"))["items"]
    assert source["paused"]["reason"] == "they left"
    assert ok(served.request("POST", f"/sources/{SOURCE}/resume", json={})) == {"items": []}
    ok(served.request("POST", f"/batches/{batch}/cancel", json=WHY))
    assert ok(served.request("GET", "/queue"))["queue"] == []
    after = ok(served.request("POST", f"/batches/{batch}/requeue", json={"target": TARGET}))
    state = TypeAdapter(PublishState).validate_python(after["publish_states"][0])
    assert state.status is PublishStatus.PENDING


def test_a_batch_is_shown_rolled_back_and_republished(bench: Bench, served: ControlServer) -> None:
    """Everything of it is there; a rollback can be tried first, and lands the inverse."""
    bench.land([person("crm/a", v=1)])
    bench.publish()
    batch = bench.land([person("crm/a", v=2)]).batch_id
    bench.publish()
    found = ok(served.request("GET", f"/batches/{batch}", role="viewer"))
    (target,) = found["targets"]
    assert target["state"]["status"] == "COMPLETE"
    assert all(row["balanced"] for row in target["ledger"])
    first = ok(served.request("GET", "/batches?limit=1"))
    second = ok(served.request("GET", "/batches", params={"after": first["next"]}))
    assert first["items"][0]["batch_id"] == batch
    assert [each["batch_id"] != batch for each in second["items"]] == [True]
    tried = ok(served.request("POST", f"/batches/{batch}/rollback", json={**WHY, "dry_run": True}))
    assert (tried["restored"], tried["correction"]) == (1, None)
    ok(served.request("POST", f"/batches/{batch}/republish", json={}))
    busy = served.request("POST", f"/batches/{batch}/republish", json={})
    assert (busy.status_code, busy.json()["code"]) == (409, "illegal_move")


def test_targets_are_for_those_who_run_the_platform(bench: Bench, served: ControlServer) -> None:
    """All see how they stand; a pause, which others would feel, takes a token for all tenants."""
    found = ok(served.request("GET", "/targets", role="viewer"))["items"]
    assert [(each["target_id"], each["status"]) for each in found] == [(TARGET, "closed")]
    path = f"/targets/{TARGET}/pause"
    mine = served.request("POST", path, tenant="default", json=WHY)
    assert (mine.status_code, mine.json()["code"]) == (403, "forbidden")
    ok(served.request("POST", path, json=WHY))
    (pause,) = ok(served.request("GET", "/pauses", tenant="default"))["items"]
    assert (pause["scope"], pause["scope_id"]) == ("target", TARGET)
    ok(served.request("POST", f"/targets/{TARGET}/resume", json={}))
    closed = served.request("POST", f"/targets/{TARGET}/reset-breaker", json={})
    assert (closed.status_code, closed.json()["code"]) == (409, "nothing_to_do")


@pytest.mark.parametrize("page", [f"sources/{SOURCE}", f"targets/{TARGET}"])
def test_a_form_pauses_and_resumes(bench: Bench, served: ControlServer, page: str) -> None:
    """From the pages, sources and targets are paused for a reason and go on; there is no third act."""
    bench.land([person("crm/a")])
    proof = "p" * 43
    cookies = {"penstock_control_session": served.token(), "penstock_control_csrf": proof}

    def act(name: str, reason: str = "") -> int:
        return httpx.post(
            f"{served.url}/dashboard/{page}/{name}",
            data={"csrf": proof, "reason": reason},
            cookies=cookies,
            timeout=60,
        ).status_code

    def paused() -> list[str]:
        return [pause.scope_id for pause in bench.control.list_pauses()]

    assert (act("pause"), paused()) == (422, [])
    assert (act("pause", "it is moved"), paused()) == (303, [page.partition("/")[2]])
    assert act("pause", "it is moved") == 409
    assert (act("resume"), paused()) == (303, [])
    assert act("forget") == 404


def test_what_is_another_tenants_is_as_if_it_were_nobodys(
    bench: Bench, served: ControlServer
) -> None:
    """Lists are empty, and each thing is answered word for word as one that was never there."""
    state = held(bench)
    bench.target.poison.add("crm/a")
    bench.land([Entity(entity_type="person", entity_key="crm/a", attributes={"v": 1})])
    bench.publish()
    waiting = bench.land([person("crm/z")]).batch_id
    (letter,) = ok(served.request("GET", "/dead-letters?code=poison"))["items"]
    for path in (
        "/sources",
        "/batches",
        "/holds",
        "/dead-letters",
        "/dead-letters/groups",
        "/audit",
    ):
        assert ok(served.request("GET", path, tenant="other"))["items"] == [], path
        assert ok(served.request("GET", path, tenant="default")).keys() >= {"items"}
    assert ok(served.request("GET", "/queue", tenant="other"))["queue"] == []
    assert ok(served.request("GET", "/targets", tenant="other"))["items"] == []
    decision = {**WHY, "plan_digest": "0" * 32}
    asked: list[tuple[str, str, str, str, Any]] = [
        ("GET", "/sources/@", SOURCE, "nobody", None),
        ("POST", "/sources/@/pause", SOURCE, "nobody", WHY),
        ("GET", "/batches?source=@", SOURCE, "nobody", None),
        ("GET", "/audit?source=@", SOURCE, "nobody", None),
        ("GET", "/batches/@", waiting, NOBODY, None),
        ("POST", "/batches/@/prioritise", waiting, NOBODY, {}),
        ("POST", "/batches/@/cancel", waiting, NOBODY, WHY),
        ("POST", "/batches/@/rollback", state.batch_id, NOBODY, WHY),
        ("GET", "/holds/@", state.batch_id, NOBODY, None),
        ("POST", "/holds/@/approve", state.batch_id, NOBODY, decision),
        ("GET", "/dead-letters/@", letter["dead_letter_id"], "0" * 32, None),
        ("POST", "/dead-letters/@/fix", letter["dead_letter_id"], "0" * 32, {"patch": []}),
        ("GET", "/dead-letters?after=@", letter["dead_letter_id"], "0" * 32, None),
    ]
    for method, path, theirs, nobodys, body in asked:
        answers = []
        for name in (theirs, nobodys):
            answer = served.request(method, path.replace("@", name, 1), tenant="other", json=body)
            answers.append((answer.status_code, answer.text.replace(name, "NAME")))
        assert answers[0] == answers[1], (method, path)
        assert answers[0][0] == 404, (method, path)
    named = {"dead_letter_ids": [letter["dead_letter_id"]], **WHY}
    for act in ("requeue", "discard"):
        refused = served.request("POST", f"/dead-letters/{act}", tenant="other", json=named)
        assert refused.status_code == 404
    by_code = served.request(
        "POST", "/dead-letters/requeue", tenant="other", json={"code": "poison"}
    )
    assert by_code.json()["code"] == "nothing_to_do"


def test_answers_are_as_the_description_says(bench: Bench, served: ControlServer) -> None:
    """What each query answers with fits the schema that OpenAPI gives for it."""
    from jsonschema_rs import validator_for

    state = held(bench)
    bench.target.poison.add("crm/a")
    bench.land([person("crm/a", v=1)])
    bench.publish()
    bench.land([person("crm/b", v=1)])
    document = create_app(served.services).openapi()
    (letter, *_) = ok(served.request("GET", "/dead-letters"))["items"]
    ok(served.request("POST", f"/sources/{SOURCE}/pause", json=WHY))
    names = {
        "source": SOURCE,
        "batch": state.batch_id,
        "letter": letter["dead_letter_id"],
    }
    looked = 0
    for path, methods in document["paths"].items():
        if "get" not in methods or not path.startswith(
            (
                "/sources",
                "/queue",
                "/batches",
                "/targets",
                "/holds",
                "/dead",
                "/audit",
                "/pauses",
                "/loops",
            )
        ):
            continue
        content = methods["get"]["responses"]["200"]["content"]["application/json"]["schema"]
        schema = {**content, "components": document["components"]}
        answer = ok(served.request("GET", path.format(**names), role="viewer"))
        errors = [str(error) for error in validator_for(schema).iter_errors(answer)]
        assert errors == [], path
        looked += 1
    assert looked >= 12

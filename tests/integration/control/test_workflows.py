"""Workflows over HTTP: made once, seen by their own tenant alone, and moved by whoever may."""

from __future__ import annotations

import time
from typing import Any

import pytest

from control_plane.service.loops import told_triggers as told_loop
from penstock.batch.source import SourceSpec
from penstock.identity.ids import SourceId, TenantId
from resources.wiring import open_coordination
from tests.fixtures.control_server import ControlServer

BODY = {"name": "nightly", "sources": ["a", "b"], "priority": 2}
TRACED = "00-" + "a" * 32 + "-" + "b" * 16 + "-01"


@pytest.fixture
def server(control: ControlServer) -> ControlServer:
    """The server, with two sources of one tenant and one of another declared."""
    specs = [("a", "acme"), ("b", "acme"), ("x", "other")]
    control.services.platform.control.sync_sources(
        [SourceSpec(source_id=SourceId(s), tenant_id=TenantId(t)) for s, t in specs]
    )
    return control


def _ask(
    server: ControlServer, method: str, path: str, *, tenant: str = "acme", **options: Any
) -> tuple[int, dict[str, Any]]:
    answer = server.request(method, path, tenant=tenant, **options)
    return answer.status_code, answer.json()


def _made(server: ControlServer, **values: Any) -> str:
    server.services.clock.sleep(1)  # those of one moment are in no order
    status, document = _ask(server, "POST", "/workflows", json={**BODY, **values})
    assert status == 201
    return str(document["workflow_id"])


def test_a_workflow_is_made_once(server: ControlServer) -> None:
    """With the same key and body it is the same one; with another body it is refused."""
    key = {"Idempotency-Key": "k-1"}
    status, made = _ask(server, "POST", "/workflows", json=BODY, headers=key)
    assert (status, made["status"], made["tasks"]) == (201, "running", {"pending": 4, "ready": 2})
    assert (made["tenant"], made["created_by"], made["can"]) == (
        "acme",
        "ada",
        ["pause", "cancel", "retry", "rerun"],
    )
    assert _ask(server, "POST", "/workflows", json=BODY, headers=key) == (200, made)
    status, problem = _ask(server, "POST", "/workflows", json={**BODY, "priority": 3}, headers=key)
    assert (status, problem["code"]) == (422, "key_reused")
    status, problem = _ask(server, "POST", "/workflows", json={**BODY, "sources": ["x"]})
    assert (status, problem["code"]) == (404, "not_found")
    status, _ = _ask(server, "POST", "/workflows", json={**BODY, "kind": "scheduled"})
    assert status in {400, 422}


def _traces(server: ControlServer, workflow_id: str) -> list[str | None]:
    """The traces of a workflow's turns, and of their tasks."""
    turns = _ask(server, "GET", f"/workflows/{workflow_id}")[1]["last_turns"]
    tasks = open_coordination(server.services.platform).workflows.list_tasks(workflow_id)
    return list({each["trace_parent"] for each in turns} | {each.trace_parent for each in tasks})


def test_a_workflow_goes_on_in_the_trace_that_it_was_asked_for_in(server: ControlServer) -> None:
    """Its first turn and tasks do; asked for again in another trace, it is the same one, in the first one's."""
    traced = {"Idempotency-Key": "k-1", "traceparent": TRACED}
    status, made = _ask(server, "POST", "/workflows", json=BODY, headers=traced)
    assert (status, _traces(server, made["workflow_id"])) == (201, [TRACED])
    again = {**traced, "traceparent": TRACED.replace("a", "c")}
    assert _ask(server, "POST", "/workflows", json=BODY, headers=again) == (200, made)
    assert _traces(server, made["workflow_id"]) == [TRACED]


@pytest.mark.parametrize(
    "header",
    [
        {},
        *({"traceparent": value} for value in ("", "x", TRACED.upper(), TRACED + "-1", "0" * 600)),
    ],
)
def test_what_is_no_trace_is_dropped(server: ControlServer, header: dict[str, str]) -> None:
    """As of events: the workflow is made all the same, in no trace of its caller's."""
    status, made = _ask(server, "POST", "/workflows", json=BODY, headers=header)
    assert status == 201
    turns = _ask(server, "GET", f"/workflows/{made['workflow_id']}")[1]["last_turns"]
    assert [turn["trace_parent"] for turn in turns] == [None]


def test_an_illegal_act_names_the_legal_ones(server: ControlServer) -> None:
    """It is a 409, and changes nothing."""
    made = _made(server)
    status, paused = _ask(server, "PUT", f"/workflows/{made}/pause", json={"reason": "a move"})
    assert (status, paused["status"], paused["can"]) == (200, "paused", ["resume", "cancel"])
    status, problem = _ask(server, "PUT", f"/workflows/{made}/pause")
    assert (status, problem["legal"]) == (409, ["resume", "cancel"])
    assert "from paused it can: resume, cancel" in problem["detail"]
    assert _ask(server, "PUT", f"/workflows/{made}/resume")[1]["status"] == "running"
    assert _ask(server, "POST", f"/workflows/{made}/retry")[0] == 409
    status, gone = _ask(server, "DELETE", f"/workflows/{made}?reason=never+mind")
    assert (status, gone["status"], gone["cancelled_by"]) == (200, "cancelled", "ada")
    assert gone["trouble"] == {"code": "cancelled", "message": "never mind"}
    assert _ask(server, "DELETE", f"/workflows/{made}")[1]["legal"] == []


def test_what_failed_is_done_again(server: ControlServer) -> None:
    """A retry takes what failed, a rerun any task that has ended, and says what is not possible."""
    made = _made(server, sources=["a"], steps=["collect"])
    co = open_coordination(server.services.platform)
    (task,) = co.workflows.list_tasks(made)
    from penstock.use_cases.workflow_tasks import fail_task
    from penstock.workflow.records import Trouble
    from penstock.workflow.tasks import Report, claimed

    now = co.now()
    co.workflows.change_task(
        task.task_id,
        lambda case: claimed(case, task.task_id, worker_id="w", now=now, lease_s=30),
    )
    report = Report(task_id=task.task_id, fencing_token=1)
    fail_task(co, report, Trouble(code="down", message="it is down"), passes=False)
    status, shown = _ask(server, "GET", f"/workflows/{made}")
    assert (status, shown["status"], shown["last_turns"][0]["status"]) == (200, "failed", "failed")
    status, page = _ask(server, "GET", f"/workflows/{made}/tasks?status=failed")
    assert page["items"][0]["trouble"] == {"code": "down", "message": "it is down"}
    assert page["items"][0]["worker_id"] == "w"
    assert _ask(server, "POST", f"/workflows/{made}/retry")[1]["status"] == "running"
    again = {"task_id": task.task_id}
    assert _ask(server, "POST", f"/workflows/{made}/rerun", json=again)[0] == 409
    again = {"task_id": "0" * 32}
    assert _ask(server, "POST", f"/workflows/{made}/rerun", json=again)[0] == 404


def test_pages_go_on_where_the_last_ended(server: ControlServer) -> None:
    """Whatever is made in between; tasks too."""
    made = [_made(server) for _ in range(3)]
    first = _ask(server, "GET", "/workflows?limit=2")[1]
    _made(server)
    rest = _ask(server, "GET", f"/workflows?limit=2&after={first['next']}")[1]
    assert [w["workflow_id"] for w in [*first["items"], *rest["items"]]] == made[::-1]
    assert rest["next"] is None
    page = _ask(server, "GET", f"/workflows/{made[0]}/tasks?limit=4")[1]
    more = _ask(server, "GET", f"/workflows/{made[0]}/tasks?limit=4&after={page['next']}")[1]
    assert (len(page["items"]), len(more["items"]), more["next"]) == (4, 2, None)
    assert _ask(server, "GET", f"/workflows/{made[0]}/tasks?turn=2")[0] == 404
    for bad in ("/workflows?after=nowhere", f"/workflows/{made[0]}/tasks?after=a.b"):
        assert _ask(server, "GET", bad)[0] == 400
    nowhere = f"0000-00-00T00-00-00.000000Z.{made[0]}"
    assert _ask(server, "GET", f"/workflows?after={nowhere}")[0] == 422
    _ask(server, "PUT", f"/workflows/{made[0]}/pause")
    for query, found in (
        ("status=paused", [made[0]]),
        ("kind=scheduled", []),
        ("source=b&status=paused", [made[0]]),
        ("tenant=other", []),
    ):
        items = _ask(server, "GET", f"/workflows?{query}")[1]["items"]
        assert [w["workflow_id"] for w in items] == found


def test_what_only_a_rule_refuses_is_well_formed(server: ControlServer) -> None:
    """Fields that do not go together are 422 and named; what the schema says is 400."""
    status, problem = _ask(server, "POST", "/workflows", json={**BODY, "sources": []})
    assert (status, problem["code"]) == (422, "unusable_parameters")
    assert "give either sources or a selector" in problem["errors"][0]["message"]
    assert _ask(server, "POST", "/workflows", json={**BODY, "priority": True})[0] == 400


def test_a_tenant_sees_its_own_alone(server: ControlServer) -> None:
    """Another's workflow is not there, in whatever way it is asked for; who runs the platform names the tenant."""
    made = _made(server)
    asks = [
        ("GET", ""),
        ("GET", "/tasks"),
        ("PUT", "/pause"),
        ("PUT", "/resume"),
        ("DELETE", ""),
        ("POST", "/retry"),
    ]
    for method, path in asks:
        assert _ask(server, method, f"/workflows/{made}{path}", tenant="other")[0] == 404
    assert _ask(server, "GET", "/workflows", tenant="other")[1]["items"] == []
    assert _ask(server, "GET", "/workflows?tenant=acme", tenant="other")[1]["items"] == []
    body = {**BODY, "tenant": "acme"}
    assert _ask(server, "POST", "/workflows", tenant="other", json=body)[0] == 404
    assert _ask(server, "POST", "/workflows", tenant="*", json=BODY)[0] == 422
    assert _ask(server, "POST", "/workflows", tenant="*", json=body)[0] == 201
    assert len(_ask(server, "GET", "/workflows?tenant=acme", tenant="*")[1]["items"]) == 2


def test_a_viewer_looks_and_does_nothing(server: ControlServer) -> None:
    """Acts take an operator."""
    made = _made(server)
    assert _ask(server, "GET", f"/workflows/{made}", role="viewer")[0] == 200
    for method, path in (
        ("POST", "/workflows"),
        ("PUT", f"/workflows/{made}/pause"),
        ("DELETE", f"/workflows/{made}"),
    ):
        options = {"json": BODY} if path == "/workflows" else {}
        assert _ask(server, method, path, role="viewer", **options)[0] == 403


def test_a_workflow_waits_for_what_happens(server: ControlServer) -> None:
    """One that waits for a source to go on begins as it does; an event that could set it off in circles is refused."""
    source = {"type": "source_resumed", "source": "a"}
    made = _made(server, kind="event_driven", event=source)
    for way in ("pause", "resume"):
        status, _ = _ask(server, "POST", f"/sources/a/{way}", json={"reason": "it is moved"})
        assert status == 200
    give_up_at = time.monotonic() + 60
    while told_loop.run_once(server.services) or not _turns(server, made):
        assert time.monotonic() < give_up_at, "what was told cannot be read"
    assert _turns(server, made)[0]["event_type"] == "source_resumed"
    bad = {**BODY, "kind": "event_driven", "event": {"type": "task_completed"}}
    status, problem = _ask(server, "POST", "/workflows", json=bad)
    assert status == 400
    assert "it is a step within a turn: wait for workflow_completed" in str(problem)
    assert "It can wait for: archive_discovered, collection_completed" in str(problem)


def _turns(server: ControlServer, workflow_id: str) -> list[dict[str, Any]]:
    turns: list[dict[str, Any]] = _ask(server, "GET", f"/workflows/{workflow_id}")[1]["last_turns"]
    return turns

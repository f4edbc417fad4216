"""The operators' dashboard in a real browser, over a real server and a control database: what an operator does."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pyarrow as pa
import pytest
from playwright.sync_api import Page, expect

from control_plane.service.services import Services
from penstock.identity.ids import TenantId
from penstock.ports.audit_log import AuditEntry
from penstock.ports.target import ApplyContext, ApplyOutcome
from penstock.publish.state import PublishStatus
from penstock.use_cases.acts import By
from penstock.use_cases.workflows import create_workflow
from penstock.workflow.spec import WorkflowSpec
from penstock.workflow.status import WorkflowStatus
from resources.control_db.control_tokens import SqlControlTokens
from resources.settings import Settings
from resources.wiring import open_coordination
from tests.fixtures.clock import FixedClock
from tests.fixtures.control_server import UNLIMITED, ControlServer, running_control
from tests.fixtures.memory import SOURCE, TARGET, Bench, ModelTarget, open_bench, person


@dataclass
class GatedTarget(ModelTarget):
    """A target that lets a chunk through only when it is told to."""

    is_gated: bool = False
    gate: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))

    def apply(self, operations: pa.Table, context: ApplyContext) -> ApplyOutcome:
        if self.is_gated:
            assert self.gate.acquire(timeout=60)
        return super().apply(operations, context)


@dataclass
class World:
    """A platform that really publishes, with the control plane's server over it."""

    bench: Bench
    target: GatedTarget
    served: ControlServer

    def address(self, path: str) -> str:
        """Return where a page is."""
        return f"{self.served.url}/dashboard{path}"


@pytest.fixture
def world(tmp_path: Path, clock: FixedClock) -> Iterator[World]:
    """Serve a platform of its own for each test: what an operator does, changes it."""
    with open_bench(tmp_path, clock) as bench:
        target = GatedTarget()
        bench.target = target
        bench.platform.targets[TARGET] = target  # type: ignore[index]  a dict, in tests
        services = Services(
            platform=bench.platform,
            engine=bench.control.engine,
            tokens=SqlControlTokens.from_engine(bench.control.engine),
            audit=bench.control,
            settings=Settings.model_validate({"home": tmp_path, "dagster_url": "http://dagster"}),
            limits=UNLIMITED,
            live_poll_s=0.1,
        )
        with running_control(services) as served:
            yield World(bench, target, served)


def sign_in(page: Page, world: World, path: str, role: str = "operator") -> None:
    """Go to a page and sign in on the way."""
    page.goto(world.address(path))
    page.get_by_label("API token").fill(world.served.token(role))
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("button", name="Sign out")).to_be_visible()


def acts_in(world: World) -> list[AuditEntry]:
    """Return what was done, newest first, without the making of tokens."""
    acts = world.bench.control.list_acts()
    return [each for each in acts if not each.act.startswith("control_token")]


def with_hold(bench: Bench) -> Any:
    """Publish a full batch whose deletes are held, and return its state."""
    bench.land([person(f"crm/{n}") for n in range(100)])
    bench.publish()
    bench.land([person(f"crm/{n}") for n in range(40)])
    state = bench.publish().state
    assert state.held == 60
    return state


def with_letter(bench: Bench) -> str:
    """Publish a batch with a person whom the target refuses, and return the dead letter's id."""
    bench.target.poison.add("crm/a")
    bench.land([person("crm/a", name="Ida"), person("crm/b", name="Bob")])
    bench.publish()
    bench.target.poison.clear()
    (letter,) = bench.control.list_dead_letters()
    return letter.dead_letter_id


def test_an_operator_approves_a_hold(world: World, page: Page) -> None:
    """From the overview to the decision, which needs a reason; what was held is published, and signed."""
    state = with_hold(world.bench)
    sign_in(page, world, "/")
    page.get_by_role("link", name=re.compile("1 batch has something on hold")).click()
    page.get_by_role("link", name=state.batch_id).click()
    expect(page.locator("main")).to_contain_text(state.plan_digest)
    reason = page.get_by_label("Reason")
    reason.fill("   ")
    page.get_by_role("button", name="Approve").click()
    expect(page.get_by_role("alert")).to_contain_text("give a reason")
    assert [act.act for act in acts_in(world)] == ["command.refused"]
    reason.fill("they left")
    page.get_by_role("button", name="Approve").click()
    expect(page.locator(".done")).to_contain_text("Approved")
    expect(page.locator("main")).to_contain_text("Nothing waits for a decision")
    world.bench.publish()
    assert len(world.bench.target.entities) == 40
    act = acts_in(world)[0]
    assert (act.actor, act.act, act.reason) == ("ada", "hold.approve", "they left")


def test_an_operator_mends_a_dead_letter_with_the_keyboard(world: World, page: Page) -> None:
    """A patch that does not apply is refused in words and kept in the form; one that does goes on its way."""
    letter = with_letter(world.bench)
    sign_in(page, world, "/dead-letters")
    page.get_by_role("link", name="poison").focus()
    page.keyboard.press("Enter")
    page.get_by_role("link", name="create person crm/a").focus()
    page.keyboard.press("Enter")
    expect(page.locator("pre")).to_contain_text("Ida")
    for patch in (
        '[{"op": "remove", "path": "/nothing"}]',
        '[{"op": "replace", "path": "/name", "value": "Ada"}]',
    ):
        page.get_by_label("JSON patch").focus()
        page.keyboard.press("Control+A")
        page.keyboard.insert_text(patch)
        page.keyboard.press("Tab")
        page.keyboard.press("Control+A")
        page.keyboard.insert_text("a typo")
        page.keyboard.press("Tab")
        expect(page.get_by_role("button", name="Fix and requeue")).to_be_focused()
        page.keyboard.press("Enter")
        if "nothing" in patch:
            expect(page.get_by_role("alert")).to_contain_text("the patch cannot be applied")
            expect(page.get_by_label("JSON patch")).to_have_value(patch)
    expect(page.locator(".done")).to_contain_text("On their way again: 1")
    assert page.url.endswith(letter)
    world.bench.publish()
    assert '"Ada"' in world.bench.target.entities["person", "crm/a"]
    expect(page.locator("main")).to_contain_text("resolved")


def test_a_workflow_is_paused_and_goes_on(world: World, page: Page) -> None:
    """Only what is possible is offered; the reason is kept, and the page follows."""
    coordination = open_coordination(world.bench.platform)
    spec = WorkflowSpec.model_validate({"name": "nightly", "sources": [SOURCE]})
    made = create_workflow(coordination, spec, tenant=TenantId("default"), by=By(actor="olga"))
    sign_in(page, world, "/workflows")
    page.get_by_role("link", name="nightly").click()
    assert page.get_by_role("button", name="Resume").count() == 0
    for act, status in (("Pause", WorkflowStatus.PAUSED), ("Resume", WorkflowStatus.RUNNING)):
        page.get_by_label(f"Reason to {act.lower()}").fill("maintenance")
        page.get_by_role("button", name=act).click()
        expect(page.get_by_label("How it stands")).to_contain_text(str(status))
        stored = coordination.workflows.get_workflow(made.workflow.workflow_id)
        assert stored.status is status
    assert [act.reason for act in acts_in(world)][:2] == ["maintenance"] * 2


def test_a_batch_is_watched_as_it_goes_through(world: World, page: Page) -> None:
    """The page follows by itself from the queue over each chunk to COMPLETE; nothing is loaded anew."""
    manifest = world.bench.land([person(f"crm/{n}") for n in range(12)])
    sign_in(page, world, f"/batches/{manifest.batch_id}")
    expect(page.locator("#live")).to_have_text("Live")
    page.evaluate("window.same = true")
    expect(page.locator(".tag")).to_have_text("pending")
    world.target.is_gated = True
    publishing = threading.Thread(target=world.bench.publish)
    publishing.start()
    try:
        expect(page.locator(".tag")).to_have_text("executing")
        for done in (4, 8):
            world.target.gate.release()
            expect(page.locator("main")).to_contain_text(f"{done} of 12")
        expect(page.get_by_role("progressbar")).to_have_attribute("value", "8")
    finally:
        for _ in range(8):
            world.target.gate.release()
        publishing.join()
    expect(page.locator(".tag")).to_have_text("complete")
    expect(page.get_by_role("table", name="Ledger")).to_contain_text("person")
    assert page.evaluate("window.same") is True


def test_a_viewer_sees_everything_and_changes_nothing(world: World, page: Page) -> None:
    """There are no buttons, and who sends a form all the same is refused: without the role, and without our form."""
    state = with_hold(world.bench)
    path = f"/holds/{state.batch_id}/{TARGET}"
    sign_in(page, world, path, role="viewer")
    expect(page.get_by_role("heading", level=1)).to_contain_text(state.batch_id)
    assert page.locator("main button").count() == 0
    cookies = {each["name"]: each["value"] for each in page.context.cookies()}
    form = {
        "csrf": cookies["penstock_control_csrf"],
        "reason": "x",
        "plan_digest": state.plan_digest,
    }
    refused = page.request.post(world.address(f"{path}/approve"), form=form)
    assert refused.status == 403
    assert "takes the role operator" in refused.text()
    forged = {**cookies, "penstock_control_session": world.served.token("operator")}
    answer = httpx.post(
        world.address(f"{path}/approve"),
        data={**form, "csrf": "x" * 43},
        cookies=forged,
        timeout=60,
    )
    assert answer.status_code == 403
    (act,) = acts_in(world)
    assert (act.act, act.details["status"]) == ("command.refused", 403)
    left = world.bench.control.get_state(state.batch_id, TARGET)
    assert left.status is PublishStatus.COMPLETE


def test_every_page_and_chart_is_there_in_light_dark_and_narrow(world: World, page: Page) -> None:
    """Each answers without a complaint of the browser, its charts are drawn, and a narrow screen is wide enough."""
    with_hold(world.bench)
    with_letter(world.bench)
    sign_in(page, world, "/")
    pages = ("/", "/queue", "/batches", "/holds", "/dead-letters", "/sources", f"/sources/{SOURCE}")
    for path in (*pages, "/targets", "/workflows", "/workers", "/trends"):
        answer = page.goto(world.address(path))
        assert answer is not None
        assert answer.status == 200, path
        drawn = "[...document.images].every(i => i.complete && i.naturalWidth > 0)"
        page.wait_for_function(drawn)
        assert page.locator("img:not([alt])").count() == 0
        page.set_viewport_size({"width": 360, "height": 640})
        assert page.evaluate("document.documentElement.scrollWidth") <= 360, path
        page.set_viewport_size({"width": 1100, "height": 800})
    grounds = set()
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        grounds.add(page.evaluate("getComputedStyle(document.body).backgroundColor"))
    assert len(grounds) == 2


def test_another_tenant_s_are_as_if_they_were_not_there(world: World, page: Page) -> None:
    """Neither shown nor counted nor found, and what is everybody's is not for one tenant to change."""
    state = with_hold(world.bench)
    letter = with_letter(world.bench)
    token = world.served.token("operator", tenant="other")
    cookies = {"penstock_control_session": token}
    for path in (f"/batches/{state.batch_id}", f"/dead-letters/{letter}", f"/sources/{SOURCE}"):
        answer = httpx.get(world.address(path), cookies=cookies, timeout=60)
        assert answer.status_code == 404, path
    for path in ("/", "/queue", "/batches", "/holds", "/dead-letters", "/sources", "/trends"):
        answer = httpx.get(world.address(path), cookies=cookies, timeout=60)
        assert (answer.status_code, str(SOURCE) in answer.text) == (200, False), path
    page.goto(world.address("/targets"))
    page.get_by_label("API token").fill(token)
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("table")).to_contain_text(str(TARGET))
    assert page.locator("main button").count() == 0

"""The registry's pages in a real browser, over a real server and a real database: what a person sees and does."""

from __future__ import annotations

import re
import secrets
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from control_plane.registry.addresses import SESSION_COOKIE
from control_plane.registry.app import create_app
from control_plane.registry.backend import Backend
from control_plane.registry.pages.router import router
from penstock.identity.ids import TenantId
from penstock.registry.commands import Caller, Command, Create, Delete, Deprecate, MergePatch
from penstock.registry.events import StreamId
from penstock.registry.identifiers import entity_stream, relationship_stream
from penstock.registry.problems import Problem
from penstock.use_cases import registry_schemas as schemas
from penstock.use_cases.registry_commands import carry_out
from penstock.use_cases.registry_platform import Done, RegistryPlatform
from tests.fixtures.clock import FixedClock
from tests.fixtures.registry_server import Registry, backend_at, running_registry

ACME, OTHER = TenantId("acme"), TenantId("other")
ORDERS = "warehouse/sales/orders"
BAD = "<script>document.title = 'owned'</script>"


@dataclass
class Site:
    """A registry with something in it, and its server."""

    served: Registry
    platform: RegistryPlatform
    token: str = field(repr=False)

    def do(self, command: Command, *, tenant: TenantId = ACME, by: str = "ada") -> Done:
        """Carry a command out."""
        answer = carry_out(self.platform, command, Caller(tenant_id=tenant, actor=by))
        assert isinstance(answer, Done), answer
        return answer

    def address(self, path: str) -> str:
        """Return where a page is."""
        return f"{self.served.url}/registry{path}"


def table(key: str, tenant: TenantId = ACME) -> StreamId:
    stream = entity_stream(tenant, "table", key)
    assert isinstance(stream, StreamId)
    return stream


def feeds(from_key: str, to_key: str) -> StreamId:
    stream = relationship_stream(ACME, "feeds", from_key, to_key)
    assert isinstance(stream, StreamId)
    return stream


def _with_pages(backend: Backend) -> Any:
    return create_app(backend, pages=router)


@pytest.fixture(scope="module")
def site(migrated_sqlite: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Serve a registry over HTTP."""
    file = tmp_path_factory.mktemp("registry") / "control.db"
    shutil.copy(migrated_sqlite, file)
    clock = FixedClock(datetime(2026, 1, 1, tzinfo=UTC))
    backend = backend_at(f"sqlite:///{file}", clock)
    with running_registry(backend, clock, app=_with_pages) as served:
        yield Site(
            served=served, platform=backend.platform, token=served.token("reader", tenant=ACME)
        )


@pytest.fixture(scope="module")
def filled(site: Site) -> Site:
    """Write a table with a history, what it feeds, and somebody else's."""
    for n in range(60):
        key = f"warehouse/sales/table_{n:02}"
        attributes = {"owner": "ada" if n % 2 else "bob", "rows": n, "note": BAD}
        site.do(Create(stream=table(key), attributes=attributes))
    site.do(Create(stream=table(ORDERS), attributes={"owner": "bob", "rows": 1}))
    site.do(Create(stream=feeds(ORDERS, "warehouse/sales/table_01"), attributes={}))
    site.do(Create(stream=feeds("warehouse/sales/table_02", ORDERS), attributes={}))
    first = site.platform.store.get(table(ORDERS))
    assert first is not None
    patch: Mapping[str, Any] = {"rows": 2, "owner": None, "columns": ["id"]}
    expected = first.version_tag
    site.do(MergePatch(stream=table(ORDERS), patch=patch, expected=expected, reason="a column"))
    site.do(Deprecate(stream=table(ORDERS), reason="use orders_v2"))
    site.do(Create(stream=table("gone"), attributes={"rows": 1}))
    site.do(Delete(stream=table("gone"), reason="dropped"))
    site.do(Create(stream=table("secret/plan", OTHER), attributes={}), tenant=OTHER)
    return site


def sign_in(page: Page, site: Site, path: str = "/", token: str | None = None) -> None:
    """Go to a page and sign in on the way."""
    page.goto(site.address(path))
    page.get_by_label("API token").fill(token or site.token)
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("button", name="Sign out")).to_be_visible()


def test_who_has_not_signed_in_sees_nothing_and_then_lands_where_they_wanted(
    page: Page, filled: Site
) -> None:
    """A link to an entity leads to the form, and from there to the entity; signing out ends it."""
    page.goto(filled.address(f"/entities/table/{ORDERS}"))
    expect(page).to_have_title("Sign in · Penstock registry")
    assert ORDERS not in page.inner_text("main")
    page.get_by_label("API token").fill("pst_0123456789abcdef_" + "x" * 43)
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("alert")).to_contain_text("not known")
    page.get_by_label("API token").fill(filled.token)
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("heading", level=1)).to_have_text(ORDERS)
    (cookie,) = [c for c in page.context.cookies() if c["name"] == SESSION_COOKIE]
    assert (cookie["httpOnly"], cookie["sameSite"]) == (True, "Strict")
    page.get_by_role("button", name="Sign out").click()
    expect(page).to_have_title("Sign in · Penstock registry")
    page.goto(filled.address("/"))
    expect(page).to_have_title("Sign in · Penstock registry")


def test_types_lead_to_entities_page_by_page(page: Page, filled: Site) -> None:
    """The counts are there, and the list goes on where it ended, with nothing twice and nothing left out."""
    sign_in(page, filled)
    row = page.get_by_role("row", name=re.compile("^table"))
    expect(row).to_contain_text("61")
    row.get_by_role("link", name="table").first.click()
    keys: list[str] = []
    while True:
        keys += page.locator("tbody td:first-child").all_inner_texts()
        following = page.get_by_role("link", name="Next page")
        if not following.count():
            break
        following.click()
    assert keys == sorted([ORDERS, *(f"warehouse/sales/table_{n:02}" for n in range(60))])


def test_entities_are_found_by_words_attribute_and_status(page: Page, filled: Site) -> None:
    """The form narrows the list down, keeps what was typed, and says what is wrong with a question."""
    sign_in(page, filled, "/entities")
    page.get_by_label("Words").fill("orders")
    page.get_by_role("button", name="Search").click()
    assert page.locator("tbody td:first-child").all_inner_texts() == [ORDERS]
    expect(page.get_by_label("Words")).to_have_value("orders")
    page.get_by_label("Words").fill("")
    page.get_by_label("Attribute").fill("rows=7")
    page.get_by_role("button", name="Search").click()
    assert page.locator("tbody td:first-child").all_inner_texts() == ["warehouse/sales/table_07"]
    page.get_by_label("Attribute").fill("rows")
    page.get_by_role("button", name="Search").click()
    expect(page.get_by_role("alert")).to_contain_text("name=value")


def test_an_entity_is_shown_with_its_graph_which_can_be_walked(page: Page, filled: Site) -> None:
    """Attributes, status, and neighbours as picture and table; a neighbour is one click away."""
    sign_in(page, filled, f"/entities/table/{ORDERS}")
    main = page.locator("main")
    expect(main).to_contain_text("deprecated")
    assert page.locator("svg.graph .node").count() == 3
    expect(page.locator("svg.graph")).to_contain_text("table_02")
    page.locator("svg.graph a", has_text="table_01").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("warehouse/sales/table_01")


def test_what_people_write_is_shown_and_never_run(page: Page, filled: Site) -> None:
    """Markup in an attribute is text; and no page would run a script at all."""
    sign_in(page, filled, "/entities/table/warehouse/sales/table_01")
    assert BAD in page.locator("main").inner_text()
    expect(page).to_have_title("warehouse/sales/table_01 · Penstock registry")
    answer = page.request.get(filled.address("/"))
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert "<script" not in answer.text()


def test_history_shows_each_change_with_its_differences(page: Page, filled: Site) -> None:
    """Who did what when, and why; what was there before and after."""
    sign_in(page, filled, f"/entities/table/{ORDERS}")
    page.get_by_role("link", name="history").click()
    created, patched, deprecated = page.locator("ol.history > li").all()
    assert "create" in created.inner_text()
    assert patched.locator("del").all_text_contents() == ['"bob"', "1"]
    assert patched.locator("ins").all_text_contents() == ['["id"]', "2"]
    expect(patched).to_contain_text("a column")
    expect(patched).to_contain_text("by ada")
    expect(deprecated).to_contain_text("use orders_v2")


def test_a_schema_is_shown_with_its_versions_against_each_other(page: Page, filled: Site) -> None:
    """What the second version added is told apart; a draft that is invalid says why."""
    ada = Caller(tenant_id=ACME, actor="ada")
    document: dict[str, Any] = {
        "title": "Report",
        "type": "object",
        "properties": {"owner": {"type": "string"}},
    }
    held = _left(schemas.define_schema(filled.platform, document, ada))
    wider = {"owner": {"type": "string"}, "pages": {"type": "integer"}}
    for properties in (None, wider):
        if properties:
            held = _left(schemas.revise_schema(filled.platform, "report", ada, expected=held))
            changed = {**document, "properties": properties}
            held = _left(
                schemas.edit_schema(filled.platform, "report", changed, ada, expected=held)
            )
        held = _left(schemas.validate_schema(filled.platform, "report", ada, expected=held))
        held = _left(schemas.activate_schema(filled.platform, "report", ada, expected=held))
    held = _left(schemas.revise_schema(filled.platform, "report", ada, expected=held))
    broken = {**document, "properties": {"owner": {"type": "text"}}}
    held = _left(schemas.edit_schema(filled.platform, "report", broken, ada, expected=held))
    _left(schemas.validate_schema(filled.platform, "report", ada, expected=held))

    sign_in(page, filled, "/schemas")
    page.get_by_role("link", name="report").click()
    expect(page.get_by_role("heading", name="Version 2")).to_be_visible()
    assert '"pages": {' in "".join(page.locator("pre ins").all_text_contents())
    expect(page.locator("tbody code").first).to_have_text("/properties/owner/type")
    expect(page.locator("main")).to_contain_text("invalid")


def _left(answer: Done | Problem) -> bytes:
    """Return the version tag that a command left."""
    assert isinstance(answer, Done), answer
    assert answer.held is not None
    return answer.held.version_tag


def test_what_was_deleted_still_has_its_history(page: Page, filled: Site) -> None:
    """The entity is gone, and says so; what became of it can be read."""
    sign_in(page, filled, "/history/table/gone")
    expect(page.locator("main")).to_contain_text("(deleted)")
    expect(page.locator("ol.history > li")).to_have_count(2)
    answer = page.goto(filled.address("/entities/table/gone"))
    assert answer is not None
    assert answer.status == 404


def test_another_tenant_s_are_as_if_they_were_not_there(page: Page, filled: Site) -> None:
    """Neither listed nor counted, and by name it is what nothing is."""
    sign_in(page, filled, "/entities")
    page.get_by_label("Words").fill("secret")
    page.get_by_role("button", name="Search").click()
    expect(page.locator("main")).to_contain_text("Nothing matches")
    theirs = page.request.get(filled.address("/entities/table/secret/plan"))
    nothing = page.request.get(filled.address("/entities/table/secret/none"))
    assert (theirs.status, nothing.status) == (404, 404)
    assert theirs.text().replace("secret/plan", "secret/none") == nothing.text()


def test_a_form_from_elsewhere_is_refused(page: Page, filled: Site) -> None:
    """Without the value of our own page nobody is signed in or out."""
    form = {"csrf": secrets.token_urlsafe(32), "token": filled.token, "next": "/registry/"}
    answer = page.request.post(filled.address("/login"), form=form)
    assert answer.status == 403
    assert SESSION_COOKIE not in {c["name"] for c in page.context.cookies()}


@pytest.mark.parametrize("elsewhere", ["https://example.org/", "//example.org", "/registry/../x"])
def test_signing_in_leads_nowhere_else(page: Page, filled: Site, elsewhere: str) -> None:
    """Where to go next is one of our pages, whatever a link says."""
    page.goto(filled.address(f"/login?next={elsewhere}"))
    page.get_by_label("API token").fill(filled.token)
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("button", name="Sign out")).to_be_visible()
    assert page.url.startswith(f"{filled.served.url}/registry/")


def test_pages_can_be_used_by_keyboard_in_light_and_dark(page: Page, filled: Site) -> None:
    """The first Tab offers to skip to the content, the second the navigation; both sets of colours apply."""
    sign_in(page, filled)
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to content")).to_be_focused()
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Types")).to_be_focused()
    grounds = set()
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        grounds.add(page.evaluate("getComputedStyle(document.body).backgroundColor"))
    assert len(grounds) == 2

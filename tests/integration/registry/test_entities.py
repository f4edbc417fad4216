"""Entities over HTTP: made, read, changed, removed and brought back, with their client."""

from __future__ import annotations

import pytest

from control_plane.registry.client_problems import (
    ChangedSince,
    Forbidden,
    InTheWay,
    NotThere,
    NotValid,
)
from tests.fixtures.registry_server import Registry

ADA = {"owner": "ada", "rows": 3}
KEYS = ["orders", "a/b/c", "/a//b/", "a/../b", ".", "..", "ä ö/100%/?#&;=+", "\u2028/\u4e2d"]


@pytest.mark.parametrize("key", KEYS, ids=ascii)
def test_any_key_finds_its_entity(registry: Registry, key: str) -> None:
    """Slashes, dots, spaces and what else an address has a use for are parts of a key like any other."""
    client = registry.client()
    made = client.create_entity("table", key, ADA)
    assert (made.type, made.key, made.attributes, made.version) == ("table", key, ADA, 1)
    assert client.entity("table", key) == made
    assert client.entities([("table", key), ("table", "nothing")]) == [made, None]
    assert [item.event.key for item in client.entity_history("table", key)] == [key]
    assert client.delete_entity("table", key).deleted["key"] == key


def test_a_change_says_which_version_it_means(registry: Registry) -> None:
    """A patch takes the ETag that was seen; another one, or none, changes nothing."""
    client = registry.client()
    made = client.create_entity("table", "orders", ADA)
    merged = client.patch_entity("table", "orders", {"owner": "bob", "rows": None}, etag=made.etag)
    assert (merged.attributes, merged.version) == ({"owner": "bob"}, 2)
    with pytest.raises(ChangedSince, match="412"):
        client.patch_entity("table", "orders", {"owner": "eve"}, etag=made.etag)
    patch = [{"op": "add", "path": "/tags", "value": ["x"]}]
    patched = client.patch_entity("table", "orders", patch, etag=merged.etag)
    assert patched.attributes == {"owner": "bob", "tags": ["x"]}
    path = "/entities/table/orders"
    merge = {"Content-Type": "application/merge-patch+json"}
    refused = registry.request("PATCH", path, headers=merge, content=b"{}")
    assert (refused.status_code, refused.json()["code"]) == (428, "version_required")
    weak = {**merge, "If-Match": f'W/"{patched.etag}"'}
    assert registry.request("PATCH", path, headers=weak, content=b"{}").status_code == 412
    odd = {**merge, "If-Match": patched.etag}
    refused = registry.request("PATCH", path, headers=odd, content=b"{}")
    assert refused.json()["errors"][0]["path"] == "/header/If-Match"
    whatever = client.patch_entity("table", "orders", {"owner": "zoe"}, etag="*")
    assert whatever.version == 4
    with pytest.raises(ChangedSince, match="expects something"):
        client.patch_entity("table", "nothing", {}, etag="*")


def test_a_put_replaces_or_makes(registry: Registry) -> None:
    """PUT makes what is not there (201), replaces what is (200), and with If-None-Match: * only makes."""
    path = "/entities/table/orders"
    body = {"attributes": ADA}
    made = registry.request("PUT", path, json=body)
    assert (made.status_code, made.headers["Location"]) == (201, "/registry/v1" + path)
    again = registry.request("PUT", path, json=body)
    assert (again.status_code, again.json()["code"]) == (428, "version_required")
    seen = {"If-Match": made.headers["ETag"]}
    replaced = registry.request("PUT", path, json={"attributes": {}}, headers=seen)
    assert (replaced.status_code, replaced.json()["attributes"]) == (200, {})
    only_new = {"If-None-Match": "*"}
    refused = registry.request("PUT", path, json=body, headers=only_new)
    assert (refused.status_code, refused.json()["code"]) == (409, "already_exists")
    registry.client().delete_entity("table", "orders")
    remade = registry.request("PUT", path, json=body, headers=only_new)
    assert (remade.status_code, remade.json()["version"]) == (201, 4)
    odd = registry.request("PUT", path, json=body, headers={"If-None-Match": '"abc"'})
    assert odd.status_code == 400


def test_what_was_seen_is_not_sent_again(registry: Registry) -> None:
    """If-None-Match with the ETag that is there answers 304 without a body, and with others the entity."""
    made = registry.client().create_entity("table", "orders", ADA)
    path, tag = "/entities/table/orders", f'"{made.etag}"'
    for said in (tag, f'"other", {tag}', f"W/{tag}", "*"):
        answer = registry.request("GET", path, headers={"If-None-Match": said})
        assert (answer.status_code, answer.content, answer.headers["ETag"]) == (304, b"", tag)
    answer = registry.request("GET", path, headers={"If-None-Match": '"other"'})
    assert (answer.status_code, answer.headers["ETag"]) == (200, tag)


def test_the_past_is_there(registry: Registry) -> None:
    """An entity is read as a version left it and as it was at a moment, and versions are compared."""
    client, clock = registry.client(), registry.clock
    first = client.create_entity("table", "orders", ADA, reason="new")
    before = clock.now()
    clock.sleep(60)
    second = client.patch_entity("table", "orders", {"owner": "bob"}, etag=first.etag)
    assert client.entity("table", "orders", version=1) == first
    assert client.entity("table", "orders", at=before) == first
    assert client.entity("table", "orders", at=clock.now()) == second
    (changed,) = client.entity_difference("table", "orders", 1, 2).changes
    assert (changed.path, changed.before, changed.after) == ("owner", "ada", "bob")
    one, other = client.entity_history("table", "orders", page_size=1)
    assert (one.event.action, one.event.data["reason"]) == ("create", "new")
    assert [each.path for each in other.changes] == ["owner"]
    with pytest.raises(NotThere, match="no version 3"):
        client.entity("table", "orders", version=3)
    naive = registry.request("GET", "/entities/table/orders?at=2026-01-01T00:00:00")
    assert (naive.status_code, naive.json()["errors"][0]["path"]) == (400, "/at")


def test_there_is_a_way_back(registry: Registry) -> None:
    """What was deleted is restored, and an entity is rolled back to an earlier version of itself."""
    client = registry.client()
    made = client.create_entity("table", "orders", ADA)
    client.patch_entity("table", "orders", {"owner": "bob"}, etag=made.etag)
    client.delete_entity("table", "orders", reason="by mistake")
    with pytest.raises(NotThere, match="deleted by ada"):
        client.entity("table", "orders")
    restored = client.act_on_entity("restore", "table", "orders")
    assert (restored.attributes["owner"], restored.version) == ("bob", 4)
    back = client.roll_back_entity("table", "orders", 1)
    assert (back.attributes, back.version) == (ADA, 5)
    with pytest.raises(InTheWay):
        client.act_on_entity("restore", "table", "orders")


def test_somebody_else_vouches(registry: Registry) -> None:
    """An entity is put forward by one and attested by another; a change takes that back."""
    ada, bob = registry.client(), registry.client(name="bob")
    made = ada.create_entity("table", "orders", ADA)
    assert ada.act_on_entity("propose", "table", "orders").review == "proposed"
    with pytest.raises(Forbidden):
        ada.act_on_entity("attest", "table", "orders")
    attested = bob.act_on_entity("attest", "table", "orders", reason="looked at it")
    assert (attested.review, attested.reviewed_by) == ("attested", "bob")
    assert [e.key for e in ada.search_entities(review="attested")] == ["orders"]
    with pytest.raises(InTheWay, match="illegal_step"):
        bob.act_on_entity("reject", "table", "orders")
    changed = ada.patch_entity("table", "orders", {"rows": 4}, etag=attested.etag)
    assert (changed.review, changed.version) == (None, made.version + 3)
    assert ada.act_on_entity("deprecate", "table", "orders").status == "deprecated"
    assert ada.act_on_entity("reinstate", "table", "orders").status == "active"


def test_a_search_goes_on_where_it_was(registry: Registry) -> None:
    """Pages hold each entity once, whatever is written between them, and a Link leads on."""
    client = registry.client()
    for number in range(7):
        client.create_entity("table", f"t{number}", {"owner": "ada" if number % 2 else "bob"})
    client.create_entity("view", "v", {"owner": "ada"})
    first = registry.request("GET", "/entities?limit=3&type=table")
    client.create_entity("table", "t00", {})
    client.delete_entity("table", "t2")
    link = first.headers["Link"].partition(">")[0].removeprefix("</registry/v1")
    second = registry.request("GET", link)
    keys = [item["key"] for page in (first, second) for item in page.json()["items"]]
    assert keys == ["t0", "t1", "t2", "t3", "t4", "t5"]
    by_ada = client.search_entities(page_size=2, type="table", where=["owner=ada"])
    assert [entity.key for entity in by_ada] == ["t1", "t3", "t5"]
    assert [entity.key for entity in client.search_entities(q="v")] == ["v"]
    for odd, status in (
        ("where=owner", 422),
        ("where==x", 422),
        ("where=a=1&where=a=2", 422),
        ("after=~", 422),
        ("limit=0", 400),
        ("type=1", 400),
    ):
        refused = registry.request("GET", f"/entities?{odd}")
        assert (odd, refused.status_code) == (odd, status)
        assert refused.json()["errors"], odd


def test_relationships_join_entities(registry: Registry) -> None:
    """A relationship needs both of its ends, is found by either, and shows around an entity."""
    client = registry.client()
    client.create_entity("table", "a/b", {})
    with pytest.raises(NotValid, match=r"relationship_violation.*no entity"):
        client.create_relationship("owned_by", "a/b", "people/ada")
    client.create_entity("person", "people/ada", {})
    made = client.create_relationship("owned_by", "a/b", "people/ada", {"since": 2020})
    assert client.relationship("owned_by", "a/b", "people/ada") == made
    patched = client.patch_relationship(
        "owned_by", "a/b", "people/ada", {"since": 2021}, etag=made.etag
    )
    assert patched.attributes == {"since": 2021}
    assert list(client.search_relationships(to_key="people/ada")) == [patched]
    graph = client.around_entity("person", "people/ada")
    assert [(node.key, node.distance) for node in graph.nodes] == [("people/ada", 0), ("a/b", 1)]
    assert (graph.edges, graph.complete) == ([patched], True)
    with pytest.raises(InTheWay, match="referenced"):
        client.delete_entity("person", "people/ada")
    gone = client.delete_entity("person", "people/ada", cascade=True)
    assert [each["type"] for each in gone.cascaded] == ["owned_by"]
    with pytest.raises(NotThere):
        client.relationship("owned_by", "a/b", "people/ada")


def test_a_batch_is_all_or_nothing(registry: Registry) -> None:
    """What is wrong with each command is said at once, and nothing is done; without atomic the others are."""
    client = registry.client()
    client.create_entity("table", "there", {})
    commands = [
        {"do": "create", "entity": {"type": "person", "key": "ada"}, "attributes": {}},
        {"do": "create", "entity": {"type": "table", "key": "there"}, "attributes": {}},
        {
            "do": "create",
            "relationship": {"type": "owned_by", "from_key": "there", "to_key": "ada"},
            "attributes": {},
        },
    ]
    with pytest.raises(NotValid, match=r"batch_refused.*/commands/1 \(already_exists\)"):
        client.carry_out(commands)
    assert client.entities([("person", "ada")]) == [None]
    done = client.carry_out([commands[0], commands[2]])
    assert (done.done, [item.status for item in done.items]) == (2, [200, 200])
    each = client.carry_out(commands, atomic=False)
    assert [item.status for item in each.items] == [409, 409, 409]
    odd = {"commands": [{"do": "dance", "entity": {"type": "t", "key": "k"}}]}
    assert registry.request("POST", "/batches", json=odd).status_code == 400
    both = {"commands": [{"do": "restore", "entity": None}]}
    assert "either an entity" in registry.request("POST", "/batches", json=both).text


def test_a_command_is_done_once_under_its_key(registry: Registry) -> None:
    """A repetition answers what the first time left; the key with another command is refused."""
    client = registry.client()
    made = client.create_entity("table", "orders", ADA, idempotency_key="k1")
    again = client.create_entity("table", "orders", ADA, idempotency_key="k1")
    assert (again, len(list(client.entity_history("table", "orders")))) == (made, 1)
    with pytest.raises(NotValid, match="key_reused"):
        client.create_entity("table", "others", ADA, idempotency_key="k1")
    headers = {"Idempotency-Key": "k1"}
    body = {"type": "table", "key": "orders", "attributes": ADA}
    replayed = registry.request("POST", "/entities", json=body, headers=headers)
    assert (replayed.status_code, replayed.headers["Idempotent-Replayed"]) == (201, "true")
    other_tenant = registry.client(tenant="other").create_entity(
        "table", "orders", ADA, idempotency_key="k1"
    )
    assert other_tenant.version == 1

"""What may be done to a schema, when, and what it is afterwards."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from penstock.errors import NothingToDo, Unsigned
from penstock.registry.compatibility import Compatibility
from penstock.registry.schema_commands import (
    activate,
    activate_together,
    configure,
    deactivate,
    define,
    edit,
    mark_for_deletion,
    point,
    reactivate,
    restore,
    revise,
    schema_id_of,
    validate,
)
from penstock.registry.schema_documents import problems_of
from penstock.registry.schema_references import BadReference, Referent
from penstock.registry.schema_validation import compiled
from penstock.registry.schemas import (
    TRANSITIONS,
    BadTitle,
    IllegalSchemaMove,
    Incompatible,
    Schema,
    SchemaMove,
    SchemaStatus,
    StillInUse,
    TitleChanged,
    UnknownVersion,
    next_status,
)

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
SIGNED: Any = {"by": "ada", "now": NOW}
FIRST: dict[str, Any] = {"title": "Person", "properties": {"name": {"type": "string"}}}
WIDER: dict[str, Any] = {**FIRST, "properties": {**FIRST["properties"], "age": {"type": "integer"}}}
NARROWER: dict[str, Any] = {**FIRST, "required": ["name"]}


def serving(
    document: dict[str, Any] = FIRST, mode: Compatibility = Compatibility.BACKWARD
) -> Schema:
    """Return a schema whose first version is active."""
    return published(define(document, compatibility=mode, **SIGNED))


def published(schema: Schema) -> Schema:
    """Validate and activate a draft."""
    return activate(validate(schema, **SIGNED), reason="first", **SIGNED)


def evolved(schema: Schema, document: dict[str, Any]) -> Schema:
    """Take an active schema to its next version."""
    return published(edit(revise(schema, **SIGNED), document, **SIGNED))


@pytest.mark.parametrize(
    ("title", "schema_id"),
    [
        ("Person", "person"),
        ("  SQL  Table (v2) ", "sql_table_v2"),
        ("Größe", "grosse"),
        ("ﬁle", "file"),
        ("Dataset.Column-Name", "dataset_column_name"),
        ("a" * 127, "a" * 127),
    ],
)
def test_an_id_follows_from_the_title(title: str, schema_id: str) -> None:
    """Case, accents, ligatures, spaces and punctuation are folded into an id."""
    assert schema_id_of(title) == schema_id


@pytest.mark.parametrize(
    ("title", "names"),
    [
        ("", "no letter or digit"),
        ("---", "no letter or digit"),
        ("łódź", "has ł"),
        ("日本", "has 日, 本"),
        ("3D model", "begins with a digit"),
        ("a" * 128, "128 characters"),
        ("a" * 300, "300 characters"),
    ],
)
def test_a_title_without_an_id_says_why(title: str, names: str) -> None:
    """A title that no id can be made of is refused with what is wrong in it."""
    with pytest.raises(BadTitle, match=names):
        schema_id_of(title)


def test_a_schema_is_defined_as_a_draft() -> None:
    """A new schema has its title and id, no version, and validates nothing."""
    schema = define(FIRST, **SIGNED)
    assert (schema.schema_id, schema.title) == ("person", "Person")
    assert schema.status is SchemaStatus.DRAFT
    assert (schema.versions, schema.active, schema.active_version) == ((), None, None)


def test_the_title_comes_from_the_document_or_is_given() -> None:
    """A document without a title needs one beside it; two that differ are refused."""
    assert define({}, title="Thing", **SIGNED).schema_id == "thing"
    with pytest.raises(BadTitle, match="no title"):
        define({}, **SIGNED)
    with pytest.raises(BadTitle, match="say one of them"):
        define(FIRST, title="Human", **SIGNED)


def test_the_title_never_changes() -> None:
    """An edit keeps the title or leaves it out."""
    schema = define(FIRST, **SIGNED)
    assert edit(schema, {"type": "object"}, **SIGNED).title == "Person"
    with pytest.raises(TitleChanged, match="'Person' for ever"):
        edit(schema, {**FIRST, "title": "Human"}, **SIGNED)


def test_validating_says_what_is_wrong() -> None:
    """A draft becomes VALID, or INVALID with its problems; revise leads back to the draft and clears them."""
    assert validate(define(FIRST, **SIGNED), **SIGNED).status is SchemaStatus.VALID
    invalid = validate(define({"title": "T", "type": "strin"}, **SIGNED), **SIGNED)
    assert invalid.status is SchemaStatus.INVALID
    assert [each.path for each in invalid.problems] == ["/type"]
    again = revise(invalid, **SIGNED)
    assert (again.status, again.problems) == (SchemaStatus.DRAFT, ())


def test_activating_makes_a_version() -> None:
    """The first version has number 1, the document, a digest, and who, when and why."""
    schema = serving()
    assert (schema.status, schema.active_version) == (SchemaStatus.ACTIVE, 1)
    version = schema.version(1)
    assert schema.active == version
    assert (version.document, version.created_by, version.reason) == (FIRST, "ada", "first")
    assert len(version.digest) == 16


def test_the_deepest_schema_that_is_taken_becomes_a_version_and_is_referred_to() -> None:
    """A schema nested to the limit can be activated, and another that refers to it can be, too."""
    deep: dict[str, Any] = {"type": "string"}
    while not problems_of({"title": "Deep", "properties": {"a": {"items": deep}}}):
        deep = {"items": deep}
    schema = published(define({"title": "Deep", "properties": {"a": deep}}, **SIGNED))

    def resolve(schema_id: str, version: int | None) -> Referent | None:
        return schema.referent(version)

    user = define({"title": "User", "items": {"$ref": "penstock:deep"}}, **SIGNED)
    valid = validate(user, resolve=resolve, **SIGNED)
    assert activate(valid, resolve=resolve, reason="", **SIGNED).active_version == 1
    assert compiled(user.document, resolve).is_valid([{"a": []}])


def test_an_active_version_serves_while_the_next_is_written() -> None:
    """Revising an active schema leaves its version active until the next is."""
    draft = edit(revise(serving(), **SIGNED), WIDER, **SIGNED)
    assert (draft.status, draft.active_version) == (SchemaStatus.DRAFT, 1)
    schema = published(draft)
    assert (schema.active_version, len(schema.versions)) == (2, 2)
    assert schema.version(1).document == FIRST


def test_a_draft_can_be_given_up() -> None:
    """Reactivating from a draft takes the version back, and the draft is gone."""
    draft = edit(revise(serving(), **SIGNED), WIDER, **SIGNED)
    schema = reactivate(draft, **SIGNED)
    assert (schema.status, schema.active_version, schema.document) == (
        SchemaStatus.ACTIVE,
        1,
        FIRST,
    )


def test_a_draft_that_changes_nothing_makes_no_version() -> None:
    """Activating a document that is equal to the version it would replace keeps that version."""
    schema = evolved(serving(), dict(FIRST))
    assert (schema.status, schema.active_version, len(schema.versions)) == (
        SchemaStatus.ACTIVE,
        1,
        1,
    )


def test_a_version_that_breaks_the_promise_is_refused() -> None:
    """A new required name breaks data that are there; the error says where and against which version."""
    with pytest.raises(Incompatible, match="not backward compatible with version 1") as caught:
        evolved(serving(), NARROWER)
    assert [each.against_version for each in caught.value.found] == [1]
    assert evolved(serving(mode=Compatibility.NONE), NARROWER).active_version == 2


def test_the_active_version_can_be_moved_back_if_data_stay_valid() -> None:
    """Pointing to an earlier version is checked like a new one, from the present to the earlier."""
    schema = evolved(serving(mode=Compatibility.NONE), NARROWER)
    strict = configure(schema, Compatibility.BACKWARD, **SIGNED)
    back = point(strict, 1, **SIGNED)
    assert (back.active_version, back.document, len(back.versions)) == (1, FIRST, 2)
    with pytest.raises(Incompatible):
        point(back, 2, **SIGNED)
    with pytest.raises(NothingToDo):
        point(back, 1, **SIGNED)
    with pytest.raises(UnknownVersion, match="it has 1 to 2"):
        point(back, 3, **SIGNED)


def test_a_version_made_after_moving_back_is_held_to_the_one_it_replaces() -> None:
    """Not the highest version but the active one is what a new version is compared with."""
    schema = evolved(serving(mode=Compatibility.FORWARD), NARROWER)
    back = point(configure(schema, Compatibility.BACKWARD, **SIGNED), 1, **SIGNED)
    assert evolved(back, WIDER).active_version == 3


def test_deactivating_stops_writes_and_can_be_undone() -> None:
    """Deactivated, a schema has no active version; reactivated, it has the last one again."""
    schema = deactivate(serving(), **SIGNED)
    assert (schema.status, schema.active, schema.last_active_version) == (
        SchemaStatus.DEACTIVATED,
        None,
        1,
    )
    assert reactivate(schema, **SIGNED).active_version == 1
    assert edit(schema, WIDER, **SIGNED).status is SchemaStatus.DRAFT


def test_without_a_version_there_is_nothing_to_reactivate() -> None:
    """A draft that never was active says so."""
    with pytest.raises(UnknownVersion, match="none yet"):
        reactivate(define(FIRST, **SIGNED), **SIGNED)


def test_what_is_referred_to_stays() -> None:
    """A schema that another refers to can be neither deactivated nor marked; the error names the other."""
    user = Referent(schema_id="team", version=4, document={"items": {"$ref": "penstock:person"}})
    with pytest.raises(StillInUse, match="team@4") as caught:
        deactivate(serving(), others=[user], **SIGNED)
    assert caught.value.users == ("team@4",)
    with pytest.raises(StillInUse, match="team@4"):
        mark_for_deletion(define(FIRST, **SIGNED), others=[user], **SIGNED)


def test_what_validates_or_has_entities_is_not_marked_for_deletion() -> None:
    """A schema with an active version behind its draft, or with entities, says what is in the way."""
    with pytest.raises(StillInUse, match="version 1 of schema person is active"):
        mark_for_deletion(revise(serving(), **SIGNED), **SIGNED)
    gone = deactivate(serving(), **SIGNED)
    with pytest.raises(StillInUse, match="has 3 entities"):
        mark_for_deletion(gone, entities=3, **SIGNED)
    marked = mark_for_deletion(gone, **SIGNED)
    assert marked.status is SchemaStatus.MARKED_FOR_DELETION
    assert restore(marked, **SIGNED).status is SchemaStatus.DRAFT


def test_references_are_pinned_when_a_version_is_made() -> None:
    """A reference without a version means for ever what was active when the version was made."""
    person = evolved(serving(), WIDER)

    def resolve(schema_id: str, version: int | None) -> Referent | None:
        return person.referent(version) if schema_id == "person" else None

    team = validate(
        define({"title": "Team", "items": {"$ref": "penstock:person"}}, **SIGNED), **SIGNED
    )
    assert activate(team, resolve=resolve, reason="", **SIGNED).version(1).pins == {"person": 2}


@pytest.mark.parametrize(
    ("reference", "says"),
    [
        ("penstock:nobody", "activate it first"),
        ("penstock:person@7", "there is no such version"),
        ("penstock:person#/$defs/x", "has no schema there"),
    ],
)
def test_a_reference_to_what_is_not_there_refuses_activation(reference: str, says: str) -> None:
    """A missing schema, version or place is named; the draft is valid for all that."""
    person = serving()

    def resolve(schema_id: str, version: int | None) -> Referent | None:
        return person.referent(version) if schema_id == "person" else None

    team = define({"title": "Team", "items": {"$ref": reference}}, **SIGNED)
    valid = validate(team, resolve=resolve, **SIGNED)
    assert valid.status is SchemaStatus.VALID
    with pytest.raises(BadReference, match=says):
        activate(valid, resolve=resolve, reason="", **SIGNED)


def test_schemas_in_a_circle_are_activated_together() -> None:
    """Two schemas that refer to each other become active in one step and are pinned to each other."""
    drafts = [
        validate(
            define({"title": a, "properties": {"other": {"$ref": f"penstock:{b}"}}}, **SIGNED),
            **SIGNED,
        )
        for a, b in [("Left", "right"), ("Right", "left")]
    ]
    with pytest.raises(BadReference, match="together with this one"):
        activate(drafts[0], reason="", **SIGNED)
    left, right = activate_together(drafts, reason="", **SIGNED)
    assert left.version(1).pins == {"right": 1}
    assert right.version(1).pins == {"left": 1}


def test_a_schema_can_refer_to_itself_by_its_id() -> None:
    """A reference to the schema's own id needs no active version: it means the version that is being made."""
    document = {"title": "Node", "properties": {"next": {"$ref": "penstock:node"}}}
    assert published(define(document, **SIGNED)).version(1).pins == {}


@pytest.mark.parametrize("status", SchemaStatus)
@pytest.mark.parametrize("move", SchemaMove)
def test_every_move_leads_somewhere_or_names_the_legal_ones(
    status: SchemaStatus, move: SchemaMove
) -> None:
    """For each status and move there is an answer: the next status, or an error with the moves that are legal."""
    legal = TRANSITIONS[status]
    if move in legal:
        assert next_status(status, move) is legal[move]
        return
    with pytest.raises(
        IllegalSchemaMove, match=f"a schema that is {status} cannot {move}"
    ) as caught:
        next_status(status, move)
    assert caught.value.legal == tuple(legal)
    assert all(each in str(caught.value) for each in legal)


def test_edits_are_for_drafts_and_deactivated_schemas() -> None:
    """The only statuses that can be edited are DRAFT and DEACTIVATED."""
    able = {status for status, moves in TRANSITIONS.items() if SchemaMove.EDIT in moves}
    assert able == {SchemaStatus.DRAFT, SchemaStatus.DEACTIVATED}


def test_every_status_can_be_reached_and_left() -> None:
    """From DRAFT every status is reached, and from every status DRAFT."""
    for start, ends in ((SchemaStatus.DRAFT, set(SchemaStatus)),):
        reached, waiting = {start}, [start]
        while waiting:
            for after in TRANSITIONS[waiting.pop()].values():
                if after not in reached:
                    reached.add(after)
                    waiting.append(after)
        assert reached == ends
    assert all(moves for moves in TRANSITIONS.values())


def test_a_state_is_plain_json_and_reads_back() -> None:
    """What an event keeps of a schema is JSON, and gives the same schema again."""
    invalid = validate(define({"title": "T", "type": "strin"}, **SIGNED), **SIGNED)
    for schema in (define(FIRST, **SIGNED), evolved(serving(), WIDER), invalid):
        state = json.loads(json.dumps(schema.to_state()))
        assert Schema.from_state(state) == schema


def test_who_and_when_are_kept() -> None:
    """Each change says who made it and when; one by nobody is refused."""
    later = NOW + timedelta(hours=1)
    schema = revise(serving(), by="grace", now=later)
    assert (schema.created_by, schema.changed_by, schema.changed_at) == ("ada", "grace", later)
    with pytest.raises(Unsigned):
        edit(schema, WIDER, by=" ", now=later)


def test_configuring_what_is_so_already_is_refused() -> None:
    """The compatibility that a schema has already is nothing to do."""
    with pytest.raises(NothingToDo):
        configure(serving(), Compatibility.BACKWARD, **SIGNED)

"""API tokens on SQLite and PostgreSQL: kept, noted, revoked, and never without their act."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta

import pytest

from penstock.access.tokens import Token
from penstock.errors import NotFound, PenstockError, Unsigned
from penstock.identity.ids import TenantId
from penstock.registry.access import Role
from penstock.use_cases.access_tokens import (
    NewToken,
    admit_token,
    create_token,
    revoke_token,
)
from penstock.use_cases.acts import By
from resources.control_db.audit_log import SqlAuditLog
from resources.registry.tokens import SqlTokens
from tests.contracts.control_values import NOW, at

ROOT = By(actor="root", reason="first day")


@pytest.fixture
def tokens(control_url: str) -> Iterator[SqlTokens]:
    """Tokens in a fresh control database."""
    store = SqlTokens(control_url)
    yield store
    store.close()


def made(tokens: SqlTokens, name: str = "ada", *, tenant: str = "acme", days: int = 1) -> NewToken:
    """A new token of a writer."""
    return create_token(
        tokens,
        tenant=TenantId(tenant),
        role=Role.WRITER,
        name=name,
        lifetime=timedelta(days=days),
        by=ROOT,
        now=NOW,
    )


def test_a_token_comes_back_as_it_was_kept(tokens: SqlTokens) -> None:
    """Every field of a token survives, moments and digest included."""
    token = made(tokens).token
    assert tokens.get_token(token.token_id) == token
    assert tokens.get_token("f" * 16) is None


def test_an_id_is_taken_once(tokens: SqlTokens) -> None:
    """A second token under an id changes nothing of the first."""
    token = made(tokens).token
    assert not tokens.add_token(replace(token, role=Role.ADMIN))
    assert tokens.get_token(token.token_id) == token


def test_tokens_are_listed_by_tenant(tokens: SqlTokens) -> None:
    """A tenant's list holds its own, oldest first; without a tenant all are listed."""
    first, other = made(tokens).token, made(tokens, tenant="other").token
    second = replace(first, token_id="0" * 16, created_at=at(1))
    assert tokens.add_token(second)
    assert tokens.list_tokens(TenantId("acme")) == [first, second]
    assert {token.token_id for token in tokens.list_tokens()} == {
        each.token_id for each in (first, second, other)
    }


def test_who_shows_a_token_is_let_in_and_it_is_noted(tokens: SqlTokens) -> None:
    """The first use is noted, those within a minute are not, and a wrong text lets nobody in."""
    token = made(tokens)
    principal = admit_token(tokens, token.text, now=at(1))
    assert principal == token.token.principal()
    assert admit_token(tokens, token.text, now=at(1.5)) == principal
    assert _last_use(tokens, token.token) == at(1)
    admit_token(tokens, token.text, now=at(2))
    assert _last_use(tokens, token.token) == at(2)
    assert admit_token(tokens, token.text[:-1] + "~", now=NOW) is None
    wrong = token.text[:-3] + ("aaa" if token.text[-3:] != "aaa" else "bbb")
    assert admit_token(tokens, wrong, now=NOW) is None
    assert admit_token(tokens, token.text, now=NOW + timedelta(days=1)) is None


def _last_use(tokens: SqlTokens, token: Token) -> object:
    kept = tokens.get_token(token.token_id)
    assert kept is not None
    return kept.last_used_at


def test_of_many_at_once_one_notes_the_use(tokens: SqlTokens) -> None:
    """Callers who read the same last use do not each write a new one."""
    token = made(tokens).token
    with ThreadPoolExecutor(4) as pool:
        noted = list(pool.map(lambda _: tokens.note_use(token.token_id, now=at(5)), range(8)))
    assert sorted(noted) == [False] * 7 + [True]


def test_a_revoked_token_lets_nobody_in(tokens: SqlTokens) -> None:
    """Revoking says who and when, and again changes neither."""
    token = made(tokens)
    revoked = revoke_token(tokens, token.token.token_id, by=By(actor="eve"), now=at(3))
    assert (revoked.revoked_by, revoked.revoked_at) == ("eve", at(3))
    assert admit_token(tokens, token.text, now=at(4)) is None
    again = revoke_token(tokens, token.token.token_id, by=ROOT, now=at(9))
    assert again == revoked
    with pytest.raises(NotFound, match="no token 'ffff'"):
        revoke_token(tokens, "ffff", by=ROOT, now=NOW)


def test_each_act_is_in_the_audit_log_once_and_without_a_secret(tokens: SqlTokens) -> None:
    """Making and revoking are recorded with who, when and why; the text appears nowhere."""
    token = made(tokens)
    for _ in range(2):
        revoke_token(tokens, token.token.token_id, by=ROOT, now=at(1))
    with pytest.raises(NotFound):
        revoke_token(tokens, "ffff", by=ROOT, now=NOW)
    audit = SqlAuditLog(tokens.engine.url)
    acts = audit.list_acts()
    audit.close()
    assert [(act.act, act.actor, act.subject, act.reason) for act in acts] == [
        ("registry_token.revoke", "root", token.token.token_id, "first day"),
        ("registry_token.create", "root", token.token.token_id, "first day"),
    ]
    assert acts[1].details == {"tenant": "acme", "role": "writer", "name": "ada"}
    assert token.text.rpartition("_")[2] not in repr(acts)


def test_a_token_is_somebodys(tokens: SqlTokens) -> None:
    """A token without a name, or that would have expired already, is not made."""
    with pytest.raises(Unsigned, match="whose it is"):
        made(tokens, name=" ")
    with pytest.raises(Unsigned, match="printable"):
        made(tokens, name="a\nb")
    with pytest.raises(PenstockError, match="lifetime above 0"):
        made(tokens, days=0)
    assert tokens.list_tokens() == []

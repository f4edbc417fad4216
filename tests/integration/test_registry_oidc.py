"""Bearer tokens of an OIDC issuer, whose keys are fetched over HTTP."""

from __future__ import annotations

import base64
import hmac

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from pydantic import ValidationError

from control_plane.registry.auth.issuer_keys import IssuerUnreachable
from control_plane.registry.auth.oidc import OidcBearer
from penstock.registry.access import Role
from resources.registry.api_settings import OidcIssuer
from tests.fixtures.clock import FixedClock
from tests.fixtures.oidc import Issuer


def bearer(issuer: Issuer, clock: FixedClock, **fields: object) -> OidcBearer:
    """A reader of the issuer's tokens."""
    return OidcBearer.of(OidcIssuer.model_validate(issuer.settings(**fields)), clock)


@pytest.mark.parametrize("key", ["first", "second"])
def test_a_token_becomes_a_caller(issuer: Issuer, clock: FixedClock, key: str) -> None:
    """A token that an RSA or an elliptic key has signed says who calls, for which tenant, as what."""
    principal = bearer(issuer, clock).admit(issuer.token(clock.now(), key=key))
    assert principal is not None
    assert (principal.tenant_id, principal.role, principal.actor) == ("acme", Role.WRITER, "ada")
    assert principal.caller_id == f"{issuer.url} u-1"


@pytest.mark.parametrize(
    "claims",
    [
        {"iss": "https://elsewhere.example"},
        {"aud": "another service"},
        {"aud": None},
        {"exp": None},
        {"exp": 1},
        {"exp": "soon"},
        {"nbf": 4102444800},
        {"sub": None},
        {"sub": ""},
        {"tenant": None},
        {"tenant": "Not A Slug"},
        {"tenant": ["acme"]},
        {"role": None},
        {"role": "king"},
        {"role": 4},
        {"preferred_username": None, "sub": "x\ny"},
    ],
    ids=str,
)
def test_a_token_that_says_otherwise_lets_nobody_in(
    issuer: Issuer, clock: FixedClock, claims: dict[str, object]
) -> None:
    """Issuer, audience, expiry, subject, tenant and role have each to be there and to be right."""
    reader = bearer(issuer, clock)
    assert reader.admit(issuer.token(clock.now())) is not None
    assert reader.admit(issuer.token(clock.now(), **claims)) is None


def test_only_the_issuers_keys_and_algorithms_count(issuer: Issuer, clock: FixedClock) -> None:
    """Another's key under a known name, no signature, and the public key as an HMAC secret are refused."""
    reader, good = bearer(issuer, clock), issuer.token(clock.now())
    claims = jwt.decode(good, options={"verify_signature": False})
    foreign = ec.generate_private_key(ec.SECP256R1())
    public = (
        issuer.keys["first"]
        .public_key()
        .public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    for forged in (
        jwt.encode(claims, foreign, "ES256", headers={"kid": "second"}),
        jwt.encode(claims, foreign, "ES256", headers={"kid": "first"}),
        jwt.encode(claims, None, "none", headers={"kid": "first"}),
        _signed_with_what_all_can_see(good, public),
        jwt.encode(claims, foreign, "ES256"),
        good[:-8] + "AAAAAAAA",
        "a.b.c",
        "x" * 20_000,
    ):
        assert reader.admit(forged) is None
    only = bearer(issuer, clock, algorithms=["ES256"])
    assert only.admit(good) is None
    assert only.admit(issuer.token(clock.now(), key="second")) is not None


def _signed_with_what_all_can_see(good: str, public: bytes) -> str:
    """The attack by which a verifier takes a public key for a shared secret; PyJWT does not help with it."""
    head = base64.urlsafe_b64encode(b'{"alg":"HS256","kid":"first"}').rstrip(b"=").decode()
    said = f"{head}.{good.split('.')[1]}"
    signature = hmac.digest(public, said.encode(), "sha256")
    return f"{said}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}"


def test_keys_are_kept_and_new_ones_found(issuer: Issuer, clock: FixedClock) -> None:
    """Keys are fetched once, a new key at once, names that nobody knows at most every ten seconds."""
    reader = bearer(issuer, clock)
    for _ in range(5):
        assert reader.admit(issuer.token(clock.now())) is not None
    assert issuer.asked == 1
    issuer.keys["third"] = issuer.keys["second"]
    assert reader.admit(issuer.token(clock.now(), key="third")) is None, "asked just now"
    clock.sleep(11)
    assert reader.admit(issuer.token(clock.now(), key="third")) is not None
    assert issuer.asked == 2
    for _ in range(20):
        reader.admit(issuer.token(clock.now(), header={"kid": "nobody's"}))
    assert issuer.asked == 2


def test_a_key_that_was_withdrawn_ends_with_the_cache(issuer: Issuer, clock: FixedClock) -> None:
    """What an issuer no longer lists is trusted for no longer than keys are kept."""
    reader = bearer(issuer, clock, keys_kept_s=60)
    text = issuer.token(clock.now())
    assert reader.admit(text) is not None
    withdrawn = issuer.keys.pop("first")
    clock.sleep(61)
    assert reader.admit(text) is None
    issuer.keys["first"] = withdrawn


def test_an_issuer_that_is_down_is_no_refusal(issuer: Issuer, clock: FixedClock) -> None:
    """Without keys nobody can tell, which is said; keys that are there are used on."""
    reader, text = bearer(issuer, clock, keys_kept_s=60), issuer.token(clock.now())
    issuer.status = 503
    with pytest.raises(IssuerUnreachable, match=r"/keys cannot be fetched"):
        reader.admit(text)
    issuer.status = 200
    clock.sleep(11)
    assert reader.admit(text) is not None
    issuer.status = 503
    clock.sleep(100)
    assert reader.admit(text) is not None


def test_claims_are_where_the_settings_say(issuer: Issuer, clock: FixedClock) -> None:
    """Tenant and role are found under paths, in lists and under names with dots; one tenant may be fixed."""
    claims = {
        "tenant": None,
        "role": None,
        "realm_access": {"roles": ["offline_access", "registry-read", "registry-admin"]},
        "https://example.com/org": "acme_corp",
    }
    text = issuer.token(clock.now(), **claims)
    reader = bearer(
        issuer,
        clock,
        tenant_claim="https://example.com/org",
        role_claim="realm_access.roles",
        roles={"registry-read": "reader", "registry-admin": "admin"},
        name_claim="nickname",
    )
    principal = reader.admit(text)
    assert principal is not None
    assert (principal.tenant_id, principal.role) == ("acme_corp", Role.ADMIN)
    assert principal.actor == "u-1"
    fixed = bearer(issuer, clock, tenant="only_one", role_claim="nothing.there")
    assert fixed.admit(text) is None
    principal = bearer(issuer, clock, tenant="only_one").admit(issuer.token(clock.now()))
    assert principal is not None
    assert principal.tenant_id == "only_one"


@pytest.mark.parametrize(
    "fields",
    [
        {"jwks_url": "http://example.com/keys"},
        {"jwks_url": "file:///etc/passwd"},
        {"algorithms": ["HS256"]},
        {"algorithms": []},
        {"audience": ""},
        {"roles": {"x": "king"}},
    ],
    ids=str,
)
def test_settings_that_would_trust_too_much_are_refused(fields: dict[str, object]) -> None:
    """Keys over plain HTTP, shared secrets, any audience and unknown roles are no settings."""
    known = {"issuer": "https://i.example", "audience": "a", "jwks_url": "https://i.example/keys"}
    with pytest.raises(ValidationError):
        OidcIssuer.model_validate({**known, **fields})

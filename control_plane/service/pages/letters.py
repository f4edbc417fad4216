"""Dead letters: by what they have in common, and each with what can be done about it."""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import quote, urlencode

from fastapi import APIRouter, Form, Request, Response

from control_plane.service.addresses import DASHBOARD
from control_plane.service.calling import ServicesOf
from control_plane.service.pages.acting import Proof, Reason, acted
from control_plane.service.pages.showing import shown
from control_plane.service.pages.standing import dashboard_of
from control_plane.service.services import Services
from penstock.access.tokens import Principal
from penstock.errors import NotFound, NothingToDo, PenstockError
from penstock.ports.dead_letters import LetterFilter
from penstock.publish.dead_letters import LetterStatus
from penstock.use_cases.acts import By
from penstock.use_cases.dashboard import MOST_SHOWN
from penstock.use_cases.dashboard_scope import own_letter
from penstock.use_cases.dead_letters import (
    Requeued,
    discard_letters,
    fix_letter,
    inspect_letter,
    requeue_letters,
)

router = APIRouter(prefix=DASHBOARD, include_in_schema=False)
_PAGE = 50
_AT_ONCE = 1_000
Patch = Annotated[str, Form()]


@router.get("/dead-letters")
def letters(
    request: Request,
    services: ServicesOf,
    status: str = "open",
    fingerprint: str = "",
    after: str = "",
) -> Response:
    """Show dead letters by fingerprint; with one, the letters that have it."""
    asked = {"status": status, "fingerprint": fingerprint, "after": after}
    return shown(request, "Dead letters", lambda principal: _letters(services, principal, asked))


@router.get("/dead-letters/{letter}")
def one_letter(request: Request, letter: str, services: ServicesOf) -> Response:
    """Show a dead letter with its data, what it blocks and what happened to it."""
    return shown(request, "Dead letters", lambda principal: _letter(services, principal, letter))


@router.post("/dead-letters/{letter}/{act}")
def act_on_letter(
    request: Request,
    letter: str,
    act: str,
    services: ServicesOf,
    csrf: Proof = "",
    reason: Reason = "",
    patch: Patch = "",
) -> Response:
    """Fix, requeue or discard a dead letter."""
    return acted(
        request,
        "Dead letters",
        lambda principal, by: _act(services, principal, letter, act, patch, by),
        csrf=csrf,
        reason=reason,
        back=f"{DASHBOARD}/dead-letters/{quote(letter, safe='')}",
        again=lambda principal: _letter(services, principal, letter),
        typed={"patch": patch},
    )


@router.post("/dead-letter-groups/{fingerprint}/{act}")
def act_on_group(
    request: Request,
    fingerprint: str,
    act: str,
    services: ServicesOf,
    csrf: Proof = "",
    reason: Reason = "",
) -> Response:
    """Requeue or discard all open letters of one fingerprint."""
    asked = {"status": "open", "fingerprint": fingerprint, "after": ""}
    return acted(
        request,
        "Dead letters",
        lambda principal, by: _act_on_group(services, principal, fingerprint, act, by),
        csrf=csrf,
        reason=reason,
        back=f"{DASHBOARD}/dead-letters",
        again=lambda principal: _letters(services, principal, asked),
    )


def _letters(
    services: Services, principal: Principal, asked: dict[str, str]
) -> tuple[str, dict[str, Any]]:
    dashboard, tenant = dashboard_of(services), principal.only_tenant
    if asked["status"] and asked["status"] not in list(LetterStatus):
        raise PenstockError(f"there is no status {asked['status']!r}")
    status = LetterStatus(asked["status"]) if asked["status"] else None
    values: dict[str, Any] = {"asked": asked, "statuses": list(LetterStatus), "next": None}
    if not asked["fingerprint"]:
        groups = dashboard.views.letter_groups(
            tenant, LetterFilter(status=status), limit=MOST_SHOWN
        )
        return "letters.html", {**values, "groups": groups}
    chosen = LetterFilter(status=status, fingerprint=asked["fingerprint"])
    after = own_letter(dashboard, asked["after"], tenant) if asked["after"] else None
    found = dashboard.views.letters_page(tenant, chosen, after=after, limit=_PAGE + 1)
    if len(found) > _PAGE:
        values["next"] = "?" + urlencode({**asked, "after": found[_PAGE - 1].dead_letter_id})
    return "letter_group.html", {**values, "letters": found[:_PAGE]}


def _letter(services: Services, principal: Principal, letter: str) -> tuple[str, dict[str, Any]]:
    own_letter(dashboard_of(services), letter, principal.only_tenant)
    return "letter.html", {"details": inspect_letter(services.platform, letter)}


def _act(
    services: Services, principal: Principal, letter: str, act: str, patch: str, by: By
) -> str:
    own_letter(dashboard_of(services), letter, principal.only_tenant)
    match act:
        case "fix":
            by.why("mend a dead letter")
            return _sent(fix_letter(services.platform, letter, patch, by=by))
        case "requeue":
            return _sent(requeue_letters(services.platform, by=by, dead_letter_ids=[letter]))
        case "discard":
            discard_letters(services.platform, [letter], by=by)
            return "Discarded: it is not tried again"
        case _:
            raise NotFound(f"a dead letter cannot be asked to {act!r}")


def _act_on_group(
    services: Services, principal: Principal, fingerprint: str, act: str, by: By
) -> str:
    platform, tenant = services.platform, principal.only_tenant
    chosen = LetterFilter(status=LetterStatus.OPEN, fingerprint=fingerprint)
    mine = dashboard_of(services).views.letters_page(tenant, chosen, limit=_AT_ONCE)
    names = [letter.dead_letter_id for letter in mine]
    if not names:
        raise NothingToDo("none of these dead letters is open any more")
    match act:
        case "requeue":
            return _sent(requeue_letters(platform, by=by, dead_letter_ids=names))
        case "discard":
            return f"Discarded: {discard_letters(platform, names, by=by):,} dead letters"
        case _:
            raise NotFound(f"dead letters cannot be asked to {act!r}")


def _sent(requeued: Requeued) -> str:
    named = [str(each.batch_id) for each in requeued.corrections]
    named += [str(each) for each in requeued.batches]
    on_its_way = f" in {', '.join(named)}" if named else ""
    return f"On their way again: {requeued.letters:,} dead letters{on_its_way}"

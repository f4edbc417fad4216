"""Stewardship of entities: deprecating them, and vouching for them."""

from __future__ import annotations

from fastapi import APIRouter, Depends, Response

from control_plane.registry.calling import Entity, needs
from control_plane.registry.carrying import ChangesOf
from control_plane.registry.described import CHANGED
from control_plane.registry.documents import EntityDocument
from control_plane.web.bodies import Why
from control_plane.web.calling import StrictRoute
from penstock.registry.access import Role
from penstock.registry.commands import Deprecate, Reinstate, TakeStep
from penstock.registry.events import StreamId
from penstock.registry.workflow import ReviewStep

router = APIRouter(
    tags=["Stewardship"], route_class=StrictRoute, dependencies=[Depends(needs(Role.WRITER))]
)
OF_ENTITY = "entities/{type_name}/{key:path}"


@router.post(f"/deprecate/{OF_ENTITY}", response_model=EntityDocument, responses=CHANGED)
def deprecate_entity(stream: Entity, body: Why, commands: ChangesOf) -> Response:
    """Say of an entity that it should not be used any more."""
    expected = commands.expected(stream)
    command = Deprecate(stream=stream, expected=expected, reason=body.reason)
    return commands.carry_out("entity.deprecate", command)


@router.post(f"/reinstate/{OF_ENTITY}", response_model=EntityDocument, responses=CHANGED)
def reinstate_entity(stream: Entity, body: Why, commands: ChangesOf) -> Response:
    """Take a deprecation back."""
    expected = commands.expected(stream)
    command = Reinstate(stream=stream, expected=expected, reason=body.reason)
    return commands.carry_out("entity.reinstate", command)


@router.post(f"/propose/{OF_ENTITY}", response_model=EntityDocument, responses=CHANGED)
def propose_entity(stream: Entity, body: Why, commands: ChangesOf) -> Response:
    """Put an entity forward for attestation."""
    return _step(stream, ReviewStep.PROPOSE, body, commands)


@router.post(f"/attest/{OF_ENTITY}", response_model=EntityDocument, responses=CHANGED)
def attest_entity(stream: Entity, body: Why, commands: ChangesOf) -> Response:
    """Vouch for an entity that somebody else has put forward."""
    return _step(stream, ReviewStep.ATTEST, body, commands)


@router.post(f"/reject/{OF_ENTITY}", response_model=EntityDocument, responses=CHANGED)
def reject_entity(stream: Entity, body: Why, commands: ChangesOf) -> Response:
    """Turn down an entity that was put forward."""
    return _step(stream, ReviewStep.REJECT, body, commands)


def _step(stream: StreamId, step: ReviewStep, body: Why, commands: ChangesOf) -> Response:
    expected = commands.expected(stream)
    command = TakeStep(stream=stream, step=step, expected=expected, reason=body.reason)
    return commands.carry_out(f"entity.{step}", command)

"""Laying out a small graph around one entity: it in the middle, its neighbours in a ring, in a picture of fixed size.

Neighbours stand in the order of their names, from the top clockwise, so that the same graph is the same picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import cos, pi, sin

WIDTH, HEIGHT = 760, 460
MOST_NEIGHBOURS = 24
"""More would be unreadable: the table beside the picture has all of them."""
_RADIUS_X, _RADIUS_Y = 270, 180
_LONGEST_LABEL = 26


@dataclass(frozen=True, kw_only=True, slots=True)
class Edge:
    """A relationship from or to the entity in the middle."""

    relationship_type: str
    outgoing: bool
    other_type: str
    other_key: str
    href: str | None
    """Where the other end can be seen; None for one that is not there."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Node:
    """A place in the picture, in pixels."""

    x: float
    y: float
    label: str
    title: str
    """The whole name, for those who point at it or have it read out."""
    href: str | None
    is_middle: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    """A relationship in the picture; it is drawn from 1 to 2."""

    x1: float
    y1: float
    x2: float
    y2: float
    label: str
    label_x: float
    label_y: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Picture:
    """What a template draws."""

    nodes: Sequence[Node]
    lines: Sequence[Line]
    left_out: int
    """Neighbours for which there was no room."""
    width: int = WIDTH
    height: int = HEIGHT


def picture(entity_type: str, key: str, edges: Sequence[Edge]) -> Picture:
    """Lay out an entity and its neighbours."""
    names = sorted({(edge.other_type, edge.other_key) for edge in edges} - {(entity_type, key)})
    shown = names[:MOST_NEIGHBOURS]
    hrefs = {(edge.other_type, edge.other_key): edge.href for edge in edges}
    middle = Node(
        x=WIDTH / 2,
        y=HEIGHT / 2,
        label=shortened(key),
        title=f"{entity_type} {key}",
        href=None,
        is_middle=True,
    )
    ring = {
        name: _on_ring(number, len(shown), name, hrefs[name]) for number, name in enumerate(shown)
    }
    lines = [
        _line(middle, ring[name], [e for e in edges if (e.other_type, e.other_key) == name])
        for name in shown
    ]
    return Picture(nodes=[middle, *ring.values()], lines=lines, left_out=len(names) - len(shown))


def shortened(text: str, longest: int = _LONGEST_LABEL) -> str:
    """Return a name that fits, by its end: keys of one source begin alike."""
    return text if len(text) <= longest else f"…{text[1 - longest :]}"


def _on_ring(number: int, count: int, name: tuple[str, str], href: str | None) -> Node:
    angle = 2 * pi * number / count - pi / 2
    return Node(
        x=round(WIDTH / 2 + _RADIUS_X * cos(angle), 1),
        y=round(HEIGHT / 2 + _RADIUS_Y * sin(angle), 1),
        label=shortened(name[1]),
        title=f"{name[0]} {name[1]}",
        href=href,
    )


def _line(middle: Node, other: Node, edges: Sequence[Edge]) -> Line:
    names = sorted({f"{e.relationship_type} {'→' if e.outgoing else '←'}" for e in edges})
    return Line(
        x1=middle.x,
        y1=middle.y,
        x2=other.x,
        y2=other.y,
        label=shortened(", ".join(names), 22),
        # Nearer to the other end, where the lines are further apart.
        label_x=round(middle.x + 0.62 * (other.x - middle.x), 1),
        label_y=round(middle.y + 0.62 * (other.y - middle.y), 1),
    )

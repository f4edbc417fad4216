"""Cycles in containment: nothing may contain itself, however far round.

An edge to a key that lies below its own (``db`` contains ``db/sales``) makes paths longer, so no cycle consists of
such edges alone. Only when an edge breaks that pattern are all containment edges looked at: what has no parent or
no child is peeled off until only cycles and what lies between them is left, and Tarjan's algorithm names them.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from penstock.identity.keys import containers_of

Edges = npt.NDArray[np.int64]


def all_nested(from_keys: pa.Array, to_keys: pa.Array) -> bool:
    """Say whether every edge leads to a key directly below its own."""
    parents = containers_of(to_keys)
    return bool(pc.all(pc.equal(parents, from_keys), min_count=0).as_py())


def cyclic_nodes(edges: Edges) -> set[frozenset[int]]:
    """Return the groups of nodes that contain each other; ``edges`` has shape ``(n, 2)``: from, to."""
    rest = _peeled(edges)
    loops = {frozenset([int(a)]) for a, b in rest if a == b}
    return loops | {frozenset(group) for group in _strongly_connected(rest) if len(group) > 1}


def _peeled(edges: Edges) -> Edges:
    while len(edges):
        inner = np.isin(edges[:, 0], edges[:, 1]) & np.isin(edges[:, 1], edges[:, 0])
        if inner.all():
            break
        edges = edges[inner]
    return edges


def _strongly_connected(edges: Edges) -> Iterable[list[int]]:
    """Tarjan's strongly connected components (SIAM J. Comput. 1 (1972)), without recursion."""
    children: dict[int, list[int]] = {}
    for parent, child in edges.tolist():
        children.setdefault(parent, []).append(child)
    order: dict[int, int] = {}
    low: dict[int, int] = {}
    stack: list[int] = []
    on_stack: set[int] = set()
    for root in list(children):
        if root in order:
            continue
        work = [(root, iter(children[root]))]
        order[root] = low[root] = len(order)
        stack.append(root)
        on_stack.add(root)
        while work:
            node, rest = work[-1]
            for child in rest:
                if child not in order:
                    order[child] = low[child] = len(order)
                    stack.append(child)
                    on_stack.add(child)
                    work.append((child, iter(children.get(child, ()))))
                    break
                if child in on_stack:
                    low[node] = min(low[node], order[child])
            else:
                work.pop()
                if work:
                    low[work[-1][0]] = min(low[work[-1][0]], low[node])
                if low[node] == order[node]:
                    group: list[int] = []
                    while not group or group[-1] != node:
                        group.append(stack.pop())
                        on_stack.discard(group[-1])
                    yield group

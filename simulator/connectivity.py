"""What leaves an operating point undetermined whatever the values: loops of sources, floating nodes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from .banks import Bank

Index = NDArray[np.intp]


def voltage_loop(banks: Sequence[Bank], nodes: int) -> list[str]:
    """Names around a loop of voltage-defined devices, in which a current could circle at any strength."""
    defined = [bank for bank in banks if bank.device.voltage_defined]
    ends = [bank.terminals[0] for bank in defined]
    joined = np.concatenate([np.empty((2, 0), np.intp), *ends], axis=1)
    count, _ = _components(joined, nodes)
    if joined.shape[1] == nodes - count:  # a forest
        return []
    names = [name for bank in defined for name in bank.names]
    return _first_loop(list(zip(names, *joined.tolist(), strict=True)))


def floating_nodes(banks: Sequence[Bank], nodes: int) -> Index:
    """Nodes without a DC path to ground, unless controlled sources may fix their voltage.

    An island floats unless some controlled current flows into it and some control senses it.
    """
    nothing = np.empty(0, np.intp)
    conducting, driven, sensed = [np.empty((2, 0), np.intp)], [nothing], [nothing]
    for bank in banks:
        through, *controls = bank.acting()
        conducting.append(bank.terminals[0][:, through])
        for port, acts in zip(bank.terminals[1:], controls, strict=True):
            ends = port[:, acts]
            sensed.append(ends[ends < nodes])  # a branch current senses no node
            if not bank.device.voltage_defined:
                driven.append(bank.terminals[0][:, acts].ravel())
    count, label = _components(np.concatenate(conducting, axis=1), nodes)
    grounded, pushed, seen = np.zeros((3, count), bool)
    grounded[label[0]] = True
    pushed[label[np.concatenate(driven)]] = True
    seen[label[np.concatenate(sensed)]] = True
    return np.flatnonzero(~(grounded | (pushed & seen))[label])


def _components(ends: Index, nodes: int) -> tuple[int, Index]:
    """Number of connected parts of the graph with edges ``ends`` (2, k), and each node's part."""
    graph = coo_array((np.ones(ends.shape[1]), (ends[0], ends[1])), shape=(nodes, nodes))
    count, label = connected_components(graph, directed=False)
    return int(count), label.astype(np.intp)


def _first_loop(edges: list[tuple[str, int, int]]) -> list[str]:
    """Names of the edges around the first loop that ``edges`` (name, from, to) close."""
    tree: dict[int, list[tuple[int, str]]] = {}
    for name, a, b in edges:
        paths: dict[int, list[str]] = {a: []}
        fringe = [a]
        while fringe and b not in paths:
            here = fringe.pop()
            for there, edge in tree.get(here, []):
                if there not in paths:
                    paths[there] = [*paths[here], edge]
                    fringe.append(there)
        if b in paths:
            return [*paths[b], name]
        tree.setdefault(a, []).append((b, name))
        tree.setdefault(b, []).append((a, name))
    return []

"""Graphs whose edges will be devices: lattices, random ones, and lists of edges from a file.

A graph is undirected and connected; an edge's two ends differ, and two nodes may share several edges (a small
periodic lattice needs that). Only Python's csv module reads a file; nothing in it is executed.
"""

from __future__ import annotations

import csv
import os
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .mismatch import generator

MOST_NODES = 1000  # a network is solved densely
MOST_EDGES = 100_000
MOST_BYTES = 2**24  # of a file
NAMES = slice(0, 64)  # characters of a name that a message shows


class GraphError(ValueError):
    """A graph that cannot be; says where, what is wrong, and the remedy."""


class NetworkError(ValueError):
    """A network of transistors that cannot be; names the value, its unit, what is allowed and the remedy."""


@dataclass(frozen=True)
class Graph:
    """``names`` of the nodes, and ``edges``, pairs of their places. GraphError for an impossible one."""

    names: tuple[str, ...]
    edges: tuple[tuple[int, int], ...]

    def __post_init__(self) -> None:
        for quantity, count, most in (
            ("nodes", len(self), MOST_NODES),
            ("edges", len(self.edges), MOST_EDGES),
        ):
            if not 1 <= count <= most:
                raise GraphError(f"graph of {count} {quantity}; give 1 to {most}")
        if len(set(self.names)) < len(self):
            raise GraphError("two nodes have one name; give each its own")
        for k, (a, b) in enumerate(self.edges):
            if not (0 <= a < len(self) and 0 <= b < len(self)) or a == b:
                raise GraphError(
                    f"edge {k} joins {a} and {b}; give two different nodes from 0 to {len(self) - 1}"
                )
        if apart := np.flatnonzero(~_reached(len(self), self.ends)).tolist():
            names = ", ".join(repr(self.names[k]) for k in apart[:5])
            raise GraphError(
                f"no path from node {self.names[0]!r} to {names}; join them by an edge, or leave out"
            )

    def __len__(self) -> int:
        """Number of nodes."""
        return len(self.names)

    @property
    def ends(self) -> NDArray[np.int64]:
        """First and second end of each edge (2, k)."""
        return np.array(self.edges, np.int64).reshape(-1, 2).T.copy()

    def place(self, node: str) -> int:
        """Where a node is among ``names``; GraphError for an unknown one."""
        if node not in self.names:
            known = ", ".join(self.names[:8]) + (", ..." if len(self) > 8 else "")
            raise GraphError(f"the graph has no node {node!r}; it has {known}")
        return self.names.index(node)


def _reached(nodes: int, ends: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which nodes a path from the first leads to."""
    reached = np.zeros(nodes, bool)
    reached[0] = True
    for _ in range(nodes):
        before = reached.copy()
        for here, there in (ends, ends[::-1]):
            reached[there[before[here]]] = True
        if (reached == before).all():
            break
    return reached


def square_lattice(rows: int, columns: int, *, periodic: bool = True) -> Graph:
    """``rows`` x ``columns`` nodes named ``ROW.COLUMN``, each joined to the next in its row and column.

    ``periodic``: the last of a row or column to its first, where there are more than two of them.
    """
    if rows < 1 or columns < 1 or rows * columns < 2:
        raise GraphError(f"lattice of {rows} x {columns} nodes; give at least 2 nodes")
    place = np.arange(rows * columns).reshape(rows, columns)
    edges = []
    for i, j in product(range(rows), range(columns)):
        if j + 1 < columns or (periodic and columns > 2):
            edges.append((int(place[i, j]), int(place[i, (j + 1) % columns])))
        if i + 1 < rows or (periodic and rows > 2):
            edges.append((int(place[i, j]), int(place[(i + 1) % rows, j])))
    return Graph(tuple(f"{i}.{j}" for i, j in product(range(rows), range(columns))), tuple(edges))


def random_graph(nodes: int, edges: int, seed: int) -> Graph:
    """A connected graph of nodes named ``0``, ``1``, ...: a random tree, each node joined to an earlier one,
    and then pairs that are not joined yet, all equally likely.
    """
    least, most = nodes - 1, nodes * (nodes - 1) // 2
    if not 2 <= nodes <= MOST_NODES:
        raise GraphError(f"random graph of {nodes} nodes; give 2 to {MOST_NODES}")
    if not least <= edges <= most:
        raise GraphError(f"random graph of {nodes} nodes and {edges} edges; give {least} to {most} edges")
    rng = generator(seed, "graph")
    label = rng.permutation(nodes)  # so that an early node is not always a hub
    tree = {tuple(sorted((int(label[k]), int(label[rng.integers(k)])))) for k in range(1, nodes)}
    others = [(i, j) for i in range(nodes) for j in range(i + 1, nodes) if (i, j) not in tree]
    more = rng.permutation(len(others))[: edges - least]
    chosen = sorted([*tree, *(others[k] for k in more)])
    return Graph(tuple(str(k) for k in range(nodes)), tuple((a, b) for a, b in chosen))


def read_graph(path: str | os.PathLike[str]) -> Graph:
    """Read a CSV file of edges: a line ``node,node`` for each, of any names; lines that start with ``#`` and
    blank ones are skipped. Nodes are in the order in which they are first named.

    Raises GraphError, which starts with ``FILE:LINE:`` where a line is at fault.
    """
    source, edges, places = os.fspath(path), [], dict[str, int]()
    try:
        if (size := Path(path).stat().st_size) > MOST_BYTES:
            raise GraphError(f"{source}: has {size} bytes, over {MOST_BYTES}; give a smaller graph")
        lines = Path(path).read_text("utf-8-sig").splitlines()
    except OSError as error:
        raise GraphError(f"{source}: cannot be read ({error.strerror or error})") from None
    except UnicodeDecodeError:
        raise GraphError(f"{source}: is not UTF-8; save it as CSV in UTF-8") from None
    for number, line in enumerate(lines, start=1):
        if line.strip() and not line.lstrip().startswith("#"):
            a, b = _edge(f"{source}:{number}", line)
            edges.append((places.setdefault(a, len(places)), places.setdefault(b, len(places))))
        if len(edges) > MOST_EDGES or len(places) > MOST_NODES:
            raise GraphError(f"{source}:{number}: over {MOST_NODES} nodes or {MOST_EDGES} edges; give fewer")
    if not edges:
        raise GraphError(f"{source}: has no edges; give a line such as left,right for each")
    try:
        return Graph(tuple(places), tuple(edges))
    except GraphError as error:
        raise GraphError(f"{source}: {error}") from None


def _edge(place: str, line: str) -> tuple[str, str]:
    try:
        (fields,) = csv.reader([line], strict=True)
    except csv.Error as error:
        raise GraphError(f"{place}: is not CSV ({error}); write node,node") from None
    names = [field.strip() for field in fields]
    if len(names) != 2 or not all(names):
        raise GraphError(
            f"{place}: has {len(names)} fields, {names.count('')} of them empty; write node,node"
        )
    if names[0] == names[1]:
        raise GraphError(f"{place}: joins {names[0][NAMES]!r} to itself; give two different nodes")
    return names[0], names[1]

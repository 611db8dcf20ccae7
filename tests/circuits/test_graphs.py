"""Graphs: lattices, random ones, and lists of edges that are right or wrong on a line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from ohmostat.circuits.graphs import MOST_NODES, Graph, GraphError, random_graph, read_graph, square_lattice


def degrees(graph: Graph) -> list[int]:
    return np.bincount(graph.ends.ravel(), minlength=len(graph)).tolist()


def test_lattices_join_neighbours() -> None:
    assert degrees(square_lattice(4, 4)) == [4] * 16
    assert degrees(square_lattice(3, 3, periodic=False)) == [2, 3, 2, 3, 4, 3, 2, 3, 2]
    assert square_lattice(2, 3, periodic=False).edges == (
        (0, 1),
        (0, 3),
        (1, 2),
        (1, 4),
        (2, 5),
        (3, 4),
        (4, 5),
    )
    assert square_lattice(2, 3).names[:4] == ("0.0", "0.1", "0.2", "1.0")
    assert len(square_lattice(2, 3).edges) == 9  # two rows are joined once, three columns around


@settings(deadline=None, max_examples=50)
@given(st.integers(2, 20), st.floats(0, 1), st.integers(0, 10**6))
def test_random_graphs_are_connected_and_simple(nodes: int, share: float, seed: int) -> None:
    least, most = nodes - 1, nodes * (nodes - 1) // 2
    graph = random_graph(nodes, least + int(share * (most - least)), seed)
    first, second = graph.ends
    whole = coo_array((np.ones(len(first)), (first, second)), shape=(nodes, nodes))
    assert connected_components(whole, directed=False)[0] == 1
    assert len({frozenset(edge) for edge in graph.edges}) == len(graph.edges)
    assert graph == random_graph(nodes, len(graph.edges), seed)


def test_seeds_differ() -> None:
    assert len({random_graph(10, 20, seed).edges for seed in range(20)}) == 20


def test_a_file_of_edges(tmp_path: Path) -> None:
    path = tmp_path / "edges.csv"
    path.write_text('# a triangle\nleft, right\nright,top\n\n"top",left\ntop,left\n')
    graph = read_graph(path)
    assert graph.names == ("left", "right", "top")
    assert graph.edges == ((0, 1), (1, 2), (2, 0), (2, 0))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a,b\nb\n", ":2: has 1 fields"),
        ("a,b\nb,c,1\n", ":2: has 3 fields"),
        ("a,b\n,c\n", "1 of them empty"),
        ("a,b\n\nb,b\n", ":3: joins 'b' to itself"),
        ('a,b\n"b,c\n', ":2: is not CSV"),
        ("# nothing\n", "has no edges"),
        ("a,b\nc,d\n", "no path from node 'a' to 'c', 'd'"),
        ("a,é\n".encode("latin-1"), "is not UTF-8"),
        ("".join(f"hub,n{k}\n" for k in range(MOST_NODES + 5)), f":{MOST_NODES}: over"),
    ],
)
def test_wrong_files_are_refused_by_line(text: str | bytes, words: str, tmp_path: Path) -> None:
    path = tmp_path / "edges.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(GraphError) as refused:
        read_graph(path)
    assert str(refused.value).startswith(str(path)) and words in str(refused.value)


def test_impossible_graphs_are_refused(tmp_path: Path) -> None:
    for make, words in (
        (lambda: read_graph(tmp_path / "none.csv"), "cannot be read"),
        (lambda: Graph(("a", "b"), ((0, 0),)), "two different nodes"),
        (lambda: Graph(("a", "a"), ((0, 1),)), "one name"),
        (lambda: random_graph(4, 2, 0), "give 3 to 6 edges"),
        (lambda: random_graph(1, 0, 0), "give 2 to"),
        (lambda: square_lattice(1, 1), "at least 2 nodes"),
        (lambda: square_lattice(1, 2).place("5.5"), "no node '5.5'"),
    ):
        with pytest.raises(GraphError, match=words):
            make()

"""Block circuits against the same network as one dense matrix."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ohmostat.simulator.blocks import BlockCircuit, spaced_zeros

LOOP = [(1, 0), (2, 1), (0, 2), (0, 1)]
NETWORKS = {
    "one layer": ((5,), []),
    "chain of two": ((6, 4), None),
    "chain of four": ((7, 6, 5, 4), None),
    "loop": ((6, 5, 4), LOOP),
    "skipping": ((4, 3, 5, 2), [(1, 0), (3, 0), (2, 1), (0, 3), (3, 2)]),
}
named = pytest.mark.parametrize(("sizes", "couplings"), NETWORKS.values(), ids=NETWORKS)


@st.composite
def graphs(draw: st.DrawFn) -> tuple[tuple[int, ...], list[tuple[int, int]]]:
    n = draw(st.integers(1, 6))
    sizes = draw(st.lists(st.integers(1, 4), min_size=n, max_size=n))
    pairs = [(a, b) for a in range(n) for b in range(n) if a != b]
    return tuple(sizes), draw(st.lists(st.sampled_from(pairs), unique=True)) if pairs else []


@settings(max_examples=60, deadline=None)
@given(graphs())
def test_layers_of_one_colour_do_not_drive_each_other(
    graph: tuple[tuple[int, ...], list[tuple[int, int]]],
) -> None:
    sizes, couplings = graph
    circuit = BlockCircuit(sizes, couplings)
    colour = {k: c for c, members in enumerate(circuit.colours) for k in members}
    assert sorted(colour) == list(range(len(sizes)))
    assert all(colour[post] != colour[pre] for post, pre in couplings)
    assert colour[len(sizes) - 1] == len(circuit.colours) - 1
    stop = 0
    for k in (k for members in circuit.colours for k in members):  # colour by colour, without gaps
        assert circuit.slices[k] == slice(stop, stop + sizes[k])
        stop += sizes[k]
    assert stop == circuit.size


def test_a_chain_has_two_colours_and_a_loop_three() -> None:
    assert BlockCircuit((1,) * 4, [(1, 0), (2, 1), (3, 2)]).colours == [[0, 2], [1, 3]]
    assert len(BlockCircuit((1, 1, 1), LOOP).colours) == 3


@named
@pytest.mark.parametrize("law", ["logistic", "softplus"])
def test_currents_and_jacobians_are_the_dense_networks(
    network: Callable, sizes: tuple[int, ...], couplings: list, law: str
) -> None:
    circuit, oracle = network(1, sizes, couplings, law=law)
    rng = np.random.default_rng(0)
    v, injected = rng.standard_normal((2, 3, circuit.size))
    want = oracle.current(oracle.from_state(v), oracle.from_state(injected))
    assert oracle.from_state(circuit.current(v, injected)) == pytest.approx(want, abs=1e-13)
    s, slopes = circuit.ports(v)
    assert oracle.from_state(s) == pytest.approx(oracle.neuron(oracle.from_state(v))[0], abs=1e-13)
    assert circuit.drive(s) == pytest.approx(s @ circuit.dense().T, abs=1e-13)
    jacobian = circuit.jacobian(v[0])
    natural = oracle.from_state(oracle.from_state(jacobian.T).T)  # rows, then columns
    assert natural == pytest.approx(oracle.jacobian(oracle.from_state(v[0])), abs=1e-12)
    assert circuit.port_jacobian(v[0]) * slopes[0] == pytest.approx(jacobian, abs=1e-12)


@named
@pytest.mark.parametrize("law", ["logistic", "softplus"])
def test_jacobian_is_the_derivative_of_the_current(
    network: Callable, sizes: tuple[int, ...], couplings: list, law: str
) -> None:
    """By complex steps, with a nudge ``-B s_out`` in the output layer, in both coordinates."""
    circuit, _ = network(2, sizes, couplings, law=law)
    rng, out = np.random.default_rng(1), circuit.output
    v, push = rng.standard_normal(circuit.size), rng.standard_normal((sizes[-1], sizes[-1]))

    def current(voltages: np.ndarray) -> np.ndarray:
        total = circuit.current(voltages, np.zeros_like(voltages))
        total[:, out] += circuit.ports(voltages)[0][:, out] @ push.T
        return total

    h = 1e-30
    stepped = current(v + 1j * h * np.eye(circuit.size)).imag.T / h
    assert circuit.jacobian(v, push) == pytest.approx(stepped, abs=1e-12)
    finite = (current(v + 1e-6 * np.eye(circuit.size)) - current(v - 1e-6 * np.eye(circuit.size))).T / 2e-6
    assert circuit.jacobian(v, push) == pytest.approx(finite, abs=1e-7)
    slopes = circuit.ports(v)[1]
    assert circuit.port_jacobian(v, push) == pytest.approx(stepped / slopes, rel=1e-10, abs=1e-12)


@named
def test_transposed_turns_every_block_round_and_is_a_copy(
    network: Callable, sizes: tuple[int, ...], couplings: list
) -> None:
    circuit, _ = network(3, sizes, couplings)
    turned, before = circuit.transposed(), circuit.dense().copy()
    assert np.array_equal(turned.dense(), before.T)
    assert turned.slices == circuit.slices
    for post, pre in circuit.couplings:
        turned.weight(pre, post)[...] = 0
    assert np.array_equal(circuit.dense(), before)
    for name in ("load", "gain", "offset", "capacitance", "law", "low", "high", "knee"):
        assert np.array_equal(getattr(turned, name), getattr(circuit, name))


def test_weight_is_a_writable_view_of_one_block_only(network: Callable) -> None:
    circuit, _ = network(4, *NETWORKS["skipping"])
    dense = circuit.dense().copy()
    circuit.weight(3, 0)[...] += 1.0
    changed = circuit.dense() - dense
    assert np.all(changed[circuit.slices[3], circuit.slices[0]] == 1.0)
    assert changed.sum() == 2 * 4
    assert np.all(circuit.dense()[circuit.slices[3], circuit.slices[1]] == 0)  # uncoupled
    with pytest.raises(KeyError, match="layer 1 does not drive layer 3"):
        circuit.weight(3, 1)


def test_a_layer_cannot_drive_itself() -> None:
    with pytest.raises(ValueError, match="layer 1 drives itself"):
        BlockCircuit((2, 3), [(1, 1)])


def test_float32_stays_float32(network: Callable) -> None:
    circuit, _ = network(5, dtype=np.float32)
    v = np.zeros((2, circuit.size), np.float32)
    assert circuit.dense().dtype == circuit.current(v, v).dtype == np.float32
    assert circuit.jacobian(v[0]).dtype == circuit.transposed().dense().dtype == np.float32
    assert circuit.swing == 2.0 and circuit.layer(v, 2).shape == (2, 4)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("width", [1, 10, 16, 64, 100, 256, 784])
def test_what_a_port_drives_begins_a_line_of_the_cache_and_no_column_crowds_it(
    width: int, dtype: type
) -> None:
    circuit = BlockCircuit((width, 5), [(1, 0), (0, 1)], np.dtype(dtype))
    for columns in (circuit.weight(0, 1).T, spaced_zeros(5, width, np.dtype(dtype))):
        assert columns.shape == (5, width) and columns.ctypes.data % 64 == 0
        lines, rest = divmod(columns.strides[0], 64)
        assert rest == 0 and lines % 4 and width <= lines * 64 // columns.itemsize < width + 32

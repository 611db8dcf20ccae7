"""The circuits of the chip families: arrays, the ways in which they are read, feedback pairs."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from ohmostat.circuits.chip import Chip
from ohmostat.circuits.circuit import Circuit
from ohmostat.circuits.design import Design
from ohmostat.circuits.families import BIAS, FAMILIES, INPUT, Bank
from ohmostat.circuits.specs import MismatchSpec

LAYERS = {"two": [64, 5, 4], "four": [64, 7, 6, 5, 4]}
every_family = pytest.mark.parametrize("family", FAMILIES)
mutual_families = pytest.mark.parametrize("family", ["twin", "shared"])  # neighbours drive each other
every_depth = pytest.mark.parametrize("layers", LAYERS.values(), ids=LAYERS)


def circuit_of(family: str, layers: list[int], **more: object) -> Circuit:
    fit = {"chip.columns": "passive", "homeostat.mode": "off"} if family == "resistive" else {}
    return Circuit(
        Design().replace({"chip.family": family, "chip.layers": layers, "task.data": "digits", **fit, **more})
    )


@pytest.mark.parametrize("family", [family for family in FAMILIES if family != "relay"])
@every_depth
def test_every_layer_has_its_forward_banks_and_bias(family: str, layers: list[int]) -> None:
    circuit = circuit_of(family, layers)
    assert circuit.sizes == tuple(layers[1:]) and circuit.inputs == 64
    depth = len(circuit.sizes)
    ends = [(bank.post, bank.pre) for bank in circuit.banks]
    assert len(set(ends)) == len(ends)
    back = {(0, depth - 1)} if family == "loop" else {(k - 1, k) for k in range(1, depth)}
    assert set(ends) == (
        {(0, INPUT)} | {(k, BIAS) for k in range(depth)} | {(k, k - 1) for k in range(1, depth)} | back
    )


@every_family
@every_depth
def test_arrays_fit_what_their_banks_connect(family: str, layers: list[int]) -> None:
    circuit = circuit_of(family, layers)
    widths = {INPUT: 64, BIAS: 1} | dict(enumerate(circuit.sizes))
    arrays = {array.name: array for array in circuit.arrays}
    assert len(arrays) == len(circuit.arrays) and set(arrays) == {bank.array for bank in circuit.banks}
    for bank in circuit.banks:
        array = arrays[bank.array]
        rows, columns = (bank.pre, bank.post) if bank.transposed else (bank.post, bank.pre)
        planes = 1 if family == "resistive" and bank.pre >= 0 else 2
        assert array.shape == (planes, array.rows, array.columns) == (planes, widths[rows], widths[columns])
    assert len({bank.name for bank in circuit.banks}) == len(circuit.banks)


def test_twins_are_separate_arrays_and_shared_ones_are_read_twice() -> None:
    twin, shared = circuit_of("twin", [64, 5, 4]), circuit_of("shared", [64, 5, 4])
    assert twin.feedback_pairs == ((Bank("forward1", 1, 0), Bank("feedback1", 0, 1)),)
    assert shared.feedback_pairs == (
        (Bank("forward1", 1, 0, driven=True), Bank("forward1", 0, 1, transposed=True, driven=True)),
    )
    assert [array.name for array in twin.arrays] == ["forward0", "bias0", "bias1", "forward1", "feedback1"]
    assert [array.name for array in shared.arrays] == ["forward0", "bias0", "bias1", "forward1"]
    assert [bank.name for bank in shared.banks[-2:]] == ["forward1.forward", "forward1.backward"]


def test_a_resistive_network_has_single_conductances_and_amplifiers_at_the_lower_node() -> None:
    circuit = circuit_of("resistive", [64, 5, 4])
    ((up, down),) = circuit.feedback_pairs
    assert (up.array, up.returned, up.driving) == ("forward1", False, 0)
    assert (down.array, down.returned, down.driving, down.transposed) == ("forward1", True, 0, True)
    assert [array.plane_names for array in circuit.arrays] == [("+", "-")] * 3 + [("+",)]
    twins = circuit_of(
        "resistive", [64, 5, 4], **{"resistive.copies": "twin", "learning.rule": "contrastive"}
    )
    assert [a.plane_names for a in twins.arrays] == [("+", "-", "+2", "-2")] * 3 + [("+", "+2")]
    assert [a.shape for a in twins.arrays] == [(4, 5, 64), (4, 5, 1), (4, 4, 1), (2, 4, 5)]


@mutual_families
def test_feedback_pairs_are_all_neighbours_in_order(family: str) -> None:
    pairs = circuit_of(family, LAYERS["four"]).feedback_pairs
    assert [(f.post, f.pre, b.post, b.pre) for f, b in pairs] == [(k, k - 1, k - 1, k) for k in (1, 2, 3)]


@pytest.mark.parametrize(("hidden", "colours"), [(2, 3), (3, 2), (4, 3)])
def test_a_loop_couples_no_two_layers_both_ways(hidden: int, colours: int) -> None:
    circuit = circuit_of("loop", [64, *range(4 + hidden, 3, -1)])
    assert circuit.feedback_pairs == ()
    assert circuit.arrays[-1].name == f"feedback{hidden}"
    assert len(circuit.fabricate().blocks.colours) == colours  # an odd ring takes three


@pytest.mark.parametrize("columns", ["virtual-ground", "passive"])
def test_a_loop_settles_where_its_devices_balance(
    columns: str, chip_of: Callable[..., Chip], flat: type
) -> None:
    """64-6-5-4 has three colours. Kirchhoff's law device by device, and the ODE's own way there."""
    chip = chip_of("loop", columns)
    x = np.random.default_rng(1).random((3, 64))
    free, oracle = chip.relax(x), flat(chip)
    assert free.settled.all() and free.stable is not None and free.stable.all()
    for v, row in zip(oracle.natural(free.voltages), x, strict=True):
        assert np.abs(oracle.balance(v, row)[0]).max() < 1e-16  # A; the currents themselves are of 1e-5
    slow = chip.relax(x, method="transient", tolerance=1e-9)
    assert np.abs(slow.ports - free.ports).max() < 1e-7


def test_no_pair_of_a_loop_conducts_both_ways(chip_of: Callable[..., Chip]) -> None:
    """So the objective ½|J̃ - J̃ᵀ|² is the sum of all squared couplings, and its descent weight decay."""
    chip = chip_of("loop")
    jacobian = chip.relax(np.zeros((1, 64))).port_jacobian()
    coupling = jacobian - np.diag(np.diag(jacobian))
    assert np.count_nonzero(coupling) == 6 * 5 + 5 * 4 + 4 * 6
    assert not (coupling * coupling.T).any()
    objective = np.sum((jacobian - jacobian.T) ** 2) / 2
    assert objective == pytest.approx(np.sum(coupling**2), rel=1e-12)


def test_relays_pass_errors_from_every_layer_to_the_one_below() -> None:
    circuit = circuit_of("relay", [64, 7, 6, 4], **{"chip.relays": 9})
    assert circuit.sizes == (7, 6, 9, 9, 4) and circuit.design.sizes == (64, 7, 6, 4)
    assert circuit.feedback_pairs == ()
    ends = {bank.array: (bank.post, bank.pre) for bank in circuit.banks if bank.pre >= 0}
    assert ends == {"forward1": (1, 0), "listen1": (2, 1), "feedback1": (0, 2),
                    "forward2": (4, 1), "listen2": (3, 4), "feedback2": (1, 3)}  # fmt: skip
    constant = {bank.array: bank.post for bank in circuit.banks if bank.pre == BIAS}
    assert constant == {"bias0": 0, "bias1": 1, "rest1": 2, "rest2": 3, "bias2": 4}
    paths = [tuple(bank.array for bank in path) for path in circuit.relay_paths]
    assert paths == [("forward1", "listen1", "feedback1"), ("forward2", "listen2", "feedback2")]
    chip = circuit.fabricate()
    assert chip.blocks.output == slice(chip.blocks.size - 4, chip.blocks.size)


def test_a_relayed_chip_settles_where_its_devices_balance(chip_of: Callable[..., Chip], flat: type) -> None:
    chip = chip_of("relay", "passive")
    x = np.random.default_rng(1).random((3, 64))
    free, oracle = chip.relax(x), flat(chip)
    assert free.settled.all() and free.stable is not None and free.stable.all()
    for v, row in zip(oracle.natural(free.voltages), x, strict=True):
        assert np.abs(oracle.balance(v, row)[0]).max() < 1e-16  # A; the currents themselves are of 1e-5


@pytest.mark.parametrize(("columns", "kappa"), [("passive", 1.0), ("virtual-ground", 0.0)])
def test_kappa(columns: str, kappa: float) -> None:
    assert circuit_of("twin", [64, 5, 4], **{"chip.columns": columns}).kappa == kappa


def test_fabricate_takes_the_designs_mismatch_unless_given_another() -> None:
    circuit = circuit_of("twin", [64, 5, 4], **{"mismatch.conductance": 0.5})
    chip = circuit.fabricate(seed=1)
    assert chip.mismatch is circuit.design.mismatch and chip.seed == 1
    assert np.log(chip.devices["forward0"].deviation).std() == pytest.approx(0.5, rel=0.1)
    ideal = circuit.fabricate(MismatchSpec(), seed=1)
    assert all(np.all(array.deviation == 1) for array in ideal.devices.values())

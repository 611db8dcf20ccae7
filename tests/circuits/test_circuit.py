"""The circuits of the chip families: arrays, the ways in which they are read, feedback pairs."""

from __future__ import annotations

import numpy as np
import pytest

from ohmostat.circuits.circuit import BIAS, FAMILIES, INPUT, Bank, Circuit
from ohmostat.circuits.design import Design
from ohmostat.circuits.specs import MismatchSpec

LAYERS = {"two": [64, 5, 4], "four": [64, 7, 6, 5, 4]}
both_families = pytest.mark.parametrize("family", FAMILIES)
every_depth = pytest.mark.parametrize("layers", LAYERS.values(), ids=LAYERS)


def circuit_of(family: str, layers: list[int], **more: object) -> Circuit:
    return Circuit(
        Design().replace({"chip.family": family, "chip.layers": layers, "task.data": "digits", **more})
    )


@both_families
@every_depth
def test_every_layer_has_its_forward_banks_and_bias(family: str, layers: list[int]) -> None:
    circuit = circuit_of(family, layers)
    assert circuit.sizes == tuple(layers[1:]) and circuit.inputs == 64
    depth = len(circuit.sizes)
    ends = [(bank.post, bank.pre) for bank in circuit.banks]
    assert len(set(ends)) == len(ends)
    assert set(ends) == (
        {(0, INPUT)}
        | {(k, BIAS) for k in range(depth)}
        | {(k, k - 1) for k in range(1, depth)}
        | {(k - 1, k) for k in range(1, depth)}
    )


@both_families
@every_depth
def test_arrays_fit_what_their_banks_connect(family: str, layers: list[int]) -> None:
    circuit = circuit_of(family, layers)
    widths = {INPUT: 64, BIAS: 1} | dict(enumerate(circuit.sizes))
    arrays = {array.name: array for array in circuit.arrays}
    assert len(arrays) == len(circuit.arrays) and set(arrays) == {bank.array for bank in circuit.banks}
    for bank in circuit.banks:
        array = arrays[bank.array]
        rows, columns = (bank.pre, bank.post) if bank.transposed else (bank.post, bank.pre)
        assert array.shape == (2, array.rows, array.columns) == (2, widths[rows], widths[columns])
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


@both_families
def test_feedback_pairs_are_all_neighbours_in_order(family: str) -> None:
    pairs = circuit_of(family, LAYERS["four"]).feedback_pairs
    assert [(f.post, f.pre, b.post, b.pre) for f, b in pairs] == [(k, k - 1, k - 1, k) for k in (1, 2, 3)]


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

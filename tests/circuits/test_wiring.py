"""Wired arrays: effective weights against the simulator's own, true gradients against finite differences."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ohmostat.circuits.archive import load_chip, save_chip
from ohmostat.circuits.chip import Chip
from ohmostat.circuits.design import Design
from ohmostat.circuits.flatten import flatten
from ohmostat.circuits.sections import DesignError
from ohmostat.circuits.wiring import Wiring
from ohmostat.learning.audit import Subject
from ohmostat.learning.data import load_task
from ohmostat.learning.estimators import centered
from ohmostat.learning.training import Trainer
from ohmostat.simulator.wires import crossbar

ChipOf = Callable[..., Chip]
WIRES = Wiring(30.0, 50.0)
CELLS = 1e-4 * np.random.default_rng(0).random((5, 7))


def test_effective_weights_are_the_transfer_of_the_array() -> None:
    expected = crossbar(7, 5, CELLS.T, 30.0, 50.0).transfer()
    np.testing.assert_allclose(WIRES.effective(CELLS), expected, rtol=1e-12)
    assert np.abs(expected / CELLS - 1).max() > 0.01
    np.testing.assert_allclose(Wiring(0.0, 0.0).effective(CELLS), CELLS, rtol=1e-12)


def test_true_gradient_of_a_cell_is_the_finite_difference() -> None:
    rng = np.random.default_rng(1)
    ports, epsilon = rng.random((6, 7)), rng.normal(size=(6, 5))
    found = WIRES.of_cells(CELLS, -(epsilon.T @ ports)[None])[0]
    step = 1e-8
    for cell in np.ndindex(CELLS.shape):
        up, down = CELLS.copy(), CELLS.copy()
        up[cell] += step
        down[cell] -= step
        change = WIRES.effective(up) - WIRES.effective(down)
        expected = -np.sum(epsilon * (ports @ change.T)) / (2 * step)
        assert found[cell] == pytest.approx(expected, rel=1e-6, abs=1e-8)


def test_large_arrays_are_tiled() -> None:
    """Each tile is wired by itself, and every cell is in one."""
    wires = Wiring(30.0, 50.0, 3)
    counted = np.zeros((5, 7))
    for tile in wires.tiles((5, 7)):
        counted[tile] += 1
        np.testing.assert_allclose(
            wires.effective(CELLS)[tile],
            crossbar(CELLS[tile].shape[1], CELLS[tile].shape[0], CELLS[tile].T, 30.0, 50.0).transfer(),
            rtol=1e-12,
        )
    assert (counted == 1).all()


@pytest.mark.parametrize("family", ["twin", "shared"])
def test_a_wired_chip_reads_its_effective_weights(chip_of: ChipOf, family: str) -> None:
    """A shared array stays reciprocal, but for its drivers; twins that mirror each other do not."""
    chip = chip_of(family, mismatch__driver_gain=0.0, mismatch__conductance=0.0)
    if family == "twin":
        chip.write({"feedback1": chip.weight("forward1").T})
    wired = Wiring(300.0, 500.0).chip(chip)
    planes = [Wiring(300.0, 500.0).effective(plane) for plane in chip.devices["forward1"].actual]
    np.testing.assert_allclose(wired.blocks.weight(1, 0), planes[0] - planes[1], rtol=1e-12)
    skew = np.abs(wired.blocks.weight(1, 0) - wired.blocks.weight(0, 1).T).max()
    scale = np.abs(wired.blocks.weight(1, 0)).max()
    assert (skew < 1e-14 * scale) if family == "shared" else (skew > 1e-4 * scale)


def test_what_is_not_modelled_is_refused(chip_of: ChipOf) -> None:
    with pytest.raises(ValueError, match=r"along a row is -1 ohm; give 0 or more"):
        Wiring(-1.0, 0.0)
    with pytest.raises(ValueError, match=r'wires need chip.columns = "virtual-ground"'):
        WIRES.chip(chip_of("twin", "passive"))


# -- in training ----------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
def test_the_estimate_is_within_its_bound_and_of_second_order(seed: int) -> None:
    rng = np.random.default_rng(seed)
    nodes, ports = rng.integers(2, 12, 2)
    cells = 1e-5 * rng.lognormal(0, 1, (nodes, ports)) * (rng.random((nodes, ports)) < 0.8)
    errors = []
    for scale in (1.0, 0.5, 0.25):
        wires = Wiring(100 * scale, 160 * scale)
        largest = wires.drop(cells).max()
        off = np.abs(wires.estimate(cells) - wires.effective(cells)).sum(axis=1)
        assert largest < 0.9
        assert np.all(off <= largest**2 * (2 - largest) / (1 - largest) * cells.sum(axis=1).max())
        errors.append(off.max())
    assert np.log2(errors[1] / errors[2]) == pytest.approx(2, abs=0.3)
    alone = Wiring(3e4, 5e4)
    np.testing.assert_allclose(alone.estimate(cells[:1, :1]), alone.effective(cells[:1, :1]), rtol=1e-12)


def test_drops_are_sums_over_shared_segments() -> None:
    wires, found = Wiring(3.0, 5.0), np.zeros_like(CELLS)
    nodes, ports = CELLS.shape
    for i, j in np.ndindex(nodes, ports):
        along = sum(CELLS[k, j] * (min(i, k) + 1) for k in range(nodes))
        down = sum(CELLS[i, k] * (ports - max(j, k)) for k in range(ports))
        found[i, j] = 3.0 * along + 5.0 * down
    np.testing.assert_allclose(wires.drop(CELLS), found, rtol=1e-10)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("family", ["twin", "shared"])
def test_a_design_with_wires_settles_on_what_its_ports_see(
    chip_of: ChipOf, family: str, dtype: str, tmp_path: Path
) -> None:
    keys = {"wires__row": "30Ohm", "wires__column": "50Ohm", "wires__tile": 4}
    plain, chip = chip_of(family, dtype=dtype), chip_of(family, dtype=dtype, **keys)
    wires = Wiring.of(chip.circuit.design)
    assert wires == Wiring(30.0, 50.0, 4) and Wiring.of(plain.circuit.design) is None
    for name in chip.devices:
        assert np.array_equal(chip.devices[name].actual, plain.devices[name].actual)
        plus, minus = (wires.estimate(g) for g in chip.conducting(name))
        np.testing.assert_allclose(chip.weight(name), plus - minus, rtol=1e-5, atol=1e-12)
    exact = wires.chip(chip)  # effective weights, and no wires besides
    inputs = np.random.default_rng(3).random((4, 64))
    found, wanted, without = (c.relax(inputs).ports for c in (chip, exact, plain))
    assert np.abs(found - wanted).max() < 0.05 * np.abs(without - wanted).max()
    drop, error = wires.check(chip)
    assert 0 < error < drop**2 * 2 and drop == pytest.approx(
        max(wires.drop(g.astype(float)).max() for name in chip.devices for g in chip.conducting(name))
    )
    chip.program({name: np.full(chip.weight(name).shape, 1e-6) for name in chip.devices})
    save_chip(tmp_path / "c.h5", chip)
    again = load_chip(tmp_path / "c.h5")
    assert np.array_equal(again.relax(inputs).ports, chip.relax(inputs).ports)
    with pytest.raises(ValueError, match="a chip with resistive wires is not flattened"):
        flatten(chip, inputs[0])


def test_passive_columns_have_no_wires() -> None:
    with pytest.raises(DesignError, match=r"wires\.column = 5Ohm: what passive columns do .*virtual-ground"):
        Design.named("digits").replace("wires.column", "5Ohm")


@pytest.mark.parametrize("rule", ["ep", "adjoint"])
def test_a_wired_chip_learns_and_is_checked(rule: str) -> None:
    design = Design.named("fashion-6k").replace(
        {"chip.layers": [784, 20, 10], "task.train": 400, "task.test": 100, "learning.epochs": 1,
         "learning.rule": rule, "wires.row": "0.5Ohm", "wires.column": "0.5Ohm"}
    )  # fmt: skip
    trainer = Trainer.from_design(design, load_task(design.task, None))
    first, last = trainer.fit()
    assert 0 < last.wire_error < last.wire_drop < 0.2 and first.wire_drop > 0
    x, cost = trainer.inputs(trainer.data.test_x[:3]), trainer.cost(trainer.data.test_y[:3])
    own = Subject.of(trainer.chip, x, cost, centered(1e-7))
    assert own.wiring == Wiring(0.5, 0.5) and not own.chip.circuit.design.wires.resistive

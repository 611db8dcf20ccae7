"""Wired arrays: effective weights against the simulator's own, true gradients against finite differences."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from ohmostat.circuits import wiring
from ohmostat.circuits.chip import Chip
from ohmostat.circuits.wiring import Wiring, tiles
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


def test_large_arrays_are_tiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each tile is wired by itself, and every cell is in one."""
    monkeypatch.setattr(wiring, "TILE", 3)
    counted = np.zeros((5, 7))
    for tile in tiles((5, 7)):
        counted[tile] += 1
        np.testing.assert_allclose(
            WIRES.effective(CELLS)[tile],
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

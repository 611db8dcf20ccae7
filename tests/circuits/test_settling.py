"""A settling chip, watched: against another integrator of the same equation."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.integrate import solve_ivp

from ohmostat.circuits.circuit import Circuit
from ohmostat.circuits.design import Design
from ohmostat.circuits.settling import waves

PARTS = {
    "chip.layers": [64, 6, 5, 4], "task.data": "digits", "learning.dtype": "float64",
    "learning.cost": "cross-entropy", "mismatch.conductance": 0.5, "mismatch.capacitance": 0.3,
}  # fmt: skip


def test_waves_are_those_of_the_differential_equation() -> None:
    random = np.random.default_rng(0)
    chip = Circuit(Design.named("digits").replace(PARTS)).fabricate(seed=1)
    leak = chip.neuron.leak
    chip.write({a.name: leak * random.normal(size=(a.rows, a.columns)) / 3 for a in chip.circuit.arrays})
    inputs = random.random((2, 64))
    seen = waves(chip, inputs, points=41)
    assert seen.settled.all() and seen.voltages.shape == (41, 2, 15)
    assert not seen.voltages[0].any()
    for sample, x in enumerate(inputs):
        injected = chip.injected(x)

        def slope(_: float, v: np.ndarray, injected: np.ndarray = injected) -> np.ndarray:
            return chip.blocks.current(v[None], injected)[0] / chip.blocks.capacitance

        true = solve_ivp(slope, seen.time[[0, -1]], np.zeros(15), "LSODA", seen.time, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(seen.voltages[:, sample], true.y.T, atol=2e-4)
    rest = chip.relax(inputs)
    np.testing.assert_allclose(seen.voltages[-1], rest.voltages, atol=1e-4)


def test_a_chip_that_never_settles_is_watched_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    chip = Circuit(Design.named("digits")).fabricate()
    relax = chip.relax
    monkeypatch.setattr(chip, "relax", lambda *args, **options: relax(*args, **options, max_time=1e-12))
    seen = waves(chip, np.ones((1, 64)), points=3)
    assert not seen.settled.any()
    assert seen.time[-1] == pytest.approx(50 * chip.neuron.tau)

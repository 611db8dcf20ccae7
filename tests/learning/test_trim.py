"""Driver trims of the shared family: what they cure, what one trim a neuron leaves, what conductances can."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from ohmostat.circuits.chip import Chip
from ohmostat.circuits.design import Design
from ohmostat.learning.asymmetry import alignment, cosine, diagnosis, objective, symmetry
from ohmostat.learning.data import load
from ohmostat.learning.estimators import adjoint_response, exact_response
from ohmostat.learning.nudges import SquaredError
from ohmostat.learning.probes import Prober
from ohmostat.learning.rules import Gradients, gradients
from ohmostat.learning.training import Trainer
from ohmostat.learning.trim import DriverTrim, driver_gains

Make = Callable[..., Chip]
Inputs = Callable[..., np.ndarray]

ORDER = 16  # Hadamard patterns of the small chip
SHARED = {"chip.family": "shared", "mismatch.driver_gain": 0.3, "mismatch.conductance": 0.5}
COST = SquaredError(np.random.default_rng(1).random((3, 4)), 1.0)


def ep_and_adjoint(chip: Chip, x: np.ndarray) -> tuple[Gradients, Gradients]:
    free = chip.relax(x)
    ep, true = (gradients(chip, x, free, f(free, COST).epsilon) for f in (exact_response, adjoint_response))
    return ep, true


def spread(chip: Chip) -> dict[str, float]:
    """Standard deviation of ln a over all drivers of each array."""
    pairs = chip.circuit.feedback_pairs
    return {
        f.array: float(np.std(np.log(np.concatenate([chip.drivers[f.name], chip.drivers[b.name]]))))
        for f, b in pairs
    }


# -- the trim --------------------------------------------------------------------------------------


@pytest.mark.parametrize("columns", ["virtual-ground", "passive"])
def test_a_trimmed_chip_learns_by_the_true_gradient(make_chip: Make, inputs: Inputs, columns: str) -> None:
    chip, x = make_chip({**SHARED, "chip.columns": columns}), inputs(3)
    assert min(alignment(*ep_and_adjoint(chip, x)).values()) < 0.995
    before = {name: devices.actual.copy() for name, devices in chip.devices.items()}
    level = {f.array: np.log([*chip.drivers[f.name], *chip.drivers[b.name]]).mean()
             for f, b in chip.circuit.feedback_pairs}  # fmt: skip
    trim = DriverTrim(ORDER)
    assert trim.correct(chip) == {}
    assert max(spread(chip).values()) < 1e-9
    np.testing.assert_allclose(list(alignment(*ep_and_adjoint(chip, x)).values()), 1, atol=1e-8)
    for name, devices in chip.devices.items():
        np.testing.assert_array_equal(devices.actual, before[name])
    for f, b in chip.circuit.feedback_pairs:  # what an array's drivers have in common is left
        gains = np.concatenate([chip.drivers[f.name], chip.drivers[b.name]])
        np.testing.assert_allclose(np.log(gains), level[f.array], atol=1e-9)
    assert trim.spent.measurements == ORDER and trim.spent.time > 0 and trim.spent.writes == 0


def test_a_cycle_is_gathered_before_anything_is_trimmed(make_chip: Make) -> None:
    chip, trim = make_chip(SHARED), DriverTrim(5)
    before = {name: gains.copy() for name, gains in chip.drivers.items()}
    for _ in range(3):
        trim.correct(chip)
        for name, gains in before.items():
            np.testing.assert_array_equal(chip.drivers[name], gains)
    trim.correct(chip)
    assert max(spread(chip).values()) < 1e-9


def test_the_noise_of_all_cycles_is_averaged(make_chip: Make) -> None:
    left = []
    for seed in range(10):
        chip = make_chip(SHARED)
        trim = DriverTrim(ORDER, Prober(noise=3e-9, seed=seed, inputs=True))
        found = []
        for _ in range(16):
            trim.correct(chip)
            found.append(max(spread(chip).values()))
        left.append((found[0], found[-1]))
    first, last = np.mean(left, axis=0)
    assert 0.01 < first < 0.3
    assert last == pytest.approx(first / 4, rel=0.4)


@pytest.mark.parametrize("signs", [1.0, -1.0])
def test_planted_gains_are_found(signs: float) -> None:
    rng = np.random.default_rng(0)
    g = rng.standard_normal((7, 9)) * signs ** np.arange(9)
    af, ab = np.exp(0.3 * rng.standard_normal(9)), np.exp(0.3 * rng.standard_normal(7))
    scale = np.exp(np.log(np.concatenate([af, ab])).mean())
    for unit in (1.0, 1e-7):
        found = driver_gains(unit * g * af, unit * (g * ab[:, None]).T)
        np.testing.assert_allclose(found[0], af / scale, rtol=1e-10)
        np.testing.assert_allclose(found[1], ab / scale, rtol=1e-10)


def test_groups_of_drivers_that_no_device_joins_are_found_apart_and_one_that_drives_nothing_is_left() -> None:
    """As a convolution makes them: windows that do not meet, and pixels that no window reads."""
    rng = np.random.default_rng(3)
    where = np.zeros((5, 7), bool)
    where[:2, :3] = where[2:, 3:6] = True
    g, af, ab = (
        rng.random((5, 7)) + 0.1,
        np.exp(0.3 * rng.standard_normal(7)),
        np.exp(0.3 * rng.standard_normal(5)),
    )
    noise = 1e-12 * rng.standard_normal((5, 7))  # also where there are no devices
    found_f, found_b = driver_gains(
        np.where(where, g * af, noise), np.where(where, g * ab[:, None], noise).T, where
    )
    assert found_f[6] == 1.0
    for pre, post in ((slice(0, 3), slice(0, 2)), (slice(3, 6), slice(2, 5))):
        ratio = np.concatenate([found_f[pre] / af[pre], found_b[post] / ab[post]])
        assert ratio == pytest.approx(ratio[0], rel=1e-9)
        assert np.log(np.concatenate([found_f[pre], found_b[post]])).mean() == pytest.approx(0, abs=1e-12)


def test_a_driver_of_dead_devices_gets_a_finite_trim() -> None:
    g = np.random.default_rng(0).standard_normal((4, 5))
    g[:, 2] = 0
    for gains in driver_gains(g, g.T):
        assert np.isfinite(gains).all() and (gains > 0).all()


# -- what less can do ------------------------------------------------------------------------------


def test_one_trim_a_neuron_leaves_a_rate_a_neuron(make_chip: Make, inputs: Inputs) -> None:
    """With matched output drivers: J̃D is symmetric, and inputs and biases learn along the true gradient.
    The devices of shared arrays do not, adding terms of two ends with different rates.
    """
    chip, x = make_chip(SHARED), inputs(3)
    forward1, forward2 = "forward1.forward", "forward2.forward"
    back1, back2 = "forward1.backward", "forward2.backward"
    ratio = chip.drivers[forward2] / chip.drivers[back1]  # the middle layer's two drivers
    chip.trim({forward2: 1 / ratio, back2: 1 / chip.drivers[back2]})
    assert np.std(chip.drivers[forward1]) > 0.1 and np.std(chip.drivers[back1]) > 0.1
    assert symmetry(chip.relax(x)).measure < 0.999
    assert symmetry(chip.relax(x)).after == pytest.approx(1, abs=1e-10)
    ep, true = ep_and_adjoint(chip, x)
    for name in ("forward0", "bias0", "bias1", "bias2"):
        for ours, exact in zip(ep[name].differential, true[name].differential, strict=True):
            assert np.ravel(ours) @ np.ravel(exact) > 0
            assert cosine(ours, exact) == pytest.approx(1, abs=1e-8)
    assert min(alignment(ep, true)[name] for name in ("forward1", "forward2")) < 0.9999


def test_conductances_alone_only_shrink(make_chip: Make) -> None:
    """Steepest descent of the objective: no ratio ``G_ij / G_ji`` moves, no weight grows or turns."""
    chip = make_chip(SHARED)
    ratios = {
        f.array: chip.blocks.weight(f.post, f.pre) / chip.blocks.weight(b.post, b.pre).T
        for f, b in chip.circuit.feedback_pairs
    }
    weights = {name: chip.weight(name).copy() for name in ratios}
    for _ in range(20):
        slopes = objective(chip)[1]
        for name, slope in slopes.items():
            shrunk = chip.weight(name) - 0.5 * slope
            assert (np.abs(shrunk) <= np.abs(chip.weight(name))).all()
            chip.devices[name].actual[0] += -0.5 * slope
        chip.refresh()
    for f, b in chip.circuit.feedback_pairs:
        left = chip.weight(f.array) / weights[f.array]
        assert (left >= 0).all() and (left <= 1).all() and left.min() < 0.5
        ratio = chip.blocks.weight(f.post, f.pre) / chip.blocks.weight(b.post, b.pre).T
        np.testing.assert_allclose(ratio, ratios[f.array], rtol=1e-6)
    found = diagnosis(chip)["forward1"]
    assert found.drivers == found.total > 0 and found.trainable == 0


# -- the chip, and training ------------------------------------------------------------------------


def test_trims_are_checked(make_chip: Make) -> None:
    chip = make_chip(SHARED)
    with pytest.raises(KeyError, match=r"no drivers 'forward9'; it has forward1\.forward"):
        chip.trim({"forward9": np.ones(6)})
    for bad in (np.ones(5), np.zeros(6), np.full(6, np.nan), -np.ones(6)):
        with pytest.raises(ValueError, match="must be 6 finite factors above 0"):
            chip.trim({"forward1.forward": bad})
    with pytest.raises(KeyError, match="none: only the shared family"):
        make_chip().trim({"forward1.forward": np.ones(6)})


@pytest.mark.parametrize("mode", ["trim", "probe"])
def test_training_beside_the_trim(mode: str) -> None:
    design = Design.named("digits").replace(
        {"chip.family": "shared", "mismatch.driver_gain": 0.3, "homeostat.mode": mode, "learning.epochs": 1}
    )
    history = Trainer.from_design(design, load("digits").subset(200, 50), 0).fit()
    found = history[-1].alignment["forward0"]
    assert found > 0.9999 if mode == "trim" else found < 0.995
    assert history[-1].probe_time > 0 and history[-1].probe_energy > 0


def test_a_state_taken_up_goes_on_alike(make_chip: Make) -> None:
    chips = [make_chip(SHARED) for _ in range(2)]
    whole, first, second = (DriverTrim(6, Prober(noise=3e-9, inputs=True)) for _ in range(3))
    for step in range(8):
        whole.correct(chips[0])
        if step == 4:
            second.restore(first.state())
        (first if step < 4 else second).correct(chips[1])
    assert whole.spent == second.spent
    for name, gains in chips[0].drivers.items():
        np.testing.assert_array_equal(gains, chips[1].drivers[name])

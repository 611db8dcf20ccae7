"""The probe controller: what it measures, what that costs, and what its steps do to the real devices."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from ohmostat.circuits.chip import Chip
from ohmostat.circuits.specs import HomeostatSpec
from ohmostat.learning.asymmetry import cosine, objective, weight_angles
from ohmostat.learning.homeostat import SCHEMES, Homeostat, WeightDecay

Make = Callable[..., Chip]
Rebuild = Callable[..., Chip]

PORTS = 15  # of the small chip: 6 + 5 + 4
WIDTH = 10  # of its wider colour, the first and last layer: both colours are probed at once
ORDER = 16  # Hadamard patterns for that
AMPLITUDE = 0.01
SKEWED = {"learning.angle": 70.0, "mismatch.conductance": 0.5}
EXACT = [("one-port", WIDTH), ("hadamard", ORDER)]


def true_skew(chip: Chip) -> dict[str, np.ndarray]:
    """``G_ij - G_ji`` [S] of the actual devices, drivers left out, by forward bank."""
    skew = {}
    for forward, backward in chip.circuit.feedback_pairs:
        back = chip.weight(backward.array)
        skew[forward.name] = chip.weight(forward.array) - (back if backward.transposed else back.T)
    return skew


def flat(arrays: dict[str, np.ndarray]) -> np.ndarray:
    return np.concatenate([arrays[name].ravel() for name in sorted(arrays)])


def relative_error(measured: dict[str, np.ndarray], chip: Chip) -> float:
    true = flat(true_skew(chip))
    return float(np.linalg.norm(flat(measured) - true) / np.linalg.norm(true))


# -- what it measures ------------------------------------------------------------------------------


@pytest.mark.parametrize(("scheme", "cycle"), EXACT)
@pytest.mark.parametrize("start", [0, 7])
def test_a_full_cycle_is_exact(make_chip: Make, scheme: str, cycle: int, start: int) -> None:
    """Wherever in the cycle it begins, and however many cycles."""
    chip = make_chip({**SKEWED, "mismatch.conductance": 1.0, "chip.columns": "passive"})
    homeostat = Homeostat(scheme=scheme)
    assert homeostat.cycle(WIDTH) == cycle
    if start:
        homeostat.asymmetry(chip, start)
    for cycles in (1, 3):
        assert relative_error(homeostat.asymmetry(chip, cycles * cycle), chip) < 1e-10


@pytest.mark.parametrize("ports", [1, 2, 10, 16, 33])
def test_patterns(ports: int) -> None:
    for scheme in ("one-port", "hadamard"):
        homeostat = Homeostat(scheme=scheme, amplitude=0.02)
        cycle = homeostat.cycle(ports)
        probes, power = homeostat.patterns(ports, cycle)
        np.testing.assert_array_equal(homeostat.patterns(ports, cycle - 1, first=1)[0], probes[1:])
        np.testing.assert_allclose(probes.T @ probes, cycle * power * np.eye(ports), atol=1e-15)
        assert np.abs(probes).max() == 0.02
        np.testing.assert_array_equal(homeostat.patterns(ports, cycle, cycle)[0], probes)  # round again
    assert Homeostat(scheme="random").cycle(ports) == 0


def test_random_patterns_are_normal_and_never_repeat() -> None:
    homeostat, twin = Homeostat(scheme="random", seed=3), Homeostat(scheme="random", seed=3)
    first, second = (homeostat.patterns(20, 500, start)[0] for start in (0, 500))
    assert homeostat.patterns(20, 1)[1] == AMPLITUDE**2
    assert first.std() == pytest.approx(AMPLITUDE, rel=0.03)
    assert abs(np.corrcoef(first.ravel(), second.ravel())[0, 1]) < 0.03
    np.testing.assert_array_equal(twin.patterns(20, 500)[0], first)
    other = Homeostat(scheme="random", seed=4)
    assert abs(np.corrcoef(first.ravel(), other.patterns(20, 500)[0].ravel())[0, 1]) < 0.03


@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_measurement_never_reads_a_target(make_chip: Make, scheme: str) -> None:
    chip, blind = make_chip(SKEWED), make_chip(SKEWED)
    rng = np.random.default_rng(0)
    for array in blind.devices.values():
        for plane in (array.target, array.deviation, array.step):
            plane[...] = rng.random(plane.shape)
    seen, unseen = (Homeostat(scheme=scheme).asymmetry(c, 12) for c in (chip, blind))
    for name in seen:
        np.testing.assert_array_equal(seen[name], unseen[name])


def test_it_sees_the_actual_devices(make_chip: Make, rebuilt: Rebuild) -> None:
    """A g+ that conducts more by h adds h to the skew; inputs and biases do not matter."""
    chip, step = make_chip(SKEWED), 3e-7
    before = Homeostat().asymmetry(chip, ORDER)
    for name, at, sign in (("forward1", (0, 1, 2), 1), ("feedback1", (1, 2, 1), 1)):
        after = Homeostat().asymmetry(rebuilt(chip, name, at, step), ORDER)
        changed = after["forward1.forward"] - before["forward1.forward"]
        assert changed[1, 2] == pytest.approx(sign * step, rel=1e-9)
        assert np.count_nonzero(np.abs(changed) > 1e-15) == 1
    for name in ("forward0", "bias1"):
        after = Homeostat().asymmetry(rebuilt(chip, name, (0, 0, 0), step), ORDER)
        np.testing.assert_array_equal(after["forward1.forward"], before["forward1.forward"])


@pytest.mark.parametrize("family", ["twin", "shared"])
def test_sensed_currents_are_the_synapses_alone(make_chip: Make, family: str) -> None:
    """``q = G ξ``, without the neurons' loads, and behind the drivers (their gains do not show)."""
    skew = {"mismatch.driver_gain": 0.3} if family == "shared" else {}
    chip = make_chip({"chip.family": family, "chip.columns": "passive", "mismatch.conductance": 0.5} | skew)
    probes = np.random.default_rng(0).normal(size=(7, PORTS))
    expected = np.zeros((7, PORTS))
    for bank in chip.circuit.banks:
        if bank.pre >= 0:
            g = chip.weight(bank.array)
            g = g.T if bank.transposed else g
            expected[:, chip.blocks.slices[bank.post]] += probes[:, chip.blocks.slices[bank.pre]] @ g.T
    np.testing.assert_allclose(Homeostat().sense(chip, probes), expected, rtol=1e-12, atol=1e-20)
    if family == "twin":
        dense = chip.blocks.dense()
        np.testing.assert_allclose(expected, probes @ dense.T, rtol=1e-12, atol=1e-20)


# -- schemes at equal numbers of measurements ------------------------------------------------------


def mean_square_errors(chip: Chip, scheme: str, count: int) -> float:
    """Mean over starting points or seeds of ``|error|² / |G|²``, both conductances of each pair in ``G``."""
    pairs = chip.circuit.feedback_pairs
    power = sum(np.sum(chip.weight(bank.array) ** 2) for pair in pairs for bank in pair)
    errors = []
    for k in range(ORDER):
        homeostat = Homeostat(scheme=scheme, seed=k)
        if scheme != "random" and k:
            homeostat.asymmetry(chip, k)
        measured = homeostat.asymmetry(chip, count)
        errors.append(np.sum((flat(measured) - flat(true_skew(chip))) ** 2) / power)
    return float(np.mean(errors))


def test_schemes_at_equal_numbers_of_measurements(make_chip: Make) -> None:
    """Random: about width / m. One-port: width / m - 1. Hadamard: no more than that, of its order, as
    cross-talk between layers that do not meet costs nothing. After the cycle nothing is left.
    """
    chip = make_chip(SKEWED)
    counts = (2, 4, 8, WIDTH, 16, 64)
    error = {s: np.array([mean_square_errors(chip, s, m) for m in counts]) for s in SCHEMES}
    np.testing.assert_allclose(error["random"] * counts, WIDTH, rtol=0.5)
    np.testing.assert_allclose(error["one-port"][:3], WIDTH / np.array(counts[:3]) - 1, rtol=0.3)
    assert (error["hadamard"][:3] < 1.2 * (ORDER / np.array(counts[:3]) - 1)).all()
    assert (np.diff(error["hadamard"][:5]) < 0).all() and (np.diff(error["random"]) < 0).all()
    assert (np.diff(error["one-port"][:4]) < 0).all()
    assert (error["hadamard"] < error["random"]).all()
    assert error["one-port"][3] < 1e-20 and error["hadamard"][4] < 1e-20 and error["hadamard"][5] < 1e-20


# -- the sense amplifier ---------------------------------------------------------------------------

NOISE = 3e-9


@pytest.mark.parametrize(
    ("scheme", "count", "expected"),
    [
        ("one-port", WIDTH, 2 * (NOISE / AMPLITUDE) ** 2),
        ("hadamard", ORDER, 2 * (NOISE / AMPLITUDE) ** 2 / ORDER),  # every probe serves every port
        ("hadamard", 4 * ORDER, 2 * (NOISE / AMPLITUDE) ** 2 / (4 * ORDER)),
    ],
)
def test_variance_from_the_amplifiers_noise(
    make_chip: Make, scheme: str, count: int, expected: float
) -> None:
    chip = make_chip(SKEWED)
    homeostat = Homeostat(scheme=scheme, noise=NOISE, seed=1)
    errors = np.array([flat(homeostat.asymmetry(chip, count)) - flat(true_skew(chip)) for _ in range(200)])
    assert np.mean(errors**2) == pytest.approx(expected, rel=0.06)  # 200 x 50 values
    assert abs(errors.mean()) < 4 * np.sqrt(expected / errors.size)
    assert abs(np.corrcoef(errors[0], errors[1])[0, 1]) < 0.5  # fresh at every reading


def test_noise_is_one_draw_a_column_and_reading(make_chip: Make) -> None:
    chip = make_chip(SKEWED)
    homeostat = Homeostat(noise=NOISE)
    silent = Homeostat().sense(chip, np.ones((2000, PORTS)))
    heard = np.concatenate([homeostat.sense(chip, np.ones((1000, PORTS)), k) for k in (0, 1000)]) - silent
    np.testing.assert_allclose(heard.std(axis=0), NOISE, rtol=0.08)
    off = np.corrcoef(heard.T) - np.eye(PORTS)
    assert np.abs(off).max() < 0.1


def test_resolution_of_the_converter(make_chip: Make) -> None:
    chip, step = make_chip(SKEWED), 1e-9
    probes = np.random.default_rng(0).normal(scale=0.1, size=(500, PORTS))
    exact = Homeostat().sense(chip, probes)
    read = Homeostat(resolution=step).sense(chip, probes)
    np.testing.assert_allclose(read / step, np.round(read / step), atol=1e-6)
    error = read - exact
    assert np.abs(error).max() <= 0.5001 * step
    assert error.var() == pytest.approx(step**2 / 12, rel=0.05)
    noisy = Homeostat(resolution=step, noise=NOISE).sense(chip, probes)  # noise comes first
    np.testing.assert_allclose(noisy / step, np.round(noisy / step), atol=1e-6)


def test_a_coarse_converter_is_blind(make_chip: Make) -> None:
    measured = Homeostat(resolution=1e-3).asymmetry(make_chip(SKEWED), ORDER)
    assert not flat(measured).any()


# -- what a step does ------------------------------------------------------------------------------


@pytest.mark.parametrize("sigma", [0.0, 1.0])
def test_mean_step_is_the_gradient_of_the_objective(make_chip: Make, rebuilt: Rebuild, sigma: float) -> None:
    """Of the *actual* conductances, as they were and as programming moves them."""
    chip = make_chip(
        {"learning.angle": 70.0, "mismatch.conductance": sigma, "mismatch.programming": sigma / 3}
    )
    gain, repeats = 1e-4, 40
    homeostat = Homeostat(gain=gain, probes=4000, scheme="random", seed=2)
    slopes = objective(chip)[1]
    moves = []
    for _ in range(repeats):
        moved = rebuilt(chip)
        moved.program(homeostat.correct(moved))
        moves.append(flat({name: moved.weight(name) - chip.weight(name) for name in slopes}))
    target = -0.5 * gain * flat(slopes)
    mean, size = np.mean(moves, axis=0), np.linalg.norm(target)
    standard_error = np.linalg.norm(np.std(moves, axis=0, ddof=1)) / np.sqrt(repeats)
    assert standard_error < 0.02 * size
    assert cosine(mean, target) > 0.999
    assert np.linalg.norm(mean - target) < 1.5 * standard_error  # nothing left over: no bias


@pytest.mark.parametrize(("scheme", "cycle"), EXACT)
def test_step_after_a_full_cycle_is_the_gradient(make_chip: Make, scheme: str, cycle: int) -> None:
    chip = make_chip({**SKEWED, "mismatch.programming": 0.5})
    before = {name: chip.weight(name).copy() for name in chip.devices}
    value, slopes = objective(chip)
    chip.program(Homeostat(gain=0.05, probes=cycle, scheme=scheme).correct(chip))
    for name, weight in before.items():
        expected = -0.025 * slopes[name] if name in slopes else np.zeros_like(weight)
        np.testing.assert_allclose(chip.weight(name) - weight, expected, rtol=1e-9, atol=1e-16)
    assert objective(chip)[0] == pytest.approx(0.81 * value, rel=1e-9)  # (1 - 2 gain)²


STEPS = [("one-port", 4, 3), ("one-port", 7, 2), ("one-port", 40, 1),
         ("hadamard", 4, 4), ("hadamard", 9, 2), ("hadamard", 40, 1)]  # fmt: skip


@pytest.mark.parametrize(("scheme", "probes", "steps"), STEPS)
def test_a_cycle_is_gathered_before_anything_moves(
    make_chip: Make, scheme: str, probes: int, steps: int
) -> None:
    """Then by one gain a step: here by half of the asymmetry, so that none is left. Also where the probes of
    a step do not divide the cycle, or are more than it has.
    """
    chip = make_chip({**SKEWED, "device.g_min": 0.0, "device.g_max": 1e-3})  # no device stops at a limit
    homeostat, start = Homeostat(gain=0.5 / steps, probes=probes, scheme=scheme), objective(chip)[0]
    for _ in range(steps - 1):
        assert homeostat.correct(chip) == {}
    changes = homeostat.correct(chip)
    assert changes.keys() == objective(chip)[1].keys()
    chip.program(changes)
    assert objective(chip)[0] < 1e-20 * start
    assert homeostat.measurements == dict(EXACT)[scheme] + 4 * (6 + 5 + 5 + 4)
    for _ in range(steps - 1):  # and the next cycle begins
        assert homeostat.correct(chip) == {}
    assert homeostat.correct(chip)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_read_out_between_steps_changes_nothing_of_what_they_do(make_chip: Make, scheme: str) -> None:
    chip = make_chip(SKEWED)
    alone, watched = (Homeostat(probes=6, scheme=scheme, noise=NOISE) for _ in range(2))
    for _ in range(4):
        watched.asymmetry(chip, 5)
        expected, found = alone.correct(chip), watched.correct(chip)
        assert found.keys() == expected.keys()
        for name, change in expected.items():
            np.testing.assert_array_equal(found[name], change)
    assert watched.measurements == alone.measurements + 20


def test_a_cycle_never_removes_more_than_all_of_the_asymmetry(make_chip: Make) -> None:
    chip, homeostat = make_chip(SKEWED), Homeostat(gain=0.4, probes=1)
    for _ in range(ORDER):
        chip.program(homeostat.correct(chip))
    left = objective(chip)[0] / objective(make_chip(SKEWED))[0]
    assert left < 1e-3  # the rest: pairs that stopped at a limit


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_shared_array_is_not_moved(make_chip: Make, scheme: str) -> None:
    """Its skew is the drivers': a device's ends ask for opposite steps (physics, section 4: Homeostasis)."""
    chip = make_chip({"chip.family": "shared", "mismatch.driver_gain": 0.3, "mismatch.conductance": 0.5})
    assert objective(chip)[0] > 0
    homeostat = Homeostat(gain=0.1, probes=ORDER, scheme=scheme)
    before = {name: chip.weight(name).copy() for name in chip.devices}
    for _ in range(3):
        chip.program(homeostat.correct(chip))
    for name, weight in before.items():
        np.testing.assert_array_equal(chip.weight(name), weight)


@pytest.mark.parametrize("distribution", ["lognormal", "gaussian"])
def test_commands_move_actual_conductances_by_what_is_wanted(make_chip: Make, distribution: str) -> None:
    """Also where the weight changes sign, on to a device with another gain; a dead device stays."""
    chip = make_chip(
        {"mismatch.conductance": 1.0, "mismatch.distribution": distribution, "device.g_min": 0.0}
    )
    homeostat, rng = Homeostat(), np.random.default_rng(0)
    for name in ("forward1", "feedback2"):
        array, before = chip.devices[name], chip.weight(name).copy()
        wanted = rng.normal(scale=0.5 * np.std(before), size=before.shape)
        live = (array.step > 0).all(axis=0)
        assert live.all() == (distribution == "lognormal")
        command = homeostat.commanded(chip, name, wanted)
        assert np.isfinite(command).all()
        chip.program({name: command})
        moved = chip.weight(name) - before
        crossed = before * chip.weight(name) < 0
        assert (crossed & live).any() and (~crossed & live).any()
        # A command saturates where a gain of 0.05 would need more than g_max.
        inside = live & (array.target < chip.limits[1]).all(axis=0)
        assert inside.sum() > 0.5 * live.size
        np.testing.assert_allclose(moved[inside], wanted[inside], rtol=1e-9, atol=1e-15)


def test_a_chip_at_rest_can_be_moved_either_way(make_chip: Make) -> None:
    chip = make_chip({"mismatch.conductance": 1.0})
    chip.write({"forward1": np.zeros((5, 6))})
    before, wanted = chip.weight("forward1").copy(), np.linspace(-1e-7, 1e-7, 30).reshape(5, 6)
    chip.program({"forward1": Homeostat().commanded(chip, "forward1", wanted)})
    np.testing.assert_allclose(chip.weight("forward1") - before, wanted, rtol=1e-9, atol=1e-18)


# -- runs of the controller alone ------------------------------------------------------------------


@pytest.mark.parametrize("sigma", [0.5, 1.0])
@pytest.mark.parametrize(
    ("scheme", "gain", "probes", "steps"),
    [("hadamard", 0.003, 4, 4000), ("hadamard", 0.1, 32, 200), ("one-port", 0.003, 4, 4000),
     ("random", 0.0005, 8, 8000)],
)  # fmt: skip
def test_it_aligns_the_weights_of_a_mismatched_chip(
    make_chip: Make, sigma: float, scheme: str, gain: float, probes: int, steps: int
) -> None:
    chip = make_chip({"mismatch.conductance": sigma, "chip.layers": [64, 14, 10, 5]}, chip_seed=1)
    assert min(weight_angles(chip).values()) > 15
    start = objective(chip)[0]
    homeostat = Homeostat(gain=gain, probes=probes, scheme=scheme)
    worst = 0.0
    for step in range(steps):
        chip.program(homeostat.correct(chip))
        if step % 50 == 0:
            worst = max(worst, objective(chip)[0])
    assert worst < 1.5 * start
    assert max(weight_angles(chip).values()) < 5
    g_min, g_max = chip.limits
    for array in chip.devices.values():
        slack = 1e-12 * array.deviation
        assert (array.actual >= g_min * array.deviation - slack * g_min).all()
        assert (array.actual <= g_max * array.deviation + slack * g_max).all()


def test_steps_stop_at_the_limits_of_the_devices(make_chip: Make) -> None:
    """Weights that the twin cannot reach: every device ends inside its own limits, and stays there."""
    chip = make_chip({"mismatch.conductance": 1.0, "device.g_max": "12uS"})
    strong = np.where(np.arange(30).reshape(5, 6) % 2, 1.2e-5, -1.2e-5)
    chip.write({"forward1": strong, "feedback1": -strong.T})
    homeostat = Homeostat(gain=0.2, probes=ORDER)
    for _ in range(100):
        chip.program(homeostat.correct(chip))
        for array in chip.devices.values():
            assert (array.actual >= chip.limits[0] * array.deviation * (1 - 1e-12)).all()
            assert (array.actual <= chip.limits[1] * array.deviation * (1 + 1e-12)).all()
            assert (array.target >= chip.limits[0]).all() and (array.target <= chip.limits[1]).all()


def test_random_probes_have_a_floor_that_grows_with_the_gain(make_chip: Make) -> None:
    """Their noise is of the conductances, not of the asymmetry: it does not fade as the weights align."""
    floors = []
    for gain in (0.002, 0.02):
        chip = make_chip({"chip.layers": [64, 14, 10, 5]})  # starts aligned
        homeostat = Homeostat(gain=gain, probes=8, scheme="random")
        for _ in range(1500):
            chip.program(homeostat.correct(chip))
        floors.append(max(weight_angles(chip).values()))
    assert 2 < floors[0] < floors[1] / 1.8


# -- what it costs ---------------------------------------------------------------------------------


def test_measurements_are_counted(make_chip: Make) -> None:
    chip = make_chip(SKEWED)
    for scheme in SCHEMES:
        homeostat = Homeostat(scheme=scheme, probes=7)
        homeostat.asymmetry(chip)
        homeostat.asymmetry(chip, 11)
        assert (homeostat.measurements, homeostat.writes) == (18, 0)


def test_calibration_is_counted_once(make_chip: Make) -> None:
    chip = make_chip(SKEWED)
    homeostat = Homeostat(scheme="random", probes=7)
    columns, pairs = 6 + 5 + 5 + 4, 30 + 20 + 30 + 20  # forward1, forward2, feedback1, feedback2
    for calls in (1, 2, 3):
        homeostat.correct(chip)
        assert homeostat.measurements == 7 * calls + 4 * columns  # g+ and g-, before and after
        assert homeostat.writes == pairs * calls + 2 * pairs


def test_from_spec() -> None:
    spec = HomeostatSpec("probe", 0.01, 9, "random", "20mV", "1nA", "2nA", 3)
    assert Homeostat.from_spec(spec, 5) == Homeostat(0.01, 9, "random", 0.02, 1e-9, 2e-9, 5)
    with pytest.raises(ValueError, match=r"'best'.*random, one-port, hadamard"):
        Homeostat(scheme="best")


# -- the control arm -------------------------------------------------------------------------------


def test_weight_decay_shrinks_the_same_arrays(make_chip: Make) -> None:
    chip = make_chip({**SKEWED, "device.g_min": 0.0})
    before = {name: chip.weight(name).copy() for name in chip.devices}
    angles = weight_angles(chip)
    decay = WeightDecay(0.01)
    for _ in range(10):
        chip.program(decay.correct(chip))
    for name, weight in before.items():
        kept = 0.99**10 if name.startswith(("forward1", "forward2", "feedback")) else 1.0
        np.testing.assert_allclose(chip.weight(name), kept * weight, rtol=1e-9, atol=1e-18)
    assert weight_angles(chip) == pytest.approx(angles)
    assert decay.measurements == 0 and decay.writes == 10 * 100

"""The probe controller: what its steps do to the real devices, and where they end."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from ohmostat.circuits.chip import Chip
from ohmostat.learning.asymmetry import cosine, objective, weight_angles
from ohmostat.learning.gains import AutomaticGain, FixedGain, Gain
from ohmostat.learning.homeostat import Homeostat, WeightDecay
from ohmostat.learning.probes import SCHEMES, Prober

Make = Callable[..., Chip]
Rebuild = Callable[..., Chip]

WIDTH = 10  # of the small chip's wider colour, the first and last layer: both colours are probed at once
ORDER = 16  # Hadamard patterns for that
NOISE = 3e-9
SKEWED = {"learning.angle": 70.0, "mismatch.conductance": 0.5}
EXACT = [("one-port", WIDTH), ("hadamard", ORDER)]


def flat(arrays: dict[str, np.ndarray]) -> np.ndarray:
    return np.concatenate([arrays[name].ravel() for name in sorted(arrays)])


# -- what a step does ------------------------------------------------------------------------------


@pytest.mark.parametrize("sigma", [0.0, 1.0])
def test_mean_step_is_the_gradient_of_the_objective(make_chip: Make, rebuilt: Rebuild, sigma: float) -> None:
    """Of the *actual* conductances, as they were and as programming moves them."""
    chip = make_chip(
        {"learning.angle": 70.0, "mismatch.conductance": sigma, "mismatch.programming": sigma / 3}
    )
    gain, repeats = 1e-4, 40
    homeostat = Homeostat(FixedGain(gain), 4000, Prober("random", seed=2))
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
    chip.program(Homeostat(FixedGain(0.05), cycle, Prober(scheme)).correct(chip))
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
    homeostat, start = Homeostat(FixedGain(0.5 / steps), probes, Prober(scheme)), objective(chip)[0]
    for _ in range(steps - 1):
        assert homeostat.correct(chip) == {}
    changes = homeostat.correct(chip)
    assert changes.keys() == objective(chip)[1].keys()
    chip.program(changes)
    assert objective(chip)[0] < 1e-20 * start
    assert homeostat.spent.measurements == dict(EXACT)[scheme] + 4 * (6 + 5 + 5 + 4)
    for _ in range(steps - 1):  # and the next cycle begins
        assert homeostat.correct(chip) == {}
    assert homeostat.correct(chip)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_read_out_between_steps_changes_nothing_of_what_they_do(make_chip: Make, scheme: str) -> None:
    chip = make_chip(SKEWED)
    alone, watched = (Homeostat(probes=6, prober=Prober(scheme, noise=NOISE)) for _ in range(2))
    for _ in range(4):
        watched.asymmetry(chip, 5)
        expected, found = alone.correct(chip), watched.correct(chip)
        assert found.keys() == expected.keys()
        for name, change in expected.items():
            np.testing.assert_array_equal(found[name], change)
    assert watched.spent.measurements == alone.spent.measurements + 20


def test_who_moves_must_be_one_of_two() -> None:
    with pytest.raises(ValueError, match='moves is "forward"; it must be "both" or "feedback"'):
        Homeostat(moves="forward")


def test_a_cycle_never_removes_more_than_all_of_the_asymmetry(make_chip: Make) -> None:
    chip, homeostat = make_chip(SKEWED), Homeostat(FixedGain(0.4), 1)
    for _ in range(ORDER):
        chip.program(homeostat.correct(chip))
    left = objective(chip)[0] / objective(make_chip(SKEWED))[0]
    assert left < 1e-3  # the rest: pairs that stopped at a limit


def test_the_feedback_alone_comes_all_the_way(make_chip: Make) -> None:
    chip = make_chip(SKEWED | {"homeostat.moves": "feedback", "device.g_max": "1mS"})  # far from limits
    ahead = {forward.array: chip.weight(forward.array).copy() for forward, _ in chip.circuit.feedback_pairs}
    homeostat = Homeostat.from_spec(chip.circuit.design.homeostat, 0)
    homeostat.gain, homeostat.probes = FixedGain(0.5), ORDER
    chip.program(homeostat.correct(chip))
    for forward, backward in chip.circuit.feedback_pairs:
        np.testing.assert_array_equal(chip.weight(forward.array), ahead[forward.array])
        np.testing.assert_allclose(chip.weight(backward.array), ahead[forward.array].T, rtol=1e-9, atol=1e-17)
    pairs = sum(weight.size for weight in ahead.values())
    assert homeostat.spent.writes == 3 * pairs  # a step, and the calibration of both devices


@pytest.mark.parametrize("share", [0.25, 0.8])
def test_whichever_moves_as_much_of_the_asymmetry_goes(make_chip: Make, share: float) -> None:
    left = []
    for moves in ("both", "feedback"):
        chip = make_chip({"learning.angle": 70.0})
        before = objective(chip)[0]
        chip.program(Homeostat(FixedGain(share / 2), ORDER, moves=moves).correct(chip))
        left.append(objective(chip)[0] / before)
    assert left == pytest.approx([(1 - share) ** 2] * 2, rel=1e-9)


@pytest.mark.parametrize("moves", ["both", "feedback"])
@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_shared_array_is_not_moved(make_chip: Make, scheme: str, moves: str) -> None:
    """Its skew is the drivers': a device's ends ask for opposite steps (physics, section 4: Homeostasis)."""
    chip = make_chip({"chip.family": "shared", "mismatch.driver_gain": 0.3, "mismatch.conductance": 0.5})
    assert objective(chip)[0] > 0
    homeostat = Homeostat(FixedGain(0.1), ORDER, Prober(scheme), moves=moves)
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
    homeostat = Homeostat(FixedGain(gain), probes, Prober(scheme))
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
    homeostat = Homeostat(FixedGain(0.2), ORDER)
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
        homeostat = Homeostat(FixedGain(gain), 8, Prober("random"))
        for _ in range(1500):
            chip.program(homeostat.correct(chip))
        floors.append(max(weight_angles(chip).values()))
    assert 2 < floors[0] < floors[1] / 1.8


# -- what it costs ---------------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["loop", "relay"])
def test_nothing_is_measured_where_nothing_faces(make_chip: Make, family: str) -> None:
    homeostat = Homeostat(FixedGain(0.1), 8, Prober("random"))
    assert homeostat.correct(make_chip({"chip.family": family, "chip.layers": [64, 6, 5, 4]})) == {}
    assert homeostat.spent.measurements == 0


def test_measurements_are_counted(make_chip: Make) -> None:
    chip = make_chip(SKEWED)
    for scheme in SCHEMES:
        homeostat = Homeostat(probes=7, prober=Prober(scheme))
        homeostat.asymmetry(chip)
        homeostat.asymmetry(chip, 11)
        assert (homeostat.spent.measurements, homeostat.spent.writes) == (18, 0)


def test_calibration_is_counted_once(make_chip: Make) -> None:
    chip = make_chip(SKEWED)
    homeostat = Homeostat(probes=7, prober=Prober("random"))
    columns, pairs = 6 + 5 + 5 + 4, 30 + 20 + 30 + 20  # forward1, forward2, feedback1, feedback2
    for calls in (1, 2, 3):
        homeostat.correct(chip)
        assert homeostat.spent.measurements == 7 * calls + 4 * columns  # g+ and g-, before and after
        assert homeostat.spent.writes == pairs * calls + 2 * pairs


# -- put down and taken up ------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("gain", [AutomaticGain, lambda: FixedGain(0.2, "falling")], ids=["auto", "falling"])
def test_a_state_taken_up_goes_on_alike(make_chip: Make, scheme: str, gain: Callable[[], Gain]) -> None:
    chips = [make_chip(SKEWED) for _ in range(2)]
    whole, first, second = (Homeostat(gain(), 6, Prober(scheme, noise=NOISE)) for _ in range(3))
    for step in range(14):
        chips[0].program(whole.correct(chips[0]))
        if step == 7:  # two steps into a cycle
            second.restore(first.state())
        chips[1].program((first if step < 7 else second).correct(chips[1]))
    assert whole.spent == second.spent
    for name in chips[0].devices:
        np.testing.assert_array_equal(chips[0].weight(name), chips[1].weight(name))


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
    assert decay.spent.measurements == 0 and decay.spent.writes == 10 * 100

"""What of a chip's asymmetry is trainable and what is fixed, and that the homeostat ends where that says."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from ohmostat.circuits.chip import Chip
from ohmostat.learning.asymmetry import diagnosis, reach
from ohmostat.learning.gains import AutomaticGain, FixedGain, Gain
from ohmostat.learning.homeostat import Homeostat

Make = Callable[..., Chip]

ORDER = 16  # Hadamard patterns of the small chip
SKEWED = {"learning.angle": 70.0, "mismatch.conductance": 0.5}


def stick(chip: Chip, array: str, row: int, column: int, plus: float, minus: float = 1e-8) -> None:
    """Both devices of a pair conduct so much [S] for good."""
    devices = chip.devices[array]
    devices.actual[:, row, column] = plus, minus
    devices.step[:, row, column], devices.deviation[:, row, column] = 0, 1
    chip.refresh()


def skew(chip: Chip) -> np.ndarray:
    return chip.weight("forward1") - chip.weight("feedback1").T


# -- the diagnosis ---------------------------------------------------------------------------------


def test_a_symmetric_chip_has_nothing_to_diagnose(make_chip: Make) -> None:
    for found in diagnosis(make_chip()).values():
        assert (found.total, found.trainable, found.one_sided, found.limits, found.drivers) == (0, 0, 0, 0, 0)


def test_live_twins_are_trainable(make_chip: Make) -> None:
    chip = make_chip(SKEWED)
    found = diagnosis(chip)
    assert found.keys() == {"forward1", "forward2"}
    assert found["forward1"].total == pytest.approx(np.linalg.norm(skew(chip)), rel=1e-12)
    assert found["forward1"].trainable == found["forward1"].total
    assert (found["forward1"].limits, found["forward1"].drivers) == (0, 0)


def test_a_shared_array_has_the_drivers_skew_alone(make_chip: Make) -> None:
    chip = make_chip({"chip.family": "shared", "mismatch.driver_gain": 0.3, "mismatch.conductance": 0.5})
    found = diagnosis(chip)["forward2"]
    gains = chip.drivers["forward2.forward"] - chip.drivers["forward2.backward"][:, None]
    assert found.drivers == found.total == pytest.approx(np.linalg.norm(chip.weight("forward2") * gains))
    assert (found.trainable, found.limits) == (0, 0)


def test_pairs_stuck_apart_are_fixed(make_chip: Make) -> None:
    chip = make_chip({"learning.angle": 70.0})
    stick(chip, "forward1", 1, 2, 5e-6)
    stick(chip, "feedback1", 2, 1, 1e-6)
    found = diagnosis(chip)["forward1"]
    assert found.limits == pytest.approx(4e-6, rel=1e-12)
    assert found.trainable**2 + found.limits**2 == pytest.approx(found.total**2, rel=1e-12)
    rest = skew(chip)
    rest[1, 2] = 0
    assert found.trainable == pytest.approx(np.linalg.norm(rest), rel=1e-12)


def test_a_twin_of_a_stuck_pair_comes_all_the_way(make_chip: Make) -> None:
    chip = make_chip()
    stick(chip, "forward1", 1, 2, 5e-6)
    found = diagnosis(chip)["forward1"]
    assert found.one_sided == found.trainable == found.total == pytest.approx(abs(skew(chip)[1, 2]))
    chip.devices["feedback1"].actual[0, 2, 1] = 1e-8
    chip.devices["feedback1"].step[0, 2, 1] = 0  # its g+ is dead: it cannot come
    chip.refresh()
    found = diagnosis(chip)["forward1"]
    assert found.limits == pytest.approx(5e-6 - 1e-8, rel=1e-9)
    assert found.one_sided == 0


def test_a_feedback_that_moves_alone_must_come_all_the_way(make_chip: Make) -> None:
    chip = make_chip({"learning.angle": 70.0, "homeostat.moves": "feedback"})
    stick(chip, "forward1", 1, 2, 5e-6)  # no matter: nobody asks it to move
    stick(chip, "feedback1", 0, 3, 1e-6)
    found, apart = diagnosis(chip)["forward1"], abs(skew(chip)[3, 0])
    assert (found.one_sided, found.limits) == (0, pytest.approx(apart, rel=1e-12))
    homeostat = Homeostat(FixedGain(0.5), ORDER, moves="feedback")
    chip.program(homeostat.correct(chip))
    assert np.linalg.norm(skew(chip)) == pytest.approx(apart, rel=1e-6)


def test_reach_is_what_the_hardest_commands_do(make_chip: Make) -> None:
    """Also where programming gains let a target run out before its device does, or behind it."""
    changes = {"mismatch.conductance": 1.0, "mismatch.programming": 0.7, "learning.init_scale": 3.0}
    low, high = reach(make_chip(changes), "forward1")
    for sign, end in ((1, high), (-1, low)):
        chip = make_chip(changes)
        chip.program({"forward1": np.full((5, 6), sign * 1.0)})
        np.testing.assert_allclose(chip.weight("forward1"), end, rtol=1e-9, atol=1e-15)
    assert (high - low > 0).all()


# -- the homeostat at the limits -------------------------------------------------------------------


GAINS = {"0.5": FixedGain(0.5), "0.1": FixedGain(0.1), "auto": AutomaticGain()}


@pytest.mark.parametrize("gain", GAINS.values(), ids=GAINS)
def test_it_ends_at_the_nearest_reachable_symmetric_point(make_chip: Make, gain: Gain) -> None:
    """The mean of the two, or what both can reach next to it: twins that meet a limit, or are stuck. Those
    that never can agree end as near as they can.
    """
    chip = make_chip({"mismatch.conductance": 1.0, "device.g_max": "12uS"})
    strong = np.where(np.arange(30).reshape(5, 6) % 2, 1.2e-5, -1.2e-5)
    chip.write({"forward1": strong, "feedback1": 0.3 * strong.T * (1 - 2 * (np.arange(5) % 2))})
    stick(chip, "forward1", 2, 3, 4e-6)
    stick(chip, "feedback1", 1, 0, 1e-6, 3e-6)
    stick(chip, "forward1", 4, 4, 5e-6)
    stick(chip, "feedback1", 4, 4, 1e-8, 2e-6)
    (low_f, high_f), (low_b, high_b) = reach(chip, "forward1"), reach(chip, "feedback1")
    low, high = np.maximum(low_f, low_b.T), np.minimum(high_f, high_b.T)
    meets, mean = low <= high, (chip.weight("forward1") + chip.weight("feedback1").T) / 2
    blocked = (mean < low) | (mean > high)
    assert 5 < blocked.sum() < 25 and not meets[4, 4]
    goal, limits = np.clip(mean, low, high)[meets], diagnosis(chip)["forward1"].limits
    homeostat = Homeostat(gain, ORDER)
    for _ in range(250):
        chip.program(homeostat.correct(chip))
    np.testing.assert_allclose(chip.weight("forward1")[meets], goal, rtol=1e-6, atol=1e-12)
    np.testing.assert_allclose(chip.weight("feedback1").T[meets], goal, rtol=1e-6, atol=1e-12)
    assert np.linalg.norm(skew(chip)) == pytest.approx(limits, rel=1e-6)
    assert skew(chip)[4, 4] == pytest.approx(5e-6 + 2e-6 - 2e-8, rel=1e-6)
    assert diagnosis(chip)["forward1"].trainable < 1e-4 * limits

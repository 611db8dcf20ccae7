"""What a surrogate's size and choice of terms do to what is told of a quantity's importance."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import qmc

from ohmostat.learning.importance import _count, _percentiles, _powers, _pursued, importance


def latin(factors: int, count: int, seed: int) -> np.ndarray:
    found: np.ndarray = 2 * qmc.LatinHypercube(factors, rng=np.random.default_rng(seed)).random(count) - 1
    return found


def test_intervals_hold_what_the_choice_of_terms_may_leave_out() -> None:
    """The second key makes a tenth of the variance, which twelve noisy points do not always show."""
    left_out = 0
    for seed in range(12):
        x = latin(2, 12, seed)
        y = x @ [1, 0.33] + 0.3 * np.random.default_rng(seed).standard_normal(12)
        found = importance(x, y, "ab", replicates=200)
        left_out += found.total[1] == 0
        assert np.all(found.total_interval[:, 1] > found.total_interval[:, 0])
        assert found.total_interval[1, 1] > 0.1
    assert left_out  # of some seed


def test_no_interval_has_no_width() -> None:
    shares = np.tile([1.0, 0.0], (9, 1))  # of draws that all leave the second key out
    none = _percentiles((shares, shares), 0.95, 2)
    assert np.isnan(none).all()
    x = latin(2, 12, 0)
    found = replace(
        importance(x, x @ [1, 0.5], "ab"),
        first=shares[0], total=shares[0], first_interval=none[0], total_interval=none[1],
    )  # fmt: skip
    assert found.lines()[1] == "  a  alone 100 %, in total 100 %"
    words = "0 % (left out by the choice of terms; no interval)"
    assert found.lines()[2] == f"  b  alone {words}, in total {words}"


def test_copies_of_a_point_are_left_out_together() -> None:
    """The pursuit on weights against leaving out each point, with all its copies, by hand."""
    x = latin(2, 30, 3)
    basis = np.column_stack([np.ones(30), x, x**2, x[:, 0] * x[:, 1]])
    y = x @ [1, 0.5] + 0.2 * np.random.default_rng(3).standard_normal(30)
    weights = np.random.default_rng(4).multinomial(30, np.full(30, 1 / 30)).astype(float)
    root = np.sqrt(weights)

    def error(columns: list[int]) -> float:
        part, total = basis[:, columns], 0.0
        for k in np.flatnonzero(weights):
            keep = np.arange(30) != k
            line = np.linalg.lstsq((root[:, None] * part)[keep], (root * y)[keep], rcond=None)[0]
            total += weights[k] * (y[k] - part[k] @ line) ** 2
        return total

    kept = _pursued(basis, y, weights)
    nested = [kept[: n + 1] for n in range(len(kept))]
    assert min(nested, key=error) == kept


def test_the_degree_that_is_proposed_is_one_that_the_points_carry() -> None:
    x = latin(2, 12, 0)
    with pytest.raises(ValueError, match=r"12 points are too few .* degree 9 .* --degree 3'"):
        importance(x, x[:, 0], "ab", degree=9)
    importance(x, x[:, 0] + x[:, 1] ** 2, "ab", degree=3)
    same = np.column_stack([x[:, 0], x[:, 0]])
    with pytest.raises(ValueError, match=r"vary them independently$"):
        importance(same, x[:, 0], "ab", degree=2)


@pytest.mark.parametrize("levels", [[2, 3, 9], [12, 12], [5], [2, 2, 2, 2]])
def test_coefficients_are_counted_without_being_listed(levels: list[int]) -> None:
    for degree in range(1, 6):
        assert _count(levels, degree) == len(_powers(levels, degree))
    assert _count([90] * 8, 9) == 24310

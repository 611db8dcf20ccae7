"""Which factors of a design matter: Sobol indices from a polynomial chaos, and effects one at a time.

``points`` (N, factors) are the levels of the factors that were varied, ``values`` (N, chips) a quantity of
every chip, or (N,) of one. Derivations: ``docs/yield.md``.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..circuits.mismatch import generator
from .quantities import signed

Floats = NDArray[np.float64]
DEGREES = (2, 3)  # tried where none is asked for
TERMS_OF = 3  # points to each term that is kept, at least
PER_COEFFICIENT = 2  # points that a higher degree must have for each of its coefficients


@dataclass(frozen=True)
class Importance:
    """Shares of the variance of a quantity's mean over chips, were all factors uniform over their ranges.

    - ``first``, ``total`` (factors,): Sobol indices of each factor by itself, and with its interactions
    - ``first_interval``, ``total_interval`` (factors, 2): at confidence ``level``; NaN if too few of the
      bootstrap's draws of points determine the surrogate, or if the choice of terms leaves no width
    - ``q2``: share of the points' variance that the surrogate predicts at points left out one by one
    - ``noise``: share of the variance of a single chip that is between chips of one point; NaN of one chip
    - ``mean``, ``variance``: of the surrogate; ``degree``, ``coefficients``, ``points``: its size
    """

    names: tuple[str, ...]
    first: Floats
    total: Floats
    first_interval: Floats
    total_interval: Floats
    q2: float
    noise: float
    mean: float
    variance: float
    degree: int
    coefficients: int
    points: int
    level: float = 0.95

    @property
    def doubt(self) -> str:
        """Why shares mean nothing and what to do, as of a Q² of 0 or below; empty if they can be told."""
        if self.q2 > 0:
            return ""
        known = math.isfinite(self.q2)
        found = (
            f"predicts nothing (Q2 = {self.q2:.3g})" if known else "hangs on single points (Q2 is unknown)"
        )
        return (
            f"the polynomial of degree {self.degree} {found}: shares are not told; run more points"
            f"{_lower(self.degree - 1)}"
        )

    def lines(self, quantity: str = "the quantity") -> list[str]:
        """For a terminal, the factor that matters most first."""
        if self.doubt:
            return [f"What matters to {quantity} is not told: {self.doubt}."]
        width = max(map(len, self.names))
        order = np.argsort(-self.total, kind="stable")
        lines = [f"What share of the variance of {quantity} each key makes, alone and with its interactions:"]
        lines += [
            f"  {self.names[k]:<{width}}  alone {self._share(self.first[k], self.first_interval[k])}, "
            f"in total {self._share(self.total[k], self.total_interval[k])}"
            for k in order
        ]
        lines.append(
            f"This is read from a polynomial of degree {self.degree} with {self.coefficients} coefficients, "
            f"fitted to {self.points} points; at points left out it predicts Q2 = {self.q2:.2f} of the "
            "variance (1: all of it)."
        )
        if not math.isnan(self.noise):
            lines.append(
                f"{100 * self.noise:.0f} % of a single chip's variance is between chips of one point: no key "
                "makes it."
            )
        return lines

    def _share(self, value: float, interval: Floats) -> str:
        low, high = 100 * interval
        ends = f" ({100 * self.level:g} % interval {low:.0f} to {high:.0f} %)"
        if math.isnan(low):
            ends = "" if value else " (left out by the choice of terms; no interval)"
        return f"{100 * value:.0f} %{ends}"


def importance(
    points: ArrayLike, values: ArrayLike, names: Sequence[str], *, degree: int | None = None,
    ranges: ArrayLike | None = None, level: float = 0.95, replicates: int = 500, seed: int = 0,
) -> Importance:  # fmt: skip
    """Sobol indices of the mean over chips, from a polynomial chaos fitted by least squares (Sudret 2008,
    doi:10.1016/j.ress.2007.04.002).

    Factors are taken as independent and uniform over ``ranges`` (factors, 2); if None, over the levels swept.
    ``degree`` is the largest total degree; if None, 2, or 3 where points suffice (two for a coefficient) and
    Q² is higher, and of its terms those that predict best. No factor has a higher degree than its distinct
    levels determine. Intervals: percentiles of a bootstrap that draws points, and chooses terms in each draw.

    Raises:
        ValueError: shapes that differ, values that are not finite or do not vary, a factor with one level,
            points outside the ranges, too few points for the coefficients, or points that do not tell them
            apart.
    """
    x, y, noise = _checked(points, values, names)
    scaled = _scaled(x, names, ranges)
    levels = [len(np.unique(column)) for column in x.T]
    model = _chosen(scaled, y, levels, degree)
    first, total = _indices(model.coefficients[None], model.powers)
    variance = float((model.coefficients[1:] ** 2).sum())
    weights = generator(seed, "importance").multinomial(len(y), np.full(len(y), 1 / len(y)), replicates)
    drawn = (_drawn if model.candidates is None else _chosen_anew)(model, y, weights.astype(float))
    of_first, of_total = _percentiles(drawn, level, scaled.shape[1])
    return Importance(
        names=tuple(names),
        first=first[0],
        total=total[0],
        first_interval=of_first,
        total_interval=of_total,
        q2=model.q2,
        noise=noise / (variance + noise),
        mean=float(model.coefficients[0]),
        variance=variance,
        degree=int(model.powers.sum(axis=1).max()),
        coefficients=len(model.powers),
        points=len(y),
        level=level,
    )


def _checked(points: ArrayLike, values: ArrayLike, names: Sequence[str]) -> tuple[Floats, Floats, float]:
    """Points (N, factors), means over chips (N,), and the pooled variance within points, NaN of one chip."""
    x, cells = np.asarray(points, dtype=float), np.asarray(values, dtype=float)
    cells = cells[:, None] if cells.ndim == 1 else cells
    if x.ndim != 2 or cells.ndim != 2 or len(x) != len(cells) or x.shape[1] != len(names) or not cells.size:
        raise ValueError(
            f"points {x.shape}, values {cells.shape} and {len(names)} names do not fit; "
            "give (points, factors), (points, chips) and a name for each factor"
        )
    bad = np.flatnonzero(~(np.isfinite(x).all(axis=1) & np.isfinite(cells).all(axis=1)))
    if len(bad):
        raise ValueError(f"point {bad[0]} has levels or values that are not finite; leave such points out")
    noise = float(cells.var(axis=1, ddof=1).mean()) if cells.shape[1] > 1 else math.nan
    means = cells.mean(axis=1)
    if np.ptp(means) <= 1e-12 * np.abs(means).max():
        raise ValueError(f"all points have the same mean, {means[0]:.6g}: no factor matters to it")
    return x, means, noise


def _scaled(x: Floats, names: Sequence[str], ranges: ArrayLike | None) -> Floats:
    """Levels on [-1, 1]."""
    ends = np.stack([x.min(axis=0), x.max(axis=0)], axis=1) if ranges is None else np.asarray(ranges, float)
    if ends.shape != (x.shape[1], 2):
        raise ValueError(f"ranges have shape {ends.shape}; give (factors, 2): {(x.shape[1], 2)}")
    for name, column, (low, high) in zip(names, x.T, ends, strict=True):
        if np.ptp(column) == 0 or not low < high:
            raise ValueError(f"{name} has one level only, {column[0]:.6g}; vary it, or leave it out")
        if column.min() < low or column.max() > high:
            raise ValueError(f"{name} has levels outside its range, {low:.6g} to {high:.6g}; widen the range")
    scaled: Floats = 2 * (x - ends[:, 0]) / (ends[:, 1] - ends[:, 0]) - 1
    return scaled


# -- the surrogate ---------------------------------------------------------------------------------


class _Model(NamedTuple):
    """Degrees ``powers`` (M, factors) of the products of polynomials, their values ``basis`` (N, M) at the
    points, and the fitted ``coefficients`` (M,); ``candidates``, the model that its terms were chosen from.
    """

    powers: NDArray[np.int64]
    basis: Floats
    coefficients: Floats
    q2: float
    candidates: _Model | None = None


def _chosen(scaled: Floats, y: Floats, levels: Sequence[int], degree: int | None) -> _Model:
    """The model of the degree asked for, whole; or of the one of ``DEGREES`` that predicts best, thinned."""
    lowest = _model(scaled, y, levels, DEGREES[0] if degree is None else degree)
    if degree is not None:
        return lowest
    models = [lowest]
    for higher in DEGREES[1:]:
        if len(y) >= PER_COEFFICIENT * _count(levels, higher):
            models.append(_model(scaled, y, levels, higher))
    return _thinned(max(models, key=lambda model: model.q2), y)


def _thinned(model: _Model, y: Floats) -> _Model:
    """The terms that predict best, added one by one as each takes most of what is left (orthogonal matching
    pursuit, Pati et al. 1993), as many as make Q² largest.

    All coefficients of degree 2 in eight factors are half as many as ninety points: fitted together they fit
    the noise, and each resampling of the points another.
    """
    kept = _pursued(model.basis, y, np.ones(len(y)))
    best = _fitted(model.powers[kept], model.basis[:, kept], y)
    return best._replace(candidates=model) if len(kept) > 1 and best.q2 > model.q2 else model


def _pursued(basis: Floats, y: Floats, weights: Floats) -> list[int]:
    """The columns of ``basis`` that the pursuit keeps where point i is there ``weights[i]`` times; Q² leaves
    out all copies of a point at once.
    """
    columns, left = np.sqrt(weights)[:, None] * basis, np.ones(len(y))
    residuals, spanned = np.sqrt(weights) * y, np.empty((len(y), 0))
    best, lost, kept = 1, math.inf, [0]
    while len(kept) <= min(len(y) // TERMS_OF, basis.shape[1]):
        new = columns[:, kept[-1]]
        for _ in range(2):  # Gram and Schmidt, twice for the digits that the first time loses
            new = new - spanned @ (spanned.T @ new)
        if (size := float(np.linalg.norm(new))) < 1e-9 * np.linalg.norm(columns[:, kept[-1]]) or not size:
            break
        new /= size
        spanned, residuals, left = (
            np.column_stack([spanned, new]),
            residuals - new * (new @ residuals),
            left - new**2,
        )
        if left.min() > 1e-9 and (error := float(((residuals / left) ** 2).sum())) < lost:
            best, lost = len(kept), error
        gain = np.abs(columns.T @ residuals)
        gain[kept] = -1
        kept.append(int(gain.argmax()))
    return kept[:best]


def _model(scaled: Floats, y: Floats, levels: Sequence[int], degree: int) -> _Model:
    if degree < 1:
        raise ValueError(f"degree is {degree}; allowed: 1 or more")
    count = _count(levels, degree)
    if len(y) <= count:
        raise ValueError(
            f"{len(y)} points are too few for the {count} coefficients of degree {degree} in "
            f"{len(levels)} factors, and one more to check them; sweep {count + 1} points or more, "
            f"or fewer factors{_lower(_carried(scaled, levels, degree - 1))}"
        )
    powers = _powers(levels, degree)
    basis = _basis(scaled, powers)
    if np.linalg.matrix_rank(basis) < count:
        raise ValueError(
            f"the points do not tell the {count} coefficients of degree {degree} apart, some factors having "
            "moved together; sweep points that vary them independently"
            + _lower(_carried(scaled, levels, degree - 1))
        )
    return _fitted(powers, basis, y)


def _carried(scaled: Floats, levels: Sequence[int], degree: int) -> int:
    """The highest degree up to ``degree`` whose coefficients the points tell; 0 if none is."""
    for lower in range(degree, 0, -1):
        count = _count(levels, lower)
        if count < len(scaled) and np.linalg.matrix_rank(_basis(scaled, _powers(levels, lower))) == count:
            return lower
    return 0


def _lower(degree: int) -> str:
    return f", or give a lower degree ('ohmostat yield --degree {degree}')" if degree > 0 else ""


def _count(levels: Sequence[int], degree: int) -> int:
    """How many rows :func:`_powers` has, which may be too many to list."""
    ways = [1]  # of each total degree
    for n in levels:
        most = min(degree, n - 1)
        ways = [sum(ways[max(0, k - most) : k + 1]) for k in range(min(degree, len(ways) - 1 + most) + 1)]
    return sum(ways)


def _fitted(powers: NDArray[np.int64], basis: Floats, y: Floats) -> _Model:
    """Least squares, and Q² in closed form."""
    coefficients: Floats = np.asarray(np.linalg.lstsq(basis, y, rcond=None)[0], dtype=float)
    orthonormal = np.linalg.qr(basis)[0]
    left = 1 - (orthonormal**2).sum(axis=1)  # of 1, less the hat matrix' diagonal
    residuals = y - basis @ coefficients
    alone = bool((left < 1e-9).any())  # a point without which a coefficient is lost
    q2 = math.nan if alone else float(1 - ((residuals / left) ** 2).sum() / ((y - y.mean()) ** 2).sum())
    return _Model(powers, basis, coefficients, q2)


def _powers(levels: Sequence[int], degree: int) -> NDArray[np.int64]:
    """Degrees of every product up to the total ``degree``, the constant first; a factor of n levels tells
    n - 1 degrees apart.
    """
    choices = itertools.product(*(range(min(degree, n - 1) + 1) for n in levels))
    return np.array(sorted((p for p in choices if sum(p) <= degree), key=lambda p: (sum(p), p)))


def _basis(scaled: Floats, powers: NDArray[np.int64]) -> Floats:
    """Products of Legendre polynomials (N, M), each of variance 1 for factors uniform on [-1, 1]."""
    degrees = np.arange(powers.max() + 1)
    single = np.polynomial.legendre.legvander(scaled, int(degrees[-1])) * np.sqrt(2 * degrees + 1)
    columns = [single[:, k, powers[:, k]] for k in range(powers.shape[1])]
    products: Floats = np.prod(columns, axis=0)
    return products


def _indices(coefficients: Floats, powers: NDArray[np.int64]) -> tuple[Floats, Floats]:
    """First-order and total indices (R, factors) from rows of coefficients (R, M)."""
    parts = coefficients**2
    varies = powers > 0
    alone = varies & (varies.sum(axis=1) == 1)[:, None]
    variance = parts[:, varies.any(axis=1)].sum(axis=1, keepdims=True)
    variance[variance == 0] = np.nan  # of a drawing of points all of one value
    return parts @ alone / variance, parts @ varies / variance


def _drawn(model: _Model, y: Floats, weights: Floats) -> tuple[Floats, Floats]:
    """Indices (draws, factors), first-order and total, of draws of points with replacement; NaN of draws that
    do not determine the model.
    """
    gram = np.einsum("rn,ni,nj->rij", weights, model.basis, model.basis, optimize=True)
    determined = np.linalg.matrix_rank(gram, hermitian=True) == len(model.powers)
    right = (weights * y) @ model.basis
    coefficients = np.full(right.shape, np.nan)
    solved = np.linalg.solve(gram[determined], right[determined][:, :, None])
    coefficients[determined] = solved[:, :, 0]
    return _indices(coefficients, model.powers)


def _chosen_anew(model: _Model, y: Floats, weights: Floats) -> tuple[Floats, Floats]:
    """As :func:`_drawn`, with the terms chosen anew in every draw."""
    assert model.candidates is not None
    basis = model.candidates.basis
    coefficients = np.zeros((len(weights), basis.shape[1]))
    for row, drawn in zip(coefficients, weights, strict=True):
        kept, root = _pursued(basis, y, drawn), np.sqrt(drawn)
        row[kept] = np.linalg.lstsq(root[:, None] * basis[:, kept], root * y, rcond=None)[0]
    return _indices(coefficients, model.candidates.powers)


def _percentiles(drawn: tuple[Floats, Floats], level: float, factors: int) -> Floats:
    """Intervals (2, factors, 2) of first-order and total indices; NaN where fewer than half of the draws tell
    them, or where they have no width.
    """
    ends, outside = np.full((2, factors, 2), np.nan), (1 - level) / 2
    for found, indices in zip(ends, drawn, strict=True):
        told = indices[np.isfinite(indices).all(axis=1)]
        if len(told) >= len(indices) / 2:
            found[:] = np.quantile(told, [outside, 1 - outside], axis=0).T
    ends[ends[:, :, 0] == ends[:, :, 1]] = np.nan
    return ends


# -- one factor at a time --------------------------------------------------------------------------


@dataclass(frozen=True)
class Effect:
    """Change of a quantity's mean over ``chips`` when ``name`` goes from ``start`` to ``end``, all else at
    the base point; ``low`` and ``high`` are the ends of its paired interval at confidence ``level``.
    """

    name: str
    start: float
    end: float
    change: float
    low: float
    high: float
    chips: int
    level: float = 0.95

    def words(self, quantity: str = "mean") -> str:
        """A sentence."""
        from .yields import shown

        change, low, high = (signed(quantity, value) for value in (self.change, self.low, self.high))
        ends = f"from {shown(self.name, self.start)} to {shown(self.name, self.end)}"
        interval = f"{100 * self.level:g} % interval {low} to {high}, {self.chips} chips"
        return f"{self.name} {ends} changes {quantity} by {change} ({interval})."


def effects(
    points: ArrayLike, values: ArrayLike, names: Sequence[str], *, base: int = 0, level: float = 0.95
) -> list[Effect]:
    """Effects of a one-at-a-time sweep: every point but ``base`` differs from it in one factor.

    Chip k of every point is the same chip, so that its differences ``d_k`` are free of what sets chips
    apart: ``mean(d) ± t sd(d)/sqrt(n)``, t of n - 1 degrees of freedom. Pairs with NaN are left out.

    Raises:
        ValueError: shapes that differ, a point that differs in no factor or in several, or fewer than two
            chips.
    """
    x, cells = np.asarray(points, dtype=float), np.asarray(values, dtype=float)
    if x.ndim != 2 or cells.ndim != 2 or len(x) != len(cells) or x.shape[1] != len(names):
        raise ValueError(f"points {x.shape}, values {cells.shape} and {len(names)} names do not fit")
    if not 0 <= base < len(x):
        raise ValueError(f"base is {base}; allowed: 0 to {len(x) - 1}, a point's number")
    others = (k for k in range(len(x)) if k != base)
    return [_effect(x, cells, names, base, k, level) for k in others]


def _effect(x: Floats, cells: Floats, names: Sequence[str], base: int, k: int, level: float) -> Effect:
    from scipy.stats import t

    moved = np.flatnonzero(x[k] != x[base])
    if len(moved) != 1:
        raise ValueError(
            f"point {k} differs from the base, point {base}, in {len(moved)} factors; "
            "vary one at a time, or use importance() for a sweep that varies them together"
        )
    difference = cells[k] - cells[base]
    difference = difference[np.isfinite(difference)]
    n, factor = len(difference), int(moved[0])
    if n < 2:
        raise ValueError(f"point {k} has {n} chips in common with the base; an interval takes two or more")
    change = float(difference.mean())
    half = float(t.ppf((1 + level) / 2, n - 1) * difference.std(ddof=1) / math.sqrt(n))
    ends = float(x[base, factor]), float(x[k, factor])
    return Effect(names[factor], *ends, change, change - half, change + half, n, level)

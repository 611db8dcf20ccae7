"""Yield: which chips meet their requirements, what share, and how far a level may go before too few do.

Chips pass or fail; arrays are (points, chips), a point being one setting of the design, and chip k of every
point the same chip seed, unless said otherwise. Derivations: ``docs/yield.md``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from ..circuits.mismatch import generator
from ..circuits.units import closest, did_you_mean, format_quantity
from .probit import Counts, Flags, Floats, fit, likelihood_interval, transition

_REQUIREMENT = re.compile(r"\s*(?P<quantity>[A-Za-z][\w./-]*)\s*(?P<relation>[<>=!≤≥]+)\s*(?P<limit>.*?)\s*")
_NUMBER = re.compile(
    r"(?P<number>[+-]?(?=[0-9.])[0-9]*\.?[0-9]*(?:[eE][+-]?[0-9]+)?)\s*(?P<suffix>[^\W\d_][\w/Ω°]*|%|)"
)


@dataclass(frozen=True)
class Requirement:
    """``quantity >= limit`` or ``quantity <= limit``, the limit in SI; ``unit`` is for display."""

    quantity: str
    relation: str
    limit: float
    unit: str = ""

    @classmethod
    def parse(cls, text: str, units: Mapping[str, str] | None = None) -> Requirement:
        """Read ``"accuracy >= 0.9"`` or ``"inference_energy <= 1nJ"``; per cent are hundredths.

        ``units`` names the units of quantities; a limit on one of them must then be in that unit.

        Raises:
            ValueError: the text is no requirement, its limit no number, or in another unit.
        """
        example = 'write it as "accuracy >= 0.9" or "inference_energy <= 1nJ"'
        form = _REQUIREMENT.fullmatch(text)
        if form is None:
            raise ValueError(f'"{text}" is no requirement; {example}')
        quantity, relation = form["quantity"], {"≥": ">=", "≤": "<="}.get(form["relation"], form["relation"])
        if relation not in (">=", "<="):
            raise ValueError(f'"{text}" compares with "{relation}"; allowed: >= and <=; {example}')
        try:
            limit, unit = _read_limit(form["limit"])
        except ValueError as error:
            raise ValueError(f'"{text}": the limit {error}; {example}') from None
        needed = (units or {}).get(quantity, unit)
        if unit != needed:
            found = f'is in "{unit}"' if unit else "has no unit"
            meant = f'a limit in "{needed}"' if needed else "a plain number"
            raise ValueError(f'"{text}": the limit {found}; {quantity} needs {meant}')
        return cls(quantity, relation, limit, unit)

    def accepts(self, values: ArrayLike) -> Flags:
        """Which values meet it; NaN never does."""
        array = np.asarray(values, dtype=float)
        return array >= self.limit if self.relation == ">=" else array <= self.limit

    def __str__(self) -> str:
        return f"{self.quantity} {self.relation} {format_quantity(self.limit, self.unit)}"


def _read_limit(text: str) -> tuple[float, str]:
    """A finite number in SI, and its unit. Raises ValueError that goes on from "the limit"."""
    form = _NUMBER.fullmatch(text)
    if form is None:
        raise ValueError(f'"{text}" is not a number with or without a unit')
    number, suffix = form["number"], form["suffix"]
    if suffix == "m" and "e" not in number.lower():
        raise ValueError(f'"{text}" reads as milli and as metres; write {number}e-3 or {number}e0m')
    if suffix in ("%", "rad"):  # "rad" would be ronto-"ad"
        value, unit = float(number) / (100 if suffix == "%" else 1), suffix.strip("%")
    else:
        import quantiphy  # deferred: only reading text needs it

        try:
            quantity = quantiphy.Quantity(number + suffix)
        except quantiphy.QuantiPhyError:
            raise ValueError(f'"{text}" is not a number with or without a unit') from None
        value, unit = float(quantity), str(quantity.units)
    if not math.isfinite(value):
        raise ValueError(f'"{text}" is not finite')
    return value, unit


def meets(quantities: Mapping[str, ArrayLike], requirements: Sequence[Requirement]) -> Flags:
    """Which chips (points, chips) meet every requirement.

    Raises:
        ValueError: no requirement, an unknown quantity, or arrays of different shapes.
    """
    if not requirements:
        raise ValueError("no requirement is given: every chip would pass; give at least one")
    passes = None
    for requirement in requirements:
        name = requirement.quantity
        if name not in quantities:
            hint = did_you_mean(closest(name, quantities))
            raise ValueError(f'unknown quantity "{name}"{hint}; known: {", ".join(sorted(quantities))}')
        accepted = requirement.accepts(quantities[name])
        if passes is not None and accepted.shape != passes.shape:
            raise ValueError(f"{name} has shape {accepted.shape}, and others {passes.shape}; give one shape")
        passes = accepted if passes is None else passes & accepted
    assert passes is not None
    return passes


# -- one level -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Proportion:
    """``passed`` of ``total`` chips, and the interval of yields that this leaves at confidence ``level``."""

    passed: int
    total: int
    low: float
    high: float
    level: float = 0.95

    @property
    def estimate(self) -> float:
        """The share that passed."""
        return self.passed / self.total

    def __str__(self) -> str:
        interval = f"({100 * self.level:g} %: {self.low:.2f} to {self.high:.2f})"
        return f"{self.passed}/{self.total} = {self.estimate:.2f} {interval}"


def proportion(passed: int, total: int, level: float = 0.95) -> Proportion:
    """Yield with its exact two-sided interval (Clopper and Pearson 1934): the yields for which neither so
    few nor so many passing chips are rarer than ``(1 - level)/2``. It covers at least ``level``.
    """
    if not 0 <= passed <= total or total < 1:
        raise ValueError(f"{passed} of {total} chips is no proportion; give 0 <= passed <= total, total >= 1")
    from scipy.stats import binomtest

    ends = binomtest(passed, total).proportion_ci(_share(level, "confidence level"), method="exact")
    return Proportion(passed, total, float(ends.low), float(ends.high), level)


def chips_to_certify(yield_: float, level: float = 0.95) -> int:
    """Chips that must all pass before the exact one-sided lower bound on the yield reaches ``yield_``.

    n of n chips pass with probability ``Y^n``, so the bound is the Y at which that is ``1 - level``, and
    ``n = ceil(ln(1 - level) / ln(yield_))``: 29 for 90 %, 59 for 95 %, 299 for 99 %, all at 95 % confidence.
    """
    needed = math.log1p(-_share(level, "confidence level")) / math.log(_share(yield_, "yield"))
    return max(1, math.ceil(needed * (1 - 1e-12)))  # a quotient that is whole may round up


def _share(value: float, name: str) -> float:
    if not 0 < value < 1:
        raise ValueError(f"{name} is {value}; allowed: above 0, below 1")
    return value


# -- a curve over levels ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Limit:
    """How far a level may go for a yield: the ``largest`` level that gives it on a curve that falls, the
    smallest on one that rises. Nothing is extrapolated: beyond the levels swept (``swept``), ``x``, ``low``
    and ``high`` are infinite. No chip failing, or all, leaves no interval: NaN.
    """

    yield_: float
    x: float
    low: float
    high: float
    level: float
    swept: tuple[float, float]
    largest: bool = True

    @property
    def inside(self) -> bool:
        """Whether the limit is one of the levels swept, or between them."""
        return math.isfinite(self.x)

    @property
    def reached(self) -> bool:
        """Whether any level that was swept gives the yield."""
        return self.x > -math.inf if self.largest else self.x < math.inf

    def words(self, name: str = "level") -> str:
        """One line."""
        goal, (low, high) = f"{100 * self.yield_:g} % yield", self.swept
        word, interval = "largest" if self.largest else "smallest", ""
        if not math.isnan(self.low):
            ends = f"{_level(self.low, self.swept)} to {_level(self.high, self.swept)}"
            interval = f" ({100 * self.level:g} %: {ends})"
        else:
            interval = f" (no interval: {'no chip fails' if self.reached else 'every chip fails'})"
        if self.inside:
            return f"{word} {name} with {goal}: {self.x:.3g}{interval}"
        if self.reached:
            return f"{goal} at every {name} swept, {low:.4g} to {high:.4g}: the {word} is not among them{interval}"
        return f"{goal} at no {name} swept, {low:.4g} to {high:.4g}{interval}"


def _level(x: float, swept: tuple[float, float]) -> str:
    if math.isfinite(x):
        return f"{x:.3g}"
    return f"below {swept[0]:.4g}" if x < 0 else f"above {swept[1]:.4g}"


@dataclass(frozen=True)
class YieldCurve:
    """Probit regression of passing on a level: ``P(pass | x) = Φ((x50 - x)/w) = Φ(a + b x)``.

    - ``levels``, ``passed``, ``total`` (P,): the distinct levels swept, rising, with their chips
    - ``line``: a and b; ``lines`` (R, 2): those of the bootstrap's replicates
    - ``sharp``: the chips at lower and higher levels separate but for one level at most, so that the
      likelihood has no maximum in w; w is then ``probit.SHARPEST`` of the levels' spacing there
    - ``chips``: in a point; ``paired``: the same ones at every point
    """

    levels: Floats
    passed: Counts
    total: Counts
    line: Floats
    sharp: bool
    lines: Floats
    chips: int
    paired: bool
    level: float = 0.95

    @classmethod
    def fit(
        cls, levels: ArrayLike, passes: ArrayLike, *, level: float = 0.95, resample: str = "chips",
        replicates: int = 1000, seed: int = 0,
    ) -> YieldCurve:  # fmt: skip
        """Maximum likelihood over all points ``levels`` (P,) and chips ``passes`` (P, chips).

        The bootstrap draws chips with replacement: ``resample="chips"`` the same for all points, for chip
        seeds that are shared by them; ``"levels"`` for each point anew. Points of equal level are pooled.

        Raises:
            ValueError: shapes that differ, a level that is not finite, or fewer than two distinct levels.
        """
        x, flags = np.asarray(levels, dtype=float), np.asarray(passes, dtype=bool)
        _share(level, "confidence level")
        if flags.ndim != 2 or x.shape != flags.shape[:1] or 0 in flags.shape:
            raise ValueError(
                f"levels {x.shape} and passes {flags.shape} do not fit; (points,) and (points, chips)"
            )
        distinct, group = np.unique(x, return_inverse=True)
        if len(distinct) < 2 or not np.isfinite(distinct).all():
            raise ValueError(
                f"a curve needs two finite levels at least, and these are {distinct}; sweep more"
            )
        counts, chips = flags.sum(axis=1), flags.shape[1]
        pool = np.equal.outer(group, np.arange(len(distinct))).astype(np.int64)  # (points, P)
        random = generator(seed, "yield", resample)
        if resample == "chips":
            drawn = random.multinomial(chips, np.full(chips, 1 / chips), replicates) @ flags.T.astype(
                np.int64
            )
        elif resample == "levels":
            drawn = random.binomial(chips, counts / chips, (replicates, len(x)))
        else:
            raise ValueError(f'resample is "{resample}"; allowed: "chips" | "levels"')
        passed, total = counts @ pool, chips * pool.sum(axis=0)
        fitted, sharp = fit(distinct, np.vstack([passed, drawn @ pool]), total)
        return cls(distinct, passed, total, fitted[0], bool(sharp[0]), fitted[1:], chips,
                   resample == "chips", level)  # fmt: skip

    @property
    def x50(self) -> float:
        """Level at which half the chips pass; infinite or NaN if no level is."""
        a, b = self.line
        return float(-a / b) if b else float("nan") if math.isfinite(a) else float(a)

    @property
    def width(self) -> float:
        """w, in the level's unit: the standard deviation of the level at which a chip begins to fail, and
        below 0 where yield rises with the level. Infinite if yield does not depend on it.
        """
        return float(-1 / self.line[1]) if self.line[1] else math.inf

    @property
    def rising(self) -> bool:
        """Whether yield rises with the level."""
        return bool(self.line[1] > 0)

    def at(self, x: ArrayLike) -> Floats:
        """The fitted yield at levels ``x``."""
        return _yield(self.line, np.asarray(x, dtype=float))

    def band(self, x: ArrayLike) -> tuple[Floats, Floats]:
        """The bootstrap's percentile interval of the yield at levels ``x`` (n,)."""
        outside = (1 - self.level) / 2
        curves = _yield(self.lines[:, None, :], np.asarray(x, dtype=float))
        low, high = np.quantile(curves, [outside, 1 - outside], axis=0)
        return low, high

    def largest(self, yield_: float) -> Limit:
        """The largest level at which the curve still gives ``yield_`` (the smallest, if it rises), with the
        bootstrap's percentile interval; if the curve is ``sharp``, that of the likelihood, which resampling
        chips that all agree would understate.
        """
        from scipy.special import ndtri

        goal = float(ndtri(_share(yield_, "yield")))
        swept = (float(self.levels[0]), float(self.levels[-1]))
        x = float(_reach(self.line, goal, swept, self.rising))
        if not np.isfinite(self.line).all():
            low = high = math.nan
        elif self.sharp:
            ends = likelihood_interval(self.levels, self.passed, self.total, goal, self.level)
            low, high = min(ends[0], x), max(ends[1], x)
        else:
            outside = (1 - self.level) / 2
            reach = _reach(self.lines, goal, swept, self.rising)  # infinities are not to be interpolated
            low, high = np.quantile(reach, [outside, 1 - outside], method="inverted_cdf").tolist()
        return Limit(yield_, x, low, high, self.level, swept, not self.rising)


def _yield(line: Floats, x: Floats) -> Floats:
    from scipy.special import ndtr

    curve: Floats = ndtr(line[..., 0] + line[..., 1] * x)
    return curve


def _reach(lines: Floats, goal: float, swept: tuple[float, float], rising: bool) -> Floats:
    """The last level in ``swept`` at which ``a + b x`` is at least ``goal``, going up; the first, if
    ``rising``. Infinite where it is beyond: +inf or -inf by the side on which it would have to be.
    """
    a, b = lines[..., 0], lines[..., 1]
    start, end = (a + b * x >= goal for x in swept)
    x = (goal - a) / np.where(b == 0, np.nan, b)
    if rising:
        return np.where(start, -np.inf, np.where(end, x, np.inf))
    return np.where(end, np.inf, np.where(start, x, -np.inf))


def summary(name: str, curve: YieldCurve, target: float) -> list[str]:
    """Lines for a terminal: the yield at every level of ``name``, and how far it may go for ``target``."""
    lines = [
        f"yield at {name} = {x:.4g}: {proportion(int(passed), int(total), curve.level)}"
        for x, passed, total in zip(curve.levels, curve.passed, curve.total, strict=True)
    ]
    runs, same = int(curve.total.sum()), f"the same {curve.chips} chips at {len(curve.levels)} levels"
    fitted = f"fitted over {same if curve.paired else f'{runs} chips'}"
    certify = f"to certify {100 * target:g} % takes {chips_to_certify(target, curve.level)} faultless chips at a level"
    lines.append(f"{curve.largest(target).words(name)}, {fitted}; {certify}")
    if curve.sharp:
        edge = transition(curve.levels, curve.passed[None], curve.total)
        lines.append(
            f"yield changes too fast for these levels, around {edge.centre[0]:.3g}: the curve's width is set, "
            "not fitted; sweep more levels there"
        )
    return lines

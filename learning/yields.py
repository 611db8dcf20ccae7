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
from ..circuits.specs import KEYS
from ..circuits.units import closest, did_you_mean, format_quantity
from .probit import Counts, Flags, Floats, fit, likelihood_interval, profile, transition
from .quantities import SHARE, quantity_of

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
            ValueError: the text is no requirement, its limit no number, in another unit, or outside the range
                of its quantity, which every chip, or none, would meet.
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
        if outside := _outside(quantity, limit, "%" in form["limit"]):
            raise ValueError(f'"{text}": {outside}')
        return cls(quantity, relation, limit, unit)

    def accepts(self, values: ArrayLike) -> Flags:
        """Which values meet it; NaN never does."""
        array = np.asarray(values, dtype=float)
        return array >= self.limit if self.relation == ">=" else array <= self.limit

    def __str__(self) -> str:
        return f"{self.quantity} {self.relation} {format_quantity(self.limit, self.unit)}"


def _outside(quantity: str, limit: float, hundredths: bool) -> str:
    """What is wrong with a limit that no value of the quantity comes to, and the remedy; "" if nothing is."""
    span = quantity_of(quantity).range
    if span is None or limit in span:
        return ""
    meant = span == SHARE and 1 < limit <= 100 and not hundredths
    remedy = f"write {limit:g}% or {limit / 100:g}" if meant else "give one inside"
    return f"the limit is outside {span.describe()}, where {quantity} always is; {remedy}"


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

    def words(self, what: str = "chips") -> str:
        """A sentence, of so many chips or runs."""
        ends = f"{100 * self.low:.0f} to {100 * self.high:.0f} %"
        share = f"{100 * self.estimate:.0f} % ({100 * self.level:g} % interval {ends})"
        return f"{self.passed} of {self.total} {what} pass, {share}"

    def __str__(self) -> str:
        return self.words()


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


def shows(passed: int, total: int, yield_: float, level: float = 0.95) -> bool | None:
    """Whether ``passed`` of ``total`` chips show a yield: True where the exact one-sided lower bound at
    confidence ``level`` (above 0.5) reaches ``yield_``, False where the upper bound stays below it, None
    where neither does: too few chips to tell.
    """
    bounds = proportion(passed, total, 2 * level - 1)  # whose ends are the one-sided bounds
    if bounds.low * (1 + 1e-12) >= yield_:  # a bound that is reached exactly may round down
        return True
    return False if bounds.high < yield_ else None


def undetermined(passed: ArrayLike, total: ArrayLike, yield_: float, level: float = 0.95) -> bool:
    """Whether no chip failed at any level, and none has the chips that certify ``yield_``."""
    all_pass, most = np.array_equal(passed, np.broadcast_to(total, np.shape(passed))), int(np.max(total))
    return all_pass and most < chips_to_certify(yield_, level)


def _share(value: float, name: str) -> float:
    if not 0 < value < 1:
        raise ValueError(f"{name} is {value}; allowed: above 0, below 1")
    return value


# -- a curve over levels ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Limit:
    """How far a level may go for a yield: the ``largest`` level that gives it on a curve that falls, the
    smallest on one that rises. Nothing is extrapolated: beyond the levels swept (``swept``), ``x``, ``low``
    and ``high`` are infinite. No chip failing, or all, leaves no interval: NaN. ``sharp``: as of the curve,
    so that ``x`` follows from a width that was set. ``few``: no chip failed, of too few to certify the yield.
    """

    yield_: float
    x: float
    low: float
    high: float
    level: float
    swept: tuple[float, float]
    largest: bool = True
    sharp: bool = False
    few: bool = False

    @property
    def determined(self) -> bool:
        """Whether the levels tell ``x``: it is inside, on a curve that was fitted, and an end of its interval
        is inside too.
        """
        return self.inside and not self.sharp and not (self.low == -math.inf and self.high == math.inf)

    @property
    def inside(self) -> bool:
        """Whether the limit is one of the levels swept, or between them."""
        return math.isfinite(self.x)

    @property
    def reached(self) -> bool:
        """Whether any level that was swept gives the yield."""
        return self.x > -math.inf if self.largest else self.x < math.inf

    def words(self, name: str = "level") -> str:
        """A sentence."""
        goal, (low, high) = f"{100 * self.yield_:g} % yield", (shown(name, end) for end in self.swept)
        if self.few:
            return (
                f"At every {name} that was swept, {low} to {high}, no chip failed; the yield is not "
                f"determined: {goal} takes {chips_to_certify(self.yield_, self.level)} chips at a level"
            )
        if self.inside and not self.determined:
            end = "largest" if self.largest else "smallest"
            return f"The {end} {name} with {goal} is not determined {self._interval(name)}"
        if self.inside:
            level = f"{name} = {shown(name, self.x, 2)}"
            far = f"up to {level}" if self.largest else f"from {level} on"
            return f"{goal} is kept {far} {self._interval(name)}"
        if self.reached:
            found = f"{goal} is kept at every {name} that was swept, {low} to {high}"
            return f"{found}; where it ends is not found {self._interval(name)}"
        return f"{goal} is kept at no {name} that was swept, {low} to {high} {self._interval(name)}"

    def _interval(self, name: str) -> str:
        if math.isnan(self.low):
            return f"(no interval, since {'no chip fails' if self.reached else 'every chip fails'})"
        ends = dict.fromkeys(self._end(name, end) for end in (self.low, self.high))
        outside = "below the swept levels to above them"
        found = outside if self.low == -math.inf and self.high == math.inf else " to ".join(ends)
        return f"({100 * self.level:g} % interval {found})"

    def _end(self, name: str, x: float) -> str:
        if math.isfinite(x):
            return shown(name, x, 2)
        return f"{'below' if x < 0 else 'above'} the swept levels"


def shown(name: str, x: float, digits: int = 4) -> str:
    """A level of a key of the design with its unit (of anything else, without), to so many digits."""
    unit = getattr(KEYS.get(name), "unit", "")
    return format_quantity(float(f"{x:.{digits}g}"), unit) if unit else f"{x:.{digits}g}"


@dataclass(frozen=True)
class YieldCurve:
    """Probit regression of passing on a level: ``P(pass | x) = Φ((x50 - x)/w) = Φ(a + b x)``.

    - ``levels``, ``passed``, ``total`` (P,): the distinct levels swept, rising, with their chips
    - ``line``: a and b
    - ``sharp``: the chips at lower and higher levels separate but for one level at most, so that the
      likelihood has no maximum in w; w is then ``probit.SHARPEST`` of the levels' spacing there
    - ``chips``: in a point; ``paired``: the same ones at every point
    - ``resampled`` (R, P): the bootstrap's counts; ``best`` (R,): the largest log-likelihood of each
    """

    levels: Floats
    passed: Counts
    total: Counts
    line: Floats
    sharp: bool
    chips: int
    paired: bool
    resampled: Counts
    best: Floats
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
        passed, total = counts @ pool, chips * pool.sum(axis=0)
        resampled = _resampled(flags, resample, replicates, seed) @ pool
        lines, sharp, _ = fit(distinct, passed[None], total)
        best = fit(distinct, resampled, total)[2]
        paired = resample == "chips"
        return cls(distinct, passed, total, lines[0], bool(sharp[0]), chips, paired, resampled, best, level)

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
        from scipy.special import ndtr

        a, b = self.line
        curve: Floats = ndtr(a + b * np.asarray(x, dtype=float))
        return curve

    def largest(self, yield_: float) -> Limit:
        """The largest level at which the curve still gives ``yield_`` (the smallest, if it rises).

        Its interval holds the levels that the likelihood ratio does not refute
        (:func:`probit.likelihood_interval <ohmostat.learning.probit.likelihood_interval>`). What the ratio
        may reach by chance is asked of the bootstrap, and is at least the quantile of χ².
        """
        from scipy.special import ndtri
        from scipy.stats import chi2

        goal = float(ndtri(_share(yield_, "yield")))
        swept, (a, b) = (float(self.levels[0]), float(self.levels[-1])), self.line
        crossing = float((goal - a) / b) if b else math.copysign(math.inf, a - goal)
        low, high = math.nan, math.nan
        if math.isfinite(a):
            sign, allowed = 1 if self.rising else -1, float(chi2.ppf(self.level, 1))
            if b and not self.sharp:
                lost = self.best - profile(self.levels, self.resampled, self.total, goal, crossing, sign)
                allowed = max(allowed, 2 * float(np.quantile(lost, self.level)))
            low, high = likelihood_interval(self.levels, self.passed, self.total, goal, sign, allowed)
            low, high = min(low, crossing), max(high, crossing)
        x, low, high = (_within(end, swept) for end in (crossing, low, high))
        few = undetermined(self.passed, self.total, yield_, self.level)
        return Limit(yield_, x, low, high, self.level, swept, not self.rising, self.sharp, few)


def _resampled(passes: Flags, resample: str, replicates: int, seed: int) -> Counts:
    """Chips that pass (replicates, points) when chips are drawn with replacement."""
    random, (points, chips) = generator(seed, "yield", resample), passes.shape
    if resample == "chips":
        drawn = random.multinomial(chips, np.full(chips, 1 / chips), replicates)
        return drawn @ passes.T.astype(np.int64)
    if resample == "levels":
        return random.binomial(chips, passes.mean(axis=1), (replicates, points))
    raise ValueError(f'resample is "{resample}"; allowed: "chips" | "levels"')


def _within(x: float, swept: tuple[float, float]) -> float:
    """``x``, infinite if it lies outside the levels swept."""
    return -math.inf if x < swept[0] else math.inf if x > swept[1] else x


def summary(name: str, curve: YieldCurve, target: float) -> list[str]:
    """Lines for a terminal: the yield at every level of ``name``, and how far it may go for ``target``."""
    lines = [
        f"{name} = {shown(name, x)}: {proportion(int(passed), int(total), curve.level)}"
        for x, passed, total in zip(curve.levels, curve.passed, curve.total, strict=True)
    ]
    same = f"the same {curve.chips} chips at {len(curve.levels)} levels"
    fitted = same if curve.paired else f"{int(curve.total.sum())} chips at {len(curve.levels)} levels"
    lines.append(f"{curve.largest(target).words(name)}.")
    if math.isfinite(curve.line[0]):  # else all chips pass, or none does
        lines.append(f"This is read from a curve fitted over {fitted}.")
    if curve.sharp:
        centre = float(transition(curve.levels, curve.passed[None], curve.total).centre[0])
        lines.append(
            f"Near {name} = {shown(name, centre, 2)} the yield changes too fast for these levels: the "
            "curve's width is set, not fitted. Sweep more levels there."
        )
    faultless = chips_to_certify(target, curve.level)
    sure = f"{100 * target:g} % at a level, with {100 * curve.level:g} % confidence"
    lines.append(f"To certify {sure}, {faultless} chips must all pass there.")
    return lines

"""Diodes that hold the nodes of a passive network: between each node and two sources, one to either side.

A diode `above` a node takes current out of it beyond the barrier ``high``, one `below` feeds it beneath the
barrier ``low``; with the characteristic ``D`` of a diode the node loses

    i(v) = D(v - high) - D(low - v)                            [A]

    ideal       no current below 0 V, no voltage above it: ``low <= v <= high``
    shockley    D(u) = Is (exp(u / (n Vt)) - 1)
    measured    D(u) is a monotone cubic through measured points (PCHIP; Fritsch and Carlson 1980), and
                straight beyond the last of them

One that a node does not have has the saturation current 0 (``measured``: counts 0 times; ``ideal``: its
barrier is at infinity). Where the drive of a node would take it to u without its diodes, it settles at
``s = f(u)``, the one solution of ``load (u - s) = i(s)``, and ``f'(u) = load / (load + i'(s))``.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .neurons import above_zero

Array = NDArray[Any]

LAWS = {"ideal": 3, "shockley": 4, "measured": 5}  # the kernels' numbers, which import no Numba here
NO_CURVE = np.zeros((5, 1))


@dataclass(frozen=True)
class Clamps:
    """The diodes of N nodes: barriers ``low``, ``high`` (N,) [V], saturation currents ``below``, ``above``
    (N,) [A] (``measured``: how often each counts), ``thermal`` = n Vt [V], and a measured ``curve``
    (:func:`curve_through`).
    """

    kind: str
    low: Array
    high: Array
    below: Array
    above: Array
    thermal: float = 0.02585
    curve: Array = field(default_factory=lambda: NO_CURVE)

    def __post_init__(self) -> None:
        if self.kind not in LAWS:
            raise ValueError(f"diodes are {self.kind!r}; they must be one of {', '.join(LAWS)}")
        if np.any(self.low > self.high):
            raise ValueError("a node's low barrier lies above its high one; part the two [V]")

    @property
    def law(self) -> int:
        """As the kernels know it."""
        return LAWS[self.kind]

    @property
    def analytic(self) -> bool:
        """Whether complex voltages, and so complex nudges, have a meaning."""
        return self.kind == "shockley"

    def take(self, nodes: Array) -> Clamps:
        """Those of some ``nodes`` alone, in that order."""
        return replace(
            self, **{name: getattr(self, name)[nodes] for name in ("low", "high", "below", "above")}
        )

    def current(self, v: Array) -> tuple[Array, Array]:
        """``i(v)`` [A] and ``i'(v)`` [S] of voltages (..., N). Ideal diodes, which have no law of current,
        conduct nothing inside their barriers, and there infinitely well where they hold the node.
        """
        if self.kind == "ideal":
            held = (v.real >= self.high) | (v.real <= self.low)
            return np.zeros_like(v), np.where(held, np.inf, 0.0).astype(v.real.dtype)
        out, steep = self._diode(np.where(self.above > 0, v - self.high, 0))
        into, steeper = self._diode(np.where(self.below > 0, self.low - v, 0))
        current = self.above * out - self.below * into
        slope = self.above * steep + self.below * steeper
        return current.astype(v.dtype, copy=False), slope.astype(v.dtype, copy=False)

    def slopes(self, v: Array, load: Array) -> Array:
        """``f' = load / (load + i'(v))`` (..., N), kept above 0 so that ``1 / f'`` stays finite."""
        steep = self.current(v)[1]
        slope = load / (load + steep)
        return above_zero(slope.astype(v.dtype, copy=False))

    def held(self, v: Array) -> Array:
        """Voltages as ideal diodes hold them; others hold by their currents alone."""
        return np.clip(v, self.low, self.high).astype(v.dtype) if self.kind == "ideal" else v

    def balance(self, v: Array, current: Array) -> Array:
        """What is left of the ``current`` [A] into each node at ``v`` once its diodes have taken theirs."""
        if self.kind != "ideal":
            return current - self.current(v)[0]
        left = np.where(v >= self.high, np.minimum(current, 0), current)
        left = np.where(v <= self.low, np.maximum(left, 0), left)
        return left

    def _diode(self, u: Array) -> tuple[Array, Array]:
        if self.kind == "measured":
            return along(self.curve, u)
        with np.errstate(over="ignore"):  # a trial step far beyond a barrier: no current is too large
            grown = np.exp(u / self.thermal)
        return grown - 1, grown / self.thermal


def curve_through(volts: ArrayLike, amperes: ArrayLike) -> Array:
    """The characteristic through measured points, as its pieces (5, k): where each begins [V], and the
    coefficients of its cubic in ``u - begin``, the highest power first.

    At least two points, of rising voltage and current that does not fall; no current at 0 V (which must lie
    within them), or the diode would be a source.

    Raises:
        ValueError: they are none of this.
    """
    from scipy.interpolate import PchipInterpolator  # deferred: few networks have measured diodes

    u, i = np.asarray(volts, np.float64), np.asarray(amperes, np.float64)
    if u.ndim != 1 or u.shape != i.shape or len(u) < 2 or not (np.isfinite(u) & np.isfinite(i)).all():
        raise ValueError(f"{u.size} voltages and {i.size} currents: give two or more finite pairs")
    if (np.diff(u) <= 0).any() or (np.diff(i) < 0).any():
        k = int(np.flatnonzero((np.diff(u) <= 0) | (np.diff(i) < 0))[0])
        raise ValueError(
            f"after ({u[k]:g} V, {i[k]:g} A) comes ({u[k + 1]:g} V, {i[k + 1]:g} A): voltages must rise, and "
            "currents must not fall"
        )
    if not u[0] <= 0 <= u[-1]:
        raise ValueError(f"points from {u[0]:g} V to {u[-1]:g} V: 0 V must lie within them")
    try:
        with np.errstate(all="ignore"):
            smooth = PchipInterpolator(u, i)
        joined = bool(np.isfinite(smooth.c).all())
    except ValueError:  # slopes beyond all numbers
        joined = False
    if not joined:
        raise ValueError("points lie so close to each other that no curve joins them; leave some out")
    if abs(at_rest := float(smooth(0.0))) > 1e-6 * np.abs(i).max():
        raise ValueError(f"{at_rest:g} A at 0 V: a diode that no voltage drives must conduct nothing")
    ends = smooth.derivative()(u[[0, -1]])
    first = np.array([-np.inf, 0, 0, ends[0], i[0]])  # straight, reckoned from the first point
    last = np.array([u[-1], 0, 0, ends[1], i[-1]])
    return np.column_stack([first, np.vstack([u[:-1], smooth.c]), last])


def along(curve: Array, u: Array) -> tuple[Array, Array]:
    """Current and slope of a measured ``curve`` at ``u``: the readable reference of the kernels."""
    begins = np.append(curve[0, 1], curve[0, 1:])  # the first piece is reckoned from the first point
    piece = np.searchsorted(curve[0], u, side="right") - 1
    a, b, c, d = curve[1:, piece]
    x = u - begins[piece]
    return ((a * x + b) * x + c) * x + d, (3 * a * x + 2 * b) * x + c

"""How far a homeostat moves on what it has measured: fixed and scheduled gains, and the automatic one.

A pair's asymmetry before cycle k be ``a_k``, measured as ``y_k = a_k + n_k``. Moving both of its conductances
towards each other by a gain γ, or the feedback's alone by 2γ, leaves ``a_{k+1} = a_k - K y_k + w_k`` with the
*share* ``K = 2γ``; ``w`` is what learning adds, ``n`` the noise of probes and sense amplifiers. Any K from 0
to 1 is stable.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from ..circuits.specs import HomeostatSpec
from ..simulator.blocks import Array
from .probes import branch

MOST = 0.5  # where both conductances of a pair move, half of the asymmetry each removes all of it
LEAST_PACE = 0.1  # a small share follows its estimates by no less than this


@dataclass(frozen=True)
class Move:
    """What is known when an array's next move is due.

    ``skew`` (n_post, n_pre) [S] as measured, in so many training ``steps``; ``pace``: present learning rate
    over the first; ``drive``: port voltages [V] of the running samples on both sides, (batch, n_post) and
    (batch, n_pre), or None where nothing runs.
    """

    array: str
    skew: Array
    steps: int = 1
    pace: float = 1.0
    drive: tuple[Array, ...] | None = None


class Gain(Protocol):
    """Chooses the gain of an array's next move."""

    def choose(self, move: Move) -> float:
        """Half the share (0 to 0.5) of the measured skew that the array's move takes away."""

    def state(self) -> dict[str, Array]:
        """What it has learned so far, for a checkpoint."""

    def restore(self, state: Mapping[str, Array]) -> None:
        """Take up a :meth:`state`."""


@dataclass
class FixedGain:
    """``gain`` a step, and at most 0.5 a move, times a schedule.

    ``constant``. ``rate``: as the learning rate, for what learning adds falls with it (where noise limits,
    the best share is ``√(Q/R)``, and ``√Q`` goes as the rate). ``falling``: ``K_n = K_0 / (1 + n K_0)``, the
    filter of a constant (Q = 0), whose error after n cycles is that of their mean.
    """

    gain: float = 0.25
    schedule: str = "constant"
    moves: dict[str, int] = field(default_factory=dict, repr=False)

    def choose(self, move: Move) -> float:
        gain = min(self.gain * move.steps, MOST)
        made = self.moves.get(move.array, 0)
        self.moves[move.array] = made + 1
        if self.schedule == "rate":
            return gain * min(move.pace, 1.0)
        return gain / (1 + 2 * gain * made) if self.schedule == "falling" else gain

    def state(self) -> dict[str, Array]:
        return {name: np.array(made) for name, made in self.moves.items()}

    def restore(self, state: Mapping[str, Array]) -> None:
        self.moves = {name: int(made) for name, made in state.items()}


@dataclass
class AutomaticGain:
    """The share that makes successive measurements uncorrelated: that of the Kalman filter.

    With ``P = <a²>`` and ``R = <n²>``, the share that leaves least asymmetry is ``K* = P / (P + R)``.
    Neither need be known: ``<y_{k+1} y_k> = P - K (P + R)``, hence

        K* = K + <y_{k+1} y_k> / <y_k²>,

    the innovations of an optimal filter being white (Kailath 1968; tuning by them: Mehra 1970). The means
    are not over pairs, but over the currents ``Y s`` and ``Yᵀ s`` that the measured skew would make with the
    running samples' voltages: what learning adds is of low rank and lies along them, so that it spoils
    gradients far more than noise of the same size, which is spread over all directions.

    The share follows by ``max(K, 0.1)`` of the correction, so that an estimate's own noise is averaged over
    about as many cycles as a filter of share K remembers. It watches one cycle before it moves. One share for
    each array, bounded by 1 (a gain of 0.5).
    """

    share: dict[str, float] = field(default_factory=dict)
    _last: dict[str, Array] = field(default_factory=dict, repr=False)

    def choose(self, move: Move) -> float:
        name, last = move.array, self._last.get(move.array)
        self._last[name] = move.skew
        if last is not None:
            before, now = _currents(last, move.drive), _currents(move.skew, move.drive)
            power = float(np.vdot(before, before))
            correlation = float(np.vdot(now, before)) / power if power else 0.0
            share = self.share.get(name)
            share = correlation if share is None else share + max(share, LEAST_PACE) * correlation
            self.share[name] = min(max(share, 0.0), 1.0)
        return MOST * self.share.get(name, 0.0)

    def state(self) -> dict[str, Array]:
        shares = {f"share/{name}": np.array(share) for name, share in self.share.items()}
        return shares | {f"last/{name}": skew for name, skew in self._last.items()}

    def restore(self, state: Mapping[str, Array]) -> None:
        self.share = {name: float(share) for name, share in branch(state, "share").items()}
        self._last = branch(state, "last")


def _currents(skew: Array, drive: tuple[Array, ...] | None) -> Array:
    """Currents [A] of a skew with the samples' voltages on either side; itself [S] where none run."""
    if drive is None or not len(drive[0]):
        return skew.ravel()
    post, pre = drive
    return np.concatenate([(pre @ skew.T).ravel(), (post @ skew).ravel()])


def make_gain(spec: HomeostatSpec) -> Gain:
    """The gain that a design's ``[homeostat]`` section describes."""
    return AutomaticGain() if spec.schedule == "auto" else FixedGain(spec.gain, spec.schedule)

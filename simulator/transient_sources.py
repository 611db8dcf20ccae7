"""The sources in a transient: when they have corners, and what they say from one to the next."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .equations import Drive, Equations
from .waveforms import PiecewiseLinear, Pulse

STRAIGHT = (Pulse, PiecewiseLinear)  # waveforms, between their corners
SHORTEST = 1e-14  # step, of the whole transient

DriveAt = Callable[[float], Drive]


class Sources:
    """Those of a circuit, up to ``stop`` [s]; all ``straight`` if they are straight lines between corners."""

    def __init__(self, equations: Equations, stop: float) -> None:
        self.equations, self.stop = equations, stop
        self._waveforms = [w for bank in equations.banks for w in bank.waveforms.values()]
        self.straight = all(isinstance(w, STRAIGHT) for w in self._waveforms)

    def corners(self) -> list[float]:
        """Times [s] of their corners, those that only rounding separates as one; and the end."""
        corners: list[float] = []
        for t in sorted({t for w in self._waveforms for t in w.breakpoints(self.stop)}):
            apart = min(t - (corners[-1] if corners else 0.0), self.stop - t)
            if apart > 10.0 * SHORTEST * self.stop:
                corners.append(t)
        return [*corners, self.stop]

    def between(self, begin: float, end: float) -> DriveAt:
        """The sources between two corners; at these, a source may have jumped already, or not yet."""
        inside = [begin + 4.0 * float(np.spacing(begin)), end - 4.0 * float(np.spacing(end))]
        if not self.straight:
            return lambda t: self.equations.drive(min(max(t, inside[0]), inside[1]))
        first, last = map(self.equations.drive, inside)
        rise, known = last.constant - first.constant, last.known - first.known

        def straight(t: float) -> Drive:
            s = (t - begin) / (end - begin)
            return Drive(first.constant + s * rise, first.size, first.known + s * known, t)

        return straight

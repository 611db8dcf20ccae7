"""Third-order backward differences: ``dy/dt = (11 y - 18 y' + 9 y'' - 2 y''') / 6h`` after equal steps h.

They damp whatever decays by itself, however long the step, so long as it turns by less than 86° (Hairer and
Wanner 1996, Solving Ordinary Differential Equations II, section V.2). :class:`Past` holds y', y'' and y'''.
"""

from __future__ import annotations

from typing import NamedTuple

from ..simulator.blocks import Array

NOW = 11 / 6  # the weight of y itself


class Past(NamedTuple):
    """The last three values of y, the latest first, all of one shape: ``h dy/dt = NOW y - known``."""

    last: Array
    second: Array
    third: Array

    @classmethod
    def at_rest(cls, y: Array) -> Past:
        """Ever since, nothing has moved."""
        return cls(y, y, y)

    @property
    def known(self) -> Array:
        """``3 y' - 3/2 y'' + y'''/3``."""
        return 3 * self.last - 1.5 * self.second + self.third / 3

    @property
    def ahead(self) -> Array:
        """Where y goes next, on the parabola through the three."""
        return 3 * (self.last - self.second) + self.third

    def then(self, y: Array) -> Past:
        """One step later."""
        return Past(y, self.last, self.second)

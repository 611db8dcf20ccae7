"""Where in a transient a switch changes: its law jumps there, and no step may lead across."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from .devices import Array
from .equations import Equations
from .transient_steps import Point


class Switches:
    """The switches of a circuit, each with a control that turns it on above a threshold.

    A step may end where a control is nearer to its threshold than its allowed error, still on the side from
    which it comes; the next step then starts with the switch changing.
    """

    def __init__(self, equations: Equations) -> None:
        self._found = [
            (bank.terminals[1], equations.parameters(k)["vt"])
            for k, bank in enumerate(equations.banks)
            if bank.kind == "switch"
        ]

    def passed(self, begin: Point, end: Point, weight: Array) -> float:
        """The share of a step that ends near the first change; infinite if no switch has changed.

        The controls are taken as straight lines, which shorter steps make true. ``weight`` (B, size) are the
        allowed errors.
        """
        share = np.inf
        for first, last, near in self._distances(begin, end, weight):
            changed = (np.abs(first) > near) & ((first > 0.0) != (last > 0.0))
            if changed.any():
                way = (np.abs(first) - near / 2.0) / np.abs(first - last)
                share = min(share, float(way[changed].min()))
        return share

    def reached(self, begin: Point, end: Point, weight: Array) -> bool:
        """Whether a step has led some control near its threshold."""
        return any(
            bool(((np.abs(first) > near) & (np.abs(last) <= near)).any())
            for first, last, near in self._distances(begin, end, weight)
        )

    def _distances(self, begin: Point, end: Point, weight: Array) -> Iterator[tuple[Array, Array, Array]]:
        """Of the controls (B, k) above their thresholds, at both ends of a step; and what counts as near."""
        if self._found:
            before, after, allowed = (
                np.pad(x, ((0, 0), (1, 1)), constant_values=ends)
                for x, ends in (
                    (begin.x, (0.0, begin.time)),
                    (end.x, (0.0, end.time)),
                    (weight, (0.0, 0.0)),
                )
            )  # with ground and the time, as terminals count
        for (a, b), threshold in self._found:
            yield (
                before[:, a] - before[:, b] - threshold,
                after[:, a] - after[:, b] - threshold,
                allowed[:, a] + allowed[:, b],
            )

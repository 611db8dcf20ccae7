"""A chip that answers a nudge linearly: what is left of a finite nudge without its curvature."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from ..circuits.equilibrium import Equilibrium
from ..circuits.periphery import Nudge
from ..simulator import relaxation
from ..simulator.blocks import Array


@dataclass(frozen=True)
class Linearised(Equilibrium):
    """Free equilibria whose circuit is that of small signals, ``J̃ Δs + I = 0``.

    ``I`` is the nudge's current at rest, and what an unsettled free state has left. So a stencil's response
    is ``J̃⁻¹ ∂L/∂s`` at any β, but offsets, noise and settling still count as β says.
    """

    @classmethod
    def of(cls, free: Equilibrium) -> Linearised:
        """The same equilibria, linearised."""
        return cls(**{f.name: getattr(free, f.name) for f in fields(free)})

    def under(self, nudge: Nudge, copies: int = 1, certify: int | None = None) -> Equilibrium:
        """States (copies * batch) under a nudge, each settled to ``tolerance`` of full swing as the circuit
        itself would be. (There is nothing to certify: a linear circuit has one equilibrium.)
        """
        rest, left = self._repeated(copies), self.circuit.current(self.voltages, self.injected)
        slopes, push = np.tile(self.slopes(), (copies, 1)), np.tile(left, (copies, 1))
        current = nudge.current(rest.outputs, np.arange(len(rest.ports)))
        push = push.astype(np.result_type(push, current))
        push[:, self.circuit.output] += current
        shifts = self._shifts(push.real, slopes).astype(push.dtype)
        if np.iscomplexobj(push):
            shifts += 1j * self._shifts(push.imag, slopes)
        moves = shifts if self.circuit.clamps else shifts / slopes  # of the nodes
        return Equilibrium(
            self.circuit, rest.voltages + moves, rest.ports + shifts, rest.injected,
            rest.settled, self.tolerance, rest.sweeps, periphery=self.periphery,
        )  # fmt: skip

    def _shifts(self, push: Array, slopes: Array) -> Array:
        swing = self.circuit.swing
        solved = relaxation.solve_linear(self.circuit, slopes, -push, tolerance=self.tolerance, scale=swing)
        return solved

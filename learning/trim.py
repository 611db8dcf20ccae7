"""Trimming the drivers of a shared crossbar, whose skew no conductance takes out.

One array couples j and i both ways, ``G_ij = g_ij a_f[j]`` and ``G_ji = g_ij a_b[i]``. Then

- ``G`` is symmetric if and only if ``a_f[j] = a_b[i]`` wherever the array conducts: all of its drivers equal.
- ``G D`` is symmetric, for a positive diagonal D = diag(d), if and only if ``a_f[j] d_j = a_b[i] d_i``. One
  trim a neuron, of the ratio of its two drivers, makes that possible in every layer but the output's, whose
  drivers must match (D is 1 there: the cost is not rescaled). ``ε_i = d_i δ_i`` then: each neuron's inputs
  and biases learn along the true gradient, at a rate d_i. The devices of a shared array do not: they add
  the terms of both ends, ``ε_i a_f[j] s_j + ε_j a_b[i] s_i``, which d_i ≠ d_j weighs differently.

So every driver has its trim here. Probes at the drivers' *inputs* measure ``G_ij`` and ``G_ji``, whose
ratio is ``a_f[j] / a_b[i]`` whatever the device; the level that all drivers of an array have in common is
left as it is, for it skews nothing.

A bidirectional amplifier of a `resistive` network has both its gains at one node, ``G_ij = g_ij a_f[j]`` and
``G_ji = g_ij a_b[j]``: trimming ``a_b`` to ``a_f`` takes out all of the skew, whatever the conductances.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from ..circuits.chip import Chip
from ..circuits.design import Design
from ..simulator.blocks import Array
from .homeostat import Running
from .probes import Prober, Spent

FAINT = 1e-3  # of what the busiest amplifier drives


@dataclass
class DriverTrim:
    """Controller that trims a shared chip's drivers; no device is moved.

    Drivers do not change by themselves: the n-th cycle moves by 1/n of what it still finds, so that the trims
    rest on the mean of all cycles, noise and all.
    """

    probes: int = 256
    prober: Prober = field(default_factory=lambda: Prober(inputs=True))
    cycles: int = 0

    @classmethod
    def from_design(cls, design: Design, seed: int) -> DriverTrim:
        """The controller of a design with ``homeostat.mode = "trim"``."""
        return cls(design.homeostat.probes, Prober.from_spec(design.homeostat, seed, inputs=True))

    @property
    def spent(self) -> Spent:
        return self.prober.spent

    def correct(self, chip: Chip, running: Running | None = None) -> dict[str, Array]:
        """One step; see :meth:`.homeostat.Controller.correct`. Commands no change of a conductance."""
        couplings = self.prober.gather(chip, self.probes, running.held if running else None)
        if couplings is None:
            return {}
        self.cycles += 1
        for forward, backward in chip.circuit.feedback_pairs:
            if backward.returned:
                ratio = gain_ratio(couplings[forward.name], couplings[backward.name])
                chip.trim({backward.name: ratio ** (1 / self.cycles)})
                continue
            layout = chip.circuit.layouts[forward.array]
            where = layout.dense or layout.unfold(np.ones(layout.shape)) > 0
            ends = driver_gains(couplings[forward.name], couplings[backward.name], where)
            names = (forward.name, backward.name)
            chip.trim({name: gains ** (-1 / self.cycles) for name, gains in zip(names, ends, strict=True)})
        return {}

    def state(self) -> dict[str, Array]:
        return self.prober.state() | {"cycles": np.array(self.cycles)}

    def restore(self, state: Mapping[str, Array]) -> None:
        self.prober.restore(state)
        self.cycles = int(state["cycles"])


def gain_ratio(forward: Array, backward: Array) -> Array:
    """``a_f / a_b`` (n,) of bidirectional amplifiers, behind measured couplings ``a_f[j] g_ij`` (n_post, n)
    and ``a_b[j] g_ij`` (n, n_post) [S], which are all of one sign: by their sums, whose noise averages out.
    An amplifier that drives next to nothing, whose gains no probe can tell from noise, is left as it is.
    """
    up, down = forward.sum(axis=0, dtype=np.float64), backward.sum(axis=1, dtype=np.float64)
    sure = np.minimum(up, down) > FAINT * max(up.max(), down.max())
    ratio: Array = np.divide(up, down, out=np.ones_like(up), where=sure)
    return ratio


def driver_gains(forward: Array, backward: Array, where: Array | bool = True) -> tuple[Array, Array]:
    """Gains ``a_f`` (n_pre,) and ``a_b`` (n_post,), their geometric mean 1, behind measured couplings [S].

    ``forward`` (n_post, n_pre) and ``backward`` (n_pre, n_post) are ``G_ij = g_ij a_f[j]`` and
    ``G_ji = g_ij a_b[i]``. With ``x = (1/a_f, 1/a_b)``, ``Σ_ij (G_ij x_j - G_ji x_i)²`` vanishes where they
    are just that, and is least along the smallest eigenvector otherwise; equal noise on all couplings adds
    much the same to each diagonal element, and hardly turns it.

    There are devices only ``where`` (n_post, n_pre) says so. Drivers that no chain of devices joins share no
    level: each group has a mean of 1 by itself, and one that drives nothing keeps its gain.
    """
    from scipy.sparse import csgraph, csr_array  # deferred: a trim is rare

    g, h = np.where(where, forward, 0).astype(np.float64), np.where(where, backward.T, 0).astype(np.float64)
    scale = max(np.abs(g).max(), np.abs(h).max()) or 1.0
    g, h = g / scale, h / scale
    mixed = -(g * h).T
    form = np.block([[np.diag((g**2).sum(axis=0)), mixed], [mixed.T, np.diag((h**2).sum(axis=1))]])
    groups, group = csgraph.connected_components(csr_array(form), directed=False)
    gains = np.ones(len(form))
    for k in range(groups):
        some = np.flatnonzero(group == k)
        if len(some) > 1:
            inverse = np.linalg.eigh(form[np.ix_(some, some)])[1][:, 0]
            found = 1 / np.maximum(np.abs(inverse), np.finfo(np.float64).eps)
            gains[some] = found / np.exp(np.log(found).mean())
    return gains[: g.shape[1]], gains[g.shape[1] :]

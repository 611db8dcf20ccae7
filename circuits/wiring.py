"""Arrays with resistive wires: what an array then is to its ports, and what its cells then see.

Columns are virtual grounds, so that a wired array is still linear from its drivers' voltages to its columns'
currents: the chip is one of *effective* weights. A change of one cell's conductance g changes the loss by

    dL/dg = -Σ Δv Δv̂,

Δv being the voltage across the cell under the drivers' voltages, and Δv̂ that under ``ε`` at the columns with
the drivers grounded (Tellegen's theorem; the array is reciprocal). Without resistance they are ``s_j`` and
``ε_i``, the ports' own. Both are linear in these, so that a batch's true gradient is a linear map of the one
contracted from ports.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ..simulator import device_kernels
from ..simulator.blocks import Array
from ..simulator.wires import Crossbar, crossbar
from .chip import Chip
from .design import Design

TILE = 64  # cells: larger arrays are made of tiles, each with drivers and sense amplifiers of its own


@dataclass(frozen=True)
class Wiring:
    """Wire resistance of one cell's segment along ``row`` and ``column`` [Ω]; drivers are at the left, sense
    amplifiers at the bottom of each tile, and a pair's two planes are tiles of their own.

    ``ValueError`` for a resistance below 0 or infinite, and for a chip with passive columns.
    """

    row: float
    column: float
    tile: int = TILE

    @classmethod
    def of(cls, design: Design) -> Wiring | None:
        """That of a design; None where its wires have no resistance."""
        spec = design.wires
        return cls(spec.row, spec.column, spec.tile) if spec.resistive else None

    def __post_init__(self) -> None:
        for name in ("row", "column"):
            value = getattr(self, name)
            if not 0 <= value < np.inf:
                raise ValueError(f"wire resistance along a {name} is {value:g} ohm; give 0 or more, finite")

    def drop(self, g: Array) -> Array:
        """Largest share x (nodes, ports) of a volt at every port that the wires may take from each cell, to
        first order: ``r Σ_i' g_i'j m_ii' + c Σ_j' g_ij' m_jj'``, m being the segments that two cells share.
        """
        found: Array = np.divide(g, self.estimate(g), out=np.ones_like(g), where=g > 0) - 1
        return found

    def estimate(self, g: Array) -> Array:
        """:meth:`effective`, to first order in the wires' drops: ``g / (1 + x)`` (see :meth:`drop`). It is
        exact for one cell.

        The cells' voltages solve ``(1 + K) d = s``, and the rows of K sum up to x. So with ``X = max x < 1``
        the current into a node is off by ``X² (2 - X)/(1 - X)`` of ``Σ_j g_ij`` at most, for ports within a
        volt: the second term of the series and what follows, and that of ``1/(1 + x)``.
        """
        found = np.empty_like(g)
        device_kernels.attenuate(g, self.row, self.column, self.tile, found)
        return found

    def check(self, chip: Chip) -> tuple[float, float]:
        """Largest drop X over a chip's arrays; and the largest error of an estimated node's current over
        ``max_i Σ_j g_ij``, ports within a volt, in the tile of each array where the drop is largest.
        """
        drop = error = 0.0
        for name in chip.devices:
            for g in chip.conducting(name).astype(np.float64):
                x = self.drop(g)
                row, column = divmod(int(x.argmax()), x.shape[1])
                cells = g[self.tile_of(row, column)]
                off = np.abs(self.estimate(cells) - self.effective(cells)).sum(axis=1).max()
                drop = max(drop, float(x.max()))
                error = max(error, float(off / cells.sum(axis=1).max()) if cells.any() else 0.0)
        return drop, error

    def tiles(self, shape: tuple[int, ...]) -> Iterator[tuple[slice, slice]]:
        """The tiles of an array, as slices of its rows and columns."""
        for _, rows, columns in tiles(shape, (self.tile, self.tile)):
            yield slice(rows.start, rows.stop), slice(columns.start, columns.stop)

    def tile_of(self, row: int, column: int) -> tuple[slice, slice]:
        """The tile that holds a cell."""
        first, left = row // self.tile * self.tile, column // self.tile * self.tile
        return slice(first, first + self.tile), slice(left, left + self.tile)

    def effective(self, g: Array) -> Array:
        """Current into each node for a volt on each port (nodes, ports) [S], of cells ``g`` alike."""
        found = np.empty_like(g)
        for tile in self.tiles(g.shape):
            across = self._across(g[tile])[0]
            found[tile] = np.einsum("ij,ijk->ik", g[tile], across)
        return found

    def of_cells(self, g: Array, gradients: Array) -> Array:
        """True gradients (m, nodes, ports) in the cells, from those contracted from ports, ``-Σ ε_i s_j``."""
        found = np.empty_like(gradients)
        for rows, columns in self.tiles(g.shape):
            drops, errors = self._across(g[rows, columns])
            for k, gradient in enumerate(gradients[:, rows, columns]):
                found[k, rows, columns] = np.einsum("ijl,ijl->ij", drops @ gradient.T, errors)
        return found

    def chip(self, chip: Chip) -> Chip:
        """``chip`` with the effective weights of its arrays as they stand, in place of their conductances."""
        if chip.circuit.kappa:
            raise ValueError(
                'wires need chip.columns = "virtual-ground": what passive columns do along a resistive wire '
                "is not modelled"
            )
        there = chip.copy(unwired(chip.circuit.design))
        for name, array in there.devices.items():
            array.actual[...] = [self.effective(g) for g in chip.conducting(name)]
            array.actual /= chip.conduction
        there.refresh()
        return there

    def _across(self, g: Array) -> tuple[Array, Array]:
        """Voltages across the cells of one tile (nodes, ports): (nodes, ports, ports) for a volt on each port
        in turn, and (nodes, ports, nodes) for one on each column, against it.
        """
        nodes, ports = g.shape
        forward = crossbar(ports, nodes, g.T, self.row, self.column)
        backward = Crossbar(g, forward.column_wire.T, forward.row_wire.T)
        drops, errors = (array.solve(np.eye(n)) for array, n in ((forward, ports), (backward, nodes)))
        drop = drops.row_voltages - drops.column_voltages  # (ports, ports, nodes)
        error = errors.row_voltages - errors.column_voltages  # (nodes, nodes, ports)
        return drop.transpose(2, 1, 0), error.transpose(1, 2, 0)


def tiles(shape: tuple[int, ...], tile: tuple[int, int]) -> Iterator[tuple[str, range, range]]:
    """Name, rows and columns of every tile of an array (rows, columns): ``r0c0``, ``r0c1``, …"""
    for i, row in enumerate(range(0, shape[0], tile[0])):
        for j, column in enumerate(range(0, shape[1], tile[1])):
            rows = range(row, min(row + tile[0], shape[0]))
            yield f"r{i}c{j}", rows, range(column, min(column + tile[1], shape[1]))


def unwired(design: Design) -> Design:
    """The design with wires that have no resistance."""
    return design.replace({"wires.row": 0.0, "wires.column": 0.0})

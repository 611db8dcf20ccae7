"""Layouts: which conductance between a port and a node is which device's.

A crossbar array has (rows, columns) pairs of devices; ports see a *block*, (nodes, ports), of conductances
between layers. In a dense array each device is one entry of the block. A convolutional array is read at many
positions, so that a device is many entries, or one of several that add up to an entry. Both ways are linear,

    block = M g,            dL/dg = Mᵀ dL/dblock,

with a sparse matrix M of the shares (1, or 1/n where the currents of n positions are averaged).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import prod
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..simulator.blocks import Array
from .convolution import Convolution, Image

if TYPE_CHECKING:
    from scipy.sparse import csr_array


@dataclass(frozen=True)
class Layout:
    """A dense array's: its devices are the block's entries. ``shape``: its (rows, columns)."""

    shape: tuple[int, int]

    @property
    def dense(self) -> bool:
        """Whether devices and entries are the same."""
        return type(self) is Layout

    @property
    def crossbar(self) -> tuple[int, int]:
        """(rows, columns) of one of the crossbars that make up the array and share their weights."""
        return self.shape

    @property
    def fan_in(self) -> int:
        """Pairs of devices that feed a node."""
        return self.shape[1]

    def words(self, nodes: str, ports: str) -> tuple[str, str]:
        """What its rows and columns are, of the ``nodes`` and ``ports`` that it couples."""
        return nodes, ports

    def unfold(self, values: Array) -> Array:
        """The block (…, nodes, ports) that the devices' ``values`` (…, rows, columns) make."""
        return values

    def fold(self, block: Array) -> Array:
        """What ``block`` (…, nodes, ports) has where each device is, summed: (…, rows, columns)."""
        return block

    def mean(self, block: Array) -> Array:
        """Values (rows, columns) from a measured ``block``: each device's mean over where it is."""
        return block

    def repeated(self, values: Array) -> Array:
        """``values`` (…, rows, columns) of one :attr:`crossbar`, given to all of the array's."""
        return values

    def tied(self, changes: Array) -> Array:
        """The sum of the crossbars' ``changes`` (…, rows, columns), given to each of them."""
        return changes


@dataclass(frozen=True)
class ConvolutionLayout(Layout):
    """That of a convolutional array: row c is channel c, and column (channel, row, column) of the window.

    With ``copies`` above 1 each position has a crossbar of its own, and they lie one below the other: row
    ``p channels + c`` is channel c at position p, positions row by row. Nodes and ports are numbered
    (channel, row, column), the last fastest. ``bias``: the layer's bias, one pair to a channel.
    """

    layer: Convolution
    image: Image
    copies: int
    bias: bool

    @classmethod
    def of(cls, layer: Convolution, image: Image, replicated: bool, bias: bool = False) -> ConvolutionLayout:
        """The layout of ``layer`` on ``image``; ``replicated``: with a crossbar for each position."""
        copies = prod(layer.positions(image)) if replicated else 1
        fan_in = 1 if bias else image[0] * layer.rows * layer.columns
        return cls((copies * layer.channels, fan_in), layer, image, copies, bias)

    @property
    def crossbar(self) -> tuple[int, int]:
        return self.layer.channels, self.shape[1]

    @property
    def block(self) -> tuple[int, int]:
        """Nodes and ports."""
        return prod(self.layer.output(self.image)), 1 if self.bias else prod(self.image)

    def words(self, nodes: str, ports: str) -> tuple[str, str]:
        crossbars = "at each position in turn" if self.copies > 1 else "at every position"
        window = ports if self.bias else f"(channel, row, column) of a window of {ports}"
        return f"channels of {nodes}, {crossbars}", window

    def unfold(self, values: Array) -> Array:
        places, shares = _mapping(self)
        lead = values.shape[:-2]
        block = np.zeros((*lead, prod(self.block)), values.dtype)
        block[..., places] = values.reshape(*lead, -1) @ shares.T
        return block.reshape(*lead, *self.block)

    def fold(self, block: Array) -> Array:
        places, shares = _mapping(self)
        lead = block.shape[:-2]
        summed: Array = block.reshape(*lead, -1)[..., places] @ shares
        return summed.astype(block.dtype).reshape(*lead, *self.shape)

    def mean(self, block: Array) -> Array:
        weight = self.fold(self.unfold(np.ones(self.shape, block.dtype)))
        found: Array = np.divide(self.fold(block), weight, out=np.zeros_like(weight), where=weight > 0)
        return found

    def repeated(self, values: Array) -> Array:
        return np.tile(values, (self.copies, 1))

    def tied(self, changes: Array) -> Array:
        lead = changes.shape[:-2]
        return self.repeated(changes.reshape(*lead, self.copies, *self.crossbar).sum(axis=-3))


@dataclass(frozen=True)
class TurnedLayout(Layout):
    """That of an array whose twin, with the layout ``other``, couples the same layers the other way: the same
    map with rows and columns, nodes and ports exchanged, so that device (j, i) faces the twin's (i, j).
    """

    other: ConvolutionLayout

    @classmethod
    def of(cls, other: ConvolutionLayout) -> TurnedLayout:
        """The layout of the twin of an array with the layout ``other``."""
        return cls(other.shape[::-1], other)

    @property
    def crossbar(self) -> tuple[int, int]:
        return self.other.crossbar[::-1]

    @property
    def fan_in(self) -> int:
        """The most that feed a node: those at an image's edge have fewer."""
        ports = _mapping(self.other)[0] % self.other.block[1]
        return int(np.bincount(ports).max())

    def words(self, nodes: str, ports: str) -> tuple[str, str]:
        return self.other.words(ports, nodes)[::-1]

    def unfold(self, values: Array) -> Array:
        return self.other.unfold(values.swapaxes(-1, -2)).swapaxes(-1, -2)

    def fold(self, block: Array) -> Array:
        return self.other.fold(block.swapaxes(-1, -2)).swapaxes(-1, -2)

    def mean(self, block: Array) -> Array:
        return self.other.mean(block.swapaxes(-1, -2)).swapaxes(-1, -2)

    def repeated(self, values: Array) -> Array:
        return self.other.repeated(values.swapaxes(-1, -2)).swapaxes(-1, -2)

    def tied(self, changes: Array) -> Array:
        return self.other.tied(changes.swapaxes(-1, -2)).swapaxes(-1, -2)


@lru_cache(maxsize=64)
def _mapping(layout: ConvolutionLayout) -> tuple[NDArray[np.int64], csr_array]:
    """Flat addresses of the block's entries that have devices, and shares of each (entries, devices)."""
    from scipy.sparse import coo_array

    layer, (planes, height, width) = layout.layer, layout.image
    (_, rows, columns), across = layer.output(layout.image), layer.positions(layout.image)[1]
    window = (1, 1, 1) if layout.bias else (planes, layer.rows, layer.columns)
    axes = np.indices((layer.channels, rows * layer.pool, columns * layer.pool, *window))
    channel, y, x, plane, dy, dx = (axis.ravel() for axis in axes)
    row = channel + (y * across + x) * layer.channels * (layout.copies > 1)
    device = row * layout.shape[1] + (plane * window[1] + dy) * window[2] + dx
    node = (channel * rows + y // layer.pool) * columns + x // layer.pool
    port, inside = np.zeros_like(node), np.ones(node.shape, bool)
    if not layout.bias:
        y, x = y * layer.stride + dy - layer.pad, x * layer.stride + dx - layer.pad
        inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)
        port = (plane * height + y) * width + x
    places, entry = np.unique((node * layout.block[1] + port)[inside], return_inverse=True)
    share = np.full(len(entry), 1 / layer.pool**2)
    shape = len(places), prod(layout.shape)
    return places, coo_array((share, (entry, device[inside])), shape).tocsr()

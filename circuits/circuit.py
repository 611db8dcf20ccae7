"""A chip family's circuit: crossbar arrays, the ways in which they are read, and its fabrication."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from .convolution import convolutions, images
from .data_shapes import DATA
from .design import Design
from .layout import ConvolutionLayout, Layout, TurnedLayout
from .specs import MismatchSpec

if TYPE_CHECKING:
    from .chip import Chip

INPUT, BIAS = -1, -2  # ports that are driven from outside: the input voltages, and one constant


@dataclass(frozen=True)
class CrossbarArray:
    """A physical array, ``rows`` x ``columns`` differential pairs, or (one plane) single devices; of twin
    networks the ``copies`` of both, the one that settles free first.
    """

    name: str
    rows: int
    columns: int
    planes: int = 2
    copies: int = 1

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of the device planes: (g+ and g-, or g alone, copy after copy; rows, columns)."""
        return (self.copies * self.planes, self.rows, self.columns)

    @property
    def plane_names(self) -> tuple[str, ...]:
        """``+``, ``-``, and of a second copy ``+2``, ``-2``."""
        signs = ("+", "-")[: self.planes]
        return signs + tuple(f"{sign}2" for sign in signs) * (self.copies - 1)


@dataclass(frozen=True)
class Bank:
    """One direction in which an array is read: ports of ``pre`` drive the nodes of layer ``post``.

    A ``transposed`` bank reads the array against its columns; a ``driven`` one has drivers of its own,
    whose gains may mismatch (the `shared` family). A ``returned`` one is no crossbar's: what its devices draw
    from the drivers of the nodes of ``post`` comes back to these through amplifiers of current (`resistive`).
    """

    array: str
    post: int
    pre: int
    transposed: bool = False
    driven: bool = False
    returned: bool = False

    @property
    def driving(self) -> int:
        """The layer whose nodes have this bank's amplifiers."""
        return self.post if self.returned else self.pre

    @property
    def name(self) -> str:
        """The bank's own name: that of its array and the direction."""
        return f"{self.array}.{'backward' if self.transposed else 'forward'}"


@dataclass(frozen=True)
class Circuit:
    """The circuit of a design: what is common to every chip that is made from it.

    Layers are numbered from the first hidden layer, 0, to the output, ``layers - 1``.
    """

    design: Design

    @cached_property
    def sizes(self) -> tuple[int, ...]:
        """Neurons in each layer, without the inputs."""
        return self.design.sizes[1:]

    @property
    def inputs(self) -> int:
        """Number of input ports."""
        return self.design.sizes[0]

    @property
    def kappa(self) -> float:
        """Load of a device on its own column: 1 for passive columns, 0 for virtual grounds."""
        return 1.0 if self.design.chip.columns == "passive" else 0.0

    @cached_property
    def banks(self) -> tuple[Bank, ...]:
        """Every read direction of every array."""
        banks = [Bank("forward0", 0, INPUT)]
        banks += [Bank(f"bias{k}", k, BIAS) for k in range(len(self.sizes))]
        return (*banks, *FAMILIES[self.design.chip.family](len(self.sizes)))

    @cached_property
    def arrays(self) -> tuple[CrossbarArray, ...]:
        """The physical arrays, in the order of their first bank."""
        pre = {bank.array: bank.pre for bank in self.banks if not bank.transposed}
        return tuple(
            CrossbarArray(name, *layout.shape, self._planes(pre[name]), self.copies)
            for name, layout in self.layouts.items()
        )

    @cached_property
    def layouts(self) -> dict[str, Layout]:
        """How the devices of each array, by its name, make the block that ports see."""
        return {bank.array: self._layout(bank) for bank in self.banks if not bank.transposed}

    def _layout(self, bank: Bank) -> Layout:
        """That of an array that ``bank`` reads as it lies."""
        chip, layer = self.design.chip, max(bank.post, bank.pre)  # the layer that it leads into, or back from
        layers = convolutions(chip.layers)
        if layer >= len(layers):
            widths = {INPUT: self.inputs, BIAS: 1, **dict(enumerate(self.sizes))}
            return Layout((self.sizes[bank.post], widths[bank.pre]))
        image = images(chip.layers, DATA[self.design.task.data].image)[layer]
        replicated = chip.sharing == "replicated"
        forward = ConvolutionLayout.of(layers[layer], image, replicated, bank.pre == BIAS)
        return forward if bank.post == layer else TurnedLayout.of(forward)

    @property
    def copies(self) -> int:
        """Networks side by side that take the same commands: two where free and nudged phase have each its
        own.
        """
        return 2 if self.resistive and self.design.resistive.copies == "twin" else 1

    def _planes(self, pre: int) -> int:
        """Devices that make a weight: one where nodes drive it, which come at one sign only."""
        return 1 if self.resistive and pre >= 0 else 2

    @property
    def resistive(self) -> bool:
        """Whether devices are conductances between nodes, each programmed by itself (docs/resistive.md)."""
        return self.design.chip.family == "resistive"

    @cached_property
    def feedback_pairs(self) -> tuple[tuple[Bank, Bank], ...]:
        """Pairs of banks (forward, backward) that couple the same two layers, one each way."""
        by_ends = {(b.post, b.pre): b for b in self.banks}
        return tuple(
            (bank, by_ends[bank.pre, bank.post])
            for bank in self.banks
            if 0 <= bank.pre < bank.post and (bank.pre, bank.post) in by_ends
        )

    def fabricate(self, mismatch: MismatchSpec | None = None, seed: int = 0) -> Chip:
        """One chip with every device's deviation drawn from ``mismatch`` (default: the design's).

        All devices rest at ``g_min`` until the chip is written. The same seed is the same chip, bit
        for bit.
        """
        from .chip import Chip

        return Chip.fabricate(self, self.design.mismatch if mismatch is None else mismatch, seed)


def _twin(layers: int) -> list[Bank]:
    """Two separate crossbars between neighbours: every device differs from its twin."""
    forward = [Bank(f"forward{k}", k, k - 1) for k in range(1, layers)]
    return forward + [Bank(f"feedback{k}", k - 1, k) for k in range(1, layers)]


def _shared(layers: int) -> list[Bank]:
    """One transposable crossbar between neighbours, read both ways through drivers of its own."""
    forward = [Bank(f"forward{k}", k, k - 1, driven=True) for k in range(1, layers)]
    return forward + [Bank(f"forward{k}", k - 1, k, transposed=True, driven=True) for k in range(1, layers)]


def _loop(layers: int) -> list[Bank]:
    """Forward crossbars, and one from the output back to the first hidden layer.

    No two layers are coupled both ways, and so there are no feedback pairs. (With one hidden layer there is
    one: that loop is `twin`.)
    """
    forward = [Bank(f"forward{k}", k, k - 1) for k in range(1, layers)]
    return [*forward, Bank(f"feedback{layers - 1}", 0, layers - 1)]


def _resistive(layers: int) -> list[Bank]:
    """Conductances between the nodes of neighbouring layers, through the lower one's bidirectional
    amplifiers: ``g (a_f s_j - v_i)`` flows into node i, and ``a_b`` times that out of node j.
    """
    up = [Bank(f"forward{k}", k, k - 1, driven=True) for k in range(1, layers)]
    return up + [Bank(f"forward{k}", k - 1, k, True, driven=True, returned=True) for k in range(1, layers)]


FAMILIES: dict[str, Callable[[int], list[Bank]]] = {
    "twin": _twin, "shared": _shared, "loop": _loop, "resistive": _resistive,
}  # fmt: skip

"""The circuit of a design: its family's arrays at its layers' sizes, and their fabrication."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from .chip import Chip
from .convolution import convolutions, images
from .data_shapes import DATA
from .design import Design
from .families import BIAS, FAMILIES, INPUT, Bank, CrossbarArray
from .layout import ConvolutionLayout, Layout, TurnedLayout
from .specs import MismatchSpec


class LayerName(NamedTuple):
    """What a layer of the state is: ``neurons`` 0 are the first hidden layer, ``relays`` 1 listen along the
    first way back.
    """

    kind: str
    number: int

    def __str__(self) -> str:
        return f"layer{self.number}" if self.kind == "neurons" else f"{self.kind}{self.number}"

    @property
    def words(self) -> str:
        """For a reader."""
        return f"{self.kind} of layer {self.number}"

    @property
    def address(self) -> str:
        """By which its parts are drawn: neurons' number alone, so that they are the same in any family."""
        return str(self).removeprefix("layer")


@dataclass(frozen=True)
class Circuit:
    """The circuit of a design: what is common to every chip that is made from it.

    Layers are numbered from the first hidden layer, 0, to the output, the last. (Relays, of the family that
    has them, are numbered between: :mod:`.families`.)
    """

    design: Design

    @cached_property
    def sizes(self) -> tuple[int, ...]:
        """Neurons in each layer, without the inputs."""
        *hidden, outputs = self.design.sizes[1:]
        return (*hidden, *(self.design.chip.relays for _ in self._listening), outputs)

    @property
    def inputs(self) -> int:
        """Number of input ports."""
        return self.design.sizes[0]

    @property
    def kappa(self) -> float:
        """Load of a device on its own column: 1 for passive columns, 0 for virtual grounds."""
        return 1.0 if self.design.chip.columns == "passive" else 0.0

    @cached_property
    def _couplings(self) -> list[Bank]:
        """The family's banks."""
        return FAMILIES[self.design.chip.family](len(self.design.sizes) - 1)

    @cached_property
    def _listening(self) -> list[Bank]:
        """Those that drive relays, the first path's first."""
        return [bank for bank in self._couplings if bank.listening]

    @cached_property
    def banks(self) -> tuple[Bank, ...]:
        """Every read direction of every array."""
        neurons = sorted(set(range(len(self.sizes))) - {bank.post for bank in self._listening})
        constant = [Bank(f"bias{place}", k, BIAS) for place, k in enumerate(neurons)]
        return (Bank("forward0", 0, INPUT), *constant, *self._couplings)

    @cached_property
    def layer_names(self) -> tuple[LayerName, ...]:
        """Of every layer, in the order of :attr:`sizes`."""
        relays = {bank.post: LayerName("relays", k) for k, bank in enumerate(self._listening, start=1)}
        neurons = (LayerName("neurons", k) for k in range(len(self.sizes)))
        return tuple(relays[k] if k in relays else next(neurons) for k in range(len(self.sizes)))

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

    @cached_property
    def relay_paths(self) -> tuple[tuple[Bank, Bank, Bank], ...]:
        """Banks (forward, listening, backward) of every way back over relays: along the first, from its upper
        layer to the relays, and from these to its lower layer.
        """
        by_ends, to = {(b.post, b.pre): b for b in self.banks}, {b.pre: b for b in self.banks}
        paths = []
        for listening in self._listening:
            backward = to[listening.post]
            paths.append((by_ends[listening.pre, backward.post], listening, backward))
        return tuple(paths)

    def bias(self, layer: int) -> str:
        """The array by which the constant port drives a layer."""
        return next(bank.array for bank in self.banks if (bank.post, bank.pre) == (layer, BIAS))

    @cached_property
    def facing(self) -> tuple[tuple[Bank, Bank], ...]:
        """Banks (forward, backward) whose arrays learn together where a rule has them do: feedback pairs, and
        those of relay paths.
        """
        return (*self.feedback_pairs, *((ahead, back) for ahead, _, back in self.relay_paths))

    def fabricate(self, mismatch: MismatchSpec | None = None, seed: int = 0) -> Chip:
        """One chip with every device's deviation drawn from ``mismatch`` (default: the design's).

        All devices rest at ``g_min`` until the chip is written. The same seed is the same chip, bit
        for bit.
        """
        return Chip.fabricate(self, self.design.mismatch if mismatch is None else mismatch, seed)

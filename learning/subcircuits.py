"""Parts of a crossbar chip that a learning rule switches off, holds or adds to."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from ..simulator.blocks import BlockCircuit


def part(blocks: BlockCircuit, layers: int, couplings: Iterable[tuple[int, int]]) -> BlockCircuit:
    """A copy of the first ``layers`` layers of a circuit, coupled by the blocks ``couplings`` alone.

    Loads are those of the whole circuit: what is switched off is not driven, but still draws its current.
    """
    couplings = tuple(couplings)
    copy = replace(blocks, sizes=blocks.sizes[:layers], couplings=couplings)
    for post, pre in couplings:
        copy.weight(post, pre)[...] = blocks.weight(post, pre)
    for name in ("load", "capacitance", "gain", "offset"):
        for k in range(layers):
            getattr(copy, name)[copy.slices[k]] = getattr(blocks, name)[blocks.slices[k]]
    return copy

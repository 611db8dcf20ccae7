"""Parts of a crossbar chip that a learning rule switches off, holds or adds to."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from ..simulator.blocks import BlockCircuit


def part(blocks: BlockCircuit, layers: int, couplings: Iterable[tuple[int, int]]) -> BlockCircuit:
    """A copy of the first ``layers`` layers of a circuit, coupled by the blocks ``couplings`` alone.

    Loads are those of the whole circuit: what is switched off is not driven, but still draws its current.
    """
    couplings = tuple(couplings)
    copy = replace(blocks, sizes=blocks.sizes[:layers], couplings=couplings, clamps=None)
    for post, pre in couplings:
        copy.weight(post, pre)[...] = blocks.weight(post, pre)
    if blocks.clamps:
        places = np.empty(copy.size, np.int64)
        for k in range(layers):
            places[copy.slices[k]] = np.arange(blocks.slices[k].start, blocks.slices[k].stop)
        copy.clamps = blocks.clamps.take(places)
    for name in ("load", "capacitance", "gain", "offset"):
        for k in range(layers):
            getattr(copy, name)[copy.slices[k]] = getattr(blocks, name)[blocks.slices[k]]
    return copy

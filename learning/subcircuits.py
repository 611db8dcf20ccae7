"""Parts of a crossbar chip that a learning rule switches off, holds or adds to."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from ..simulator.blocks import Array, BlockCircuit


def part(blocks: BlockCircuit, layers: int, couplings: Iterable[tuple[int, int]]) -> BlockCircuit:
    """A copy of the first ``layers`` layers of a circuit, coupled by the blocks ``couplings`` alone.

    Loads are those of the whole circuit: what is switched off is not driven, but still draws its current.
    """
    couplings = tuple(couplings)
    copy = replace(blocks, sizes=blocks.sizes[:layers], couplings=couplings, clamps=None)
    for post, pre in couplings:
        copy.weight(post, pre)[...] = blocks.weight(post, pre)
    where = places(copy, blocks)
    if blocks.clamps:
        copy.clamps = blocks.clamps.take(where)
    for name in ("load", "capacitance", "gain", "offset"):
        getattr(copy, name)[:] = getattr(blocks, name)[where]
    return copy


def places(part: BlockCircuit, whole: BlockCircuit) -> Array:
    """Where the state of a :func:`part` lies in the whole circuit's: (n,) of its nodes."""
    found = np.empty(part.size, np.int64)
    for k, where in part.slices.items():
        found[where] = np.arange(whole.slices[k].start, whole.slices[k].stop)
    return found

"""Answers by the names of a netlist's nodes and devices; an unknown name is told what names there are."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches

import numpy as np

from .banks import GROUND, NetlistError, some
from .devices import Array


def node_voltage(nodes: Sequence[str], voltages: Array, node: str) -> Array:
    """Of voltages (..., n) [V] those of one node, 0 V of ground; raises :class:`NetlistError`."""
    if node == GROUND:
        return np.zeros(voltages.shape[:-1], voltages.dtype)
    return np.asarray(voltages[..., node_place(nodes, node)])


def branch_current(branches: Sequence[str], currents: Array, device: str) -> Array:
    """Of currents (..., m) [A] those of one voltage-defined device; raises :class:`NetlistError`."""
    return np.asarray(currents[..., branch_place(branches, device)])


def node_place(nodes: Sequence[str], node: str) -> int:
    """Where a node other than ground stands; raises :class:`NetlistError` with the names there are."""
    if node in nodes:
        return nodes.index(node)
    raise NetlistError(f"no node {node!r}{_instead(nodes, node, 'node')}")


def branch_place(branches: Sequence[str], device: str) -> int:
    """Where a voltage-defined device stands; raises :class:`NetlistError` with the names there are."""
    if device in branches:
        return branches.index(device)
    raise NetlistError(
        f"{device!r} is no voltage source or other voltage-defined device, whose currents are known: put a "
        f"source of 0 V in its path{_instead(branches, device, 'device')}"
    )


def _instead(names: Sequence[str], wanted: str, noun: str) -> str:
    """What else to ask for: the name that is most alike, and those there are."""
    alike = get_close_matches(str(wanted), names, n=1)
    guess = f" (did you mean {alike[0]!r}?)" if alike else ""
    return f"{guess}; the netlist has {some(names, noun) if names else 'none'}"

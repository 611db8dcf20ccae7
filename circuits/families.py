"""Chip families: which crossbar arrays couple the layers, and the ways in which each is read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

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
    A ``listening`` one drives relays, which pass on what they hear (`relay`).
    """

    array: str
    post: int
    pre: int
    transposed: bool = False
    driven: bool = False
    returned: bool = False
    listening: bool = False

    @property
    def driving(self) -> int:
        """The layer whose nodes have this bank's amplifiers."""
        return self.post if self.returned else self.pre

    @property
    def name(self) -> str:
        """The bank's own name: that of its array and the direction."""
        return f"{self.array}.{'backward' if self.transposed else 'forward'}"


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


def _relay(layers: int) -> list[Bank]:
    """Forward crossbars, and two in series on every way back, over a layer of relays: neurons that listen to
    the upper layer, and drive the lower one.

    Numbered after the hidden layers come their relays, the first layer's first, and the outputs last.
    """
    hidden = layers - 1
    place = [*range(hidden), 2 * hidden]
    banks = [Bank(f"forward{k}", place[k], place[k - 1]) for k in range(1, layers)]
    for k in range(1, layers):
        relays = hidden + k - 1
        banks.append(Bank(f"listen{k}", relays, place[k], listening=True))
        banks.append(Bank(f"rest{k}", relays, BIAS))
        banks.append(Bank(f"feedback{k}", place[k - 1], relays))
    return banks


FAMILIES: dict[str, Callable[[int], list[Bank]]] = {
    "twin": _twin, "shared": _shared, "loop": _loop, "relay": _relay, "resistive": _resistive,
}  # fmt: skip

"""Parameter values in place of a netlist's own, one or a batch: inputs, mismatch, conductance states."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from .banks import Bank, NetlistError, check_ranges
from .devices import DEVICES, Array

Overrides = Mapping[Any, ArrayLike]  # by device name, (device name, parameter) or (kind, parameter)


@dataclass(frozen=True, eq=False)
class Replaced:
    """By bank: parameters (1 or B, k), and the places of sources that stay at a replaced value in time."""

    values: tuple[dict[str, Array], ...]
    held: tuple[set[int], ...]
    batch: int


def replace_parameters(banks: Sequence[Bank], at: Overrides) -> Replaced:
    """The values that ``at`` gives, bank by bank.

    Keys are a device's name, for its main parameter, or ``(name, parameter)``, both with a scalar or (B,);
    or ``(kind, parameter)``, with (k,) or (B, k) over all devices of the kind. Every batched one has the same
    B. A source's replaced value holds at all times: its waveform rests. Values may be complex.

    Raises :class:`~ohmostat.simulator.netlist.NetlistError` for unknown keys, shapes that do not fit and
    values out of range.
    """
    replaced = Replaced(tuple({} for _ in banks), tuple(set() for _ in banks), 1)
    for key, value in at.items():
        name, parameter = key if isinstance(key, tuple) else (key, None)
        found = False
        for bank, values, held in zip(banks, replaced.values, replaced.held, strict=True):
            if name in bank.names:
                parameter = parameter or bank.device.main
                new, places = _one_device(bank, name, parameter, np.asarray(value), values)
            elif name == bank.kind and parameter is not None:
                new, places = _shaped(bank, parameter, np.asarray(value)), set(range(len(bank.names)))
            else:
                continue
            check_ranges(bank.kind, bank.names, {**bank.parameters, **values, parameter: new}, parameter)
            values[parameter] = new
            if parameter in bank.device.source_parameters:
                held |= places
            found = True
            break
        if not found:
            raise NetlistError(
                f"value for {key!r}: give a device's name, (name, parameter) or (kind, parameter)"
            )
    sizes = {len(v) for values in replaced.values for v in values.values() if len(v) > 1}
    if len(sizes) > 1:
        raise NetlistError(f"values for batches of {sorted(sizes)} samples: give one size")
    return Replaced(replaced.values, replaced.held, sizes.pop() if sizes else 1)


def _one_device(
    bank: Bank, name: str, parameter: str, value: Array, values: Mapping[str, Array]
) -> tuple[Array, set[int]]:
    """The whole bank's values with one device's replaced."""
    if value.ndim > 1:
        raise NetlistError(f"{name}: {parameter} of shape {value.shape}; give one value, or one a sample")
    column = _shaped(bank, parameter, value.reshape(-1, 1), width=1)
    place = bank.names.index(name)
    old = values.get(parameter, bank.parameters[parameter][None])
    new = np.array(
        np.broadcast_to(old, (max(len(column), len(old)), old.shape[1])), np.result_type(old, column)
    )
    new[:, place] = column[:, 0]
    return new, {place}


def _shaped(bank: Bank, parameter: str, value: Array, width: int | None = None) -> Array:
    """A replaced parameter as (1 or B, k)."""
    width = len(bank.names) if width is None else width
    known: Sequence[str] = [p.name for p in DEVICES[bank.kind].parameters]
    if parameter not in known:
        raise NetlistError(f"{bank.kind}: no parameter {parameter!r}; it has {', '.join(known)}")
    if value.ndim > 2 or (value.ndim and value.shape[-1] not in (1, width)):
        raise NetlistError(
            f"{bank.kind} {parameter}: values of shape {value.shape} for {width} devices; give "
            f"({width},), or (samples, {width})"
        )
    numbers = np.atleast_2d(value.astype(np.complex128 if np.iscomplexobj(value) else np.float64))
    return np.array(np.broadcast_to(numbers, (len(numbers), width)))

"""Parameter values in place of a netlist's own, one or a batch: inputs, mismatch, conductance states."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
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
    or ``(kind, parameter)``, with (k,) or (B, k) over all devices of the kind, bank by bank. Every batched
    one has the same B. A source's replaced value holds at all times: its waveform rests. Values may be
    complex. Parameters that others were computed from, as the temperature, cannot be replaced.

    Raises :class:`~ohmostat.simulator.netlist.NetlistError` for unknown keys, shapes that do not fit and
    values out of range.
    """
    replaced = Replaced(tuple({} for _ in banks), tuple(set() for _ in banks), 1)
    for key, value in at.items():
        name, parameter = key if isinstance(key, tuple) else (key, None)
        for k, changed, new, places in _columns(banks, replaced.values, name, parameter, np.asarray(value)):
            bank, values = banks[k], replaced.values[k]
            check_ranges(bank.kind, bank.names, {**bank.parameters, **values, changed: new}, changed)
            values[changed] = new
            if changed in bank.device.source_parameters:
                replaced.held[k].update(places)
    sizes = {len(v) for values in replaced.values for v in values.values() if len(v) > 1}
    if len(sizes) > 1:
        raise NetlistError(f"values for batches of {sorted(sizes)} samples: give one size")
    return Replaced(replaced.values, replaced.held, sizes.pop() if sizes else 1)


def _columns(
    banks: Sequence[Bank],
    values: Sequence[Mapping[str, Array]],
    name: str,
    parameter: str | None,
    value: Array,
) -> Iterator[tuple[int, str, Array, Iterable[int]]]:
    """What one key replaces, by bank: its number, the parameter, its new values (1 or B, k), their places."""
    for k, bank in enumerate(banks):
        if name in bank.names:
            parameter = parameter or bank.device.main
            new = _one_device(bank, name, parameter, value, values[k])
            yield k, parameter, new, [bank.names.index(name)]
            return
    same = [k for k, bank in enumerate(banks) if bank.kind == name]
    if parameter is None or not same:
        key = name if parameter is None else (name, parameter)
        raise NetlistError(f"value for {key!r}: give a device's name, (name, parameter) or (kind, parameter)")
    widths = [len(banks[k].names) for k in same]
    whole = _shaped(name, parameter, value, sum(widths))
    for k, new in zip(same, np.split(whole, np.cumsum(widths)[:-1], axis=1), strict=True):
        yield k, parameter, new, range(new.shape[1])


def _one_device(bank: Bank, name: str, parameter: str, value: Array, values: Mapping[str, Array]) -> Array:
    """The whole bank's values with one device's replaced."""
    if value.ndim > 1:
        raise NetlistError(f"{name}: {parameter} of shape {value.shape}; give one value, or one a sample")
    column = _shaped(bank.kind, parameter, value.reshape(-1, 1), 1)
    old = values.get(parameter, bank.parameters[parameter][None])
    new = np.array(
        np.broadcast_to(old, (max(len(column), len(old)), old.shape[1])), np.result_type(old, column)
    )
    new[:, bank.names.index(name)] = column[:, 0]
    return new


def _shaped(kind: str, parameter: str, value: Array, width: int) -> Array:
    """A replaced parameter as (1 or B, width)."""
    known = {p.name: p for p in DEVICES[kind].parameters}
    if parameter not in known:
        raise NetlistError(f"{kind}: no parameter {parameter!r}; it has {', '.join(known)}")
    if fixed := known[parameter].fixed:
        raise NetlistError(f"{kind}: {parameter} cannot be replaced; {fixed}")
    if value.ndim > 2 or (value.ndim and value.shape[-1] not in (1, width)):
        raise NetlistError(
            f"{kind} {parameter}: values of shape {value.shape} for {width} devices; give "
            f"({width},), or (samples, {width})"
        )
    numbers = np.atleast_2d(value.astype(np.complex128 if np.iscomplexobj(value) else np.float64))
    return np.array(np.broadcast_to(numbers, (len(numbers), width)))

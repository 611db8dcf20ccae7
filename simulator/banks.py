"""Banks: all devices of one kind as arrays, and how a bank grows, each addition checked before it counts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .devices import DEVICES, Array, Current, Device, Expression, Time, Value
from .waveforms import Waveform

GROUND = "0"
Names = str | Sequence[str]
Controls = tuple[Names, Names] | Current | Sequence[Current] | Time  # of a bank: one, or one a device
Special = tuple[int, int, Current | Time]  # port, place in the bank, and a control that is no node pair


class NetlistError(ValueError):
    """A netlist that says something impossible: names the device or node, the value and the remedy."""


@dataclass(frozen=True, eq=False)
class Bank:
    """All devices of one kind (and one expression), as arrays.

    ``terminals`` (ports, 2, k) and ``branches`` (k,) are places in the *full vector*: 0 is ground, then come
    the nodes, then the branch currents of the voltage-defined devices, and last the time.
    """

    kind: str
    names: tuple[str, ...]
    terminals: NDArray[np.intp]
    parameters: Mapping[str, Array]  # (k,) each
    branches: NDArray[np.intp] | None  # of the voltage-defined
    expression: Expression | None = None
    waveforms: Mapping[int, Waveform] = field(default_factory=dict)  # by place in the bank
    ac: Mapping[int, complex] = field(default_factory=dict)  # small-signal amplitudes, likewise

    @property
    def device(self) -> Device:
        """The kind's law and description."""
        return DEVICES[self.kind]

    def law_parameters(self, overrides: Mapping[str, Array], scale: float = 1.0) -> dict[str, Any]:
        """What the law takes: ``overrides`` (..., k) before the bank's own, outputs times ``scale``."""
        values: dict[str, Any] = {**self.parameters, **overrides, "expression": self.expression}
        if scale != 1.0:
            for name in self.device.source_parameters:
                values[name] = scale * values[name]
        return values

    def evaluate(self, u: Array) -> Value:
        """The law at ``u`` (ports, ..., k): value (..., k) and slopes (ports, ..., k)."""
        return self.device.law(self.law_parameters({}), u)

    def acting(self) -> NDArray[np.bool_]:
        """Ports (ports, k) that may move the device's output: by the law's slopes with all ports at 0.

        The law of an expression may be flat there, as ``v(a)^3`` and ``uramp(v(a))`` are: all its ports act.
        """
        acts = np.asarray(self.evaluate(np.zeros((len(self.terminals), len(self.names))))[1] != 0)
        acts[0] |= self.device.conducts
        acts[1:] |= self.expression is not None
        return acts

    def rows(self) -> Iterator[tuple[str, list[list[int]], dict[str, float]]]:
        """Device by device: name, the two terminals of each port, parameters."""
        columns = {name: values.tolist() for name, values in self.parameters.items()}
        places = np.moveaxis(self.terminals, 2, 0).tolist()
        for k, (name, ports) in enumerate(zip(self.names, places, strict=True)):
            yield name, ports, {parameter: values[k] for parameter, values in columns.items()}


@dataclass(frozen=True, eq=False)
class Addition:
    """Devices of one kind that may join a netlist: their form has been checked, their names not yet."""

    kind: str
    names: list[str]
    ends: list[list[str]]  # nodes: first and second of each port
    special: list[Special]
    parameters: dict[str, list[float]]
    expression: Expression | None
    waveform: Waveform | None  # of a single source
    ac: complex

    @property
    def key(self) -> tuple[str, int]:
        """Of the bank that it joins: one a kind, and one an expression."""
        return self.kind, id(self.expression)


def addition(
    kind: str, names: Sequence[str], a: Names, b: Names, *controls: Controls,
    parameters: Mapping[str, ArrayLike], expression: Expression | None = None,
    waveform: Waveform | None = None, ac: complex = 0.0,
) -> Addition:  # fmt: skip
    """Arguments as of :meth:`Netlist.bank`, checked; raises :class:`NetlistError`."""
    if kind not in DEVICES:
        raise NetlistError(f"unknown kind of device {kind!r}; use one of {', '.join(DEVICES)}")
    names = [names] if isinstance(names, str) else _listed(names)
    pairs, special = _ports(names, controls)
    _check_ports(kind, names, 1 + len(pairs), expression)
    if not np.isfinite(ac):
        raise NetlistError(f"{names[0]}: ac amplitude is {ac}; give a finite number")
    ends = [_spread(names, nodes) for pair in ((a, b), *pairs) for nodes in pair]
    return Addition(
        kind, names, ends, special, _checked(kind, names, parameters), expression, waveform, complex(ac)
    )


@dataclass
class Columns:
    """A bank while it grows. Control ports in ``special`` are no node pair, and 0 in ``terminals``."""

    kind: str
    expression: Expression | None
    names: list[str] = field(default_factory=list)
    terminals: list[list[int]] = field(default_factory=list)  # two a port
    parameters: dict[str, list[float]] = field(default_factory=dict)
    special: list[Special] = field(default_factory=list)
    waveforms: dict[int, Waveform] = field(default_factory=dict)
    ac: dict[int, complex] = field(default_factory=dict)

    def extend(self, new: Addition, nodes: dict[str, int]) -> None:
        """Take the new devices in; nodes not seen before get the next numbers."""
        first = len(self.names)
        self.names += new.names
        self.special += [(port, first + k, control) for port, k, control in new.special]
        self.terminals = self.terminals or [[] for _ in new.ends]
        for column, ends in zip(self.terminals, new.ends, strict=True):
            column += [nodes.setdefault(node, len(nodes)) for node in ends]
        for name, values in new.parameters.items():
            self.parameters.setdefault(name, []).extend(values)
        if new.waveform is not None:
            self.waveforms[first] = new.waveform
        if new.ac:
            self.ac[first] = new.ac

    def freeze(self, branches: Mapping[str, int], time: int) -> Bank:
        """As arrays; ``branches`` and ``time`` are places in the full vector."""
        terminals = np.array(self.terminals, np.intp).reshape(-1, 2, len(self.names))
        for port, k, control in self.special:
            if isinstance(control, Time):
                terminals[port, 0, k] = time
            elif control.device in branches:
                terminals[port, 0, k] = branches[control.device]
            else:
                raise NetlistError(
                    f"{self.names[k]}: it is controlled by the current of {control.device!r}, which is "
                    "no voltage source or other voltage-defined device: put a source of 0 V in its path"
                )
        own = [branches[name] for name in self.names] if DEVICES[self.kind].voltage_defined else None
        return Bank(
            self.kind,
            tuple(self.names),
            _fixed(terminals),
            {name: _fixed(np.array(values)) for name, values in self.parameters.items()},
            None if own is None else _fixed(np.array(own, np.intp)),
            self.expression,
            dict(self.waveforms),
            dict(self.ac),
        )


def _fixed(array: NDArray[Any]) -> NDArray[Any]:
    array.setflags(write=False)
    return array


def _listed(values: Any) -> list[Any]:
    """As a list of Python objects, which costs less to walk than an array."""
    return values.tolist() if isinstance(values, np.ndarray) else list(values)


def _spread(names: list[str], nodes: Names) -> list[str]:
    """One node for every device."""
    one = isinstance(nodes, str) or not isinstance(nodes, Sequence | np.ndarray)
    spread: list[Any] = [nodes] * len(names) if one else _listed(nodes)
    if len(spread) != len(names):
        raise NetlistError(f"{len(spread)} nodes for {len(names)} devices: give one, or one each")
    return spread


def _ports(names: list[str], controls: Sequence[Controls]) -> tuple[list[tuple[Names, Names]], list[Special]]:
    """Node pairs of the control ports, and (port, device, control) of those that are no node pair."""
    pairs: list[tuple[Names, Names]] = []
    special: list[Special] = []
    for port, control in enumerate(controls, 1):
        if isinstance(control, Current | Time):
            control = [control] * len(names)  # type: ignore[list-item]
        if len(control) and isinstance(control[0], Current | Time):
            if len(control) != len(names):
                raise NetlistError(f"{len(control)} controls for {len(names)} devices: give one, or one each")
            special += [(port, k, one) for k, one in enumerate(control)]  # type: ignore[misc]
            control = (GROUND, GROUND)
        pairs.append(control)  # type: ignore[arg-type]
    return pairs, special


def _check_ports(kind: str, names: Sequence[str], ports: int, expression: Expression | None) -> None:
    controls = DEVICES[kind].controls
    if (controls is None) != (expression is not None):
        raise NetlistError(f"{kind}: {'give an' if controls is None else 'it takes no'} expression")
    if expression is not None:
        controls = len(expression.ports)
    if ports != 1 + (controls or 0):
        raise NetlistError(f"{kind} {names[0] if names else ''}: {ports - 1} controls, it takes {controls}")


def _checked(kind: str, names: list[str], given: Mapping[str, ArrayLike]) -> dict[str, list[float]]:
    """Every parameter of the kind as one number a device, within its range."""
    wanted = [parameter.name for parameter in DEVICES[kind].parameters]
    if set(given) != set(wanted):
        raise NetlistError(f"{kind}: parameters are {', '.join(wanted)}; got {', '.join(given)}")
    values: dict[str, Array] = {}
    for key in wanted:
        try:
            values[key] = np.broadcast_to(np.asarray(given[key], np.float64), len(names))
        except (TypeError, ValueError):
            raise NetlistError(
                f"{kind} {names[0] if names else ''}: {key} is {given[key]!r}; "
                f"it takes one number, or one for each of {len(names)} devices"
            ) from None
    check_ranges(kind, names, values)
    return {key: value.tolist() for key, value in values.items()}


def check_ranges(
    kind: str, names: Sequence[str], values: Mapping[str, Array], changed: str | None = None
) -> None:
    """Raise a :class:`NetlistError` for the first value (..., k) out of its parameter's range.

    ``values`` holds all parameters of the kind; with ``changed``, only what that one touches is looked at.
    """
    for parameter in DEVICES[kind].parameters:
        if changed not in (None, parameter.name, parameter.bound):
            continue
        value, bound = values[parameter.name], parameter.bound
        bounds = values[bound] if isinstance(bound, str) else bound
        value, bounds = np.broadcast_arrays(value, bounds)
        wrong = np.argwhere(np.atleast_1d(~parameter.accepts(value, bounds)))
        if wrong.size:
            where = tuple(wrong[0])
            limit = float(bounds[where].real)
            raise NetlistError(
                f"{names[where[-1]]}: {parameter.name} is {value[where]:g} {parameter.unit}; "
                f"give {parameter.allowed(limit)}"
            )


def some(names: Sequence[str], noun: str = "device", most: int = 6) -> str:
    """The first few names, and how many more there are."""
    listed = ", ".join(repr(name) for name in names[:most])
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return f"{noun}{'s' if len(names) > 1 else ''} {listed}{more}"

"""A circuit as named nodes and banks of devices sorted by law.

    net = Netlist("divider")
    net.voltage_source("V1", "in", "0", 1.0)
    net.resistor("R1", "in", "out", conductance=1e-6)
    net.resistor("R2", "out", "0", conductance=3e-6)

Node ``"0"`` is ground. Currents count from a device's first node, through it, into its second (SPICE's
sign). Names of nodes and devices are any non-empty strings, and case matters. A call that is refused
leaves the netlist as it was.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from .devices import AMPLIFIER_LAWS, DEVICES, Array, Device

GROUND = "0"
Names = str | Sequence[str]


class NetlistError(ValueError):
    """A netlist that says something impossible: names the device or node, the value and the remedy."""


@dataclass(frozen=True, eq=False)
class Bank:
    """All devices of one kind: names, terminals (4, k) as node indices (0 is ground), parameters (k,)."""

    kind: str
    names: tuple[str, ...]
    terminals: NDArray[np.intp]  # rows: first, second, positive control, negative control
    parameters: Mapping[str, Array]

    @property
    def device(self) -> Device:
        """The kind's law and description."""
        return DEVICES[self.kind]

    def evaluate(self, v: Array, v_ctrl: Array, scale: float = 1.0) -> tuple[Array, Array, Array]:
        """The law at ``v``, ``v_ctrl`` (k,) [V], independent outputs times ``scale``."""
        parameters = self.parameters
        if scale != 1.0:
            scaled = {name: scale * parameters[name] for name in self.device.source_parameters}
            parameters = {**parameters, **scaled}
        return self.device.law(parameters, v, v_ctrl)

    def rows(self) -> Iterator[tuple[str, list[int], dict[str, float]]]:
        """Device by device: name, four terminals, parameters."""
        columns = {name: values.tolist() for name, values in self.parameters.items()}
        for k, (name, ends) in enumerate(zip(self.names, self.terminals.T.tolist(), strict=True)):
            yield name, ends, {parameter: values[k] for parameter, values in columns.items()}


@dataclass
class _Columns:
    """A bank while it grows."""

    names: list[str] = field(default_factory=list)
    terminals: list[list[int]] = field(default_factory=lambda: [[], [], [], []])
    parameters: dict[str, list[float]] = field(default_factory=dict)


class Netlist:
    """Nodes and banks of devices; grows by the methods below, each of which checks what it is given."""

    def __init__(self, title: str = "untitled") -> None:
        self.title = title
        self._nodes: dict[str, int] = {GROUND: 0}
        self._kinds: dict[str, str] = {}  # of every device, by name
        self._columns: dict[str, _Columns] = {}

    @property
    def nodes(self) -> tuple[str, ...]:
        """Names of the nodes other than ground, in order of first use."""
        return tuple(self._nodes)[1:]

    @property
    def banks(self) -> tuple[Bank, ...]:
        """The devices so far, sorted by kind, as arrays."""
        return tuple(
            Bank(
                kind,
                tuple(columns.names),
                np.array(columns.terminals, np.intp),
                {name: np.array(values) for name, values in columns.parameters.items()},
            )
            for kind, columns in self._columns.items()
        )

    def __len__(self) -> int:
        """Number of devices."""
        return len(self._kinds)

    def resistor(self, name: str, a: str, b: str, *, conductance: float) -> None:
        """``i = g (v_a - v_b)``, conductance g [S] at least 0."""
        self.bank("resistor", [name], a, b, conductance=conductance)

    def capacitor(self, name: str, a: str, b: str, capacitance: float) -> None:
        """Capacitance [F] at least 0: open at an operating point."""
        self.bank("capacitor", [name], a, b, capacitance=capacitance)

    def voltage_source(self, name: str, a: str, b: str, voltage: float) -> None:
        """``v_a - v_b = voltage`` [V]."""
        self.bank("voltage_source", [name], a, b, voltage=voltage)

    def current_source(self, name: str, a: str, b: str, current: float) -> None:
        """``current`` [A] from a through the source into b."""
        self.bank("current_source", [name], a, b, current=current)

    def vccs(self, name: str, a: str, b: str, cp: str, cn: str, transconductance: float) -> None:
        """``i = gm (v_cp - v_cn)`` from a through the source into b, gm [S] of either sign."""
        self.bank("vccs", [name], a, b, (cp, cn), transconductance=transconductance)

    def vcvs(self, name: str, a: str, b: str, cp: str, cn: str, gain: float) -> None:
        """``v_a - v_b = gain (v_cp - v_cn)``."""
        self.bank("vcvs", [name], a, b, (cp, cn), gain=gain)

    def amplifier(
        self, name: str, out: str, input: str, *, law: str, low: float, high: float, gain: float,
        offset: float, knee: float = 0.05,
    ) -> None:  # fmt: skip
        """``v_out = f(v_input)``, an ideal voltage output against ground.

        ``law`` is ``logistic``, ``tanh`` or ``softplus``: see :mod:`ohmostat.simulator.neurons` for
        the curves and their rails low < high [V], gain > 0 [V/V], offset [V] and knee [V].
        """
        if law not in AMPLIFIER_LAWS:
            raise NetlistError(f"{name}: unknown law {law!r}; use one of {', '.join(AMPLIFIER_LAWS)}")
        self.bank(
            law, [name], out, GROUND, (input, GROUND),
            low=low, high=high, gain=gain, offset=offset, knee=knee,
        )  # fmt: skip

    def bank(
        self, kind: str, names: Sequence[str], a: Names, b: Names,
        control: tuple[Names, Names] = (GROUND, GROUND), **parameters: ArrayLike,
    ) -> None:  # fmt: skip
        """Add many devices of one kind at once: all of them, or none and an error.

        Nodes ``a``, ``b`` and those of ``control`` are one name for all devices or a sequence (k,);
        parameters, those of the methods above, are one value or an array (k,).
        """
        if kind not in DEVICES:
            raise NetlistError(f"unknown kind of device {kind!r}; use one of {', '.join(DEVICES)}")
        names = [names] if isinstance(names, str) else _listed(names)
        ends = [_spread(names, nodes) for nodes in (a, b, *control)]
        values = _checked(kind, names, parameters)
        self._check_names(names, ends)
        if not names:
            return
        columns = self._columns.setdefault(kind, _Columns())
        columns.names += names
        self._kinds.update(dict.fromkeys(names, kind))
        for column, nodes in zip(columns.terminals, ends, strict=True):
            column += [self._nodes.setdefault(node, len(self._nodes)) for node in nodes]
        for name, column_values in values.items():
            columns.parameters.setdefault(name, []).extend(column_values)

    def checked_voltages(self, voltages: Mapping[str, float]) -> dict[str, float]:
        """Starting voltages [V] by node, without ground's; an error if a node or a value cannot be."""
        for node, volts in voltages.items():
            if node not in self._nodes:
                raise NetlistError(f"initial voltages: netlist {self.title!r} has no node {node!r}")
            if not np.isfinite(volts):
                raise NetlistError(f"initial voltages: node {node!r} at {volts} V; give a finite value")
        return {node: float(volts) for node, volts in voltages.items() if node != GROUND}

    def validate(self) -> None:
        """Raise a :class:`NetlistError` for circuits without an operating point, naming the culprits."""
        if len(self._nodes) == 1:
            raise NetlistError(f"netlist {self.title!r} has no node besides ground: add devices")
        self._check_voltage_loops()
        self._check_floating_nodes()

    def _check_voltage_loops(self) -> None:
        """In a loop of voltage-defined devices a current could circle at any strength."""
        edges = [row for bank in self.banks if bank.device.voltage_defined for row in bank.rows()]
        ends = np.array([terminals[:2] for _, terminals, _ in edges], np.intp).reshape(-1, 2).T
        count, _ = self._components(ends)
        if len(edges) == len(self._nodes) - count:  # a forest
            return
        loop = _first_loop([(name, terminals[0], terminals[1]) for name, terminals, _ in edges])
        raise NetlistError(
            f"voltages are fixed all around a loop by {_some(loop)}, which leaves its current undetermined: "
            "remove one or put a resistor in the loop"
        )

    def _check_floating_nodes(self) -> None:
        """Nodes without a DC path to ground, unless controlled sources may fix their voltage."""
        nothing = np.empty(0, np.intp)
        conducting, driven, sensed = [np.empty((2, 0), np.intp)], [nothing], [nothing]
        for bank in self.banks:
            zero = np.zeros(len(bank.names))
            _, slope, control_slope = bank.evaluate(zero, zero)
            conducting.append(bank.terminals[:2, slope != 0])
            acts = control_slope != 0
            sensed.append(bank.terminals[2:, acts].ravel())
            if not bank.device.voltage_defined:
                driven.append(bank.terminals[:2, acts].ravel())
        count, label = self._components(np.concatenate(conducting, axis=1))
        settled = np.zeros((3, count), bool)
        settled[0, label[0]] = True
        settled[1, label[np.concatenate(driven)]] = True
        settled[2, label[np.concatenate(sensed)]] = True
        floats = ~(settled[0] | (settled[1] & settled[2]))[label]
        if floats.any():
            nodes = [node for node, adrift in zip(self._nodes, floats, strict=True) if adrift]
            raise NetlistError(
                f"floating: no DC path to ground from {_some(nodes, 'node')}: "
                "add a resistor or a source (capacitors and current sources are no path)"
            )

    def _components(self, ends: NDArray[np.intp]) -> tuple[int, NDArray[np.intp]]:
        """Number of connected parts of the graph with edges ``ends`` (2, k), and each node's part."""
        size = len(self._nodes)
        graph = coo_array((np.ones(ends.shape[1]), (ends[0], ends[1])), shape=(size, size))
        count, label = connected_components(graph, directed=False)
        return int(count), label.astype(np.intp)

    def _check_names(self, names: Sequence[object], ends: Sequence[Sequence[object]]) -> None:
        seen: set[str] = set()
        for name in names:
            if not isinstance(name, str) or not name:
                raise NetlistError(f"device name {name!r}: a name is a non-empty string")
            if name in self._kinds or name in seen:
                kind = self._kinds.get(name, "device of the same call")
                raise NetlistError(f"device {name!r} exists already ({kind}); give each its own name")
            seen.add(name)
        for nodes in ends:
            for name, node in zip(names, nodes, strict=True):
                if not isinstance(node, str) or not node:
                    raise NetlistError(f"{name}: node {node!r}: a name is a non-empty string")


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


def _checked(kind: str, names: list[str], given: Mapping[str, ArrayLike]) -> dict[str, list[float]]:
    """Every parameter of the kind as one number a device, within its range."""
    wanted = [parameter.name for parameter in DEVICES[kind].parameters]
    if set(given) != set(wanted):
        raise NetlistError(f"{kind}: parameters are {', '.join(wanted)}; got {', '.join(given)}")
    values: dict[str, list[float]] = {}
    for key in wanted:
        try:
            values[key] = np.broadcast_to(np.asarray(given[key], np.float64), len(names)).tolist()
        except (TypeError, ValueError):
            raise NetlistError(
                f"{kind} {names[0] if names else ''}: {key} is {given[key]!r}; "
                f"it takes one number, or one for each of {len(names)} devices"
            ) from None
    for parameter in DEVICES[kind].parameters:
        bound = parameter.bound
        bounds = values[bound] if isinstance(bound, str) else [bound] * len(names)
        for name, value, limit in zip(names, values[parameter.name], bounds, strict=True):
            if not parameter.accepts(value, limit):
                what, unit = parameter.name, parameter.unit
                raise NetlistError(f"{name}: {what} is {value:g} {unit}; give {parameter.allowed(limit)}")
    return values


def _first_loop(edges: list[tuple[str, int, int]]) -> list[str]:
    """Names of the edges around the first loop that ``edges`` (name, from, to) close."""
    tree: dict[int, list[tuple[int, str]]] = {}
    for name, a, b in edges:
        paths: dict[int, list[str]] = {a: []}
        fringe = [a]
        while fringe and b not in paths:
            here = fringe.pop()
            for there, edge in tree.get(here, []):
                if there not in paths:
                    paths[there] = [*paths[here], edge]
                    fringe.append(there)
        if b in paths:
            return [*paths[b], name]
        tree.setdefault(a, []).append((b, name))
        tree.setdefault(b, []).append((a, name))
    return []


def _some(names: Sequence[str], noun: str = "device", most: int = 6) -> str:
    """The first few names, and how many more there are."""
    listed = ", ".join(repr(name) for name in names[:most])
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return f"{noun}{'s' if len(names) > 1 else ''} {listed}{more}"

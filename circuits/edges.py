"""Networks whose every edge is a transistor: the gate voltage is what the edge has learned.

    network = TransistorNetwork(square_lattice(4, 4), inputs=("0.0", "1.1"), outputs=(("2.2", "3.3"),),
                                constants={"0.2": 0.0, "2.0": 0.45})
    chip = network.fabricate(EdgeMismatch(threshold=0.02), seed=7)
    chip.settle(gates, inputs).outputs

The channel between the two nodes of an edge follows the EKV law, in all its regions, both ways
(:func:`ohmostat.simulator.semiconductors.ekv`). Voltage sources hold the inputs and the constants; the
outputs are read as node voltages or as differences of two. (Dillavou, Beyer, Stern, Liu, Miskin and Durian,
*PNAS* 121 (2024), arXiv:2311.00537, build such networks from discrete transistors.)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..simulator.netlist import Netlist
from ..simulator.semiconductors import NOMINAL_TEMPERATURE, thermal_voltage
from . import mismatch as draws
from .graphs import Graph, NetworkError

if TYPE_CHECKING:
    from ..simulator.channel_kernels import Channels
    from .edge_equilibrium import EdgeEquilibrium

Array = NDArray[Any]
Ranges = Mapping[str, tuple[float, float, str]]  # lowest, highest, unit
REFERENCES = ("ground", "middle")
COPIES = ("free", "clamped")  # the twin networks of a chip


def check_ranges(what: str, values: object, ranges: Ranges) -> None:
    """NetworkError for the first attribute of ``values`` that is not in its range."""
    for name, (low, high, unit) in ranges.items():
        value = getattr(values, name)
        if not low <= value <= high:
            given, least, most = (f"{x:g} {unit}".strip() for x in (value, low, high))
            raise NetworkError(f"{what}: {name} is {given}; give a value from {least} to {most}")


@dataclass(frozen=True)
class Transistor:
    """The n-channel transistor of every edge: parameters of the EKV law, and what leaks past its channel.

    ``vto``, ``phi`` [V], ``kp`` [A/V²], ``gamma`` [√V], ``lambda_`` [1/V], ``w``, ``l`` [m], ``leak`` [S]
    across the channel, ``temperature`` [K]. The leak keeps nodes from floating whose channels are off.
    """

    vto: float = 0.7
    kp: float = 1e-4
    gamma: float = 0.5
    phi: float = 0.7
    lambda_: float = 0.0
    w: float = 1e-6
    l: float = 1e-6  # noqa: E741
    leak: float = 1e-12
    temperature: float = NOMINAL_TEMPERATURE

    def __post_init__(self) -> None:
        check_ranges("transistor", self, {
            "vto": (-10.0, 10.0, "V"), "kp": (1e-9, 1.0, "A/V²"), "gamma": (0.0, 10.0, "√V"),
            "phi": (0.1, 2.0, "V"), "lambda_": (0.0, 1.0, "1/V"), "w": (1e-9, 1.0, "m"),
            "l": (1e-9, 1.0, "m"), "leak": (1e-15, 1e-3, "S"), "temperature": (200.0, 500.0, "K"),
        })  # fmt: skip

    def slope_factor(self, gate: float) -> float:
        """``n = 1 + gamma / (2 √(phi + vp + 4Vt))`` at a ``gate`` voltage [V] against the bulk."""
        lifted = max(gate - self.vto + self.phi + self.gamma * self.phi**0.5, 0.0)
        vp = lifted - self.gamma * ((lifted + self.gamma**2 / 4) ** 0.5 - self.gamma / 2) - self.phi
        depth = (self.phi + vp + 4 * thermal_voltage(self.temperature)) ** 0.5
        return float(1 + self.gamma / (2 * depth))

    def specific_current(self, gate: float) -> float:
        """``2 n kp (w/l) Vt²`` [A]: the current at the middle of moderate inversion."""
        vt = float(thermal_voltage(self.temperature))
        return 2 * self.slope_factor(gate) * self.kp * self.w / self.l * vt**2


@dataclass(frozen=True)
class EdgeMismatch:
    """The spread of a chip's transistors and multipliers, drawn once a chip, and apart for its two networks.

    ``threshold`` [V], standard deviation; ``current``, that of ln ``kp``; ``stuck_open`` and
    ``stuck_closed``, shares of the transistors that do not conduct, and whose gate is stuck at the upper
    rail; ``offset`` [A], standard deviation of the current that an edge's multiplier adds to its gate.
    """

    threshold: float = 0.0
    current: float = 0.0
    stuck_open: float = 0.0
    stuck_closed: float = 0.0
    offset: float = 0.0

    def __post_init__(self) -> None:
        check_ranges("mismatch", self, {
            "threshold": (0.0, 1.0, "V"), "current": (0.0, 3.0, ""), "stuck_open": (0.0, 1.0, ""),
            "stuck_closed": (0.0, 1.0 - self.stuck_open, ""), "offset": (0.0, 1.0, "A"),
        })  # fmt: skip

    @classmethod
    def pelgrom(cls, a_vt: float, a_beta: float, transistor: Transistor, **others: float) -> EdgeMismatch:
        """From a process's coefficients ``a_vt`` [V m] and ``a_beta`` [m]: spreads ``A / √(w l)`` (Pelgrom et
        al. 1989).
        """
        root = (transistor.w * transistor.l) ** 0.5
        return cls(a_vt / root, a_beta / root, **others)


Output = str | tuple[str, str]


@dataclass(frozen=True)
class TransistorNetwork:
    """A graph of transistors and what surrounds it.

    Attributes:
        graph: nodes, and edges, each of them one transistor.
        inputs: nodes that hold what the network is asked.
        outputs: nodes that are read, or pairs of them whose difference is.
        constants: voltages [V] of nodes that never change.
        transistor: of every edge, before mismatch.
        reference: from where gate and bulk are held. ``ground``: as usual; ``middle``: both follow the middle
            between source and drain, by which the network is reciprocal (docs/edges.md).
        rails: lowest and highest gate voltage [V].
        gate_capacitance, node_capacitance: [F].
    """

    graph: Graph
    inputs: tuple[str, ...]
    outputs: tuple[Output, ...]
    constants: Mapping[str, float] = field(default_factory=dict)
    transistor: Transistor = Transistor()
    reference: str = "ground"
    rails: tuple[float, float] = (0.0, 5.0)
    gate_capacitance: float = 1e-12
    node_capacitance: float = 1e-13

    def __post_init__(self) -> None:
        capacitances = dict.fromkeys(("gate_capacitance", "node_capacitance"), (1e-18, 1.0, "F"))
        check_ranges("network", self, capacitances)
        if self.reference not in REFERENCES:
            raise NetworkError(f"reference is {self.reference!r}; use one of {', '.join(REFERENCES)}")
        if not -100.0 <= self.rails[0] < self.rails[1] <= 100.0:
            raise NetworkError(
                f"rails are {self.rails} V; give two from -100 V to 100 V, the lower one first"
            )
        for node, volts in self.constants.items():
            if not -100.0 <= volts <= 100.0:
                raise NetworkError(f"constant node {node!r} is at {volts:g} V; give -100 V to 100 V")
        used = [*self.inputs, *self.constants, *self._output_names]
        if not self.outputs or not (self.inputs or self.constants):
            raise NetworkError("a network needs an output, and an input or a constant: name their nodes")
        for node in used:
            self.graph.place(node)
            if used.count(node) > 1:
                raise NetworkError(
                    f"node {node!r} is named twice among inputs, constants and outputs; once is all"
                )

    @property
    def _output_names(self) -> list[str]:
        return [node for out in self.outputs for node in ((out,) if isinstance(out, str) else out)]

    @cached_property
    def output_nodes(self) -> Array:
        """Places (m,) of the nodes that are read, in the order of ``outputs``."""
        return np.array([self.graph.place(node) for node in self._output_names])

    @cached_property
    def readout(self) -> Array:
        """What is read of them, (outputs, m): rows such as ``[1]``, or ``[1, -1]`` for a difference."""
        matrix, column = np.zeros((len(self.outputs), len(self.output_nodes))), 0
        for row, out in enumerate(self.outputs):
            weights = (1.0,) if isinstance(out, str) else (1.0, -1.0)
            matrix[row, column : column + len(weights)] = weights
            column += len(weights)
        return matrix

    @cached_property
    def held_nodes(self) -> Array:
        """Places of inputs, then constants."""
        return np.array([self.graph.place(node) for node in (*self.inputs, *self.constants)], np.int64)

    @cached_property
    def held(self) -> NDArray[np.bool_]:
        """(n,) whether a source holds the node."""
        held = np.zeros(len(self.graph), bool)
        held[self.held_nodes] = True
        return held

    def sources(self, inputs: ArrayLike) -> Array:
        """Voltages (B, held) [V] of all sources for ``inputs`` (B, n_in) [V]; NetworkError for others."""
        given = np.atleast_2d(np.asarray(inputs, np.float64))
        if given.ndim != 2 or given.shape[1] != len(self.inputs) or not np.isfinite(given).all():
            raise NetworkError(
                f"inputs of shape {np.shape(inputs)}; give finite voltages (samples, {len(self.inputs)})"
            )
        constants = np.tile(np.array(list(self.constants.values()), np.float64), (len(given), 1))
        return np.concatenate([given, constants], axis=1)

    def fabricate(self, mismatch: EdgeMismatch | None = None, seed: int = 0) -> EdgeChip:
        """One chip: two networks, every transistor's deviation drawn; the same seed is the same chip."""
        spread, edges = mismatch or EdgeMismatch(), (len(self.graph.edges),)
        vto, strength, closed = [], [], []
        for copy in COPIES:
            shift = draws.standard_normals(seed, f"edges/{copy}/threshold", edges) * spread.threshold
            gain = draws.conductance_gain(seed, f"edges/{copy}/current", edges, spread.current)
            opened, shut = draws.stuck(
                seed, f"edges/{copy}/stuck", edges, spread.stuck_open, spread.stuck_closed
            )
            vto.append(self.transistor.vto + shift)
            strength.append(
                np.where(opened, 0.0, gain * self.transistor.kp * self.transistor.w / self.transistor.l)
            )
            closed.append(shut)
        offset = draws.standard_normals(seed, "edges/offset", edges) * spread.offset
        return EdgeChip(self, seed, np.array(vto), np.array(strength), np.array(closed), offset)


@dataclass(frozen=True, eq=False)
class EdgeChip:
    """One fabricated chip: a free and a clamped network that share their gate capacitors.

    Attributes:
        vto, strength: (2, k) threshold [V] and ``kp w/l`` [A/V²] of every transistor, by network.
        closed: (2, k) whether its gate is stuck at the upper rail.
        offset: (k,) current [A] that an edge's multiplier adds to its gate.
    """

    network: TransistorNetwork
    seed: int
    vto: Array
    strength: Array
    closed: Array
    offset: Array

    @property
    def edges(self) -> int:
        """How many there are."""
        return len(self.offset)

    def channels(self, copy: int = 0) -> Channels:
        """One network as the kernels see it."""
        from ..simulator.channel_kernels import Channels

        t, (first, second) = self.network.transistor, self.network.graph.ends
        gamma, phi, lambda_, leak = (np.full(self.edges, x) for x in (t.gamma, t.phi, t.lambda_, t.leak))
        return Channels(
            first, second, self.vto[copy], self.strength[copy], gamma, phi, lambda_, leak, self.closed[copy],
            float(self.network.rails[1]), float(thermal_voltage(t.temperature)),
            self.network.reference == "middle",
        )  # fmt: skip

    def random_gates(self, seed: int, low: float, high: float) -> Array:
        """Gate voltages (k,) [V] to start from, between ``low`` and ``high`` [V]."""
        gates: Array = low + (high - low) * draws.uniforms(seed, "edges/gates", (self.edges,))
        return gates

    def settle(
        self, gates: ArrayLike, inputs: ArrayLike, *, copy: int = 0, clamp: ArrayLike | None = None
    ) -> EdgeEquilibrium:
        """The equilibria under ``gates`` (k,) or (B, k) [V] of ``inputs`` (B, n_in) [V]; of the network
        ``copy``, its output nodes held at ``clamp`` (B, m) [V] where that is given.

        Raises NetworkError for arrays of another shape. See :mod:`.edge_equilibrium`.
        """
        from .edge_equilibrium import settle

        return settle(self, gates, inputs, copy, clamp)

    def netlist(
        self,
        gates: ArrayLike,
        inputs: Sequence[float] | Array,
        copy: int = 0,
        clamp: Sequence[float] | None = None,
    ) -> Netlist:
        """One network on one sample as a flat netlist: transistors ``M``, their leaks ``R``, gates ``Vg``,
        each with its edge's number; nodes keep their names behind ``n``. ``clamp`` (m,) [V] holds outputs.
        """
        net = Netlist("transistor network", temperature=self.network.transistor.temperature)
        names = [f"n{name}" for name in self.network.graph.names]
        held = [names[k] for k in self.network.held_nodes]
        volts = self.network.sources(inputs)[0]
        if clamp is not None:
            held += [names[k] for k in self.network.output_nodes]
            volts = np.concatenate([volts, np.asarray(clamp, np.float64)])
        net.bank("voltage_source", [f"V{node}" for node in held], held, "0", voltage=volts)
        stores = [f"g{k}" for k in range(self.edges)]
        actual = np.where(self.closed[copy], self.network.rails[1], np.asarray(gates, np.float64))
        net.bank("voltage_source", [f"V{store}" for store in stores], stores, "0", voltage=actual)
        self.add_channels(net, names, stores, copy)
        return net

    def add_channels(
        self, net: Netlist, names: Sequence[str], stores: Sequence[str], copy: int, tag: str = ""
    ) -> None:
        """Add one network's transistors and leaks between the nodes ``names``; ``stores`` are the nodes that
        have the gates' voltages against ground.
        """
        transistor, (first, second) = self.network.transistor, self.network.graph.ends
        a, b = [names[k] for k in first], [names[k] for k in second]
        gate, bulk = list(stores), ["0"] * self.edges
        if self.network.reference == "middle":
            gate, bulk = _following(net, a, b, stores, tag)
        edges = range(self.edges)
        net.bank(
            "ekv", [f"M{tag}{k}" for k in edges], a, b, (gate, bulk), (b, bulk), polarity=1,
            vto=self.vto[copy], kp=self.strength[copy], gamma=transistor.gamma, phi=transistor.phi,
            lambda_=transistor.lambda_, w=1.0, l=1.0, temperature=transistor.temperature,
        )  # fmt: skip
        net.bank("resistor", [f"R{tag}{k}" for k in edges], a, b, conductance=transistor.leak)


def _following(
    net: Netlist, a: list[str], b: list[str], stores: Sequence[str], tag: str
) -> tuple[list[str], list[str]]:
    """Nodes of gates and bulks that follow the middle of their channel: ``v = (v_a + v_b)/2 (+ store)``."""
    edges = range(len(a))
    half, bulk, gate = ([f"{kind}{tag}{k}" for k in edges] for kind in ("h", "b", "t"))
    net.bank("vcvs", [f"Eh{tag}{k}" for k in edges], half, "0", (a, "0"), gain=0.5)
    net.bank("vcvs", [f"Eb{tag}{k}" for k in edges], bulk, half, (b, "0"), gain=0.5)
    net.bank("vcvs", [f"Et{tag}{k}" for k in edges], gate, bulk, (stores, "0"), gain=1.0)
    return gate, bulk

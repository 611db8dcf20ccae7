"""A chip, flat: every device of a :class:`Chip` as an element of a netlist, for one sample.

Passive columns become resistors between drivers and nodes; on virtual-ground columns, which do not load
their drivers' nodes, each device is a voltage-controlled current source of its conductance. Inverting
drivers, drivers with gains of their own, amplifiers, leaks and capacitors are elements too.

A resistive network's conductances are resistors as they stand. Its diodes are SPICE's; ideal ones, which
SPICE has not, conduct `STEEP` beyond their barriers. A bidirectional amplifier is a voltage source of a_f
times its node's voltage, and one that draws a_b times that source's current from the node.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from ..simulator.blocks import Array
from ..simulator.devices import Current
from ..simulator.expressions import Expression, parse_expression
from ..simulator.netlist import Netlist
from .chip import Chip
from .equilibrium import Equilibrium
from .families import BIAS, INPUT, Bank

STEEP = 1e3  # S, of an ideal diode: its voltage is then some 0.1 uV at 100 uA


@dataclass(frozen=True)
class SquaredErrorNudge:
    """``-β (s - y) / swing²`` into every output node: β [W], targets y (n_out,) [V]."""

    beta: float
    targets: Sequence[float]


def node(layer: int, index: int) -> str:
    """Name of a neuron's node."""
    return f"v{layer}_{index}"


def port(layer: int, index: int) -> str:
    """Name of a port: a neuron's output, an input or the bias."""
    if layer == INPUT:
        return f"x_{index}"
    return "bias" if layer == BIAS else f"s{layer}_{index}"


def flatten(chip: Chip, inputs: ArrayLike, nudge: SquaredErrorNudge | None = None) -> Netlist:
    """The netlist of ``chip`` with one sample's ``inputs`` (n_in,) [V], free or nudged."""
    x = np.asarray(inputs, np.float64)
    if x.shape != (chip.circuit.inputs,):
        raise ValueError(
            f"inputs have shape {x.shape}; a flat chip takes one sample of {chip.circuit.inputs} voltages [V]"
        )
    if chip.circuit.design.wires.resistive:
        raise ValueError(
            "a chip with resistive wires is not flattened: set wires.row and wires.column to 0, or solve its "
            "arrays by ohmostat.simulator.wires.crossbar, whose netlist has every segment"
        )
    heat = {"temperature": chip.circuit.design.corner.temperature} if chip.blocks.clamps else {}
    net = Netlist(f"{chip.circuit.design.name}, chip {chip.seed}", **heat)
    for j, volts in enumerate(x):
        net.voltage_source(f"Vx_{j}", port(INPUT, j), "0", float(volts))
    net.voltage_source("Vbias", port(BIAS, 0), "0", chip.bias_voltage)
    for layer in range(len(chip.circuit.sizes)):
        (_nodes if chip.blocks.clamps else _neurons)(net, chip, layer)
    for bank in chip.circuit.banks:
        if not bank.returned:
            _bank(net, chip, bank)
    for forward, backward in chip.circuit.feedback_pairs:
        if backward.returned:
            _bidirectional(net, chip, forward, backward)
    if nudge is not None:
        _nudge(net, chip, nudge)
    return net


def voltages(chip: Chip, by_node: dict[str, float]) -> Array:
    """Node voltages (N,) [V] in the chip's state order, from a flat solution by node name."""
    state = np.empty(chip.blocks.size)
    for layer, n in enumerate(chip.circuit.sizes):
        state[chip.blocks.slices[layer]] = [by_node[node(layer, i)] for i in range(n)]
    return state


def initial_guess(chip: Chip, state: Equilibrium, sample: int = 0) -> dict[str, float]:
    """Node and port voltages of an equilibrium by name: where to start a flat solve (``.nodeset``)."""
    guess: dict[str, float] = {}
    for layer, n in enumerate(chip.circuit.sizes):
        v = chip.blocks.layer(state.voltages, layer)[sample]
        s = state.layer(layer)[sample]
        guess |= {node(layer, i): float(v[i]) for i in range(n)}
        if not chip.blocks.clamps:
            guess |= {port(layer, i): float(s[i]) for i in range(n)}
    return guess


def voltages_by_node(chip: Chip, inputs: ArrayLike, state: Equilibrium, sample: int = 0) -> dict[str, float]:
    """Voltage [V] of every node of the flat chip, by its name there, as an equilibrium has it: node and port
    voltages as they settled on ``inputs`` (n_in,) [V]; the nodes between, from what drives them.
    """
    found = {port(INPUT, j): float(v) for j, v in enumerate(np.asarray(inputs, np.float64))}
    found |= {port(BIAS, 0): float(chip.bias_voltage)} | initial_guess(chip, state, sample)
    for layer in range(len(chip.circuit.sizes) if chip.blocks.clamps else 0):
        found |= {f"k{side}{layer}_{i}": barrier for i, side, barrier, _ in _diodes(chip, layer)}
    for bank in chip.circuit.banks:
        if bank.returned:
            continue
        tag, ports, inverted = _tag(bank), chip.planes(bank).shape[2], _inverted(chip, bank)
        for j in range(ports):
            drive = port(bank.pre, j)
            if bank.driven:
                behind = node(bank.pre, j) if chip.circuit.resistive else drive
                drive = f"d_{tag}_{j}"
                found[drive] = float(chip.drivers[bank.name][j]) * found[behind]
                if chip.circuit.resistive:
                    found[f"q_{tag}_{j}"] = found[drive]
            if inverted:
                found[f"n_{tag}_{j}"] = -found[drive]
    return found


def of_inputs(chip: Chip) -> set[str]:
    """Names of the input nodes, and of what drivers make of them."""
    tags = [_tag(bank) for bank in chip.circuit.banks if bank.pre == INPUT]
    behind = [f"{kind}_{tag}_{j}" for kind in "dqn" for tag in tags for j in range(chip.circuit.inputs)]
    return {port(INPUT, j) for j in range(chip.circuit.inputs)} | set(behind)


def output_names(chip: Chip) -> list[str]:
    """Name of every output: what its amplifier makes of the node, or the node itself where it has none."""
    last = len(chip.circuit.sizes) - 1
    return [(node if chip.blocks.clamps else port)(last, i) for i in range(chip.circuit.sizes[-1])]


def _tag(bank: Bank) -> str:
    """A bank's name as part of SPICE names."""
    return bank.name.replace(".", "_")


def _inverted(chip: Chip, bank: Bank) -> bool:
    """Whether a bank's drivers drive the opposite voltage, too."""
    return chip.circuit.kappa > 0 and chip.planes(bank).shape[0] > 1


def _neurons(net: Netlist, chip: Chip, layer: int) -> None:
    blocks, spec, where = chip.blocks, chip.neuron, chip.blocks.slices[layer]
    for i in range(chip.circuit.sizes[layer]):
        k, v = where.start + i, node(layer, i)
        net.resistor(f"Rleak{layer}_{i}", v, "0", conductance=spec.leak)
        net.capacitor(f"C{layer}_{i}", v, "0", float(blocks.capacitance[k]))
        net.amplifier(
            f"B{layer}_{i}", port(layer, i), v, law=spec.law, low=spec.low, high=spec.high,
            gain=float(blocks.gain[k]), offset=float(blocks.offset[k]), knee=spec.knee,
        )  # fmt: skip


def _nodes(net: Netlist, chip: Chip, layer: int) -> None:
    """Nodes of a resistive network: capacitor, insulation and diodes, with the sources behind these."""
    blocks, spec, where = chip.blocks, chip.circuit.design.resistive, chip.blocks.slices[layer]
    for i in range(chip.circuit.sizes[layer]):
        k, v = where.start + i, node(layer, i)
        net.capacitor(f"C{layer}_{i}", v, "0", float(blocks.capacitance[k]))
        net.resistor(f"Rleak{layer}_{i}", v, "0", conductance=chip.leak)
    for i, side, barrier, size in _diodes(chip, layer):
        name, v, source = f"{side}{layer}_{i}", node(layer, i), f"k{side}{layer}_{i}"
        net.voltage_source(f"Vk{name}", source, "0", barrier)
        ends = (v, source) if side == "a" else (source, v)
        if spec.diode == "shockley":
            net.diode(f"D{name}", *ends, is_=size, n=spec.ideality, gmin=0.0, tnom=net.temperature)
        elif spec.diode == "ideal":
            net.behavioural(f"B{name}", *ends, _steep(*ends), voltage=False)
        else:
            raise ValueError(
                "SPICE has no element for measured diodes: fit saturation and ideality to their curve, "
                'and write resistive.diode = "shockley"'
            )


def _diodes(chip: Chip, layer: int) -> Iterator[tuple[int, str, float, float]]:
    """Of a layer's nodes: node, side (``a``: above, it conducts from the node; ``b``: below), barrier [V] and
    size.
    """
    diodes, where = chip.blocks.diodes, chip.blocks.slices[layer]
    for i, k in enumerate(range(where.start, where.stop)):
        for side, barriers, sizes in ("a", diodes.high, diodes.above), ("b", diodes.low, diodes.below):
            if sizes[k]:
                yield i, side, float(barriers[k]), float(sizes[k])


def _steep(a: str, b: str) -> Expression:
    return parse_expression(f"{STEEP:g}*max(v({a})-v({b}),0)")


def _bidirectional(net: Netlist, chip: Chip, forward: Bank, backward: Bank) -> None:
    """The amplifiers of a layer's nodes: the voltage behind each, and its current drawn from the node."""
    tag = _tag(forward)
    ahead, back = chip.drivers[forward.name], chip.drivers[backward.name]
    for j in range(chip.circuit.sizes[forward.pre]):
        v, behind, drive = node(forward.pre, j), f"q_{tag}_{j}", f"d_{tag}_{j}"
        net.vcvs(f"Eq_{tag}_{j}", behind, "0", v, "0", float(ahead[j]))
        net.voltage_source(f"Vq_{tag}_{j}", behind, drive, 0.0)
        net.cccs(f"Fq_{tag}_{j}", v, "0", Current(f"Vq_{tag}_{j}"), float(back[j]))


def _bank(net: Netlist, chip: Chip, bank: Bank) -> None:
    """One read direction of an array: its drivers, then its devices."""
    actual = chip.planes(bank).astype(np.float64)
    tag, passive, inverted = _tag(bank), chip.circuit.kappa > 0, _inverted(chip, bank)
    for j in range(actual.shape[2]):
        drive = port(bank.pre, j)
        if bank.driven:
            drive = f"d_{tag}_{j}"
        if bank.driven and not chip.circuit.resistive:
            net.vcvs(
                f"Ed_{tag}_{j}",
                drive,
                "0",
                port(bank.pre, j),
                "0",
                float(chip.drivers[bank.name][j]),
            )
        inverse = f"n_{tag}_{j}"
        if inverted:
            net.vcvs(f"En_{tag}_{j}", inverse, "0", drive, "0", -1.0)
        for i in range(actual.shape[1]):
            plus, minus, v = float(actual[0, i, j]), float(actual[-1, i, j]), node(bank.post, i)
            if not (plus or minus):  # no devices there, or open ones
                continue
            if len(actual) == 1:
                net.resistor(f"R_{tag}_{i}_{j}", drive, v, conductance=plus)
            elif passive:
                net.resistor(f"Rp_{tag}_{i}_{j}", drive, v, conductance=plus)
                net.resistor(f"Rm_{tag}_{i}_{j}", inverse, v, conductance=minus)
            else:
                net.vccs(f"Gp_{tag}_{i}_{j}", "0", v, drive, "0", plus)
                net.vccs(f"Gm_{tag}_{i}_{j}", v, "0", drive, "0", minus)


def _nudge(net: Netlist, chip: Chip, nudge: SquaredErrorNudge) -> None:
    last, outputs = len(chip.circuit.sizes) - 1, output_names(chip)
    if len(nudge.targets) != len(outputs):
        raise ValueError(
            f"the nudge has {len(nudge.targets)} targets; give one for each of {len(outputs)} outputs [V]"
        )
    if chip.circuit.resistive and chip.circuit.design.resistive.outputs == "paired":
        raise ValueError("paired outputs are nudged by twos, which is not flattened; flatten the free chip")
    slope = nudge.beta / chip.circuit.design.neuron.swing**2
    for i, (target, output) in enumerate(zip(nudge.targets, outputs, strict=True)):
        net.voltage_source(f"Vy_{i}", f"y_{i}", "0", float(target))
        net.vccs(f"Gnudge_{i}", node(last, i), "0", output, f"y_{i}", slope)

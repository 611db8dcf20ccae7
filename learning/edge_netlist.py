"""The whole learning machine as one netlist: both networks, their sources in time, multipliers, capacitors.

What :class:`~ohmostat.learning.edges.EdgeMachine` takes to be settled at every instant moves here with the
charge of every node, so that a transient of it, by the netlist engine or in SPICE, checks the machine.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..circuits.edges import COPIES, Array
from ..circuits.graphs import NetworkError
from ..simulator.expressions import parse_expression
from ..simulator.netlist import Netlist
from ..simulator.waveforms import PiecewiseLinear
from .edges import EdgeMachine, EdgeTask

EDGE = 1e-4  # of a period: what a source takes from one sample to the next


def machine_netlist(machine: EdgeMachine, task: EdgeTask, order: Sequence[int]) -> Netlist:
    """A twin machine that is shown the samples ``order``, a period each, from time 0 on.

    Nodes are ``f`` (free) and ``c`` (clamped) with the graph's name, and ``g`` with an edge's number: its
    gate voltage against ground, on a capacitor. A transient starts from gate voltages given as
    ``stored={"Cg0": ...}`` with ``uic=True``. Rails do not clip. Raises NetworkError for a machine that works
    in turn.
    """
    chip, network = machine.chip, machine.chip.network
    if machine.timing != "twin":
        raise NetworkError(f"timing is {machine.timing!r}: its sampling switches have no netlist; use twin")
    net = Netlist("a machine that learns", temperature=network.transistor.temperature)
    sources = network.sources(task.inputs)
    held = [network.graph.names[k] for k in network.held_nodes]
    gates = [f"g{k}" for k in range(chip.edges)]
    net.voltage_source("Vrail", "rail", "0", float(network.rails[1]))
    net.bank("capacitor", [f"C{gate}" for gate in gates], gates, "0", capacitance=network.gate_capacitance)
    for copy, name in enumerate(COPIES):
        tag = name[0]
        nodes = [f"{tag}{node}" for node in network.graph.names]
        for node, volts in zip(held, sources.T, strict=True):
            net.voltage_source(
                f"V{tag}{node}", f"{tag}{node}", "0", waveform=_shown(volts, order, machine.period)
            )
        net.bank(
            "capacitor", [f"C{node}" for node in nodes], nodes, "0", capacitance=network.node_capacitance
        )
        stores = ["rail" if shut else gate for shut, gate in zip(chip.closed[copy], gates, strict=True)]
        chip.add_channels(net, nodes, stores, copy, tag)
    _add_multipliers(net, machine, gates)
    for t, volts in enumerate(task.targets.T):
        net.voltage_source(f"Vt{t}", f"t{t}", "0", waveform=_shown(volts, order, machine.period))
    _add_push(net, machine)
    return net


def _shown(volts: Array, order: Sequence[int], period: float) -> PiecewiseLinear:
    """One source's voltage in time."""
    starts = period * np.arange(1, len(order))
    times = np.concatenate([[0.0], np.stack([starts, starts + EDGE * period], axis=1).ravel()])
    values = np.repeat(volts[list(order)], 2)[: len(times)]
    return PiecewiseLinear(tuple(times), tuple(values))


def _add_multipliers(net: Netlist, machine: EdgeMachine, gates: list[str]) -> None:
    """``gain (Δv_free² - Δv_clamped²)`` and its offset [A] into every gate's capacitor."""
    names, (first, second) = machine.chip.network.graph.names, machine.chip.network.graph.ends
    contrast = parse_expression("(v(a)-v(b))^2-(v(c)-v(d))^2")
    for k, gate in enumerate(gates):
        controls = [(f"{tag}{names[end[k]]}", "0") for tag in "fc" for end in (first, second)]
        net.behavioural(f"B{gate}", "0", gate, contrast, voltage=False, controls=controls, scale=machine.gain)
    net.bank("current_source", [f"I{gate}" for gate in gates], "0", gates, current=machine.chip.offset)


def _add_push(net: Netlist, machine: EdgeMachine) -> None:
    """Outputs of the clamped network: held a share towards the targets, or pushed by a current.

    ``v_j = o_j + η Σ_t R_tj (y_t - R o)_t / |R_t|²``, or ``i_j = β Σ_t R_tj (y_t - R v)_t``.
    """
    network, holds = machine.chip.network, machine.drive == "held"
    names = [network.graph.names[k] for k in network.output_nodes]
    for j, name in enumerate(names):
        (t,) = np.flatnonzero(network.readout[:, j])  # every node is part of one output
        row = network.readout[t]
        tag, share = ("f", machine.nudge * row[j] / (row @ row)) if holds else ("c", machine.nudge * row[j])
        terms = "".join(f"-({float(row[i])!r})*v({tag}{names[i]})" for i in np.flatnonzero(row))
        error = f"({float(share)!r})*(v(t{t}){terms})"
        if holds:
            expression = parse_expression(f"v(f{name})+{error}")
            net.behavioural(f"Bp{j}", f"c{name}", "0", expression, voltage=True)
        else:
            net.behavioural(f"Bp{j}", "0", f"c{name}", parse_expression(error), voltage=False)

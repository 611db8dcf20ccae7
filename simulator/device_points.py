"""What transistors and diodes do at an operating point: currents, voltages and slopes, as a designer asks for
them.

Signs are the terminals' own: ``id`` flows into the drain, and is negative, as ``vgs`` and ``vds`` are, in a
p-channel transistor that conducts. ngspice (``@m1[id]``) turns these three round for such ones.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from .banks import Bank
from .devices import Array
from .netlist import Netlist
from .operating_point import OperatingPoint

TRANSISTOR = {"id": "A", "vgs": "V", "vds": "V", "gm": "S", "gds": "S"}
DIODE = {"id": "A", "vd": "V", "gd": "S"}
DevicePoints = Mapping[str, Mapping[str, float]]


def device_points(net: Netlist, point: OperatingPoint) -> dict[str, dict[str, float]]:
    """By name of each MOSFET: drain current ``id`` [A], bulk diode included, ``vgs``, ``vds`` [V] of the
    channel (within series resistances), ``gm``, ``gds`` [S], the slopes of its current by gate and drain
    voltage; of each diode: current ``id`` [A], voltage ``vd`` [V] across the junction, slope ``gd`` [S].
    """
    full = np.concatenate([[0.0], point.x, [0.0]])
    into_drain = dict(_into_drains(net, full))
    found: dict[str, dict[str, float]] = {}
    for bank in net.banks:
        if bank.kind not in ("mosfet", "ekv", "diode"):
            continue
        u, current, slopes = _evaluated(bank, full)
        if bank.kind == "diode":
            columns = {"id": current, "vd": u[0], "gd": slopes[0]}
        else:  # ports: drain to source; then gate to source, or, of EKV, gate and source to bulk
            vgs = u[1] if bank.kind == "mosfet" else u[1] - u[2]
            extra = np.array([into_drain.get(name, 0.0) for name in bank.names])
            columns = {"id": current + extra, "vgs": vgs, "vds": u[0], "gm": slopes[1], "gds": slopes[0]}
        for k, name in enumerate(bank.names):
            found[name] = {key: float(values[k]) for key, values in columns.items()}
    return found


def _evaluated(bank: Bank, full: Array) -> tuple[Array, Array, Array]:
    """Port voltages (ports, k), currents (k,) and slopes (ports, k) of a bank."""
    u = full[bank.terminals[:, 0]] - full[bank.terminals[:, 1]]
    current, slopes = bank.device.law(bank.law_parameters({}), u[:, None])
    return u, current[0], slopes[:, 0]


def _into_drains(net: Netlist, full: Array) -> Iterator[tuple[str, float]]:
    """What the diode between bulk and drain adds to the current into the drain, by transistor."""
    polarity = {
        name: sign
        for bank in net.banks
        if bank.kind == "mosfet"
        for name, sign in zip(bank.names, bank.parameters["polarity"].tolist(), strict=True)
    }
    for bank in net.banks:
        if bank.kind == "bulk_diode":
            currents = _evaluated(bank, full)[1].tolist()
            for name, current in zip(bank.names, currents, strict=True):
                transistor, _, which = name.rpartition("#")
                if which == "bd" and transistor in polarity:  # an n-channel one's leads from bulk to drain
                    yield transistor, -polarity[transistor] * current

"""Netlists as SPICE text, and ngspice's answer to them.

Numbers are written with the up to 17 digits that give the same float64 again. Names that SPICE would not keep
(it folds case, and gives some characters a meaning) are replaced; a comment line ``*@node n1 "Net 1"``
records each replacement, so that :func:`run_ngspice` answers with the original names.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping

from .banks import GROUND, NetlistError
from .netlist import Netlist
from .ngspice import SpiceError, ngspice_available, run_ngspice
from .semiconductors import NOMINAL_TEMPERATURE
from .spice_cards import CARDS, Element, Models, number

__all__ = ["OPTIONS", "SpiceError", "ngspice_available", "run_ngspice", "write_spice"]

# Tight enough for agreement to well below 1 µV. gmin [S] acts on semiconductor junctions only, as in our own
# equations; where a netlist has some, it is theirs, and otherwise named so that no default gets in.
OPTIONS: dict[str, float] = {
    "reltol": 1e-10,
    "vntol": 1e-12,  # [V]
    "abstol": 1e-16,  # [A]
    "gmin": 1e-15,  # [S]
    "itl1": 1000,  # Newton iterations
}

_SAFE = re.compile(r"(?!gnd$|time$|temper$|hertz$)[a-z][a-z0-9_]{0,63}|[1-9][0-9]{0,8}")
_OPTION = re.compile(r"[a-z][a-z0-9]*")


def write_spice(
    net: Netlist,
    *,
    initial: Mapping[str, float] | None = None,
    options: Mapping[str, float] | None = None,
) -> str:
    """``net`` as a SPICE netlist: ``ngspice -b FILE`` prints its operating point.

    ``initial`` are node voltages [V] to start from (``.nodeset``); ``options`` go on top of
    ``OPTIONS`` onto the ``.options`` line.
    """
    nodes, devices, models = _node_names(net), _device_names(net), Models()
    lines = [f"* {_printable(net.title)}"]
    for what, mapping in (("node", nodes), ("device", devices)):
        lines += [f"*@{what} {new} {json.dumps(old)}" for old, new in mapping.items() if old != new]
    for kind, name, element in _elements(net, nodes, devices):
        lines.append(f"{devices[name]} {CARDS[kind](element, models)}")
    lines += models.lines()
    lines.append(".options " + " ".join(f"{k}={number(v)}" for k, v in _options(net, options).items()))
    for node, volts in net.checked_voltages(initial or {}).items():
        lines.append(f".nodeset v({nodes[node]})={number(volts)}")
    return "\n".join([*lines, ".op", ".end", ""])


def _elements(
    net: Netlist, nodes: Mapping[str, str], devices: Mapping[str, str]
) -> Iterator[tuple[str, str, Element]]:
    """Kind, name and element of every device that has a card of its own."""
    where: list[tuple[str, bool]] = [(GROUND, True), *((nodes[node], True) for node in net.nodes)]
    where += [(f"i({devices[name]})", net.kind(name) == "voltage_source") for name in net.branches]
    where.append(("time", True))
    bulk = _bulk_diodes(net)
    for bank in net.banks:
        if bank.kind == "bulk_diode":
            continue
        for k, (name, ports, parameters) in enumerate(bank.rows()):
            for first, _ in ports[1:]:
                if not where[first][1] and bank.kind != "inductor":
                    raise NetlistError(
                        f"{name}: SPICE lets no device sense {where[first][0]}: sense a source"
                    )
            junctions = [bulk.pop(f"{name}#{tag}", None) for tag in ("bd", "bs") if bank.kind == "mosfet"]
            if None in junctions:
                raise NetlistError(f"{name}: SPICE's MOSFET has bulk diodes: build it by Netlist.mosfet")
            yield bank.kind, name, Element(
                [(where[a][0], where[b][0] if a <= len(nodes) else None) for a, b in ports],
                parameters, bank.expression, bank.waveforms.get(k), bank.ac.get(k, 0.0),
                [junction for junction in junctions if junction is not None],
            )  # fmt: skip
    if bulk:
        raise NetlistError(f"{next(iter(bulk))}: SPICE has bulk diodes only with a MOSFET: use a diode")


def _bulk_diodes(net: Netlist) -> dict[str, dict[str, float]]:
    """Their parameters, by name."""
    return {name: p for bank in net.banks if bank.kind == "bulk_diode" for name, _, p in bank.rows()}


def _options(net: Netlist, options: Mapping[str, float] | None) -> dict[str, float]:
    merged = {**OPTIONS, **_conditions(net), **(options or {})}
    for name in merged:
        if not _OPTION.fullmatch(name):
            raise ValueError(f"options: {name!r} is no name of an ngspice option")
    return merged


def _conditions(net: Netlist) -> dict[str, float]:
    """What SPICE has one of for the whole circuit: gmin [S], temperature [°C]."""
    conditions: dict[str, float] = {}
    for parameter in ("gmin", "temperature"):
        banks = [bank for bank in net.banks if parameter in bank.parameters]
        values = sorted({value for bank in banks for value in bank.parameters[parameter].tolist()})
        if len(values) > 1:
            names = [bank.names[0] for bank in banks]
            raise NetlistError(
                f"{names[0]}: {parameter} is not the same for all devices, {values[0]:g} to {values[-1]:g}: "
                "SPICE has one for the whole circuit"
            )
        if values and parameter == "gmin":
            conditions["gmin"] = values[0]
        elif values and values[0] != NOMINAL_TEMPERATURE:
            conditions["temp"] = conditions["tnom"] = values[0] - 273.15
    return conditions


def _node_names(net: Netlist) -> dict[str, str]:
    """SPICE name of every node."""
    return _renamed([(node, "n", _SAFE.fullmatch(node) is not None) for node in net.nodes])


def _device_names(net: Netlist) -> dict[str, str]:
    """SPICE name of every device: its first letter must say its kind."""
    wanted = []
    for bank in net.banks:
        letter = bank.device.spice_letter
        for name in bank.names if bank.kind != "bulk_diode" else ():
            fits = name[0].upper() == letter and _SAFE.fullmatch(name.lower()) is not None
            wanted.append((name, letter, fits))
    return _renamed(wanted)


def _renamed(wanted: list[tuple[str, str, bool]]) -> dict[str, str]:
    """Names, distinct without regard to case, for (name, prefix, safe): the name itself where safe."""
    result: dict[str, str] = {}
    taken: set[str] = set()
    for name, _, safe in wanted:
        if safe and name.lower() not in taken:
            result[name] = name
            taken.add(name.lower())
    number = 0
    for name, prefix, _ in wanted:
        while name not in result:
            number += 1
            if (new := f"{prefix}{number}").lower() not in taken:
                result[name] = new
                taken.add(new.lower())
    return result


def _printable(title: str) -> str:
    """One line of plain text, without what ngspice takes for a continuation."""
    return re.sub(r"[^ -~]|\\", "?", title)

"""Netlists as SPICE text, and ngspice's answer to them.

Numbers are written with the up to 17 digits that give the same float64 again; ngspice rounds a constant
in a behavioural source to 11 digits, so there they are a sum of two. Names that SPICE would not keep (it
folds case, and gives some characters a meaning) are replaced; a comment line ``*@node n1 "Net 1"`` records
each replacement, so that :func:`run_ngspice` answers with the original names.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from .netlist import GROUND, Netlist

# Tight enough for agreement to well below 1 µV. gmin [S] acts on semiconductor junctions only, which
# these netlists do not have, as in our own equations; it is named so that no default gets in.
OPTIONS: dict[str, float] = {
    "reltol": 1e-10,
    "vntol": 1e-12,  # [V]
    "abstol": 1e-16,  # [A]
    "gmin": 1e-15,  # [S]
    "itl1": 1000,  # Newton iterations
}

_SAFE = re.compile(r"(?!gnd$|time$|temper$|hertz$)[a-z][a-z0-9_]{0,63}|[1-9][0-9]{0,8}")
_RECORD = re.compile(r'^\*@node (\S+) (".*")$', re.MULTILINE)
_OPTION = re.compile(r"[a-z][a-z0-9]*")
_FORBIDDEN = re.compile(r"^\s*(\.(control|inc\w*|lib)\b|\*#).*|.*\\\\\s*$", re.MULTILINE | re.IGNORECASE)


class SpiceError(RuntimeError):
    """ngspice is missing, refused the netlist, or found no operating point."""


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
    nodes, devices = _node_names(net), _device_names(net)
    where = [GROUND, *(nodes[node] for node in net.nodes)]
    lines = [f"* {_printable(net.title)}"]
    for what, mapping in (("node", nodes), ("device", devices)):
        lines += [f"*@{what} {new} {json.dumps(old)}" for old, new in mapping.items() if old != new]
    for bank in net.banks:
        card = _CARDS[bank.kind]
        for name, ends, parameters in bank.rows():
            lines.append(f"{devices[name]} {card([where[end] for end in ends], parameters)}")
    lines.append(".options " + " ".join(f"{k}={_number(v)}" for k, v in _options(options).items()))
    for node, volts in net.checked_voltages(initial or {}).items():
        lines.append(f".nodeset v({nodes[node]})={_number(volts)}")
    return "\n".join([*lines, ".op", ".end", ""])


def ngspice_available() -> bool:
    """Whether ``ngspice`` is on the search path."""
    return shutil.which("ngspice") is not None


def run_ngspice(text: str, *, timeout: float = 60.0) -> dict[str, float]:
    """Operating point of a SPICE netlist by ngspice: voltage [V] of every node, ground included.

    ngspice runs in a temporary folder, without its start-up files and for at most ``timeout`` seconds.
    Netlists with ngspice commands (``.control``) or included files are refused. Node names come back
    as :func:`write_spice` was given them; ngspice folds others to lower case. Raises
    :class:`SpiceError`.
    """
    program = shutil.which("ngspice")
    if program is None:
        raise SpiceError("ngspice is not on the PATH: install it (Debian, Ubuntu: apt-get install ngspice)")
    if found := _FORBIDDEN.search(text):
        raise SpiceError(f"line {found.group().strip()!r} is refused: no commands or files are run")
    with tempfile.TemporaryDirectory(prefix="ohmostat-") as folder:
        Path(folder, "circuit.cir").write_text(text, encoding="ascii", errors="replace")
        command = [program, "-n", "-b", "-r", "point.raw", "-o", "log.txt", "circuit.cir"]
        environment = {k: v for k, v in os.environ.items() if k != "SPICE_ASCIIRAWFILE"}
        try:
            process = subprocess.run(
                command, cwd=folder, env=environment, timeout=timeout, capture_output=True, check=False
            )
        except subprocess.TimeoutExpired:
            raise SpiceError(f"ngspice took more than {timeout:g} s: allow a longer timeout") from None
        log, raw = Path(folder, "log.txt"), Path(folder, "point.raw")
        if process.returncode or not raw.exists():
            said = log.read_text(errors="replace")[-2000:] if log.exists() else "(it left no log)"
            raise SpiceError(f"ngspice found no operating point; its log ends:\n{said}")
        voltages = _read_raw(raw.read_bytes())
    original = {new: json.loads(old) for new, old in _RECORD.findall(text)}
    return {GROUND: 0.0, **{original.get(node, node): volts for node, volts in voltages.items()}}


def _read_raw(content: bytes) -> dict[str, float]:
    """Node voltages of the first point of a binary raw file: a text header, then float64 values."""
    header, mark, data = content.partition(b"Binary:\n")
    variable = re.compile(r"^\s+(\d+)\s+v\((\S+)\)\s+voltage\s*$", re.MULTILINE)
    count = re.search(rb"^No\. Variables: (\d+)", header, re.MULTILINE)
    if not mark or count is None or len(data) < 8 * int(count[1]):
        raise SpiceError("ngspice's raw file is cut short or not an operating point")
    values = np.frombuffer(data, np.float64, int(count[1]))
    found = variable.findall(header.decode(errors="replace"))
    return {node: float(values[int(index)]) for index, node in found}


def _options(options: Mapping[str, float] | None) -> dict[str, float]:
    merged = {**OPTIONS, **(options or {})}
    for name in merged:
        if not _OPTION.fullmatch(name):
            raise ValueError(f"options: {name!r} is no name of an ngspice option")
    return merged


def _node_names(net: Netlist) -> dict[str, str]:
    """SPICE name of every node."""
    return _renamed([(node, "n", _SAFE.fullmatch(node) is not None) for node in net.nodes])


def _device_names(net: Netlist) -> dict[str, str]:
    """SPICE name of every device: its first letter must say its kind."""
    wanted = []
    for bank in net.banks:
        letter = bank.device.spice_letter
        for name in bank.names:
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


def _number(value: float) -> str:
    """The shortest text that reads back as the same float64."""
    return repr(float(value)).removesuffix(".0")


def _constant(value: float) -> str:
    """A constant of a behavioural source: two parts, as ngspice keeps 11 digits of each."""
    head = f"{value:.10e}"
    rest = value - float(head)
    return f"({head}{rest:+.10e})" if rest else f"({head})"


def _two_terminal(parameter: str) -> Card:
    return lambda ends, p: f"{ends[0]} {ends[1]} {_number(p[parameter])}"


def _controlled(parameter: str) -> Card:
    return lambda ends, p: f"{' '.join(ends)} {_number(p[parameter])}"


def _resistor(ends: Sequence[str], p: Mapping[str, float]) -> str:
    """In ohms; an open one too, which SPICE has no word for."""
    g = p["conductance"]
    return f"{ends[0]} {ends[1]} {_number(1.0 / g) if g > 1e-300 else '1e300'}"


def _logistic(ends: Sequence[str], p: Mapping[str, float]) -> str:
    """``1 / (1 + exp(-u))`` as ``(1 + tanh(u / 2)) / 2``, which cannot overflow."""
    swing = p["high"] - p["low"]
    half_u = f"{_constant(2.0 * p['gain'] / swing)}*(v({ends[2]})-{_constant(p['offset'])})"
    return f"{ends[0]} {ends[1]} V={_constant(p['low'])}+{_constant(swing / 2.0)}*(1+tanh({half_u}))"


def _softplus(ends: Sequence[str], p: Mapping[str, float]) -> str:
    """``log(1 + exp(u))`` as ``max(u, 0) + log(1 + exp(-|u|))``, which cannot overflow."""
    gain, knee = p["gain"], p["knee"]
    tops = (p["offset"], p["offset"] + (p["high"] - p["low"]) / gain)
    u = [f"((v({ends[2]})-{_constant(top)})/{_constant(knee)})" for top in tops]
    lower, upper = (f"(max({x},0)+ln(1+exp(-abs({x}))))" for x in u)
    return f"{ends[0]} {ends[1]} V={_constant(p['low'])}+{_constant(gain * knee)}*({lower}-{upper})"


Card = Callable[[Sequence[str], Mapping[str, float]], str]

_CARDS: dict[str, Card] = {
    "resistor": _resistor,
    "capacitor": _two_terminal("capacitance"),
    "voltage_source": _two_terminal("voltage"),
    "current_source": _two_terminal("current"),
    "vccs": _controlled("transconductance"),
    "vcvs": _controlled("gain"),
    "logistic": _logistic,
    "tanh": _logistic,  # the same curve
    "softplus": _softplus,
}

"""ngspice beside us: runs a SPICE netlist and reads everything that ngspice answers.

ngspice folds names to lower case and calls a device inside a subcircuit by its letter, its instances and
its name (``i(v.x1.vs)`` for ``VS`` in ``X1``), a node by its instances and its name (``v(x1.out)``).
Repeated analyses of one kind run in reverse order; here they come back in the netlist's order.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]

# ngspice's own defaults: reltol 1e-3, vntol 1e-6, abstol 1e-12, itl1 100, itl4 10, trtol 7, method trap.
TIGHT: dict[str, float | str] = {
    "reltol": 1e-10,
    "vntol": 1e-12,  # [V]
    "abstol": 1e-16,  # [A]
    "itl1": 1000,  # Newton iterations of an operating point
}
# Tighter than this, rounding keeps ngspice's estimate of the local error above the tolerance, and it ends
# with "Timestep too small". Waves then err by up to 0.3 % of their swing: only short steps help further.
TIGHT_TRANSIENT: dict[str, float | str] = {
    "reltol": 1e-6,
    "vntol": 1e-9,  # [V]
    "abstol": 1e-12,  # [A]
    "trtol": 1,  # by how much the estimate of the local error is believed to exaggerate
    "itl1": 1000,
    "itl4": 100,  # Newton iterations of a time point, before its step is cut
}

_PLOTS = {
    "Operating Point": "op",
    "DC transfer characteristic": "dc",
    "Transient Analysis": "tran",
    "AC Analysis": "ac",
    "Noise Spectral Density Curves": "noise",
    "Integrated Noise": "noise total",
    "Transfer Function": "tf",
}
NETLIST, LOG, RAW = "netlist.cir", "log.txt", "waves.raw"  # files in ngspice's folder

_MEASURED = re.compile(r"^([a-z_][\w.]*)\s*=\s+([-+]?\d\S*)", re.MULTILINE)  # as it prints .meas
_RENAMED = re.compile(r'^\*@(node|device) (\S+) (".*")$', re.MULTILINE)
# A title *ng_script turns the whole file into commands.
_FORBIDDEN = re.compile(
    r"^\s*(\.(control|inc\w*|lib|title)\b|\*#|\*ng_script).*|.*\\\\\s*$", re.MULTILINE | re.IGNORECASE
)
_TRANSIENT = re.compile(r"^\s*\.tran[^\S\n]+\S+[^\S\n]+\S+.*$", re.MULTILINE | re.IGNORECASE)
_END = re.compile(r"^\s*\.end\s*$", re.MULTILINE | re.IGNORECASE)


class SpiceError(RuntimeError):
    """ngspice is missing, refused the netlist, or found no answer."""


@dataclass(frozen=True)
class Waves:
    """What one analysis gave.

    ``vectors`` maps names to arrays (points,), complex for ``.ac``: ``v(node)`` [V]; ``i(device)`` [A]
    of devices with a branch current (V, L, E, H, B with ``V=``); ``time`` [s]; ``frequency`` [Hz];
    ``sweep``, the inner variable of ``.dc``; ``onoise_spectrum`` and ``inoise_spectrum`` [V/√Hz or A/√Hz]
    and each device's part; ``onoise_total`` and ``inoise_total`` [V or A]; ``transfer_function``,
    ``input_impedance`` [Ω] and ``output_impedance`` [Ω] of ``.tf``. ``plot`` is ngspice's own name.
    """

    plot: str
    vectors: Mapping[str, Array]

    def __getitem__(self, name: str) -> Array:
        if name not in self.vectors:
            raise KeyError(f"{self.plot} has no {name!r}: it has {', '.join(self.vectors)}")
        return self.vectors[name]


def ngspice_available() -> bool:
    """Whether ``ngspice`` is on the search path."""
    return shutil.which("ngspice") is not None


def run_ngspice(text: str, *, timeout: float = 60.0) -> dict[str, float]:
    """Operating point of a SPICE netlist by ngspice: voltage [V] of every node, ground included.

    The netlist must ask for ``.op``. Limits, names and errors are those of :func:`simulate_with_ngspice`.
    """
    plots = simulate_with_ngspice(text, timeout=timeout)
    if "op" not in plots:
        raise SpiceError("the netlist asks for no operating point: add a line .op")
    values = plots["op"].vectors
    return {"0": 0.0, **{name[2:-1]: float(v[0]) for name, v in values.items() if name.startswith("v(")}}


def simulate_with_ngspice(
    text: str, *, folder: str | os.PathLike[str] | None = None, timeout: float = 60.0
) -> dict[str, Waves]:
    """All analyses of a SPICE netlist by ngspice.

    They come back by kind: ``op``, ``dc``, ``tran``, ``ac``, ``noise``, ``noise total`` and ``tf``; the
    second of a kind is ``tran 2``, and so on. Names come back as :func:`~.spice.write_spice` was given them;
    ngspice folds others to lower case. ngspice runs without its start-up files and for at most ``timeout``
    seconds in a temporary folder, or in ``folder``, which keeps the netlist, the log and the raw file.
    Netlists with ngspice commands (``.control``) or included files are refused.

    Raises :class:`SpiceError` where ngspice is missing, refuses, fails or takes too long; its message ends
    with ngspice's log.
    """
    place = contextlib.nullcontext(folder) if folder else tempfile.TemporaryDirectory(prefix="ohmostat-")
    with place as where:
        raw = _run(text, Path(where), timeout, ("-r", RAW)) / RAW
        if not raw.exists():
            raise _refusal(Path(where))
        content = raw.read_bytes()
    names = {(what, new.lower()): json.loads(old) for what, new, old in _RENAMED.findall(text)}
    return _by_kind(list(_plots(content, names)))


def measure_with_ngspice(text: str, *, timeout: float = 60.0) -> dict[str, float]:
    """What ngspice measures (``.meas``) in a SPICE netlist of one analysis, by name; those that fail are left
    out. Limits and errors are those of :func:`simulate_with_ngspice`.
    """
    with tempfile.TemporaryDirectory(prefix="ohmostat-") as where:
        said = (_run(text, Path(where), timeout) / LOG).read_text(errors="replace")
    return {name: float(value) for name, value in _MEASURED.findall(said)}


def with_options(text: str, options: Mapping[str, float | str]) -> str:
    """``text`` with an ``.options`` line before its ``.end``, where it overrides those before it.

    ``TIGHT`` serves operating points, sweeps and small signals, ``TIGHT_TRANSIENT`` transients, together
    with :func:`with_steps`.
    """
    line = ".options " + " ".join(f"{name}={value}" for name, value in options.items())
    ends = list(_END.finditer(text))
    at = ends[-1].start() if ends else len(text)
    return f"{text[:at].rstrip()}\n{line}\n{text[at:] or '.end'}"


def with_steps(text: str, steps: int) -> str:
    """``text`` with transients of at least ``steps`` steps: the longest step of each ``.tran`` replaced."""

    def limited(card: re.Match[str]) -> str:
        words = card.group().split()
        step, stop, *rest = [word for word in words[1:] if word.lower() != "uic"]
        start = rest[0] if rest else "0"
        longest = f"{{({stop.strip('{}')})/{steps}}}"
        return " ".join([words[0], step, stop, start, longest, *(w for w in words if w.lower() == "uic")])

    return _TRANSIENT.sub(limited, text)


def _run(text: str, folder: Path, timeout: float, options: Sequence[str] = ()) -> Path:
    """Run ngspice in a folder, where it leaves its files."""
    program = shutil.which("ngspice")
    if program is None:
        raise SpiceError("ngspice is not on the PATH: install it (Debian, Ubuntu: apt-get install ngspice)")
    if found := _FORBIDDEN.search(text):
        raise SpiceError(f"line {found.group().strip()!r} is refused: no commands or files are run")
    (folder / NETLIST).write_text(text, encoding="ascii", errors="replace")
    for left in (LOG, RAW):
        (folder / left).unlink(missing_ok=True)
    command = [program, "-n", "-b", *options, "-o", LOG, NETLIST]
    # Its scripts are looked for where none can be: no start-up file, so no code models, which read files.
    environment = {k: v for k, v in os.environ.items() if "SPICE" not in k}
    environment |= {"SPICE_SCRIPTS": os.devnull, "NGSPICE_MEAS_PRECISION": "12"}  # digits of .meas
    try:
        process = subprocess.run(
            command, cwd=folder, env=environment, timeout=timeout, capture_output=True, check=False
        )
    except subprocess.TimeoutExpired:
        raise SpiceError(f"ngspice took more than {timeout:g} s: allow a longer timeout") from None
    if process.returncode:
        raise _refusal(folder)
    return folder


def _refusal(folder: Path) -> SpiceError:
    log = folder / LOG
    said = log.read_text(errors="replace")[-2000:] if log.exists() else "(it left no log)"
    return SpiceError(
        f"ngspice refused the netlist, broke off or found no operating point; its log ends:\n{said}"
    )


def _plots(raw: bytes, names: Mapping[tuple[str, str], str]) -> Iterator[Waves]:
    """The plots of a raw file: each a text header, then its float64 or complex values, point by point."""
    while raw.strip():
        header, mark, raw = raw.partition(b"Binary:\n")
        text = header.decode(errors="replace")
        plot = re.search(r"^Plotname: (.*)$", text, re.MULTILINE)
        counts = re.findall(r"^No\. (?:Variables|Points): (\d+)", text, re.MULTILINE)
        variables = re.findall(r"^\t\d+\t(\S+)", text, re.MULTILINE)
        dtype = np.dtype(np.complex128 if re.search(r"^Flags:.*complex", text, re.MULTILINE) else np.float64)
        if not mark or plot is None or len(counts) != 2 or len(variables) != int(counts[0]):
            raise SpiceError("ngspice's raw file is cut short or is no binary raw file")
        size = len(variables) * int(counts[1])
        if len(raw) < size * dtype.itemsize:
            raise SpiceError(f"ngspice's raw file is cut short in its plot {plot[1]!r}")
        values = np.frombuffer(raw, dtype, size).reshape(-1, len(variables))
        raw = raw[values.nbytes :]
        vectors = {_vector(plot[1], k, name, names): values[:, k] for k, name in enumerate(variables)}
        if "frequency" in vectors:
            vectors["frequency"] = vectors["frequency"].real
        yield Waves(plot[1], vectors)


def _vector(plot: str, index: int, name: str, names: Mapping[tuple[str, str], str]) -> str:
    """Our name of a raw file's variable ``name``, the ``index``-th of its plot."""
    kind = _PLOTS.get(plot)
    if kind == "dc" and index == 0:  # v(v-sweep), i(i-sweep), temp-sweep
        return "sweep"
    inner = re.fullmatch(r"[vi]\((.*)\)", name)
    if inner is None:
        return name
    if kind == "noise total":
        return inner[1]
    if kind == "tf":  # v(v1#Input_impedance), v(output_impedance_at_V(out))
        return inner[1].rpartition("#")[2].partition("_at_")[0].lower()
    original = names.get(("node" if name[0] == "v" else "device", inner[1]), inner[1])
    return f"{name[0]}({original})"


def _by_kind(plots: list[Waves]) -> dict[str, Waves]:
    """Plots by the kind of their analysis, numbered in the netlist's order, which ngspice reverses."""
    result: dict[str, Waves] = {}
    for waves in reversed(plots):
        kind = name = _PLOTS.get(waves.plot, waves.plot)
        number = 1
        while name in result:
            number += 1
            name = f"{kind} {number}"
        result[name] = waves
    return result

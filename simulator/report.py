"""Results of a deck as text for a reader, and as plain values for a program."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from .analyses import Result
from .comparison import Difference, NotCompared
from .deck import Deck
from .device_points import DIODE, TRANSISTOR
from .measure import Measured
from .noise import NoiseSpectrum
from .operating_point import OperatingPoint
from .small_signal import TransferFunction
from .sweeps import MonteCarloPoints
from .transient import Transient

Differences = Sequence[Difference | NotCompared]
LARGEST_PARTS = 3  # devices named as the sources of noise
ROUNDING = 1e-15  # V or A: a difference below it says nothing of a vector that is all but 0


def report(deck: Deck, results: Mapping[str, Result]) -> str:
    """All results as text: the operating point as a table, other analyses in short."""
    return "\n".join(_lines(deck, results))


def compared(differences: Differences) -> str:
    """The differences from ngspice as text."""
    head = "\nlargest differences from ngspice (relative to a vector's largest value, a transient's swing)"
    if any(row.vector.startswith(".meas") for row in differences):
        head += "\nand those of measurements (relative to ngspice's value)"
    columns = ("analysis", "vector", "difference", "relative")
    return "\n".join([head, *_table(columns, list(map(_difference, differences)))])


def _lines(deck: Deck, results: Mapping[str, Result]) -> Iterator[str]:
    yield deck.title
    for name, result in results.items():
        yield ""
        yield from _DESCRIBED[result.kind](name, result)
        yield from (_measurement(name, found) for name, found in result.measured.items())


def _measurement(name: str, found: Measured) -> str:
    """As ngspice prints it."""
    if found.failed:
        return f"  {name:<20}=  failed: {found.failed}"
    beside = "".join(f" {word}=  {value:.6e}" for word, value in found.beside.items())
    return f"  {name:<20}=  {found.value:.6e}{beside}"


def _difference(row: Difference | NotCompared) -> tuple[str, str, str, str]:
    if isinstance(row, NotCompared):
        return row.analysis, row.vector, "not compared:", row.why
    relative = "rounding" if row.unit and 0 < row.largest < ROUNDING else f"{row.relative:.2g}"
    if row.relative == float("inf"):
        relative = "of 0"
    return row.analysis, row.vector, f"{row.largest:.3g} {row.unit}".rstrip(), relative


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> Iterator[str]:
    """Columns as wide as they need to be."""
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    for row in (head, *rows):
        yield "  " + "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip()


def _number(value: float) -> str:
    return f"{value + 0.0:.9g}"  # the sum turns -0 into 0


def _operating_point(name: str, result: Result) -> Iterator[str]:
    point = result.answer
    assert isinstance(point, OperatingPoint)
    yield (
        f"operating point by {point.method}, {point.iterations} iterations; currents balance to "
        f"{point.residual:.2g} A, voltages to {point.voltage_residual:.2g} V"
    )
    voltages = zip(point.nodes, map(_number, point.voltages.tolist()), strict=True)
    yield from _table(("node", "voltage [V]"), list(voltages))
    if point.branches:
        currents = zip(point.branches, map(_number, point.currents.tolist()), strict=True)
        yield from _table(("branch", "current [A]"), list(currents))
    for kind, units in (("transistor", TRANSISTOR), ("diode", DIODE)):
        rows = [
            (device, *(f"{values[key] + 0.0:.6g}" for key in units))
            for device, values in result.devices.items()
            if values.keys() == units.keys()
        ]
        if rows:
            yield from _table((kind, *(f"{key} [{unit}]" for key, unit in units.items())), rows)


def _over_axis(name: str, result: Result) -> str:
    assert result.axis is not None
    axis, unit = result.vectors[result.axis], result.units[result.axis]
    return f"{name}: {len(axis)} points from {axis[0]:g} {unit} to {axis[-1]:g} {unit}"


def _dc(name: str, result: Result) -> Iterator[str]:
    sources, residual = result.attributes["source"], result.attributes["residual"]
    yield f"{_over_axis(name, result)} of {sources}; currents balance to {residual:.2g} A"


def _ac(name: str, result: Result) -> Iterator[str]:
    yield _over_axis(name, result)


def _transient(name: str, result: Result) -> Iterator[str]:
    wave = result.answer
    assert isinstance(wave, Transient)
    yield (
        f"{_over_axis(name, result)}; {wave.counts.accepted} steps, {wave.counts.rejected} rejected, "
        f"{wave.counts.factorizations} factorizations; currents balance to {wave.residual:.2g} A"
    )


def _noise(name: str, result: Result) -> Iterator[str]:
    spectrum, what = result.answer, result.attributes
    assert isinstance(spectrum, NoiseSpectrum)
    yield _over_axis(name, result)
    if "onoise_total" in what:
        unit = result.units["inoise_spectrum"].partition("/")[0]
        yield f"  at {what['output']}: {what['onoise_total']:.6g} V rms"
        yield f"  referred to {what['source']}: {what['inoise_total']:.6g} {unit} rms"
        parts, total = spectrum.totals(), what["onoise_total"] ** 2
        largest = [f"{device} {part / total:.1%}" for device, part in parts.items() if part][:LARGEST_PARTS]
        yield f"  most from {', '.join(largest) or 'nothing'}"


def _transfer(name: str, result: Result) -> Iterator[str]:
    found = result.answer
    assert isinstance(found, TransferFunction)
    yield f"{name}: gain {_number(found.gain)} {result.units['transfer_function']}"
    yield f"  input resistance {_number(found.input_resistance)} ohm"
    yield f"  output resistance {_number(found.output_resistance)} ohm"


def _monte_carlo(name: str, result: Result) -> Iterator[str]:
    found = result.answer
    assert isinstance(found, MonteCarloPoints)
    failed = int(result.attributes["failed"])
    yield f"{name}: {len(found)} samples, seed {result.attributes['seed']}, {failed} without operating point"
    for what, names, unit, table in (
        ("node", found.nodes, "V", found.statistics()),
        ("branch", found.branches, "A", found.current_statistics()),
    ):
        columns = [[f"{value + 0.0:.6g}" for value in values.tolist()] for values in table.values()]
        if names:
            head = (what, *(f"{key} [{unit}]" for key in table))
            yield from _table(head, list(zip(names, *columns, strict=True)))


_DESCRIBED = {
    "op": _operating_point,
    "dc": _dc,
    "tran": _transient,
    "ac": _ac,
    "noise": _noise,
    "tf": _transfer,
    "mc": _monte_carlo,
}


def plain(deck: Deck, results: Mapping[str, Result], differences: Differences | None) -> dict[str, Any]:
    """All results by analysis and vector; of an operating point the numbers themselves."""
    shown: dict[str, Any] = {"title": deck.title}
    for name, result in results.items():
        answer = result.answer
        if isinstance(answer, OperatingPoint):
            shown["op"] = {vector: values[0] for vector, values in result.vectors.items()}
            shown["residual"] = {"current": answer.residual, "voltage": answer.voltage_residual}
            shown |= {"method": answer.method, "iterations": answer.iterations, "devices": result.devices}
        elif isinstance(answer, TransferFunction):
            shown[name] = {vector: values[0] for vector, values in result.vectors.items()}
        elif isinstance(answer, MonteCarloPoints):
            shown[name] = {**result.attributes, "samples": len(answer)}
            for letter, names, table in (
                ("v", answer.nodes, answer.statistics()),
                ("i", answer.branches, answer.current_statistics()),
            ):
                for k, one in enumerate(names):
                    shown[name][f"{letter}({one})"] = {key: values[k] for key, values in table.items()}
        else:
            shown[name] = {**result.attributes, **result.vectors}
        if result.measured:
            shown[name]["measurements"] = {
                key: {"value": one.value, **one.beside} | ({"failed": one.failed} if one.failed else {})
                for key, one in result.measured.items()
            }
    if differences is not None:
        shown["ngspice"] = [vars(difference) for difference in differences]
    return shown

"""A trained chip at the corners of process, supply and temperature: what it still knows there.

The chip is the one that was trained, its conductances and readout untouched (:meth:`.Chip.at`).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..circuits.design import Design
from ..circuits.files import atomic_write
from ..circuits.specs import ROOM, CornerSpec
from ..simulator.spice_numbers import ZERO_CELSIUS
from . import asymmetry
from .estimators import adjoint_response, exact_response
from .points import shown
from .rules import contracted
from .training import ALIGNMENT_SAMPLES, Trainer

PROCESSES, SUPPLIES, TEMPERATURES = ("slow", "typical", "fast"), (0.9, 1.0, 1.1), (233.0, 300.0, 398.0)


@dataclass(frozen=True)
class CornerResult:
    """One corner: test accuracy, first-layer cosine of EP's exact-response gradient to the adjoint's, the
    share of test samples that did not settle, and how many ``samples`` there were.
    """

    corner: CornerSpec
    accuracy: float
    cosine: float
    unsettled: float
    samples: int

    @property
    def error(self) -> float:
        """Standard error of the accuracy: that of a share that is counted in so many samples."""
        return math.sqrt(self.accuracy * (1 - self.accuracy) / self.samples)


def grid(
    base: CornerSpec,
    processes: Sequence[str] = PROCESSES,
    supplies: Sequence[float] = SUPPLIES,
    temperatures: Sequence[float] = TEMPERATURES,
) -> Iterator[CornerSpec]:
    """``base`` at every process x supply (relative to nominal) x temperature [K]; DesignError for one that
    cannot be.
    """
    for process, voltage, temperature in itertools.product(processes, supplies, temperatures):
        yield replace(base, process=process, voltage=voltage, temperature=temperature)


AXES = {"process": "process", "voltage": "supply", "temperature": "temperature"}  # and what they are called
UNCHANGED = {  # why an axis changes nothing
    "process": "no gain factor enters: corner.process_spread, mismatch.device_overdrive",
    "voltage": "nothing depends on the supply",
    "temperature": "no coefficient of temperature is set: corner.device_tempco, leak_tempco, inversion",
    "process_spread": "the process is typical, or no gain factor enters",
    "device_tempco": f"it counts from {ROOM:g} K, and that is the temperature",
    "leak_tempco": f"it counts from {ROOM:g} K, and that is the temperature",
    "inversion": f"it counts from {ROOM:g} K, and that is the temperature; or no amplifier enters",
}


def idle(design: Design, places: Sequence[CornerSpec]) -> dict[str, list[Any]]:
    """The axes of a grid along which this design stays the very same circuit, with their values there."""
    return _idle([(design, place) for place in places], AXES)


def idle_keys(designs: Iterable[Design]) -> dict[str, list[Any]]:
    """The same of a sweep's designs and any key of their ``[corner]``, by dotted key."""
    found = _idle([(design, design.corner) for design in designs], UNCHANGED)
    return {f"corner.{name}": values for name, values in found.items()}


def _idle(operated: Sequence[tuple[Design, CornerSpec]], axes: Iterable[str]) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    for axis in axes:
        values = list(dict.fromkeys(getattr(place, axis) for _, place in operated))
        moved = [(design, place, replace(place, **{axis: values[0]})) for design, place in operated]
        if len(values) > 1 and all(_operated(design, a) == _operated(design, b) for design, a, b in moved):
            found[axis] = values
    return found


def _operated(design: Design, corner: CornerSpec) -> tuple[object, ...]:
    """All that a corner decides of a chip, and of its readings: equal ones are the same chip."""
    neuron = corner.operated(design.neuron)
    conduction = corner.conduction(design.mismatch.device_overdrive > 0)
    heat = corner.temperature if design.noise.bandwidth else None
    if design.chip.family != "resistive":
        return neuron, conduction, heat
    hot = corner.temperature if design.resistive.diode == "shockley" else None
    return replace(neuron, gain=1.0), conduction, heat, hot  # its nodes have no amplifier of their own


def without(
    places: Sequence[CornerSpec], axes: Mapping[str, Sequence[Any]], own: CornerSpec
) -> list[CornerSpec]:
    """One corner for each that differs along no other than ``axes``: at its ``own`` value, if it is there."""
    kept = {a: getattr(own, a) if getattr(own, a) in values else values[0] for a, values in axes.items()}
    return list(dict.fromkeys(replace(place, **kept) for place in places))


def examine(
    trainer: Trainer, corners: Sequence[CornerSpec], progress: Callable[[], object] = lambda: None
) -> list[CornerResult]:
    """The trainer's chip at each of the corners; ``progress`` is called after each."""
    found = []
    for corner in corners:
        there = Trainer(trainer.chip.at(corner), trainer.data, trainer.rule, None, trainer.readout)
        accuracy, unsettled = there.evaluate()
        samples = len(trainer.data.test_y)
        found.append(CornerResult(corner, accuracy, first_layer_cosine(there), unsettled, samples))
        progress()
    return found


def first_layer_cosine(trainer: Trainer, samples: int = ALIGNMENT_SAMPLES) -> float:
    """Cosine of EP's gradient (β → 0) to the adjoint's in the first array, on test samples."""
    x, labels = (part[:samples] for part in (trainer.data.test_x, trainer.data.test_y))
    inputs, cost = trainer.inputs(x), trainer.cost(labels)
    free = trainer.rule.relax(trainer.chip, inputs, 0)
    ep, true = (
        contracted(trainer.chip, inputs, free, response(free, cost)).gradients["forward0"]
        for response in (exact_response, adjoint_response)
    )
    return asymmetry.cosine(ep.devices(), true.devices())


def worst(found: Sequence[CornerResult]) -> CornerResult:
    """That of the lowest accuracy; of equal ones, that of the lowest cosine."""
    return min(found, key=lambda one: (one.accuracy, one.cosine))


def name(corner: CornerSpec) -> str:
    """In words: process, supply and temperature."""
    return f"{corner.process}, {corner.voltage:g} of the supply, {degrees(corner.temperature)}"


def degrees(temperature: float) -> str:
    """A temperature [K], in kelvins and in degrees Celsius."""
    return f"{temperature:g} K ({temperature - ZERO_CELSIUS:.0f} C)"


def nominal(corner: CornerSpec) -> bool:
    """Whether process, supply and temperature are those to which a design's values refer."""
    return (corner.process, corner.voltage, corner.temperature) == ("typical", 1.0, ROOM)


def lacks_nominal(places: Iterable[CornerSpec], unchanged: Iterable[str]) -> bool:
    """Whether none of them is nominal, along the axes that are not ``unchanged``."""
    same = {axis: getattr(CornerSpec(), axis) for axis in unchanged}
    return not any(nominal(replace(place, **same)) for place in places)


def table(found: Sequence[CornerResult]) -> str:
    """One line a corner, the worst, and how far its accuracy is known."""
    lines = ["process  supply    temperature  accuracy  cosine  unsettled"]
    for one in found:
        c = one.corner
        lines.append(
            f"{c.process:8} {c.voltage:6g}  {degrees(c.temperature):>13}  {one.accuracy:8.4f}  "
            f"{one.cosine:+.3f}  {one.unsettled:9.1%}{'  nominal' if nominal(c) else ''}"
        )
    last = worst(found)
    return "\n".join([
        *lines, f"worst: {name(last.corner)}: accuracy {last.accuracy:.4f} ± {last.error:.4f}",
        f"accuracy: of {last.samples} test samples, the same at every corner; ±: the standard error of "
        "counting in so few",
    ])  # fmt: skip


def remarks(unchanged: Mapping[str, Sequence[Any]]) -> list[str]:
    """A line for every axis that changes nothing."""
    return [
        f"{AXES[axis]} changes nothing for this design: each row stands for "
        f"{', '.join(_shown(axis, value) for value in values)} ({UNCHANGED[axis]})"
        for axis, values in unchanged.items()
    ]


def _shown(axis: str, value: Any) -> str:
    if axis == "temperature":
        return degrees(value)
    return f"{value:g}" if isinstance(value, float) else str(value)


def warnings(unchanged: Mapping[str, Sequence[Any]]) -> list[str]:
    """The same before a sweep, for every key that changes nothing there (:func:`idle_keys`)."""
    return [
        f"{key} changes nothing for this design: its runs at "
        f"{', '.join(shown(key, value) for value in values)} are the same "
        f"({UNCHANGED[key.partition('.')[2]]})"
        for key, values in unchanged.items()
    ]


def plain(one: CornerResult) -> dict[str, str | float]:
    """A corner and what was found there, by name."""
    c = one.corner
    return {
        "process": c.process, "supply": c.voltage, "temperature_K": c.temperature,
        "accuracy": one.accuracy, "accuracy_error": one.error, "cosine": one.cosine,
        "unsettled": one.unsettled,
    }  # fmt: skip


def write_csv(found: Sequence[CornerResult], path: str | Path) -> None:
    """One line a corner, numbers at full precision."""
    import csv

    rows = [plain(one) for one in found]
    with atomic_write(path) as part, part.open("w", encoding="ascii", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)

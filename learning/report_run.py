"""The page of one run: what its chip learned, what it is, and how to make it again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ..circuits.archive import Run
from ..circuits.chip import Chip
from ..circuits.settling import Waves
from ..simulator.blocks import Array
from . import report_chip as chips
from .quantities import GROUPS, amount, in_group, label, quantity_of
from .report_audit import audit_section
from .report_charts import Chart, history_panels
from .report_page import Section, chart, drawing, figures, paragraph, preformatted, table, toml
from .training import run_seed

FIGURES = (
    "accuracy", "alignment/forward0", "angle/forward1", "unsettled_test", "left_out", "inference_time",
    "inference_energy", "step_time", "step_energy",
)  # fmt: skip


def run_sections(
    run: Run, version: str, waves: Waves | None, tables: Mapping[str, Any] | None
) -> list[Section]:
    """All of a run's page, of which ``waves`` and an audit's ``tables`` may be left out."""
    run = replace(run, history={name: values for name, values in run.history.items() if len(values)})
    design, found = run.chip.circuit.design, [Section("At a glance", _glance(run))]
    found += [
        Section(title, _group(run.history, names))
        for group, title in GROUPS.items()
        if (names := in_group(group, run.history))
    ]
    found.append(Section("The chip", drawing("arrays", chips.arrays(run.chip))))
    if waves is not None:
        found.append(Section("Settling", _settling(run.chip, waves)))
    if tables is not None:
        found.append(Section("Audit of the gradient", audit_section(tables)))
    return [*found, Section("The design", toml(design)), Section("Make it again", _again(run, version))]


def _glance(run: Run) -> str:
    last = {name: float(run.history[name][-1]) for name in FIGURES if name in run.history}
    notes, counts = [f"{key}: {value}" for key, value in run.attributes.items()], run.chip.programmer
    notes.append(f"{counts.writes} writes of arrays, {counts.pulses} pulses, {counts.reads} verifying reads")
    empty = "" if run.history else paragraph("The file holds a chip alone: no history of training.")
    cells = figures({label(name): amount(name, value) for name, value in last.items()})
    return cells + paragraph("; ".join(notes) + ".") + empty


def _group(history: Mapping[str, Array], names: Sequence[str]) -> str:
    subject = quantity_of(names[0]).group
    drawn = chart(Chart(f"{GROUPS[subject]}, over epochs", ("quantity",), history_panels(history, names)))
    rows = [
        (label(name), *(amount(name, float(value)) for value in _course(history[name]))) for name in names
    ]
    heads = ("quantity", "before training", "at the end", "lowest", "highest")
    return drawn + table(f"{GROUPS[subject]}: epochs 0 to {len(history[names[0]]) - 1}", heads, rows)


def _course(values: Array) -> tuple[Any, ...]:
    """First, last, lowest and highest, leaving out NaN of the latter two."""
    return values[0], values[-1], np.fmin.reduce(values), np.fmax.reduce(values)


def _settling(chip: Chip, waves: Waves) -> str:
    left = int(np.sum(~waves.settled))
    text = f"{left} of {len(waves.settled)} did not settle." if left else "All of them settled."
    text += " Solved as the chip's own differential equation, in noiseless devices."
    return chart(chips.waveforms(chip, waves)) + paragraph(f"{text} {chips.left_out(chip)}".strip())


def _again(run: Run, version: str) -> str:
    design, chip = run.chip.circuit.design, run.chip
    epochs, passed = design.learning.epochs, max((len(v) - 1 for v in run.history.values()), default=0)
    seeds = {
        "chip": (chip.seed, "every drawn deviation of the chip"),
        "task.seed": (design.task.seed, "which samples; and, with the chip's, all else that is random"),
        "run": (run_seed(chip), "made of these two: starting weights, order of data, probes, noise"),
    }
    notes = ["A chip that went on learning from another RUN.h5 is not made again by its design alone."]
    if passed != epochs:
        notes.append(f"The file's history has {passed} epochs; its design asks for {epochs}.")
    if chip.mismatch != design.mismatch:
        notes.append("This chip was fabricated in Python with another mismatch than its design's.")
    return to_make_again(f"ohmostat train design.toml --chip {chip.seed} --out run.h5", seeds, notes, version)


def to_make_again(
    command: str, seeds: Mapping[str, tuple[object, str]], notes: Sequence[str], version: str
) -> str:
    """The ``command`` that makes a file again, and its ``seeds`` with what each decides."""
    first = (
        "The design is the one above, saved as design.toml; the data are those of its [task].",
        f"Made by ohmostat {version}: 'ohmostat --version' tells whether yours is the same.",
    )
    rows = [(name, str(value), text) for name, (value, text) in seeds.items()]
    texts = "".join(map(paragraph, (*first, *notes)))
    return preformatted(command) + table("seeds", ("seed", "value", "decides"), rows, words=True) + texts

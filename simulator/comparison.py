"""A deck's results beside ngspice's, which runs the same file with tight tolerances.

ngspice reads the file's own cards, so that the reading is compared too; taken out are only ``.mc``,
``mismatch=`` and cards that choose what ngspice writes. Measurements are made in runs of their own, since
ngspice makes none where it writes waves. Where the deck has EKV transistors, which ngspice lacks, it gets the
netlist as :func:`~ohmostat.simulator.spice.write_spice` writes it, for the operating point.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .analyses import Result
from .deck import Deck
from .devices import TIME, Array, Current
from .ngspice import (
    TIGHT,
    TIGHT_TRANSIENT,
    SpiceError,
    Waves,
    measure_with_ngspice,
    simulate_with_ngspice,
    with_options,
    with_steps,
)
from .spice import write_spice
from .spice_analyses import ANALYSES, Transfer
from .spice_lines import Card, Source, decoded
from .spice_measures import WORDS as MEASURES
from .spice_reader import HARMLESS_CARDS
from .transient import Transient

STEPS = 5000  # of ngspice's transients, at least: its own error control leaves up to 0.3 % of the swing
AXES = frozenset(("time", "frequency", "sweep", "outer"))  # equal, or interpolated
MOST_NAMED = 3  # vectors that were not compared
BESIDE = 1e-12  # of a transient: how far from a corner its two sides are looked at
OPEN = 1e20  # what ngspice says of an infinite resistance [ohm]

_MISMATCH = re.compile(r"\bmismatch\s*=\s*(?:\{[^}]*\}|'[^']*'|[^\s)]+)%?")


@dataclass(frozen=True)
class Difference:
    """The largest difference of an analysis among vectors of one unit, or that of a measurement (``.meas
    NAME``; it has no unit).
    """

    analysis: str
    vector: str
    largest: float  # [unit]
    unit: str
    relative: float  # to the largest value of that vector, in a transient to its swing; to what is measured


@dataclass(frozen=True)
class NotCompared:
    """What of an analysis was not compared, and why."""

    analysis: str
    vector: str
    why: str


def compare_with_ngspice(
    path: str | Path, deck: Deck, results: Mapping[str, Result]
) -> list[Difference | NotCompared]:
    """Differences of a file's results (:func:`~.analyses.run_deck`) from ngspice's, and what was left out.

    Raises :class:`~ohmostat.simulator.ngspice.SpiceError` where ngspice is missing or refuses the file.
    """
    if any(element.kind == "ekv" for element in deck.elements):
        answers = simulate_with_ngspice(write_spice(deck.netlist(), initial=deck.nodeset))
        missing = "ngspice has no EKV transistor; its operating point is that of an equivalent subcircuit"
    else:
        answers, missing = _answers(Path(path), results), "ngspice gave no answer"
    found: list[Difference | NotCompared] = []
    timed = any(TIME in element.controls for element in deck.elements)
    for name, result in results.items():
        if result.kind == "dc" and timed:
            why = "time in ngspice's .dc is not 0, but what the source before had"
            found.append(NotCompared(name, "all", why))
        elif name in answers:
            found += _largest(_differences(name, result, answers[name]))
            found += _left_out(name, result, answers[name])
            found += _measurements(Path(path), name, result)
        else:
            why = "ngspice has no .mc" if result.kind == "mc" else missing
            found.append(NotCompared(name, "all", why))
    return found


def _largest(differences: Iterable[Difference]) -> list[Difference]:
    """The largest one of each unit."""
    by_unit: dict[str, Difference] = {}
    for difference in differences:
        largest = by_unit.setdefault(difference.unit, difference)
        if difference.largest > largest.largest:
            by_unit[difference.unit] = difference
    return list(by_unit.values())


def _left_out(name: str, result: Result, waves: Waves) -> Iterator[NotCompared]:
    """Of what both should have."""
    unwritten = [v for v in result.vectors if v not in waves.vectors and v not in AXES]
    if unwritten:
        more = f" and {len(unwritten) - MOST_NAMED} more" if len(unwritten) > MOST_NAMED else ""
        yield NotCompared(name, ", ".join(unwritten[:MOST_NAMED]) + more, "ngspice wrote none")
    if _impedance_of_current(result):
        yield NotCompared(name, "output_impedance", "ngspice says 1e20 whatever a current's is")


def _impedance_of_current(result: Result) -> bool:
    return isinstance(result.card, Transfer) and isinstance(result.card.output, Current)


def _answers(path: Path, results: Mapping[str, Result]) -> dict[str, Waves]:
    """What ngspice says; transients run by themselves, since they want other tolerances."""
    title, cards = _cards(path)
    cards = [card for card in cards if _word(card) not in MEASURES]
    transients = [card for card in cards if _word(card) == ".tran"]
    others = [card for card in cards if _word(card) != ".tran"]
    answers: dict[str, Waves] = {}
    swept = [card for card in others if _word(card) in ANALYSES.keys() - {".op", ".mc"}]
    if any(result.kind == "op" for result in results.values()):
        # By itself: beside a .dc, ngspice's B sources stand at another time than 0.
        alone = [card for card in others if card not in swept]
        text = _text(title, alone, "" if any(_word(card) == ".op" for card in alone) else ".op")
        answers |= simulate_with_ngspice(with_options(text, TIGHT))
    if swept:
        text = _text(title, [card for card in others if _word(card) != ".op"])
        answers |= simulate_with_ngspice(with_options(text, TIGHT))
    if transients:
        kept = [card for card in others if _word(card) not in ANALYSES]
        text = with_steps(_text(title, [*kept, *transients]), STEPS)
        answers |= simulate_with_ngspice(with_options(text, TIGHT_TRANSIENT))
    return answers


def _measurements(path: Path, name: str, result: Result) -> Iterator[Difference | NotCompared]:
    """Differences of one analysis' ``.meas``."""
    if not result.measured:
        return
    title, cards = _cards(path)
    number = int(name.partition(" ")[2] or 1)  # of its kind
    own = [card for card in cards if _word(card) == f".{result.kind}"][number - 1]
    kept = [card for card in cards if _word(card) not in ANALYSES or card is own]
    text = _text(title, kept, ".save all")
    tight = with_options(with_steps(text, STEPS), TIGHT_TRANSIENT if result.kind == "tran" else TIGHT)
    try:
        theirs = measure_with_ngspice(tight)
    except SpiceError as error:
        yield NotCompared(name, "measurements", str(error).partition(";")[0])
        return
    for one, ours in result.measured.items():
        what = f".meas {one}"
        if one not in theirs:
            yield NotCompared(name, what, "fails in ngspice" + (", and here" if ours.failed else ""))
        elif ours.failed:
            yield NotCompared(name, what, f"fails here, and is {theirs[one]:.6g} in ngspice")
        else:
            off, size = abs(ours.value - theirs[one]), abs(theirs[one])
            yield Difference(name, what, off, "", off / size if size else np.inf if off else 0.0)


def _cards(path: Path) -> tuple[str, list[Card]]:
    """Title and cards of the file, as they stand in it."""
    return Source(path.resolve().parent).cards(decoded(path.read_bytes()), str(path))


def _word(card: Card) -> str:
    return card.text.split(maxsplit=1)[0]


def _text(title: str, cards: list[Card], *more: str) -> str:
    kept = [card.text for card in cards if _word(card) not in HARMLESS_CARDS | {".mc"}]
    printable = re.sub(r"[^ -~]|\\", "?", title)
    return "\n".join([f"* {printable}", *(_MISMATCH.sub("", text) for text in kept), *more, ".end", ""])


def _differences(name: str, result: Result, waves: Waves) -> Iterator[Difference]:
    """Of every vector that both have."""
    for vector, ours, theirs in _pairs(result, waves):
        if ours.size != theirs.size:
            raise SpiceError(f"{name}: ngspice has {theirs.size} points of {vector}, and we have {ours.size}")
        same = (ours == theirs) | (np.isinf(ours) & (np.abs(theirs) >= OPEN))
        with np.errstate(invalid="ignore"):
            largest = float(np.max(np.where(same, 0.0, np.abs(ours - theirs)), initial=0.0))
        size = np.ptp(theirs) if result.kind == "tran" else np.max(np.abs(theirs), initial=0.0)
        relative = largest / float(size) if size else 0.0 if largest == 0.0 else np.inf
        yield Difference(name, vector, largest, result.units[vector], relative)


def _pairs(result: Result, waves: Waves) -> Iterator[tuple[str, Array, Array]]:
    """Vector by vector: name, ours and ngspice's at the same points."""
    skipped = AXES | ({"output_impedance"} if _impedance_of_current(result) else set())
    sides = [result.vectors]
    if isinstance(result.answer, Transient):
        sides = [_beside(result.answer, waves["time"], by) for by in (BESIDE, -BESIDE)]
    for vector, values in sides[0].items():
        if vector in waves.vectors and vector not in skipped:
            theirs, ours = waves[vector], np.ravel(values)
            for side in sides[1:]:
                other = np.ravel(side[vector])
                ours = np.where(np.abs(other - theirs) < np.abs(ours - theirs), other, ours)
            yield vector, ours, theirs


def _beside(answer: Transient, times: Array, by: float) -> dict[str, Array]:
    """A transient's vectors a share ``by`` of it after ``times``: at a source's corner a capacitor's current
    has two values, and ngspice writes one of them.
    """
    end = answer.times[-1]
    at = answer.at(np.clip(times + by * end, 0.0, end))
    vectors = {f"v({node})": at[node] for node in at.nodes}
    return vectors | {f"i({device})": at.current(device) for device in at.branches}

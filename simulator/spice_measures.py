"""Measurements that a deck asks for, and their cards: ``.meas`` (``.measure``) as ngspice reads it.

    .meas tran|dc|ac NAME max|min|pp|avg|rms|integ|max_at|min_at SIGNAL [td= from= to=]
    .meas tran|dc|ac NAME find SIGNAL at=X
    .meas tran|dc|ac NAME [find SIGNAL] when SIGNAL=LEVEL [td= from= to=] [rise|fall|cross=N|last]
    .meas tran|dc|ac NAME trig EVENT targ EVENT      EVENT: at=X, or SIGNAL val=LEVEL [td=] [rise|fall|cross=]
    .meas tran|dc|ac NAME param='formula of parameters and measurements before it'

A signal is ``v(a)``, ``v(a,b)``, ``i(device)`` or ``par('formula')``, in ``ac`` instead of a formula also its
part: ``vm vp vdb vr vi`` (magnitude, phase [rad], decibels, real and imaginary part), ``im`` … of currents.
Without an edge the first crossing counts.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from .devices import Control, Current
from .expressions import CONSTANTS, Expression, Formula
from .netlist import GROUND
from .spice_analyses import Ac, Analysis, DcSweep, Transient
from .spice_lines import Card, Fields, Origin, SpiceSyntaxError, unquoted
from .spice_numbers import ExpressionError
from .spice_scope import Scope

MOST_MEASURES = 1000  # of a deck
LAST = -1  # the count of the last crossing
WORDS = frozenset((".meas", ".measure"))
KINDS: dict[str, type[Analysis]] = {"tran": Transient, "dc": DcSweep, "ac": Ac}
FUNCTIONS = {
    name: name.removesuffix("ral")
    for name in ("max", "min", "pp", "avg", "rms", "integ", "integral", "max_at", "min_at")
}
EDGES = ("rise", "fall", "cross")
WINDOW = ("td", "from", "to")

_QUOTED = r"\{[^{}]*\}|'[^']*'|\"[^\"]*\""
_TOKEN = re.compile(
    rf"\s*(?:(?P<call>[a-z_]\w*)\s*\((?P<inside>(?:{_QUOTED}|[^(){{}}'\"])*)\)"
    rf"|(?P<quoted>{_QUOTED})|(?P<equals>=)|(?P<word>[^\s=,(){{}}'\"]+))[\s,]*"
)
_PROBE = re.compile(r"([vi])(m|p|db|r|i|)")
_NAME = re.compile(r"[a-z_][\w.]{0,99}")


@dataclass(frozen=True)
class Signal:
    """What is measured: a voltage or current, or a formula; of a complex one its ``part`` (m p db r i)."""

    text: str
    source: Control | Expression
    part: str = ""

    @property
    def ports(self) -> tuple[Control, ...]:
        """The voltages and currents that it needs."""
        return self.source.ports if isinstance(self.source, Expression) else (self.source,)


@dataclass(frozen=True)
class Window:
    """Where on the axis something counts; infinite ends are those of the analysis."""

    start: float = -math.inf
    stop: float = math.inf


@dataclass(frozen=True)
class At:
    """A place on the axis."""

    place: float


@dataclass(frozen=True)
class Crossing:
    """Where ``signal`` goes through ``level`` for the ``count``-th time in the window."""

    signal: Signal
    level: float | Signal
    edge: str = "cross"
    count: int = 1
    window: Window = Window()


Event = At | Crossing


@dataclass(frozen=True)
class Reduced:
    """One number of a whole curve, by one of ``FUNCTIONS``."""

    function: str
    signal: Signal
    window: Window


@dataclass(frozen=True)
class Found:
    """``signal`` at an event; without one, the event's own place."""

    signal: Signal | None
    event: Event


@dataclass(frozen=True)
class Between:
    """From one event to another."""

    trigger: Event
    target: Event


@dataclass(frozen=True)
class Computed:
    """A formula of parameters, and of measurements before it."""

    formula: Formula
    parameter: Callable[[str], float] = field(compare=False)


Task = Reduced | Found | Between | Computed


@dataclass(frozen=True)
class Measure:
    """One card: a measurement of every analysis of a ``kind``."""

    kind: str
    name: str
    task: Task
    origin: Origin | None = field(default=None, compare=False)

    @property
    def signals(self) -> Iterator[Signal]:
        """All that it looks at."""
        task = self.task
        if isinstance(task, Reduced | Found) and task.signal is not None:
            yield task.signal
        events: tuple[Event, ...] = ()
        if isinstance(task, Found):
            events = (task.event,)
        elif isinstance(task, Between):
            events = (task.trigger, task.target)
        for event in events:
            if isinstance(event, Crossing):
                yield event.signal
                if isinstance(event.level, Signal):
                    yield event.level


def read_measures(cards: list[Card], scope: Scope, analyses: list[Analysis]) -> list[Measure]:
    """The measurements of a deck's cards, each of which has an analysis to measure."""
    found: list[Measure] = []
    for card in cards:
        if len(found) >= MOST_MEASURES:
            raise card.origin.error(f"more than {MOST_MEASURES} measurements; measure in several runs")
        reader = _Reader(card, scope)
        measure = reader.measure([one.name for one in found if one.kind == reader.kind])
        _check_analysis(reader, [one for one in analyses if isinstance(one, KINDS[measure.kind])])
        found.append(measure)
    return found


def _check_analysis(reader: _Reader, measured: list[Analysis]) -> None:
    if not measured:
        raise reader.error(f"no .{reader.kind} in the deck to measure; add one, or take this line out")
    if any(isinstance(one, DcSweep) and len(one.sweeps) > 1 for one in measured):
        raise reader.error(".dc with two sources is not measured; sweep one")


class _Token(NamedTuple):
    """``call(inside)``, something in braces or quotes, ``=``, or a word."""

    text: str
    call: str | None
    inside: str | None
    quoted: str | None
    word: str | None


class _Reader:
    """Takes one card apart, word by word."""

    def __init__(self, card: Card, scope: Scope) -> None:
        head = card.text.split(maxsplit=1)[0]
        self.card, self.scope, self.label = card, scope, head
        self.tokens = list(self._tokens(card.text[len(head) :]))[::-1]  # the next one is the last
        self.kind = self._word("tran, dc or ac")
        if self.kind not in KINDS:
            raise self.error(f"measurements of {self.kind[:40]!r} are not supported; expected tran, dc or ac")
        self.name = self._word("a name")
        if not _NAME.fullmatch(self.name):
            raise self.error(f"{self.name[:40]!r} where a name of up to 100 letters and digits was expected")
        self.label = f"{head} {self.name}"

    def error(self, message: str) -> SpiceSyntaxError:
        return self.card.origin.error(f"{self.label}: {message}")

    def measure(self, before: list[str]) -> Measure:
        """The whole card, ``before`` being the names of the same kind's measurements so far."""
        if self.name in before:
            raise self.error("exists already; give each measurement a name of its own")
        task = self._task(before)
        if self.tokens:
            raise self.error(f"{self._next.text[:40]!r} after the end; {self._forms}")
        return Measure(self.kind, self.name, task, self.card.origin)

    _forms = f"expected {', '.join(FUNCTIONS)}, find, when, trig or param, with what they need"

    def _task(self, before: list[str]) -> Task:
        word = self._word("what to measure")
        if word in FUNCTIONS:
            return Reduced(FUNCTIONS[word], self._signal(), self._window(self._settings(WINDOW)))
        if word == "find":
            signal = self._signal()
            if self._is("at"):
                return Found(signal, self._at())
            self._expect("when")
            return Found(signal, self._when())
        if word == "when":
            return Found(None, self._when())
        if word == "trig":
            trigger = self._event()
            self._expect("targ")
            return Between(trigger, self._event())
        if word == "param":
            return self._computed(before)
        raise self.error(f"{word[:40]!r} is not supported; {self._forms}")

    # -- parts of a card --------------------------------------------------------------------------

    def _when(self) -> Crossing:
        signal = self._signal()
        self._expect("=")
        level = self._signal() if self.tokens and self._next.call else self._number("its level")
        return self._crossing(signal, level, self._settings((*WINDOW, *EDGES)))

    def _event(self) -> Event:
        if self._is("at"):
            return self._at()
        signal = self._signal()
        settings = self._settings(("val", "td", *EDGES))
        if "val" not in settings:
            raise self.error(f"{signal.text} without val=; expected the level that it goes through")
        return self._crossing(signal, self._value(settings.pop("val"), "val"), settings)

    def _crossing(self, signal: Signal, level: float | Signal, settings: dict[str, str]) -> Crossing:
        edges = [name for name in EDGES if name in settings]
        if len(edges) > 1:
            raise self.error(f"{' and '.join(edges)}; expected one of rise, fall and cross")
        edge, count = (edges or ["cross"])[0], 1
        if edges:
            text = settings.pop(edge)
            count = LAST if text == "last" else self._count(edge, text)
        return Crossing(signal, level, edge, count, self._window(settings))

    def _count(self, edge: str, text: str) -> int:
        value = self._value(text, edge)
        if not (value == round(value) and 1 <= value <= 1e9):
            raise self.error(f"{edge} is {value:g}; expected a whole number from 1 to 1e9, or last")
        return int(value)

    def _window(self, settings: dict[str, str]) -> Window:
        values = {name: self._value(text, name) for name, text in settings.items()}
        start = max(values.get("td", -math.inf), values.get("from", -math.inf))
        stop = values.get("to", math.inf)
        if start > stop:
            raise self.error(f"from {start:g} to {stop:g}; expected a beginning before the end")
        return Window(start, stop)

    def _at(self) -> At:
        self._word("at")
        self._expect("=")
        return At(self._number("at"))

    def _computed(self, before: list[str]) -> Computed:
        self._expect("=")
        text = unquoted(self._take("a formula in quotes or braces").text)
        try:
            self.scope.formulas.count(text, self.card.origin)
            formula = self.scope.formulas.read(text, self.card.origin, constant=True)
        except ExpressionError as error:
            raise self.error(str(error)) from None
        if formula.ports:
            raise self.error("param is a formula of parameters and measurements; use par('…') for voltages")
        for name in formula.parameters:
            if name not in before and not self._is_parameter(name):
                raise self.error(f"{name[:40]!r} is no parameter, and no .meas {self.kind} before this one")
        return Computed(formula, self.scope.parameter)

    def _is_parameter(self, name: str) -> bool:
        try:
            self.scope.parameter(name)
        except KeyError:
            return name in CONSTANTS
        return True

    def _signal(self) -> Signal:
        token = self._take("a signal")
        if token.call == "par" and self.kind != "ac":
            inside = (token.inside or "").strip()
            formula = self.scope.formula(inside, Fields(self.card.origin, self.label, (), {}))
            return Signal(f"par({inside})", formula)
        probe = _PROBE.fullmatch(token.call or "")
        names = [name.strip() for name in (token.inside or "").split(",")]
        known = probe is not None and (self.kind == "ac" or not probe[2])
        if probe is None or not known or not all(names) or len(names) > (2 if probe[1] == "v" else 1):
            more = ", or vm vp vdb vr vi of these" if self.kind == "ac" else " or par('formula')"
            raise self.error(f"{token.text[:40]!r} where v(node), v(node,node), i(device){more} was expected")
        if probe[1] == "i":
            return Signal(token.text, Current(self.scope.device(names[0])), probe[2])
        first, second = [self.scope.node(name) for name in (*names, GROUND)[:2]]
        return Signal(token.text, (first, second), probe[2])

    def _settings(self, known: tuple[str, ...]) -> dict[str, str]:
        """``name=value`` up to something else."""
        settings: dict[str, str] = {}
        while self.tokens and self._next.word in known and len(self.tokens) > 1:
            name = self._word("a setting")
            self._expect("=")
            if name in settings:
                raise self.error(f"{name} is given twice")
            settings[name] = self._take(f"a value of {name}").text
        return settings

    def _number(self, what: str) -> float:
        return self._value(self._take(what).text, what)

    def _value(self, text: str, what: str) -> float:
        return self.scope.number(text, f"{self.label}: {what}", self.card.origin)

    # -- words ------------------------------------------------------------------------------------

    def _tokens(self, text: str) -> Iterator[_Token]:
        at = 0
        text = text.strip()
        while at < len(text):
            found = _TOKEN.match(text, at)
            if found is None:
                raise self.error(f"{text[at : at + 40]!r} is not understood; {self._forms}")
            yield _Token(found[0].strip(" \t,"), *found.group("call", "inside", "quoted", "word"))
            at = found.end()

    @property
    def _next(self) -> _Token:
        return self.tokens[-1]

    def _is(self, word: str) -> bool:
        return bool(self.tokens) and self._next.word == word

    def _take(self, what: str) -> _Token:
        if not self.tokens:
            raise self.error(f"ends where {what} was expected")
        return self.tokens.pop()

    def _word(self, what: str) -> str:
        token = self._take(what)
        if token.word is None:
            raise self.error(f"{token.text[:40]!r} where {what} was expected")
        return token.word

    def _expect(self, text: str) -> None:
        token = self._take(text)
        if token.text != text:
            raise self.error(f"{token.text[:40]!r} where {text} was expected")

"""Analyses that a deck asks for, and their cards."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from .devices import Control, Current
from .netlist import GROUND
from .spice_lines import Card, Fields, Origin, fields
from .spice_numbers import ZERO_CELSIUS
from .spice_scope import Scope
from .temperature import TEMPERATURE

MOST_POINTS = 1_000_000  # of an analysis
MOST_TEMPERATURES = 10_000  # of a sweep, at each of which the deck is read anew
SHORTEST = 1e-30  # step of a transient [s]
HOTTEST = 1e4  # [°C]

_PROBED = re.compile(r"([vi])\s*\(([^()]*)\)")
_PER_DECADE = {"dec": 10.0, "oct": 2.0}  # the factor over which the points are counted


@dataclass(frozen=True, kw_only=True)
class _Written:
    """What analyses have in common: where they were written, if in a deck."""

    origin: Origin | None = field(default=None, compare=False)


@dataclass(frozen=True)
class OperatingPoint(_Written):
    """``.op``."""

    points = 1


@dataclass(frozen=True)
class Sweep:
    """A source's value [V or A], or the temperature (``TEMPERATURE``) [°C], from ``start`` by ``step`` to
    ``stop``.
    """

    source: str
    start: float
    stop: float
    step: float

    def values(self) -> NDArray[np.float64]:
        """The points (n,); the last is at most ``stop``."""
        return self.start + self.step * np.arange(self.count, dtype=np.float64)

    @property
    def count(self) -> int:
        """How many points."""
        return int((self.stop - self.start) / self.step * (1.0 + 1e-12) + 1e-9) + 1


@dataclass(frozen=True)
class DcSweep(_Written):
    """``.dc source|temp start stop step``, and of a second one around it."""

    sweeps: tuple[Sweep, ...]  # the first is the inner one

    @property
    def points(self) -> int:
        """Operating points in all."""
        return math.prod(sweep.count for sweep in self.sweeps)


@dataclass(frozen=True)
class Transient(_Written):
    """``.tran step stop [start [max_step]] [uic]``, all [s]."""

    step: float  # between printed points
    stop: float
    start: float = 0.0  # of what is kept
    max_step: float | None = None
    use_initial_conditions: bool = False

    @property
    def points(self) -> int:
        """The printed ones, or the steps if these are more."""
        return int(max((self.stop - self.start) / self.step, self.stop / self.longest_step)) + 1

    @property
    def longest_step(self) -> float:
        """The longest step allowed [s], as SPICE has it."""
        return self.max_step or min(self.step, (self.stop - self.start) / 50.0)


@dataclass(frozen=True)
class Ac(_Written):
    """``.ac dec|oct|lin points start stop`` [Hz]."""

    spacing: str
    density: int  # points per decade, per octave, or in all
    start: float
    stop: float

    def frequencies(self) -> NDArray[np.float64]:
        """The frequencies (n,) [Hz]."""
        if self.spacing == "lin":
            return np.linspace(self.start, self.stop, self.density, dtype=np.float64)
        return self.start * _PER_DECADE[self.spacing] ** (np.arange(self.points) / self.density)

    @property
    def points(self) -> int:
        """Frequencies in all."""
        if self.spacing == "lin":
            return self.density
        intervals = math.log(self.stop / self.start, _PER_DECADE[self.spacing]) * self.density
        return int(intervals * (1.0 + 1e-12) + 1e-9) + 1


@dataclass(frozen=True)
class Noise(_Written):
    """``.noise v(output[,reference]) source dec|oct|lin points start stop``."""

    output: tuple[str, str]
    source: str
    sweep: Ac

    def frequencies(self) -> NDArray[np.float64]:
        """The frequencies (n,) [Hz]."""
        return self.sweep.frequencies()

    @property
    def points(self) -> int:
        """Frequencies in all."""
        return self.sweep.points


@dataclass(frozen=True)
class Transfer(_Written):
    """``.tf output source``: DC gain and resistances; the output is a node pair or a source's current."""

    output: Control
    source: str
    points = 1


@dataclass(frozen=True)
class MonteCarlo(_Written):
    """``.mc samples [seed=n]``: operating points of ``samples`` draws of every ``mismatch=``."""

    samples: int
    seed: int = 0

    @property
    def points(self) -> int:
        """Operating points in all."""
        return self.samples


Analysis = OperatingPoint | DcSweep | Transient | Ac | Noise | Transfer | MonteCarlo


def read_analysis(card: Card, scope: Scope) -> Analysis:
    """The analysis of a card whose first word is one of ``ANALYSES``."""
    f = fields(card)
    if f.settings and f.name != ".mc":
        raise f.error(f"unknown parameter {next(iter(f.settings))!r}; it takes none")
    return replace(ANALYSES[f.name](f, scope, card.text), origin=card.origin)


def _operating_point(f: Fields, scope: Scope, text: str) -> OperatingPoint:
    _numbers(f, scope, f.words, ())
    return OperatingPoint()


def _dc(f: Fields, scope: Scope, text: str) -> DcSweep:
    if len(f.words) not in (4, 8):
        raise f.error("expected .dc source start stop step, or that for two sources")
    sweeps = tuple(_sweep(f, scope, f.words[k : k + 4]) for k in range(0, len(f.words), 4))
    _count(f, math.prod(sweep.count for sweep in sweeps))
    if len({sweep.source for sweep in sweeps}) < len(sweeps):
        raise f.error(f"{sweeps[0].source} is swept twice; expected two sources")
    return DcSweep(sweeps)


def _sweep(f: Fields, scope: Scope, words: tuple[str, ...]) -> Sweep:
    source = words[0]
    if source[0] not in "vi" and source != TEMPERATURE:
        raise f.error(f"{source!r} where temp, or the name of a voltage or current source was expected")
    start, stop, step = _numbers(f, scope, words[1:], ("start", "stop", "step"))
    if step == 0.0 or (stop - start) / step < 0.0:
        raise f.error(f"step of {source} is {step:g}; expected one that leads from {start:g} to {stop:g}")
    _count(f, (stop - start) / step)
    sweep = Sweep(source, start, stop, step)
    if source == TEMPERATURE:
        for celsius in (start, stop):
            check_temperature(f, "temp", celsius)
        if sweep.count > MOST_TEMPERATURES:
            raise f.error(
                f"{sweep.count} temperatures; at most {MOST_TEMPERATURES} are allowed: use longer steps"
            )
    return sweep


def _transient(f: Fields, scope: Scope, text: str) -> Transient:
    words = f.words[:-1] if f.words and f.words[-1] == "uic" else f.words
    if len(words) not in (2, 3, 4):
        raise f.error("expected .tran step stop [start [max_step]] [uic]")
    numbers = _numbers(f, scope, words, ("step", "stop", "start", "max_step")[: len(words)])
    step, stop, start, max_step = (*numbers, 0.0, 0.0)[:4]
    if not (step >= SHORTEST and stop >= SHORTEST):
        raise f.error(f"step is {step:g} s and stop {stop:g} s; expected at least {SHORTEST:g} s")
    if not 0.0 <= start < stop:
        raise f.error(f"start is {start:g} s; expected a value from 0 s up to stop = {stop:g} s")
    if max_step and max_step < SHORTEST:
        raise f.error(f"max_step is {max_step:g} s; expected at least {SHORTEST:g} s")
    analysis = Transient(step, stop, start, max_step or None, len(words) < len(f.words))
    _count(f, max((stop - start) / step, stop / analysis.longest_step))
    return analysis


def _ac(f: Fields, scope: Scope, text: str) -> Ac:
    if len(f.words) != 4 or f.words[0] not in (*_PER_DECADE, "lin"):
        raise f.error("expected dec|oct|lin points start stop, each of which is one word")
    numbers = _numbers(f, scope, f.words[1:], ("points", "start", "stop"))
    points, start, stop = _whole(f, "points", numbers[0]), *numbers[1:]
    if not (0.0 < start <= stop or (f.words[0] == "lin" and 0.0 <= start <= stop)):
        raise f.error(f"from {start:g} Hz to {stop:g} Hz; expected rising frequencies above 0 Hz")
    decades = 1.0 if f.words[0] == "lin" else math.log(stop / start, _PER_DECADE[f.words[0]])
    _count(f, points * decades)
    return Ac(f.words[0], points, start, stop)


def _noise(f: Fields, scope: Scope, text: str) -> Noise:
    output, words = _probed(f, scope, text)
    if isinstance(output, Current) or len(words) not in (5, 6):
        raise f.error("expected .noise v(output[,reference]) source dec|oct|lin points start stop")
    return Noise(output, _source(f, words[0]), _ac(Fields(f.origin, f.name, words[1:5], {}), scope, text))


def _transfer(f: Fields, scope: Scope, text: str) -> Transfer:
    output, words = _probed(f, scope, text)
    if len(words) != 1:
        raise f.error("expected .tf v(output[,reference]) source, or .tf i(device) source")
    return Transfer(output, _source(f, words[0]))


def _monte_carlo(f: Fields, scope: Scope, text: str) -> MonteCarlo:
    seed = scope.settings(f, ("seed",)).get("seed", 0.0)
    (samples,) = _numbers(f, scope, f.words, ("samples",))
    return MonteCarlo(_whole(f, "samples", samples), _whole(f, "seed", seed, least=0))


ANALYSES: dict[str, Callable[[Fields, Scope, str], Analysis]] = {
    ".op": _operating_point,
    ".dc": _dc,
    ".tran": _transient,
    ".ac": _ac,
    ".noise": _noise,
    ".tf": _transfer,
    ".mc": _monte_carlo,
}


def check_temperature(f: Fields, name: str, celsius: float) -> None:
    """Error for a temperature [°C] that no circuit has."""
    if not -ZERO_CELSIUS < celsius < HOTTEST:
        raise f.error(f"{name} is {celsius:g} °C; expected a value from -273 to {HOTTEST:g} °C")


def _probed(f: Fields, scope: Scope, text: str) -> tuple[tuple[str, str] | Current, tuple[str, ...]]:
    """The ``v(a,b)`` or ``i(device)`` after a card's name, and the words that follow."""
    rest = text[len(f.name) :].strip()
    found = _PROBED.match(rest)
    if found is None:
        raise f.error(f"{rest[:40]!r} where v(node), v(node,node) or i(device) was expected")
    names = [name.strip() for name in found[2].split(",")]
    if not all(names) or len(names) > (2 if found[1] == "v" else 1):
        raise f.error(f"{found[0]!r} where v(node), v(node,node) or i(device) was expected")
    words = tuple(rest[found.end() :].split())
    if found[1] == "i":
        return Current(names[0]), words
    nodes = [scope.node(name) for name in names]
    return (nodes[0], (*nodes, GROUND)[1]), words


def _source(f: Fields, name: str) -> str:
    if name[0] not in "vi":
        raise f.error(f"{name!r} where the name of a voltage or current source was expected")
    return name


def _numbers(f: Fields, scope: Scope, words: tuple[str, ...], names: tuple[str, ...]) -> list[float]:
    if len(words) != len(names):
        raise f.error(f"{len(words)} values where {' '.join(names) or 'none'} was expected")
    return [scope.word(word, f"{f.name}: {name}", f.origin) for word, name in zip(words, names, strict=True)]


def _whole(f: Fields, name: str, value: float, least: int = 1) -> int:
    if not (value == round(value) and least <= value <= MOST_POINTS):
        raise f.error(f"{name} is {value:g}; expected a whole number from {least} to {MOST_POINTS}")
    return int(value)


def _count(f: Fields, points: float) -> None:
    if points > MOST_POINTS:
        raise f.error(f"{points:.3g} points; at most {MOST_POINTS} are allowed: use longer steps")

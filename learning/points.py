"""The points of a sweep: which keys of a design take which values."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from ..circuits.design import Design
from ..circuits.mismatch import generator
from ..circuits.sections import DesignError
from ..circuits.specs import KEYS
from ..circuits.units import Choice, Layers, Number, closest, did_you_mean
from ..simulator.arguments import literal

Level = float | int | str | tuple[int, ...] | None  # None: all
#: Dotted keys of a design and their values, such as ``(("mismatch.conductance", 0.5),)``.
Point = tuple[tuple[str, Level], ...]


class Span(NamedTuple):
    """A range of a numeric key, for sampling; ``logarithmic``: evenly in its logarithm."""

    low: float
    high: float
    logarithmic: bool = False

    def place(self, share: float) -> float:
        """The value at a share of the range, 0 being its low end."""
        if self.logarithmic:
            return float(self.low * (self.high / self.low) ** share)
        return self.low + share * (self.high - self.low)


def checked(point: Point) -> Point:
    """The point with every value as a design holds it (units read, NumPy's numbers made Python's). Raises
    DesignError for a key or a value that cannot be.
    """
    found: dict[str, Level] = {}
    for key, value in point:
        if key not in KEYS or "." not in key:
            raise DesignError(f"{key}: unknown key{did_you_mean(closest(key, KEYS))}", key)
        try:
            found[key] = KEYS[key].check(list(value) if isinstance(value, tuple) else value)
        except ValueError as error:
            raise DesignError(f"{key} = {KEYS[key].display(value)}: {error}", key) from None
    return tuple(found.items())


def grid(levels: Mapping[str, Sequence[Level]]) -> tuple[Point, ...]:
    """Every combination; the last key varies fastest. Without keys: the design itself, one point."""
    return tuple(tuple(zip(levels, values, strict=True)) for values in itertools.product(*levels.values()))


def one_at_a_time(design: Design, levels: Mapping[str, Sequence[Level]]) -> tuple[Point, ...]:
    """The design itself, and each key's levels in turn with the others as the design has them."""
    base = {key: value_of(design, key) for key in levels}
    points = [tuple(base.items())]
    points += [tuple((base | {key: level}).items()) for key, values in levels.items() for level in values]
    return tuple(dict.fromkeys(points))


def latin_hypercube(spans: Mapping[str, Span], count: int, seed: int) -> tuple[Point, ...]:
    """``count`` points that fill the ranges evenly (McKay, Beckman and Conover 1979): each key's range falls
    into ``count`` equal parts, and each part holds one point.
    """
    columns = {}
    for key, span in spans.items():
        rng = generator(seed, "latin hypercube", key)
        shares = (rng.permutation(count) + rng.random(count)) / count
        columns[key] = [span.place(float(share)) for share in shares]
    return tuple(tuple(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True))


def spans_of(points: Sequence[Point], seed: int) -> dict[str, Span] | None:
    """The ranges of which :func:`latin_hypercube` makes these points, to the last bit; None if none do.

    They are in no file, but can be solved for, since ``seed`` tells each point's share of every range.
    """
    keys = [key for key, _ in points[0]]
    shares = latin_hypercube(dict.fromkeys(keys, Span(0.0, 1.0)), len(points), seed)
    found: dict[str, Span] = {}
    for key in keys:
        values = [dict(point)[key] for point in points]
        if len(values) < 3 or not all(isinstance(value, float) for value in values):
            return None  # two values have a range whatever they are
        span = _span_through([dict(point)[key] for point in shares], values)  # type: ignore[arg-type, misc]
        if span is None:
            return None
        found[key] = span
    return found


def _span_through(shares: Sequence[float], values: Sequence[float]) -> Span | None:
    """The range that has these values at these shares, its ends of as few digits as can be."""
    pairs = list(zip(shares, values, strict=True))
    (first, start), (last, end) = min(pairs), max(pairs)
    if not start < end:
        return None
    rise = (end - start) / (last - first)
    low, high = (start + rise * (share - first) for share in (0.0, 1.0))
    factor = (end / start) ** (1 / (last - first)) if start > 0 else math.nan
    least, most = (start * factor ** (share - first) for share in (0.0, 1.0))
    place = math.floor(math.log10(max(abs(low), abs(high))))
    for digits in range(17):
        even = Span(round(low, digits - place), round(high, digits - place))
        logarithmic = Span(float(f"{least:.{digits + 1}g}"), float(f"{most:.{digits + 1}g}"), True)
        for span in (even, logarithmic):
            if span.low < span.high and all(span.place(share) == value for share, value in pairs):
                return span
    return None


def value_of(design: Design, key: str) -> Level:
    """The design's value of a dotted key."""
    section, _, leaf = key.rpartition(".")
    value: Level = getattr(getattr(design, section) if section else design, leaf)
    return value


def changes(before: str, after: Design) -> list[str]:
    """The keys in which a design differs from an earlier one, given as TOML: ``learning.epochs 4 -> 5``."""
    try:
        earlier = Design.from_text(before)
    except DesignError:
        return ["its design is of another version of ohmostat"]
    pairs = {key: (value_of(earlier, key), value_of(after, key)) for key in KEYS}
    return [
        f"{key} {' -> '.join(written(key, value) for value in pair)}"
        for key, pair in pairs.items()
        if pair[0] != pair[1]
    ]


def shown(key: str, value: Level) -> str:
    """A key's value for a table, to four digits, with its unit: ``10uS``, ``784-64-10``."""
    kind = KEYS[key]
    if isinstance(kind, Number):
        digits = f"{value:.4g}"
        return kind.display(float(digits)) if kind.unit else digits
    return "-".join(map(str, value)) if isinstance(value, tuple) else "all" if value is None else str(value)


def text_of(point: Point, form: Callable[[str, Level], str] = shown) -> str:
    """A point for a title: ``conductance=0.5, leak=10uS``; each value by ``form``."""
    return ", ".join(f"{key.rpartition('.')[2]}={form(key, value)}" for key, value in point)


def texts_of(points: Sequence[Point]) -> list[str]:
    """The same of several points, with all their digits where four do not tell them apart."""
    found = [text_of(point) for point in points]
    if len(set(found)) == len(set(points)):
        return found
    return [text_of(point, written) for point in points]


def written(key: str, value: Level) -> str:
    """A key's value as :func:`parse_levels` reads it, to the last bit."""
    return "-".join(map(str, value)) if isinstance(value, tuple) else KEYS[key].literal(value).strip('"')


def written_span(key: str, span: Span) -> str:
    """A key's range as :func:`parse_span` reads it, to the last bit."""
    return f"{written(key, span.low)}..{written(key, span.high)}{':log' if span.logarithmic else ''}"


# -- from a command line ---------------------------------------------------------------------------


def parse_levels(text: str) -> tuple[str, tuple[Level, ...]]:
    """Read ``KEY=VALUE,VALUE,…``, such as ``neuron.leak=5uS,10uS`` or ``chip.layers=784-64-10,784-128-10``.

    Raises ValueError, saying what is allowed.
    """
    key, values = _split(text, "neuron.leak=5uS,10uS")
    if ".." in values:
        ends = ",".join(end.strip() for end in values.partition(":")[0].split(".."))
        other = "or sample the range by --method latin" if isinstance(KEYS[key], Number) else "all of them"
        raise ValueError(f"{text}: is a range, where levels are needed: write {key}={ends}, {other}")
    return key, tuple(_level(key, part.strip()) for part in values.split(","))


def parse_span(text: str) -> tuple[str, Span]:
    """Read ``KEY=LOW..HIGH``, or ``KEY=LOW..HIGH:log``. Raises ValueError, saying what is allowed."""
    key, values = _split(text, "mismatch.conductance=0..1")
    ends, _, scale = values.partition(":")
    parts = ends.split("..")
    if len(parts) != 2 or scale not in ("", "log"):
        raise ValueError(f"{text}: a range is KEY=LOW..HIGH, as in {key}=0..1, or KEY=LOW..HIGH:log")
    if not isinstance(KEYS[key], Number):
        raise ValueError(f"{text}: {key} is no real number, and has no range; give its levels in a grid")
    low, high = (_level(key, part.strip()) for part in parts)
    assert isinstance(low, float) and isinstance(high, float)
    if not low < high:
        raise ValueError(f"{text}: the range must go upwards; swap its ends")
    if scale and low <= 0:
        raise ValueError(f"{text}: a logarithmic range begins above 0, not at {KEYS[key].display(low)}")
    return key, Span(low, high, bool(scale))


def _split(text: str, example: str) -> tuple[str, str]:
    key, equals, values = text.partition("=")
    key = key.strip()
    if not equals or not values.strip():
        raise ValueError(f"{text!r}: write KEY=VALUES, as in {example}")
    if key not in KEYS or "." not in key:
        near = did_you_mean(closest(key, [k for k in KEYS if "." in k]))
        raise ValueError(f"{text!r}: a design has no key {key!r}{near}; 'ohmostat init' writes them all out")
    return key, values


def _level(key: str, text: str) -> Level:
    kind, number = KEYS[key], literal(text)
    needs_unit = isinstance(kind, Number) and kind.unit and not kind.bare and number != 0
    value: object = text if needs_unit or isinstance(kind, Choice) else number
    if isinstance(kind, Layers):
        value = [literal(part) for part in text.split("-")]
    try:
        level: Level = kind.check(value)
    except ValueError as error:
        raise ValueError(f"{key} = {text}: {error}") from None
    return level

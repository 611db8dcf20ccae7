"""What a design's keys may hold: quantities with units, numbers, words, layer sizes.

Every quantity is an SI float inside the program; text with a unit exists at its edges only. Reading
is quantiphy's (SI prefixes, powers of ten); this module adds what a hand-written design needs:
the unit must be there and be right, nothing that reads two ways is accepted, and each refusal says
what is allowed. A :class:`Kind` checks, describes and writes the values of one key.
"""

from __future__ import annotations

import difflib
import json
import math
import numbers
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, NoReturn

from ..simulator.spice_numbers import ZERO_CELSIUS
from .convolution import Convolution

#: Units that a design may use, with their names.
UNITS = {
    "V": "volts", "S": "siemens", "F": "farads", "A": "amperes", "deg": "degrees", "m": "metres",
    "Vm": "volt metres", "Ohm": "ohms", "K": "kelvins", "/K": "per kelvin", "s": "seconds", "Hz": "hertz",
    "J": "joules",
}  # fmt: skip
# Named only to explain what was written in place of the right one.
_OTHER_UNITS = {"H": "henries", "W": "watts", "C": "coulombs", "rad": "radians", "%": "per cent"}
#: By the power of ten.
PREFIXES = {-18: "a", -15: "f", -12: "p", -9: "n", -6: "u", -3: "m", 0: "", 3: "k", 6: "M", 9: "G"}
# Quantiphy also takes "1,5V" (as fifteen volts), "x = 5V" and "5V -- note": not in a design.
_FORM = re.compile(
    r"(?P<number>[+-]?(?=[0-9.])[0-9_]*\.?[0-9_]*(?:[eE][+-]?[0-9]+)?)\s*(?P<unit>[A-Za-z\u00b5\u03bcΩ°%/]*)"
)


_PER_CENT = re.compile(r"\s*([+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+))(?:e([+-]?[0-9]{1,3}))?\s*%\s*", re.IGNORECASE)


_CELSIUS = "C", "°C", "degC"  # as a temperature may be written


class UnitError(ValueError):
    """A text that is not a quantity in the unit that was asked for."""


def parse_quantity(text: str, unit: str) -> float:
    """Read ``text``, such as ``"2.5uS"`` or ``"1e-6 S"``, as a number of ``unit`` [SI]; kelvins from degrees
    Celsius too (``"-40C"``).

    The result may be infinite (``"1e400V"``): ranges are the caller's business.

    Raises:
        UnitError: the text is no quantity, has no unit, or has another one than ``unit``.
    """
    needed = f'{UNITS[unit]} ({unit}) are needed, as in "{_example(unit)}"'
    form = _FORM.fullmatch(text.strip())
    if form is None:
        raise UnitError(f"is not a number with a unit; {needed}")
    if unit == "K" and form["unit"] in _CELSIUS and any(map(str.isdigit, form["number"])):
        return round(float(form["number"]) + ZERO_CELSIUS, 9)  # -40 are 233.15, not 233.14999999999998
    import quantiphy  # deferred: only reading text needs it

    kelvin = next((end for end in ("/K", "K") if form["unit"].endswith(end)), "")  # quantiphy's K is kilo
    plain = text.strip().removesuffix(kelvin) + "V" if kelvin else text.strip()
    try:
        quantity = quantiphy.Quantity(plain)
    except quantiphy.QuantiPhyError:
        raise UnitError(f"is not a number with a unit; {needed}") from None
    spelled = {"°": "deg", "Ω": "Ohm", "ohm": "Ohm", "ohms": "Ohm", "V": kelvin or "V"}
    found = spelled.get(quantity.units, quantity.units)
    if not found and float(quantity) == 0 and unit == form["unit"] == "m":
        found = "m"  # none of anything, be it metres or milli
    if not found:
        raise UnitError(f"has no unit; {needed}")
    if found != unit:
        if form["unit"] in _OTHER_UNITS:  # or else "rad" would be ronto-"ad"
            found = form["unit"]
        name = UNITS.get(found) or _OTHER_UNITS.get(found)
        mistake = f"is in {name} ({found})" if name else f'has the unknown unit "{form["unit"]}"'
        raise UnitError(f"{mistake}; {needed}")
    return float(quantity)


def per_cent(text: str) -> float | None:
    """``"30%"`` as 0.3; None for a text that is not in per cent."""
    form = _PER_CENT.fullmatch(text)
    return float(f"{form[1]}e{int(form[2] or 0) - 2}") if form else None


def format_quantity(value: float, unit: str) -> str:
    """Write ``value`` [SI] with its unit so that :func:`parse_quantity` gives back the same bits.

    An SI prefix is used where one fits (``2.5e-06`` S is ``"2.5uS"``), else a power of ten.
    An empty ``unit`` gives the shortest plain number; degrees take no prefix, and whole metres a power of
    ten (``"2e0m"``), since ``"2m"`` reads as 2 milli of nothing. Zero is ``"0V"``, ``"0m"``.
    """
    value = float(value)
    if not unit or not math.isfinite(value):
        return repr(value)
    exact = Decimal(repr(value))
    power = exact.adjusted() // 3 * 3 if value else 0
    digits, prefix = _trim(repr(value)), ""
    if unit != "deg" and power in PREFIXES:
        digits, prefix = _trim(format(exact.scaleb(-power), "f")), PREFIXES[power]
    if unit == "m" and value and not prefix and "e" not in digits:
        prefix = "e0"
    return f"{digits}{prefix}{unit}"


def _trim(digits: str) -> str:
    return digits.rstrip("0").rstrip(".") if "." in digits and "e" not in digits else digits


def _example(unit: str) -> str:
    examples = {
        "V": "50mV",
        "S": "2.5uS",
        "F": "1pF",
        "A": "10nA",
        "deg": "90deg",
        "m": "1um",
        "Vm": "3.5nVm",
        "Ohm": "2.5Ohm",
        "K": "300K",
        "/K": "2m/K",
        "Hz": "1kHz",
        "s": "100ns",
        "J": "1pJ",
    }
    return examples[unit]


@dataclass(frozen=True)
class Range:
    """The values from ``low`` to ``high`` [SI], without an end that is open."""

    low: float
    high: float
    open_low: bool = False
    open_high: bool = False

    def __contains__(self, value: float) -> bool:
        above = self.low < value if self.open_low else self.low <= value
        return above and (value < self.high if self.open_high else value <= self.high)

    def describe(self, unit: str = "") -> str:
        """In words, with the unit: ``"above 0S, up to 1S"``."""
        low, high = (_trim(format_quantity(end, unit)) for end in (self.low, self.high))
        if not (self.open_low or self.open_high):
            return f"{low} to {high}"
        first = f"above {low}" if self.open_low else f"from {low}"
        return f"{first}, {'below' if self.open_high else 'up to'} {high}"


def positive(high: float) -> Range:
    """Above zero, up to ``high``."""
    return Range(0.0, high, open_low=True)


class Kind:
    """What one key accepts, how it reads in a message and how it is written in TOML."""

    help: str

    def check(self, value: Any) -> Any:
        """The value as it is held; ValueError, saying what is allowed, if it cannot be."""
        raise NotImplementedError

    def check_unit(self, value: Any) -> None:
        """Refuse a value from a file that leaves a unit to be guessed."""

    def allowed(self) -> str:
        """The allowed values, in words."""
        raise NotImplementedError

    def display(self, value: Any) -> str:
        """The value for a message; any value at all, right or wrong."""
        return show(value)

    def literal(self, value: Any) -> str:
        """A checked value as TOML, exactly."""
        return json.dumps(value, ensure_ascii=False)

    def _refuse(self, problem: str) -> NoReturn:
        raise ValueError(f"{problem}; allowed: {self.allowed()}")


@dataclass(frozen=True)
class Number(Kind):
    """A real number; ``unit=""``: without dimension; ``bare``: a file may leave the unit out; ``share``: of
    something, or relative to it, so that text in per cent is read too.
    """

    help: str
    range: Range
    unit: str = ""
    bare: bool = False
    share: bool = False

    def check(self, value: Any) -> float:
        if isinstance(value, str):
            number = self._read(value)
        elif _is_number(value):
            number = _real(value)
        else:
            self._refuse(f"is {_type(value)}, and a number is needed")
        if number not in self.range:  # NaN is in no range
            finite = abs(number) < math.inf
            self._refuse("is outside the range" if finite else "is not a finite number")
        return number + 0.0  # no negative zero

    def _read(self, text: str) -> float:
        if self.unit:
            try:
                return parse_quantity(text, self.unit)
            except UnitError as error:
                self._refuse(str(error))
        number = per_cent(text)
        if number is None:
            remedy = ', or per cent as in "30%"' if self.share else ""
            self._refuse(f"is text, and a number is needed; write a plain number, without quotes{remedy}")
        if not self.share:
            self._refuse("is in per cent, but is no share of anything; write a plain number, without quotes")
        return number

    def check_unit(self, value: Any) -> None:
        if self.unit and not self.bare and _is_number(value) and 0 < abs(_real(value)) < math.inf:
            number, example = _real(value), self.example(_real(value))
            if number in self.range:
                self._refuse(f'has no unit; if {UNITS[self.unit]} are meant, write "{example}"')
            self._refuse("has no unit" + (f'; write "{example}", say' if example else ""))

    def example(self, value: float) -> str:
        """The digits of a number that lacks its unit, as a quantity that is allowed; "" where none is."""
        for power in (0,) if self.unit in ("deg", "K") else (0, -3, -6, -9, -12, -15, 3, 6, 9):
            scaled = float(Decimal(repr(value)).scaleb(power))
            if scaled in self.range:
                return format_quantity(scaled, self.unit)
        return ""

    def allowed(self) -> str:
        return self.range.describe(self.unit)

    def display(self, value: Any) -> str:
        return format_quantity(_real(value), self.unit) if _is_number(value) else show(value)

    def literal(self, value: Any) -> str:
        return f'"{format_quantity(value, self.unit)}"' if self.unit else repr(value)


@dataclass(frozen=True)
class Integer(Kind):
    """A whole number; ``everything`` also takes ``"all"``, held as None."""

    help: str
    low: int
    high: int
    everything: bool = False

    def check(self, value: Any) -> int | None:
        if self.everything and (value is None or (isinstance(value, str) and value == "all")):
            return None
        if not isinstance(value, numbers.Integral) or isinstance(value, bool):
            self._refuse(f"is {_type(value)}, and a whole number is needed")
        number = int(value)
        if not self.low <= number <= self.high:
            self._refuse("is outside the range")
        return number

    def allowed(self) -> str:
        span = f"{self.low} to {self.high}" if self.low < self.high else f"{self.low}"
        return f'{span}, or "all"' if self.everything else span

    def literal(self, value: Any) -> str:
        return '"all"' if value is None else str(value)


@dataclass(frozen=True)
class Choice(Kind):
    """One of a few words."""

    help: str
    options: tuple[str, ...]

    def check(self, value: Any) -> str:
        if isinstance(value, str) and value in self.options:
            return str(value)
        self._refuse(f"is not an option{did_you_mean(closest(value, self.options))}")

    def allowed(self) -> str:
        return " | ".join(f'"{option}"' for option in self.options)


@dataclass(frozen=True)
class Layers(Kind):
    """Layer sizes, input first, held as a tuple; convolutional layers, which follow the inputs, as text."""

    help: str
    fewest: int = 3
    most: int = 16
    largest: int = 16_384

    def check(self, value: Any) -> tuple[int | str, ...]:
        if not isinstance(value, list | tuple):
            self._refuse(f"is {_type(value)}, and a list of layer sizes is needed")
        if not self.fewest <= len(value) <= self.most:
            self._refuse(f"has {len(value)} layers")
        return tuple(self._layer(value, place) for place in range(len(value)))

    def _layer(self, layers: Sequence[Any], place: int) -> int | str:
        entry = layers[place]
        try:
            if not isinstance(entry, str):
                Integer("", 1, self.largest).check(entry)
                return int(entry)
            if place in (0, len(layers) - 1):
                raise ValueError("is text; the first and the last layer are plain sizes")
            if place > 1 and not isinstance(layers[place - 1], str):
                raise ValueError("comes after a plain layer, which is no image; put it before that one")
            return str(Convolution.parse(entry))
        except ValueError as error:
            raise ValueError(f"layer {place + 1} ({show(entry)}) {error}") from None

    def allowed(self) -> str:
        sizes = f"{self.fewest} to {self.most} sizes, each 1 to {self.largest}"
        return f'{sizes}; after the first also convolutions, such as "5x5x8 stride 2"'


@dataclass(frozen=True)
class Curve(Kind):
    """Points of a characteristic, held as a tuple of (V, A)."""

    help: str
    most: int = 500

    def check(self, value: Any) -> tuple[tuple[float, float], ...]:
        if not isinstance(value, list | tuple) or len(value) > self.most:
            self._refuse("is not a list of points, or too long a one")
        volts, amperes = Number("", Range(-100.0, 100.0), "V"), Number("", Range(-1.0, 1.0), "A")
        points = []
        for place, point in enumerate(value, start=1):
            try:
                if not isinstance(point, list | tuple) or len(point) != 2:
                    self._refuse("is no pair")
                points.append((volts.check(point[0]), amperes.check(point[1])))
            except ValueError as error:
                raise ValueError(f"point {place} ({show(point)}) {error}") from None
        return tuple(points)

    def check_unit(self, value: Any) -> None:
        for point in value if isinstance(value, list) else ():
            for entry, unit in zip(point if isinstance(point, list) else (), "VA", strict=False):
                Number("", Range(-100.0, 100.0), unit).check_unit(entry)

    def allowed(self) -> str:
        return f'up to {self.most} pairs such as ["0.3V", "1uA"], of rising voltage'

    def literal(self, value: Any) -> str:
        pairs = (f'["{format_quantity(v, "V")}", "{format_quantity(i, "A")}"]' for v, i in value)
        return f"[{', '.join(pairs)}]"


@dataclass(frozen=True)
class Text(Kind):
    """A short printable text."""

    help: str
    longest: int = 80

    def check(self, value: Any) -> str:
        if not isinstance(value, str):
            self._refuse(f"is {_type(value)}, and text is needed")
        if not (value.strip() and value.isprintable() and len(value) <= self.longest):
            self._refuse("is empty, too long or not printable")
        return value

    def allowed(self) -> str:
        return f"1 to {self.longest} printable characters"


def _is_number(value: Any) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def _real(value: Any) -> float:
    try:
        return float(value)
    except OverflowError:  # an integer of hundreds of digits
        return math.inf


_TYPES: dict[type, str] = {
    bool: "true or false",
    str: "text",
    int: "a whole number",
    float: "a number with a point",
    dict: "a table",
    list: "a list",
    tuple: "a list",
    type(None): "nothing",
}


def _type(value: Any) -> str:
    return _TYPES.get(type(value), f"a {type(value).__name__}")


def show(value: Any, longest: int = 80) -> str:
    """Any value about as TOML would write it; never long, never failing, fit for a terminal."""
    try:
        text: str = json.dumps(value, ensure_ascii=False)
        text = text if text.isprintable() else json.dumps(value)
    except (TypeError, ValueError, RecursionError):
        text = f"({type(value).__name__})"
    return text if len(text) <= longest else text[: longest - 3] + "..."


def closest(word: Any, options: Iterable[str]) -> str:
    """The option that ``word`` is probably a slip for, be it of its case alone, or an empty text."""
    by_case = {option.casefold(): option for option in options}
    close = difflib.get_close_matches(word.casefold(), by_case, n=1) if isinstance(word, str) else []
    return by_case[close[0]] if close else ""


def did_you_mean(option: str) -> str:
    """The hint for a message; empty if there is no ``option`` to offer."""
    return f' (did you mean "{option}"?)' if option else ""

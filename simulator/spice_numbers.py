"""Numbers as SPICE writes them."""

from __future__ import annotations

import math
import re

_SCALES = {"t": 12, "g": 9, "meg": 6, "k": 3, "m": -3, "u": -6, "n": -9, "p": -12, "f": -15}  # powers of ten
ZERO_CELSIUS = 273.15  # [K]: of the degrees in which SPICE gives temperatures
_MIL = 25.4e-6  # a thousandth of an inch [m]
DIGITS = r"(?:\d+(?:\.\d*)?|\.\d+)(?:e[+-]?\d{1,9})?"
_NUMBER = re.compile(
    r"([+-]?(?:\d+(?:\.\d*)?|\.\d+))(?:e([+-]?\d{1,9}))?(meg|mil|[tgkmunpf])?[a-z]*", re.IGNORECASE | re.ASCII
)


class ExpressionError(ValueError):
    """A formula that cannot be understood: says what stands where, and what was expected."""


def parse_number(text: str) -> float:
    """A SPICE number: ``4.7k``, ``1meg``, ``10pF``, ``2.5V``; letters after the scale are a unit.

    Scales are t g meg k mil m u n p f, in either case (ngspice has no atto: ``1a`` is one ampere).
    Raises :class:`ExpressionError`.
    """
    found = _NUMBER.fullmatch(text)
    if found is None:
        refuse_per_cent(text)
        raise ExpressionError(f"{quoted(text)} is not a number; expected one such as 4.7k, 1meg or 10p")
    scale = (found[3] or "").lower()
    value = float(f"{found[1]}e{int(found[2] or 0) + _SCALES.get(scale, 0)}")  # rounded once
    value *= _MIL if scale == "mil" else 1.0
    if not math.isfinite(value):
        raise ExpressionError(f"number {quoted(text)} is too large; the largest is 1.8e308")
    return value


def refuse_per_cent(text: str) -> None:
    """ExpressionError for ``5%``, which SPICE has no way to read."""
    if text.endswith("%"):
        raise ExpressionError(f"{quoted(text)} is in per cent; write a number, as 0.05 for 5%")


def quoted(text: str) -> str:
    """A short, printable quotation."""
    return repr(text if len(text) <= 60 else text[:57] + "...")

"""Functions and operators of formulas: each a law ``(arguments) -> (value, partial derivatives)``.

A partial that is None is zero; a boolean one selects its argument. Arguments are floats or arrays.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

Law = Callable[..., tuple[Any, tuple[Any, ...]]]

# Beyond e^300 the exponential goes on as a straight line: squared it is still finite, so that
# 1/(1 + exp(u)) and its slope do not become inf/inf.
LARGEST_EXPONENT = 300.0
SMALLEST = 1e-32  # what a division by zero divides by, as in ngspice


@dataclass(frozen=True)
class Function:
    """How many arguments it takes, its law, and whether that is complex-differentiable."""

    arity: int
    law: Law
    analytic: bool = True


def _exp(x: Any) -> tuple[Any, tuple[Any, ...]]:
    beyond = np.maximum(np.real(x) - LARGEST_EXPONENT, 0.0)
    slope = np.exp(x - beyond)
    return slope * (1.0 + beyond), (slope,)


def _divide(a: Any, b: Any) -> tuple[Any, tuple[Any, ...]]:
    divisor = np.where(b == 0.0, SMALLEST, b)
    quotient = a / divisor
    return quotient, (1.0 / divisor, -quotient / divisor)


def _power(a: Any, b: Any) -> tuple[Any, tuple[Any, ...]]:
    """``|a|^b``; complex only for an even integer b, where it is ``a^b``."""
    if np.iscomplexobj(a):
        return np.power(a, b), (b * np.power(a, b - 1.0), None)
    size = np.abs(a)
    value = np.power(size, b)
    return value, (b * np.power(_nonzero(size), b - 1.0) * np.sign(a), value * np.log(_nonzero(size)))


def _signed_power(a: Any, b: Any) -> tuple[Any, tuple[Any, ...]]:
    """``sgn(a) |a|^b``; complex only for an odd integer b, where it is ``a^b``."""
    if np.iscomplexobj(a):
        return np.power(a, b), (b * np.power(a, b - 1.0), None)
    size, sign = np.abs(a), np.sign(a)
    value = sign * np.power(size, b)
    return value, (b * np.power(_nonzero(size), b - 1.0), value * np.log(_nonzero(size)))


def _nonzero(size: Any) -> Any:
    return np.maximum(size, SMALLEST)


def _sqrt(x: Any) -> tuple[Any, tuple[Any, ...]]:
    root = np.sqrt(x)
    return root, (0.5 / np.where(root == 0.0, np.sqrt(SMALLEST), root),)


def _tanh(x: Any) -> tuple[Any, tuple[Any, ...]]:
    value = np.tanh(x)
    return value, (1.0 - value * value,)


def _tan(x: Any) -> tuple[Any, tuple[Any, ...]]:
    value = np.tan(x)
    return value, (1.0 + value * value,)


def _minimum(a: Any, b: Any) -> tuple[Any, tuple[Any, ...]]:
    second = np.greater(a, b)
    return np.where(second, b, a), (~second, second)


def _maximum(a: Any, b: Any) -> tuple[Any, tuple[Any, ...]]:
    first = np.greater(a, b)
    return np.where(first, a, b), (first, ~first)


def _limit(x: Any, low: Any, high: Any) -> tuple[Any, tuple[Any, ...]]:
    below = np.less(x, low)
    above = np.greater(x, high) & ~below
    return np.where(below, low, np.where(above, high, x)), (~(below | above), below, above)


def _choose(condition: Any, a: Any, b: Any) -> tuple[Any, tuple[Any, ...]]:
    first = np.not_equal(condition, 0.0)
    return np.where(first, a, b), (None, first, ~first)


def _ramp(x: Any) -> tuple[Any, tuple[Any, ...]]:
    return np.maximum(x, 0.0), (np.greater(x, 0.0),)


def _clipped_ramp(x: Any) -> tuple[Any, tuple[Any, ...]]:
    return np.clip(x, 0.0, 1.0), (np.greater(x, 0.0) & np.less_equal(x, 1.0),)


def _smooth(value: Callable[[Any], Any], slope: Callable[[Any], Any]) -> Function:
    return Function(1, lambda x: (value(x), (slope(x),)))


def _flat(arity: int, value: Callable[..., Any]) -> Function:
    """A function whose slope is zero wherever it has one."""
    return Function(arity, lambda *x: (1.0 * value(*x), (None,) * arity), analytic=False)


FUNCTIONS: dict[str, Function] = {
    "+": Function(2, lambda a, b: (a + b, (1.0, 1.0))),
    "-": Function(2, lambda a, b: (a - b, (1.0, -1.0))),
    "*": Function(2, lambda a, b: (a * b, (b, a))),
    "/": Function(2, _divide),
    "^": Function(2, _power, analytic=False),
    "pow": Function(2, _power, analytic=False),
    "pwr": Function(2, _signed_power, analytic=False),
    "unary -": Function(1, lambda a: (-a, (-1.0,))),
    "?:": Function(3, _choose, analytic=False),
    "ternary_fcn": Function(3, _choose, analytic=False),
    "!": _flat(1, lambda a: np.equal(a, 0.0)),
    "||": _flat(2, lambda a, b: np.not_equal(a, 0.0) | np.not_equal(b, 0.0)),
    "&&": _flat(2, lambda a, b: np.not_equal(a, 0.0) & np.not_equal(b, 0.0)),
    "==": _flat(2, np.equal),
    "!=": _flat(2, np.not_equal),
    "<": _flat(2, np.less),
    ">": _flat(2, np.greater),
    "<=": _flat(2, np.less_equal),
    ">=": _flat(2, np.greater_equal),
    "exp": Function(1, _exp),
    "ln": _smooth(np.log, lambda x: 1.0 / x),
    "log": _smooth(np.log, lambda x: 1.0 / x),
    "log10": _smooth(np.log10, lambda x: 1.0 / (np.log(10.0) * x)),
    "sqrt": Function(1, _sqrt),
    "sin": _smooth(np.sin, np.cos),
    "cos": _smooth(np.cos, lambda x: -np.sin(x)),
    "tan": Function(1, _tan),
    "asin": _smooth(np.arcsin, lambda x: 1.0 / np.sqrt(1.0 - x * x)),
    "acos": _smooth(np.arccos, lambda x: -1.0 / np.sqrt(1.0 - x * x)),
    "atan": _smooth(np.arctan, lambda x: 1.0 / (1.0 + x * x)),
    "sinh": _smooth(np.sinh, np.cosh),
    "cosh": _smooth(np.cosh, np.sinh),
    "tanh": Function(1, _tanh),
    "asinh": _smooth(np.arcsinh, lambda x: 1.0 / np.sqrt(1.0 + x * x)),
    "acosh": _smooth(np.arccosh, lambda x: 1.0 / np.sqrt(x * x - 1.0)),
    "atanh": _smooth(np.arctanh, lambda x: 1.0 / (1.0 - x * x)),
    "abs": Function(1, lambda x: (np.abs(x), (np.sign(x),)), analytic=False),
    "min": Function(2, _minimum, analytic=False),
    "max": Function(2, _maximum, analytic=False),
    "limit": Function(3, _limit, analytic=False),
    "uramp": Function(1, _ramp, analytic=False),
    "u2": Function(1, _clipped_ramp, analytic=False),
    "u": _flat(1, lambda x: np.heaviside(x, 0.5)),
    "sgn": _flat(1, np.sign),
    "floor": _flat(1, np.floor),
    "ceil": _flat(1, np.ceil),
    "nint": _flat(1, np.rint),
}

# Powers are analytic only where the exponent is a constant integer with this remainder by 2.
ANALYTIC_POWERS = {"^": 0, "pow": 0, "pwr": 1}

# What parameters have besides; all of it folds into numbers, so it has no slopes.
PARAMETER_FUNCTIONS = FUNCTIONS | {
    "pow": _flat(2, np.power),
    "int": _flat(1, np.trunc),
}

"""Functions and operators of formulas: each with its value and its partial derivatives.

A partial that is None is zero; a boolean one selects its argument. Arguments are floats or arrays; what
formulas of constants consist of is plain arithmetic, which is fast for floats too.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

Partials = tuple[Any, ...]

# Beyond e^300 the exponential goes on as a straight line: squared it is still finite, so that
# 1/(1 + exp(u)) and its slope do not become inf/inf.
LARGEST_EXPONENT = 300.0
SMALLEST = 1e-32  # what a division by zero divides by, as in ngspice
STEEP = 1e-12  # where a logarithm has the slope that is taken for its own at 0


@dataclass(frozen=True)
class Function:
    """``value(*arguments)``; ``partials(value, *arguments)``; whether it is complex-differentiable; and
    whether its value at 0 is one, or stands in for none while a solution is searched.
    """

    arity: int
    value: Callable[..., Any]
    partials: Callable[..., Partials]
    analytic: bool = True
    defined_at_0: bool = True


def _beyond(x: Any) -> Any:
    return np.maximum(np.real(x) - LARGEST_EXPONENT, 0.0)


def _exp(x: Any) -> Any:
    beyond = _beyond(x)
    return np.exp(x - beyond) * (1.0 + beyond)


def _divisor(b: Any) -> Any:
    return b + (b == 0.0) * SMALLEST


def _quotient_partials(y: Any, a: Any, b: Any) -> Partials:
    divisor = _divisor(b)
    return 1.0 / divisor, -y / divisor


def _complex(a: Any) -> bool:
    return not isinstance(a, float) and np.iscomplexobj(a)


def _power(a: Any, b: Any) -> Any:
    """``|a|^b``; complex only for an even integer b, where it is ``a^b``."""
    return np.power(a if _complex(a) else abs(a), b)


def _power_partials(y: Any, a: Any, b: Any) -> Partials:
    if _complex(a):
        return b * np.power(a, b - 1.0), None
    size = np.maximum(np.abs(a), SMALLEST)
    return b * np.power(size, b - 1.0) * np.sign(a), y * np.log(size)


def _signed_power(a: Any, b: Any) -> Any:
    """``sgn(a) |a|^b``; complex only for an odd integer b, where it is ``a^b``."""
    return np.power(a, b) if _complex(a) else np.sign(a) * np.power(abs(a), b)


def _signed_power_partials(y: Any, a: Any, b: Any) -> Partials:
    if _complex(a):
        return b * np.power(a, b - 1.0), None
    size = np.maximum(np.abs(a), SMALLEST)
    return b * np.power(size, b - 1.0), y * np.log(size)


def _minimum(a: Any, b: Any) -> Any:
    return np.where(np.greater(a, b), b, a)


def _minimum_partials(y: Any, a: Any, b: Any) -> Partials:
    second = np.greater(a, b)
    return ~second, second


def _maximum(a: Any, b: Any) -> Any:
    return np.where(np.greater(a, b), a, b)


def _maximum_partials(y: Any, a: Any, b: Any) -> Partials:
    first = np.greater(a, b)
    return first, ~first


def _limit(x: Any, low: Any, high: Any) -> Any:
    return _minimum(_maximum(x, low), high)


def _limit_partials(y: Any, x: Any, low: Any, high: Any) -> Partials:
    above = np.greater(_maximum(x, low), high)
    below = np.less(x, low) & ~above
    return ~(below | above), below, above


def _choose(condition: Any, a: Any, b: Any) -> Any:
    return np.where(np.not_equal(condition, 0.0), a, b)


def _choose_partials(y: Any, condition: Any, a: Any, b: Any) -> Partials:
    first = np.not_equal(condition, 0.0)
    return None, first, ~first


def _smooth(value: Callable[[Any], Any], slope: Callable[[Any], Any], *, analytic: bool = True) -> Function:
    """A function of one argument by its slope there."""
    return Function(1, value, lambda y, x: (slope(x),), analytic)


def _logarithm(value: Callable[[Any], Any], base: float) -> Function:
    """One whose value and slope at 0, where a solution may be searched from, are finite."""
    return Function(
        1, lambda x: value(_divisor(x)), lambda y, x: (1.0 / (base * (x + (x == 0.0) * STEEP)),),
        defined_at_0=False,
    )  # fmt: skip


def _by_value(value: Callable[[Any], Any], slope: Callable[[Any], Any]) -> Function:
    """A function of one argument whose slope follows from its value."""
    return Function(1, value, lambda y, x: (slope(y),))


def _flat(arity: int, value: Callable[..., Any]) -> Function:
    """A function whose slope is zero wherever it has one."""
    return Function(arity, lambda *x: 1.0 * value(*x), lambda y, *x: (None,) * arity, analytic=False)


FUNCTIONS: dict[str, Function] = {
    "+": Function(2, operator.add, lambda y, a, b: (1.0, 1.0)),
    "-": Function(2, operator.sub, lambda y, a, b: (1.0, -1.0)),
    "*": Function(2, operator.mul, lambda y, a, b: (b, a)),
    "/": Function(2, lambda a, b: a / _divisor(b), _quotient_partials),
    "^": Function(2, _power, _power_partials, analytic=False),
    "pow": Function(2, _power, _power_partials, analytic=False),
    "pwr": Function(2, _signed_power, _signed_power_partials, analytic=False),
    "unary -": Function(1, operator.neg, lambda y, a: (-1.0,)),
    "?:": Function(3, _choose, _choose_partials, analytic=False),
    "ternary_fcn": Function(3, _choose, _choose_partials, analytic=False),
    "!": _flat(1, lambda a: a == 0.0),
    "||": _flat(2, lambda a, b: (a != 0.0) | (b != 0.0)),
    "&&": _flat(2, lambda a, b: (a != 0.0) & (b != 0.0)),
    "==": _flat(2, operator.eq),
    "!=": _flat(2, operator.ne),
    "<": _flat(2, operator.lt),
    ">": _flat(2, operator.gt),
    "<=": _flat(2, operator.le),
    ">=": _flat(2, operator.ge),
    "exp": Function(1, _exp, lambda y, x: (y / (1.0 + _beyond(x)),)),
    "ln": _logarithm(np.log, 1.0),
    "log": _logarithm(np.log, 1.0),
    "log10": _logarithm(np.log10, np.log(10.0)),
    "sqrt": _by_value(np.sqrt, lambda y: 0.5 / np.where(y == 0.0, np.sqrt(SMALLEST), y)),
    "sin": _smooth(np.sin, np.cos),
    "cos": _smooth(np.cos, lambda x: -np.sin(x)),
    "tan": _by_value(np.tan, lambda y: 1.0 + y * y),
    "asin": _smooth(np.arcsin, lambda x: 1.0 / np.sqrt(1.0 - x * x)),
    "acos": _smooth(np.arccos, lambda x: -1.0 / np.sqrt(1.0 - x * x)),
    "atan": _smooth(np.arctan, lambda x: 1.0 / (1.0 + x * x)),
    "sinh": _smooth(np.sinh, np.cosh),
    "cosh": _smooth(np.cosh, np.sinh),
    "tanh": _by_value(np.tanh, lambda y: 1.0 - y * y),
    "asinh": _smooth(np.arcsinh, lambda x: 1.0 / np.sqrt(1.0 + x * x)),
    "acosh": _smooth(np.arccosh, lambda x: 1.0 / np.sqrt(x * x - 1.0)),
    "atanh": _smooth(np.arctanh, lambda x: 1.0 / (1.0 - x * x)),
    "abs": _smooth(np.abs, np.sign, analytic=False),
    "min": Function(2, _minimum, _minimum_partials, analytic=False),
    "max": Function(2, _maximum, _maximum_partials, analytic=False),
    "limit": Function(3, _limit, _limit_partials, analytic=False),
    "uramp": _smooth(lambda x: np.maximum(x, 0.0), lambda x: np.greater(x, 0.0), analytic=False),
    "u2": _smooth(
        lambda x: np.clip(x, 0.0, 1.0),
        lambda x: np.greater(x, 0.0) & np.less_equal(x, 1.0),
        analytic=False,
    ),
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
    "pwr": _flat(2, lambda a, b: np.power(np.abs(a), b)),
    "int": _flat(1, np.trunc),
}

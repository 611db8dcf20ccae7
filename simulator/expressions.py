"""Formulas of SPICE: a parser, and evaluation with slopes by forward differentiation.

    e = parse_expression("0.5 * (1 + tanh(4*v(in) - gain*i(vs)))", parameters={"gain": 2.0}.__getitem__)
    e.ports                     # (("in", "0"), Current("vs"))
    value, slopes = e.evaluate(u)   # u (ports, ..., k), real or complex

Text is only ever parsed, never executed: a formula becomes a tuple of steps in postfix order, and the
steps are numbers, parameters, ports and the functions of a table. A formula inside a subcircuit is read once
(:func:`parse_formula`) and gets its parameters in every instance (:meth:`Formula.bind`).

The meaning is that of ngspice's B sources (ngspice manual, "B source", and its parse tree functions):
``log`` is natural, ``a^b``, ``a**b`` and ``pow(a,b)`` are ``|a|^b``, ``pwr(a,b)`` is ``sgn(a) |a|^b``, powers
group from the left and bind tighter than a sign (``-2^2`` is -4), ``u(0)`` is 1/2, dividing by zero divides
by 1e-32, comparisons are 1 or 0. In parameters ``pow`` keeps the sign, ``pwr`` does not, and ``int``
truncates, as there. Ours: ``limit(x, low, high)`` clamps, ngspice's draws a random number; the logarithm of 0
is that of 1e-32, so that a search may start there, and refused of a constant. Outside of its domain
(``sqrt(-1)``) a function is not a number, which a solver must step back from; where a constant is, the
parser refuses it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .devices import Control, Current, Time
from .expression_functions import ANALYTIC_POWERS, FUNCTIONS, PARAMETER_FUNCTIONS, Function
from .expression_parser import OPERAND, PRECEDENCE, SIGN, Step, parse_steps
from .netlist import GROUND
from .spice_numbers import ExpressionError, quoted

Array = NDArray[Any]
Port = Control
Parameters = Callable[[str], float]

CONSTANTS = {"pi": math.pi, "e": math.e}


@dataclass(frozen=True)
class Expression:
    """A formula of voltages and currents: ports, and steps in postfix order."""

    ports: tuple[Port, ...]
    steps: tuple[float | Step, ...]

    @cached_property
    def analytic(self) -> bool:
        """Whether it is complex-differentiable: no ``abs``, ``min``, ``u``, ``?:``, odd ``^`` …"""
        for before, step in zip((0.0, *self.steps), self.steps, strict=False):
            if not isinstance(step, Step) or not step.function:
                continue
            if step.function in ANALYTIC_POWERS:
                remainder = ANALYTIC_POWERS[step.function]
                if not (isinstance(before, float) and before % 2 == remainder):
                    return False
            elif not FUNCTIONS[step.function].analytic:
                return False
        return True

    @np.errstate(all="ignore")  # a wild step of a solver ends in inf or nan, which the solver tests for
    def evaluate(self, u: ArrayLike) -> tuple[Array, Array]:
        """Value (..., k) and slopes ∂value/∂u (ports, ..., k) at ``u`` (ports, ..., k) [V, or A for i()].

        Complex ``u`` needs an :attr:`analytic` formula: else an :class:`ExpressionError`.
        """
        x = np.asarray(u)
        if np.iscomplexobj(x) and not self.analytic:
            raise ExpressionError(f"{self} has no complex derivative; use real voltages and currents")
        x = x if np.iscomplexobj(x) else x.astype(np.float64, copy=False)
        if len(x) != len(self.ports):
            raise ExpressionError(f"{self} has {len(self.ports)} ports; got values of {len(x)}")
        stack: list[_Dual] = []
        for step in self.steps:
            if not isinstance(step, Step):
                stack.append((step, {}))
            elif step.port >= 0:
                stack.append((x[step.port], {step.port: 1.0}))
            else:
                function = FUNCTIONS[step.function]
                arguments = stack[-function.arity :]
                stack[-function.arity :] = [_chain(function, arguments)]
        ((value, by_port),) = stack
        slopes = np.zeros_like(x)
        for port, slope in by_port.items():
            slopes[port] = slope
        result = np.empty(x.shape[1:], x.dtype)
        result[...] = value
        return result, slopes

    def text(self, ports: Sequence[str] | None = None, constant: Callable[[float], str] = repr) -> str:
        """The formula as SPICE text, ``ports`` naming each port there, such as ``v(n1,n2)``."""
        names = [port_text(port) for port in self.ports] if ports is None else ports
        stack: list[tuple[str, int]] = []  # text, and how tightly it binds
        for step in self.steps:
            if not isinstance(step, Step):
                stack.append((constant(step) if step >= 0 else f"({constant(step)})", OPERAND))
            elif step.port >= 0:
                stack.append((names[step.port], OPERAND))
            else:
                arity = FUNCTIONS[step.function].arity
                stack[-arity:] = [_call_text(step.function, stack[-arity:])]
        return stack[-1][0]

    def __str__(self) -> str:
        return self.text()

    def connected(self, port: Callable[[Port], Port]) -> Expression:
        """The same formula of other ports, as inside an expanded subcircuit."""
        return replace(self, ports=tuple(map(port, self.ports)))


_Dual = tuple[Any, dict[int, Any]]  # a value, and its slope by port


def port_text(port: Port) -> str:
    """A port as SPICE writes it: ``v(a)``, ``v(a,b)``, ``i(device)`` or ``time``."""
    if isinstance(port, Current):
        return f"i({port.device})"
    if isinstance(port, Time):
        return "time"
    return f"v({port[0]})" if port[1] == GROUND else f"v({port[0]},{port[1]})"


@dataclass(frozen=True)
class Formula:
    """A formula as it was written: numbers, parameters by name, ports and functions in postfix order."""

    text: str
    ports: tuple[Port, ...]
    parameters: tuple[str, ...]
    steps: tuple[float | Step, ...]
    functions: Mapping[str, Function] = field(repr=False, compare=False)

    def bind(self, parameters: Parameters | None = None) -> Expression:
        """The expression with these parameters' values; what depends on no port becomes a number.

        Raises :class:`ExpressionError` for unknown names, and where a constant is outside of a domain.
        """
        known = {name: _parameter(name, parameters) for name in self.parameters}
        steps: list[float | Step] = []
        with np.errstate(all="ignore"):  # what is not finite is refused below
            for step in self.steps:
                if not isinstance(step, Step) or step.port >= 0:
                    steps.append(step)
                elif step.parameter:
                    steps.append(known[step.parameter])
                else:
                    self._call(step, steps)
        return Expression(self.ports, tuple(steps))

    def _call(self, step: Step, steps: list[float | Step]) -> None:
        """The function's step, or its value where all its arguments are constants."""
        function = self.functions[step.function]
        arguments = steps[-function.arity :]
        if any(isinstance(argument, Step) for argument in arguments):
            steps.append(step)
            return
        value = float(function.value(*arguments))
        undefined = arguments[0] == 0.0 and not function.defined_at_0
        if undefined or not math.isfinite(value):
            called = f"{step.function} of {', '.join(f'{argument:g}' for argument in arguments)}"
            raise ExpressionError(f"formula {quoted(self.text)}: {called} is not a finite number")
        steps[-function.arity :] = [value]

    def constant(self, parameters: Parameters | None = None) -> float:
        """The value of a formula of numbers and parameters. Raises :class:`ExpressionError`."""
        if self.ports:
            what = port_text(self.ports[0])
            raise ExpressionError(
                f"{quoted(self.text)} depends on {what}; expected numbers and parameters only"
            )
        (value,) = self.bind(parameters).steps
        assert isinstance(value, float)
        return value


def parse_formula(text: str, functions: Mapping[str, Function] = FUNCTIONS) -> Formula:
    """Read a formula; in parameters the ``functions`` are ``PARAMETER_FUNCTIONS``.

    Raises :class:`ExpressionError`.
    """
    return Formula(text, *parse_steps(text, functions), functions)


def parse_expression(text: str, parameters: Parameters | None = None) -> Expression:
    """Read a formula of voltages and currents; ``parameters`` gives the value of a name, or a KeyError.

    Raises :class:`ExpressionError`.
    """
    return parse_formula(text).bind(parameters)


def parse_constant(text: str, parameters: Parameters | None = None) -> float:
    """The value of a formula without ports, with the functions of ngspice's parameters.

    Raises :class:`ExpressionError`.
    """
    return parse_formula(text, PARAMETER_FUNCTIONS).constant(parameters)


def _parameter(name: str, parameters: Parameters | None) -> float:
    """A parameter's value, or a constant's."""
    try:
        return float(CONSTANTS[name] if parameters is None else parameters(name))
    except KeyError:
        if name in CONSTANTS:
            return CONSTANTS[name]
        raise ExpressionError(
            f"unknown name {quoted(name)}; expected a parameter, time, pi or e "
            f"(a voltage is v({name[:20]}), a parameter needs .param)"
        ) from None


def _chain(function: Function, arguments: list[_Dual]) -> _Dual:
    """Chain rule; a partial that only selects (0 or 1) also keeps the other branch's nan out."""
    values = [argument for argument, _ in arguments]
    value = function.value(*values)
    partials = function.partials(value, *values)
    slopes: dict[int, Any] = {}
    for partial, (_, inner) in zip(partials, arguments, strict=True):
        if partial is None:
            continue
        for port, slope in inner.items():
            selects = getattr(partial, "dtype", None) == np.bool_
            part = np.where(partial, slope, 0.0) if selects else partial * slope
            slopes[port] = slopes[port] + part if port in slopes else part
    return value, slopes


def _call_text(name: str, arguments: list[tuple[str, int]]) -> tuple[str, int]:
    """A call as text, with no more parentheses than it needs: sums may be long, nesting is bounded."""

    def operand(k: int, level: int) -> str:
        text, binds = arguments[k]
        return text if binds >= level else f"({text})"

    if name == "?:":
        return f"{operand(0, 1)}?{operand(1, 0)}:{operand(2, 0)}", 0
    if name in PRECEDENCE:
        level = PRECEDENCE[name]
        return f"{operand(0, level)}{name}{operand(1, level + 1)}", level
    if name in ("unary -", "!"):
        return f"{name[-1]}{operand(0, SIGN)}", SIGN
    if name == "limit":  # ngspice's own draws a random number
        x, low, high = (text for text, _ in arguments)
        return f"min(max({x},{low}),{high})", OPERAND
    return f"{name}({','.join(text for text, _ in arguments)})", OPERAND

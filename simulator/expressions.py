"""Formulas of SPICE: a parser, and evaluation with slopes by forward differentiation.

    e = parse_expression("0.5 * (1 + tanh(4*v(in) - gain*i(vs)))", parameters={"gain": 2.0}.__getitem__)
    e.ports                     # (("in", "0"), Current("vs"))
    value, slopes = e.evaluate(u)   # u (ports, ..., k), real or complex

Text is only ever parsed, never executed: a formula becomes a tuple of steps in postfix order, and the
steps are numbers, ports and the functions of the table below.

The meaning is that of ngspice's B sources (ngspice manual, "B source", and its parse tree functions):
``log`` is natural, ``a^b``, ``a**b`` and ``pow(a,b)`` are ``|a|^b``, ``pwr(a,b)`` is ``sgn(a) |a|^b``, powers
group from the left and bind tighter than a sign (``-2^2`` is -4), ``u(0)`` is 1/2, dividing by zero divides
by 1e-32, comparisons are 1 or 0. In parameters ``pow`` keeps the sign and ``int`` truncates, as there.
Ours: ``limit(x, low, high)`` clamps; ngspice's ``limit`` draws a random number. Outside of its domain
(``sqrt(-1)``) a function is not a number, which a solver must step back from; where a constant is, the
parser refuses it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .devices import TIME, Control, Current, Time
from .expression_functions import ANALYTIC_POWERS, FUNCTIONS, PARAMETER_FUNCTIONS, Function
from .netlist import GROUND
from .spice_numbers import DIGITS, ExpressionError, parse_number, quoted

Array = NDArray[Any]
Port = Control
Parameters = Callable[[str], float]

CONSTANTS = {"pi": math.pi, "e": math.e}

LONGEST = 10_000  # characters of a formula
DEEPEST = 100  # parentheses, signs and choices inside one another

_TOKEN = re.compile(
    rf"\s*(?:(?P<number>{DIGITS}[a-z]*)|(?P<name>[a-z_][\w.]*)"
    r"|(?P<sign>\*\*|==|!=|<>|<=|>=|&&|\|\||[-+*/^()?:,<>!]))",
    re.ASCII,
)
_PROBED = re.compile(r"\s*\(([^()]*)\)")  # what v and i are of
_SPELLINGS = {"**": "^", "<>": "!="}
_PRECEDENCE = {  # of operators with two operands; all group from the left; then signs, powers, operands
    "||": 1, "&&": 2, "==": 3, "!=": 3, "<": 4, ">": 4, "<=": 4, ">=": 4,
    "+": 5, "-": 5, "*": 6, "/": 6, "^": 8,
}  # fmt: skip
_SIGN, _OPERAND = 7, 9


@dataclass(frozen=True)
class Step:
    """One step of a formula in postfix order: push the port of this index, or call this function."""

    port: int = -1
    function: str = ""


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
                stack.append((constant(step) if step >= 0 else f"({constant(step)})", _OPERAND))
            elif step.port >= 0:
                stack.append((names[step.port], _OPERAND))
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


def parse_expression(text: str, parameters: Parameters | None = None) -> Expression:
    """The formula in ``text``; ``parameters`` gives a name's value or raises KeyError.

    Raises :class:`ExpressionError`.
    """
    return _Parser(text, parameters, FUNCTIONS).parse()


def parse_constant(text: str, parameters: Parameters | None = None) -> float:
    """The value of a formula without ports, with the functions of ngspice's parameters.

    Raises :class:`ExpressionError`.
    """
    expression = _Parser(text, parameters, PARAMETER_FUNCTIONS).parse()
    if expression.ports:
        what = port_text(expression.ports[0])
        raise ExpressionError(f"{quoted(text)} depends on {what}; expected numbers and parameters only")
    (value,) = expression.steps  # without ports, everything folds into one number
    assert isinstance(value, float)
    return value


def _chain(function: Function, arguments: list[_Dual]) -> _Dual:
    """Chain rule; a partial that only selects (0 or 1) also keeps the other branch's nan out."""
    value, partials = function.law(*(argument for argument, _ in arguments))
    slopes: dict[int, Any] = {}
    for partial, (_, inner) in zip(partials, arguments, strict=True):
        if partial is None:
            continue
        for port, slope in inner.items():
            selects = np.asarray(partial).dtype == np.bool_
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
    if name in _PRECEDENCE:
        level = _PRECEDENCE[name]
        return f"{operand(0, level)}{name}{operand(1, level + 1)}", level
    if name in ("unary -", "!"):
        return f"{name[-1]}{operand(0, _SIGN)}", _SIGN
    return f"{name}({','.join(text for text, _ in arguments)})", _OPERAND


class _Parser:
    """Precedence parsing by one function a level, each of which leaves its steps on ``self.steps``."""

    def __init__(self, text: str, parameters: Parameters | None, table: Mapping[str, Function]) -> None:
        if len(text) > LONGEST:
            raise ExpressionError(f"formula of {len(text)} characters; at most {LONGEST} are allowed")
        self.text = text.lower()
        self.parameters, self.table = parameters, table
        self.steps: list[float | Step] = []
        self.ports: dict[Port, int] = {}
        self.place = self.depth = 0
        self.advance()

    def parse(self) -> Expression:
        self.choice()
        if self.kind != "end":
            raise self.unexpected("an operator or the end")
        return Expression(tuple(self.ports), tuple(self.steps))

    def advance(self) -> None:
        """Read the next token into ``kind`` and ``token``."""
        found = _TOKEN.match(self.text, self.place)
        if found is None:
            rest = self.text[self.place :].strip()
            self.kind, self.token = ("end", "") if not rest else ("character", rest[0])
            return
        self.kind, token = str(found.lastgroup), found[str(found.lastgroup)]
        self.token = _SPELLINGS.get(token, token)
        self.place = found.end()

    def unexpected(self, expected: str) -> ExpressionError:
        here = "the end" if self.kind == "end" else quoted(self.token)
        return ExpressionError(f"formula {quoted(self.text)}: {here} where {expected} was expected")

    def accept(self, sign: str) -> bool:
        if self.kind == "sign" and self.token == sign:
            self.advance()
            return True
        return False

    def expect(self, sign: str) -> None:
        if not self.accept(sign):
            raise self.unexpected(repr(sign))

    def choice(self) -> None:
        """``condition ? if_true : if_false``."""
        self.descend()
        self.binary(1)
        if self.accept("?"):
            self.choice()
            self.expect(":")
            self.choice()
            self.call("?:")
        self.depth -= 1

    def descend(self) -> None:
        self.depth += 1
        if self.depth > DEEPEST:
            raise ExpressionError(f"formula {quoted(self.text)} is nested more than {DEEPEST} deep")

    def binary(self, level: int) -> None:
        """Operators of at least this precedence."""
        self.unary()
        while self.kind == "sign" and _PRECEDENCE.get(self.token, 0) >= level:
            operator = self.token
            self.advance()
            self.binary(_PRECEDENCE[operator] + 1)
            self.call(operator)

    def unary(self) -> None:
        self.descend()
        if self.accept("-"):
            self.unary()
            self.call("unary -")
        elif self.accept("!"):
            self.unary()
            self.call("!")
        elif self.accept("+"):
            self.unary()
        else:
            self.power()
        self.depth -= 1

    def power(self) -> None:
        self.operand()
        while self.accept("^"):
            if self.kind == "sign" and self.token in "+-!":
                self.unary()
            else:
                self.operand()
            self.call("^")

    def operand(self) -> None:
        kind, token = self.kind, self.token
        if kind == "number":
            self.advance()
            self.steps.append(parse_number(token))
        elif kind == "name" and token in ("v", "i") and _PROBED.match(self.text, self.place):
            self.probe(token)
        elif kind == "name":
            self.advance()
            if self.accept("("):
                self.arguments(token)
            else:
                self.constant(token)
        elif self.accept("("):
            self.choice()
            self.expect(")")
        else:
            raise self.unexpected("a number, a name or '('")

    def probe(self, letter: str) -> None:
        """``v(a)``, ``v(a,b)`` or ``i(device)``."""
        found = _PROBED.match(self.text, self.place)
        assert found is not None
        names = [GROUND if name.strip() == "gnd" else name.strip() for name in found[1].split(",")]
        most = 2 if letter == "v" else 1
        if len(names) > most or not all(names) or any(len(name.split()) > 1 for name in names):
            expected = "v(node) or v(node,node)" if letter == "v" else "i(device)"
            raise ExpressionError(f"{letter}({quoted(found[1])}) where {expected} was expected")
        port: Port = Current(names[0]) if letter == "i" else (names[0], (*names, GROUND)[1])
        self.steps.append(Step(port=self.ports.setdefault(port, len(self.ports))))
        self.place = found.end()
        self.advance()

    def arguments(self, name: str) -> None:
        """Arguments of a function whose name and opening parenthesis have been read."""
        if name not in self.table:
            known = ", ".join(sorted(known for known in self.table if known.isidentifier()))
            raise ExpressionError(f"unknown function {quoted(name)}; expected one of v, i, {known}")
        arity = self.table[name].arity
        for k in range(arity):
            if k:
                self.expect(",")
            self.choice()
        self.expect(")")
        self.call(name)

    def constant(self, name: str) -> None:
        if name == "time":
            self.steps.append(Step(port=self.ports.setdefault(TIME, len(self.ports))))
            return
        try:
            value = self.parameters(name) if self.parameters is not None else CONSTANTS[name]
        except KeyError:
            if name not in CONSTANTS:
                raise ExpressionError(
                    f"unknown name {quoted(name)}; expected a parameter, time, pi or e "
                    f"(a voltage is v({name[:20]}), a parameter needs .param)"
                ) from None
            value = CONSTANTS[name]
        self.steps.append(float(value))

    def call(self, name: str) -> None:
        """The function's step, or its value where all its arguments are constants."""
        function = self.table[name]
        last = self.steps[-function.arity :]
        constants = [step for step in last if isinstance(step, float)]
        if len(constants) < function.arity:
            self.steps.append(Step(function=name))
            return
        with np.errstate(all="ignore"):
            value = float(function.law(*constants)[0])
        if not math.isfinite(value):
            called = f"{name} of {', '.join(f'{constant:g}' for constant in constants)}"
            raise ExpressionError(f"formula {quoted(self.text)}: {called} is not a finite number")
        self.steps[-function.arity :] = [value]

"""The parser of formulas: text to steps in postfix order, and nothing more.

What the steps mean is in :mod:`~ohmostat.simulator.expressions`; the functions that a formula may call are
the keys of a table, :data:`~ohmostat.simulator.expression_functions.FUNCTIONS` or that of parameters.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

from .devices import TIME, Control, Current
from .expression_functions import Function
from .netlist import GROUND
from .spice_numbers import DIGITS, ExpressionError, parse_number, quoted

LONGEST = 10_000  # characters of a formula
DEEPEST = 100  # parentheses, signs and choices inside one another

_TOKEN = re.compile(
    rf"\s*(?:(?P<number>{DIGITS}[a-z]*)|(?P<name>[a-z_][\w.]*)"
    r"|(?P<sign>\*\*|==|!=|<>|<=|>=|&&|\|\||[-+*/^()?:,<>!]))",
    re.ASCII,
)
_PROBED = re.compile(r"\s*\(([^()]*)\)")  # what v and i are of
_SPELLINGS = {"**": "^", "<>": "!="}
PRECEDENCE = {  # of operators with two operands; all group from the left; then signs, powers, operands
    "||": 1, "&&": 2, "==": 3, "!=": 3, "<": 4, ">": 4, "<=": 4, ">=": 4,
    "+": 5, "-": 5, "*": 6, "/": 6, "^": 8,
}  # fmt: skip
SIGN, OPERAND = 7, 9


@dataclass(frozen=True)
class Step:
    """One step of a formula in postfix order: push this port or parameter, or call this function."""

    port: int = -1
    function: str = ""
    parameter: str = ""


_call = cache(lambda name: Step(function=name))  # of which there are as many as functions


class Parsed(NamedTuple):
    """A formula's ports and the names of its parameters, each in the order of first use, and its steps."""

    ports: tuple[Control, ...]
    parameters: tuple[str, ...]
    steps: tuple[float | Step, ...]


def parse_steps(text: str, functions: Mapping[str, Function]) -> Parsed:
    """Read a formula that may call these ``functions``. Raises :class:`ExpressionError`."""
    return _Parser(text, functions).parse()


class _Parser:
    """Precedence parsing by one function a level, each of which leaves its steps on ``self.steps``."""

    def __init__(self, text: str, functions: Mapping[str, Function]) -> None:
        if len(text) > LONGEST:
            raise ExpressionError(f"formula of {len(text)} characters; at most {LONGEST} are allowed")
        self.text = text.lower()
        self.functions = functions
        self.steps: list[float | Step] = []
        self.ports: dict[Control, int] = {}
        self.parameters: dict[str, Step] = {}
        self.place = self.depth = 0
        self.advance()

    def parse(self) -> Parsed:
        self.choice()
        if self.kind != "end":
            raise self.unexpected("an operator or the end")
        return Parsed(tuple(self.ports), tuple(self.parameters), tuple(self.steps))

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
            self.steps.append(_call("?:"))
        self.depth -= 1

    def descend(self) -> None:
        self.depth += 1
        if self.depth > DEEPEST:
            raise ExpressionError(f"formula {quoted(self.text)} is nested more than {DEEPEST} deep")

    def binary(self, level: int) -> None:
        """Operators of at least this precedence."""
        self.unary()
        while self.kind == "sign" and PRECEDENCE.get(self.token, 0) >= level:
            operator = self.token
            self.advance()
            self.binary(PRECEDENCE[operator] + 1)
            self.steps.append(_call(operator))

    def unary(self) -> None:
        self.descend()
        if self.accept("-"):
            self.unary()
            self.steps.append(_call("unary -"))
        elif self.accept("!"):
            self.unary()
            self.steps.append(_call("!"))
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
            self.steps.append(_call("^"))

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
                self.name(token)
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
        port: Control = Current(names[0]) if letter == "i" else (names[0], (*names, GROUND)[1])
        self.steps.append(Step(port=self.ports.setdefault(port, len(self.ports))))
        self.place = found.end()
        self.advance()

    def arguments(self, name: str) -> None:
        """Arguments of a function whose name and opening parenthesis have been read."""
        if name not in self.functions:
            known = ", ".join(sorted(known for known in self.functions if known.isidentifier()))
            raise ExpressionError(f"unknown function {quoted(name)}; expected one of v, i, {known}")
        arity = self.functions[name].arity
        for k in range(arity):
            if k:
                self.expect(",")
            self.choice()
        self.expect(")")
        self.steps.append(_call(name))

    def name(self, name: str) -> None:
        """The time, or a parameter."""
        if name == "time":
            self.steps.append(Step(port=self.ports.setdefault(TIME, len(self.ports))))
        else:
            self.steps.append(self.parameters.setdefault(name, Step(parameter=name)))

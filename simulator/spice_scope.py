"""Names inside one circuit body: the deck itself, or one instance of a subcircuit.

Inside, names reach outwards through the bodies in which the subcircuit was *defined* (lexical scope). A
node ``n`` of instance ``x1`` is ``x1.n`` outside, a device ``r1`` is ``r.x1.r1``, as ngspice names them.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter

from .banks import some
from .devices import Control, Current, Time
from .expression_functions import FUNCTIONS, PARAMETER_FUNCTIONS
from .expressions import Expression, Formula, parse_formula
from .netlist import GROUND
from .spice_lines import Fields, Origin, unquoted
from .spice_numbers import ZERO_CELSIUS, ExpressionError, parse_number, refuse_per_cent

SHARES = frozenset(("mismatch",))  # settings that are relative, and of which SPICE knows nothing
GROUPED = str.maketrans("{}", "()")  # a parameter within a formula, as {gain}
LARGEST_FORMULAS = 2_000_000  # characters of all formulas, counted whenever one is read or evaluated

_NUMERIC = re.compile(r"[-+]?[\d.]|[{'\"]")


@dataclass
class Body:
    """What a deck or a ``.subckt`` contains, as cards."""

    origin: Origin
    name: str
    ports: tuple[str, ...] = ()
    defaults: dict[str, str] = field(default_factory=dict)  # of the subcircuit's parameters
    parameters: dict[str, tuple[str, Origin]] = field(default_factory=dict)
    models: dict[str, Fields] = field(default_factory=dict)
    subcircuits: dict[str, Body] = field(default_factory=dict)
    devices: list[Fields] = field(default_factory=list)
    size: int = 0  # characters of its parameters and models, which every instance evaluates


class Formulas:
    """A deck's formulas, each read once, and how much work it was to evaluate them in every instance."""

    def __init__(self) -> None:
        self.size = 0
        self._read: dict[tuple[str, bool], Formula] = {}

    def count(self, text: str, origin: Origin) -> None:
        """Of one more formula to evaluate."""
        self.size += len(text)
        if self.size > LARGEST_FORMULAS:
            raise origin.excess(
                f"more than {LARGEST_FORMULAS} characters of formulas, counted in every instance; "
                "build larger circuits with Netlist"
            )

    def read(self, text: str, origin: Origin, *, constant: bool) -> Formula:
        """The formula, of numbers and parameters alone if ``constant``. Raises ExpressionError."""
        key = text, constant
        if key not in self._read:
            self.count(text, origin)
            refuse_per_cent(text)
            self._read[key] = parse_formula(text, PARAMETER_FUNCTIONS if constant else FUNCTIONS)
        return self._read[key]


@dataclass(frozen=True)
class Conditions:
    """What holds for the whole deck while devices are read."""

    temperature: float = ZERO_CELSIUS + 27.0  # [K]
    nominal: float = ZERO_CELSIUS + 27.0  # at which model parameters were measured [K]
    step: float = 0.0  # of .tran [s], the default rise time of a pulse
    stop: float | None = None  # of .tran [s]
    global_nodes: frozenset[str] = frozenset()


class Scope:
    """One body with its parameters' values, its name and its connections."""

    def __init__(
        self, body: Body, conditions: Conditions, *, parent: Scope | None = None, path: str = "",
        connections: Mapping[str, str] | None = None, given: Mapping[str, float] | None = None,
        multiplier: float = 1.0, depth: int = 0,
    ) -> None:  # fmt: skip
        self.body, self.conditions, self.parent, self.path = body, conditions, parent, path
        self.connections, self.multiplier, self.depth = connections or {}, multiplier, depth
        self.formulas: Formulas = parent.formulas if parent else Formulas()
        self.model_values: dict[str, dict[str, float]] = {}  # of the models read so far
        self._values: dict[str, float] = dict(given or {})
        if body.defaults or body.parameters:
            self._evaluate_parameters()

    def _evaluate_parameters(self) -> None:
        """In the order in which they depend on one another."""
        texts = {name: (text, self.body.origin) for name, text in self.body.defaults.items()}
        texts |= self.body.parameters
        texts = {name: text for name, text in texts.items() if name not in self._values}
        needs = {name: texts.keys() & self._names(name, *texts[name]) for name in texts}
        try:
            order = tuple(TopologicalSorter(needs).static_order())
        except CycleError as error:
            circle = error.args[1]
            origin = texts[circle[0]][1]
            raise origin.error(f"parameters define each other: {' needs '.join(circle[::-1])}") from None
        for name in order:
            text, origin = texts[name]
            self._values[name] = self.number(text, name, origin)

    def _names(self, what: str, text: str, origin: Origin) -> Collection[str]:
        """Of the parameters that a value needs."""
        try:
            return self.formulas.read(unquoted(text), origin, constant=True).parameters
        except ExpressionError as error:
            raise origin.error(f"{what}: {error}") from None

    def parameter(self, name: str) -> float:
        """Value of a parameter here or further out; KeyError if there is none."""
        for scope in self._outwards():
            if name in scope._values:
                return scope._values[name]
        raise KeyError(name)

    def number(self, text: str, what: str, origin: Origin) -> float:
        """The value of a number or of a formula of parameters, with or without braces."""
        try:
            plain = unquoted(text)
            if plain is text:
                try:
                    return parse_number(text)
                except ExpressionError:  # then it must be a formula
                    pass
            self.formulas.count(plain, origin)
            return self.formulas.read(plain, origin, constant=True).constant(self.parameter)
        except ExpressionError as error:
            raise origin.error(f"{what}: {error}") from None

    def word(self, text: str, what: str, origin: Origin) -> float:
        """As :meth:`number`, for a value without a name before it: a formula needs braces or quotes."""
        if not numeric(text):
            raise origin.error(
                f"{what}: {text[:40]!r} where a number was expected (a parameter is written {{{text[:40]}}})"
            )
        try:
            return self.number(text, what, origin) if unquoted(text) != text else parse_number(text)
        except ExpressionError as error:
            raise origin.error(f"{what}: {error}") from None

    def settings(self, f: Fields, known: Collection[str], harmless: Collection[str] = ()) -> dict[str, float]:
        """Values of a card's settings, shares also in per cent; one that is neither known nor harmless is an
        error.
        """
        values = {}
        for name, text in f.settings.items():
            if name in known:
                share = name in SHARES and text.endswith("%")
                value = self.number(text[:-1] if share else text, f"{f.name}: {name}", f.origin)
                values[name] = value / 100.0 if share else value
        unknown = [name for name in f.settings if name not in known and name not in harmless]
        if unknown:
            raise f.error(f"{some(unknown, 'unknown parameter')}; known are {', '.join(sorted(known))}")
        return values

    def formula(self, text: str, f: Fields) -> Expression:
        """A formula of nodes and devices of this body."""
        plain = unquoted(text.strip()).translate(GROUPED)
        self.formulas.count(plain, f.origin)
        try:
            expression = self.formulas.read(plain, f.origin, constant=False).bind(self._formula_parameter)
        except ExpressionError as error:
            raise f.error(str(error)) from None
        return expression.connected(self._port)

    def _formula_parameter(self, name: str) -> float:
        if name == "temper":
            return self.conditions.temperature - ZERO_CELSIUS
        return self.parameter(name)

    def _port(self, port: Control) -> Control:
        if isinstance(port, Time):
            return port
        if isinstance(port, Current):
            return Current(self.device(port.device))
        return self.node(port[0]), self.node(port[1])

    def node(self, name: str) -> str:
        """A node's name in the whole circuit."""
        if name in (GROUND, "gnd"):
            return GROUND
        if name in self.connections:
            return self.connections[name]
        return name if not self.path or name in self.conditions.global_nodes else f"{self.path}.{name}"

    def device(self, name: str) -> str:
        """A device's name in the whole circuit."""
        return f"{name[0]}.{self.path}.{name}" if self.path else name

    def model(self, name: str) -> tuple[Fields, Scope] | None:
        """The ``.model`` card of that name, and the scope in which its formulas are read."""
        return next(((s.body.models[name], s) for s in self._outwards() if name in s.body.models), None)

    def subcircuit(self, name: str) -> tuple[Body, Scope] | None:
        """The subcircuit of that name, and the scope in which it was defined."""
        return next(
            ((s.body.subcircuits[name], s) for s in self._outwards() if name in s.body.subcircuits), None
        )

    def _outwards(self) -> Iterator[Scope]:
        """The scope itself, then those that it lies in, inside out."""
        scope: Scope | None = self
        while scope is not None:
            yield scope
            scope = scope.parent


def numeric(text: str) -> bool:
    """Whether a word starts like a number or a formula in braces or quotes, not like a name."""
    return _NUMERIC.match(text) is not None

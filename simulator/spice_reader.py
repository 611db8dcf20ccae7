"""SPICE text in: :func:`read_spice` and :func:`parse_spice`.

Read are R C L V I D M E F G H B S X with ``.subckt .model .param .include .lib .global .ic .nodeset .temp
.options``, the analyses ``.op .dc .tran .ac .noise .tf .mc`` and measurements (``.meas``), as ngspice reads
them, without regard to case. Ours:

- ``.mc samples [seed=n]`` and ``mismatch=sigma`` on devices and models (standard deviation of the logarithm
  of the main parameter: resistance, capacitance, saturation current, transconductance ...);
- ``.model name nmos level=44`` is the EKV MOSFET;
- what is not understood is an error, never ignored, besides cards and options that only choose what is
  printed or how SPICE's own methods work (``HARMLESS_CARDS``, ``HARMLESS_OPTIONS``), the model parameters in
  ``spice_models.HARMLESS``, and the hint ``off`` on D and M;
- ``m=`` of a device and of the subcircuits around it multiply (ngspice 39 drops the device's own there).

Nothing in a text is ever executed, and no file outside of its folder is opened. Every error is a
:class:`~ohmostat.simulator.spice_lines.SpiceSyntaxError` with file and line.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields as dataclass_fields
from dataclasses import replace
from functools import partial
from pathlib import Path

from .deck import Deck, Element, Options
from .devices import DEVICES, Control, Current
from .faults import Faults
from .netlist import GROUND
from .spice_analyses import (
    ANALYSES,
    Analysis,
    DcSweep,
    Noise,
    Transfer,
    Transient,
    check_temperature,
    read_analysis,
)
from .spice_devices import READERS
from .spice_lines import (
    LARGEST_TEXT,
    Card,
    Fields,
    Origin,
    Source,
    SpiceSyntaxError,
    decoded,
    fields,
    node_settings,
    without_parentheses,
)
from .spice_measures import WORDS as MEASURES
from .spice_measures import Measure, read_measures
from .spice_models import read_model
from .spice_numbers import ZERO_CELSIUS
from .spice_scope import Body, Conditions, Scope
from .temperature import TEMPERATURE
from .waveforms import MOST_BREAKPOINTS

__all__ = ["Deck", "Element", "Options", "SpiceSyntaxError", "parse_spice", "read_spice"]

MOST_ELEMENTS = 200_000  # devices after expansion; larger circuits are built in Python
MOST_INSTANCES = 50_000  # of subcircuits
LONGEST_PATH = 250  # characters of an instance's name, with those around it
LARGEST_EXPANSION = 32_000_000  # characters of all cards, counted in every instance
MOST_VALUES = 50_000_000  # voltages and currents that an analysis finds, at all its points
DEEPEST_HIERARCHY = 30  # subcircuits, or their definitions, inside one another

HARMLESS_CARDS = frozenset((".save", ".print", ".plot", ".probe", ".width", ".title"))
HARMLESS_OPTIONS = frozenset(
    (
        *("acct", "list", "node", "nomod", "noacct", "noinit", "nopage", "opts", "numdgt", "savecurrents"),
        *("sparse", "klu", "method", "maxord", "maxevals", "pivtol", "pivrel", "gminsteps", "srcsteps"),
        *("abstol", "chgtol", "trtol", "itl1", "itl2", "itl3", "itl4", "itl5", "itl6"),
        *("cptime", "limtim", "limpts", "lvlcod", "lvltim"),
    )
)
_REFUSED = {
    ".control": "commands are not run; write analyses as .op, .dc, .tran, .ac, .noise or .tf",
    ".func": "functions cannot be defined; write the formula where it is used",
    ".csparam": "commands are not run; use .param",
    ".if": "conditional cards are not read; use a formula with ?: in .param",
}


def read_spice(path: str | Path) -> Deck:
    """Read a SPICE file; ``.include`` and ``.lib`` reach files in its folder. SpiceSyntaxError, OSError."""
    path = Path(path)
    with path.open("rb") as stream:
        content = stream.read(LARGEST_TEXT + 1)
    if len(content) > LARGEST_TEXT:  # its beginning might be a circuit, and another one
        raise Origin(str(path), 1).error(f"has more than {LARGEST_TEXT} characters; simulate it in parts")
    return parse_spice(decoded(content), str(path), path.resolve().parent)


def parse_spice(text: str, source: str = "<text>", folder: str | Path | None = None) -> Deck:
    """Read SPICE text, which errors call ``source``; without a ``folder``, other files are refused.

    The first line is the title. Raises :class:`SpiceSyntaxError`.
    """
    files = Source(None if folder is None else Path(folder))
    title, cards = files.cards(text, source)
    body, commands = _bodies(cards, Origin(source, 1))
    return _deck(title, body, commands, tuple(files.read))


def _deck(
    title: str, body: Body, commands: list[Card], files: tuple[Path, ...], celsius: float | None = None
) -> Deck:
    """The deck at the temperature [°C] that it gives, or at another."""
    deck = _Reader(title, body, commands, celsius).deck()
    return replace(deck, files=files, at_temperature=partial(_deck, title, body, commands, files))


def _bodies(cards: list[Card], origin: Origin) -> tuple[Body, list[Card]]:
    """The deck's body, with subcircuits inside, and the dot-cards that concern the deck as a whole."""
    stack, commands, faults = [Body(origin, "")], list[Card](), Faults(SpiceSyntaxError)
    for card in cards:
        word = card.text.split(maxsplit=1)[0]
        body = stack[-1]
        if word == ".subckt":
            stack.append(_opened(card, body))
            if len(stack) > DEEPEST_HIERARCHY:
                raise card.origin.error(f".subckt nested more than {DEEPEST_HIERARCHY} deep")
        elif word == ".ends":
            _closed(card, stack)
        elif word in (".param", ".model") or not word.startswith("."):
            with faults:
                _DEFINITIONS.get(word, _add_device)(card, body)
        elif len(stack) > 1 and word not in HARMLESS_CARDS:
            raise card.origin.error(
                f"{word} inside .subckt {body.name!r}; expected it outside, or .ends before"
            )
        else:
            commands.append(card)
    with faults:
        if len(stack) > 1:
            raise stack[-1].origin.error(f".subckt {stack[-1].name!r} without .ends")
    faults.tell()
    return stack[0], commands


def _opened(card: Card, outer: Body) -> Body:
    f = fields(card)
    words = [word for word in f.words if word != "params:"]
    if not words:
        raise card.origin.error("expected .subckt name node ... [parameter=value ...]")
    name, ports = words[0], tuple(words[1:])
    if name in outer.subcircuits:
        raise card.origin.error(f".subckt {name!r} exists already ({outer.subcircuits[name].origin})")
    if len(set(ports)) < len(ports) or {GROUND, "gnd"} & set(ports):
        raise card.origin.error(f".subckt {name!r}: expected distinct nodes, and not ground, which is global")
    outer.subcircuits[name] = Body(card.origin, name, ports, f.settings, size=f.size)
    return outer.subcircuits[name]


def _closed(card: Card, stack: list[Body]) -> None:
    words = card.text.split()
    if len(stack) == 1:
        raise card.origin.error(".ends without .subckt")
    closed = stack.pop()
    if len(words) > 1 and words[1] != closed.name:
        raise card.origin.error(f".ends {words[1]!r} where .ends {closed.name!r} was expected")


def _define(card: Card, body: Body) -> None:
    f = fields(card)
    if f.words or not f.settings:
        raise f.error("expected .param name=value [name=value ...]")
    for name, text in f.settings.items():
        if name in body.parameters or name in body.defaults:
            raise f.error(f"{name!r} is defined twice; give each parameter one value")
        body.parameters[name] = text, card.origin
    body.size += f.size


def _model(card: Card, body: Body) -> None:
    """Parentheses around a model's parameters mean nothing."""
    f = fields(without_parentheses(card))
    if len(f.words) != 2:
        raise f.error("expected .model name type [(] parameter=value ... [)]")
    name = f.words[0]
    if name in body.models:
        raise f.error(f"{name!r} exists already ({body.models[name].origin})")
    body.models[name] = Fields(card.origin, f".model {name}", f.words[1:], f.settings)
    body.size += f.size


def _add_device(card: Card, body: Body) -> None:
    body.devices.append(fields(card))


_DEFINITIONS = {".param": _define, ".model": _model}


class _Reader:
    """Turns a body into a deck: conditions first, since devices depend on them, then the devices.

    Faults are told together: of parameters and options the first, since all else needs them; then those of
    what cards say; then those of what they name.
    """

    def __init__(self, title: str, body: Body, commands: list[Card], celsius: float | None) -> None:
        self.title, self.body, self.commands, self.celsius = title, body, commands, celsius
        self.elements: list[Element] = []
        self.by_name: dict[str, Element] = {}
        self.size = self.instances = 0
        self.faults = Faults(SpiceSyntaxError)

    def deck(self) -> Deck:
        scope = Scope(self.body, Conditions())
        options = self._options(scope)
        for card in self.commands:
            with self.faults:
                _check_command(card)
        analyses = list[tuple[Card, Analysis]]()
        for card in self._of(*ANALYSES):
            with self.faults:
                analyses.append((card, read_analysis(card, scope)))
        scope.conditions = self._conditions(options, [analysis for _, analysis in analyses])
        self._expand(scope)
        self.faults.tell()
        if not self.elements:
            raise self.body.origin.error("no device in the deck; expected at least one after the title line")
        nodes = {node for element in self.elements for node in element.nodes}
        measures = self._checked(scope, analyses, nodes)
        return Deck(
            self.title,
            tuple(self.elements),
            tuple(analysis for _, analysis in analyses),
            options,
            self._voltages(".ic", scope, nodes),
            self._voltages(".nodeset", scope, nodes),
            self.body.origin,
            tuple(measures),
        )

    def _checked(self, scope: Scope, analyses: list[tuple[Card, Analysis]], nodes: set[str]) -> list[Measure]:
        """The measurements, where all that cards name exists."""
        for card, analysis in analyses:
            with self.faults:
                self._check_names(card, analysis, nodes)
                self._check_size(card, analysis, nodes)
        measures = list[Measure]()
        with self.faults:
            measures = read_measures(list(self._of(*MEASURES)), scope, [analysis for _, analysis in analyses])
        for measure in measures:
            with self.faults:
                self._check_signals(measure, nodes)
        self._check_currents()
        self.faults.tell()
        return measures

    def _of(self, *words: str) -> Iterator[Card]:
        """The deck's cards of these kinds."""
        return (card for card in self.commands if card.text.split(maxsplit=1)[0] in words)

    def _options(self, scope: Scope) -> Options:
        known = [field.name for field in dataclass_fields(Options)]
        values: dict[str, float] = {}
        for card in self._of(".options", ".option", ".temp"):
            f = fields(card)
            if f.name == ".temp":
                if len(f.words) != 1 or f.settings:
                    raise f.error("expected one temperature [°C]; run the deck again for others")
                values["temp"] = scope.word(f.words[0], ".temp", f.origin)
            else:
                unknown = [word for word in f.words if word not in HARMLESS_OPTIONS]
                if unknown:
                    raise f.error(f"unknown option {unknown[0]!r}; known are {', '.join(sorted(known))}")
                given = {name: text for name, text in f.settings.items() if name not in HARMLESS_OPTIONS}
                values |= scope.settings(replace(f, settings=given), known)
            _check_options(f, values)
        if self.celsius is not None:
            values["temp"] = self.celsius
        return Options(**values)

    def _conditions(self, options: Options, analyses: list[Analysis]) -> Conditions:
        runs = [analysis for analysis in analyses if isinstance(analysis, Transient)]
        names = [name for card in self._of(".global") for name in fields(card).words]
        return Conditions(
            options.temp + ZERO_CELSIUS,
            options.tnom + ZERO_CELSIUS,
            runs[0].step if runs else 0.0,
            runs[0].stop if runs else None,
            frozenset(names),
        )

    def _voltages(self, word: str, scope: Scope, nodes: set[str]) -> Mapping[str, float]:
        voltages: dict[str, float] = {}
        for card in self._of(word):
            for name, text in node_settings(card).items():
                node = scope.node(name)
                if node not in nodes:
                    raise card.origin.error(f"{word}: no node {name[:40]!r} in the circuit")
                voltages[node] = scope.number(text, f"{word} v({name})", card.origin)
        return voltages

    def _expand(self, scope: Scope) -> None:
        """Append the devices of a body, and of the subcircuits in it."""
        for f in scope.body.devices:
            if self.faults.many:
                return
            with self.faults:
                self._count(f, f.size)
                if f.name[0] == "x":
                    self._expand(self._instance(f, scope))
                else:
                    self._append(_device(f, scope))
        for name in scope.body.models:  # those that no device uses, too
            with self.faults:
                read_model(name, scope)

    def _count(self, f: Fields, size: int) -> None:
        self.size += size
        if self.size > LARGEST_EXPANSION:
            raise f.origin.excess(f"{f.name}: more than {LARGEST_EXPANSION} characters after expansion")

    def _append(self, element: Element) -> None:
        if len(self.elements) >= MOST_ELEMENTS:
            raise element.origin.excess(
                f"more than {MOST_ELEMENTS} devices after expansion; build larger circuits with Netlist"
            )
        if element.name in self.by_name:
            first = self.by_name[element.name].origin
            raise element.origin.error(f"device {element.name!r} exists already ({first})")
        self.by_name[element.name] = element
        self.elements.append(element)

    def _instance(self, f: Fields, scope: Scope) -> Scope:
        """The scope inside of the subcircuit that an X card calls."""
        body, home, nodes = self._called(f, scope)
        self._count(f, body.size)
        self.instances += 1
        if self.instances > MOST_INSTANCES:
            raise f.origin.excess(
                f"{f.name}: more than {MOST_INSTANCES} instances of subcircuits; "
                "build larger circuits with Netlist"
            )
        if scope.depth >= DEEPEST_HIERARCHY:
            raise f.error(f"subcircuits inside one another more than {DEEPEST_HIERARCHY} deep")
        path = f"{scope.path}.{f.name}" if scope.path else f.name
        if len(path) > LONGEST_PATH:
            raise f.error(f"its name in full has {len(path)} characters; at most {LONGEST_PATH} are allowed")
        given = scope.settings(f, (*body.defaults, "m"))
        multiplier = 1.0 if "m" in body.defaults else given.pop("m", 1.0)
        if not multiplier > 0.0:
            raise f.error(f"m is {multiplier:g}; expected a value above 0")
        connections = dict(zip(body.ports, map(scope.node, nodes), strict=True))
        return Scope(
            body, scope.conditions, parent=home, path=path, connections=connections, given=given,
            multiplier=scope.multiplier * multiplier, depth=scope.depth + 1,
        )  # fmt: skip

    def _called(self, f: Fields, scope: Scope) -> tuple[Body, Scope, list[str]]:
        """The subcircuit that an X card names, the scope of its definition, and the card's nodes."""
        words = [word for word in f.words if word != "params:"]
        found = scope.subcircuit(words[-1]) if words else None
        if found is None:
            name = words[-1][:40] if words else ""
            raise f.error(
                f"no .subckt {name!r} in reach; expected xname node ... subcircuit [name=value ...]"
            )
        body, home = found
        if len(words) - 1 != len(body.ports):
            raise f.error(
                f"{len(words) - 1} nodes for .subckt {body.name!r} ({body.origin}), "
                f"which has {len(body.ports)}: {' '.join(body.ports)}"
            )
        return body, home, words[:-1]

    def _check_size(self, card: Card, analysis: Analysis, nodes: set[str]) -> None:
        """Its results fit into memory, and so do the corners of the sources."""
        unknowns = len(nodes - {GROUND}) + sum(DEVICES[e.kind].voltage_defined for e in self.elements)
        if analysis.points * unknowns > MOST_VALUES:
            raise card.origin.error(
                f"{analysis.points} points of {unknowns} voltages and currents; at most {MOST_VALUES} "
                "values are allowed: ask for fewer points"
            )
        if not isinstance(analysis, Transient):
            return
        corners = 0
        for element in self.elements:
            if element.waveform is None:
                continue
            try:
                corners += len(element.waveform.breakpoints(analysis.stop))
            except ValueError as error:
                raise element.origin.error(f"{element.name}: {error}") from None
            if corners > MOST_BREAKPOINTS:
                raise element.origin.error(
                    f"{element.name}: with it, the sources have more than {MOST_BREAKPOINTS} corners up to "
                    f"{analysis.stop:g} s: give longer periods or an earlier end"
                )

    def _check_names(self, card: Card, analysis: Analysis, nodes: set[str]) -> None:
        """Its sources and nodes exist."""
        sources = [analysis.source] if isinstance(analysis, Noise | Transfer) else []
        if isinstance(analysis, DcSweep):
            sources = [sweep.source for sweep in analysis.sweeps]
        for source in sources:
            if source not in self.by_name and source != TEMPERATURE:
                raise card.origin.error(f"no source {source[:40]!r} in the circuit")
        if isinstance(analysis, Noise | Transfer):
            self._check_control(card.origin, analysis.output, nodes)

    def _check_signals(self, measure: Measure, nodes: set[str]) -> None:
        """What is measured exists."""
        assert measure.origin is not None  # as read
        for signal in measure.signals:
            for port in signal.ports:
                self._check_control(measure.origin, port, nodes)

    def _check_control(self, origin: Origin, control: Control, nodes: set[str]) -> None:
        if isinstance(control, Current):
            self._check_current(origin, control)
        elif isinstance(control, tuple):
            for node in control:
                if node != GROUND and node not in nodes:
                    raise origin.error(f"no node {node[:40]!r} in the circuit")

    def _check_currents(self) -> None:
        for element in self.elements:
            for control in element.controls:
                if isinstance(control, Current):
                    with self.faults:
                        self._check_current(element.origin, control)

    def _check_current(self, origin: Origin, control: Current) -> None:
        element = self.by_name.get(control.device)
        if element is None:
            raise origin.error(f"no device {control.device[:40]!r} whose current to sense")
        if not DEVICES[element.kind].voltage_defined:
            raise origin.error(
                f"current of {control.device!r}, a {element.kind}; expected a voltage source in series"
            )


def _check_command(card: Card) -> None:
    word = card.text.split(maxsplit=1)[0]
    if word not in _COMMANDS:
        remedy = _REFUSED.get(word, f"expected one of {' '.join(sorted(_COMMANDS | _STRUCTURE))}")
        raise card.origin.error(f"{word[:40]} is not supported: {remedy}")


def _device(f: Fields, scope: Scope) -> Element:
    if f.name[0] not in READERS:
        letters = " ".join(sorted(READERS)).upper()
        raise f.error(f"devices {f.name[0].upper()!r} are not supported; expected one of {letters} X")
    try:
        return READERS[f.name[0]](f, scope)
    except SpiceSyntaxError:
        raise
    except (ArithmeticError, ValueError):
        raise f.error("its values, or its model's, lead out of the range of numbers") from None


def _check_options(f: Fields, values: Mapping[str, float]) -> None:
    for name, value in values.items():
        if name in ("temp", "tnom"):
            check_temperature(f, name, value)
        elif value < 0.0 or (value == 0.0 and name != "gmin"):
            raise f.error(f"{name} is {value:g}; expected a value above 0")


_COMMANDS = frozenset(
    (*ANALYSES, *MEASURES, *HARMLESS_CARDS, ".options", ".option", ".temp", ".global", ".ic", ".nodeset")
)
_STRUCTURE = frozenset((".subckt", ".ends", ".param", ".model", ".include", ".lib", ".endl", ".end"))

"""A deck: what a SPICE text says, as a flat list of elements, analyses and options."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from . import connectivity
from .devices import Control
from .expressions import Expression
from .netlist import GROUND, Netlist, NetlistError
from .spice_analyses import Analysis
from .spice_lines import Origin
from .spice_measures import Measure
from .spice_numbers import ZERO_CELSIUS
from .waveforms import Waveform


@dataclass(frozen=True, slots=True)
class Element:
    """One device after all subcircuits have been expanded.

    ``kind`` is the method of :class:`~ohmostat.simulator.netlist.Netlist` that adds it, ``nodes`` and
    ``parameters`` [SI] are that method's arguments; model, ``m=`` and temperature are already in them.
    ``mismatch`` is the standard deviation of the logarithm of the kind's main parameter.
    """

    kind: str
    name: str
    nodes: tuple[str, ...]
    parameters: Mapping[str, float]
    origin: Origin
    controls: tuple[Control, ...] = ()  # of behavioural sources, and currents that control a source
    expression: Expression | None = None
    waveform: Waveform | None = None
    ac: complex = 0.0
    model: str = ""
    mismatch: float = 0.0
    initial: float | None = None  # ic= of a capacitor [V] or an inductor [A]


@dataclass(frozen=True)
class Options:
    """Those of ``.options`` that are used, and ``.temp``, with ngspice's names and defaults."""

    gmin: float = 1e-12  # across each junction [S]
    reltol: float = 1e-3
    vntol: float = 1e-6  # [V]
    temp: float = 27.0  # of the circuit [°C]
    tnom: float = 27.0  # at which model parameters were measured [°C]


@dataclass(frozen=True)
class Deck:
    """A SPICE text, read."""

    title: str
    elements: tuple[Element, ...]
    analyses: tuple[Analysis, ...] = ()
    options: Options = Options()
    ic: Mapping[str, float] = field(default_factory=dict)  # .ic: node voltages [V]
    nodeset: Mapping[str, float] = field(default_factory=dict)  # .nodeset: node voltages [V]
    origin: Origin | None = None  # where it starts
    measures: tuple[Measure, ...] = ()  # .meas
    files: tuple[Path, ...] = ()  # that .include and .lib read
    at_temperature: Callable[[float], Deck] | None = field(default=None, compare=False)  # [°C]

    @property
    def mismatch(self) -> dict[str, float]:
        """``mismatch=`` of every device that has one."""
        return {element.name: element.mismatch for element in self.elements if element.mismatch}

    def netlist(self) -> Netlist:
        """The circuit. Values that no device can have are a :class:`SpiceSyntaxError` with their line."""
        net = Netlist(self.title, gmin=self.options.gmin, temperature=self.options.temp + ZERO_CELSIUS)
        formulas: dict[object, Expression] = {}  # devices with equal formulas share one, and so a bank
        for element in self.elements:
            try:
                _add(net, element, formulas)
            except NetlistError as error:
                raise element.origin.error(str(error)) from None
            except (ArithmeticError, ValueError):  # of a temperature law
                raise element.origin.error(
                    f"{element.name}: its values lead out of the range of numbers"
                ) from None
        return net

    def validate(self, net: Netlist) -> None:
        """``net.validate()``, whose error becomes one at the line of the first device concerned."""
        try:
            net.validate()
        except NetlistError as error:
            raise self._concerned(net).error(str(error)) from None

    def _concerned(self, net: Netlist) -> Origin:
        """Line of the first device in a loop of voltages, or at a floating node."""
        size = 1 + len(net.nodes)
        loop = set(connectivity.voltage_loop(net.banks, size))
        floating = {(GROUND, *net.nodes)[place] for place in connectivity.floating_nodes(net.banks, size)}
        concerned = (e for e in self.elements if e.name in loop or not floating.isdisjoint(e.nodes))
        return next(concerned, self.elements[0]).origin


_PLAIN: dict[str, Callable[..., None]] = {
    "resistor": Netlist.resistor,
    "capacitor": Netlist.capacitor,
    "inductor": Netlist.inductor,
    "vccs": Netlist.vccs,
    "vcvs": Netlist.vcvs,
    "cccs": Netlist.cccs,
    "ccvs": Netlist.ccvs,
    "diode": Netlist.diode,
    "mosfet": Netlist.mosfet,
    "ekv": Netlist.ekv,
    "switch": Netlist.switch,
}
_SOURCES: dict[str, Callable[..., None]] = {
    "voltage_source": Netlist.voltage_source,
    "current_source": Netlist.current_source,
}


def _add(net: Netlist, element: Element, formulas: dict[object, Expression]) -> None:
    if element.kind in _PLAIN:
        _PLAIN[element.kind](net, element.name, *element.nodes, *element.controls, **element.parameters)
    elif element.kind in _SOURCES:
        _SOURCES[element.kind](
            net, element.name, *element.nodes, **element.parameters, waveform=element.waveform, ac=element.ac
        )
    else:
        formula = element.expression
        assert formula is not None
        shared = formulas.setdefault((formula.steps, len(formula.ports)), formula)
        first, second = element.nodes
        net.behavioural(
            element.name, first, second, shared, voltage=element.kind == "behavioural_voltage",
            controls=element.controls, scale=element.parameters["scale"],
        )  # fmt: skip

"""Device cards: each letter's reader turns a card into an :class:`~ohmostat.simulator.deck.Element`."""

from __future__ import annotations

import cmath
import math
from collections.abc import Callable
from dataclasses import replace

from .deck import Element
from .devices import Control, Current
from .spice_lines import Fields
from .spice_models import (
    EKV_LEVEL,
    Values,
    channel_parameters,
    diode_parameters,
    model_values,
    mosfet_parameters,
)
from .spice_numbers import ZERO_CELSIUS
from .spice_scope import Scope, numeric
from .spice_waveforms import read_waveform
from .waveforms import Pulse, Waveform

_SIZES = {"w": 1e-4, "l": 1e-4, "m": 1.0, "ad": 0.0, "as": 0.0, "nrd": 1.0, "nrs": 1.0}
_HARMLESS = frozenset(("pd", "ps"))  # perimeters: of no effect without a side-wall model


def _nodes(f: Fields, scope: Scope, count: int) -> tuple[str, ...]:
    """The first words of a device card as nodes."""
    if len(f.words) < count:
        raise f.error(f"{len(f.words)} words where {count} nodes were expected first")
    return tuple(scope.node(word) for word in f.words[:count])


def _only(f: Fields, expected: str, least: int, most: int) -> None:
    if not least <= len(f.words) <= most:
        raise f.error(f"{len(f.words)} words after the name; expected {expected}")


def _without_hint(f: Fields) -> Fields:
    """Without ``off``, which tells SPICE where to start and changes no answer."""
    return replace(f, words=tuple(word for word in f.words if word != "off"))


def _positive(f: Fields, name: str, value: float, unit: str = "") -> float:
    if not (value > 0.0 and math.isfinite(value)):
        raise f.error(f"{name} is {value:g}{unit}; expected a value above 0{unit}")
    return value


def _mismatch(f: Fields, settings: Values, model: Values | None = None) -> float:
    sigma = settings.get("mismatch", 0.0 if model is None else model["mismatch"])
    if sigma < 0.0:
        raise f.error(f"mismatch is {sigma:g}; expected a relative standard deviation of at least 0")
    return sigma


def _refuse_mismatch(f: Fields, settings: Values) -> None:
    """Of devices that change no operating point, which is all that ``.mc`` finds."""
    if _mismatch(f, settings):
        raise f.error(
            "mismatch cannot act: .mc finds operating points, and no capacitor or inductor changes those; "
            "leave it out"
        )


def _multiplier(f: Fields, scope: Scope, settings: Values) -> float:
    """How many of the device there are in parallel, with the ``m=`` of the subcircuits around it."""
    return _positive(f, "m", settings.get("m", 1.0)) * scope.multiplier


def _warming(scope: Scope, settings: Values, nominal: float) -> float:
    """The factor ``1 + tc1 ΔT + tc2 ΔT²`` of resistors and capacitors."""
    rise = scope.conditions.temperature - nominal
    return 1.0 + settings.get("tc1", 0.0) * rise + settings.get("tc2", 0.0) * rise**2


def _sized(f: Fields, scope: Scope, key: str, types: tuple[str, ...]) -> tuple[float, Values, str]:
    """Value of R or C, by number or by its model and size, at the deck's temperature; settings, model."""
    letter = f.name[0]
    known = (key, "m", "tc1", "tc2", "mismatch", "l", "w") + (("ic",) if letter == "c" else ())
    settings = scope.settings(f, known)
    words, model = list(f.words[2:]), ""
    values: Values = {}
    numbers = [word for word in words if numeric(word)]
    names = [word for word in words if not numeric(word)]
    if len(numbers) + (key in settings) > 1 or len(names) > 1:
        raise f.error(f"expected {letter}name node node value, or a model with l= and w=")
    nominal = scope.conditions.nominal
    if names:
        model = names[0]
        _, values = model_values(model, types, f, scope)
        settings = {name: values[name] for name in ("tc1", "tc2", "mismatch")} | settings
        nominal = values["tnom"] + ZERO_CELSIUS
    if numbers:
        value = scope.word(numbers[0], f.name, f.origin)
    elif key in settings:
        value = settings[key]
    elif model:
        value = _from_size(f, letter, values, settings)
    else:
        raise f.error(f"no value; expected {letter}name node node value, or a model with l= and w=")
    return value * _warming(scope, settings, nominal), settings, model


def _from_size(f: Fields, letter: str, model: Values, settings: Values) -> float:
    """A model's resistance [ohm] or capacitance [F] for a length and a width."""
    fixed = model["r" if letter == "r" else "cap"]
    if not math.isnan(fixed):
        return fixed
    if "l" not in settings:
        raise f.error("no value and no l=; expected a value, or a length for the model's sheet")
    sides = 2.0 if letter == "r" else 1.0  # ngspice takes narrow and short off both sides of a resistor
    length = _positive(f, "l - short", settings["l"] - sides * model["short"], " m")
    width = _positive(f, "w - narrow", settings.get("w", model["defw"]) - sides * model["narrow"], " m")
    if letter == "r":
        return model["rsh"] * length / width
    return model["cj"] * length * width + 2.0 * model["cjsw"] * (length + width)


def _resistor(f: Fields, scope: Scope) -> Element:
    nodes = _nodes(f, scope, 2)
    value, settings, model = _sized(f, scope, "r", ("r", "res"))
    if not (value > 0.0 and math.isfinite(value)):
        remedy = "write a G source for a negative one" if value < 0.0 else "join the nodes instead of 0 ohm"
        raise f.error(f"resistance is {value:g} ohm; expected a value above 0 ohm ({remedy})")
    return Element(
        "resistor", scope.device(f.name), nodes, {"conductance": _multiplier(f, scope, settings) / value},
        f.origin, model=model, mismatch=_mismatch(f, settings),
    )  # fmt: skip


def _capacitor(f: Fields, scope: Scope) -> Element:
    nodes = _nodes(f, scope, 2)
    value, settings, model = _sized(f, scope, "c", ("c", "cap"))
    _refuse_mismatch(f, settings)
    return Element(
        "capacitor", scope.device(f.name), nodes, {"capacitance": _multiplier(f, scope, settings) * value},
        f.origin, model=model, initial=settings.get("ic"),
    )  # fmt: skip


def _inductor(f: Fields, scope: Scope) -> Element:
    _only(f, "node node value", 3, 3)
    settings = scope.settings(f, ("m", "ic", "mismatch"))
    _refuse_mismatch(f, settings)
    value = scope.word(f.words[2], f.name, f.origin) / _multiplier(f, scope, settings)
    return Element(
        "inductor", scope.device(f.name), _nodes(f, scope, 2), {"inductance": value}, f.origin,
        initial=settings.get("ic"),
    )  # fmt: skip


def _at_rest(waveform: Waveform) -> float:
    """At time 0; of a pulse that begins then, and may rise at once, before it does."""
    if isinstance(waveform, Pulse) and waveform.delay == 0.0:
        return waveform.initial
    return waveform.value(0.0)


def _source(f: Fields, scope: Scope) -> Element:
    """V and I: ``[[dc] value] [ac magnitude [phase]] [pulse|sin|exp|pwl (...)]``, in any order."""
    nodes = _nodes(f, scope, 2)
    current = f.name[0] == "i"
    settings = scope.settings(f, ("m", "mismatch") if current else ("mismatch",))
    factor = _multiplier(f, scope, settings) if current else 1.0
    groups = _groups(f)
    value = None
    if "dc" in groups:
        value = factor * _one(f, scope, "dc", groups.pop("dc"))
    ac = factor * _amplitude(f, scope, groups.pop("ac")) if "ac" in groups else 0.0
    waveform = None
    for shape, words in groups.items():
        if waveform is not None:
            raise f.error(f"{shape} besides another waveform; expected one")
        numbers = [scope.word(word, f"{f.name}: {shape}", f.origin) for word in words]
        waveform = read_waveform(f, scope.conditions, shape, numbers, factor)
    kind, parameter = ("current_source", "current") if current else ("voltage_source", "voltage")
    if value is None:
        value = 0.0 if waveform is None else _at_rest(waveform)
    return Element(
        kind, scope.device(f.name), nodes, {parameter: value}, f.origin, waveform=waveform, ac=ac,
        mismatch=_mismatch(f, settings),
    )  # fmt: skip


def _groups(f: Fields) -> dict[str, list[str]]:
    """The words of a source by the keyword before them; a number in front is the DC value."""
    groups: dict[str, list[str]] = {}
    words = list(f.words[2:])
    if words and numeric(words[0]):
        words.insert(0, "dc")
    for word in words:
        if numeric(word):
            groups[next(reversed(groups))].append(word)
        elif word in groups:
            raise f.error(f"{word} is given twice")
        else:
            groups[word] = []
    return groups


def _one(f: Fields, scope: Scope, what: str, words: list[str]) -> float:
    if len(words) != 1:
        raise f.error(f"{len(words)} numbers where one {what} value was expected")
    return scope.word(words[0], f"{f.name}: {what}", f.origin)


def _amplitude(f: Fields, scope: Scope, words: list[str]) -> complex:
    if len(words) > 2:
        raise f.error(f"ac has {len(words)} numbers; expected ac magnitude [phase in degrees]")
    magnitude, phase = (
        *(scope.word(word, f"{f.name}: ac", f.origin) for word in words), *(1.0, 0.0)[len(words) :]
    )  # fmt: skip
    return magnitude * cmath.exp(1j * math.radians(phase)) if phase else complex(magnitude)


def _controlled_by_voltage(f: Fields, scope: Scope) -> Element:
    """E and G: ``node node node node gain``, or ``vol=`` / ``cur=`` (or ``value=``) with a formula."""
    current = f.name[0] == "g"
    formula = "cur" if current else "vol"
    given = [key for key in (formula, "value") if key in f.settings]
    if any(word in ("poly", "table", "laplace") for word in f.words):
        raise f.error(f"poly, table and laplace are not supported; write {formula}='formula of v() and i()'")
    if given:
        return _behaves(f, scope, given[0], current)
    _only(f, f"node node node node gain, or node node {formula}='formula'", 5, 5)
    settings = scope.settings(f, ("m", "mismatch") if current else ("mismatch",))
    gain = scope.word(f.words[4], f.name, f.origin)
    if current:
        gain *= _multiplier(f, scope, settings)
    return Element(
        "vccs" if current else "vcvs", scope.device(f.name), _nodes(f, scope, 4),
        {"transconductance" if current else "gain": gain}, f.origin, mismatch=_mismatch(f, settings),
    )  # fmt: skip


def _controlled_by_current(f: Fields, scope: Scope) -> Element:
    """F and H: ``node node source gain``."""
    current = f.name[0] == "f"
    if "poly" in f.words:
        raise f.error("poly is not supported; write a B source: I= or V= a formula of i(source)")
    _only(f, "node node controlling-source gain", 4, 4)
    _refuse_multiplied_current(f, scope)
    settings = scope.settings(f, ("m", "mismatch") if current else ("mismatch",))
    gain = scope.word(f.words[3], f.name, f.origin)
    if current:
        gain *= _multiplier(f, scope, settings)
    return Element(
        "cccs" if current else "ccvs", scope.device(f.name), _nodes(f, scope, 2),
        {"gain" if current else "transresistance": gain}, f.origin,
        controls=(Current(scope.device(f.words[2])),), mismatch=_mismatch(f, settings),
    )  # fmt: skip


def _refuse_multiplied_current(f: Fields, scope: Scope) -> None:
    """Of m subcircuits in one, each would have to see its own share of the current."""
    if scope.multiplier != 1.0:
        raise f.error(f"it senses a current in a subcircuit with m={scope.multiplier:g}; write m instances")


def _behavioural(f: Fields, scope: Scope) -> Element:
    """B: ``node node v=formula`` or ``i=formula``."""
    given = [key for key in ("v", "i") if key in f.settings]
    if len(given) != 1:
        raise f.error("expected node node v=formula, or i=formula")
    return _behaves(f, scope, given[0], given[0] == "i")


def _behaves(f: Fields, scope: Scope, key: str, current: bool) -> Element:
    _only(f, f"node node {key}=formula", 2, 2)
    others = {name: text for name, text in f.settings.items() if name != key}
    if "mismatch" in others:
        raise f.error("mismatch cannot act on a formula; give it to a device that the formula senses")
    settings = scope.settings(Fields(f.origin, f.name, f.words, others), ("m",) if current else ())
    expression = scope.formula(f.settings[key], f)
    controls: tuple[Control, ...] = expression.ports
    if any(isinstance(control, Current) for control in controls):
        _refuse_multiplied_current(f, scope)
    return Element(
        "behavioural_current" if current else "behavioural_voltage", scope.device(f.name),
        _nodes(f, scope, 2), {"scale": _multiplier(f, scope, settings) if current else 1.0}, f.origin,
        controls=controls, expression=expression,
    )  # fmt: skip


def _diode(f: Fields, scope: Scope) -> Element:
    f = _without_hint(f)
    _only(f, "node node model [area]", 3, 4)
    settings = scope.settings(f, ("area", "m", "mismatch"))
    _, model = model_values(f.words[2], ("d",), f, scope)
    area = settings.get("area", 1.0)
    if len(f.words) == 4:
        area = scope.word(f.words[3], f"{f.name}: area", f.origin)
    _positive(f, "area", area)
    m = _multiplier(f, scope, settings)
    return Element(
        "diode", scope.device(f.name), _nodes(f, scope, 2),
        diode_parameters(model, area, m), f.origin,
        model=f.words[2], mismatch=_mismatch(f, settings, model),
    )  # fmt: skip


def _mosfet(f: Fields, scope: Scope) -> Element:
    f = _without_hint(f)
    _only(f, "drain gate source bulk model", 5, 5)
    settings = scope.settings(f, (*_SIZES, "mismatch"), _HARMLESS)
    kind, model = model_values(f.words[4], ("nmos", "pmos"), f, scope)
    size = {**_SIZES, **settings, "m": _multiplier(f, scope, settings)}
    polarity = 1 if kind == "nmos" else -1
    ekv = model["level"] == EKV_LEVEL
    parameters = (channel_parameters if ekv else mosfet_parameters)(model, size, polarity)
    return Element(
        "ekv" if ekv else "mosfet", scope.device(f.name), _nodes(f, scope, 4), parameters, f.origin,
        model=f.words[4], mismatch=_mismatch(f, settings, model),
    )  # fmt: skip


def _switch(f: Fields, scope: Scope) -> Element:
    """``node node control control model [on|off]``: without hysteresis its start does not matter."""
    _only(f, "node node control-node control-node model [on|off]", 5, 6)
    if len(f.words) == 6 and f.words[5] not in ("on", "off"):
        raise f.error(f"{f.words[5]!r} where on or off was expected")
    settings = scope.settings(f, ("m", "mismatch"))
    _, model = model_values(f.words[4], ("sw",), f, scope)
    m = _multiplier(f, scope, settings)
    parameters = {"vt": model["vt"], "vh": model["vh"], "ron": model["ron"] / m, "roff": model["roff"] / m}
    return Element(
        "switch", scope.device(f.name), _nodes(f, scope, 4), parameters, f.origin,
        model=f.words[4], mismatch=_mismatch(f, settings, model),
    )  # fmt: skip


READERS: dict[str, Callable[[Fields, Scope], Element]] = {
    "r": _resistor,
    "c": _capacitor,
    "l": _inductor,
    "v": _source,
    "i": _source,
    "e": _controlled_by_voltage,
    "g": _controlled_by_voltage,
    "f": _controlled_by_current,
    "h": _controlled_by_current,
    "b": _behavioural,
    "d": _diode,
    "m": _mosfet,
    "s": _switch,
}

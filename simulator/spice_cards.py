"""SPICE cards of every kind of device: the text of an element, and the models it names.

ngspice rounds a constant in a behavioural source to 11 digits, so there they are a sum of two. Devices are
written as they are at their own temperature, with ``tnom`` equal to ``temp``: ngspice changes nothing then.
"""

from __future__ import annotations

import cmath
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from . import semiconductors as semi
from .devices import Expression
from .waveforms import Waveform


@dataclass(frozen=True)
class Element:
    """One device as a card sees it; ``ports`` are node names, or the sensed device's and ``None``."""

    ports: Sequence[tuple[str, str | None]]
    parameters: Mapping[str, float]
    expression: Expression | None = None
    waveform: Waveform | None = None
    ac: complex = 0.0
    junctions: Sequence[Mapping[str, float]] = ()  # drain's and source's, of a MOSFET

    @property
    def ends(self) -> str:
        """First and second node."""
        return f"{self.ports[0][0]} {self.ports[0][1]}"

    def probe(self, port: int) -> str:
        """A port in a formula."""
        first, second = self.ports[port]
        if second is None:
            return first
        return f"v({first})" if second == "0" else f"v({first},{second})"


class Models:
    """The ``.model`` cards and subcircuits that elements share, named as they come."""

    def __init__(self) -> None:
        self._names: dict[str, str] = {}

    def name(self, text: str) -> str:
        """Name of the model that ``text`` describes, with ``{}`` in its name's place."""
        return self._names.setdefault(text, f"model{len(self._names) + 1}")

    def lines(self) -> list[str]:
        """Their cards."""
        return [text.replace("{}", name) for text, name in self._names.items()]


Card = Callable[[Element, Models], str]


def number(value: float) -> str:
    """The shortest text that reads back as the same float64."""
    return repr(float(value)).removesuffix(".0")


def constant(value: float) -> str:
    """A constant of a behavioural source: two parts, as ngspice keeps 11 digits of each."""
    head = f"{value:.10e}"
    rest = value - float(head)
    return f"({head}{rest:+.10e})" if rest else f"({head})"


def _value(parameter: str) -> Card:
    return lambda e, _: f"{e.ends} {number(e.parameters[parameter])}"


def _by_voltage(parameter: str) -> Card:
    return lambda e, _: f"{e.ends} {e.ports[1][0]} {e.ports[1][1]} {number(e.parameters[parameter])}"


def _by_current(parameter: str) -> Card:
    return lambda e, _: f"{e.ends} {e.probe(1)[2:-1]} {number(e.parameters[parameter])}"


def _resistor(e: Element, _: Models) -> str:
    """In ohms; an open one too, which SPICE has no word for."""
    g = e.parameters["conductance"]
    return f"{e.ends} {number(1.0 / g) if g > 1e-300 else '1e300'}"


def _source(parameter: str) -> Card:
    def card(e: Element, _: Models) -> str:
        words = [e.ends]
        plain = e.waveform is None and not e.ac
        words.append(f"{'' if plain else 'DC '}{number(e.parameters[parameter])}")
        if e.ac:
            words.append(f"AC {number(abs(e.ac))} {number(math.degrees(cmath.phase(e.ac)))}")
        if e.waveform is not None:
            words.append(e.waveform.spice())
        return " ".join(words)

    return card


def _model(kind: str, values: Mapping[str, float]) -> str:
    """A model card; what is infinite is SPICE's default."""
    kept = (f"{key}={number(value)}" for key, value in values.items() if math.isfinite(value))
    return f".model {{}} {kind} {' '.join(kept)}"


def _diode(e: Element, models: Models) -> str:
    p = e.parameters
    values = {
        "is": p["is_"],
        "n": p["n"],
        "cjo": p["cjo"],
        "vj": p["vj"],
        "m": p["m"],
        "fc": p["fc"],
        "tt": p["tt"],
    }
    if math.isfinite(p["bv"]):  # so small an ibv leaves bv where it is
        values |= {"bv": p["bv"], "ibv": 1e-30, "nbv": p["nbv"]}
    return f"{e.ends} {models.name(_model('d', values))}"


def _mosfet(e: Element, models: Models) -> str:
    p, (drain, source) = e.parameters, e.junctions
    values = {key: p[key] for key in ("vto", "kp", "gamma", "phi")} | {"lambda": p["lambda_"]}
    values |= {"is": drain["is_"], "cbd": drain["cjo"], "cbs": source["cjo"]}
    values |= {"pb": drain["vj"], "mj": drain["m"], "fc": drain["fc"]}
    model = models.name(_model("nmos level=1" if p["polarity"] > 0 else "pmos level=1", values))
    (d, s), (g, _), (b, _) = e.ports
    return f"{d} {g} {s} {b} {model} w={number(p['w'])} l={number(p['l'])}"


def _switch(e: Element, models: Models) -> str:
    p = e.parameters
    model = models.name(_model("sw", {"vt": p["vt"], "vh": 0.0, "ron": p["ron"], "roff": p["roff"]}))
    return f"{e.ends} {e.ports[1][0]} {e.ports[1][1]} {model}"


def _ekv(e: Element, models: Models) -> str:
    """An instance of a subcircuit of behavioural sources: pinch-off voltage, slope factor, current.

    The roots are of what no solution makes negative, but an iterate of ngspice's may.
    """
    p, vt = e.parameters, float(semi.thermal_voltage(e.parameters["temperature"]))
    sign, half = ("", "-")[p["polarity"] < 0], constant(p["gamma"] / 2.0)
    lift = constant(p["phi"] + p["gamma"] * math.sqrt(p["phi"]) - p["polarity"] * p["vto"])
    two_vt, phi = constant(2.0 * vt), constant(p["phi"])
    x = [f"((v(vp)-({sign}v({end},b)))/{two_vt})" for end in "sd"]
    forward, reverse = (f"((max({u},0)+ln(1+exp(-abs({u}))))^2)" for u in x)
    scale = constant(p["polarity"] * 2.0 * p["kp"] * p["w"] / p["l"] * vt**2)
    longer = f"(1+{constant(p['lambda_'])}*(sqrt(v(d,s)^2+{constant(16.0 * vt**2)})-{constant(4.0 * vt)}))"
    body = [
        ".subckt {} d g s b",
        f"Bup up 0 V=max({sign}v(g,b)+{lift},0)",
        f"Bvp vp 0 V=v(up)-{phi}-2*{half}*(sqrt(max(v(up),0)+{half}^2)-{half})",
        f"Bn n 0 V=1+{half}/sqrt(max({phi}+v(vp),0)+2*{two_vt})",
        f"Bi d s I={scale}*v(n)*({forward}-{reverse})*{longer}",
        ".ends",
    ]
    (d, s), (g, b), _ = e.ports
    return f"{d} {g} {s} {b} {models.name(chr(10).join(body))}"


def _behavioural(letter: str) -> Card:
    def card(e: Element, _: Models) -> str:
        assert e.expression is not None
        formula = e.expression.text([e.probe(k) for k in range(1, len(e.ports))], constant)
        scale = e.parameters["scale"]
        return f"{e.ends} {letter}={formula if scale == 1.0 else f'{constant(scale)}*({formula})'}"

    return card


def _logistic(e: Element, _: Models) -> str:
    """``1 / (1 + exp(-u))`` as ``(1 + tanh(u / 2)) / 2``, which cannot overflow."""
    p = e.parameters
    swing = p["high"] - p["low"]
    half_u = f"{constant(2.0 * p['gain'] / swing)}*({e.probe(1)}-{constant(p['offset'])})"
    return f"{e.ends} V={constant(p['low'])}+{constant(swing / 2.0)}*(1+tanh({half_u}))"


def _softplus(e: Element, _: Models) -> str:
    """``log(1 + exp(u))`` as ``max(u, 0) + log(1 + exp(-|u|))``, which cannot overflow."""
    p = e.parameters
    gain, knee = p["gain"], p["knee"]
    tops = (p["offset"], p["offset"] + (p["high"] - p["low"]) / gain)
    u = [f"(({e.probe(1)}-{constant(top)})/{constant(knee)})" for top in tops]
    lower, upper = (f"(max({x},0)+ln(1+exp(-abs({x}))))" for x in u)
    return f"{e.ends} V={constant(p['low'])}+{constant(gain * knee)}*({lower}-{upper})"


CARDS: dict[str, Card] = {
    "resistor": _resistor,
    "capacitor": _value("capacitance"),
    "inductor": _value("inductance"),
    "voltage_source": _source("voltage"),
    "current_source": _source("current"),
    "vccs": _by_voltage("transconductance"),
    "vcvs": _by_voltage("gain"),
    "cccs": _by_current("gain"),
    "ccvs": _by_current("transresistance"),
    "diode": _diode,
    "mosfet": _mosfet,
    "ekv": _ekv,
    "switch": _switch,
    "behavioural_current": _behavioural("I"),
    "behavioural_voltage": _behavioural("V"),
    "logistic": _logistic,
    "tanh": _logistic,  # the same curve
    "softplus": _softplus,
}

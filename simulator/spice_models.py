"""``.model`` cards: diodes, level 1 and EKV MOSFETs, switches, resistors and capacitors.

A device's parameters are those of its model, for its size and multiplicity; the netlist carries them from the
temperature ``tnom`` at which they were measured to the circuit's. Those of EKV are taken as they stand.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from .spice_lines import Fields
from .spice_numbers import ZERO_CELSIUS
from .spice_scope import Scope

Values = dict[str, float]


@dataclass(frozen=True)
class ModelType:
    """Parameters of one type of ``.model`` with their defaults (nan: none), and other names of them."""

    defaults: Values
    aliases: dict[str, str]


# Limits and labels that other programs check or print, and that change no current.
HARMLESS = frozenset(("bv_max", "fv_max", "id_max", "pd_max", "te_max", "vgs_max", "vds_max", "vbs_max"))

_DIODE = ModelType(
    {
        "is": 1e-14, "n": 1.0, "rs": 0.0, "cjo": 0.0, "vj": 1.0, "m": 0.5, "fc": 0.5, "tt": 0.0,
        "bv": math.inf, "ibv": 1e-3, "nbv": math.nan, "eg": 1.11, "xti": 3.0,
        "tnom": math.nan,
    },
    {"js": "is", "cj0": "cjo", "cj": "cjo", "pb": "vj", "mj": "m", "vb": "bv", "ib": "ibv"},
)  # fmt: skip
_MOSFET = ModelType(
    {
        "vto": 0.0, "kp": 2e-5, "gamma": 0.0, "phi": 0.6, "lambda": 0.0, "ld": 0.0, "is": 1e-14,
        "cgso": 0.0, "cgdo": 0.0, "cgbo": 0.0, "rd": math.nan, "rs": math.nan, "rsh": 0.0, "cbd": math.nan,
        "cbs": math.nan, "cj": 0.0, "pb": 0.8, "mj": 0.5, "fc": 0.5, "tnom": math.nan,
    },
    {"vt0": "vto"},
)  # fmt: skip
_EKV = ModelType({"vto": 0.5, "kp": 5e-5, "gamma": 1.0, "phi": 0.7, "lambda": 0.0}, {"vt0": "vto"})
_SHEET = {"defw": 1e-5, "narrow": 0.0, "short": 0.0, "tc1": 0.0, "tc2": 0.0, "tnom": math.nan}
_RESISTOR = ModelType({"rsh": 0.0, "r": math.nan, **_SHEET}, {"res": "r"})
_CAPACITOR = ModelType({"cj": 0.0, "cjsw": 0.0, "cap": math.nan, **_SHEET}, {"c": "cap"})
_SWITCH = ModelType({"vt": 0.0, "vh": 0.0, "ron": 1.0, "roff": 1e12}, {})

_TYPES = {"d": _DIODE, "r": _RESISTOR, "res": _RESISTOR, "c": _CAPACITOR, "cap": _CAPACITOR, "sw": _SWITCH}
_MOSFET_TYPES = ("nmos", "pmos")
EKV_LEVEL = 44.0


def model_values(name: str, types: tuple[str, ...], f: Fields, scope: Scope) -> tuple[str, Values]:
    """Type (one of ``types``) and parameters of a model, with ``level``, ``mismatch`` and ``tnom`` [°C]."""
    found = scope.model(name)
    if found is None:
        raise f.error(f"no .model {name[:40]!r} in reach; expected one of type {' or '.join(types)}")
    card, home = found
    kind = card.words[0]
    if kind not in types:
        raise f.error(f"model {name!r} ({card.origin}) is of type {kind!r}; expected {' or '.join(types)}")
    return kind, read_model(name, home)


def read_model(name: str, home: Scope) -> Values:
    """Parameters of a model of the body ``home``; what it does not understand is an error, used or not."""
    if name not in home.model_values:
        card = home.body.models[name]
        home.model_values[name] = _read(card, card.words[0], home)
    return home.model_values[name]


def _read(card: Fields, kind: str, scope: Scope) -> Values:
    """A model's parameters, with defaults."""
    if kind not in _TYPES and kind not in _MOSFET_TYPES:
        known = ", ".join(sorted((*_TYPES, *_MOSFET_TYPES)))
        raise card.error(f"type {kind[:40]!r} is not supported; expected one of {known}")
    level = scope.number(card.settings["level"], "level", card.origin) if "level" in card.settings else 1.0
    if kind in _MOSFET_TYPES:
        if level not in (1.0, EKV_LEVEL):
            raise card.error(f"level is {level:g}; expected 1 (Shichman-Hodges) or {EKV_LEVEL:g} (EKV)")
        table = _EKV if level == EKV_LEVEL else _MOSFET
    else:
        if level != 1.0:
            raise card.error(f"level is {level:g}; expected 1")
        table = _TYPES[kind]
    values = {**table.defaults, "mismatch": 0.0, "level": level}
    if "tnom" in values:
        values["tnom"] = scope.conditions.nominal - ZERO_CELSIUS
    for given, value in scope.settings(card, (*values, *table.aliases), HARMLESS).items():
        values[table.aliases.get(given, given)] = value
    return values


def diode_parameters(model: Values, area: float, m: float) -> Values:
    """Arguments of ``Netlist.diode`` for ``m`` diodes of relative ``area``."""
    optional = {} if math.isnan(model["nbv"]) else {"nbv": model["nbv"]}
    return optional | {
        "is_": m * area * model["is"],
        "rs": model["rs"] / (m * area),
        "cjo": m * area * model["cjo"],
        "ibv": m * model["ibv"],  # per diode, whatever its area, as in ngspice
        "tnom": model["tnom"] + ZERO_CELSIUS,
        **{name: model[name] for name in ("n", "vj", "m", "fc", "tt", "bv", "eg", "xti")},
    }


def mosfet_parameters(model: Values, size: Values, polarity: int) -> Values:
    """Arguments of ``Netlist.mosfet``; ``size`` holds the card's w, l, m, ad, as, nrd and nrs."""
    m, w, length = size["m"], size["w"], size["l"] - 2.0 * model["ld"]

    def either(given: str, otherwise: float) -> float:
        return otherwise if math.isnan(model[given]) else model[given]

    return channel_parameters(model, size, polarity) | {
        "l": length,
        "is_": m * model["is"],
        "rd": either("rd", model["rsh"] * size["nrd"]) / m,
        "rs": either("rs", model["rsh"] * size["nrs"]) / m,
        "cbd": m * either("cbd", model["cj"] * size["ad"]),
        "cbs": m * either("cbs", model["cj"] * size["as"]),
        "cgs": m * w * model["cgso"],
        "cgd": m * w * model["cgdo"],
        "cgb": m * length * model["cgbo"],
        "tnom": model["tnom"] + ZERO_CELSIUS,
        **{name: model[name] for name in ("pb", "mj", "fc")},
    }


def channel_parameters(model: Values, size: Values, polarity: int) -> Values:
    """Arguments of ``Netlist.ekv``, and of a level 1 MOSFET's channel; ``size`` holds w, l and m."""
    return {
        "polarity": polarity,
        "lambda_": model["lambda"],
        "w": size["m"] * size["w"],
        "l": size["l"],
        **{name: model[name] for name in ("vto", "kp", "gamma", "phi")},
    }

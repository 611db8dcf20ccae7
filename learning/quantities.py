"""What training records, in words: label, unit and subject of every quantity of a history.

What each of them is, is told by :class:`.training.Epoch`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

from ..circuits.units import Range, format_quantity


class Quantity(NamedTuple):
    """How a quantity is called, its unit, the group in which it is shown, and, if known, its ``range``."""

    label: str
    unit: str
    group: str
    range: Range | None = None


GROUPS = {
    "learning": "Learning",
    "gradient": "Gradient, against the adjoint's",
    "asymmetry": "Asymmetry",
    "soundness": "Unsettled, unstable and left out",
    "costs": "Time, energy and counts",
    "other": "Other",
}

SHARE, COSINE = Range(0.0, 1.0), Range(-1.0, 1.0)

QUANTITIES = {
    "accuracy": Quantity("test accuracy", "", "learning", SHARE),
    "loss": Quantity("training loss", "", "learning"),
    "alignment": Quantity("cosine of EP (nudge to 0) to the adjoint", "", "gradient", COSINE),
    "response": Quantity("cosine of the exact response to the adjoint's", "", "gradient", COSINE),
    "measured": Quantity("cosine of the rule's own gradient to the adjoint", "", "gradient", COSINE),
    "angle": Quantity("forward–feedback angle", "deg", "asymmetry"),
    "symmetry": Quantity("symmetry |S|/(|S|+|A|)", "", "asymmetry", SHARE),
    "symmetry_after": Quantity("symmetry after the best diagonal", "", "asymmetry", SHARE),
    "unsettled": Quantity("unsettled in training, free", "", "soundness", SHARE),
    "unsettled_nudged": Quantity("unsettled in training, nudged", "", "soundness", SHARE),
    "unsettled_test": Quantity("unsettled in the test", "", "soundness", SHARE),
    "left_out": Quantity("left out of updates", "", "soundness", SHARE),
    "unstable": Quantity("unstable, of those certified", "", "soundness", SHARE),
    "jumped": Quantity("jumped to another branch", "", "soundness", SHARE),
    "wire_drop": Quantity("largest drop along the wires", "", "soundness"),
    "wire_error": Quantity("error of the wires' estimate", "", "soundness"),
    "inference_time": Quantity("time of an inference", "s", "costs"),
    "inference_energy": Quantity("energy of an inference", "J", "costs"),
    "step_time": Quantity("time of a training step", "s", "costs"),
    "step_energy": Quantity("energy of a training step", "J", "costs"),
    "probe_time": Quantity("time of probes, so far", "s", "costs"),
    "probe_energy": Quantity("energy of probes, so far", "J", "costs"),
    "measurements": Quantity("measurements of the homeostat, so far", "", "costs"),
    "rule_measurements": Quantity("measurements of the rule, in the epoch", "", "costs"),
    "pulses": Quantity("programming pulses so far", "", "costs"),
    "reads": Quantity("verifying reads so far", "", "costs"),
    "sweeps": Quantity("relaxation sweeps of a free phase", "", "costs"),
    "seconds": Quantity("time to simulate the epoch", "s", "costs"),
}

#: Units in which a limit on a quantity must be given.
UNITS = {name: quantity.unit for name, quantity in QUANTITIES.items() if quantity.unit in ("s", "J")}


def quantity_of(name: str) -> Quantity:
    """That of a history's name, such as ``alignment/forward0``; of an unknown one, what its name tells."""
    return QUANTITIES.get(name.partition("/")[0], Quantity(name, "", "other"))


def label(name: str) -> str:
    """With the array or layer: ``forward–feedback angle, forward1``."""
    quantity, (_, _, part) = quantity_of(name), name.partition("/")
    return f"{quantity.label}{f', {part}' if part else ''}"


def axis(name: str) -> str:
    """With the unit as well: ``forward–feedback angle, forward1 [deg]``."""
    unit = quantity_of(name).unit
    return label(name) + (f" [{unit}]" if unit else "")


def amount(name: str, value: float) -> str:
    """A quantity's value for a table, to four digits, with its unit."""
    unit = quantity_of(name).unit
    known = unit and math.isfinite(value)
    return format_quantity(float(f"{value:.4g}"), unit) if known else digits(value)


def signed(name: str, value: float) -> str:
    """A change of a quantity to three digits, with its sign and unit."""
    return ("-" if value < 0 else "+") + amount(name, abs(float(f"{value:.3g}")))


def in_group(group: str, names: Iterable[str]) -> list[str]:
    """Those names that belong to a group, in the order of the table, forward arrays first: biases, and the
    count of epochs, to none.
    """
    order = {name: place for place, name in enumerate(QUANTITIES)}
    chosen = [
        name for name in names if quantity_of(name).group == group and name != "epoch" and "bias" not in name
    ]
    return sorted(
        chosen, key=lambda name: (order.get(name.partition("/")[0], len(order)), "feedback" in name, name)
    )


def digits(value: float) -> str:
    """A number for a table, to four digits, or whole; a dash where there is none."""
    whole = abs(value) < 1e9 and float(value).is_integer()
    return known(value, ".0f" if whole else ".4g")


def known(value: float, form: str) -> str:
    """A number in a format of its own; a dash where there is none, as of a loss before training."""
    return "–" if math.isnan(value) else format(value, form)

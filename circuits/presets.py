"""Device presets: values measured on devices of the literature, each with its source (docs/devices.md).

One TOML file a device in ``presets/``. ``[sources.NAME] text`` is a citation; ``[SECTION.KEY]`` gives a key
of a design its ``value``, the NAME of its ``source``, the ``place`` there, perhaps how it was converted
(``note``), and perhaps the range ``measured``, outside which a design that names the preset is refused.
``[drift.exponent]`` is told, not used.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from .sections import DesignError, DesignFaults, refuse
from .specs import KEYS, PRESETS
from .units import Number, Range, closest, did_you_mean, parse_quantity, show

FOLDER = Path(__file__).parent / "presets"
OUTSIDE = (
    "keys are outside what was measured of it. To have its own values in their place, leave these keys out; "
    'or write "none" and give --set device.preset={name}; or make a new file by '
    "'ohmostat init FILE.toml --preset {name}', which sets neuron.leak to go with it. To keep yours, write "
    '"none"'
)


@dataclass(frozen=True)
class Measured:
    """One value of a preset [SI], and where it comes from; ``range`` is None where none is told."""

    value: Any
    source: str
    place: str
    note: str = ""
    range: Range | None = None

    @property
    def citation(self) -> str:
        """Source and place, in words."""
        return f"{self.source}: {self.place}" + (f" ({self.note})" if self.note else "")


@dataclass(frozen=True)
class Preset:
    """A device: dotted keys of a design, each with its measured value; ``told`` are those that no design
    has.
    """

    name: str
    about: str
    sources: dict[str, str]
    values: dict[str, Measured]
    told: dict[str, Measured]


@cache
def preset(name: str) -> Preset:
    """The preset of that name; DesignError if there is none."""
    import tomllib  # deferred: most designs name no preset

    if name not in PRESETS:
        problem = f"no preset is named {show(name)}{did_you_mean(closest(name, PRESETS))}"
        raise DesignError(f"{problem}; there are {', '.join(PRESETS)}", "device.preset")
    data = tomllib.loads((FOLDER / f"{name}.toml").read_text(encoding="utf-8"))
    about, sources = data.pop("about"), {key: entry["text"] for key, entry in data.pop("sources").items()}
    entries = {
        f"{section}.{key}": _measured(f"{section}.{key}", entry)
        for section, keys in data.items()
        for key, entry in keys.items()
    }
    values = {key: entry for key, entry in entries.items() if key in KEYS}
    told = {key: entry for key, entry in entries.items() if key not in KEYS}
    return Preset(name, about, sources, values, told)


def _measured(key: str, entry: dict[str, Any]) -> Measured:
    kind = KEYS.get(key, Number("not a design's", Range(0.0, 1.0)))
    ends = entry.get("measured")
    span = None
    if ends and isinstance(kind, Number):  # an end may be one that the key itself leaves out, such as 0
        low, high = (parse_quantity(end, kind.unit) if kind.unit else float(end) for end in ends)
        span = Range(low, high)
    return Measured(kind.check(entry["value"]), entry["source"], entry["place"], entry.get("note", ""), span)


def preset_values(name: object) -> dict[str, Any]:
    """A preset's values by their dotted keys; of ``"none"``, and of what is no preset, none."""
    if name not in PRESETS:
        return {}
    return {key: entry.value for key, entry in preset(str(name)).values.items()}


def check_measured(name: str, value_of: Callable[[str], Any]) -> None:
    """Refuse values, of a design's dotted keys, outside what was measured of the preset that it names."""
    device, faults = preset(name), DesignFaults()
    for key, entry in device.values.items():
        value, kind = value_of(key), KEYS[key]
        if entry.range is None or value in entry.range or not isinstance(kind, Number):
            continue
        span = entry.range.describe(kind.unit)
        with faults:
            fault = f"{name} was measured from {span} ({entry.source}, {entry.place}); stay within"
            refuse(key, value, fault, "device.preset")
    if faults.found:
        with faults:
            refuse("device.preset", name, OUTSIDE.format(name=name))
    faults.tell()


def abouts() -> dict[str, str]:
    """What each preset is, by its name."""
    return {name: preset(name).about for name in PRESETS}


def listing() -> str:
    """The same, one a line: of use in a terminal."""
    width = max(len(name) for name in PRESETS)
    return "\n".join(f"  {name:<{width}}  {about}" for name, about in abouts().items())

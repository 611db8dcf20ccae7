"""Keys of a design that its family has no use for.

They are told and not refused: a design is taken from family to family by one key (``--set chip.family=…``), a
sweep may vary it, and what belongs to the family that was left does no harm. What contradicts a family is
refused by :class:`.design.Design` itself.
"""

from __future__ import annotations

from .design import Design
from .sections import kinds
from .specs import KEYS, SECTIONS
from .units import Choice

LACKING: dict[str, tuple[str, ...]] = {
    **{f"resistive.{name}": ("twin", "shared", "loop", "relay") for name, _ in kinds(SECTIONS["resistive"])},
    "chip.relays": ("twin", "shared", "loop", "resistive"),
    **{f"neuron.{name}": ("resistive",) for name in ("law", "gain", "offset", "knee")},
    "corner.inversion": ("resistive",),  # of the neurons' amplifiers
    "learning.feedback_spread": ("shared", "loop", "relay", "resistive"),
}
"""Keys of which some families make nothing, and which."""


def unused(*designs: Design) -> list[str]:
    """A warning for every key that is not at its default in one of the designs, though none of their families
    uses it (the designs of a sweep may be of several).
    """
    families, kind = dict.fromkeys(design.chip.family for design in designs), KEYS["chip.family"]
    assert isinstance(kind, Choice)
    found = []
    for key, lacking in LACKING.items():
        if families.keys() - set(lacking):
            continue
        section, _, name = key.partition(".")
        default = getattr(SECTIONS[section](), name)
        values = [getattr(getattr(design, section), name) for design in designs]
        if changed := [value for value in values if value != default]:
            users = [f'"{family}"' for family in kind.options if family not in lacking]
            fault = f"changes nothing: a {' or '.join(families)} chip has no use for it"
            remedy = f"Leave it out, or write chip.family = {' or '.join(users)}"
            found.append(f"{key} = {KEYS[key].display(changed[0])} {fault}. {remedy}")
    return found

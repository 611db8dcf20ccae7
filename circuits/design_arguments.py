"""The arguments of a command that say what chip is meant: a design, and changes to it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from ..simulator.arguments import literal

if TYPE_CHECKING:
    from .design import Design


def add_design_arguments(parser: Any, what: str = "a TOML file, or the name of a shipped design") -> None:
    """``DESIGN`` and ``--set``, for :func:`design_of`."""
    parser.add_argument("design", metavar="DESIGN", help=what)
    add_changes(parser, "change a key of the design, such as neuron.leak=5uS (repeatable)")


def add_changes(parser: Any, what: str) -> None:
    """``--set`` alone, for :func:`changes_of`."""
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="changes", help=what)


def design_of(arguments: Any) -> Design:
    """The design that was named, with its changes. Raises DesignError for what cannot be."""
    from .design import load_design

    design = load_design(arguments.design)
    changes = changes_of(arguments)
    return design.replace(changes) if changes else design


def changes_of(arguments: Any) -> dict[str, object]:
    """What ``--set`` asks for, by key. Raises DesignError."""
    from .sections import DesignError

    changes: dict[str, object] = {}
    for change in arguments.changes:
        key, equals, value = change.partition("=")
        if not equals:
            raise DesignError(f"--set {change!r}: write KEY=VALUE, such as mismatch.conductance=0.5")
        changes[key.strip()] = _checked(key.strip(), _literal(value.strip()))
    return changes


def _checked(key: str, value: object) -> object:
    """``value``, unless it is a bare number where a file would want a unit."""
    from .sections import DesignError
    from .specs import KEYS

    unit = getattr(KEYS.get(key), "unit", "")
    bare = getattr(KEYS.get(key), "bare", False)
    if unit and not bare and isinstance(value, int | float) and value != 0 and math.isfinite(value):
        raise DesignError(f"--set {key}={value}: a number without a unit; write {value}{unit}, say", key)
    return value


def _literal(text: str) -> object:
    """A number where it is one, a list of integers where it has commas, else the text itself."""
    if "," in text:
        return [_literal(part) for part in text.strip("[]").split(",")]
    return literal(text)

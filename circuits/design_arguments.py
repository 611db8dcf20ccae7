"""The arguments of a command that say what chip is meant: a design, and changes to it."""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..simulator.arguments import literal, numbers

if TYPE_CHECKING:
    from ..simulator.console import Console
    from .design import Design


COLDEST = 100.0  # [K] a bare number below was meant in degrees Celsius


def add_design_arguments(
    parser: Any, what: str = "a TOML file, or the name of a shipped design", more: str = ""
) -> None:
    """``DESIGN`` and ``--set``, for :func:`design_of`; ``more`` is to be said of the latter."""
    parser.add_argument("design", metavar="DESIGN", help=what)
    add_changes(parser, f"change a key of the design, such as neuron.leak=5uS (repeatable){more}")


def add_changes(parser: Any, what: str) -> None:
    """``--set`` alone, for :func:`changes_of`."""
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="changes", help=what)


def add_tile_argument(parser: Any, what: str = "") -> None:
    """``--tile``, of a tester's list."""
    parser.add_argument(
        "--tile", type=_tile, metavar="ROWSxCOLUMNS",
        help=f"{what}size of a tile (default: wires.tile of a chip with wires, else 128x128)",
    )  # fmt: skip


def _tile(text: str) -> tuple[int, int]:
    """Rows and columns of a tile, such as ``128x128``."""
    rows, _, columns = text.partition("x")
    if not (rows.isdecimal() and columns.isdecimal() and int(rows) and int(columns)):
        raise argparse.ArgumentTypeError(f"{text!r}: write rows x columns, such as 128x128")
    return int(rows), int(columns)


def voltages(text: str) -> tuple[float, ...]:
    """Voltages [V] with commas between them, such as ``300mV,0.1``; a number without a unit is in volts."""
    example = "volts, such as 300mV or 0.3"
    return _quantities(text, "V", "; several stand with commas between them", example)


def temperatures(text: str) -> tuple[float, ...]:
    """Temperatures [K] with commas between them, such as ``233K,125C``; a number without a unit is in
    kelvins, unless it is too low to be meant so.
    """
    from .units import parse_quantity

    for part in map(str.strip, text.split(",")):
        value = literal(part)
        if not isinstance(value, str) and value < COLDEST:
            raise argparse.ArgumentTypeError(
                f"{part!r} has no unit, and is no temperature of a chip in kelvins; write {part}C or "
                f"{parse_quantity(f'{part}C', 'K'):.0f}K"
            )
    example = "kelvins or degrees Celsius, such as 233K or -40C"
    return _quantities(text, "K", ', or degrees Celsius, as in "-40C"', example)


def _quantities(text: str, unit: str, otherwise: str, example: str) -> tuple[float, ...]:
    """Finite quantities of a unit, or numbers, with commas between them; errors end in what could be written
    ``otherwise``, or tell an ``example``.
    """
    from .units import UnitError, parse_quantity

    found = []
    for part in map(str.strip, text.split(",")):
        value = literal(part)
        if isinstance(value, str):
            try:
                value = parse_quantity(value, unit)
            except UnitError as error:
                raise argparse.ArgumentTypeError(f"{part!r} {error}{otherwise}") from None
        if not math.isfinite(value):
            raise argparse.ArgumentTypeError(f"{part!r} is not finite; give {example}")
        found.append(value)
    return tuple(found)


def shares(text: str) -> tuple[float, ...]:
    """Finite numbers with commas between them; per cent are hundredths."""
    from .units import per_cent

    try:
        parts = ((part, per_cent(part)) for part in text.split(","))
        return numbers(",".join(part if share is None else repr(share) for part, share in parts))
    except argparse.ArgumentTypeError:
        raise argparse.ArgumentTypeError(
            f"{text!r}: write finite numbers with commas, such as 0,0.5,1 or 0,50%"
        ) from None


def share(text: str) -> float:
    """A number above 0 and below 1, plain or in per cent."""
    from .units import per_cent

    try:
        value = float(text) if (part := per_cent(text)) is None else part
    except ValueError:
        value = math.nan
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no share; allowed: above 0, below 1, as 0.9 or 90%")
    return value


def design_of(arguments: Any, console: Console) -> Design:
    """The design that was named, with its changes; of a file that says neither what the chip is nor what it
    learns, notes what these come to. Raises DesignError for what cannot be.
    """
    from .design import load_design

    design, changes = load_design(arguments.design), changes_of(arguments)
    changed = design.replace(changes) if changes else design
    sections = _sections(arguments.design)
    if sections is not None and not {"chip", "task"} & sections.keys():
        lack = "has neither [chip] nor [task], so these" if sections else "sets no key, so all"
        layers = "-".join(map(str, changed.chip.layers))
        remedy = "init' writes a design with every key"
        if "device" in sections:
            remedy = f"init chip.toml --preset {arguments.design}' writes one with this device"
        console.note(
            f"{arguments.design} {lack} are at their defaults{', but for --set' if changes else ''}: a "
            f"{changed.chip.family} chip {layers} on {changed.task.data}; 'ohmostat {remedy}"
        )
    return changed


def _sections(spec: str) -> dict[str, Any] | None:
    """What a design that could be read has in its file; None if it is a shipped one."""
    import tomllib

    from .design import named_designs

    return None if spec in named_designs() else tomllib.loads(Path(spec).read_text("utf-8-sig"))


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
    from .units import Number

    if not isinstance(value, int | float) or not isinstance(kind := KEYS.get(key), Number):
        return value
    if kind.unit and not kind.bare and value != 0 and math.isfinite(value):
        example = kind.example(float(value))
        remedy = f"write {example}, say; " if example else ""
        raise DesignError(
            f"--set {key}={value}: a number without a unit; {remedy}allowed: {kind.allowed()}", key
        )
    return value


def _literal(text: str) -> object:
    """A number where it is one, a list (of lists) where it has commas, else the text itself."""
    if "," not in text:
        return literal(text)
    inside = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    depth, parts = 0, [""]
    for letter in inside:
        depth += (letter == "[") - (letter == "]")
        if letter == "," and not depth:
            parts.append("")
        else:
            parts[-1] += letter
    return [_literal(part.strip()) for part in parts]

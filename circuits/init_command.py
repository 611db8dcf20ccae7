"""The body of ``ohmostat init``: a commented design to start from."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..simulator.arguments import check_outputs, design_file

if TYPE_CHECKING:
    from ..simulator.console import Console, Values

ABOUT = "write a commented chip design to start from"
EXAMPLE = "ohmostat init my-chip.toml --from digits"


def add_arguments(parser: Any) -> None:
    """Arguments of the command, for :func:`run`."""
    parser.add_argument(
        "path", metavar="FILE.toml", type=design_file, nargs="?", default=Path("chip.toml"),
        help="default chip.toml",
    )  # fmt: skip
    parser.add_argument(
        "--from", dest="source", metavar="NAME", default="fashion-6k",
        help="shipped design to start from (default: fashion-6k)",
    )  # fmt: skip
    parser.add_argument(
        "--preset", metavar="NAME",
        help="a measured device, or the DEVICE.toml that 'ohmostat fit' wrote: sets its keys, and the leak "
        "to go with them",
    )  # fmt: skip
    parser.add_argument("--list", action="store_true", help="list designs and presets, and write nothing")
    parser.add_argument("--force", action="store_true", help="overwrite an existing file")


def run(arguments: Any, console: Console) -> Values:
    """Write the design, or list what there is. Raises ValueError for a name or file that cannot be used."""
    from .design import Design, named_designs, template, with_preset
    from .files import atomic_write
    from .presets import abouts, listing

    if arguments.list:
        console.show(f"designs (--from): {', '.join(named_designs())}\n\npresets (--preset):\n{listing()}")
        return {"designs": named_designs(), "presets": abouts()}
    if arguments.path.exists() and not arguments.force:
        raise ValueError(f"{arguments.path} exists: choose another name, or pass --force to replace it")
    there = check_outputs(arguments.path, keep=[arguments.preset] if arguments.preset else [])
    design = Design.named(arguments.source).replace("name", arguments.path.stem)
    if arguments.preset is not None:
        design = with_preset(design, arguments.preset)
    console.replaces(there)
    with atomic_write(arguments.path) as part:
        part.write_text(template(design), encoding="utf-8")
    console.wrote(arguments.path)
    console.note(f"next: ohmostat train {arguments.path}")
    return {}

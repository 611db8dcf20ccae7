"""The body of ``ohmostat report FILE.h5``: one HTML page about a run, a sweep or an audit.

Modules that take time to import are imported where they are used, so that asking for help stays instant.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..circuits.design_arguments import share
from ..simulator.arguments import check_outputs, natural, page_file, positive
from .chip_arguments import add_data_argument, note_fewer, trained, trainer_of

if TYPE_CHECKING:
    from ..circuits.archive import Run
    from ..circuits.settling import Waves
    from ..simulator.console import Console, Values
    from .report_page import Section
    from .training import Trainer

ABOUT = "make one HTML page about a run, a sweep or an audit, which needs no network to be read"
EXAMPLE = "ohmostat report run.h5 --audit --out run.html"
OPTIONS = {  # what only one kind of file takes: option, its destination, and the value that asks for nothing
    "run": (("--audit", "audit", False), ("--waveforms", "waveforms", None)),
    "sweep": (("--require", "require", []), ("--target", "target", None)),
    "audit": (),
}


def add_arguments(parser: Any) -> None:
    """Arguments of the command, for :func:`run`."""
    parser.add_argument(
        "file", metavar="FILE.h5", type=Path, help="a run, a sweep, or what 'audit --out' wrote"
    )
    parser.add_argument(
        "--out", type=page_file, default=Path("report.html"), metavar="FILE.html", help="default report.html"
    )
    parser.add_argument("--audit", action="store_true", help="run: also take its gradient's error apart")
    parser.add_argument(
        "--samples", type=positive, default=200, metavar="N", help="of the audit (default 200)"
    )
    parser.add_argument(
        "--waveforms", type=natural, metavar="N",
        help="run: test samples that are watched as they settle (default 3); 0 needs no data",
    )  # fmt: skip
    parser.add_argument(
        "--require", action="append", default=[], metavar='"QUANTITY >= LIMIT"',
        help="sweep: show its yield at this specification, as 'ohmostat yield' (repeatable)",
    )  # fmt: skip
    parser.add_argument("--target", type=share, metavar="YIELD", help="sweep: default 0.95")
    add_data_argument(parser)


def run(arguments: Any, console: Console) -> Values:
    """Write the page, and say what is on it. Raises ValueError or SweepError for what cannot be reported or
    written.
    """
    from ..circuits.files import atomic_write
    from .report_file import identify
    from .report_page import page

    there = check_outputs(arguments.out, keep=[arguments.file])
    kind, version = identify(arguments.file)
    for other, options in OPTIONS.items():
        for option, name, nothing in options:
            if other != kind and getattr(arguments, name) != nothing:
                raise ValueError(
                    f"{option} is for a {other} file, which {arguments.file} is not; leave it out"
                )
    title, about, sections = {"run": _run, "sweep": _sweep, "audit": _audit}[kind](
        arguments, version, console
    )
    console.replaces(there)
    with atomic_write(arguments.out) as path:
        path.write_text(page(title, about, sections), encoding="utf-8")
    size = arguments.out.stat().st_size
    console.show(f"{about}: a page of {size / 1e3:.0f} kB")
    console.wrote(arguments.out)
    return {"kind": kind, "title": title, "about": about, "bytes": size}


def _run(arguments: Any, version: str, console: Console) -> tuple[str, str, list[Section]]:
    from threadpoolctl import threadpool_limits

    from ..circuits.archive import read_run
    from .report_run import run_sections

    stored = read_run(arguments.file)
    design, waves, tables = stored.chip.circuit.design, None, None
    samples = 3 if arguments.waveforms is None else arguments.waveforms
    if samples or arguments.audit:
        trainer = _trainer(stored, arguments)
        with threadpool_limits(1, user_api="blas"):
            waves = _waves(trainer, samples) if samples else None
            tables = _audited(trainer, arguments, console) if arguments.audit else None
    layers = "-".join(map(str, design.chip.layers))
    about = f"Run of a {design.chip.family} chip {layers} on {design.task.data}, chip seed {stored.chip.seed}"
    return f"{design.name}, chip {stored.chip.seed}", about, run_sections(stored, version, waves, tables)


def _trainer(stored: Run, arguments: Any) -> Trainer:
    """The chip with the samples of its task, which waveforms and audit need."""
    from .dataset import DataError

    try:
        return (trained if arguments.audit else trainer_of)(stored, arguments.data_dir)
    except DataError as error:
        remedy = "or leave out what needs samples: --waveforms 0, and no --audit"
        raise ValueError(f"{error} {remedy.capitalize()}.") from error


def _waves(trainer: Trainer, samples: int) -> Waves:
    from ..circuits.settling import waves

    return waves(trainer.chip, trainer.inputs(trainer.data.test_x[:samples]))


def _audited(trainer: Trainer, arguments: Any, console: Console) -> dict[str, Any]:
    from .audit import audit, combinations, spot_check
    from .audit_command import subject
    from .audit_report import plain

    note_fewer(arguments.samples, len(trainer.data.test_y), console)
    chosen = subject(trainer, arguments.samples)
    with console.bar(len(combinations(chosen.present)), "gradient") as shown:
        found = audit(chosen, shown.update)
    return plain(found, spot_check(chosen, found))


def _sweep(arguments: Any, version: str, console: Console) -> tuple[str, str, list[Section]]:
    from .quantities import UNITS
    from .report_sweep import sweep_sections
    from .sweep_result import read_sweep
    from .yield_command import examine
    from .yields import Requirement

    required = [Requirement.parse(text, UNITS) for text in arguments.require]
    target = 0.95 if arguments.target is None else arguments.target
    result = read_sweep(arguments.file)
    found = [examine(result, arm, required) for arm in result.arms] if required else []
    runs = len(result.points) * len(result.arms) * result.chips
    over = ", ".join(result.varied) or "chips alone"
    about = f"Sweep over {over}: {runs} runs, {result.chips} chips at each point"
    sections = sweep_sections(arguments.file, result, version, found, required, target)
    return f"{result.design.name}, swept", about, sections


def _audit(arguments: Any, version: str, console: Console) -> tuple[str, str, list[Section]]:
    from . import audit_report
    from .report_audit import file_sections

    stored = audit_report.read(arguments.file)
    return "Audit of a gradient", stored.title, file_sections(*stored)

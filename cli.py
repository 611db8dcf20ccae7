"""The ``ohmostat`` command. Heavy modules are imported where they are used: ``--help`` stays instant."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import __version__

if TYPE_CHECKING:
    from .circuits.design import Design
    from .learning.training import Epoch

EPILOG = """examples:
  ohmostat init my-chip.toml                     a commented design to start from
  ohmostat settle fashion-6k                     settling time, energy and stability of a chip
  ohmostat train fashion-6k --set mismatch.conductance=0.5 --out run.h5
  ohmostat audit run.h5 --plot audit.png         what its gradient's error is made of
  ohmostat corners run.h5 --set corner.device_tempco=-1m/K    a trained chip elsewhere than where it learned
  ohmostat sweep fashion-6k --mismatch 0,0.25,0.5,1 --chips 3 --out sweep.h5
  ohmostat export run.h5 --out chip.h5           every physical device, to program or to check
  ohmostat simulate amplifier.cir --plot waves.png --against ngspice
  ohmostat fit measured.csv --out device.toml    a device's parameters from its measured curves
  ohmostat demo --out demo                       the main job on the embedded data, in minutes
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status (0 success, 2 bad input, 130 interrupted)."""
    for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"):
        os.environ.setdefault(name, "1")  # small matrices: a second BLAS thread only gets in the way
    arguments = _parser().parse_args(argv)
    try:
        arguments.run(arguments)
    except KeyboardInterrupt:
        print("\ninterrupted; a sweep goes on from here with the same command", file=sys.stderr)
        return 130
    except (ValueError, RuntimeError, OSError) as error:
        if arguments.debug:
            raise
        print(f"ohmostat: {error}", file=sys.stderr)
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="ohmostat", epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Simulate analog chips that learn by equilibrium propagation.",
    )  # fmt: skip
    parser.add_argument("--version", action="version", version=f"ohmostat {__version__}")
    parser.add_argument("--debug", action="store_true", help="show a traceback when something fails")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_init(commands)
    _add_settle(commands)
    _add_train(commands)
    _add_sweep(commands)
    _add_export(commands)
    _add_audit(commands)
    _add_corners(commands)
    _add_simulate(commands)
    _add_fit(commands)
    _add_demo(commands)
    return parser


def _command(commands: Any, name: str, run: Callable[[Any], None], text: str, example: str) -> Any:
    parser = commands.add_parser(
        name, help=text, description=text[0].upper() + text[1:] + ".", epilog=f"example:\n  {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.set_defaults(run=run)
    return parser


def _design_arguments(parser: Any, text: str = "a TOML file, or the name of a shipped design") -> None:
    parser.add_argument("design", metavar="DESIGN", help=text)
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", dest="changes",
        help="change a key of the design, such as neuron.leak=5uS (repeatable)",
    )  # fmt: skip
    _run_arguments(parser)


def _run_arguments(parser: Any) -> None:
    parser.add_argument("--data-dir", metavar="DIR", help="folder that holds mnist or fashion-mnist")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")


def _design(arguments: Any) -> Design:
    from .circuits.design import load_design

    design = load_design(arguments.design)
    changes = _changes(arguments)
    return design.replace(changes) if changes else design


def _changes(arguments: Any) -> dict[str, object]:
    """What ``--set`` asks for, by key."""
    from .circuits.specs import DesignError

    changes: dict[str, object] = {}
    for change in arguments.changes:
        key, equals, value = change.partition("=")
        if not equals:
            raise DesignError(f"--set {change!r}: write KEY=VALUE, such as mismatch.conductance=0.5")
        changes[key.strip()] = _checked(key.strip(), _literal(value.strip()))
    return changes


def _checked(key: str, value: object) -> object:
    """``value``, unless it is a bare number where a file would want a unit."""
    from .circuits.specs import KEYS, DesignError

    unit = getattr(KEYS.get(key), "unit", "")
    bare = getattr(KEYS.get(key), "bare", False)
    if unit and not bare and isinstance(value, int | float) and value != 0:
        raise DesignError(f"--set {key}={value}: a number without a unit; write {value}{unit}, say", key)
    return value


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: give a whole number, at least 1")
    return int(text)


def _writable(path: Path) -> Path:
    """``path`` if it can be written to, found out before the work rather than after it."""
    if not path.absolute().parent.is_dir():
        raise ValueError(f"{path}: there is no folder {path.absolute().parent}; make it, or name another")
    if not os.access(path.absolute().parent, os.W_OK) or path.is_dir():
        raise ValueError(f"{path}: cannot be written there; name another file")
    return path


def _literal(text: str) -> object:
    """A number where it is one, a list of integers where it has commas, else the text itself."""
    if "," in text:
        return [_literal(part) for part in text.strip("[]").split(",")]
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


# -- init ------------------------------------------------------------------------------------------


def _add_init(commands: Any) -> None:
    parser = _command(
        commands, "init", _init, "write a commented chip design to start from",
        "ohmostat init my-chip.toml --from digits",
    )  # fmt: skip
    parser.add_argument("path", metavar="FILE.toml", type=Path, nargs="?", default=Path("chip.toml"))
    parser.add_argument(
        "--from", dest="source", metavar="NAME", default="fashion-6k",
        help="shipped design to start from (default: fashion-6k)",
    )  # fmt: skip
    parser.add_argument(
        "--preset", metavar="NAME", help="a measured device: sets its keys, and the leak to go with them"
    )  # fmt: skip
    parser.add_argument("--list", action="store_true", help="list designs and presets, and write nothing")
    parser.add_argument("--force", action="store_true", help="overwrite an existing file")


def _init(arguments: Any) -> None:
    from .circuits.design import Design, named_designs, template
    from .circuits.presets import listing, with_preset

    if arguments.list:
        print(f"designs (--from): {', '.join(named_designs())}\n\npresets (--preset):\n{listing()}")
        return
    if arguments.path.exists() and not arguments.force:
        raise ValueError(f"{arguments.path} exists: choose another name, or pass --force to replace it")
    _writable(arguments.path)
    design = Design.named(arguments.source)
    if arguments.preset:
        design = with_preset(design, arguments.preset)
    arguments.path.write_text(template(design), encoding="utf-8")
    print(f"wrote {arguments.path}; next: ohmostat train {arguments.path}")


# -- settle ----------------------------------------------------------------------------------------


def _add_settle(commands: Any) -> None:
    parser = _command(
        commands, "settle", _settle, "let a chip settle: time, energy, residual current, stability",
        "ohmostat settle digits --set mismatch.conductance=0.5 --samples 20",
    )  # fmt: skip
    _design_arguments(parser, "a TOML file, a shipped design, or the RUN.h5 of a trained chip")
    parser.add_argument("--chip", type=int, metavar="SEED", help="the chip's seed (default: task.seed)")
    parser.add_argument(
        "--samples", type=_positive, default=20, metavar="N", help="test samples (default 20)"
    )


def _settle(arguments: Any) -> None:
    from threadpoolctl import threadpool_limits

    from .circuits.archive import load_chip
    from .circuits.circuit import Circuit
    from .circuits.settling import settling_report
    from .learning.data import load
    from .learning.training import initialise_from

    if Path(arguments.design).suffix in (".h5", ".hdf5"):
        if arguments.changes or arguments.chip is not None:
            raise ValueError("--set and --chip make another chip; a RUN.h5 holds the one that was trained")
        chip = load_chip(arguments.design)
    else:
        design = _design(arguments)
        seed = design.task.seed if arguments.chip is None else arguments.chip
        chip = Circuit(design).fabricate(seed=seed)
        initialise_from(chip)
    design = chip.circuit.design
    x = load(design.task.data, arguments.data_dir).test_x[: arguments.samples] * chip.neuron.high
    with threadpool_limits(1, user_api="blas"):
        ode = chip.relax(x, method="transient")
        fast = chip.relax(x)
    print(settling_report(chip, ode, fast))


# -- train -----------------------------------------------------------------------------------------


def _add_train(commands: Any) -> None:
    parser = _command(
        commands, "train", _train, "fabricate one chip of a design and train it",
        "ohmostat train fashion-6k --set mismatch.conductance=0.5 --chip 1 --out run.h5",
    )  # fmt: skip
    _design_arguments(parser)
    parser.add_argument("--chip", type=int, metavar="SEED", help="the chip's seed (default: task.seed)")
    parser.add_argument("--epochs", type=int, metavar="N", help="short for --set learning.epochs=N")
    parser.add_argument("--out", type=Path, default=Path("run.h5"), metavar="RUN.h5")
    parser.add_argument("--plot", type=Path, metavar="FILE.png", help="also draw the history")


def _train(arguments: Any) -> None:
    design = _design(arguments)
    if arguments.epochs is not None:
        design = design.replace("learning.epochs", arguments.epochs)
    for path in (arguments.out, *([arguments.plot] if arguments.plot else [])):
        _writable(path)
    train_to_file(design, arguments.out, arguments.chip, arguments.data_dir, arguments.quiet, arguments.plot)


def train_to_file(
    design: Design,
    out: Path,
    chip: int | None,
    data_dir: str | None,
    quiet: bool,
    plot: Path | None,
) -> None:
    """Train one chip and write its run (and figure)."""
    from .circuits.archive import Run, write_run
    from .learning.data import load_task
    from .learning.training import Trainer

    data = load_task(design.task, data_dir)
    trainer = Trainer.from_design(design, data, chip)
    with _bar(design.learning.epochs * trainer.steps_per_epoch, "step", quiet) as bar:

        def progress(epoch: Epoch | None) -> None:
            if epoch is None:
                bar.update()
            else:
                bar.write(epoch_line(epoch))

        trainer.fit(progress=progress)
    attributes = {"rule": trainer.rule.name, "homeostat": design.homeostat.mode}
    readout = (trainer.readout.weight, trainer.readout.bias)
    write_run(out, Run(trainer.chip, readout, trainer.history_arrays(), attributes))
    print(f"wrote {out}")
    if plot:
        from .learning.figures import training_figure

        training_figure(trainer.history, plot, f"{design.name}, chip {trainer.chip.seed}")
        print(f"wrote {plot}")


def epoch_line(epoch: Epoch) -> str:
    """One epoch's record on one line."""
    cosine = epoch.alignment.get("forward0", float("nan"))
    angle = epoch.angle.get("forward1", float("nan"))
    return (
        f"epoch {epoch.epoch:3d}  accuracy {epoch.accuracy:.4f}  loss {epoch.loss:.4f}  "
        f"alignment {cosine:+.3f}  angle {angle:5.1f} deg  "
        f"unsettled {epoch.unsettled:.1%} free, {epoch.unsettled_nudged:.1%} nudged, "
        f"{epoch.unsettled_test:.1%} test  left out {epoch.left_out:.1%}  "
        f"unstable {epoch.unstable:.1%}  {epoch.seconds:.1f} s"
    )


def _bar(total: int, unit: str, quiet: bool) -> Any:
    from tqdm import tqdm

    return tqdm(total=total, unit=unit, disable=quiet or None, dynamic_ncols=True)


# -- sweep -----------------------------------------------------------------------------------------


def _add_sweep(commands: Any) -> None:
    parser = _command(
        commands, "sweep", _sweep, "train many chips over levels of mismatch and compare the arms",
        "ohmostat sweep fashion-6k --mismatch 0,0.25,0.5,1 --chips 3 --out sweep.h5",
    )  # fmt: skip
    _design_arguments(parser)
    parser.add_argument(
        "--mismatch", type=_numbers, metavar="LIST",
        help="levels of mismatch.conductance (default: the design's)",
    )  # fmt: skip
    parser.add_argument(
        "--angle", type=_numbers, metavar="LIST", help="starting angles [degrees] (default: the design's)"
    )  # fmt: skip
    parser.add_argument(
        "--vary", action="append", default=[], metavar="KEY=LIST",
        help="levels of any key of the design, such as neuron.leak=5uS,10uS; again for more keys. With "
        "--method latin its range: mismatch.conductance=0..1, device.g_max=10uS..100uS:log",
    )  # fmt: skip
    parser.add_argument(
        "--method", choices=("grid", "one-at-a-time", "latin"), default="grid",
        help="grid: every combination of levels; one-at-a-time: each key alone, from the design; "
        "latin: --points of a Latin hypercube over the ranges",
    )  # fmt: skip
    parser.add_argument("--points", type=_positive, default=32, metavar="N", help="latin only (default 32)")
    parser.add_argument(
        "--chips", type=_positive, default=3, metavar="N", help="chips at each level (default 3)"
    )
    parser.add_argument(
        "--homeostat", choices=("both", "on", "off"), default="both",
        help="on: EP with it; off: EP without; both: these, weight decay in its place, and the adjoint",
    )  # fmt: skip
    parser.add_argument(
        "--arms", type=lambda text: tuple(text.split(",")), metavar="LIST",
        help="in its place: some of none, homeostat, trim, decay, aep, coupled, kolen-pollack, adjoint, "
        "adjoint-homeostat",
    )  # fmt: skip
    parser.add_argument("--workers", type=_positive, metavar="N", help="processes (default: all cores)")
    parser.add_argument(
        "--scheduler", metavar="ADDRESS",
        help="of a Dask cluster, such as tcp://10.0.0.5:8786, whose workers take the runs: docs/cluster.md",
    )  # fmt: skip
    parser.add_argument("--keep-chips", action="store_true", help="store every trained chip as well")
    parser.add_argument("--out", type=Path, default=Path("sweep.h5"), metavar="SWEEP.h5")
    parser.add_argument("--plot", type=Path, metavar="FILE.png", help="default: beside --out")


ARMS_OF = {  # "both": all that are compared by default
    "on": ("homeostat", "adjoint"),
    "off": ("none", "adjoint"),
}


def _numbers(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}: write numbers with commas, such as 0,0.5,1") from None


def _sweep(arguments: Any) -> None:
    from .learning.sweep import COMPARED, Sweep

    design = _design(arguments)
    arms = arguments.arms or ARMS_OF.get(arguments.homeostat, COMPARED)
    sweep = Sweep(design, _points(design, arguments), arguments.chips, arms, arguments.keep_chips)
    sweep_to_files(sweep, arguments.out, arguments)


def _points(design: Design, arguments: Any) -> tuple[Any, ...]:
    """The points that ``--mismatch``, ``--angle`` and ``--vary`` ask for."""
    from .learning import points

    shorthand = {"mismatch.conductance": arguments.mismatch, "learning.angle": arguments.angle}
    levels = {key: values for key, values in shorthand.items() if values}
    read = points.parse_span if arguments.method == "latin" else points.parse_levels
    varied = [read(text) for text in arguments.vary]
    keys = [*levels, *(key for key, _ in varied)]
    if twice := [key for key in keys if keys.count(key) > 1]:
        raise ValueError(f"{twice[0]} is given twice: give all its values at once")
    if arguments.method == "latin":
        if levels or not varied:
            raise ValueError(
                "--method latin takes ranges: --vary KEY=LOW..HIGH, such as mismatch.conductance=0..1"
            )
        return points.latin_hypercube(dict(varied), arguments.points, design.task.seed)
    made = levels | dict(varied)
    return points.one_at_a_time(design, made) if arguments.method == "one-at-a-time" else points.grid(made)


def _sweep_files(out: Path, plot: Path | None) -> tuple[Path, Path]:
    """Where a sweep's table and figure go, once all three files are known to be writable, and not one."""
    text, plot = out.with_suffix(".txt"), plot or out.with_suffix(".png")
    if len({_writable(path).resolve() for path in (out, text, plot)}) < 3:
        raise ValueError(
            f"result {out}, table {text} and figure {plot} must be three files; "
            "end --out in .h5, and --plot in .png, say"
        )
    return text, plot


def sweep_to_files(sweep: Any, out: Path, arguments: Any) -> None:
    """Run a sweep and leave its file, table and figure."""
    table_file, plot = _sweep_files(out, getattr(arguments, "plot", None))
    from .learning.figures import sweep_figure
    from .learning.sweep import run_sweep
    from .learning.sweep_result import read_sweep, table

    with _bar(len(sweep.runs()), "run", arguments.quiet) as bar:

        def progress(done: int, total: int) -> None:
            bar.update(done - bar.n)

        run_sweep(
            sweep, out, workers=arguments.workers, scheduler=getattr(arguments, "scheduler", None),
            data_dir=arguments.data_dir, progress=progress,
        )  # fmt: skip
    result = read_sweep(out)
    text = table(result)
    print(text)
    table_file.write_text(text + "\n", encoding="utf-8")
    print(f"wrote {out} and {table_file}")
    sweep_figure(result, plot)
    print(f"wrote {plot}")


# -- export ----------------------------------------------------------------------------------------


def _add_export(commands: Any) -> None:
    parser = _command(
        commands, "export", _export, "export a trained chip, device by device",
        "ohmostat export run.h5 --out chip.csv --format csv",
    )  # fmt: skip
    parser.add_argument("run_file", metavar="RUN.h5", type=Path)
    parser.add_argument("--out", type=Path, required=True, metavar="FILE")
    parser.add_argument("--format", choices=("hdf5", "csv", "spice"), help="default: by the suffix of --out")
    parser.add_argument(
        "--input", type=_numbers, metavar="VOLTS", help="spice: input voltages (default: all 0 V)"
    )


FORMATS = {
    ".h5": "hdf5",
    ".hdf5": "hdf5",
    ".csv": "csv",
    ".cir": "spice",
    ".sp": "spice",
    ".spice": "spice",
}


def _export(arguments: Any) -> None:
    from .circuits import archive

    kind = arguments.format or FORMATS.get(arguments.out.suffix.lower())
    if kind is None:
        raise ValueError(f"--out {arguments.out}: its suffix tells no format; pass --format hdf5|csv|spice")
    run = archive.read_run(arguments.run_file)
    if kind == "hdf5":
        archive.write_run(arguments.out, run)
    elif kind == "csv":
        archive.export_csv(run.chip, arguments.out)
    else:
        from .circuits.files import atomic_write
        from .circuits.flatten import flatten
        from .simulator.spice import write_spice

        inputs = arguments.input or (0.0,) * run.chip.circuit.inputs
        with atomic_write(arguments.out) as path:
            path.write_text(write_spice(flatten(run.chip, inputs)), encoding="utf-8")
    print(f"wrote {arguments.out}")


# -- audit, corners, simulate, fit ---------------------------------------------------------------------


def _add_audit(commands: Any) -> None:
    from .learning import audit_command as audit

    parser = _command(commands, "audit", lambda a: audit.run(a, _design, _bar), audit.ABOUT, audit.EXAMPLE)
    _design_arguments(parser, "a TOML file, a shipped design, or the RUN.h5 of a trained chip")
    audit.add_arguments(parser)


def _add_corners(commands: Any) -> None:
    from .learning import corners_command as corners

    parser = _command(
        commands, "corners", lambda a: corners.run(a, _changes, _bar), corners.ABOUT, corners.EXAMPLE
    )
    corners.add_arguments(parser)
    _run_arguments(parser)


def _add_simulate(commands: Any) -> None:
    from .simulator import simulate_command

    parser = _command(
        commands, "simulate", simulate_command.run,
        "run the analyses of a SPICE netlist: .op .dc .tran .ac .noise .tf .mc",
        "ohmostat simulate amplifier.cir --out waves.h5 --plot waves.png --against ngspice",
    )  # fmt: skip
    simulate_command.add_arguments(parser)


def _add_fit(commands: Any) -> None:
    from .circuits import fit_command

    fit_command.add_arguments(
        _command(commands, "fit", fit_command.run, fit_command.ABOUT, fit_command.EXAMPLE)
    )


# -- demo ------------------------------------------------------------------------------------------


def _add_demo(commands: Any) -> None:
    parser = _command(
        commands, "demo", _demo, "the main job on the embedded data: sweep, repair, train, export",
        "ohmostat demo --out demo",
    )  # fmt: skip
    parser.add_argument("--out", type=Path, default=Path("demo"), metavar="FOLDER")
    parser.add_argument("--workers", type=_positive, metavar="N", help="processes (default: all cores)")
    _run_arguments(parser)


def _demo(arguments: Any) -> None:
    from .circuits import archive
    from .circuits.design import Design
    from .learning.sweep import Sweep

    folder: Path = arguments.out
    folder.mkdir(parents=True, exist_ok=True)
    design = Design.named("fashion-6k")
    print("1/3  sweep device mismatch, with and without the homeostat")
    sweep = Sweep.over(design, {"mismatch.conductance": (0.0, 0.5, 1.0)}, 2)
    sweep_to_files(sweep, folder / "sweep.h5", arguments)
    print("2/3  train one chip")
    chosen = design.replace("mismatch.conductance", 0.5)
    train_to_file(chosen, folder / "run.h5", 0, arguments.data_dir, arguments.quiet, folder / "run.png")
    print("3/3  export its devices")
    archive.write_run(folder / "chip.h5", archive.read_run(folder / "run.h5"))
    print(f"wrote {folder / 'chip.h5'}")

"""The ``ohmostat`` command. Heavy modules are imported where they are used: ``--help`` stays instant."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import __version__
from .simulator.arguments import check_writable, literal, positive

if TYPE_CHECKING:
    from .circuits.design import Design
    from .learning.training import Epoch, Trainer

EPILOG = """examples:
  ohmostat init my-chip.toml                     a commented design to start from
  ohmostat settle fashion-6k                     settling time, energy and stability of a chip
  ohmostat train fashion-6k --set mismatch.conductance=0.5 --out run.h5
  ohmostat audit run.h5 --plot audit.png         what its gradient's error is made of
  ohmostat corners run.h5 --set corner.device_tempco=-1m/K    a trained chip elsewhere than where it learned
  ohmostat sweep fashion-6k --mismatch 0,0.25,0.5,1 --chips 3 --out sweep.h5
  ohmostat report run.h5 --out run.html          one page about a run, a sweep or an audit
  ohmostat compare a.h5 b.h5 --out compare.html  runs or sweeps beside each other
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
    _add_yield(commands)
    _add_export(commands)
    _add_audit(commands)
    _add_corners(commands)
    _add_report(commands)
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


def _literal(text: str) -> object:
    """A number where it is one, a list of integers where it has commas, else the text itself."""
    if "," in text:
        return [_literal(part) for part in text.strip("[]").split(",")]
    return literal(text)


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
    check_writable(arguments.path)
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
    parser.add_argument("--samples", type=positive, default=20, metavar="N", help="test samples (default 20)")


def _settle(arguments: Any) -> None:
    from threadpoolctl import threadpool_limits

    from .circuits.archive import load_chip
    from .circuits.circuit import Circuit
    from .circuits.settling import settling_report
    from .learning.data import load
    from .learning.training import initialise_from

    if Path(arguments.design).suffix in (".h5", ".hdf5"):
        _no_other_chip(arguments)
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
    _design_arguments(parser, "a TOML file, a shipped design, or the RUN.h5 of a chip that goes on learning")
    parser.add_argument("--chip", type=int, metavar="SEED", help="the chip's seed (default: task.seed)")
    parser.add_argument("--epochs", type=int, metavar="N", help="short for --set learning.epochs=N")
    parser.add_argument("--out", type=Path, default=Path("run.h5"), metavar="RUN.h5")
    parser.add_argument("--plot", type=Path, metavar="FILE.png", help="also draw the history")


def _train(arguments: Any) -> None:
    from .learning.training import Trainer

    for path in (arguments.out, *([arguments.plot] if arguments.plot else [])):
        check_writable(path)
    if Path(arguments.design).suffix in (".h5", ".hdf5"):
        from .circuits.archive import read_run

        _no_other_chip(arguments)
        run = read_run(arguments.design)
        data = _task_data(run.chip.circuit.design, arguments.data_dir)
        trainer = Trainer.from_run(run, data)
    else:
        design = _design(arguments)
        if arguments.epochs is not None:
            design = design.replace("learning.epochs", arguments.epochs)
        trainer = Trainer.from_design(design, _task_data(design, arguments.data_dir), arguments.chip)
    train_to_file(trainer, arguments.out, arguments.epochs, arguments.quiet, arguments.plot)


def _task_data(design: Design, data_dir: str | None) -> Any:
    from .learning.data import load_task

    return load_task(design.task, data_dir)


def _no_other_chip(arguments: Any) -> None:
    if arguments.changes or arguments.chip is not None:
        raise ValueError("--set and --chip make another chip; a RUN.h5 holds the one that was trained")


def train_to_file(trainer: Trainer, out: Path, epochs: int | None, quiet: bool, plot: Path | None) -> None:
    """Train a chip and write its run (and figure)."""
    from .circuits.archive import Run, write_run

    design = trainer.design
    total = design.learning.epochs if epochs is None else epochs
    with _bar(total * trainer.steps_per_epoch, "step", quiet) as bar:

        def progress(epoch: Epoch | None) -> None:
            if epoch is None:
                bar.update()
            else:
                bar.write(epoch_line(epoch))

        trainer.fit(epochs, progress)
    attributes = {"rule": trainer.rule.name, "homeostat": design.homeostat.mode}
    readout = (trainer.readout.weight, trainer.readout.bias)
    write_run(out, Run(trainer.chip, readout, trainer.history_arrays(), attributes))
    print(cost_line(trainer.history[-1]))
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


def cost_line(epoch: Epoch) -> str:
    """What the chip costs at last, on one line (docs/programming.md)."""
    from .circuits.units import format_quantity

    costs = {"inference": (epoch.inference_time, epoch.inference_energy),
             "training step": (epoch.step_time, epoch.step_energy)}  # fmt: skip
    texts = []
    for what, amounts in costs.items():
        time, energy = (float(f"{amount:.3g}") for amount in amounts)
        texts.append(f"{what} {format_quantity(time, 's')} and {format_quantity(energy, 'J')}")
    return "; ".join([*texts, f"{epoch.pulses} pulses so far"])


def _bar(total: int, unit: str, quiet: bool) -> Any:
    from tqdm import tqdm

    return tqdm(total=total, unit=unit, disable=quiet or None, dynamic_ncols=True)


# -- sweep, yield, export, measured ----------------------------------------------------------------


def _add_sweep(commands: Any) -> None:
    from .learning import sweep_command as sweep

    parser = _command(commands, "sweep", lambda a: sweep.run(a, _design, _bar), sweep.ABOUT, sweep.EXAMPLE)
    _design_arguments(parser)
    sweep.add_arguments(parser)


def _add_yield(commands: Any) -> None:
    from .learning import yield_command as yields

    yields.add_arguments(_command(commands, "yield", yields.run, yields.ABOUT, yields.EXAMPLE))


def _add_export(commands: Any) -> None:
    from .circuits import export_command as export

    parser = _command(commands, "export", export.run, export.ABOUT, export.EXAMPLE)
    export.add_arguments(parser)
    parser = _command(commands, "measured", export.run_measured, export.MEASURED, export.MEASURED_EXAMPLE)
    export.add_measured_arguments(parser)


# -- audit, corners, report, simulate, fit ---------------------------------------------------------


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


def _add_report(commands: Any) -> None:
    from .learning import compare_command as compare
    from .learning import report_command as report

    parser = _command(commands, "report", lambda a: report.run(a, _bar), report.ABOUT, report.EXAMPLE)
    report.add_arguments(parser)
    _run_arguments(parser)
    compare.add_arguments(_command(commands, "compare", compare.run, compare.ABOUT, compare.EXAMPLE))


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
    parser.add_argument("--workers", type=positive, metavar="N", help="processes (default: all cores)")
    _run_arguments(parser)


def _demo(arguments: Any) -> None:
    from .circuits import archive
    from .circuits.design import Design
    from .learning.sweep import Sweep
    from .learning.sweep_command import sweep_to_files
    from .learning.training import Trainer

    folder: Path = arguments.out
    folder.mkdir(parents=True, exist_ok=True)
    design = Design.named("fashion-6k")
    print("1/3  sweep device mismatch, with and without the homeostat")
    sweep = Sweep.over(design, {"mismatch.conductance": (0.0, 0.5, 1.0)}, 2)
    sweep_to_files(sweep, folder / "sweep.h5", arguments, _bar)
    print("2/3  train one chip")
    chosen = design.replace("mismatch.conductance", 0.5)
    trainer = Trainer.from_design(chosen, _task_data(chosen, arguments.data_dir), 0)
    train_to_file(trainer, folder / "run.h5", None, arguments.quiet, folder / "run.png")
    print("3/3  export its devices")
    archive.write_run(folder / "chip.h5", archive.read_run(folder / "run.h5"))
    print(f"wrote {folder / 'chip.h5'}")

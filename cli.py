"""The ``ohmostat`` command. Heavy modules are imported where they are used: ``--help`` stays instant.

A command is a module with ``ABOUT``, ``EXAMPLE``, ``add_arguments(parser)`` and ``run(arguments, console)``;
that shows its result and returns it as plain values. What all have in common is here and in
:mod:`.simulator.console`: output, exit status, interrupts, errors.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from . import __version__
from .circuits import fit_command, init_command, measured_command
from .learning import (
    audit_command,
    compare_command,
    corners_command,
    demo_command,
    export_command,
    report_command,
    settle_command,
    sweep_command,
    train_command,
    yield_command,
)
from .simulator import simulate_command
from .simulator.arguments import Ending
from .simulator.console import WRONG_INPUT, Console, Values

COMMANDS: dict[str, Any] = {
    "init": init_command,
    "settle": settle_command,
    "train": train_command,
    "audit": audit_command,
    "corners": corners_command,
    "sweep": sweep_command,
    "yield": yield_command,
    "report": report_command,
    "compare": compare_command,
    "export": export_command,
    "measured": measured_command,
    "simulate": simulate_command,
    "fit": fit_command,
    "demo": demo_command,
}
SHELLS = ("bash", "zsh", "fish")
EPILOG = """examples:
  ohmostat init my-chip.toml                     # a commented design to start from
  ohmostat settle fashion-6k                     # settling time, energy and stability of a chip
  ohmostat train fashion-6k --set mismatch.conductance=0.5 --out run.h5
  ohmostat audit run.h5 --plot audit.png         # what its gradient's error is made of
  ohmostat corners run.h5 --set corner.device_tempco=-1m/K    # a trained chip elsewhere than where it learned
  ohmostat sweep fashion-6k --mismatch 0,0.25,0.5,1 --chips 3 --out sweep.h5
  ohmostat yield sweep.h5 --require "accuracy >= 0.75"        # chips that meet a specification
  ohmostat report run.h5 --out run.html          # one page about a run, a sweep or an audit
  ohmostat compare a.h5 b.h5 --out compare.html  # runs or sweeps beside each other
  ohmostat export run.h5 --out chip.csv          # every physical device, to program or to check
  ohmostat simulate amplifier.cir --plot waves.png --against ngspice
  ohmostat fit measured.csv --out device.toml    # a device's parameters from its measured curves
  ohmostat demo --out demo                       # the main job on the embedded data, in minutes

exit status: 0 done, 1 the work failed, 2 wrong input, 130 interrupted
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status (docs/command-line.md)."""
    for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"):
        os.environ.setdefault(name, "1")  # small matrices: a second BLAS thread only gets in the way
    parser = build_parser()
    arguments = parser.parse_args(_joined(sys.argv[1:] if argv is None else argv))
    if "command" not in arguments:
        parser.print_help(sys.stderr)
        return WRONG_INPUT
    console = Console(arguments.json, arguments.quiet, arguments.debug)
    return console.run(lambda console: arguments.command.run(arguments, console))


def _joined(words: Sequence[str]) -> list[str]:
    """The words of a command line, an option and a value that begins with a minus as one: argparse takes
    ``-40C,125C`` for an option of its own.
    """
    found: list[str] = []
    for word in words:
        if found and re.fullmatch(r"--[a-z-]+", found[-1]) and re.match(r"-\.?\d", word):
            found[-1] += f"={word}"
        else:
            found.append(word)
    return found


def build_parser(file: Mapping[str, Any] | None = None) -> argparse.ArgumentParser:
    """The parser of all commands; ``file`` marks the arguments that are files, for :class:`_Completion`."""
    completions = _completions(file) if file else {}
    parser = _Parser(
        prog="ohmostat", epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Simulate analog chips that learn by equilibrium propagation.", parents=[_common()],
    )  # fmt: skip
    parser.set_defaults(json=False, quiet=False, debug=False)
    parser.add_argument("--version", action="version", version=f"ohmostat {__version__}")
    parser.add_argument(
        "--completion", choices=SHELLS, action=_Completion, metavar="SHELL",
        help=f"print a script that completes commands and options in {', '.join(SHELLS)}",
    )  # fmt: skip
    commands = parser.add_subparsers(metavar="COMMAND")
    for name, command in COMMANDS.items():
        about = command.ABOUT
        own = commands.add_parser(
            name, help=about, description=about[0].upper() + about[1:] + ".", parents=[_common()],
            epilog=f"example:\n  {command.EXAMPLE}", formatter_class=argparse.RawDescriptionHelpFormatter,
        )  # fmt: skip
        command.add_arguments(own)
        own.set_defaults(command=command)
        for argument in own._actions if file else ():
            if isinstance(argument.metavar, str):
                argument.metavar = argument.metavar.replace('"', "")  # which shtab leaves bare in zsh
            if argument.dest in completions:
                argument.complete = completions[argument.dest]  # type: ignore[attr-defined]  # shtab's own
            elif argument.type is Path or isinstance(argument.type, Ending):
                argument.complete = file  # type: ignore[attr-defined]
    return parser


class _Parser(argparse.ArgumentParser):
    """A parser, of all commands or of one, that says what was probably meant."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Refuse what is left over under the usage of the command that it was given to."""
        found, strange = super().parse_known_args(args, namespace)
        if strange:
            self.error(f"unrecognized arguments: {' '.join(strange)}{self._meant(*strange[:2])}")
        return found, strange

    def _meant(self, option: str, then: str = "") -> str:
        """The change that an option, and the word after it, could be short for, where there is ``--set``."""
        from .circuits.specs import KEYS

        word, _, value = option.partition("=")
        options = {"--" + key.rpartition(".")[2].replace("_", "-"): key for key in reversed(KEYS)}
        key = options.get(word.replace("_", "-"), "")
        if not key or "--set" not in self._option_string_actions:
            return ""
        given = value or ("" if then.startswith("-") else then)
        return f"; write --set {key}={given or 'VALUE'}"

    def error(self, message: str) -> NoReturn:
        """Name the choice that a word is probably a slip for."""
        if form := re.search(r"invalid choice: '([^']*)' \(choose from (.*)\)", message):
            from .circuits.units import closest, did_you_mean

            near = did_you_mean(closest(form[1], re.findall(r"[\w-]+", form[2])))
            message = message.replace(f"'{form[1]}'", f"'{form[1]}'{near}", 1)
        super().error(message)


def _common() -> _Parser:
    """What every command takes, before its name or after it; defaults here would undo the former."""
    common = _Parser(add_help=False, argument_default=argparse.SUPPRESS)
    group = common.add_argument_group("output")
    group.add_argument("--json", action="store_true", help="print the result as one JSON document")
    group.add_argument("--quiet", action="store_true", help="neither progress nor notes, the result alone")
    group.add_argument("--debug", action="store_true", help="show a traceback when something fails")
    return common


def _words(name: str, words: Iterable[str], file: Mapping[str, Any] | None = None, end: str = "") -> Any:
    """Completion to some words, in shtab's form, and to files; ``end``: what follows a word, where a shell
    can be told.
    """
    listed, files = " ".join(words), file or dict.fromkeys(SHELLS, "")
    bash = f'compgen -W "{listed}" -- "$1"' + (f'\n  {files["bash"]} "$1"' if file else "")
    zsh = f"compadd {f'-S {end} ' if end else ''}-- {listed}\n  {files['zsh']}"
    fish = f"printf '%s{end}\\n' {listed}\n  {files['fish'][1:-1]}"
    functions = {"bash": f"{name}() {{\n  {bash}\n}}", "zsh": f"{name}() {{\n  {zsh}\n}}",
                 "fish": f"function {name}\n  {fish}\nend"}  # fmt: skip
    return {"bash": name, "zsh": name, "fish": f"({name})", "preamble": functions}


def _completions(file: Mapping[str, Any]) -> dict[str, Any]:
    """What completes an argument, by its name: designs, keys of a design, processes."""
    from .circuits.design import named_designs
    from .circuits.specs import KEYS

    keys = _words("_ohmostat_keys", KEYS, end="=")
    return {
        "design": _words("_ohmostat_designs", named_designs(), file), "changes": keys, "vary": keys,
        "process": _words("_ohmostat_processes", corners_command.PROCESSES),
    }  # fmt: skip


class _Completion(argparse.Action):
    """Print a completion script, made by shtab, and exit."""

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: object, values: Any, option_string: object = None
    ) -> None:
        try:
            import shtab
        except ImportError:
            parser.error("--completion needs shtab: pip install 'ohmostat[completion]'")
        script = shtab.complete(build_parser(shtab.FILE), values)

        def show(console: Console) -> Values:
            console.show(script)
            return {}

        parser.exit(Console().run(show))

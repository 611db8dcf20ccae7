"""Writes docs/commands.md from the parser: python docs/make_commands.py"""

from __future__ import annotations

import argparse
from pathlib import Path

from ohmostat.cli import COMMANDS, SHELLS

PAGE = Path(__file__).with_name("commands.md")
HEAD = f"""# Commands

Made from the program itself by `python docs/make_commands.py`. What all commands have in common (`--json`,
`--quiet`, `--debug`, exit status, interrupts) is in [command-line.md](command-line.md).
`ohmostat --version` and `ohmostat --completion {"|".join(SHELLS)}` stand alone.
"""


def page() -> str:
    """The whole page."""
    return "\n".join([HEAD, *map(_section, COMMANDS)])


def _section(name: str) -> str:
    command, parser = COMMANDS[name], argparse.ArgumentParser()
    command.add_arguments(parser)
    rows = [_row(action) for action in parser._actions if action.dest != "help"]
    return (
        f"## {name}\n\n{command.ABOUT[0].upper()}{command.ABOUT[1:]}.\n\n    {command.EXAMPLE}\n\n"
        f"| argument | meaning |\n|---|---|\n{''.join(rows)}"
    )


def _row(action: argparse.Action) -> str:
    value = action.metavar or ("|".join(action.choices) if action.choices else "")
    written = f"{' '.join(action.option_strings)} {value}".strip().replace("|", "\\|")
    needed = " (required)" if action.required and action.option_strings else ""
    default = "" if action.help and "default" in action.help else _default(action.default)
    text = ((action.help or "") % vars(action)).replace("|", "\\|")
    return f"| `{written}`{needed} | {'; '.join(filter(None, (text, default)))} |\n"


def _default(value: object) -> str:
    """In words, unless the default is that nothing is asked for."""
    return "" if value in (None, False, []) else f"default: {value}"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")

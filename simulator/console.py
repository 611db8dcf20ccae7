"""Where a command's words go: its result to standard output, as text or as one JSON document; progress and
notes to standard error (docs/command-line.md).
"""

from __future__ import annotations

import json
import math
import os
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Values = Mapping[str, Any]
"""A command's result as plain values: numbers, texts, arrays, and mappings and sequences of these."""

DONE, FAILED, WRONG_INPUT, UNDETERMINED, INTERRUPTED = 0, 1, 2, 3, 130


@dataclass
class Console:
    """What a command says, and how it ended.

    ``json``: the result is wanted as JSON. ``quiet``: neither progress nor notes. ``debug``: a traceback with
    every error. ``kept``: what an interrupt leaves, and how to go on; the command says so as it begins.
    ``status``: the exit status of a command that came to its end.
    """

    json: bool = False
    quiet: bool = False
    debug: bool = False
    kept: str = "nothing was written"
    status: int = DONE
    files: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def show(self, text: str) -> None:
        """Part of the result, for a reader; with ``json`` it is among the values that the command returns."""
        if not self.json:
            self._write(text, sys.stdout)

    def note(self, text: str) -> None:
        """What is worth knowing beside the result."""
        if not self.quiet:
            self._write(text, sys.stderr)

    def warn(self, lines: Sequence[str]) -> None:
        """Note what makes the result doubtful, and what to do, if there is anything."""
        self.warnings += lines
        if lines:
            self.note("warning: " + "\n         ".join(lines))

    def lost(self, what: str, error: Exception) -> None:
        """A part of the work failed, and the rest stands: said in any case, and the exit status says so."""
        self.status = FAILED
        self.warnings.append(f"{what}: {error}")
        self._write(f"ohmostat: {what}: {error}", sys.stderr)

    def wrote(self, *paths: Path | None) -> None:
        """Note the files that are there now; None stands for one that was not asked for."""
        for path in paths:
            if path is not None:
                self.files.append(str(path))
                self.note(f"wrote {path}")

    def replaces(self, paths: Sequence[Path]) -> None:
        """Note, before the work, the files that its results take the place of."""
        if paths:
            self.note(f"replaces {', '.join(map(str, paths))} once done")

    def bar(self, total: int, unit: str, lines: bool = False) -> Any:
        """A progress bar, shown on a terminal only; with ``lines``, elsewhere a line at each tenth."""
        from tqdm import tqdm

        if lines and not (self.quiet or sys.stderr.isatty()):
            return _Tenths(self, total, unit)
        return tqdm(total=total, unit=unit, disable=self.quiet or None, dynamic_ncols=True)

    def run(self, command: Callable[[Console], Values]) -> int:
        """Run a command to its end, whatever that is; the exit status. No error leaves it."""
        try:
            values = command(self)
            if self.json:
                print(as_json({**values, "files": self.files, "warnings": self.warnings}))
            sys.stdout.flush()
        except KeyboardInterrupt:
            print(f"\nohmostat: interrupted; {self.kept}", file=sys.stderr)
            return INTERRUPTED
        except BrokenPipeError:  # whoever read the output has enough: nothing is wrong, and nobody to tell
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return FAILED
        except Exception as error:
            return self._failed(error)
        return self.status

    def _failed(self, error: Exception) -> int:
        if self.debug:
            traceback.print_exc()
        text, status = str(error), FAILED
        if isinstance(error, ValueError):
            status = WRONG_INPUT
        elif isinstance(error, OSError):
            status = WRONG_INPUT
            if error.filename is not None:
                text = f"{error.filename}: {error.strerror}; check its name and permissions"
        elif not isinstance(error, RuntimeError):
            text = f"a fault of ohmostat, please report what --debug shows ({type(error).__name__}: {error})"
        print(f"ohmostat: {text}", file=sys.stderr)
        return status

    @staticmethod
    def _write(text: str, stream: Any) -> None:
        from tqdm import tqdm

        tqdm.write(text, file=stream)  # which clears a bar first, and draws it again
        stream.flush()


@dataclass
class _Tenths:
    """What stands in for a bar in a file or a pipe."""

    console: Console
    total: int
    unit: str
    n: int = 0
    began: float = field(default_factory=time.monotonic)

    def __enter__(self) -> _Tenths:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def update(self, more: int = 1) -> None:
        before, self.n = self.n, self.n + more
        if 10 * self.n // self.total > 10 * before // self.total:
            seconds = time.monotonic() - self.began
            self.console.note(f"{self.n} of {self.total} {self.unit}s after {seconds:.0f} s")


def as_json(values: Values) -> str:
    """One document at full precision. Complex arrays are split into ``real`` and ``imag``; what is not finite
    becomes null.
    """
    return json.dumps(_plain(values), allow_nan=False)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if hasattr(value, "tolist"):  # an array of NumPy's, or one of its scalars
        if value.dtype.kind == "c":
            return {"real": _plain(value.real.tolist()), "imag": _plain(value.imag.tolist())}
        return _plain(value.tolist())
    return None if isinstance(value, float) and not math.isfinite(value) else value

"""Tables of measurements: CSV files in which a column of conductances has its unit in its name.

Only Python's csv module reads them; nothing in them is executed, and all faults are named by their lines.
"""

from __future__ import annotations

import csv
import math
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..simulator.faults import Faults

MAX_BYTES = 64 * 2**20
LONGEST_HEADER = 10_000  # characters
SCALES = {"S": 1.0, "mS": 1e-3, "uS": 1e-6, "µS": 1e-6, "μS": 1e-6, "nS": 1e-9, "pS": 1e-12}
CONDUCTANCE = f"conductance_S (or {', '.join(f'_{unit}' for unit in SCALES if unit[0] in 'munp')})"


class MeasurementError(ValueError):
    """A file of measurements that cannot be used; says where, what is wrong, and the remedy."""


@dataclass(frozen=True)
class Row:
    """One line of a table: the texts of its columns, and its ``place``, ``FILE:LINE``, for messages."""

    place: str
    line: int
    texts: dict[str, str]

    def whole(self, name: str, most: int = 10**12) -> int:
        """A column's whole number, from 0 up to ``most``."""
        value = self.texts[name]
        digits = value.removeprefix("+")
        if not (digits.isascii() and digits.isdigit() and len(digits) <= 13 and int(digits) <= most):
            limit = f" to {most}" if most < 10**12 else ""
            raise MeasurementError(f"{self.place}: {name} = {value!r}; give a whole number, from 0{limit}")
        return int(digits)

    def siemens(self, scale: float) -> float:
        """The conductance [S], its unit being ``scale`` [S]."""
        text = self.texts["conductance"]
        try:
            conductance = float(text) * scale
        except ValueError:
            conductance = math.nan
        if not 0 <= conductance <= 1:
            fault = "is negative" if conductance < 0 else "is no number of siemens from 0 to 1"
            remedy = "take the offset off" if conductance < 0 else "mind the unit in the header"
            if "," in text:
                fault, remedy = "has a comma", "write decimals with a point, and thousands without a mark"
            raise MeasurementError(f"{self.place}: conductance = {text!r} {fault}; {remedy}")
        return conductance


def read_table(
    path: str | os.PathLike[str],
    needed: Sequence[str],
    take: Callable[[Row, float], None],
    optional: Sequence[str] = (),
    most: int = 1_000_000,
) -> None:
    """Hand each row to ``take``, with the unit of the column ``conductance_UNIT`` [S].

    ``needed`` columns must be there, ``optional`` ones may be, others are ignored. They are divided by
    commas, or by what else divides the header. Raises MeasurementError, which starts with ``FILE:LINE:``
    where a line is at fault, and tells the faults of all lines, those that ``take`` raises among them.
    """
    source, faults = os.fspath(path), Faults(MeasurementError)
    try:
        size = Path(path).stat().st_size
        if size > MAX_BYTES:
            raise MeasurementError(f"{source}: has {size} bytes, over {MAX_BYTES}; give fewer at a time")
        with open(path, encoding="utf-8-sig", newline="") as file:
            separator = _separator(file.readline(LONGEST_HEADER))
            file.seek(0)
            lines = _checked(source, csv.reader(file, delimiter=separator, strict=True))
            _, header = next(lines, (0, []))
            places, scale = _columns(source, header, needed, optional)
            for count, (line, fields) in enumerate(lines, start=1):
                if count > most:
                    raise MeasurementError(f"{source}:{line}: over {most} rows; give fewer at a time")
                with faults:
                    take(_row(f"{source}:{line}", line, fields, len(header), places), scale)
    except OSError as error:
        raise MeasurementError(
            f"{source}: cannot be read ({error.strerror or error}); give a CSV file"
        ) from None
    except UnicodeDecodeError:
        raise MeasurementError(f"{source}: is not UTF-8; save it as CSV in UTF-8") from None
    faults.tell()


def _separator(header: str) -> str:
    """A comma, or what stands in a header without any: spreadsheets write semicolons where their language has
    decimal commas.
    """
    return next((mark for mark in ";\t" if mark in header and "," not in header), ",")


def _row(place: str, line: int, fields: list[str], columns: int, places: dict[str, int]) -> Row:
    if len(fields) != columns:
        remedy = "give one value for each column"
        if len(fields) > columns:
            remedy += ", and decimals with a point"
        raise MeasurementError(f"{place}: {len(fields)} fields, where the header has {columns}; {remedy}")
    return Row(place, line, {name: fields[column] for name, column in places.items()})


def _checked(source: str, lines: Iterator[list[str]]) -> Iterator[tuple[int, list[str]]]:
    """Lines that are not blank, with their numbers; what csv refuses becomes an error with its line."""
    number = 0
    while True:
        number = getattr(lines, "line_num", number) + 1
        try:
            fields = next(lines)
        except StopIteration:
            return
        except csv.Error as error:
            raise MeasurementError(f"{source}:{number}: is not CSV ({error}); save it as plain CSV") from None
        if any(field.strip() for field in fields):
            yield number, [field.strip() for field in fields]


def _columns(
    source: str, header: list[str], needed: Sequence[str], optional: Sequence[str]
) -> tuple[dict[str, int], float]:
    """Where each column is, and how many siemens the conductance's unit has."""
    names = [name.lower() for name in header]
    found = [name for name in header if name.lower().startswith("conductance")]
    extra = "".join(f", {name} (optional)" for name in optional)
    wanted = f"{', '.join(needed)}{extra}, and {CONDUCTANCE}"
    for name in needed:
        if names.count(name) != 1:
            fault = "no column" if name not in names else "two columns"
            raise MeasurementError(f"{source}:1: has {fault} {name!r}; the header needs {wanted}")
    unit = found[0][len("conductance") :].strip(" _()[]") if len(found) == 1 else ""
    if unit not in SCALES:
        fault = f"{', '.join(found) or 'no column'} where one conductance with its unit is needed"
        raise MeasurementError(f"{source}:1: has {fault}: name it {CONDUCTANCE}")
    places = {name: names.index(name) for name in (*needed, *optional) if name in names}
    return places | {"conductance": header.index(found[0])}, SCALES[unit]

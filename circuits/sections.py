"""What the sections of a design are made of: keys that know what they may hold, and their error."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import field
from typing import Any, NoReturn

from .units import Choice, Integer, Kind, Number, Range


class DesignError(ValueError):
    """A design that cannot be; ``key`` (dotted), ``source`` and ``line`` locate it.

    ``beside`` names the other key of a contradiction, which may be the only one that a file writes.
    ``others`` are further faults of the same design (:class:`DesignFaults`).
    """

    def __init__(
        self,
        problem: str,
        key: str | None = None,
        source: str | None = None,
        line: int | None = None,
        beside: str | None = None,
        others: tuple[DesignError, ...] = (),
    ) -> None:
        super().__init__(problem, key, source, line, beside, others)  # all of it, so that it can be pickled
        self.problem, self.key, self.source, self.line = problem, key, source, line
        self.beside, self.others = beside, others

    def __str__(self) -> str:
        place = ":".join(str(part) for part in (self.source, self.line) if part is not None)
        own = f"{place}: {self.problem}" if place else self.problem
        more = [f"and {len(self.others) - MOST_TOLD} more"] if len(self.others) > MOST_TOLD else []
        return "\n".join([own, *map(str, self.others[:MOST_TOLD]), *more])

    @property
    def each(self) -> list[DesignError]:
        """Its faults, one by one."""
        return [DesignError(self.problem, self.key, self.source, self.line, self.beside), *self.others]


MOST_TOLD = 20  # faults of one design, beside the first


class DesignFaults:
    """Gathers faults of one design, so that all are told at once: ``with faults:`` holds back a DesignError,
    and :meth:`tell` raises what was held back, if anything.
    """

    def __init__(self) -> None:
        self.found: list[DesignError] = []

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: object, trace: object) -> bool:
        if not isinstance(error, DesignError):
            return False
        self.found += error.each
        return True

    def tell(self) -> None:
        """Raise one DesignError of all faults."""
        if self.found:
            raise together(self.found) from None


def together(faults: Sequence[DesignError]) -> DesignError:
    """One error that lists them, in their order."""
    first, *others = faults
    return DesignError(first.problem, first.key, first.source, first.line, first.beside, tuple(others))


def key(default: Any, kind: Kind) -> Any:
    """A field of a design or a section: its default, and what it may hold."""
    return field(default=default, metadata={"kind": kind})


def number(default: float, unit: str, allowed: Range, help: str) -> Any:
    """A key that holds a real number; ``unit=""``: without dimension."""
    return key(default, Number(help, allowed, unit))


def share(default: float, allowed: Range, help: str) -> Any:
    """A key that holds a share, or a relative deviation: a plain number, or text in per cent."""
    return key(default, Number(help, allowed, share=True))


def integer(default: int | None, low: int, high: int, help: str) -> Any:
    """A key that holds an integer; a default of None reads and writes as "all"."""
    return key(default, Integer(help, low, high, everything=default is None))


def choice(help: str, *options: str) -> Any:
    """The first option is the default."""
    return key(options[0], Choice(help, options))


def kinds(spec: type[Any]) -> Iterator[tuple[str, Kind]]:
    """Name and kind of every key of a section."""
    return ((f.name, f.metadata["kind"]) for f in dataclasses.fields(spec) if "kind" in f.metadata)


#: What every key of a design holds, by its dotted name, in the order of the template. :mod:`.specs` fills it;
#: who refuses a key has it from there.
KEYS: dict[str, Kind] = {}


def check_fields(spec: Any, prefix: str) -> None:
    """Check and normalise every key of a section, whose dotted names start with ``prefix``."""
    for name, kind in kinds(type(spec)):
        value = getattr(spec, name)
        try:
            object.__setattr__(spec, name, kind.check(value))  # frozen; normalised once, here
        except ValueError as error:
            refuse(prefix + name, value, error)


def refuse(key: str, value: object, problem: object, beside: str | None = None) -> NoReturn:
    """Raise the DesignError of a key's value; ``beside`` is the other key of a contradiction."""
    text = f"{key} = {KEYS[key].display(value)}: {problem}"
    raise DesignError(text, key, beside=beside) from None


class Spec:
    """A section: each field is checked and normalised by its kind, then against the others."""

    @classmethod
    def section(cls) -> str:
        """The section's name in a file: ``ChipSpec`` is ``[chip]``."""
        return cls.__name__.removesuffix("Spec").lower()

    def __post_init__(self) -> None:
        check_fields(self, f"{self.section()}.")
        self._check_together()

    def _check_together(self) -> None:
        """Refuse what every key alone would allow."""

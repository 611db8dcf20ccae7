"""SPICE text into cards: title, comments, continuation lines, included files; and a card into its fields.

A netlist may come from anywhere, so what it can make this reader do is bounded: included files are regular
files inside the netlist's own folder (after resolving links), and size, number and depth have limits, which
an error names.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

LARGEST_TEXT = 32_000_000  # characters, all files together
LONGEST_CARD = 1_000_000  # characters of one line with its continuations
MOST_FILES = 1000  # .include and .lib cards followed
DEEPEST_INCLUDE = 16  # files that include one another
LONGEST_MESSAGE = 600  # characters of an error

_LINE_END = re.compile(r"\r\n|\n|\r")
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0e-\x1f\x7f\ufffe\uffff]")
_COMMENT = re.compile(r";|//|(?<![^\s,])\$")
_INCLUDE = re.compile(r"\.inc(?:lude)?\b\s*(.*)", re.IGNORECASE)
_LIB = re.compile(r"\.lib\b\s*(\"[^\"]*\"|'[^']*'|\S*)\s*(\S*)", re.IGNORECASE)
_ENDL = re.compile(r"\.endl\b.*", re.IGNORECASE)
_QUOTED = re.compile(r"\{[^{}]*\}|'[^']*'|\"[^\"]*\"")
_STRAY = re.compile(r"[{}'\"]")
_KEY = re.compile(r"(?<![\w.])([a-z_]\w*)\s*=(?!=)")
_PROBED_KEY = re.compile(r"v\s*\(([^()]*)\)\s*=(?!=)")
_TRAILING = re.compile(r"(\{[^{}]*\}|'[^']*'|\"[^\"]*\"|[^\s(]*[\w.])\s+(?=[\w{'\"])(.*)", re.DOTALL)
_WORD = re.compile(r"\{[^{}]*\}|'[^']*'|\"[^\"]*\"|[^\s,(){}'\"]+")


class SpiceSyntaxError(ValueError):
    """SPICE text that cannot be read: ``file``, ``line``, and what was expected there."""

    def __init__(self, file: str, line: int, message: str) -> None:
        if len(message) > LONGEST_MESSAGE:  # it quotes a name of any length
            message = f"{message[: LONGEST_MESSAGE // 2]} ... {message[-LONGEST_MESSAGE // 2 :]}"
        super().__init__(f"{file}:{line}: {message}")
        self.file, self.line, self.message = file, line, message


class SpiceLimitError(SpiceSyntaxError):
    """SPICE text that is too large to go on with."""


class Origin(NamedTuple):
    """Where something was written."""

    file: str
    line: int

    def error(self, message: str) -> SpiceSyntaxError:
        """An error to raise about this line."""
        return SpiceSyntaxError(self.file, self.line, message)

    def excess(self, message: str) -> SpiceLimitError:
        """Likewise, to be raised at once, whatever other faults there are."""
        return SpiceLimitError(self.file, self.line, message)

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


@dataclass(frozen=True)
class Card:
    """One statement: a line with its continuations, in lower case and without comments."""

    origin: Origin
    text: str


@dataclass(frozen=True)
class Fields:
    """A card taken apart: its first word, further words, and ``name=value`` settings as text."""

    origin: Origin
    name: str
    words: tuple[str, ...]
    settings: dict[str, str]
    size: int = 0  # characters of the card

    def error(self, message: str) -> SpiceSyntaxError:
        """An error to raise about this card."""
        return self.origin.error(f"{self.name}: {message}")


def fields(card: Card) -> Fields:
    """Take a card apart. Commas and parentheses separate words; values may be in ``{}`` or quotes."""
    text, masked = card.text, _masked(card)
    keys = list(_KEY.finditer(masked))
    head = text[: keys[0].start()] if keys else text
    settings = _settings(card, [(key[1], key.start(), key.end()) for key in keys])
    for key, value in settings.items():  # a flag may follow a value, as in `d1 a b model area=2 off`
        if trailing := _TRAILING.fullmatch(value):
            settings[key], head = trailing[1], f"{head} {trailing[2]}"
    words = _WORD.findall(head)
    if not words or (keys and not keys[0].start()):
        raise card.origin.error(f"{_short(text)} where a name was expected before '='")
    return Fields(card.origin, words[0], tuple(words[1:]), settings, len(text))


def without_parentheses(card: Card) -> Card:
    """The card with blanks for parentheses, but for those in formulas in braces or quotes."""
    masked = _masked(card)
    text = "".join(" " if mask in "()" else letter for letter, mask in zip(card.text, masked, strict=True))
    return Card(card.origin, text)


def node_settings(card: Card) -> dict[str, str]:
    """The settings of ``.ic v(a)=1 v(b)=2``: text by node."""
    keys = list(_PROBED_KEY.finditer(_masked(card)))
    head = card.text[: keys[0].start()] if keys else card.text
    if not keys or len(head.split()) != 1:
        raise card.origin.error(f"{_short(card.text)} where v(node)=value was expected")
    return _settings(card, [(key[1].strip(), key.start(), key.end()) for key in keys])


def _settings(card: Card, keys: list[tuple[str, int, int]]) -> dict[str, str]:
    """Values reach from one key to the next."""
    settings: dict[str, str] = {}
    ends = [*(start for _, start, _ in keys[1:]), len(card.text)]
    for (key, _, start), end in zip(keys, ends, strict=False):
        value = card.text[start:end].strip().rstrip(",").rstrip()
        if not value:
            raise card.origin.error(f"{key}= has no value; expected a number, or a formula in {{}}")
        if key in settings:
            raise card.origin.error(f"{key} is given twice")
        settings[key] = value
    return settings


def _masked(card: Card) -> str:
    """The card with blanks for all that stands in braces or quotes."""
    masked = _QUOTED.sub(lambda found: " " * len(found[0]), card.text)
    if stray := _STRAY.search(masked):
        raise card.origin.error(
            f"{stray[0]} without its partner; braces and quotes come in pairs, not nested"
        )
    return masked


def unquoted(text: str) -> str:
    """``text`` without the braces or quotes around all of it."""
    return text[1:-1] if _QUOTED.fullmatch(text) else text


def _short(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:57] + "...")


class Source:
    """The files of one netlist, read within the limits above."""

    def __init__(self, folder: Path | None) -> None:
        self.folder = None if folder is None else folder.resolve()
        self.size = self.files = 0
        self.read: dict[Path, None] = {}  # files beside the netlist itself, in order

    def cards(self, text: str, file: str) -> tuple[str, list[Card]]:
        """Title (the first line, which may be a comment) and all cards up to ``.end``."""
        title, found, body = _LINE_END.split(text, maxsplit=1)[0], _LINE_END.search(text), ""
        if found is not None:
            body = text[found.end() :]
        _check_characters(title, Origin(file, 1))
        self._count(len(title), Origin(file, 1))
        return title.lstrip("* ").strip(), list(self._cards(body, file, 2, self.folder, 0))

    def _cards(
        self, text: str, file: str, first: int, folder: Path | None, depth: int, section: str | None = None
    ) -> Iterator[Card]:
        """The cards of a file: those outside of any ``.lib SECTION … .endl``, or those of one ``section``."""
        self._count(len(text), Origin(file, first))
        inside, opened, seen = None, Origin(file, first), set[str]()
        for origin, line in _logical_lines(text, file, first):
            if re.fullmatch(r"\.end\b.*", line, re.IGNORECASE):
                break
            lib = _LIB.fullmatch(line)
            if lib and not lib[2]:
                inside, opened = _section(lib[1], origin, inside), origin
                seen.add(inside)
            elif _ENDL.fullmatch(line):
                if inside is None:
                    raise origin.error(".endl without .lib SECTION")
                inside = None
            elif inside != section:
                continue
            elif lib:
                yield from self._included(".lib", lib[1], origin, folder, depth + 1, lib[2].lower())
            elif include := _INCLUDE.fullmatch(line):
                yield from self._included(".include", include[1], origin, folder, depth + 1)
            else:
                yield Card(origin, line.lower())
        if inside is not None:
            raise opened.error(
                f".lib {_short(inside)} without .endl; to read a file: .lib FILE SECTION, or .include FILE"
            )
        if section is not None and section not in seen:
            known = ", ".join(sorted(seen)) or "none"
            raise Origin(file, 1).error(
                f"has no .lib section {_short(section)}; its sections are {_short(known)[1:-1]}"
            )

    def _included(
        self,
        word: str,
        name: str,
        origin: Origin,
        folder: Path | None,
        depth: int,
        section: str | None = None,
    ) -> Iterator[Card]:
        if not name.strip():
            raise origin.error(f"expected {word} file")
        if folder is None or self.folder is None:
            raise origin.error(f"{word} in a text without a folder: read the netlist from its file")
        if depth > DEEPEST_INCLUDE:
            raise origin.error(f"files include one another more than {DEEPEST_INCLUDE} deep")
        self.files += 1
        if self.files > MOST_FILES:
            raise origin.error(f"more than {MOST_FILES} .include cards in all")
        path = self._inside(word, unquoted(name.strip()), origin, folder)
        self.read[path] = None
        text = decoded(self._content(word, path, origin))
        yield from self._cards(text, str(path.relative_to(self.folder)), 1, path.parent, depth, section)

    def _inside(self, word: str, name: str, origin: Origin, folder: Path) -> Path:
        """The file, which must lie in the netlist's folder once links are followed."""
        assert self.folder is not None
        try:
            path = (folder / name).resolve()
            inside = path.is_relative_to(self.folder)
        except (OSError, ValueError, RuntimeError):  # too long, a zero byte, links in a circle
            raise origin.error(f"{word} {_short(name)} is no file name") from None
        if not inside:
            raise origin.error(
                f"{word} {_short(name)} leads outside of the netlist's folder; copy the file into it"
            )
        return path

    def _content(self, word: str, path: Path, origin: Origin) -> bytes:
        try:
            if not path.is_file():  # a pipe or a terminal would make us wait
                raise origin.error(f"{word}: there is no file {_short(path.name)}")
            self._count(path.stat().st_size, origin, add=False)
            return path.read_bytes()
        except OSError as error:
            raise origin.error(f"{word}: {_short(path.name)} cannot be read: {error.strerror}") from None

    def _count(self, size: int, origin: Origin, *, add: bool = True) -> None:
        if self.size + size > LARGEST_TEXT:
            raise origin.error(f"more than {LARGEST_TEXT} characters in all files together")
        self.size += size if add else 0


def _section(name: str, origin: Origin, around: str | None) -> str:
    """The section that a ``.lib NAME`` opens."""
    if not name:
        raise origin.error("expected .lib file section, or .lib section before .endl")
    if around is not None:
        raise origin.error(f".lib {_short(name)} inside of section {_short(around)}; expected .endl before")
    return unquoted(name).lower()


def decoded(content: bytes) -> str:
    """Bytes as text; what is not UTF-8, as in old comments, becomes a replacement character."""
    return content.decode("utf-8-sig", errors="replace")


def _logical_lines(text: str, file: str, first: int) -> Iterator[tuple[Origin, str]]:
    """Lines joined with their ``+`` continuations, without comments and empty lines."""
    origin, parts, length = Origin(file, first), list[str](), 0
    for number, line in enumerate(_LINE_END.split(text), first):
        here = Origin(file, number)
        _check_characters(line, here)
        line = line.strip()
        if line.startswith("*"):
            continue
        line = _COMMENT.split(line, maxsplit=1)[0].rstrip()
        if not line:
            continue
        if line.startswith("+"):
            if not parts:
                raise here.error("a continuation line ('+') with nothing before it to continue")
            parts.append(line[1:])
        else:
            if parts:
                yield origin, " ".join(parts)
            origin, parts, length = here, [line], 0
        length += len(line)
        if length > LONGEST_CARD:
            raise here.error(f"a card of more than {LONGEST_CARD} characters")
    if parts:
        yield origin, " ".join(parts)


def _check_characters(line: str, origin: Origin) -> None:
    if found := _CONTROL.search(line):
        raise origin.error(f"character {found[0]!r} in the text; expected a text file")

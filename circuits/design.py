"""Chip designs: one set of frozen dataclasses, the same from TOML and from Python.

The keys and their ranges are in :mod:`.specs`. In a file a quantity needs its unit, zero excepted. Nothing is
executed, and at most 64 KiB of a file are read.
"""

from __future__ import annotations

import dataclasses
import os
import re
import textwrap
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, overload

from .contradictions import contradictions
from .convolution import sizes
from .data_shapes import DATA
from .sections import DesignError, DesignFaults, check_fields, key, kinds, refuse, together
from .specs import (
    HEAD,
    KEYS,
    PRESETS,
    SCHEMA,
    SECTIONS,
    ChipSpec,
    ConvertersSpec,
    CornerSpec,
    DeviceSpec,
    DriftSpec,
    HomeostatSpec,
    LearningSpec,
    MismatchSpec,
    NeuronSpec,
    NoiseSpec,
    ProgrammingSpec,
    ResistiveSpec,
    TaskSpec,
    WiresSpec,
)
from .units import closest, did_you_mean, show

MAX_BYTES = 65_536
NETLISTS = (".cir", ".ckt", ".net", ".sp", ".spice")
OF_DEVICES = ("device", "programming", "mismatch", "drift", "noise")
"""Sections that say what devices are and do, whatever chip they are on."""
_SHIPPED = Path(__file__).parent / "designs"

# -- the design ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Design:
    """A chip, what it is made of and what it learns; hashable, and equal when every value is.

    Examples:
        >>> Design.named("fashion").replace("mismatch.conductance", 0.5).mismatch.conductance
        0.5

    Raises:
        DesignError: values are impossible by themselves or beside others; it lists them all.
    """

    name: str = key("my-chip", HEAD["name"])
    schema: int = key(SCHEMA, HEAD["schema"])
    chip: ChipSpec = field(default=ChipSpec())
    neuron: NeuronSpec = field(default=NeuronSpec())
    resistive: ResistiveSpec = field(default=ResistiveSpec())
    device: DeviceSpec = field(default=DeviceSpec())
    wires: WiresSpec = field(default=WiresSpec())
    programming: ProgrammingSpec = field(default=ProgrammingSpec())
    converters: ConvertersSpec = field(default=ConvertersSpec())
    mismatch: MismatchSpec = field(default=MismatchSpec())
    corner: CornerSpec = field(default=CornerSpec())
    drift: DriftSpec = field(default=DriftSpec())
    noise: NoiseSpec = field(default=NoiseSpec())
    learning: LearningSpec = field(default=LearningSpec())
    homeostat: HomeostatSpec = field(default=HomeostatSpec())
    task: TaskSpec = field(default=TaskSpec())

    def __post_init__(self) -> None:
        check_fields(self, "")
        for name, spec in SECTIONS.items():
            if not isinstance(getattr(self, name), spec):
                raise DesignError(f"{name}: must be a {spec.__name__}; see Design.from_dict", name)
        contradictions({name: getattr(self, name) for name in SECTIONS}).tell()

    @property
    def sizes(self) -> tuple[int, ...]:
        """Ports in every layer, the inputs first."""
        return sizes(self.chip.layers, DATA[self.task.data].image)

    @classmethod
    def from_toml(cls, path: str | os.PathLike[str]) -> Design:
        """Read a TOML file; a :class:`DesignError` names file, line and key."""
        return cls.from_text(_read(path), os.fspath(path))

    @classmethod
    def from_text(cls, text: str, source: str = "<string>") -> Design:
        """Read TOML text; ``source`` names it in errors."""
        written: set[str] = set()
        try:
            data = _parse(text)
            tables = {name: value for name, value in data.items() if isinstance(value, dict)}
            written = {f"{name}.{leaf}" for name, table in tables.items() for leaf in table}
            return cls(**_arguments(data, in_file=True))
        except DesignError as error:
            placed = [_placed(_defaulted(fault, written), text, source) for fault in error.each]
            raise together(sorted(placed, key=lambda fault: fault.line or 0)) from None

    @classmethod
    def named(cls, name: str) -> Design:
        """One of the designs that ship with the package, see :func:`named_designs`."""
        known = named_designs()
        if name not in known:
            problem = f"no design is named {show(name)}{did_you_mean(closest(name, known))}"
            raise DesignError(f"{problem}; there are {', '.join(known)}")
        return cls.from_toml(_SHIPPED / f"{name}.toml")

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Design:
        """The inverse of :meth:`to_dict`; keys that are left out take their defaults."""
        return cls(**_arguments(data, in_file=False))

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON-able values in SI units, section by section."""
        plain = dataclasses.asdict(self)
        plain["chip"]["layers"] = list(self.chip.layers)
        return plain

    def to_toml(self) -> str:
        """Every key as TOML with units; reading it gives back an equal design, to the last bit."""
        return _write(self, comments=False)

    @overload
    def replace(self, key: str, value: object, /) -> Design: ...
    @overload
    def replace(self, key: Mapping[str, object], /) -> Design: ...
    def replace(self, key: str | Mapping[str, object], value: object = None, /) -> Design:
        """A design with one dotted key changed, or with several that only make sense together. A new
        ``device.preset`` sets all the keys that it has values for, but those that are changed with it.

        Examples:
            >>> Design().replace({"chip.layers": [64, 32, 10], "task.data": "digits"}).chip.layers
            (64, 32, 10)
        """
        wanted = dict(key) if isinstance(key, Mapping) else {key: value}
        try:
            return dataclasses.replace(self, **self._changes(wanted))
        except DesignError as error:
            raise together([_defaulted(fault, wanted.keys()) for fault in error.each]) from None

    def _changes(self, wanted: Mapping[str, object]) -> dict[str, Any]:
        """New sections, and keys that stand before them, of changes by dotted key."""
        changes: dict[str, Any] = {}
        parts: dict[str, dict[str, Any]] = {}
        faults, strange = DesignFaults(), set[str]()
        for name, new in (_preset_values(wanted.get("device.preset")) | dict(wanted)).items():
            section, _, leaf = name.rpartition(".")
            if name in KEYS or name in SECTIONS:
                (parts.setdefault(section, {}) if section else changes)[leaf] = new
                continue
            strange.add(section)
            with faults:
                raise _unknown(name)
        sections = {name: getattr(self, name) for name in SECTIONS}
        for section, values in parts.items():
            spec = changes.pop(section, sections[section])
            with faults:
                changes[section] = dataclasses.replace(spec, **values)
        _tell(faults, sections, changes, strange | parts.keys() - changes.keys())
        return changes


def named_designs() -> tuple[str, ...]:
    """The names of the designs that ship with the package."""
    return tuple(sorted(path.stem for path in _SHIPPED.glob("*.toml")))


def load_design(spec: str | os.PathLike[str]) -> Design:
    """A shipped design by its name, or any other by its path (``./fashion`` is a file)."""
    if isinstance(spec, str) and (spec in named_designs() or not _path_like(spec)):
        return Design.named(spec)
    return Design.from_toml(spec)


def _path_like(text: str) -> bool:
    return bool(re.search(r"[/\\.]", text)) or os.path.exists(text)


def template(design: Design | None = None) -> str:
    """A design as TOML, each key with its range and reason: what a user starts from."""
    return f"{_HEAD}\n{_write(design or Design(), comments=True)}"


# -- TOML text -------------------------------------------------------------------------------------

_HEAD = """\
# A chip design. A quantity is text with a unit and any SI prefix, as in "2.5uS" or "1e-6 S".
# A share, or a relative deviation, is a plain number, or text in per cent, as in "30%".
# A key that is left out takes its default: told after its range, where another value is written.
"""
_HEADER = re.compile(r"\s*\[+\s*([A-Za-z\"'][^\]]*)\]")
_ASSIGNMENT = re.compile(r"\s*((?:[\w-]+|\"[^\"]*\"|'[^']*')(?:\s*\.\s*[\w\"'-]+)*)\s*=")


def _write(design: Design, comments: bool) -> str:
    measured = _preset_values(design.device.preset)  # which a key that is left out takes, if it is among them
    lines = _key_lines(design, "", measured, comments)
    for name, spec in SECTIONS.items():
        about = f"  # {(spec.__doc__ or '').strip()}" if comments else ""
        keys = _key_lines(getattr(design, name), f"{name}.", measured, comments)
        lines += ["", f"[{name}]{about}", *keys]
    return "\n".join(lines) + "\n"


def _key_lines(spec: Any, prefix: str, measured: Mapping[str, Any], comments: bool) -> list[str]:
    lines = []
    for name, kind in kinds(type(spec)):
        value = getattr(spec, name)
        if comments:
            default = measured.get(prefix + name, getattr(type(spec), name))
            otherwise = "" if value == default else f"; default {kind.literal(default)}"
            about = f"{kind.help} [{kind.allowed()}{otherwise}]"
            lines += textwrap.wrap(
                about, 98, initial_indent="# ", subsequent_indent="# ", break_on_hyphens=False
            )
        lines.append(f"{name} = {kind.literal(value)}")
    return lines


def _arguments(data: Mapping[str, Any], in_file: bool) -> dict[str, Any]:
    """The arguments of :class:`Design`; in a file a bare number is no quantity."""
    if not isinstance(data, Mapping):
        raise DesignError(f"{show(data)}: is not a table of sections")
    schema = data.get("schema")
    if isinstance(schema, int) and schema > SCHEMA:
        fault = f"written for a later ohmostat, this one reads schema {SCHEMA}"
        raise DesignError(f"schema = {show(schema)}: {fault}; upgrade it", "schema")
    found: dict[str, Any] = {}
    faults = DesignFaults()
    for name, value in data.items():
        with faults:
            if name not in SECTIONS:
                _check_entry(name, value, in_file)
            found[name] = _checked_section(name, value, in_file) if name in SECTIONS else value
    strange = data.keys() - found.keys()
    for dotted, value in _preset_values(found.get("device", {}).get("preset")).items():
        section, _, leaf = dotted.partition(".")
        if section not in strange:
            found.setdefault(section, {}).setdefault(leaf, value)
    arguments: dict[str, Any] = {}
    for name, value in found.items():
        with faults:
            arguments[name] = SECTIONS[name](**value) if name in SECTIONS else value
    sections = {name: spec() for name, spec in SECTIONS.items()}
    _tell(faults, sections, arguments, strange | found.keys() - arguments.keys())
    return arguments


def _tell(
    faults: DesignFaults, sections: Mapping[str, Any], changes: Mapping[str, Any], strange: Collection[str]
) -> None:
    """Raise the faults of keys, if any, and with them what the sections, once changed, contradict among
    themselves, all but the ``strange`` ones, which have the faults. Where a strange one is no section at all,
    it could have been meant for any, and nothing is told of the others.
    """
    if faults.found and all(name in SECTIONS or name in HEAD for name in strange):
        sound = {name: spec for name, spec in {**sections, **changes}.items() if name not in strange}
        known = {name: spec for name, spec in sound.items() if isinstance(spec, SECTIONS.get(name, ()))}
        faults.found += contradictions(known).found
    faults.tell()


def _checked_section(name: str, value: Any, in_file: bool) -> dict[str, Any]:
    """The entries of a section, each of which can be by itself."""
    if not isinstance(value, Mapping):
        remedy = f"write [{name}] and its keys on the lines beneath"
        raise DesignError(f"{name} = {show(value)}: is a section; {remedy}", name)
    faults = DesignFaults()
    for leaf, entry in value.items():
        with faults:
            _check_entry(f"{name}.{leaf}", entry, in_file)
    faults.tell()
    return dict(value)


def _preset_values(name: object) -> dict[str, Any]:
    """The values of a preset by dotted key; of what is none, none: the key's own check will say so."""
    if name is None or name == "none":
        return {}
    from .presets import preset_values  # deferred: few designs name one

    return preset_values(name)


def _check_entry(key: str, value: Any, in_file: bool) -> None:
    if key not in KEYS:
        raise _unknown(key)
    try:
        if in_file:
            KEYS[key].check_unit(value)
    except ValueError as error:
        raise DesignError(f"{key} = {show(value)}: {error}", key) from None
    try:
        KEYS[key].check(value)
    except ValueError as error:
        refuse(key, value, error)


def _unknown(key: str) -> DesignError:
    """Look for a slip within the section first, then for the right key under another one."""
    section, _, leaf = key.rpartition(".")
    leaves = {name: name.rpartition(".")[2] for name in (*SECTIONS, *KEYS)}
    beside = {leaves[name]: name for name in leaves if name.rpartition(".")[0] == section}
    anywhere = {leaves[name]: name for name in reversed(KEYS)}
    near = beside.get(closest(leaf, beside)) or anywhere.get(closest(leaf, anywhere), "")
    place = f"[{section}] takes" if section in SECTIONS else "a design has"
    written = key if re.fullmatch(r"[\w.-]{1,60}", key) else show(key)
    problem = f"{written}: unknown key{did_you_mean(near)}"
    return DesignError(f"{problem}; {place} {', '.join(beside or SECTIONS)}", key)


def _read(path: str | os.PathLike[str]) -> str:
    source = os.fspath(path)
    if source.lower().endswith(NETLISTS):
        fault = "is a SPICE netlist by its name, not a chip's design"
        raise DesignError(f"{fault}: 'ohmostat simulate' runs it; give a TOML file", source=source)
    try:
        with open(path, "rb") as file:
            content = file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        remedy = f"give a TOML file, or one of: {', '.join(named_designs())}"
        raise DesignError(f"cannot be read ({reason}); {remedy}", source=source) from None
    if len(content) > MAX_BYTES:
        fault = f"is larger than {MAX_BYTES // 1024} KiB, so it is not a chip design"
        raise DesignError(f"{fault}; give a TOML file", source=source)
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise DesignError("is not UTF-8; save it as UTF-8", source=source, line=line) from None


def _parse(text: str) -> dict[str, Any]:
    import tomllib  # deferred: a design made in Python reads no text

    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        reason, _, place = str(error).rstrip(")").partition(" (at ")
        found = re.match(r"line (\d+)", place)
        line = int(found[1]) if found else text.rstrip().count("\n") + 1
        written = text.split("\n")[line - 1]
        unquoted = re.search(r"=\s*([-+.\d]+(?:e[-+]?\d+)?\s*[A-Za-zµμ°%]+)\s*(#.*)?$", written)
        remedy = f'; write "{unquoted[1]}" in quotes' if unquoted else ""
        raise DesignError(f"is not valid TOML: {reason}{remedy}", line=line) from None
    except (ValueError, RecursionError):  # an integer of thousands of digits, brackets as deep
        raise DesignError("holds a number or a list too long to read; no key needs one") from None


def _placed(fault: DesignError, text: str, source: str) -> DesignError:
    line = fault.line or _line_of(text, fault.key, fault.beside)
    return DesignError(fault.problem, fault.key, source, line, fault.beside)


def _defaulted(fault: DesignError, written: Collection[str]) -> DesignError:
    """The fault, saying so where its key was not written and has its default."""
    key = fault.key or ""
    section, _, leaf = key.partition(".")
    if key in written or not leaf or key not in KEYS:
        return fault
    start = f"{key} = {KEYS[key].display(getattr(SECTIONS[section](), leaf))}"
    problem = fault.problem.replace(f"{start}: ", f"{start} (the default): ", 1)
    return DesignError(problem, fault.key, fault.source, fault.line, fault.beside)


def _line_of(text: str, key: str | None, beside: str | None) -> int | None:
    """The first line that writes ``key``, else ``beside``, else the section of ``key``.

    The text is scanned for them, since tomllib keeps no places.
    """
    section, places = "", dict[str, int]()
    for number, line in enumerate(text.split("\n"), start=1):
        if header := _HEADER.match(line):
            section = _plain(header[1])
            places.setdefault(section, number)
        elif assignment := _ASSIGNMENT.match(line):
            name = _plain(assignment[1])
            places.setdefault(f"{section}.{name}" if section else name, number)
    parent = key.rpartition(".")[0] if key else None
    return next((places[name] for name in (key, beside, parent) if name in places), None)


def _plain(path: str) -> str:
    return ".".join(part.strip().strip("\"'") for part in path.split("."))


def with_preset(design: Design, preset: str) -> Design:
    """The design with a preset's device, or that of a file such as 'ohmostat fit' writes, and the leak that
    makes its weights as large as before. Raises DesignError.

    The largest weight is ``(g_max - g_min) / leak``, so the leak follows the range of the conductances; the
    node's capacitance follows the leak, so that its pace stays.
    """
    from_file = preset not in PRESETS and _path_like(preset)
    new = design.replace(_device_of(preset) if from_file else {"device.preset": preset})
    before, after = (d.device.g_max - d.device.g_min for d in (design, new))
    if after == before:
        return new
    leak = float(f"{design.neuron.leak * after / before:.3g}")
    capacitance = float(f"{design.neuron.capacitance * leak / design.neuron.leak:.3g}")
    return new.replace({"neuron.leak": leak, "neuron.capacitance": capacitance})


def _device_of(path: str) -> dict[str, object]:
    """The keys that a file sets, all of them of a device."""
    read, sections = Design.from_toml(path), _parse(_read(path))
    for section in sections:
        if section not in OF_DEVICES:
            only = ", ".join(f"[{name}]" for name in OF_DEVICES)
            fault = "is not of a device; leave it out, or give the file as a design"
            raise DesignError(f"{section}: {fault}; a device is told by {only}", section, path)
    return {
        f"{name}.{leaf}": getattr(getattr(read, name), leaf) for name in sections for leaf in sections[name]
    }

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
from operator import attrgetter
from pathlib import Path
from typing import Any, overload

from .convolution import convolutions, sizes
from .data_shapes import DATA
from .sections import DesignError, Faults, check_fields, key, kinds, refuse, together
from .specs import (
    HEAD,
    KEYS,
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
from .units import Layers, closest, did_you_mean, show

MAX_BYTES = 65_536
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
        faults = Faults()
        for check in (self._check_task, self._check_convolutions, self._check_family, self._check_resistive):
            with faults:
                check()
        if self.device.preset != "none":
            from .presets import check_measured

            with faults:
                check_measured(self.device.preset, lambda key: attrgetter(key)(self))
        faults.tell()

    def _check_task(self) -> None:
        shape, layers = DATA[self.task.data], self.chip.layers
        data = f"task.data = {show(self.task.data)}"
        if layers[0] != shape.inputs:
            fault = f"its first layer has {layers[0]} inputs, but {data} has {shape.inputs}"
            refuse("chip.layers", layers, f"{fault}; start it with {shape.inputs}", "task.data")
        nodes = 2 if self.chip.family == "resistive" and self.resistive.outputs == "paired" else 1
        if self.learning.cost == "squared-error" and layers[-1] != nodes * shape.classes:
            outputs = "an output" if nodes == 1 else "a pair of outputs"
            fault = f"squared-error needs {outputs} for each of the {shape.classes} classes of {data}"
            remedy = 'or write learning.cost = "cross-entropy"'
            refuse("chip.layers", layers, f"{fault}; {remedy}", "learning.cost")
        for name in ("train", "test"):
            wanted, present = getattr(self.task, name), getattr(shape, name)
            if wanted is not None and present is not None and wanted > present:
                fault = f"{data} has {present} of them"
                remedy = 'ask for fewer, or write "all"'
                refuse(f"task.{name}", wanted, f"{fault}; {remedy}", "task.data")

    def _check_convolutions(self) -> None:
        layers = self.chip.layers
        if not convolutions(layers):
            return
        try:
            largest = max(self.sizes)
        except ValueError as error:
            refuse("chip.layers", layers, error, "task.data")
        if largest > Layers.largest:
            fault = f"makes a layer of {largest} neurons, and {Layers.largest} are the most"
            refuse("chip.layers", layers, f"{fault}; take a longer stride, or fewer channels", "task.data")
        if self.chip.columns == "passive" and self.chip.sharing != "replicated":
            fault = "one crossbar for all positions cannot load the nodes of each"
            remedy = 'write chip.sharing = "replicated", or, for a crossbar, chip.columns = "virtual-ground"'
            refuse("chip.columns", "passive", f"{fault}; {remedy}", "chip.sharing")
        if self.chip.columns == "passive" and any(layer.pool > 1 for layer in convolutions(layers)):
            fault = "currents of several positions are averaged by amplifiers, which passive columns have not"
            refuse(
                "chip.layers", layers, f"{fault}; leave pool out, and take a longer stride", "chip.columns"
            )
        if self.wires.resistive:
            fault = "what a convolution's crossbars do along a resistive wire is not modelled"
            name = "wires.row" if self.wires.row else "wires.column"
            refuse(name, getattr(self.wires, name[6:]), f"{fault}; set it to 0", "chip.layers")

    def _check_family(self) -> None:
        family = self.chip.family
        if family != "twin" and self.learning.angle:
            fault = {
                "shared": "one shared crossbar has no angle between its two directions",
                "loop": "no weights of a loop face each other, at any angle",
                "resistive": "a conductance is the same both ways",
            }[family]
            remedy = 'set it to 0 or write chip.family = "twin"'
            refuse("learning.angle", self.learning.angle, f"{fault}; {remedy}")
        if self.wires.resistive and self.chip.columns == "passive":
            fault = "what passive columns do along a resistive wire is not modelled"
            remedy = 'write chip.columns = "virtual-ground", or 0'
            key = "wires.row" if self.wires.row else "wires.column"
            refuse(key, getattr(self.wires, key[6:]), f"{fault}; {remedy}", "chip.columns")
        if family != "shared" and self.mismatch.driver_gain:
            fault = f"a {family} chip has no shared read drivers"
            remedy = 'set it to 0 or write chip.family = "shared"'
            refuse("mismatch.driver_gain", self.mismatch.driver_gain, f"{fault}; {remedy}")

    def _check_resistive(self) -> None:
        """What its circuit has no place for."""
        if self.chip.family != "resistive":
            return
        chip, own, mode, learning = "chip.family", self.resistive, self.homeostat.mode, self.learning
        misfits = (
            (self.chip.columns != "passive", "chip.columns", chip,
             'conductances of a resistive network load both their nodes; write "passive"'),
            (mode not in ("off", "trim"), "homeostat.mode", chip,
             'a conductance that is the same both ways leaves nothing to restore; write "off", or "trim" for '
             "its amplifiers"),
            (self.converters.reading_bits > 0, "converters.reading_bits", chip,
             "its nodes go beyond the rails that readings are converted between; write 0"),
            (own.copies == "twin" and mode == "trim", "homeostat.mode", "resistive.copies",
             'each of the two has its own amplifiers, and one alone is probed; write "off"'),
            (own.outputs == "paired" and learning.cost != "squared-error", "resistive.outputs",
             "learning.cost",
             'a readout takes all nodes as they are; write learning.cost = "squared-error", or outputs = '
             '"single"'),
            (own.copies == "twin" and learning.rule != "contrastive", "resistive.copies", "learning.rule",
             'what two networks differ by is no response; compare their powers: write learning.rule = '
             '"contrastive"'),
        )  # fmt: skip
        faults = Faults()
        for wrong, name, beside, fault in misfits:
            with faults:
                if wrong:
                    refuse(name, attrgetter(name)(self), fault, beside)
        faults.tell()

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
        faults = Faults()
        for name, new in (_preset_values(wanted.get("device.preset")) | dict(wanted)).items():
            with faults:
                if name not in KEYS and name not in SECTIONS:
                    raise _unknown(name)
                section, _, leaf = name.rpartition(".")
                (parts.setdefault(section, {}) if section else changes)[leaf] = new
        for section, values in parts.items():
            with faults:
                spec = changes.get(section, getattr(self, section))
                changes[section] = dataclasses.replace(spec, **values)
        faults.tell()
        return changes


def named_designs() -> tuple[str, ...]:
    """The names of the designs that ship with the package."""
    return tuple(sorted(path.stem for path in _SHIPPED.glob("*.toml")))


def load_design(spec: str | os.PathLike[str]) -> Design:
    """A shipped design by its name, or any other by its path (``./fashion`` is a file)."""
    if isinstance(spec, str):
        path_like = re.search(r"[/\\.]", spec) or os.path.exists(spec)
        if spec in named_designs() or not path_like:
            return Design.named(spec)
    return Design.from_toml(spec)


def template(design: Design | None = None) -> str:
    """A design as TOML, each key with its range and reason: what a user starts from."""
    return f"{_HEAD}\n{_write(design or Design(), comments=True)}"


# -- TOML text -------------------------------------------------------------------------------------

_HEAD = """\
# A chip design. A quantity is text with a unit and any SI prefix, as in "2.5uS" or "1e-6 S".
# A share, or a relative deviation, is a plain number, or text in per cent, as in "30%".
# A key that is left out takes a default of its own.
"""
_HEADER = re.compile(r"\s*\[+\s*([A-Za-z\"'][^\]]*)\]")
_ASSIGNMENT = re.compile(r"\s*((?:[\w-]+|\"[^\"]*\"|'[^']*')(?:\s*\.\s*[\w\"'-]+)*)\s*=")


def _write(design: Design, comments: bool) -> str:
    lines = _key_lines(design, comments)
    for name, spec in SECTIONS.items():
        about = f"  # {(spec.__doc__ or '').strip()}" if comments else ""
        lines += ["", f"[{name}]{about}", *_key_lines(getattr(design, name), comments)]
    return "\n".join(lines) + "\n"


def _key_lines(spec: Any, comments: bool) -> list[str]:
    lines = []
    for name, kind in kinds(type(spec)):
        if comments:
            about = f"{kind.help} [{kind.allowed()}]"
            lines += textwrap.wrap(
                about, 98, initial_indent="# ", subsequent_indent="# ", break_on_hyphens=False
            )
        lines.append(f"{name} = {kind.literal(getattr(spec, name))}")
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
    faults = Faults()
    for name, value in data.items():
        with faults:
            found[name] = _checked_section(name, value, in_file) if name in SECTIONS else value
            if name not in SECTIONS:
                _check_entry(name, value, in_file)
    faults.tell()
    preset = found.get("device", {}).get("preset")
    for dotted, value in _preset_values(preset).items():
        section, _, leaf = dotted.partition(".")
        found.setdefault(section, {}).setdefault(leaf, value)
    arguments: dict[str, Any] = {}
    for name, value in found.items():
        with faults:
            arguments[name] = SECTIONS[name](**value) if name in SECTIONS else value
    faults.tell()
    return arguments


def _checked_section(name: str, value: Any, in_file: bool) -> dict[str, Any]:
    """The entries of a section, each of which can be by itself."""
    if not isinstance(value, Mapping):
        remedy = f"write [{name}] and its keys on the lines beneath"
        raise DesignError(f"{name} = {show(value)}: is a section; {remedy}", name)
    faults = Faults()
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


def with_preset(design: Design, name: str) -> Design:
    """The design with a preset's device, and the leak that makes its weights as large as before.

    The largest weight is ``(g_max - g_min) / leak``, so the leak follows the range of the conductances; the
    node's capacitance follows the leak, so that its pace stays.
    """
    new = design.replace("device.preset", name)
    before, after = (d.device.g_max - d.device.g_min for d in (design, new))
    if after == before:
        return new
    leak = float(f"{design.neuron.leak * after / before:.3g}")
    capacitance = float(f"{design.neuron.capacitance * leak / design.neuron.leak:.3g}")
    return new.replace({"neuron.leak": leak, "neuron.capacitance": capacitance})

"""Chip designs: one set of frozen dataclasses, the same from TOML and from Python.

Each key's default, unit, range and reason stand once, in its field below; validation, messages, the
template and the TOML writer all read them there. Everything is held in SI (angles in degrees).
In Python a quantity may be an SI number or text with a unit (``DeviceSpec(g_max="20uS")``); in a
file it needs its unit, zero excepted. Nothing is executed, and at most 64 KiB of a file are read.
"""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, NoReturn, overload

from .units import (
    Choice,
    Integer,
    Kind,
    Layers,
    Number,
    Range,
    Text,
    closest,
    did_you_mean,
    positive,
    show,
)

SCHEMA = 1
MAX_BYTES = 65_536
_SHIPPED = Path(__file__).parent / "designs"


class DesignError(ValueError):
    """A design that cannot be; ``key`` (dotted), ``source`` and ``line`` locate it.

    ``beside`` names the other key of a contradiction, which may be the only one that a file writes.
    """

    def __init__(
        self,
        problem: str,
        key: str | None = None,
        source: str | None = None,
        line: int | None = None,
        beside: str | None = None,
    ) -> None:
        super().__init__(problem, key, source, line, beside)  # all of it, so that it can be pickled
        self.problem, self.key, self.source, self.line = problem, key, source, line
        self.beside = beside

    def __str__(self) -> str:
        place = ":".join(str(part) for part in (self.source, self.line) if part is not None)
        return f"{place}: {self.problem}" if place else self.problem


class DataShape(NamedTuple):
    """What a chip must fit: inputs, classes, and samples there are (None: left to the loader)."""

    inputs: int
    classes: int
    train: int | None = None
    test: int | None = None


DATA = {
    "fashion-6k": DataShape(784, 10, 6_000, 1_000),
    "digits": DataShape(64, 10),
    "mnist": DataShape(784, 10, 60_000, 10_000),
    "fashion-mnist": DataShape(784, 10, 60_000, 10_000),
}

# -- the sections ----------------------------------------------------------------------------------


def _key(default: Any, kind: Kind) -> Any:
    return field(default=default, metadata={"kind": kind})


def _number(default: float, unit: str, allowed: Range, help: str) -> Any:
    return _key(default, Number(help, allowed, unit))


def _integer(default: int | None, low: int, high: int, help: str) -> Any:
    return _key(default, Integer(help, low, high, everything=default is None))


def _choice(help: str, *options: str) -> Any:
    """The first option is the default."""
    return _key(options[0], Choice(help, options))


def _kinds(spec: type[Any]) -> Iterator[tuple[str, Kind]]:
    return ((f.name, f.metadata["kind"]) for f in dataclasses.fields(spec) if "kind" in f.metadata)


def _check_fields(spec: Any, prefix: str) -> None:
    for name, kind in _kinds(type(spec)):
        value = getattr(spec, name)
        try:
            object.__setattr__(spec, name, kind.check(value))  # frozen; normalised once, here
        except ValueError as error:
            _refuse(prefix + name, value, error)


def _refuse(key: str, value: object, problem: object, beside: str | None = None) -> NoReturn:
    text = f"{key} = {KEYS[key].display(value)}: {problem}"
    raise DesignError(text, key, beside=beside) from None


class _Spec:
    """A section: each field is checked and normalised by its kind, then against the others."""

    @classmethod
    def section(cls) -> str:
        """The section's name in a file: ``ChipSpec`` is ``[chip]``."""
        return cls.__name__.removesuffix("Spec").lower()

    def __post_init__(self) -> None:
        _check_fields(self, f"{self.section()}.")
        self._check_together()

    def _check_together(self) -> None:
        """Refuse what every key alone would allow."""


_VOLTAGE = Range(-100.0, 100.0)
_CURRENT = Range(0.0, 1.0)
_SIGMA = Range(0.0, 3.0)
_SHARE = Range(0.0, 1.0)


# A table: default, unit, range, and what it is for.
# fmt: off
@dataclass(frozen=True)
class ChipSpec(_Spec):
    """The family of the chip and the sizes of its layers."""

    family: str = _choice("twin: two separate crossbars; shared: one, read both ways",
        "twin", "shared")
    layers: tuple[int, ...] = _key((784, 256, 256, 10), Layers("neurons of each, inputs first"))
    columns: str = _choice("passive: every conductance also loads its column",
        "virtual-ground", "passive")


@dataclass(frozen=True)
class NeuronSpec(_Spec):
    """The amplifier of every neuron, and the node that it reads."""

    law: str = _choice("transfer curve from rail to rail", "logistic", "tanh", "softplus")
    low: float = _number(0.0, "V", _VOLTAGE, "output at the lower rail")
    high: float = _number(1.0, "V", _VOLTAGE, "output at the upper rail")
    gain: float = _number(1.0, "", positive(1e3), "peak slope in V/V; high ones can oscillate")
    offset: float = _number(0.5, "V", _VOLTAGE, "input at the peak slope, or at softplus's knee")
    knee: float = _number(0.05, "V", positive(10.0), "softplus only: width of its rounded knees")
    capacitance: float = _number(1e-12, "F", positive(1e-3), "of a node, for its pace")
    leak: float = _number(1e-5, "S", positive(1.0),
        "of a node to ground: what counts as a weight of 1")

    def _check_together(self) -> None:
        if self.high <= self.low:
            low = f"neuron.low = {KEYS['neuron.low'].display(self.low)}"
            _refuse("neuron.high", self.high, f"must be above {low}; part the rails", "neuron.low")

    @property
    def swing(self) -> float:
        """Rail to rail, ``high - low`` [V]."""
        return self.high - self.low

    @property
    def tau(self) -> float:
        """Time constant of an unloaded node, ``capacitance / leak`` [s]."""
        return self.capacitance / self.leak


@dataclass(frozen=True)
class DeviceSpec(_Spec):
    """The limits of every programmable conductance."""

    g_min: float = _number(1e-8, "S", Range(0.0, 1.0),
        "where a device that carries no weight rests")
    g_max: float = _number(2e-5, "S", positive(1.0), "over the leak, the largest weight")

    def _check_together(self) -> None:
        if self.g_max <= self.g_min:
            least = f"device.g_min = {KEYS['device.g_min'].display(self.g_min)}"
            remedy = "raise it or lower g_min"
            _refuse("device.g_max", self.g_max, f"must be above {least}; {remedy}", "device.g_min")


@dataclass(frozen=True)
class MismatchSpec(_Spec):
    """The spread of a chip's parts, drawn once for each chip from its seed."""

    conductance: float = _number(0.0, "", _SIGMA,
        "of a device: sd of ln g (lognormal) or relative sd")
    distribution: str = _choice("of the devices' conductances", "lognormal", "gaussian")
    programming: float = _number(0.0, "", _SIGMA, "sd of ln of a device's programming-step gain")
    amplifier_gain: float = _number(0.0, "", _SHARE, "relative sd of a neuron's gain")
    amplifier_offset: float = _number(0.0, "V", Range(0.0, 10.0), "sd of a neuron's offset")
    capacitance: float = _number(0.0, "", _SHARE, "relative sd of a node's capacitance")
    driver_gain: float = _number(0.0, "", _SHARE,
        "shared family only: relative sd of a read driver's gain")


@dataclass(frozen=True)
class LearningSpec(_Spec):
    """The rule, its nudge, and the optimiser that programs the devices."""

    rule: str = _choice("ep: what a chip can measure; adjoint: the exact gradient", "ep", "adjoint")
    estimator: str = _choice("of the response; off by O(beta^2), or O(beta) for less work",
        "centered", "one-sided")
    beta: float = _number(0.005, "", positive(100.0), "nudge, in units of leak * swing^2")
    cost: str = _choice("cross-entropy has a digital readout, so any number of outputs",
        "cross-entropy", "squared-error")
    optimizer: str = _choice("how the conductances follow the gradient", "sgd", "adam")
    rate: float = _number(0.005, "", positive(10.0), "learning rate")
    schedule: str = _choice("of the rate: constant, or falling to 0 over the epochs as a cosine",
        "cosine", "constant")
    momentum: float = _number(0.9, "", Range(0.0, 1.0, open_high=True),
        "sgd only: share kept each step")
    batch: int = _integer(50, 1, 10_000, "samples a step")
    epochs: int = _integer(4, 1, 100_000, "passes over the training data")
    angle: float = _key(0.0,
        Number("twin family only: at the start, between forward and feedback weights",
            Range(0.0, 90.0), "deg", bare=True))
    init_scale: float = _number(0.3, "", positive(100.0),
        "starting weights between neurons, over 1/sqrt(fan-in)")
    input_scale: float = _number(1.5, "", positive(100.0),
        "starting weights from the inputs, over 1/sqrt(fan-in)")
    readout_scale: float = _number(8.0, "", positive(1000.0),
        "cross-entropy: starting readout, over 1/sqrt(outputs)")
    tolerance: float = _number(1e-5, "", positive(0.1),
        "settled when within this share of full swing")
    dtype: str = _choice("float32 is faster, float64 settles finer", "float32", "float64")

    def _check_together(self) -> None:
        if self.dtype == "float32" and self.tolerance < 1e-6:
            remedy = 'raise it or write dtype = "float64"'
            _refuse("learning.tolerance", self.tolerance, f"float32 settles to 1e-6; {remedy}",
                "learning.dtype")


@dataclass(frozen=True)
class HomeostatSpec(_Spec):
    """The controller that keeps forward and feedback weights alike."""

    mode: str = _choice("probe: measure and correct; decay: weight decay instead, a control",
        "probe", "off", "decay")
    gain: float = _number(0.25, "", _SHARE,
        "share of the asymmetry by which a step moves either side; 0.5 removes all")
    probes: int = _integer(256, 1, 100_000, "measurements a step")
    scheme: str = _choice("random probes are noisy; the others are exact once complete",
        "hadamard", "one-port", "random")
    amplitude: float = _number(0.01, "V", positive(10.0), "of a probe; more of it drowns the noise")
    noise: float = _number(0.0, "A", _CURRENT, "rms of a sense amplifier")
    resolution: float = _number(0.0, "A", _CURRENT, "one step of the converter; 0 is ideal")
    every: int = _integer(1, 1, 100_000, "applied at every n-th batch")
    decay: float = _number(1e-4, "", _SHARE, "mode decay: share of the weights that a step takes")


@dataclass(frozen=True)
class TaskSpec(_Spec):
    """What is learned."""

    data: str = _choice("the first two ship with the package", *DATA)
    train: int | None = _integer(None, 1, 1_000_000, "training samples")
    test: int | None = _integer(None, 1, 1_000_000, "test samples")
    seed: int = _integer(0, 0, 2**63 - 1, "of every random draw but a chip's own")
# fmt: on


SECTIONS: dict[str, type[_Spec]] = {
    spec.section(): spec
    for spec in (
        ChipSpec, NeuronSpec, DeviceSpec, MismatchSpec, LearningSpec, HomeostatSpec, TaskSpec,
    )
}  # fmt: skip

# -- the design ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Design:
    """A chip, what it is made of and what it learns; hashable, and equal when every value is.

    Example:
        >>> Design.named("fashion").replace("mismatch.conductance", 0.5).mismatch.conductance
        0.5

    Raises:
        DesignError: a value is impossible by itself or beside another.
    """

    name: str = _key("my-chip", Text("of the design, in reports and files"))
    schema: int = _integer(SCHEMA, SCHEMA, SCHEMA, "layout of this file")
    chip: ChipSpec = ChipSpec()
    neuron: NeuronSpec = NeuronSpec()
    device: DeviceSpec = DeviceSpec()
    mismatch: MismatchSpec = MismatchSpec()
    learning: LearningSpec = LearningSpec()
    homeostat: HomeostatSpec = HomeostatSpec()
    task: TaskSpec = TaskSpec()

    def __post_init__(self) -> None:
        _check_fields(self, "")
        for name, spec in SECTIONS.items():
            if not isinstance(getattr(self, name), spec):
                raise DesignError(f"{name}: must be a {spec.__name__}; see Design.from_dict", name)
        self._check_task()
        self._check_family()

    def _check_task(self) -> None:
        shape, layers = DATA[self.task.data], self.chip.layers
        data = f"task.data = {show(self.task.data)}"
        if layers[0] != shape.inputs:
            fault = f"its first layer has {layers[0]} inputs, but {data} has {shape.inputs}"
            _refuse("chip.layers", layers, f"{fault}; start it with {shape.inputs}", "task.data")
        if self.learning.cost == "squared-error" and layers[-1] != shape.classes:
            fault = f"squared-error needs an output for each of the {shape.classes} classes of {data}"
            remedy = 'or write learning.cost = "cross-entropy"'
            _refuse("chip.layers", layers, f"{fault}; {remedy}", "learning.cost")
        for name in ("train", "test"):
            wanted, present = getattr(self.task, name), getattr(shape, name)
            if wanted is not None and present is not None and wanted > present:
                fault = f"{data} has {present} of them"
                remedy = 'ask for fewer, or write "all"'
                _refuse(f"task.{name}", wanted, f"{fault}; {remedy}", "task.data")

    def _check_family(self) -> None:
        if self.chip.family == "shared" and self.learning.angle:
            fault = "one shared crossbar has no angle between its two directions"
            remedy = 'set it to 0 or write chip.family = "twin"'
            _refuse("learning.angle", self.learning.angle, f"{fault}; {remedy}")
        if self.chip.family == "twin" and self.mismatch.driver_gain:
            fault = "a twin chip has no shared read drivers"
            remedy = 'set it to 0 or write chip.family = "shared"'
            _refuse("mismatch.driver_gain", self.mismatch.driver_gain, f"{fault}; {remedy}")

    @classmethod
    def from_toml(cls, path: str | os.PathLike[str]) -> Design:
        """Read a TOML file; a :class:`DesignError` names file, line and key."""
        return cls.from_text(_read(path), os.fspath(path))

    @classmethod
    def from_text(cls, text: str, source: str = "<string>") -> Design:
        """Read TOML text; ``source`` names it in errors."""
        try:
            return cls(**_arguments(_parse(text), in_file=True))
        except DesignError as error:
            line = error.line or _line_of(text, error.key, error.beside)
            raise DesignError(error.problem, error.key, source, line, error.beside) from None

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
        """A design with one dotted key changed, or with several that only make sense together.

        Example:
            >>> Design().replace({"chip.layers": [64, 32, 10], "task.data": "digits"}).chip.layers
            (64, 32, 10)
        """
        changes: dict[str, Any] = {}
        parts: dict[str, dict[str, Any]] = {}
        for name, new in key.items() if isinstance(key, Mapping) else [(key, value)]:
            if name not in KEYS and name not in SECTIONS:
                raise _unknown(name)
            section, _, leaf = name.rpartition(".")
            (parts.setdefault(section, {}) if section else changes)[leaf] = new
        for section, values in parts.items():
            spec = changes.get(section, getattr(self, section))
            changes[section] = dataclasses.replace(spec, **values)
        return dataclasses.replace(self, **changes)


#: What every key of a design holds, by its dotted name, in the order of the template.
KEYS: dict[str, Kind] = dict(_kinds(Design)) | {
    f"{section}.{name}": kind for section, spec in SECTIONS.items() for name, kind in _kinds(spec)
}


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
    for name, kind in _kinds(type(spec)):
        if comments:
            lines.append(f"# {kind.help} [{kind.allowed()}]")
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
    for name, value in data.items():
        if name not in SECTIONS:
            if name not in KEYS:
                raise _unknown(name)
            found[name] = value
        elif not isinstance(value, Mapping):
            remedy = f"write [{name}] and its keys on the lines beneath"
            raise DesignError(f"{name} = {show(value)}: is a section; {remedy}", name)
        else:
            for leaf, entry in value.items():
                _check_entry(f"{name}.{leaf}", entry, in_file)
            found[name] = SECTIONS[name](**value)
    return found


def _check_entry(key: str, value: Any, in_file: bool) -> None:
    if key not in KEYS:
        raise _unknown(key)
    if in_file:
        try:
            KEYS[key].check_unit(value)
        except ValueError as error:
            raise DesignError(f"{key} = {show(value)}: {error}", key) from None


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
        unquoted = re.search(r"=\s*([-+.\d]+(?:e[-+]?\d+)?\s*[A-Za-zµμ°]+)\s*(#.*)?$", written)
        remedy = f'; write "{unquoted[1]}" in quotes' if unquoted else ""
        raise DesignError(f"is not valid TOML: {reason}{remedy}", line=line) from None
    except (ValueError, RecursionError):  # an integer of thousands of digits, brackets as deep
        raise DesignError("holds a number or a list too long to read; no key needs one") from None


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

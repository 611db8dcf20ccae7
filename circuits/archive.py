"""Archives: a chip, device by device, and the run that made it, as one self-describing HDF5 file.

The layout is in ``docs/hdf5-schema.md``; a file can be read, and its checksum recomputed, with h5py
alone. Files are untrusted: the design in the file says which data sets there must be, and each is held
against that, type, shape, storage and all, before anything of its size is allocated. Nothing is executed.
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from itertools import repeat
from math import prod
from pathlib import Path

import h5py
import numpy as np

from .. import __version__
from ..simulator.blocks import Array
from .chip import Chip, DeviceArray
from .circuit import BIAS, INPUT, Bank, Circuit, CrossbarArray
from .design import MAX_BYTES, Design, MismatchSpec

SCHEMA, SCHEMA_VERSION = "ohmostat-run", 1

_PLANES = {  # by the names of DeviceArray's fields: unit and meaning
    "target": ("S", "conductance that the programmer believes it wrote"),
    "actual": ("S", "conductance that conducts"),
    "deviation": ("1", "drawn factor on conductance and limits"),
    "step": ("1", "change of conductance per commanded change"),
}
_NEURONS = {
    "gain": ("V/V", "peak slope of the amplifier"),
    "offset": ("V", "input voltage at the peak slope, or at softplus's knee"),
    "capacitance": ("F", "of the node"),
}
_ADDRESS = {
    "layer": ("1", "layer of the neuron in each place of the state, 0 the first hidden one"),
    "index": ("1", "its number within the layer"),
}
_COMPRESS_FROM = 4096  # bytes; below, the index of the chunks costs more than it saves
_FILTERS = {h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_FLETCHER32}
_MOST_EXPANSION = 1100  # deflate reaches 1032: what claims more was never stored
_MOST_OBJECTS, _MOST_DEPTH = 10_000, 6
_ANEW = "copy it again, or make it anew with 'ohmostat train'"


class ArchiveError(ValueError):
    """A file that cannot be read or written as an archive; names the file, the problem and a remedy."""


@dataclass(frozen=True, eq=False)
class Run:
    """What training leaves: a chip, its digital readout, and how it came about.

    Attributes:
        readout: ``R`` (classes, n_out) and ``c`` (classes,) of ``softmax(R s / swing + c)``, or None.
        history: one array (epochs + 1,) by name, such as ``accuracy`` or ``alignment/forward0``.
        attributes: such as rule, homeostat, command.
    """

    chip: Chip
    readout: tuple[Array, Array] | None = None
    history: Mapping[str, Array] = field(default_factory=dict)
    attributes: Mapping[str, str | int | float] = field(default_factory=dict)


def write_run(target: str | Path | h5py.Group, run: Run) -> None:
    """Write a run as a file, whole or not at all, or into an empty group of an open file.

    Equal runs give files of equal content and checksum: no times, no names of machines or folders.
    Raises ArchiveError for what could not be read back, or a place that cannot be written to.
    """
    if isinstance(target, h5py.Group):
        with _located(f"{target.file.filename}:{target.name}", "cannot be written"):
            _store(target, _tree(run))
        return
    with _located(str(target), "cannot be written"):
        tree = _tree(run)
        with atomic_write(target) as path, h5py.File(path, "w") as file:
            _store(file, tree)


def read_run(source: str | Path | h5py.Group) -> Run:
    """Read a run. Its chip settles to the same equilibria as the one written, bit for bit.

    Raises ArchiveError for anything that is not, in every part, a run of this schema.
    """
    if isinstance(source, h5py.Group):
        with _located(f"{source.file.filename}:{source.name}", "is damaged or truncated", _ANEW):
            return _load(source)
    path = Path(source)
    if path.exists() and not path.is_file():  # opening a pipe would wait for ever
        raise ArchiveError(f"{path}: is not a regular file; give one that 'ohmostat train' wrote")
    with _located(str(path), "cannot be read", "give a file that 'ohmostat train' wrote"), open(path, "rb"):
        pass
    if not h5py.is_hdf5(path):
        raise ArchiveError(f"{path}: is not an HDF5 file; give one that 'ohmostat train' wrote")
    with _located(str(path), "is damaged or truncated", _ANEW), h5py.File(path, "r") as file:
        return _load(file)


def save_chip(path: str | Path, chip: Chip, readout: tuple[Array, Array] | None = None) -> None:
    """Write a chip without a history; see :func:`write_run`."""
    write_run(path, Run(chip, readout))


def load_chip(path: str | Path) -> Chip:
    """The chip of a file that :func:`write_run` or :func:`save_chip` wrote; see :func:`read_run`."""
    return read_run(path).chip


def export_csv(chip: Chip, path: str | Path) -> None:
    """Write one line for every physical device (columns: ``docs/hdf5-schema.md``), array by array.

    Numbers are the shortest that give back the same bits in the chip's dtype.
    """
    with _located(str(path), "cannot be written"), atomic_write(path) as part:
        with open(part, "w", encoding="ascii", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(
                ["array", "banks", "tile", "row", "column", "plane", "target_S", "actual_S", "deviation",
                 "step_gain", "g_min_S", "g_max_S", "chip_seed"]
            )  # fmt: skip
            for array in chip.circuit.arrays:
                banks = "+".join(bank.name for bank in chip.circuit.banks if bank.array == array.name)
                plane, row, column = (axis.ravel().tolist() for axis in np.indices(array.shape))
                devices = chip.devices[array.name]
                fields = [getattr(devices, name).ravel().astype(str).tolist() for name in _PLANES]
                writer.writerows(
                    zip(repeat(array.name), repeat(banks), repeat("r0c0"), row, column,
                        ("+-"[p] for p in plane), *fields, *map(repeat, chip.limits), repeat(chip.seed))
                )  # fmt: skip


@contextmanager
def atomic_write(path: str | Path) -> Iterator[Path]:
    """A temporary name in the same folder; what is written there takes ``path``'s place in one step.

    It is synced, then renamed, then the folder is synced: ``path`` is at all times the old file or the
    whole new one. If the body raises, the temporary file goes. A killed process leaves it behind, as
    ``.NAME.*.part``.
    """
    target = Path(os.path.realpath(path))  # write through a link, as open() does
    if target.exists() and not target.is_file():
        raise ArchiveError(f"{path}: is not a regular file; choose another name")
    if not target.parent.is_dir():
        raise ArchiveError(f"{path}: there is no folder {target.parent}; make it, or choose another")
    part = target.with_name(f".{target.name}.{secrets.token_hex(8)}.part")
    try:
        yield part
        with open(part, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(part, target)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    if hasattr(os, "O_DIRECTORY"):
        folder = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


@contextmanager
def _located(place: str, problem: str, remedy: str = "see to the cause, or choose another place") -> Iterator[None]:
    """Errors as ArchiveErrors that name the place."""
    try:
        yield
    except ArchiveError as error:
        text = str(error)
        raise ArchiveError(text if text.startswith(place) else f"{place}: {text}") from None
    except (OSError, KeyError, ValueError, TypeError, RuntimeError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error  # HDF5 has no strerror, but a reason
        raise ArchiveError(f"{place}: {problem} ({reason}); {remedy}") from error


# -- what a run looks like in a file ---------------------------------------------------------------

_Value = str | int | float | list[str]


@dataclass
class _Entry:
    """A data set, or a group (no data), with its attributes."""

    attributes: dict[str, _Value]
    data: Array | None = None


_Tree = dict[str, _Entry]  # by path; "" is the archive itself


def _layout(circuit: Circuit) -> dict[str, tuple[tuple[int, ...], np.dtype]]:
    """Shape and dtype of every data set that an archive of ``circuit`` must hold."""
    real, count = np.dtype(circuit.design.learning.dtype), (sum(circuit.sizes),)
    layout = {f"devices/{a.name}/{name}": (a.shape, real) for a in circuit.arrays for name in _PLANES}
    layout |= {f"neurons/{name}": (count, real) for name in _NEURONS}
    layout |= {f"neurons/{name}": (count, np.dtype(np.int32)) for name in _ADDRESS}
    driven = (bank for bank in circuit.banks if bank.driven)
    return layout | {f"drivers/{bank.name}": ((circuit.sizes[bank.pre],), real) for bank in driven}


def _check(path: str, shape: tuple[int, ...] | None, dtype: np.dtype, circuit: Circuit) -> None:
    """Refuse a data set that the archive of ``circuit`` has no place for."""
    outputs, reals = circuit.sizes[-1], [np.dtype(np.float32), np.dtype(np.float64)]
    allowed, dtypes = (shape,), reals
    if path == "readout/weight":
        allowed = ((shape[0] if shape else 1, outputs),)
    elif path == "readout/bias" or path.startswith("history/"):
        allowed = ((shape[0] if shape else 1,),)
        dtypes = reals if path == "readout/bias" else reals[1:]
    elif found := _layout(circuit).get(path):
        allowed, dtypes = (found[0],), [found[1]]
    else:
        raise ArchiveError(f"holds {path!r}, which schema {SCHEMA_VERSION} does not have; take it out")
    if shape not in allowed:
        raise ArchiveError(f"{path} has shape {shape}; its design needs {allowed[0]}; {_ANEW}")
    if dtype.newbyteorder("=") not in dtypes:
        names = " or ".join(str(d) for d in dtypes)
        raise ArchiveError(f"{path} is of type {dtype}; its design needs {names}; {_ANEW}")


def _tree(run: Run) -> _Tree:
    """A run as it will be stored, checked."""
    chip = run.chip
    root = _Entry(
        {
            "schema": SCHEMA,
            "schema_version": SCHEMA_VERSION,
            "ohmostat_version": __version__,
            "design": chip.circuit.design.to_toml(),
            "chip_seed": int(chip.seed),
            "mismatch": json.dumps(asdict(chip.mismatch)),
        }
    )
    tree = {"": root, "run": _Entry({k: _plain(k, v) for k, v in run.attributes.items()})}
    for array in chip.circuit.arrays:
        tree |= _device_entries(chip, array)
    tree |= _neuron_entries(chip)
    for name, gains in chip.drivers.items():
        tree[f"drivers/{name}"] = _Entry({"units": "V/V", "meaning": "gain of each port's driver"}, gains)
    if run.readout is not None:
        text = "softmax(weight @ s / swing + bias), outside the circuit"
        for name, values in zip(("weight", "bias"), run.readout, strict=True):
            tree[f"readout/{name}"] = _Entry({"units": "1", "meaning": text}, np.asarray(values))
    for name, values in run.history.items():
        tree[f"history/{name}"] = _Entry({}, np.asarray(values))
    for path, entry in tree.items():
        if entry.data is not None:
            _check(path, entry.data.shape, entry.data.dtype, chip.circuit)
    _check_together(tree)
    root.attributes["checksum"] = _checksum(tree)
    return tree


def _device_entries(chip: Chip, array: CrossbarArray) -> _Tree:
    """The group of one array, and its planes."""
    banks = [bank for bank in chip.circuit.banks if bank.array == array.name]
    g_min, g_max = chip.limits
    group = _Entry(
        {
            "axes": ["plane", "row", "column"],
            "planes": ["g+", "g-"],
            "rows": _ports(banks[0].post),
            "columns": _ports(banks[0].pre),
            "row_layer": banks[0].post,
            "column_layer": banks[0].pre,
            "banks": [bank.name for bank in banks],
            "tile_rows": array.rows,
            "tile_columns": array.columns,
            "g_min": g_min,
            "g_max": g_max,
            "limits_units": "S",
        }
    )
    path = f"devices/{array.name}"
    tree = {path: group}
    for name, (unit, meaning) in _PLANES.items():
        data = getattr(chip.devices[array.name], name)
        tree[f"{path}/{name}"] = _Entry({"units": unit, "meaning": meaning}, data)
    return tree


def _ports(layer: int) -> str:
    named = {INPUT: "input ports", BIAS: "the bias port, at the upper rail"}
    return named.get(layer, f"neurons of layer {layer}")


def _neuron_entries(chip: Chip) -> _Tree:
    """Amplifiers and capacitors in state order, and that order."""
    layer, index = np.empty((2, chip.blocks.size), np.int32)
    for k, where in chip.blocks.slices.items():
        layer[where], index[where] = k, np.arange(where.stop - where.start)
    values = {name: getattr(chip.blocks, name) for name in _NEURONS} | {"layer": layer, "index": index}
    return {
        f"neurons/{name}": _Entry({"units": unit, "meaning": meaning}, values[name])
        for name, (unit, meaning) in (_NEURONS | _ADDRESS).items()
    }


def _plain(name: str, value: object) -> _Value:
    """An attribute as text, int or float; numpy's scalars become Python's."""
    value = value.item() if isinstance(value, np.generic) else value
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ArchiveError(f"attribute {name!r} is a {type(value).__name__}; give text, an int or a float")
    return value


def _check_together(tree: _Tree) -> None:
    """Refuse what every data set alone would allow."""
    lengths = {e.data.shape for p, e in tree.items() if p.startswith("history/") and e.data is not None}
    if len(lengths) > 1:
        raise ArchiveError("its histories differ in length; give one value an epoch for each")
    weight, bias = (tree.get(f"readout/{name}") for name in ("weight", "bias"))
    rows = [None if e is None or e.data is None else len(e.data) for e in (weight, bias)]
    if rows[0] != rows[1]:
        raise ArchiveError(f"its readout has {rows[0]} rows of weights and {rows[1]} biases; give as many")


def _checksum(tree: _Tree) -> str:
    """SHA-256 of names, attributes, dtypes, shapes and values; the recipe is in ``docs/hdf5-schema.md``."""
    digest = hashlib.sha256()
    for path in sorted(tree):
        entry = tree[path]
        left_out = () if path else ("checksum", "ohmostat_version")
        attributes = {k: v for k, v in entry.attributes.items() if k not in left_out}
        if entry.data is None and not attributes:
            continue  # a bare group says nothing
        data = None if entry.data is None else _little(entry.data)
        kind = None if data is None else [data.dtype.str, list(data.shape)]
        digest.update(json.dumps([path, attributes, kind], sort_keys=True).encode())
        if data is not None:
            digest.update(data)
    return f"sha256:{digest.hexdigest()}"


def _little(data: Array) -> Array:
    """In row-major order, little-endian: the same bytes on every machine."""
    return np.ascontiguousarray(data, data.dtype.newbyteorder("<"))


# -- HDF5 ------------------------------------------------------------------------------------------


def _store(group: h5py.Group, tree: _Tree) -> None:
    if len(group):
        raise ArchiveError("is not empty; give an empty group")
    for path, entry in sorted(tree.items()):
        if entry.data is None:
            item = group.require_group(path) if path else group
        else:
            big = entry.data.nbytes >= _COMPRESS_FROM
            packing = {"compression": "gzip", "compression_opts": 1, "shuffle": True} if big else {}
            item = group.create_dataset(path, data=_little(entry.data), **packing)
        for name, value in entry.attributes.items():
            item.attrs[name] = value


def _load(group: h5py.Group) -> Run:
    root = _attributes(group)
    _check_schema(root)
    circuit, mismatch = _circuit(root), _mismatch(root)
    tree = {"": _Entry(root)}
    for path, item in _objects(group):
        if isinstance(item, h5py.Dataset):
            _check_dataset(path, item, circuit)
            data = item[()]
            tree[path] = _Entry(_attributes(item), data.astype(data.dtype.newbyteorder("="), copy=False))
        else:
            tree[path] = _Entry(_attributes(item))
    if lacking := [path for path in _layout(circuit) if path not in tree]:
        raise ArchiveError(f"lacks {lacking[0]}, which its design needs; {_ANEW}")
    if root.get("checksum") != _checksum(tree):
        raise ArchiveError(f"its checksum does not match: it was changed after it was written; {_ANEW}")
    _check_together(tree)
    return _run(tree, circuit, mismatch)


def _check_schema(root: Mapping[str, _Value]) -> None:
    schema, version = root.get("schema"), root.get("schema_version")
    if schema != SCHEMA:
        found = f"its schema is {str(schema)[:60]!r}" if schema else "it names no schema"
        raise ArchiveError(f"is not a run of ohmostat ({found}); give one that 'ohmostat train' wrote")
    if not isinstance(version, int) or version < 1:
        raise ArchiveError(f"its schema_version is {str(version)[:60]}; it must be 1 or more; {_ANEW}")
    if version > SCHEMA_VERSION:
        fault = f"was written by a later ohmostat (schema_version {version}"
        raise ArchiveError(f"{fault}, this one reads up to {SCHEMA_VERSION}); upgrade ohmostat")


def _text(root: Mapping[str, _Value], name: str) -> str:
    value = root.get(name)
    if not isinstance(value, str) or len(value) > MAX_BYTES:
        raise ArchiveError(f"its attribute {name!r} is no text of at most {MAX_BYTES} characters; {_ANEW}")
    return value


def _circuit(root: Mapping[str, _Value]) -> Circuit:
    return Circuit(Design.from_text(_text(root, "design"), "its design"))


def _mismatch(root: Mapping[str, _Value]) -> MismatchSpec:
    if not isinstance(root.get("chip_seed"), int):
        raise ArchiveError(f"its attribute 'chip_seed' is no whole number; {_ANEW}")
    try:
        return MismatchSpec(**json.loads(_text(root, "mismatch")))
    except (ValueError, TypeError, RecursionError) as error:
        raise ArchiveError(f"its attribute 'mismatch' is none ({error}); {_ANEW}") from None


def _attributes(item: h5py.HLObject) -> dict[str, _Value]:
    """The attributes: text, int64 and float64 scalars and lists of text; anything else is refused."""
    found: dict[str, _Value] = {}
    for name in item.attrs:
        dtype, shape = item.attrs.get_id(name).dtype, item.attrs.get_id(name).shape
        is_text = h5py.check_string_dtype(dtype) is not None
        if shape is None or len(shape) > is_text or not (is_text or dtype.str in ("<i8", "<f8")):
            raise ArchiveError(f"attribute {name!r} of {item.name} is of type {dtype}, shape {shape}; take it out")
        value = item.attrs[name]
        found[name] = value.tolist() if isinstance(value, np.ndarray | np.generic) else value
    return found


def _objects(group: h5py.Group, prefix: str = "", depth: int = 1) -> Iterator[tuple[str, h5py.HLObject]]:
    """Every object below ``group`` by its path. Links that lead elsewhere, and cycles, are refused."""
    if depth > _MOST_DEPTH or len(group) > _MOST_OBJECTS:
        raise ArchiveError(f"{group.name} is nested too deep or holds too many objects; {_ANEW}")
    for name in group:
        path = f"{prefix}{name}"
        if not isinstance(group.get(name, getlink=True), h5py.HardLink):
            raise ArchiveError(f"{path!r} is a link to elsewhere; put the data there itself")
        item = group[name]
        if not isinstance(item, h5py.Group | h5py.Dataset):
            raise ArchiveError(f"{path!r} is neither a group nor a data set; take it out")
        yield path, item
        if isinstance(item, h5py.Group):
            yield from _objects(item, f"{path}/", depth + 1)


def _check_dataset(path: str, item: h5py.Dataset, circuit: Circuit) -> None:
    """Refuse a data set before it is read: type, shape, and how it is stored."""
    _check(path, item.shape, item.dtype, circuit)
    if item.is_virtual or item.external:
        raise ArchiveError(f"the data of {path} lies in another file; put it here itself")
    plan = item.id.get_create_plist()
    if not {plan.get_filter(i)[0] for i in range(plan.get_nfilters())} <= _FILTERS:
        raise ArchiveError(f"{path} is packed in a way other than gzip; repack it with h5repack -f GZIP=1")
    stored = min(item.id.get_storage_size(), item.file.id.get_filesize())
    if item.nbytes > _MOST_EXPANSION * stored or prod(item.chunks or (0,)) > item.size:
        raise ArchiveError(f"{path} claims {item.nbytes} bytes, and {stored} are stored; {_ANEW}")


# -- a chip again ----------------------------------------------------------------------------------


def _run(tree: _Tree, circuit: Circuit, mismatch: MismatchSpec) -> Run:
    data = {path: entry.data for path, entry in tree.items() if entry.data is not None}
    for path in _layout(circuit):
        positive = path.startswith("devices/") or path == "neurons/capacitance"
        if not np.isfinite(data[path]).all() or (positive and data[path].min() < 0):
            raise ArchiveError(
                f"{path} holds NaN, infinity or a negative value, as no chip can: the training diverged; "
                "lower learning.rate and train again"
            )
    devices = {
        a.name: DeviceArray(*(data[f"devices/{a.name}/{name}"] for name in _PLANES)) for a in circuit.arrays
    }
    drivers = {bank.name: data[f"drivers/{bank.name}"] for bank in circuit.banks if bank.driven}
    seed = tree[""].attributes["chip_seed"]
    chip = Chip(circuit, mismatch, int(str(seed)), devices, {}, drivers)
    _place_neurons(chip, data)
    readout = (data["readout/weight"], data["readout/bias"]) if "readout/weight" in data else None
    history = {p.removeprefix("history/"): d for p, d in data.items() if p.startswith("history/")}
    attributes = tree["run"].attributes if "run" in tree else {}
    return Run(chip, readout, history, {k: _plain(k, v) for k, v in attributes.items()})  # type: ignore[misc]


def _place_neurons(chip: Chip, data: Mapping[str, Array]) -> None:
    """Put stored neurons where this version's state order has them, by their layer and index."""
    layer, index = data["neurons/layer"], data["neurons/index"]
    for k, n in enumerate(chip.circuit.sizes):
        rows = np.flatnonzero(layer == k)
        if not np.array_equal(np.sort(index[rows]), np.arange(n)):
            raise ArchiveError(f"neurons/index does not name each neuron of layer {k} once; {_ANEW}")
        for name in _NEURONS:
            chip.blocks.layer(getattr(chip.blocks, name), k)[index[rows]] = data[f"neurons/{name}"][rows]

"""Archives: a chip, device by device, and the run that made it, as one self-describing HDF5 file.

The layout is in ``docs/hdf5-schema.md``; a file can be read, and its checksum recomputed, with h5py
alone. Files are untrusted: the design in a file says which data sets it must hold, and each is held
against that, type, shape and storage, before anything of its size is allocated. Nothing is executed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Container, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from math import prod
from pathlib import Path

import h5py
import numpy as np

from .. import __version__
from ..simulator.blocks import Array
from .chip import Chip
from .circuit import Circuit
from .design import Design
from .device_array import DeviceArray
from .families import BIAS, INPUT, CrossbarArray
from .files import ArchiveError, atomic_write, check_hdf5
from .programming import COUNTED
from .specs import MismatchSpec

SCHEMA, SCHEMA_VERSION = "ohmostat-run", 1

_PLANES = {  # the fields of DeviceArray: unit and meaning
    "target": ("S", "conductance that the programmer believes it wrote"),
    "actual": ("S", "conductance that conducts"),
    "deviation": ("1", "drawn factor on the device's conductance and limits"),
    "step": ("1", "change of conductance per commanded change"),
}
_NEURONS = {
    "gain": ("V/V", "peak slope of the amplifier"),
    "offset": ("V", "input at the peak slope, or at softplus's knee"),
    "capacitance": ("F", "of the node"),
}
_SENSES = {
    "sense_gain": ("V/V", "of the amplifier that reads the neuron's port"),
    "sense_offset": ("V", "of what that amplifier reads"),
}
_SOURCES = {
    "nudge_gain": ("A/A", "current of each output's nudge source, of what it is asked for"),
    "nudge_offset": ("A", "current of that source besides, while it is on"),
}
_ADDRESS = {
    "layer": ("1", "layer of the neuron at each place of the state, 0 being the first hidden one"),
    "index": ("1", "its number within that layer"),
}
_COMPRESS_FROM = 4096  # bytes; below, the index of the chunks costs more than it saves
_FILTERS = {h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_FLETCHER32}
_MOST_EXPANSION = 1100  # deflate reaches 1032: what claims more was never stored
_LONGEST_TEXT = 60_000  # bytes; HDF5 takes no attribute above 64 KiB
_ANEW = "copy it again, or make it anew with 'ohmostat train'"


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

    Equal runs give equal content and checksums: there are no times, and no names of machines or folders.
    Raises ArchiveError for a run that could not be read back, and for a place that cannot be written to.
    """
    tree = _tree(run)
    if isinstance(target, h5py.Group):
        _store(target, tree)
        return
    # Made in memory: on a full disk HDF5 fails while closing, and then brings the process down.
    with h5py.File("run", "w", driver="core", backing_store=False) as file:
        _store(file, tree)
        file.flush()
        image = file.id.get_file_image()
    with atomic_write(target) as path:
        path.write_bytes(image)


def read_run(source: str | Path | h5py.Group) -> Run:
    """Read a run. Its chip settles to the same equilibria as the one written, bit for bit.

    Raises ArchiveError for anything that is not, in every part, a run of this schema.
    """
    if isinstance(source, h5py.Group):
        with _reading(f"{source.file.filename}:{source.name}"):
            return _load(source)
    path = check_hdf5(source, "give one that 'ohmostat train' wrote")
    with _reading(path), h5py.File(path, "r") as file:
        return _load(file)


def save_chip(path: str | Path, chip: Chip, readout: tuple[Array, Array] | None = None) -> None:
    """Write a chip without a history; see :func:`write_run`."""
    write_run(path, Run(chip, readout))


def load_chip(path: str | Path) -> Chip:
    """The chip of a file that :func:`write_run` or :func:`save_chip` wrote; see :func:`read_run`."""
    return read_run(path).chip


# -- what a run looks like in a file ---------------------------------------------------------------

_Value = str | int | float | list[str]
_Form = tuple[tuple[int, ...], tuple[str, ...]]  # a data set's shape, -1 being any, and its dtypes


@dataclass
class _Entry:
    """A data set, or a group (no data), with its attributes."""

    attributes: dict[str, _Value]
    data: Array | None = None


_Tree = dict[str, _Entry]  # by path; "" is the archive itself


def _forms(circuit: Circuit) -> dict[str, _Form]:
    """Form of every data set that an archive of ``circuit`` must hold, and (those with a -1) may hold."""
    real, reals = (circuit.design.learning.dtype,), ("float32", "float64")
    count = (sum(circuit.sizes),)
    forms: dict[str, _Form] = {
        "history/*": ((-1,), ("float64",)),
        "readout/weight": ((-1, circuit.sizes[-1]), reals),
        "readout/bias": ((-1,), reals),
    }
    forms |= {f"devices/{a.name}/{name}": (a.shape, real) for a in circuit.arrays for name in _PLANES}
    forms |= {f"neurons/{name}": (count, real) for name in _NEURONS | _SENSES}
    forms |= {f"sources/{name}": (circuit.sizes[-1:], real) for name in _SOURCES}
    forms |= {f"neurons/{name}": (count, ("int32",)) for name in _ADDRESS}
    driven = (bank for bank in circuit.banks if bank.driven)
    return forms | {f"drivers/{bank.name}": ((circuit.sizes[bank.driving],), real) for bank in driven}


def _check(path: str, shape: tuple[int, ...] | None, dtype: np.dtype, forms: Mapping[str, _Form]) -> None:
    """Refuse a data set that has no place in the archive, or not this one."""
    form = forms.get("history/*" if path.startswith("history/") else path)
    if form is None:
        raise ArchiveError(f"{path} has no place in schema {SCHEMA_VERSION}; take it out")
    wanted, dtypes = form
    shape = () if shape is None else shape
    if len(shape) != len(wanted) or any(w not in (-1, n) for w, n in zip(wanted, shape, strict=True)):
        raise ArchiveError(f"{path} has shape {shape}; its design needs {wanted} (-1: any); {_ANEW}")
    if dtype.kind not in "fi" or dtype.newbyteorder("=").name not in dtypes:
        raise ArchiveError(f"{path} is of type {dtype}; its design needs {' or '.join(dtypes)}; {_ANEW}")


def _check_together(tree: _Tree) -> None:
    """Refuse what every data set alone would allow."""
    rows = {path: entry.data.shape[0] for path, entry in tree.items() if entry.data is not None}
    if len({n for path, n in rows.items() if path.startswith("history/")}) > 1:
        raise ArchiveError("the histories differ in length; each needs one value an epoch")
    weight, bias = (rows.get(f"readout/{name}") for name in ("weight", "bias"))
    if weight != bias:
        raise ArchiveError(f"the readout has {weight} rows of weights, {bias} biases; one needs as many")


def _tree(run: Run) -> _Tree:
    """A run as it will be stored, checked."""
    chip = run.chip
    attributes: dict[str, object] = {
        "schema": SCHEMA, "schema_version": SCHEMA_VERSION, "ohmostat_version": __version__,
        "design": chip.circuit.design.to_toml(), "chip_seed": chip.seed,
        "mismatch": json.dumps(asdict(chip.mismatch)),
    }  # fmt: skip
    if chip.since_write:
        attributes["since_write"] = chip.since_write
    attributes |= {name: getattr(chip.programmer, name) for name in COUNTED}
    tree = {"": _Entry(_scalars(attributes)), "run": _Entry(_scalars(run.attributes))}
    for array in chip.circuit.arrays:
        tree |= _device_entries(chip, array)
    tree |= _neuron_entries(chip)
    for name, (unit, meaning) in _SOURCES.items():
        values = getattr(chip.periphery, name)
        tree[f"sources/{name}"] = _Entry({"units": unit, "meaning": meaning}, values)
    for name, gains in chip.drivers.items():
        tree[f"drivers/{name}"] = _Entry({"units": "V/V", "meaning": "gain of each port's driver"}, gains)
    if run.readout is not None:
        text = "softmax(weight @ s / swing + bias), outside the circuit"
        for name, values in zip(("weight", "bias"), run.readout, strict=True):
            tree[f"readout/{name}"] = _Entry({"units": "1", "meaning": text}, np.asarray(values))
    for name, values in run.history.items():
        if {"", ".", ".."} & set(name.split("/")):
            raise ArchiveError(f"a history cannot be called {name!r}; give a name such as 'angle/forward1'")
        tree[f"history/{name}"] = _Entry({}, np.asarray(values))
    forms = _forms(chip.circuit)
    for path, entry in tree.items():
        if entry.data is not None:
            _check(path, entry.data.shape, entry.data.dtype, forms)
    _check_together(tree)
    tree[""].attributes["checksum"] = _checksum(tree)
    return tree


def _scalars(attributes: Mapping[str, object]) -> dict[str, _Value]:
    """Attributes as text, int or float; numpy's scalars become Python's."""
    found: dict[str, _Value] = {}
    for name, value in attributes.items():
        plain = value.item() if isinstance(value, np.generic) else value
        if isinstance(plain, bool) or not isinstance(plain, str | int | float):
            raise ArchiveError(f"attribute {name!r} is {plain!r:.60}; give text, an int or a float")
        if isinstance(plain, int) and not -(2**63) <= plain < 2**63:
            raise ArchiveError(f"attribute {name!r} is {plain}; it must fit into 64 bits")
        text = plain.encode(errors="replace") if isinstance(plain, str) else b""
        if isinstance(plain, str) and ("\0" in plain or plain != text.decode()):
            raise ArchiveError(f"attribute {name!r} holds a character that no UTF-8 text has; leave it out")
        if len(text) > _LONGEST_TEXT:
            raise ArchiveError(f"attribute {name!r} has {len(text)} bytes; shorten it to {_LONGEST_TEXT}")
        found[name] = plain
    return found


def _device_entries(chip: Chip, array: CrossbarArray) -> _Tree:
    """The group of one array, and its planes."""
    banks = [bank for bank in chip.circuit.banks if bank.array == array.name]
    post, pre, (g_min, g_max) = banks[0].post, banks[0].pre, chip.limits
    path = f"devices/{array.name}"
    ends = (_ports_in_words(chip, layer) for layer in (post, pre))
    rows, columns = chip.circuit.layouts[array.name].words(*ends)
    group: dict[str, _Value] = {
        "axes": ["plane", "row", "column"], "planes": [f"g{name}" for name in array.plane_names],
        "rows": rows, "row_layer": post, "columns": columns, "column_layer": pre,
        "banks": [bank.name for bank in banks], "g_min": g_min, "g_max": g_max, "limits_units": "S",
    }  # fmt: skip
    return {path: _Entry(group)} | {
        f"{path}/{name}": _Entry({"units": unit, "meaning": meaning}, getattr(chip.devices[array.name], name))
        for name, (unit, meaning) in _PLANES.items()
    }


def _ports_in_words(chip: Chip, layer: int) -> str:
    """What the ports of a layer are, the ones that are driven from outside included."""
    if layer in (INPUT, BIAS):
        return "input ports" if layer == INPUT else "the bias port, at the upper rail"
    return chip.circuit.layer_names[layer].words


def _neuron_entries(chip: Chip) -> _Tree:
    """Amplifiers and capacitors in state order, and that order."""
    layer, index = np.empty((2, chip.blocks.size), np.int32)
    for k, where in chip.blocks.slices.items():
        layer[where], index[where] = k, np.arange(where.stop - where.start)
    values = _by_neuron(chip) | {"layer": layer, "index": index}
    return {
        f"neurons/{name}": _Entry({"units": unit, "meaning": meaning}, values[name])
        for name, (unit, meaning) in (_NEURONS | _SENSES | _ADDRESS).items()
    }


def _by_neuron(chip: Chip) -> dict[str, Array]:
    """What the neurons and their sense amplifiers are, in state order; to read or to write."""
    owners = dict.fromkeys(_NEURONS, chip.blocks) | dict.fromkeys(_SENSES, chip.periphery)
    return {name: getattr(owner, name) for name, owner in owners.items()}


def _checksum(tree: _Tree) -> str:
    """SHA-256 of names, attributes, dtypes, shapes and values; the recipe is in ``docs/hdf5-schema.md``."""
    digest = hashlib.sha256()
    for path, entry in sorted(tree.items()):
        attributes = dict(entry.attributes)
        if not path:
            attributes = {k: v for k, v in attributes.items() if k not in ("checksum", "ohmostat_version")}
        if entry.data is None and not attributes:
            continue  # a bare group says nothing
        data = None if entry.data is None else _little(entry.data)
        form = None if data is None else [data.dtype.str, data.shape]
        digest.update(json.dumps([path, attributes, form], sort_keys=True).encode())
        if data is not None:
            digest.update(data.data)
    return f"sha256:{digest.hexdigest()}"


def _little(data: Array) -> Array:
    """Row by row and little-endian: the same bytes on every machine."""
    return np.ascontiguousarray(data, data.dtype.newbyteorder("<"))


# -- HDF5 ------------------------------------------------------------------------------------------


def _store(group: h5py.Group, tree: _Tree) -> None:
    if len(group):
        raise ArchiveError(f"{group.file.filename}:{group.name}: is not empty; give an empty group")
    for path, entry in sorted(tree.items()):
        if entry.data is None:
            item = group.require_group(path) if path else group
        else:
            big = entry.data.nbytes >= _COMPRESS_FROM
            packing = {"compression": "gzip", "compression_opts": 1, "shuffle": True} if big else {}
            item = group.create_dataset(path, data=_little(entry.data), **packing)
        for name, value in sorted(entry.attributes.items()):
            if isinstance(value, str | list):
                text = np.strings.encode(value, "utf-8")
                item.attrs.create(name, text, dtype=h5py.string_dtype("utf-8", max(text.itemsize, 1)))
            else:
                item.attrs[name] = value


@contextmanager
def _reading(place: object) -> Iterator[None]:
    """Errors as ArchiveErrors that name the place."""
    try:
        yield
    except ArchiveError as error:
        raise ArchiveError(f"{place}: {error}") from None
    except (OSError, LookupError, ValueError, TypeError, RuntimeError, OverflowError) as error:
        raise ArchiveError(f"{place}: is damaged or truncated ({error}); {_ANEW}") from error


def _load(group: h5py.Group) -> Run:
    _check_schema(group)
    root = _attributes(group)
    circuit, mismatch, seed = _identity(root)
    age = root.get("since_write", 0.0)
    if not isinstance(age, float) or not 0 <= age < np.inf:
        raise ArchiveError(
            f"its since_write is {age!r:.60}; it must be a finite time of 0 s or more; {_ANEW}"
        )
    tree, forms = {"": _Entry(root)}, _forms(circuit)
    for path, item in _objects(group, "", set()):
        entry = tree[path] = _Entry(_attributes(item))
        if isinstance(item, h5py.Dataset):
            _check_dataset(path, item, forms)
            entry.data = item[()].astype(item.dtype.newbyteorder("="), copy=False)
    data = {path: entry.data for path, entry in tree.items() if entry.data is not None}
    if lacking := [path for path, (shape, _) in forms.items() if -1 not in shape and path not in data]:
        raise ArchiveError(f"lacks {lacking[0]}, which its design needs; {_ANEW}")
    if root.get("checksum") != _checksum(tree):
        raise ArchiveError(f"its checksum does not match: it was changed after it was written; {_ANEW}")
    _check_together(tree)
    history = {p.removeprefix("history/"): d for p, d in data.items() if p.startswith("history/")}
    readout = (data["readout/weight"], data["readout/bias"]) if "readout/weight" in data else None
    attributes = {} if "run" not in tree else tree["run"].attributes
    scalars = {k: v for k, v in attributes.items() if not isinstance(v, list)}
    chip = _chip(data, circuit, mismatch, seed)
    chip.since_write = age
    for name in COUNTED:
        setattr(chip.programmer, name, _count(root.get(name, 0), name))  # earlier files have none
    return Run(chip, readout, history, scalars)


def _count(value: _Value, name: str) -> int:
    if not isinstance(value, int) or value < 0:
        raise ArchiveError(f"attribute {name!r} is {value!r:.60}; it must be a whole number from 0; {_ANEW}")
    return value


def _check_schema(group: h5py.Group) -> None:
    """Before all else, so that another's file is called that."""
    try:
        head = _attributes(group, ("schema", "schema_version"))
    except ArchiveError:  # in another's manner
        head = {}
    schema, version = head.get("schema"), head.get("schema_version")
    if schema != SCHEMA:
        found = f"its schema is {schema!r:.60}" if schema else "it names none of its schemas"
        raise ArchiveError(f"is not a run of ohmostat ({found}); give one that 'ohmostat train' wrote")
    if not isinstance(version, int) or version < 1:
        raise ArchiveError(f"its schema_version is {version!r:.60}; it must be 1 or more; {_ANEW}")
    if version > SCHEMA_VERSION:
        fault = f"was written by a later ohmostat, in schema_version {version}"
        raise ArchiveError(f"{fault}; this one reads up to {SCHEMA_VERSION}: upgrade it")


def _identity(root: Mapping[str, _Value]) -> tuple[Circuit, MismatchSpec, int]:
    """What the archive's attributes say that it is: circuit, mismatch and seed."""
    design, mismatch, seed = (root.get(name) for name in ("design", "mismatch", "chip_seed"))
    if not isinstance(design, str) or not isinstance(mismatch, str) or not isinstance(seed, int):
        raise ArchiveError(f"lacks design, mismatch or chip_seed, or one is of the wrong type; {_ANEW}")
    try:
        return Circuit(Design.from_text(design, "design")), MismatchSpec(**json.loads(mismatch)), seed
    except (ValueError, TypeError, RecursionError) as error:
        raise ArchiveError(f"its design or mismatch cannot be used ({error}); {_ANEW}") from error


def _attributes(item: h5py.HLObject, only: Container[str] | None = None) -> dict[str, _Value]:
    """All attributes: int64, float64, and texts of fixed length; any other is refused unread.

    Texts of variable length lie in a heap, and where that is damaged HDF5 asks for gigabytes or hangs.
    """
    found: dict[str, _Value] = {}
    for name in item.attrs:
        if only is not None and name not in only:
            continue
        dtype, shape = item.attrs.get_id(name).dtype, item.attrs.get_id(name).shape
        text = dtype.kind == "S"
        if shape is None or len(shape) > text or not (text or dtype in (np.int64, np.float64)):
            raise ArchiveError(f"attribute {name!r} of {item.name} is of type {dtype}; take it out")
        if dtype.itemsize * prod(shape) > _LONGEST_TEXT:
            raise ArchiveError(
                f"attribute {name!r} of {item.name} is above {_LONGEST_TEXT} bytes; take it out"
            )
        value = np.asarray(item.attrs[name])
        found[name] = (np.strings.decode(value, "utf-8") if text else value).tolist()
    return found


def _objects(group: h5py.Group, prefix: str, seen: set[int]) -> Iterator[tuple[str, h5py.HLObject]]:
    """Every object below ``group`` by its path, each once: links to elsewhere, or back, are refused."""
    for name in group:
        path = f"{prefix}{name}"
        if not isinstance(group.get(name, getlink=True), h5py.HardLink):
            raise ArchiveError(f"{path} is a link to elsewhere; put the data there itself")
        item = group[name]
        if not isinstance(item, h5py.Group | h5py.Dataset):
            raise ArchiveError(f"{path} is neither a group nor a data set; take it out")
        address = h5py.h5o.get_info(item.id).addr
        if address in seen:
            raise ArchiveError(f"{path} is another name of something else in the file; take it out")
        seen.add(address)
        yield path, item
        if isinstance(item, h5py.Group):
            yield from _objects(item, f"{path}/", seen)


def _check_dataset(path: str, item: h5py.Dataset, forms: Mapping[str, _Form]) -> None:
    """Refuse a data set before it is read: its form, and how it is stored."""
    _check(path, item.shape, item.dtype, forms)
    if item.is_virtual or item.external:
        raise ArchiveError(f"the data of {path} lie in another file; put them here themselves")
    plan = item.id.get_create_plist()
    if not {plan.get_filter(i)[0] for i in range(plan.get_nfilters())} <= _FILTERS:
        raise ArchiveError(f"{path} is packed in another way than gzip; repack it with h5repack -f GZIP=1")
    stored = min(item.id.get_storage_size(), item.file.id.get_filesize())
    if item.nbytes > _MOST_EXPANSION * stored or prod(item.chunks or (0,)) > max(item.size, 1):
        raise ArchiveError(f"{path} claims {item.nbytes} bytes where {stored} are stored; {_ANEW}")


# -- a chip again ----------------------------------------------------------------------------------


def _chip(data: Mapping[str, Array], circuit: Circuit, mismatch: MismatchSpec, seed: int) -> Chip:
    for path, values in data.items():
        least = 0 if path.startswith("devices/") or path == "neurons/capacitance" else -np.inf
        stays_outside = path.startswith(("readout/", "history/"))  # where NaN is a result, if a bad one
        if not stays_outside and not (np.isfinite(values).all() and values.min() >= least):
            fault = f"{path} holds a value that no chip can have: negative, infinite or none at all"
            raise ArchiveError(f"{fault}; if training diverged, lower learning.rate and train again")
    devices = {
        a.name: DeviceArray(*(data[f"devices/{a.name}/{name}"] for name in _PLANES)) for a in circuit.arrays
    }
    drivers = {bank.name: data[f"drivers/{bank.name}"] for bank in circuit.banks if bank.driven}
    chip = Chip(circuit, mismatch, seed, devices, {}, drivers)
    for name in _SOURCES:
        getattr(chip.periphery, name)[:] = data[f"sources/{name}"]
    _place_neurons(chip, data)
    return chip


def _place_neurons(chip: Chip, data: Mapping[str, Array]) -> None:
    """Put the stored neurons where this version's state order has them, by layer and index."""
    layer, index = data["neurons/layer"], data["neurons/index"]
    for k, n in enumerate(chip.circuit.sizes):
        rows = np.flatnonzero(layer == k)
        if not np.array_equal(np.sort(index[rows]), np.arange(n)):
            raise ArchiveError(f"neurons/index does not name every neuron of layer {k} once; {_ANEW}")
        for name, values in _by_neuron(chip).items():
            chip.blocks.layer(values, k)[index[rows]] = data[f"neurons/{name}"][rows]

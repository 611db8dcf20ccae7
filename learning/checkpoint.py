"""A training run, put down after an epoch and taken up again: long runs survive being killed.

What is kept is all that a run has learned or drawn; the rest comes from its design. A run that was taken up
equals one that never stopped, bit for bit.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from ..circuits.files import ArchiveError, atomic_write
from ..circuits.programming import COUNTED
from ..simulator.blocks import Array
from .points import changes
from .training import Epoch, Trainer

SCHEMA = "ohmostat-checkpoint"


def save(trainer: Trainer, path: str | Path, start: str = "") -> None:
    """Write the run as it stands, whole or not at all. Raises ArchiveError where it cannot.

    ``start``: :func:`state_of` the run as it began, for one that began with a chip which is more than its
    seed, being trained or measured already: only an equal beginning is then taken up.
    """
    import h5py

    with atomic_write(path) as part, h5py.File(part, "w") as file:
        file.attrs.update(schema=SCHEMA, identity=_identity(trainer), steps=trainer.steps, start=start)
        file.attrs.update({name: getattr(trainer.chip.programmer, name) for name in COUNTED})
        file.attrs["since_write"] = trainer.chip.since_write
        file["history"] = json.dumps([asdict(epoch) for epoch in trainer.history])
        for name, array in _arrays(trainer):
            file[name] = array
        for name, array in trainer.optimizer.state.items():
            file[f"optimizer/{name}"] = array
        if trainer.homeostat is not None:
            for name, array in trainer.homeostat.state().items():
                file[f"homeostat/{name}"] = array
        if trainer.rule.prober is not None:
            for name, array in trainer.rule.prober.state().items():
                file[f"rule/{name}"] = array


def resume(trainer: Trainer, path: str | Path) -> bool:
    """Take up what :func:`save` put down; False where there is no such file.

    ``trainer`` is new, of the same design, data and chip, and start. Raises ArchiveError for a file that is
    none of these.
    """
    import h5py

    if not Path(path).exists():
        return False
    try:
        with h5py.File(path, "r") as file:
            begun = file.attrs.get("start") or state_of(trainer)
            if file.attrs.get("identity") != _identity(trainer) or begun != state_of(trainer):
                what = _difference(file.attrs.get("identity"), trainer)
                raise ArchiveError(
                    f"{path}: is not a checkpoint of this design, chip and data ({what}): undo that to go "
                    "on, name another file, or delete this one"
                )
            _restore(trainer, file)
    except (OSError, KeyError, TypeError) as error:
        raise ArchiveError(f"{path}: cannot be read as a checkpoint ({error}); delete it") from error
    return True


def state_of(trainer: Trainer) -> str:
    """A hash of all that a run changes in place, as it stands."""
    digest = hashlib.sha256()
    for name, array in _arrays(trainer):
        digest.update(name.encode() + np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def _restore(trainer: Trainer, file: Any) -> None:
    trainer.steps = int(file.attrs["steps"])
    for name in COUNTED:
        setattr(trainer.chip.programmer, name, int(file.attrs[name]))
    trainer.chip.since_write = float(file.attrs["since_write"])
    trainer.history = [Epoch(**epoch) for epoch in json.loads(file["history"][()])]
    for name, array in _arrays(trainer):
        array[...] = file[name][()]
    trainer.chip.refresh()
    trainer.optimizer.state = _tree(file, "optimizer")
    if trainer.homeostat is not None:
        trainer.homeostat.restore(_tree(file, "homeostat"))
    if trainer.rule.prober is not None:
        trainer.rule.prober.restore(_tree(file, "rule"))


def _arrays(trainer: Trainer) -> Iterator[tuple[str, Array]]:
    """What a run changes in place, by its name in the file."""
    for name, devices in trainer.chip.devices.items():
        for field, values in vars(devices).items():  # a measured chip's deviations are not its seed's
            yield f"devices/{name}/{field}", values
    for name, gains in trainer.chip.drivers.items():
        yield f"drivers/{name}", gains
    yield "readout/weight", trainer.readout.weight
    yield "readout/bias", trainer.readout.bias


def _tree(file: Any, group: str) -> dict[str, Array]:
    """All arrays of a group, by their path in it."""
    found: dict[str, Array] = {}
    if group in file:
        file[group].visititems(
            lambda name, item: found.update({name: np.asarray(item[()])}) if hasattr(item, "shape") else None
        )
    return found


def _difference(identity: str | None, trainer: Trainer) -> str:
    """How the run of a checkpoint differs from this one."""
    if identity is None:
        return "it names none"
    design, seed, data = json.loads(identity)
    found = changes(design, trainer.design)
    if data != trainer.data.digest() and not any(key.startswith("task.") for key in found):
        found.append("the data are others")
    if seed != trainer.chip.seed:
        found.append(f"chip {seed} -> {trainer.chip.seed}")
    return ", ".join(found) or "the chip began otherwise, trained or measured"


def _identity(trainer: Trainer) -> str:
    return json.dumps([trainer.design.to_toml(), trainer.chip.seed, trainer.data.digest()])

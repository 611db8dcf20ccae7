"""Long trainings that benchmarks put down after every epoch, and what is recorded of those that ended."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from ohmostat.learning import checkpoint
from ohmostat.learning.training import Epoch, Trainer

History = dict[str, list[float]]


def train(trainer: Trainer, name: str, out: Path, told: Callable[[Epoch], str]) -> None:
    """Train to the design's epochs, from where `OUT/NAME.h5` stands; `told` says more of every epoch."""
    path = out / f"{name}.h5"
    checkpoint.resume(trainer, path)

    def keep(epoch: Epoch | None) -> None:
        if epoch is None:
            return
        checkpoint.save(trainer, path)
        history = {key: values.tolist() for key, values in trainer.history_arrays().items()}
        (out / f"{name}.json").write_text(json.dumps(history))
        error = 100 * (1 - epoch.accuracy)
        line = f"{name}  epoch {epoch.epoch:2d}  test error {error:5.2f} %  {told(epoch)}"
        print(f"{line}  {epoch.seconds:.0f} s", flush=True)

    trainer.fit(None, keep)


def histories(names: Iterable[str], out: Path, record: Path) -> Iterator[tuple[str, History]]:
    """Of every cell that OUT or the record has."""
    recorded: dict[str, History] = json.loads(record.read_text()) if record.exists() else {}
    for name in names:
        path = out / f"{name}.json"
        if path.exists():
            yield name, json.loads(path.read_text())
        elif name in recorded:
            yield name, recorded[name]


def keep(record: Path, ended: dict[str, Any]) -> None:
    """Put the histories of cells that ended into the record, a line each."""
    known: dict[str, Any] = json.loads(record.read_text()) if record.exists() else {}
    if known | ended:
        record.parent.mkdir(exist_ok=True)
        record.write_text(json.dumps(known | ended, separators=(",", ":")).replace("},", "},\n") + "\n")

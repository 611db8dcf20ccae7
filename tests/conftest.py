"""Shared by all tests."""

from __future__ import annotations

import runpy
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

# Imported before anything is collected. pytest takes the repository root, which holds an __init__.py,
# for a package named after its folder: in a checkout called `ohmostat` it would import the tree under
# that name, and the tests would run against it instead of the installed package.
import ohmostat  # noqa: F401
from ohmostat.circuits.design import Design
from ohmostat.cli import main
from ohmostat.learning import executors
from ohmostat.learning.sweep import Sweep, run_sweep


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sweeps run in threads of this process, which starts at once."""
    monkeypatch.setattr(executors, "processes", ThreadPoolExecutor)


@pytest.fixture(scope="session")
def good_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one small file of every kind that a command reads."""
    here = tmp_path_factory.mktemp("good")
    small = {"learning.epochs": 1, "task.train": 60, "task.test": 40, "chip.layers": [64, 4, 10]}
    design = Design.named("digits").replace(small)
    (here / "chip.toml").write_text(design.to_toml())
    assert main(["train", str(here / "chip.toml"), "--quiet", "--out", str(here / "run.h5")]) == 0
    audit = ["audit", str(here / "run.h5"), "--samples", "5", "--out", str(here / "audit.h5")]
    assert main([*audit, "--quiet"]) == 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(executors, "processes", ThreadPoolExecutor)
        swept = Sweep.over(design, {"mismatch.conductance": (0.0, 0.5)}, 1, ("none", "adjoint"))
        run_sweep(swept, here / "sweep.h5", workers=1)
    (here / "deck.cir").write_text("a resistor\nV1 a 0 1\nR1 a 0 1k\n.op\n")
    (here / "curves.csv").write_text("device,pulse,direction,conductance_uS\n" + "".join(curve()))
    head = "array,tile,row,column,plane,conductance_uS"
    (here / "measured.csv").write_text(f"{head}\nforward0,r0c0,0,0,+,1\n")
    return here


def curve() -> Iterator[str]:
    """Rows of one device's conductance, up by soft steps of a fiftieth and down again."""
    conductance = 1.0
    for pulse in range(120):
        up = pulse < 60
        yield f"a,{pulse},{'up' if up else 'down'},{conductance:.6f}\n"
        conductance += 0.2 * (1 - (conductance - 1) / 12) if up else -0.2 * (1 - (11 - conductance) / 12)


@pytest.fixture(scope="session")
def differences() -> Callable[[Path, Path], list[str]]:
    """Names the paths at which two HDF5 files differ, in type, shape or any bit."""
    script = Path(__file__).resolve().parents[1] / "benchmarks" / "kill_and_resume.py"
    found: Callable[[Path, Path], list[str]] = runpy.run_path(str(script))["differences"]
    return found

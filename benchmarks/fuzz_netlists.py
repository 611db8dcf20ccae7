"""What do 20,000 mutated netlists do to the reader and the analyses?

Valid netlists (`tests/simulator/circuits`) are mutated: bytes flipped, lines dropped, repeated and spliced,
numbers made huge, formulas nested, subcircuits and files made to contain each other, files outside of the
folder included. Each must end in answers to all its analyses, or in an error with file and line; within 5 s
and 1 GB of memory, and without opening any file outside of its folder. An analysis of more points, or time
steps, than a budget allows for a circuit of that size ends in such an error. Worker processes have the limits
set by the system. Exits with 1 if any netlist fails.

    python benchmarks/fuzz_netlists.py [--count 20000] [--seed 0] [--workers 2]
"""

from __future__ import annotations

import argparse
import os

os.environ["OPENBLAS_NUM_THREADS"] = "1"

import contextlib
import importlib.util
import re
import resource
import signal
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures import TimeoutError as PoolTimeoutError
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any

import numpy as np

from ohmostat.simulator.analyses import Result, run_deck
from ohmostat.simulator.deck import Deck
from ohmostat.simulator.netlist import NetlistError
from ohmostat.simulator.operating_point import ConvergenceError
from ohmostat.simulator.spice_lines import SpiceSyntaxError
from ohmostat.simulator.spice_reader import parse_spice, read_spice
from ohmostat.simulator.transient import TransientError

TESTS = Path(__file__).parents[1] / "tests" / "simulator"
SECONDS, BYTES, CHUNK = 5.0, 2**30, 50
WORK, FEWEST = 3_000, 10  # devices and steps of formulas, times points, of an analysis; points in any case
ANSWERS = ("answers", "an analysis's error with a line", "error with a line")


class TooLongError(BaseException):
    """The time limit, which no `except Exception` may swallow."""


class Worker:
    """One process: its folder, the corpus, and the files that it opened where it should not."""

    def __init__(self, folder: Path) -> None:
        self.mutations = _mutations()
        self.mutations.prepare(folder)
        self.path = folder / "inside" / "mutated.cir"
        self.corpus = self.mutations.corpus(TESTS / "circuits")
        self.opened: list[str] = []
        for text in self.corpus:  # compiles and imports all that a netlist can need
            deck = parse_spice(text.decode(), "valid.cir", self.path.parent)
            with contextlib.suppress(NetlistError, TransientError):  # of more points than allowed
                _run(deck)
        allowed = (folder / "inside", sys.prefix, sys.base_prefix, Path(__file__).parents[1])
        self.allowed = tuple(str(Path(place).resolve()) for place in allowed)
        sys.addaudithook(self.audit)
        resource.setrlimit(resource.RLIMIT_DATA, (BYTES, BYTES))
        signal.signal(signal.SIGALRM, _too_long)

    def audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open" and isinstance(arguments[0], str | bytes):
            path = os.path.realpath(os.fsdecode(arguments[0]))
            if not path.startswith(self.allowed):
                self.opened.append(path)

    def outcome(self, seed: int) -> tuple[str, float]:
        """How netlist ``seed`` ends, and the seconds it takes."""
        self.path.write_bytes(self.mutations.mutated(seed, self.corpus))
        self.opened.clear()
        start = time.perf_counter()
        signal.setitimer(signal.ITIMER_REAL, SECONDS)
        try:
            result = self.read_and_solve()
        except TooLongError:
            result = f"over {SECONDS:g} s"
        except BaseException as error:  # whatever it is, it is a finding
            result = f"{type(error).__name__}: {error}"[:200]
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0.0)
        seconds = time.perf_counter() - start
        if self.opened:
            result = f"opened {self.opened[0]}"
        elif seconds > SECONDS:
            result = f"over {SECONDS:g} s"
        return result, seconds

    def read_and_solve(self) -> str:
        try:
            results = _run(read_spice(self.path))
        except SpiceSyntaxError as error:
            place = f"{error.file}:{error.line}: "
            return ANSWERS[2] if error.line >= 1 and str(error).startswith(place) else "error without a line"
        except (NetlistError, ConvergenceError, TransientError) as error:
            located = re.match(rf"{re.escape(str(self.path.parent))}.*?:\d+: |[\w.]+:\d+: ", str(error))
            return ANSWERS[1] if located else f"error without a line: {error}"[:200]
        finite = all(np.isfinite(r.attributes.get("residual", 0.0)) for r in results.values())
        return ANSWERS[0] if finite else "a residual that is not finite"


def _run(deck: Deck) -> dict[str, Result]:
    formulas = [element.expression for element in deck.elements if element.expression is not None]
    size = len(deck.elements) + sum(len(formula.steps) for formula in formulas)
    return run_deck(deck, most_points=max(FEWEST, WORK // size))


def _too_long(number: int, frame: FrameType | None) -> None:
    raise TooLongError


def _mutations() -> ModuleType:
    spec = importlib.util.spec_from_file_location("mutations", TESTS / "mutations.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


_worker: Worker | None = None


def _start(folder: str) -> None:
    global _worker
    _worker = Worker(Path(tempfile.mkdtemp(dir=folder)))


def _chunk(seeds: list[int]) -> list[tuple[int, str, float]]:
    assert _worker is not None
    return [(seed, *_worker.outcome(seed)) for seed in seeds]


def fuzz(count: int, first: int, workers: int) -> list[tuple[int, str, float]]:
    """(seed, outcome, seconds) of every netlist."""
    chunks = [list(range(k, min(k + CHUNK, first + count))) for k in range(first, first + count, CHUNK)]
    results: list[tuple[int, str, float]] = []
    with tempfile.TemporaryDirectory(prefix="ohmostat-fuzz-") as folder:
        pool = ProcessPoolExecutor(workers, initializer=_start, initargs=(folder,))
        futures = [pool.submit(_chunk, chunk) for chunk in chunks]
        try:
            for chunk, future in zip(chunks, futures, strict=True):
                try:
                    results += future.result(timeout=600.0)
                except PoolTimeoutError:
                    results.append((chunk[0], "hangs: one of the next 50 seeds", 600.0))
                    break
                except BrokenProcessPool:
                    results.append((chunk[0], "kills its process: one of the next 50 seeds", 0.0))
                    break
        finally:
            for process in pool._processes.values():  # one that hangs would be waited for
                process.kill()
            pool.shutdown(wait=False, cancel_futures=True)
    return results


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--count", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    arguments = parser.parse_args()
    results = fuzz(arguments.count, arguments.seed, arguments.workers)
    counts = Counter(outcome if outcome in ANSWERS else "FAILED" for _, outcome, _ in results)
    for outcome, number in counts.most_common():
        print(f"{number:7d}  {outcome}")
    seed, _, slowest = max(results, key=lambda result: result[2])
    print(f"slowest: seed {seed}, {slowest:.2f} s")
    failed = [result for result in results if result[1] not in ANSWERS]
    for seed, outcome, seconds in failed[:20]:
        print(f"seed {seed} ({seconds:.2f} s): {outcome}")
    return 1 if failed or len(results) < arguments.count else 0


if __name__ == "__main__":
    sys.exit(main())

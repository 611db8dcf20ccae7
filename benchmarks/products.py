"""The products that relaxation is made of, beside NumPy's, over width and batch.

``out (m, n) = drivers (m, k) @ weights (k, n)`` in float32, on one thread, the weights as a chip keeps them
(for NumPy: in one piece). Timed in turn, in one process; medians of the rates, and of the ratio.

    python benchmarks/products.py
"""

from __future__ import annotations

import os

os.environ["OPENBLAS_NUM_THREADS"] = "1"

import time
from collections.abc import Callable

import numpy as np

from ohmostat.simulator.blocks import spaced_zeros
from ohmostat.simulator.products import multiply

SHAPES = [
    (50, 100, 100), (50, 256, 256), (50, 784, 256), (250, 784, 256), (50, 512, 512),
    (8, 1024, 1024), (50, 1024, 1024), (250, 1024, 1024), (50, 2048, 2048),
]  # fmt: skip
REPEATS, WORK = 60, 1e8  # times in turn, of so many operations each


def seconds(run: Callable[[], object], times: int) -> float:
    """Of one run, over ``times`` in a row."""
    began = time.perf_counter()
    for _ in range(times):
        run()
    return (time.perf_counter() - began) / times


def main() -> None:
    rng, dtype = np.random.default_rng(0), np.dtype(np.float32)
    print(f"{'m, k, n':>18}   own   NumPy's [GFLOP/s]   NumPy's time / own")
    for m, k, n in SHAPES:
        drivers, weights = rng.random((m, k), dtype), rng.random((k, n), dtype)
        spaced, found, expected = spaced_zeros(k, n, dtype), *np.empty((2, m, n), dtype)
        spaced[...] = weights

        def own(d: np.ndarray = drivers, w: np.ndarray = spaced, out: np.ndarray = found) -> None:
            multiply(d, w, out)

        def numpys(d: np.ndarray = drivers, w: np.ndarray = weights, out: np.ndarray = expected) -> None:
            np.matmul(d, w, out=out)

        own(), numpys()
        np.testing.assert_allclose(found, expected, rtol=1e-3)
        operations = 2.0 * m * k * n
        times = max(1, int(WORK / operations))
        both = np.array([[seconds(run, times) for run in (own, numpys)] for _ in range(REPEATS)])
        rates = operations / np.median(both, axis=0) / 1e9
        ratio = np.median(both[:, 1] / both[:, 0])
        print(f"{m:6d}, {k:4d}, {n:4d} {rates[0]:7.0f} {rates[1]:7.0f} {ratio:23.2f}")


if __name__ == "__main__":
    main()

"""How often the interval of a yield's largest level holds the true level, over simulated sweeps.

A chip fails above a level of its own, normal with mean 0.55 and standard deviation w, so that the true curve
is ``Φ((0.55 - x)/w)``; levels are evenly spaced on [0, 1]. Chips are the same at all levels, or drawn anew at
each.

    python benchmarks/yield_coverage.py [--seeds 100]
"""

from __future__ import annotations

import argparse

import numpy as np
from scipy.special import ndtri

from ohmostat.learning.yields import YieldCurve

MIDDLE, YIELDS, REPLICATES = 0.55, (0.5, 0.9, 0.95), 200
SIZES, WIDTHS = ((10, 6), (20, 6), (20, 11), (50, 6)), (0.05, 0.1, 0.2, 0.3)  # (chips, levels); w


def coverage(shared: bool, chips: int, levels: int, width: float, seeds: int) -> tuple[list[float], float]:
    """Share of seeds whose interval holds the true level, for each yield; share of sharp curves."""
    x, held, sharp = np.linspace(0, 1, levels), np.zeros(len(YIELDS)), 0
    for seed in range(seeds):
        z = np.random.default_rng(seed).standard_normal((1 if shared else levels, chips))
        passes = np.broadcast_to(x[:, None] < MIDDLE + width * z, (levels, chips))
        how = "chips" if shared else "levels"
        curve = YieldCurve.fit(x, passes, resample=how, replicates=REPLICATES, seed=seed)
        sharp += curve.sharp
        for k, share in enumerate(YIELDS):
            true = MIDDLE - width * float(ndtri(share))
            limit = curve.largest(share)
            held[k] += limit.low <= (true if true >= 0 else -np.inf) <= limit.high
    return (held / seeds).tolist(), sharp / seeds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=100)
    seeds = parser.parse_args().seeds
    print("chips   number  levels  w     sharp  held, for yields of", ", ".join(map(str, YIELDS)))
    for shared in (True, False):
        for chips, levels in SIZES:
            for width in WIDTHS:
                held, sharp = coverage(shared, chips, levels, width, seeds)
                shares = "  ".join(f"{share:.2f}" for share in held)
                name = "shared" if shared else "anew"
                print(f"{name:<8}{chips:<8}{levels:<8}{width:<6}{sharp:<7.2f}{shares}", flush=True)


if __name__ == "__main__":
    main()

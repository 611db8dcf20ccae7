"""Chebyshev's nudges against Cauchy's: error against β, at equal numbers and equal cost, and under noise.

Small networks of 12 neurons (5-4-3, coupled both ways), tanh and logistic, symmetric and asymmetric, settled
to 1e-13 of full swing; 16 networks of each kind, two samples each. Every sample has a radius of convergence ρ
of its own, found from its Taylor coefficients; β is given in units of it. Errors are relative,
``|ε - ε⁰| / |ε⁰|`` over all ports, against the linear solve, and every estimate counts, whether or not
training would leave it out. Medians over samples.

    python benchmarks/estimators.py [FIGURES]
"""

from __future__ import annotations

import json
import os

os.environ["OPENBLAS_NUM_THREADS"] = "1"

import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ohmostat.circuits.equilibrium import Equilibrium, certified, settle
from ohmostat.learning.estimators import Stencil, cauchy, centered, chebyshev, exact_response, one_sided
from ohmostat.learning.nudges import Cost, Nudge, SquaredError
from ohmostat.simulator.blocks import Array, BlockCircuit

SIZES, SAMPLES, NETWORKS, TOLERANCE = (5, 4, 3), 2, 16, 1e-13
KINDS = {
    "tanh, symmetric": ("tanh", 0.0),
    "tanh, asymmetric": ("tanh", 60.0),
    "logistic, symmetric": ("logistic", 0.0),
    "logistic, asymmetric": ("logistic", 60.0),
}
SHARES = np.geomspace(0.06, 1.5, 24)  # β/ρ
COUNTS = (2, 4, 6, 8)
NOISES = np.geomspace(1e-9, 1e-2, 15)  # of full swing
COLOURS = {2: "#000000", 4: "#0072B2", 6: "#D55E00", 8: "#009E73"}
Family = Callable[[float, int], Stencil]


@dataclass(frozen=True)
class Sample:
    """A free state, its cost, its exact response, and its radius of convergence [W]."""

    free: Equilibrium
    cost: SquaredError
    exact: Array
    radius: float

    def estimates(self, stencils: list[Stencil]) -> Array:
        """ds/dβ (stencils, N) by rules of as many nudges each, all of which relax together."""
        nodes, weights = (np.array([getattr(s, name) for s in stencils]) for name in ("nodes", "weights"))
        beta = np.array([[s.beta] for s in stencils])
        nudges = (nodes * beta).ravel()
        state = self.free.under(Nudge(self.cost, nudges, 1), nudges.size, certify=0)
        shifts = state.ports.reshape(*nodes.shape, -1) - self.free.ports
        epsilon: Array = np.einsum("sk,skn->sn", weights / beta, shifts).real
        return epsilon

    def errors(self, family: Family, count: int, shares: Array) -> Array:
        """Relative, at each β/ρ in ``shares``."""
        found = self.estimates([family(share * self.radius, count) for share in shares])
        error: Array = np.linalg.norm(found - self.exact, axis=1) / np.linalg.norm(self.exact)
        return error

    def noise(self, estimator: Stencil, sigma: float) -> float:
        """The error that read noise makes (root mean square), σ in units of full swing."""
        spread = sigma * self.free.circuit.swing * np.sqrt(self.exact.size)
        return float(spread * estimator.noise / np.linalg.norm(self.exact))


def network(law: str, angle: float, seed: int) -> BlockCircuit:
    """Loads of 1 S, weights N(0, 1/fan-in), feedback at an ``angle`` [degrees] to the transposed forward."""
    rng = np.random.default_rng(seed)
    couplings = [(k + 1, k) for k in range(2)] + [(k, k + 1) for k in range(2)]
    circuit = BlockCircuit(SIZES, couplings, np.dtype(np.float64), law, -1.0 if law == "tanh" else 0.0)
    circuit.offset[:] = 0.0 if law == "tanh" else 0.5
    turn = np.radians(angle)
    for k in range(2):
        forward, other = rng.standard_normal((2, SIZES[k + 1], SIZES[k])) / np.sqrt(SIZES[k])
        circuit.weight(k + 1, k)[...] = forward
        circuit.weight(k, k + 1)[...] = np.cos(turn) * forward.T + np.sin(turn) * other.T
    return circuit


def samples(law: str, angle: float) -> list[Sample]:
    """Those of the first networks whose free states all settle and are stable."""
    found: list[Sample] = []
    seed = 0
    while len(found) < NETWORKS * SAMPLES:
        circuit, rng = network(law, angle, seed), np.random.default_rng([seed, 1])
        seed += 1
        for _ in range(SAMPLES):
            injected = rng.standard_normal((1, circuit.size)) * circuit.swing / 2
            free = settle(circuit, injected, tolerance=TOLERANCE)
            targets = rng.uniform(circuit.low, circuit.high, (1, SIZES[-1]))
            if certified(circuit, free, None, None, None).sound.all():
                cost = SquaredError(targets, 1.0)
                found.append(Sample(free, cost, exact_response(free, cost).epsilon, radius(free, cost)))
    return found


def radius(free: Equilibrium, cost: Cost, guess: float = 0.3, points: int = 64) -> float:
    """Of convergence [W] of the ports' Taylor series in β, from the decay of its coefficients: by FFT over
    complex nudges on a circle, which is moved to 0.6 of the radius found so far, a ``guess`` at first.
    """
    found, k = guess, np.arange(8, 28)
    for _ in range(6):
        circle = 0.6 * found * np.exp(2j * np.pi * np.arange(points) / points)
        state = free.under(Nudge(cost, circle, 1), points, certify=0)
        terms = np.linalg.norm(np.fft.fft(state.ports, axis=0)[k], axis=1)
        found = 0.6 * found * float(np.exp(-np.polyfit(k, np.log(terms), 1)[0]))
    return found


def errors(group: list[Sample], family: Family, count: int, shares: Array = SHARES) -> Array:
    """(samples, shares)."""
    return np.array([s.errors(family, count, shares) for s in group])


def rivals(count: int) -> int:
    """Nudges of Cauchy's rule with as many relaxations as Chebyshev's has with ``count``."""
    return 2 * (count - 1)


def known_table(sample: Sample) -> dict[str, dict[str, str]]:
    """As that of the physics page, section 4: largest error of ds/dβ of an asymmetric tanh network."""

    def largest(stencil: Stencil) -> str:
        return f"{np.abs(sample.estimates([stencil]) - sample.exact).max():.1e}"

    return {
        f"beta {beta}": {
            "one-sided": largest(one_sided(beta)),
            "centered": largest(centered(beta)),
            "cauchy-4/6/8": " / ".join(largest(cauchy(beta, n)) for n in (4, 6, 8)),
            "chebyshev-4/6/8": " / ".join(largest(chebyshev(beta, n)) for n in (4, 6, 8)),
        }
        for beta in (0.2, 0.5, 1.0)
    }


# -- convergence -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Convergence:
    """Median errors (shares,) of one kind of network, by number of nudges."""

    chebyshev: dict[int, Array]
    cauchy: dict[int, Array]
    rival: dict[int, Array]  # Cauchy's at as many relaxations

    @classmethod
    def of(cls, group: list[Sample]) -> Convergence:
        def medians(family: Family, nudges: Callable[[int], int] = int) -> dict[int, Array]:
            return {n: np.median(errors(group, family, nudges(n)), axis=0) for n in COUNTS}

        return cls(medians(chebyshev), medians(cauchy), medians(cauchy, rivals))

    def wins_from(self, others: dict[int, Array]) -> dict[str, float]:
        """Least β/ρ from which on, up to 1, Chebyshev's error is the smaller; by its number of nudges."""
        inside = SHARES <= 1
        least = {}
        for n in COUNTS:
            lost = np.flatnonzero((self.chebyshev[n] > others[n]) & inside)
            least[f"N = {n}"] = float(round(SHARES[lost[-1] + 1 if lost.size else 0], 3))
        return least


def convergence_figure(results: dict[str, Convergence], path: Path) -> None:
    """Errors above; below, how many times Chebyshev's error Cauchy's is at as many relaxations."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 7.2), layout="constrained")
    panels = figure.subplots(2, len(results), sharex=True, sharey="row")
    for (name, result), (top, bottom) in zip(results.items(), panels.T, strict=True):
        for n in COUNTS:
            style = {"color": COLOURS[n], "linewidth": 1.4, "markersize": 4}
            top.loglog(SHARES, result.chebyshev[n], "-o", label=f"Chebyshev-{n}", **style)
            top.loglog(SHARES, result.cauchy[n], "--s", mfc="white", label=f"Cauchy-{n}", **style)
            label = f"Cauchy-{rivals(n)} : Chebyshev-{n}"
            bottom.loglog(SHARES, result.rival[n] / result.chebyshev[n], "-o", label=label, **style)
        top.set(title=name, ylim=(1e-13, 3))
        bottom.axhline(1, color="k", linewidth=0.8)
        bottom.set_xlabel("β / radius of convergence")
        for axes in (top, bottom):
            axes.axvline(1, color="k", linewidth=0.8, linestyle=":")
            axes.axvspan(SHARES[0], 0.25, color="k", alpha=0.06)
            axes.grid(alpha=0.3, linewidth=0.5)
    panels[0, 0].set_ylabel("relative error of ds/dβ (median)")
    panels[1, 0].set_ylabel("Cauchy's error over Chebyshev's,\nas many relaxations")
    for axes in panels[:, 0]:
        axes.legend(fontsize=7, frameon=False, loc="lower right")
    figure.savefig(path, dpi=130)


# -- noise and settling ----------------------------------------------------------------------------------

FAMILIES: dict[str, tuple[Family, tuple[int, ...]]] = {
    "one-sided": (lambda beta, n: one_sided(beta), (1,)),
    "centered": (lambda beta, n: centered(beta), (2,)),
    "chebyshev": (chebyshev, (2, 4, 6, 8, 10)),
    "cauchy": (cauchy, (2, 4, 6, 8, 10, 12)),
}
LINES = {"one-sided": "C7-^", "centered": "k-D", "chebyshev": "C0-o", "cauchy": "C1--s"}
FINE = np.geomspace(0.0002, 1.4, 40)  # β/ρ


@dataclass(frozen=True)
class Best:
    """At each level of noise: the least median error, and the nudges and β/ρ that reach it."""

    error: Array
    nudges: Array
    share: Array

    @classmethod
    def of(cls, totals: dict[int, Array]) -> Best:
        """From median errors (levels, shares) by number of nudges."""
        counts, grid = list(totals), np.stack(list(totals.values()))  # (counts, levels, shares)
        flat = grid.transpose(1, 0, 2).reshape(grid.shape[1], -1)
        count, share = np.unravel_index(flat.argmin(axis=1), (len(counts), grid.shape[2]))
        return cls(flat.min(axis=1), np.array(counts)[count], FINE[share])


def under_noise(group: list[Sample]) -> dict[str, Best]:
    """Bias as measured, and the noise of independent readings, added as squares."""
    best = {}
    for name, (family, counts) in FAMILIES.items():
        totals = {}
        for n in counts:
            bias = errors(group, family, n, FINE)
            unit = np.array([[s.noise(family(share * s.radius, n), 1.0) for share in FINE] for s in group])
            noisy = np.sqrt(bias**2 + (NOISES[:, None, None] * unit) ** 2)  # (levels, samples, shares)
            totals[n] = np.median(noisy, axis=1)
        best[name] = Best.of(totals)
    return best


def under_settling(group: list[Sample]) -> dict[str, Best]:
    """All phases, the free one included, settled only to each of NOISES."""
    loose = [[_resettled(s, tolerance) for s in group] for tolerance in NOISES]
    return {
        name: Best.of(
            {n: np.stack([np.median(errors(g, family, n, FINE), axis=0) for g in loose]) for n in counts}
        )
        for name, (family, counts) in FAMILIES.items()
    }


def _resettled(sample: Sample, tolerance: float) -> Sample:
    free = settle(sample.free.circuit, sample.free.injected, tolerance=tolerance)
    return replace(sample, free=free)


def noise_figure(noise: dict[str, Best], settling: dict[str, Best], path: Path) -> None:
    """Best error, and the number of nudges and β that reach it; noise above, settling below."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 7.2), layout="constrained")
    panels = figure.subplots(2, 3, sharex="row", sharey="col")
    titles = ("least relative error", "its nudges", "its β / radius of convergence")
    for row, (results, label) in enumerate(
        [(noise, "read noise σ / full swing"), (settling, "settled to a share of full swing")]
    ):
        for axes, title, quantity in zip(panels[row], titles, ("error", "nudges", "share"), strict=True):
            for name, best in results.items():
                if quantity != "nudges" or name in ("chebyshev", "cauchy"):
                    axes.plot(NOISES, getattr(best, quantity), LINES[name], label=name, markersize=4)
            axes.set(xscale="log", yscale="linear" if quantity == "nudges" else "log", xlabel=label)
            axes.set_title(title, fontsize=10)
            axes.grid(alpha=0.3, linewidth=0.5)
    panels[0, 0].legend(fontsize=8, frameon=False)
    figure.savefig(path, dpi=130)


def choice(best: Best) -> dict[str, str]:
    """Which nudges and β, at every other level of noise."""
    return {
        f"{level:.0e}": f"N = {n}, beta/rho = {share:.3f}, error {error:.0e}"
        for level, n, share, error in list(zip(NOISES, best.nudges, best.share, best.error, strict=True))[::2]
    }


def main() -> None:
    """Measure, draw and print."""
    figures = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).with_name("figures")
    groups = {name: samples(*kind) for name, kind in KINDS.items()}
    results = {name: Convergence.of(group) for name, group in groups.items()}
    convergence_figure(results, figures / "estimators-convergence.png")
    hard = groups["tanh, asymmetric"]
    noise, settling = under_noise(hard), under_settling(hard)
    noise_figure(noise, settling, figures / "estimators-noise.png")
    one = min(hard, key=lambda s: abs(s.radius - 0.85))
    stencils = [one_sided(1), centered(1), *(f(1, n) for f in (chebyshev, cauchy) for n in COUNTS)]
    report = {
        f"largest error of ds/dbeta, tanh asymmetric, rho = {one.radius:.2f}": known_table(one),
        "radius of convergence, quartiles": {
            name: np.quantile([s.radius for s in g], (0.25, 0.5, 0.75)).round(2).tolist()
            for name, g in groups.items()
        },
        "chebyshev-N beats cauchy-N from beta/rho": {k: r.wins_from(r.cauchy) for k, r in results.items()},
        "chebyshev-N beats cauchy-2(N-1) from": {k: r.wins_from(r.rival) for k, r in results.items()},
        "best under read noise": {name: choice(best) for name, best in noise.items()},
        "best under incomplete settling": {name: choice(best) for name, best in settling.items()},
        "noise of ds/dbeta, times beta": {e.name: round(e.noise, 2) for e in stencils},
    }
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()

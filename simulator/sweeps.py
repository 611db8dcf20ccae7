"""Many operating points: sources or the temperature swept and followed (``.dc``), and random deviations
(``.mc``).

A sweep starts each point from the one before, so that a circuit with several operating points is followed
along one branch until it ends, as a curve tracer would. Deviations are addressed, not drawn in turn: sample b
of device d under a seed is the same number whatever else is asked for.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtri

from .banks import NetlistError
from .devices import Array
from .lookup import branch_current, node_voltage
from .netlist import Netlist
from .operating_point import ConvergenceError, OperatingPoints, operating_point, operating_points
from .overrides import Overrides
from .structure import Structure
from .temperature import TEMPERATURE

BATCH = 1_000_000  # matrix entries solved at a time: 8 MB, and the factors as their fill has it
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
ROUNDING = 32 * np.finfo(np.float64).eps  # of the largest value: what varies less does not vary

Numbers = NDArray[np.float64]
Swept = str | tuple[str, str]  # a device (its main parameter), or (device, parameter)


# -- sweeps ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class DcCurves:
    """Operating points over one swept value, or two: voltages (inner, n) or (outer, inner, n) [V]."""

    axes: Mapping[Swept, Numbers]  # the inner one first
    nodes: tuple[str, ...]
    voltages: Array
    branches: tuple[str, ...]
    currents: Array  # (inner, m) or (outer, inner, m) [A]
    residual: float  # largest of any point [A]

    def __getitem__(self, node: str) -> Array:
        """Voltage (inner,) or (outer, inner) [V] of a node by name."""
        return node_voltage(self.nodes, self.voltages, node)

    def current(self, device: str) -> Array:
        """Current (inner,) or (outer, inner) [A] through a voltage-defined device, by name."""
        return branch_current(self.branches, self.currents, device)


def dc_sweep(
    net: Netlist, sweeps: Mapping[Swept, ArrayLike], *, initial: Mapping[str, float] | None = None
) -> DcCurves:
    """Operating points while one source or other parameter takes a list of values, in their order.

    ``sweeps`` maps a device, or (device, parameter), to its values, which may rise, fall, or do both. With
    two, the first is the inner one: the outer one is followed at the inner one's first value, and its curves
    then advance side by side. ``initial`` helps the first point (:func:`~.operating_point.operating_point`).

    Raises :class:`~.operating_point.ConvergenceError` at a point that cannot be found.
    """
    axes = {key: np.atleast_1d(np.asarray(values, np.float64)) for key, values in sweeps.items()}
    if not 1 <= len(axes) <= 2 or any(values.ndim != 1 or not values.size for values in axes.values()):
        raise NetlistError("a sweep takes one or two devices, each with a list of values")
    net.validate()
    structure = Structure(net)
    (inner, values), *rest = axes.items()
    shape: tuple[int, ...] = (1,)
    others: dict[Swept, Array] = {}
    start: Array | None = None
    for outer, outer_values in rest:
        first = _followed(structure, outer, outer_values, {inner: values[0]}, None, initial)
        others, shape = {outer: outer_values}, (len(outer_values),)
        start, initial = np.concatenate([points.x for points in first]), None
    points = _followed(structure, inner, values, others, start, initial)
    x = np.stack([p.x for p in points], axis=1).reshape(*shape[: len(rest)], len(values), structure.size)
    return DcCurves(
        axes, structure.node_names, x[..., : structure.nodes], structure.branch_names,
        x[..., structure.nodes :], max(float(p.residual.max()) for p in points),
    )  # fmt: skip


def temperature_sweep(
    at: Callable[[float], Netlist],
    sweeps: Mapping[Swept, ArrayLike],
    *,
    initial: Mapping[str, float] | None = None,
) -> DcCurves:
    """As :func:`dc_sweep`, where one of ``sweeps`` is of ``TEMPERATURE`` [°C]: ``at`` makes the same devices'
    netlist at each.

    Each temperature starts from the one before; with a source besides, from that one's first point.

    Raises :class:`~.operating_point.ConvergenceError` at a point that cannot be found, and as ``at`` does.
    """
    axes: dict[Swept, Numbers] = {
        key: np.atleast_1d(np.asarray(values, np.float64)) for key, values in sweeps.items()
    }
    source = next((key for key in axes if key != TEMPERATURE), None)
    found, start, residual = [], None, 0.0
    for celsius in axes[TEMPERATURE].tolist():
        structure = Structure(at(celsius))
        try:
            if source is None:
                points = [operating_points(structure, start=start, initial=initial).require()]
            else:
                points = _followed(structure, source, axes[source], {}, start, initial)
        except ConvergenceError as error:
            raise ConvergenceError(f"at {celsius:g} °C: {error}") from None
        found.append(np.concatenate([p.x for p in points]))
        start, initial = points[0].x, None
        residual = max(residual, *(float(p.residual.max()) for p in points))
    x = np.stack(found)  # (temperatures, values of the source or 1, size)
    x = x[:, 0] if source is None else x.swapaxes(0, 1) if next(iter(axes)) == TEMPERATURE else x
    return DcCurves(
        axes, structure.node_names, x[..., : structure.nodes], structure.branch_names,
        x[..., structure.nodes :], residual,
    )  # fmt: skip


def _followed(
    structure: Structure, key: Swept, values: Numbers, others: Overrides, start: Array | None,
    initial: Mapping[str, float] | None,
) -> list[OperatingPoints]:  # fmt: skip
    """Operating points (of a batch) at each of the values, each started from the one before."""
    found: list[OperatingPoints] = []
    for value in values:
        points = operating_points(structure, {**others, key: value}, start=start, initial=initial).require()
        found.append(points)
        start, initial = points.x, None
    return found


# -- Monte Carlo -----------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class MonteCarloPoints:
    """Operating points of B samples; those not found are NaN, and left out of the statistics."""

    nodes: tuple[str, ...]
    voltages: Array  # (B, n) [V]
    branches: tuple[str, ...]
    currents: Array  # (B, m) [A]
    residual: Array  # (B,) [A]
    errors: Mapping[int, str]  # by sample: what is wrong where none was found

    def __len__(self) -> int:
        """Number of samples."""
        return len(self.voltages)

    @property
    def converged(self) -> NDArray[np.bool_]:
        """Samples (B,) whose operating point was found."""
        return np.asarray(~np.isnan(self.voltages).any(axis=1))

    def __getitem__(self, node: str) -> Array:
        """Voltages (B,) [V] of a node by name."""
        return node_voltage(self.nodes, self.voltages, node)

    def current(self, device: str) -> Array:
        """Currents (B,) [A] through a voltage-defined device, by name."""
        return branch_current(self.branches, self.currents, device)

    def statistics(self, quantiles: Sequence[float] = QUANTILES) -> dict[str, Array]:
        """``mean``, ``sd`` (of a sample), ``min``, ``max`` and quantiles ``q5`` … of each voltage (n,).

        The ``sd`` of what a source holds, and so varies by rounding at most, is 0.
        """
        return self._statistics(self.voltages, quantiles)

    def current_statistics(self, quantiles: Sequence[float] = QUANTILES) -> dict[str, Array]:
        """The same of each branch current (m,)."""
        return self._statistics(self.currents, quantiles)

    def _statistics(self, values: Array, quantiles: Sequence[float]) -> dict[str, Array]:
        of = values[self.converged]
        if not len(of):
            raise NetlistError(f"no sample converged; the first: {next(iter(self.errors.values()))}")
        middle = np.median(of, axis=0)  # about which sums are exact where a source holds the value
        sd = (of - middle).std(axis=0, ddof=1) if len(of) > 1 else np.zeros(of.shape[1])
        sd[np.ptp(of, axis=0) <= ROUNDING * np.abs(of).max(initial=0.0)] = 0.0
        mean = middle + (of - middle).mean(axis=0)
        table = {"mean": mean, "sd": sd, "min": of.min(axis=0), "max": of.max(axis=0)}
        return table | {f"q{100 * q:g}": np.quantile(of, q, axis=0) for q in quantiles}


def monte_carlo(
    net: Netlist, mismatch: Mapping[str, float], samples: int, *, seed: int = 0,
    initial: Mapping[str, float] | None = None, threads: int = 1,
) -> MonteCarloPoints:  # fmt: skip
    """Operating points of ``samples`` circuits whose devices deviate at random from the netlist's.

    ``mismatch`` gives, by device, the standard deviation of the logarithm of its main parameter: the value is
    multiplied by ``exp(sigma z)``, median 1. Each sample starts from the netlist's own operating point, which
    ``initial`` helps to find. Memory: the result, and some 50 MB, more where factors fill in.
    """
    if samples < 1:
        raise NetlistError(f"samples is {samples}; give at least 1")
    _check_mismatch(net, mismatch)
    net.validate()
    structure = Structure(net)
    nominal = operating_point(structure, initial=initial)
    step = max(1, BATCH // max(1, structure.pattern.nnz))
    parts = []
    for first in range(0, samples, step):
        count = min(step, samples - first)
        at = _deviating(net, mismatch, seed, first, count)
        parts.append(operating_points(structure, at, start=nominal, threads=threads))
    x = np.concatenate([np.where(p.converged[:, None], p.x, np.nan) for p in parts])
    return MonteCarloPoints(
        structure.node_names, x[:, : structure.nodes], structure.branch_names, x[:, structure.nodes :],
        np.concatenate([p.residual for p in parts]),
        {k * step + b: message for k, p in enumerate(parts) for b, message in p.errors.items()},
    )  # fmt: skip


def _deviating(
    net: Netlist, mismatch: Mapping[str, float], seed: int, first: int, count: int
) -> dict[tuple[str, str], Array]:
    """Deviating parameters (count, k), by kind and main parameter."""
    at: dict[tuple[str, str], Array] = {}
    for bank in net.banks:
        deviating = [(k, name) for k, name in enumerate(bank.names) if name in mismatch]
        if deviating:
            main = bank.device.main
            values = at[bank.kind, main] = np.tile(bank.parameters[main], (count, 1))
            for k, name in deviating:
                values[:, k] *= np.exp(mismatch[name] * deviates(seed, name, first, count))
    return at


def _check_mismatch(net: Netlist, mismatch: Mapping[str, float]) -> None:
    if not mismatch:
        raise NetlistError(f"netlist {net.title!r}: no device has a mismatch; give one mismatch=0.05, say")
    for device, sigma in mismatch.items():
        kind = net.kind(device)
        if kind is None or kind.startswith("behavioural"):
            raise NetlistError(
                f"mismatch: {device!r} is {kind or 'no device'}; give a device with parameters"
            )
        if not (np.isfinite(sigma) and sigma >= 0.0):
            raise NetlistError(f"{device}: mismatch is {sigma}; give a finite value of at least 0")


def deviates(seed: int, device: str, first: int, count: int) -> Numbers:
    """Standard normal deviates (count,) of a device in the samples ``first, first + 1, …``.

    From a counter-based generator (Philox; Salmon et al., *SC11* (2011)), keyed by a hash of seed and name.
    """
    digest = hashlib.blake2b(f"{seed}/{device}".encode(), digest_size=16).digest()
    bits = np.random.Philox(key=int.from_bytes(digest, "little"))
    bits.advance(first // 4)  # one Philox block holds four words
    words = bits.random_raw(first % 4 + count)[first % 4 :]
    uniform = ((words >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53
    return np.asarray(ndtri(np.minimum(uniform, 1.0 - 2.0**-53)))  # the last word of all rounds up to 1

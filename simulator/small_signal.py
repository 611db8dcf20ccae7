"""Small signals: a circuit linearised at its operating point, ``G x + C dx/dt = b``.

x (size,) holds small changes of the node voltages [V] and then of the branch currents [A]; G and C are the
slopes of the circuit's equations F and Q (:mod:`ohmostat.simulator.equations`). All frequencies share one
symbolic factorization.

    linear = LinearCircuit(net)                      # at its operating point, or at one that is given
    ac(linear, np.logspace(0, 9, 91))["out"]         # response to the sources' ac amplitudes
    transfer(linear, "out", "V1").gain
    poles(linear)

Every analysis also takes the netlist itself, and then finds the operating point first.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import linalg
from scipy.sparse import csc_array, hstack
from scipy.sparse.linalg import LinearOperator, eigs

from .banks import GROUND, NetlistError
from .devices import Array, Current
from .equations import EPSILON, Equations
from .factorization import Factors
from .lookup import branch_current, branch_place, node_place, node_voltage
from .netlist import Netlist
from .operating_point import OperatingPoint, operating_point
from .overrides import Overrides

BATCH = 1_000_000  # matrix entries factorized at a time: 16 MB, and the factors as their fill has it
MOST_DENSE = 2000  # charges and fluxes whose poles are all found, by dense algebra

Frequencies = NDArray[np.float64]
Probe = str | tuple[str, str] | Current
Output = Probe | Mapping[Probe, float]


class LinearCircuit:
    """A netlist linearised at an operating point.

    Args:
        net: the netlist.
        point: its operating point; found if not given.
        at: replaced parameters, one value each (:class:`~ohmostat.simulator.equations.Equations`); a given
            ``point`` must have been found with the same.

    Raises :class:`NetlistError` for a point of another netlist or a complex one, and what
    :func:`~ohmostat.simulator.operating_point.operating_point` raises.
    """

    def __init__(
        self, net: Netlist, point: OperatingPoint | None = None, *, at: Overrides | None = None
    ) -> None:
        self.net = net
        self.point = operating_point(net, at=at) if point is None else point
        self.equations = Equations(net, at, eliminate=False)
        self.structure = self.equations.structure
        names = self.structure.node_names, self.structure.branch_names
        if (self.point.nodes, self.point.branches) != names or self.equations.batch != 1:
            raise NetlistError(f"the operating point is not one of netlist {net.title!r}: solve that one")
        if np.iscomplexobj(self.point.x):
            raise NetlistError("small signals need a real operating point: give real parameters")
        drive = self.equations.drive()
        x = self.point.x[None]
        self.conductance = self.equations.evaluate(x, drive).slopes  # G (1, nnz), on the structure's pattern
        self.storage = self.equations.charge(x, drive)[1]  # C (1, nnz), likewise

    @property
    def size(self) -> int:
        """Number of unknowns."""
        return self.structure.size

    def probe(self, output: Output) -> Array:
        """The row c (size,) whose product ``c x`` is an output.

        An output is a node, a pair of nodes (first minus second), ``Current(device)`` of a voltage-defined
        device, or weights by these. As a right-hand side, the row of a node (pair) is 1 A into the first
        and out of the second; that of a current is 1 V in series with the device.
        """
        row = np.zeros(self.size + 2)  # over the full vector: ground, x, time
        for one, weight in output.items() if isinstance(output, Mapping) else [(output, 1.0)]:
            if isinstance(one, Current):
                row[self._branch(one.device)] += weight
                continue
            first, second = (one, GROUND) if isinstance(one, str) else one
            row[self._node(first)] += weight
            row[self._node(second)] -= weight
        return np.asarray(row[1:-1])

    def _node(self, name: str) -> int:
        return 0 if name == GROUND else 1 + node_place(self.structure.node_names, name)

    def _branch(self, device: str) -> int:
        return 1 + self.structure.nodes + branch_place(self.structure.branch_names, device)

    def excitation(self, amplitudes: Mapping[str, complex]) -> Array:
        """Right-hand side b (size,) of independent sources at these amplitudes [V or A], all others at 0."""
        left = dict(amplitudes)
        out = np.zeros((1, self.size), np.complex128)
        for bank, stamp in zip(self.structure.banks, self.structure.stamps, strict=True):
            if bank.kind in ("voltage_source", "current_source"):
                values = np.array([[left.pop(name, 0.0) for name in bank.names]], np.complex128)
                f = bank.device.law({bank.device.main: values}, np.zeros((1, *values.shape)))[0]
                stamp.add_values(f, out)
        if left:
            raise NetlistError(f"{next(iter(left))!r} is no independent source of netlist {self.net.title!r}")
        return np.asarray(-out[0])

    def solve(self, frequencies: ArrayLike, rhs: Array, *, transposed: bool = False) -> Array:
        """``(G + 2πjf C)⁻¹ rhs`` for each f [Hz] (F,) and each row of ``rhs`` (r, size): (F, r, size).

        ``transposed`` solves with the transposed matrix (the adjoint). Memory: the result, 16 MB of matrices
        at a time, and their factors, as much again times the fill.
        """
        f = checked_frequencies(frequencies)
        out = np.empty((len(f), *rhs.shape), np.complex128)
        for part, data in self._matrices(f):
            factors = self.structure.solver.factorize(data)
            if factors.singular.any():
                raise NetlistError(
                    f"netlist {self.net.title!r}: the small-signal equations are singular at "
                    f"{f[part][factors.singular][0]:g} Hz; give lossless loops and open nodes some resistance"
                )
            sides = np.broadcast_to(rhs.astype(np.complex128), (len(data), *rhs.shape))
            out[part] = factors.solve(sides, transposed=transposed)
        return out

    def _matrices(self, frequencies: Frequencies) -> Iterator[tuple[slice, Array]]:
        """``G + 2πjf C`` (b, nnz) for some frequencies at a time, and which these are."""
        step = max(1, BATCH // max(1, self.structure.pattern.nnz))
        for first in range(0, len(frequencies), step):
            part = slice(first, first + step)
            yield part, self.conductance + 2j * np.pi * frequencies[part, None] * self.storage

    def backward_error(
        self, frequencies: ArrayLike, x: Array, rhs: Array, *, transposed: bool = False
    ) -> float:
        """Of solutions ``x`` (F, r, size) as of :meth:`solve`: the largest ``|A x - b| / (|A| |x| + |b|)``.

        They are exact for a circuit whose conductances, capacitances and sources differ from this one's by so
        little, relatively (Oettli and Prager, *Numer. Math.* 6 (1964) 405).
        """
        pattern, largest = self.structure.pattern, 0.0
        ends = pattern.indices, np.repeat(np.arange(self.size), np.diff(pattern.starts))
        rows, columns = ends[::-1] if transposed else ends
        place = (np.arange(pattern.nnz), rows)
        by_row = csc_array((np.ones(pattern.nnz), place), shape=(pattern.nnz, self.size))
        for part, data in self._matrices(checked_frequencies(frequencies)):
            terms = (data[:, None] * x[part][..., columns]).reshape(-1, pattern.nnz)
            shape = (len(data), *rhs.shape)
            left = np.abs((terms @ by_row).reshape(shape) - rhs)
            sizes = (np.abs(terms) @ by_row).reshape(shape) + np.abs(rhs)
            largest = max(largest, float(np.divide(left, sizes, where=left > 0.0, out=left).max(initial=0.0)))
        return largest

    def at_rest(self) -> Factors:
        """Factors of G alone, which solve for changes of the operating point."""
        factors = self.structure.solver.factorize(self.conductance)
        if factors.singular[0]:
            raise NetlistError(f"netlist {self.net.title!r}: its operating point stands at a fold; move it")
        return factors

    def storage_factors(self) -> tuple[csc_array, csc_array]:
        """P and Q (size, r), sparse, with ``C = P Qᵀ`` and a column for each charge or flux that is not 0."""
        full = np.concatenate([[0.0], self.point.x, [0.0]])
        blank = csc_array((self.size + 2, 0))
        left, right = [blank], [blank]
        for k, bank in enumerate(self.structure.banks):
            if bank.device.storage is None:
                continue
            u = full[bank.terminals[:, 0]] - full[bank.terminals[:, 1]]
            slopes = bank.device.storage(self.equations.parameters(k), u[:, None])[1][:, 0]
            root = np.sqrt(np.abs(slopes).max(axis=0))  # splits each product into halves of one unit
            stores = np.flatnonzero(root)
            terminals, root = bank.terminals[:, :, stores], root[stores]
            heads = terminals[0] if bank.branches is None else bank.branches[None, stores]
            left.append(self._columns([(heads[0], root), *((row, -root) for row in heads[1:])]))
            halves = slopes[:, stores] / root
            right.append(
                self._columns(
                    [
                        entry
                        for half, (a, b) in zip(halves, terminals, strict=True)
                        for entry in ((a, half), (b, -half))
                    ]
                )
            )
        return hstack(left, "csc")[1:-1], hstack(right, "csc")[1:-1]

    def _columns(self, entries: list[tuple[NDArray[np.intp], Array]]) -> csc_array:
        """A column for each device, with entries (rows (k,), values (k,)) of which equal rows add."""
        count = len(entries[0][0])
        rows, values = (np.concatenate(part) for part in zip(*entries, strict=True))
        columns = np.tile(np.arange(count), len(entries))
        return csc_array((values, (rows, columns)), shape=(self.size + 2, count))


Circuit = Netlist | LinearCircuit


def linearised(circuit: Circuit) -> LinearCircuit:
    """The circuit itself, or the netlist at its operating point."""
    return circuit if isinstance(circuit, LinearCircuit) else LinearCircuit(circuit)


def checked_frequencies(frequencies: ArrayLike) -> Frequencies:
    """As an array (F,) [Hz], each finite and at least 0."""
    f = np.atleast_1d(np.asarray(frequencies, np.float64))
    if f.ndim != 1 or not (np.isfinite(f) & (f >= 0.0)).all():
        raise NetlistError("frequencies: give a list of finite values, at least 0 Hz")
    return f


# -- response to the sources ---------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class SmallSignal:
    """Complex amplitudes at each frequency: node voltages (F, n) [V] and branch currents (F, m) [A]."""

    frequencies: Frequencies  # (F,) [Hz]
    nodes: tuple[str, ...]
    voltages: Array
    branches: tuple[str, ...]
    currents: Array
    residual: float  # of the operating point [A]
    backward_error: float  # of the solves: see LinearCircuit

    def __getitem__(self, node: str) -> Array:
        """Voltage (F,) [V] of a node by name."""
        return node_voltage(self.nodes, self.voltages, node)

    def current(self, device: str) -> Array:
        """Current (F,) [A] through a voltage-defined device, by name."""
        return branch_current(self.branches, self.currents, device)


def ac(circuit: Circuit, frequencies: ArrayLike) -> SmallSignal:
    """Response to the sources' ``ac`` amplitudes at ``frequencies`` (F,) [Hz]: ``(G + jωC) x = b``."""
    linear = linearised(circuit)
    amplitudes = {bank.names[k]: a for bank in linear.structure.banks for k, a in bank.ac.items()}
    if not amplitudes:
        raise NetlistError(f"netlist {linear.net.title!r}: no source has an ac amplitude; give one ac=1")
    f, rhs, at = checked_frequencies(frequencies), linear.excitation(amplitudes)[None], linear.structure
    solved = linear.solve(f, rhs)
    x = solved[:, 0]
    return SmallSignal(
        f, at.node_names, x[:, : at.nodes], at.branch_names, x[:, at.nodes :], linear.point.residual,
        linear.backward_error(f, solved, rhs),
    )  # fmt: skip


# -- at two ports ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class TransferFunction:
    """DC small-signal gain [output per V or A of the source], and resistances [ohm] at its two ends."""

    gain: float
    input_resistance: float  # that the source sees; infinite where it sees an open circuit
    output_resistance: float  # that a load at the output would see
    residual: float  # of the operating point [A]
    backward_error: float  # of the solves: see LinearCircuit


def transfer(circuit: Circuit, output: Probe, source: str) -> TransferFunction:
    """SPICE's ``.tf``: from an independent source to a node, a pair of nodes, or ``Current(device)``."""
    linear = linearised(circuit)
    into, out = linear.excitation({source: 1.0}).real, linear.probe(output)
    rhs = np.stack([into, out])
    solved = linear.at_rest().solve(rhs[None])
    driven, loaded = solved[0]
    across: Probe = Current(source) if source in linear.structure.branch_names else _ends(linear, source)
    seen, loading = (
        -_inverse(response) if isinstance(port, Current) else float(response)
        for port, response in (
            (across, linear.probe(across) @ driven),
            (output, out @ loaded),
        )
    )
    return TransferFunction(
        float(out @ driven), seen, loading, linear.point.residual, linear.backward_error(0.0, solved, rhs)
    )


def _ends(linear: LinearCircuit, source: str) -> tuple[str, str]:
    """The nodes into which and out of which a current source drives."""
    names = (GROUND, *linear.structure.node_names)
    (bank,) = (bank for bank in linear.structure.banks if bank.kind == "current_source")
    a, b = bank.terminals[0, :, bank.names.index(source)]
    return names[b], names[a]


def _inverse(conductance: float) -> float:
    return float(1.0 / conductance) if conductance else -np.inf


def impedance(circuit: Circuit, a: str, b: str = GROUND, *, frequencies: ArrayLike) -> Array:
    """Impedance (F,) [ohm] seen between two nodes, all independent sources at rest.

    At a node that a voltage source holds, it is 0: there, ``-1 / ac(...).current(source)`` is what the source
    sees at an amplitude of 1 V.
    """
    linear = linearised(circuit)
    port = linear.probe((a, b))
    return np.asarray(linear.solve(frequencies, port[None])[:, 0] @ port)


# -- poles -----------------------------------------------------------------------------------------------


def poles(circuit: Circuit, *, slowest: int | None = None) -> Array:
    """Natural frequencies s [rad/s], slowest (smallest |s|) first: the finite zeros of ``det(G + s C)``.

    With ``C = P Qᵀ``, a column for each charge and flux, the poles are ``1/μ`` for the eigenvalues μ ≠ 0 of
    ``-Qᵀ G⁻¹ P``, which are time constants [s]; loops of capacitors and the like give μ = 0. Time constants
    below about 1e-13 of the largest are lost in rounding and left out too. A circuit of more than 2000
    charges and fluxes needs ``slowest``, how many poles to find, by Arnoldi iteration (shift-invert at 0).
    """
    linear = linearised(circuit)
    p, q = linear.storage_factors()
    factors, count = linear.at_rest(), p.shape[1]
    if count == 0:
        return np.empty(0, np.complex128)
    if count <= MOST_DENSE:
        matrix = -(q.T @ factors.solve(p.T.toarray()[None])[0].T)
        times, scale = linalg.eigvals(matrix), float(linalg.norm(linalg.matrix_balance(matrix)[0]))
    elif slowest is not None and slowest <= MOST_DENSE // 10:
        operator = LinearOperator(
            (count, count), lambda v: -(q.T @ factors.solve((p @ v.ravel())[None])[0]), dtype=np.float64
        )
        times = eigs(operator, slowest, v0=np.ones(count), return_eigenvectors=False)
        scale = float(np.abs(times).max())
    else:
        raise NetlistError(
            f"{count} charges and fluxes, and all poles are found of at most {MOST_DENSE}: "
            f"pass slowest, at most {MOST_DENSE // 10}"
        )
    found = 1.0 / times[np.abs(times) > 10.0 * count * EPSILON * scale]
    found = found[np.argsort(np.abs(found), kind="stable")][:slowest]
    return np.asarray(found + 0.0, np.complex128)  # the sum turns an imaginary part of -0 into 0

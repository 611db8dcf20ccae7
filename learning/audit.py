"""The audit of a measured gradient: which imperfection contributes how much of its error, by array.

``g(S)`` is the gradient that EP measures on a chip with the imperfections S alone: ``g(all)`` is what the
chip measures, ``g(∅)`` the adjoint's. Each imperfection i is put in first and taken out last,

    a_i = g({i}) - g(∅),    b_i = g(all) - g(all without i),    part_i = (a_i + b_i) / 2,

and the interaction is what the parts leave of ``g(all) - g(∅)``. So parts and interaction add up exactly, as
vectors over an array's devices; and since (a + b)/2 shares what two imperfections do together between them,
the interaction is that of three or more.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from ..circuits.chip import Chip
from ..circuits.equilibrium import Equilibrium
from ..circuits.mismatch import generator
from ..circuits.periphery import Periphery
from ..circuits.wiring import Wiring, unwired
from ..simulator.blocks import Array
from .asymmetry import cosine
from .estimators import Response, Stencil
from .linearised import Linearised
from .nudges import Cost
from .rules import as_read, gradients

Vectors = dict[str, Array]
"""Gradient of every device [1/S] (2, rows, columns), by array."""

IMPERFECTIONS = {
    "settling": "phases stop at the design's tolerance",
    "finite nudge": "of a response that is curved",
    "asymmetry": "feedback that is not the transpose of forward",
    "nudge gain": "of the nudge sources",
    "nudge offset": "of the nudge sources, while they are on",
    "sense gain": "of the ports' sense amplifiers",
    "sense offset": "of the ports' sense amplifiers, in the voltages that drive devices",
    "wires": "cells that see other voltages than their ports",
    "noise": "of every reading of a port",
    "conversion": "of readings and nudges to codes",
}
INTERACTION = "interaction"
EVERYTHING = "all"  # arrays together
TIGHT = 1e-12  # of full swing: settled, for all that a gradient can tell
STEP = 1e-4  # of a leak: how far finite differences move a device
GROUPS = 10  # of samples: a share's standard error is told by leaving out one after the other
PROBED = 0.1  # of an array's largest gradient: finite differences of a smaller one would be rounding


@dataclass(frozen=True, eq=False)
class Subject:
    """A chip on a batch, and how its gradient is measured; all of it in float64, so that rounding is no
    imperfection.

    ``chip`` is one of effective weights where ``wiring`` is given; ``devices`` are what conducts. ``loose``
    and ``tight`` are its free equilibria, settled as the design asks and to rounding.
    """

    chip: Chip
    devices: Mapping[str, Array]
    inputs: Array
    cost: Cost
    estimator: Stencil
    wiring: Wiring | None
    loose: Equilibrium
    tight: Equilibrium

    @classmethod
    def of(
        cls, chip: Chip, inputs: Array, cost: Cost, estimator: Stencil, wiring: Wiring | None = None
    ) -> Subject:
        """``chip`` on ``inputs`` (batch, n_in) [V]; ``cost`` in float64; ``wiring`` default: the design's."""
        wiring = wiring or Wiring.of(chip.circuit.design)
        chip, inputs = in_double(chip), inputs.astype(np.float64)
        devices = {name: chip.conducting(name) for name in chip.devices}
        chip = chip if wiring is None else wiring.chip(chip)
        loose = chip.relax(inputs, certify=0)
        tight = chip.relax(inputs, start=loose, tolerance=TIGHT)
        return cls(chip, devices, inputs, cost, estimator, wiring, loose, tight)

    @property
    def present(self) -> tuple[str, ...]:
        """The imperfections that the chip has at all."""
        p = self.chip.periphery
        has = {
            "nudge gain": np.any(p.nudge_gain != 1), "nudge offset": np.any(p.nudge_offset),
            "sense gain": np.any(p.sense_gain != 1), "sense offset": np.any(p.sense_offset),
            "wires": self.wiring is not None, "noise": p.noise,
            "conversion": p.readings or p.nudges,
        }  # fmt: skip
        return tuple(name for name in IMPERFECTIONS if has.get(name, True))

    def response(self, some: frozenset[str]) -> tuple[Response, Equilibrium]:
        """What the estimator measures with ``some`` imperfections alone, and the free state as it is read."""
        free = self.loose if "settling" in some else self.tight
        free = replace(free, periphery=_periphery(free.periphery, some))
        circuit = free if "asymmetry" in some else turned(free)
        circuit = circuit if "finite nudge" in some else Linearised.of(circuit)
        return self.estimator.response(circuit, self.cost, certify=0), as_read(free)

    def contracted(self, response: Response, rest: Equilibrium, valid: Array) -> Vectors:
        """The gradient of the ``valid`` samples, by the ports' own voltages."""
        few = replace(rest, ports=rest.ports[valid], voltages=rest.voltages[valid])
        found = gradients(self.chip, self.inputs[valid], few, response.epsilon[valid])
        return {name: gradient.devices() for name, gradient in found.items()}

    def in_cells(self, found: Sequence[Vectors]) -> list[Vectors]:
        """Gradients contracted from ports as they truly are in the wired cells."""
        if self.wiring is None:
            return list(found)
        true: list[Vectors] = [
            {name: np.empty_like(planes) for name, planes in each.items()} for each in found
        ]
        for name, planes in self.devices.items():
            for k, plane in enumerate(planes):
                cells = self.wiring.of_cells(plane, np.stack([each[name][k] for each in found]))
                for each, gradient in zip(true, cells, strict=True):
                    each[name][k] = gradient
        return true


def in_double(chip: Chip) -> Chip:
    """A copy of ``chip`` that computes in float64, its wires without resistance."""
    return chip.copy(unwired(chip.circuit.design.replace("learning.dtype", "float64")))


def turned(free: Equilibrium) -> Equilibrium:
    """``free`` as an equilibrium of the circuit with every block turned round: its response obeys J̃ᵀ.

    What the blocks drive otherwise at rest is injected instead. (On a chip whose banks come in pairs that is
    antisymmetric feedback: :mod:`.feedback`.)
    """
    circuit = free.circuit.transposed()
    injected = free.injected + free.circuit.drive(free.ports) - circuit.drive(free.ports)
    return replace(free, circuit=circuit, injected=injected)


def _periphery(whole: Periphery, some: frozenset[str]) -> Periphery:
    """With some of its errors alone."""
    ideal = Periphery()
    return Periphery(
        whole.nudge_gain if "nudge gain" in some else ideal.nudge_gain,
        whole.nudge_offset if "nudge offset" in some else ideal.nudge_offset,
        whole.sense_gain if "sense gain" in some else ideal.sense_gain,
        whole.sense_offset if "sense offset" in some else ideal.sense_offset,
        whole.noise if "noise" in some else ideal.noise,
        whole.seed, whole.step,
        whole.readings if "conversion" in some else ideal.readings,
        whole.nudges if "conversion" in some else ideal.nudges,
    )  # fmt: skip


# -- the split -------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Part:
    """What one imperfection contributes to a gradient's error.

    Attributes:
        vectors: ``(a + b) / 2`` [1/S], by array.
        first, last: ``|a| / |g(∅)|`` and ``|b| / |g(∅)|``, by array.
        repaired: cosine to ``g(∅)`` of the gradient without this imperfection, by array: what repairing it
            alone would give.
    """

    vectors: Vectors
    first: dict[str, float]
    last: dict[str, float]
    repaired: dict[str, float]


@dataclass(frozen=True, eq=False)
class Audit:
    """What :func:`audit` finds; every figure is by array, or over all of them (``"all"``).

    Attributes:
        true, measured: ``g(∅)`` and ``g(all)`` [1/S].
        parts: of the imperfections that the chip has, which with the ``interaction`` add up to the error.
        valid: (batch,) the samples that took part; the others had no sound response in some combination.
        unstable: (batch,) those whose free state the chip would leave.
        share_errors: standard errors of the shares, by part and array; nothing of a single sample, nor with
            wires, whose cells take too long to be solved for each of ``GROUPS``.
    """

    true: Vectors
    measured: Vectors
    parts: dict[str, Part]
    interaction: Vectors
    valid: Array
    unstable: Array
    share_errors: dict[str, dict[str, float]] = field(default_factory=dict)

    @property
    def arrays(self) -> tuple[str, ...]:
        """Names of the arrays, and ``"all"``."""
        return (*self.true, EVERYTHING)

    @property
    def contributions(self) -> dict[str, Vectors]:
        """Parts and interaction [1/S]: they add up to the error."""
        return {name: part.vectors for name, part in self.parts.items()} | {INTERACTION: self.interaction}

    def error(self, array: str) -> float:
        """``|g(all) - g(∅)| / |g(∅)|``."""
        return _ratio(_minus(self.measured, self.true), self.true, array)

    def alignment(self, array: str) -> float:
        """Cosine of ``g(all)`` to ``g(∅)``."""
        return cosine(_of(self.measured, array), _of(self.true, array))

    def size(self, name: str, array: str) -> float:
        """``|part| / |g(∅)|``, of a part or the interaction."""
        return _ratio(self.contributions[name], self.true, array)

    def share(self, name: str, array: str) -> float:
        """Its signed share of the error, ``part · error / |error|²``; all of them add up to 1."""
        error = _of(self.measured, array) - _of(self.true, array)
        return float(_of(self.contributions[name], array) @ error / (error @ error or 1.0))

    def share_error(self, name: str, array: str) -> float:
        """The share's standard error, over samples; NaN where none is told."""
        return self.share_errors.get(name, {}).get(array, np.nan)

    def cosine(self, name: str, array: str) -> float:
        """Its cosine to the error."""
        error = _of(self.measured, array) - _of(self.true, array)
        return cosine(_of(self.contributions[name], array), error)


def audit(subject: Subject, progress: Callable[[], None] | None = None) -> Audit:
    """Split the error of the gradient that ``subject`` measures; ``progress`` is called for each of the
    :func:`combinations`.

    All gradients are those of the same samples, which are sound in every combination. ``ValueError`` where
    none is.
    """
    found = measurements(subject, progress)
    valid = np.all([response.valid for response, _ in found.values()], axis=0)
    if not valid.any():
        raise ValueError(
            "no sample has a sound equilibrium and response; lower learning.beta, neuron.gain or "
            "learning.init_scale"
        )
    g = {some: subject.contracted(*measured, valid) for some, measured in found.items()}
    local = [some for some in g if "wires" not in some]
    g |= zip(local, subject.in_cells([g[some] for some in local]), strict=True)
    whole = _split(subject, g, valid)
    return replace(whole, share_errors=_share_errors(subject, found, g, whole))


def _split(subject: Subject, g: Mapping[frozenset[str], Vectors], valid: Array) -> Audit:
    """The parts of the gradients ``g``, which are those of the ``valid`` samples."""
    none, whole = frozenset[str](), frozenset(subject.present)
    left, parts = _minus(g[whole], g[none]), {}
    for name in subject.present:
        without = g[whole - {name}]
        first, last = _minus(g[frozenset([name])], g[none]), _minus(g[whole], without)
        parts[name] = _part(first, last, without, g[none])
        left = _minus(left, parts[name].vectors)
    unstable = subject.tight.settled & ~subject.tight.sound
    return Audit(g[none], g[whole], parts, left, valid, unstable)


def _share_errors(
    subject: Subject,
    found: Mapping[frozenset[str], tuple[Response, Equilibrium]],
    g: Mapping[frozenset[str], Vectors],
    whole: Audit,
) -> dict[str, dict[str, float]]:
    """Of every part and array, by the jackknife: each group of samples left out in turn, of ``g``'s means."""
    rows = np.flatnonzero(whole.valid)
    groups = min(GROUPS, len(rows))
    if groups < 2 or subject.wiring is not None:
        return {}
    shares: dict[str, dict[str, list[float]]] = {
        n: {a: [] for a in whole.arrays} for n in whole.contributions
    }
    for k in range(groups):
        group = np.zeros_like(whole.valid)
        group[rows[k::groups]] = True
        weight = group.sum() / len(rows)
        rest = {}
        for some, measured in found.items():
            out = subject.contracted(*measured, group)
            rest[some] = {a: (g[some][a] - weight * out[a]) / (1 - weight) for a in out}
        part = _split(subject, rest, whole.valid & ~group)
        for name, by_array in shares.items():
            for array, values in by_array.items():
                values.append(part.share(name, array))
    scale = np.sqrt(groups - 1)  # of the sd over groups: the jackknife's standard error
    return {n: {a: float(scale * np.std(v)) for a, v in of.items()} for n, of in shares.items()}


def measurements(
    subject: Subject, progress: Callable[[], None] | None = None
) -> dict[frozenset[str], tuple[Response, Equilibrium]]:
    """What the estimator measures in every combination, and the free state as it was read."""
    found = {}
    for some in combinations(subject.present):
        found[some] = subject.response(some)
        if progress is not None:
            progress()
    return found


def combinations(present: tuple[str, ...]) -> tuple[frozenset[str], ...]:
    """The sets of imperfections that an audit measures with: none, all, each alone, and all but each."""
    whole = frozenset(present)
    alone = [frozenset([name]) for name in present]
    return tuple(dict.fromkeys([frozenset[str](), whole, *alone, *(whole - one for one in alone)]))


def _part(first: Vectors, last: Vectors, without: Vectors, true: Vectors) -> Part:
    arrays = (*true, EVERYTHING)
    return Part(
        {name: (first[name] + last[name]) / 2 for name in true},
        {name: _ratio(first, true, name) for name in arrays},
        {name: _ratio(last, true, name) for name in arrays},
        {name: cosine(_of(without, name), _of(true, name)) for name in arrays},
    )


def _minus(a: Vectors, b: Vectors) -> Vectors:
    return {name: a[name] - b[name] for name in a}


def _of(vectors: Vectors, array: str) -> Array:
    """One array's vector, or that of all of them."""
    chosen = vectors.values() if array == EVERYTHING else [vectors[array]]
    return np.concatenate([values.ravel() for values in chosen])


def _ratio(a: Vectors, b: Vectors, array: str) -> float:
    return float(np.linalg.norm(_of(a, array)) / np.linalg.norm(_of(b, array)))


# -- the reference, checked ------------------------------------------------------------------------


def spot_check(subject: Subject, found: Audit) -> dict[str, float]:
    """Relative difference, by array, of ``found.true`` to a central finite difference of the mean loss in one
    device's actual conductance, chosen at random among those of large gradient.

    The chip is settled anew with the device moved up and down by ``STEP`` of a leak, and its wires solved.
    NaN where every gradient is 0, or no device can move down.
    """
    step = STEP * subject.chip.circuit.design.neuron.leak
    differences = {}
    for name, vector in found.true.items():
        large = np.abs(vector) >= PROBED * np.abs(vector).max()
        large = np.argwhere(large & (subject.devices[name] > step))
        if not len(large):
            differences[name] = float("nan")
            continue
        device = tuple(generator(subject.chip.seed, "spot check", name).choice(large).tolist())
        up, down = (_loss(subject, found.valid, name, device, sign * step) for sign in (1, -1))
        with np.errstate(invalid="ignore"):
            differences[name] = float(abs((up - down) / (2 * step * vector[device]) - 1))
    return differences


def _loss(subject: Subject, valid: Array, array: str, device: tuple[int, ...], by: float) -> float:
    """Mean loss of ``valid`` samples, one ``device`` (plane, row, column) having moved ``by`` [S]."""
    chip, (plane, row, column) = subject.chip, device
    kept = chip.devices[array].actual.copy()
    conductance = subject.devices[array][plane].copy()
    conductance[row, column] += by
    if subject.wiring is None:
        chip.devices[array].actual[plane] = conductance / chip.conduction
    else:
        tile = subject.wiring.tile_of(row, column)
        chip.devices[array].actual[plane][tile] = (
            subject.wiring.effective(conductance[tile]) / chip.conduction
        )
    chip.refresh()
    state = chip.relax(subject.inputs, start=subject.tight, tolerance=TIGHT, certify=0)
    chip.devices[array].actual[...] = kept
    chip.refresh()
    return float(subject.cost.value(state.outputs, np.arange(len(valid)))[valid].mean())

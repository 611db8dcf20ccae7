"""Sensitivity of an operating point: the slope of one output by every parameter of every device.

With the adjoint λ of an output ``y = c x``, ``Gᵀ λ = c``, all slopes follow from one solve,

    ``dy/dp = -λᵀ ∂F/∂p``

(Director and Rohrer, *IEEE Trans. Circuit Theory* 16 (1969) 318). ``∂F/∂p`` is that of the device's law
alone: by a complex step, exact to rounding, where the law is analytic, and by differences of fourth order
otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from .banks import Bank, NetlistError
from .devices import DEVICES, Array
from .small_signal import Circuit, LinearCircuit, Output, linearised

COMPLEX_STEP = 1e-30
DIFFERENCE = 1e-4  # of a parameter, or of its unit where it is 0

Key = tuple[str, str]  # device, parameter


@dataclass(frozen=True, eq=False)
class Sensitivity:
    """Slopes of an output by device and parameter, in the output's unit per parameter's unit."""

    output: float  # its value [V, or A of a current]
    slopes: Mapping[Key, float]
    values: Mapping[Key, float]  # of the parameters, in the same order
    main: Mapping[str, str]  # each device's main parameter
    residual: float  # of the operating point [A]
    backward_error: float  # of the adjoint solve: see LinearCircuit

    def __getitem__(self, key: str | Key) -> float:
        """By device (its main parameter), or by (device, parameter)."""
        if isinstance(key, str):
            key = key, self.main.get(key, "")
        if key not in self.slopes:
            raise NetlistError(f"no parameter {key[1]!r} of a device {key[0]!r} has a sensitivity")
        return self.slopes[key]

    def relative(self) -> dict[Key, float]:
        """``p dy/dp``, the change of the output per relative change of each parameter, largest first."""
        changes = {key: self.values[key] * slope for key, slope in self.slopes.items() if slope}
        acting = {key: change for key, change in changes.items() if change}
        return dict(sorted(acting.items(), key=lambda item: -abs(item[1])))


def sensitivity(circuit: Circuit, output: Output) -> Sensitivity:
    """Sensitivity of a node, a pair of nodes, a ``Current(device)``, or weights by these.

    Parameters that do not act at an operating point (capacitances, ...) have slope 0; a switch's threshold
    too, which acts only where it switches. A polarity has none, and neither has a temperature, to which other
    parameters have been carried: compare netlists built at two.
    """
    linear = linearised(circuit)
    row = linear.probe(output)
    adjoint = linear.at_rest().solve(row[None], transposed=True)[0]
    error = linear.backward_error(0.0, adjoint[None, None], row[None], transposed=True)
    weights = np.pad(adjoint, 1)
    full = np.concatenate([[0.0], linear.point.x, [0.0]])
    slopes: dict[Key, float] = {}
    values: dict[Key, float] = {}
    main: dict[str, str] = {}
    for k, bank in enumerate(linear.structure.banks):
        heads = bank.terminals[0] if bank.branches is None else bank.branches[None]
        weight = weights[heads[0]] - (weights[heads[1]] if len(heads) > 1 else 0.0)
        u = (full[bank.terminals[:, 0]] - full[bank.terminals[:, 1]])[:, None]
        main |= dict.fromkeys(bank.names, bank.device.main)
        for name, value, slope in _parameter_slopes(linear, k, u):
            keys = [(device, name) for device in bank.names]
            slopes |= zip(keys, (-weight * slope).tolist(), strict=True)
            values |= zip(keys, value.tolist(), strict=True)
    return Sensitivity(float(row @ linear.point.x), slopes, values, main, linear.point.residual, error)


def _parameter_slopes(linear: LinearCircuit, k: int, u: Array) -> list[tuple[str, Array, Array]]:
    """Name, value (k,) and ``∂f/∂p`` (k,) of a bank's parameters at port voltages u (ports, 1, k)."""
    bank, given = linear.structure.banks[k], linear.equations.parameters(k)
    found = []
    for parameter in DEVICES[bank.kind].parameters:
        if not parameter.fixed:
            value = np.broadcast_to(given[parameter.name], (1, len(bank.names)))
            slope = _slope(bank, given, u, parameter.name, value)
            found.append((parameter.name, value[0], slope[0]))
    return found


def _slope(bank: Bank, given: Mapping[str, Any], u: Array, name: str, value: Array) -> Array:
    """``∂f/∂p`` (1, k)."""

    def f(changed: Array) -> Array:
        return np.asarray(bank.device.law({**given, name: changed}, u)[0])

    if bank.device.analytic and (bank.expression is None or bank.expression.analytic):
        return f(value + 1j * COMPLEX_STEP).imag / COMPLEX_STEP
    h = DIFFERENCE * np.where(value == 0.0, 1.0, np.abs(value))
    near, far = f(value + h) - f(value - h), f(value + 2.0 * h) - f(value - 2.0 * h)
    return np.asarray((8.0 * near - far) / (12.0 * h))

"""Semiconductor laws: junction diodes, the level 1 MOSFET and the EKV MOSFET, each over a whole bank.

Parameters carry the names of SPICE's model cards, in SI units (Python's keywords with an underscore:
``is_``, ``lambda_``), and hold at the device's own temperature (:mod:`.temperature` carries them there). The
equations are those of ngspice, so that two programs give one answer.

Sources: Shichman and Hodges, *IEEE J. Solid-State Circuits* 3 (1968) 285 (level 1); Enz, Krummenacher and
Vittoz, *Analog Integr. Circuits Signal Process.* 8 (1995) 83 and Bucher et al., *The EPFL-EKV MOSFET Model
Equations*, version 2.6 (1997) (EKV); Nagel, *SPICE2*, UCB/ERL M520 (1975), appendix 1 (junction limiting).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Parameters = Mapping[str, Any]
Value = tuple[Array, Array]  # f or q (..., k), and its slopes (ports, ..., k)

BOLTZMANN = 1.38064852e-23  # [J/K], the value that ngspice has (CODATA 2014)
ELEMENTARY_CHARGE = 1.6021766208e-19  # [C], as above
NOMINAL_TEMPERATURE = 300.15  # [K]
MAX_GRADING = 0.9  # of a junction's charge law, which is singular at 1


def thermal_voltage(temperature: Any) -> Any:
    """``kT/q`` [V] at ``temperature`` [K]."""
    return BOLTZMANN / ELEMENTARY_CHARGE * temperature


def junction_current(p: Parameters, v: Array) -> tuple[Array, Array]:
    """Current [A] of a diode without ``gmin``, and its slope [S], in ngspice's three regions.

    Forward ``Is (exp(v/nVt) - 1)``; below ``-3nVt`` ``-Is (1 + (3nVt/(e v))³)``, which meets it with its
    slope; below ``-bv`` ``-Is exp(-(v + bv)/(nbv Vt))``. Each is analytic.
    """
    n_vt = p["n"] * thermal_voltage(p["temperature"])
    forward = v.real >= -3.0 * n_vt
    rising = p["is_"] * np.exp(np.where(forward, v, 0.0) / n_vt)
    i, slope = rising - p["is_"], rising / n_vt
    if not forward.all():
        below = np.where(forward, -1.0, v)  # any negative number where it is not used
        cube = (3.0 * n_vt / (np.e * below)) ** 3
        i = np.where(forward, i, -p["is_"] * (1.0 + cube))
        slope = np.where(forward, slope, 3.0 * p["is_"] * cube / below)
    broken = v.real < -p["bv"]
    if np.any(broken):
        avalanche = p["nbv"] * thermal_voltage(p["temperature"])
        leak = p["is_"] * np.exp(np.where(broken, -(v + np.where(broken, p["bv"], 0.0)), 0.0) / avalanche)
        i, slope = np.where(broken, -leak, i), np.where(broken, leak / avalanche, slope)
    return i, slope


def bulk_current(p: Parameters, v: Array) -> tuple[Array, Array]:
    """A MOSFET's bulk junction, without ``gmin``: as a diode, but flat at ``-Is`` below ``-3Vt``."""
    vt = thermal_voltage(p["temperature"])
    forward = v.real > -3.0 * vt
    rising = np.where(forward, p["is_"] * np.exp(np.where(forward, v, 0.0) / vt), 0.0)
    return rising - p["is_"], rising / vt


def diode(p: Parameters, u: Array) -> Value:
    """:func:`junction_current` and ``gmin v`` across the junction."""
    i, slope = junction_current(p, u[0])
    return i + p["gmin"] * u[0], (slope + p["gmin"])[None]


def bulk_diode(p: Parameters, u: Array) -> Value:
    """:func:`bulk_current` and ``gmin v`` across the junction."""
    i, slope = bulk_current(p, u[0])
    return i + p["gmin"] * u[0], (slope + p["gmin"])[None]


def diode_charge(p: Parameters, u: Array) -> Value:
    """Depletion charge and, of the carriers in transit, ``tt i``."""
    q, c = depletion_charge(p, u[0])
    i, slope = junction_current(p, u[0])
    return q + p["tt"] * i, (c + p["tt"] * slope)[None]


def bulk_charge(p: Parameters, u: Array) -> Value:
    """Depletion charge of a MOSFET's bulk junction."""
    q, c = depletion_charge(p, u[0])
    return q, c[None]


def depletion_charge(p: Parameters, v: Array) -> tuple[Array, Array]:
    """Charge [C] and capacitance ``cjo (1 - v/vj)^-m`` [F]; straight above ``fc vj``, where that ends."""
    vj, m, fc = p["vj"], p["m"], p["fc"]
    straight = v.real >= fc * vj
    x = 1.0 - np.where(straight, 0.0, v) / vj
    c = x**-m
    q = vj * (1.0 - x * c) / (1.0 - m)
    if np.any(straight):
        f1 = vj * (1.0 - (1.0 - fc) ** (1.0 - m)) / (1.0 - m)
        f2, f3 = (1.0 - fc) ** (1.0 + m), 1.0 - fc * (1.0 + m)
        above = f1 + (f3 * (v - fc * vj) + m / (2.0 * vj) * (v**2 - (fc * vj) ** 2)) / f2
        q, c = np.where(straight, above, q), np.where(straight, (f3 + m * v / vj) / f2, c)
    return p["cjo"] * q, p["cjo"] * c


def diode_noise(p: Parameters, u: Array, temperature: float) -> Array:
    """Shot noise ``2q|i|`` [A²/Hz]."""
    return 2.0 * ELEMENTARY_CHARGE * np.abs(diode(p, u)[0])


def bulk_noise(p: Parameters, u: Array, temperature: float) -> Array:
    """Shot noise ``2q|i|`` [A²/Hz]."""
    return 2.0 * ELEMENTARY_CHARGE * np.abs(bulk_diode(p, u)[0])


def limit_diode(p: Parameters, new: Array, old: Array) -> Array:
    """A junction voltage that Newton's next linearisation can use (Nagel's ``pnjlim``)."""
    vt = thermal_voltage(p["temperature"])
    limited = _limit_junction(new, old, p["n"] * vt, p["is_"])
    breaks = np.isfinite(p["bv"])
    if not breaks.any():
        return limited
    bv = np.where(breaks, p["bv"], 0.0)
    broken = breaks & (new.real < np.minimum(0.0, 10.0 * vt - bv))
    return np.where(broken, -bv - _limit_junction(-bv - new, -bv - old, p["nbv"] * vt, p["is_"]), limited)


def limit_bulk(p: Parameters, new: Array, old: Array) -> Array:
    """As :func:`limit_diode`, without breakdown."""
    return _limit_junction(new, old, thermal_voltage(p["temperature"]), p["is_"])


def _limit_junction(new: Array, old: Array, vt: Any, is_: Any) -> Array:
    """Above the critical voltage, a step that would raise the current e²-fold or more raises it linearly.

    From below, it ends at the critical voltage at least: SPICE starts there instead.
    A complex step turns the exponential by one radian at most: farther lie its other periods.
    """
    if np.iscomplexobj(new):
        turn = np.clip(new.imag - old.imag, -vt, vt)
        new = np.where(np.abs(new.imag - old.imag) > vt, new.real + 1j * (old.imag + turn), new)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        critical = vt * np.log(vt / (np.sqrt(2.0) * is_))
        wild = (new.real > critical) & (np.abs(new.real - old.real) > 2.0 * vt)
        if not wild.any():
            return new
        step = 1.0 + (new.real - old.real) / vt
        shorter = np.where(step > 0.0, np.maximum(old.real + vt * np.log(step), critical), critical)
    return np.where(wild, shorter + 1j * new.imag if np.iscomplexobj(new) else shorter, new)


def mosfet(p: Parameters, u: Array) -> Value:
    """Drain current [A] of the level 1 MOSFET; ports (d,s), (g,s), (b,s).

    For ``vds >= 0`` and ``vgst = vgs - von``: 0 below threshold; ``β vds (vgst - vds/2)`` in the linear
    region; ``β vgst²/2`` in saturation; ``β = kp w/l (1 + lambda vds)``. For ``vds < 0`` source and drain
    change places.
    """
    vds, vgs, vbs = p["polarity"] * u
    swapped = vds < 0.0
    von, body = _threshold(p, np.where(swapped, vbs - vds, vbs))
    vgst = np.maximum(np.where(swapped, vgs - vds, vgs) - von, 0.0)
    v, vd = np.abs(vds), np.minimum(np.abs(vds), vgst)  # vd is vgst in saturation, and all is 0 below
    flat = p["kp"] * p["w"] / p["l"]
    beta = flat * (1.0 + p["lambda_"] * v)
    square = vd * (vgst - 0.5 * vd)
    gm = beta * vd
    gds = beta * (vgst - vd) + flat * p["lambda_"] * square
    sign = np.where(swapped, -1.0, 1.0)
    slopes = np.stack([np.where(swapped, gds + gm * (1.0 + body), gds), sign * gm, sign * gm * body])
    return p["polarity"] * sign * beta * square, slopes


def _threshold(p: Parameters, vbs: Array) -> tuple[Array, Array]:
    """``von`` and ``-∂von/∂vbs``: body effect ``gamma √(phi - vbs)``, its tangent where vbs > 0.

    There ngspice has the same ``von``, but not its derivative: its small-signal gmbs differs.
    """
    root = np.sqrt(p["phi"])
    depth = np.where(vbs <= 0.0, np.sqrt(p["phi"] - np.minimum(vbs, 0.0)), root - vbs / (2.0 * root))
    body = np.where(depth > 0.0, 0.5 * p["gamma"] / np.where(vbs <= 0.0, depth, root), 0.0)
    return p["polarity"] * p["vto"] + p["gamma"] * (np.maximum(depth, 0.0) - root), body


def mosfet_noise(p: Parameters, u: Array, temperature: float) -> Array:
    """Thermal noise of the channel ``4kT (2/3) |gm|`` [A²/Hz]."""
    density: Array = 8.0 / 3.0 * BOLTZMANN * temperature * np.abs(mosfet(p, u)[1][1])
    return density


def limit_mosfet(p: Parameters, new: Array, old: Array) -> Array:
    """Steps of gate and drain that stay within reach of the square law (SPICE's ``fetlim``, ``limvds``)."""
    (vds, vgs, vbs), (vds_old, vgs_old, vbs_old) = p["polarity"] * new, p["polarity"] * old
    swapped = vds_old < 0.0
    von = _threshold(p, np.where(swapped, vbs_old - vds_old, vbs_old))[0]
    gate, gate_old = np.where(swapped, vgs - vds, vgs), np.where(swapped, vgs_old - vds_old, vgs_old)
    gate_new = _limit_gate(gate, gate_old, von)
    v = np.where(swapped, vds - gate_new + gate, vds + gate_new - gate)  # the other gate voltage stays
    v = np.where(gate_new == gate, vds, v)
    v = np.where(swapped, -_limit_drain(-v, -vds_old), _limit_drain(v, vds_old))
    limited = p["polarity"] * np.stack([v, np.where(swapped, gate_new + v, gate_new), vbs])
    return np.where((gate_new == gate) & (v == vds), new, limited)


def _limit_gate(new: Array, old: Array, von: Array) -> Array:
    up = 2.0 * np.abs(old - von) + 2.0
    down = np.abs(old - von) + 1.0
    falling, far_on = new <= old, von + 3.5
    strong = np.where(
        falling,
        np.where(new >= far_on, np.maximum(new, old - down), np.maximum(new, von + 2.0)),
        np.minimum(new, old + up),
    )
    middle = np.where(falling, np.maximum(new, von - 0.5), np.minimum(new, von + 4.0))
    off = np.where(
        falling,
        np.maximum(new, old - up),
        np.where(new <= von + 0.5, np.minimum(new, old + down), von + 0.5),
    )
    return np.where(old >= far_on, strong, np.where(old >= von, middle, off))


def _limit_drain(new: Array, old: Array) -> Array:
    high = np.where(
        new > old, np.minimum(new, 3.0 * old + 2.0), np.where(new < 3.5, np.maximum(new, 2.0), new)
    )
    low = np.where(new > old, np.minimum(new, 4.0), np.maximum(new, -0.5))
    return np.where(old >= 3.5, high, low)


def ekv(p: Parameters, u: Array) -> Value:
    """Drain current [A] of the EKV MOSFET, all regions in one expression; ports (d,s), (g,b), (s,b).

        ``i = Is [F(vp - vs) - F(vp - vd)] (1 + lambda |vds|)``,  ``F(v) = ln²(1 + exp(v / 2Vt))``,
        ``Is = 2 n kp (w/l) Vt²``,  ``n = 1 + gamma / (2 √(phi + vp + 4Vt))``,
        ``vp = vg' - phi - gamma (√(vg' + gamma²/4) - gamma/2)``,  ``vg' = vg - vto + phi + gamma √phi``,

    all voltages against the bulk (EKV 2.6 without its short-channel terms); ``|vds|`` is rounded to
    ``√(vds² + 16Vt²) - 4Vt``, which keeps the law analytic and symmetric in drain and source. Below
    ``vg' = 0``, in deep cut-off, ``vp`` stays at ``-phi``.
    """
    vds, vg, vs = p["polarity"] * u
    vt = thermal_voltage(p["temperature"])
    vp, vp_g, n, n_p = _pinch_off(p, vg, vt)
    forward, forward_slope = _interpolation((vp - vs) / (2.0 * vt))
    reverse, reverse_slope = _interpolation((vp - vs - vds) / (2.0 * vt))
    scale = 2.0 * n * p["kp"] * p["w"] / p["l"] * vt**2
    root = np.sqrt(vds**2 + 16.0 * vt**2)
    longer = 1.0 + p["lambda_"] * (root - 4.0 * vt)
    difference = forward - reverse
    g_source, g_drain = (scale * longer * s / (2.0 * vt) for s in (forward_slope, reverse_slope))
    vary = scale * longer * difference * n_p / n  # through the slope factor
    slopes = np.stack(
        [
            g_drain + scale * difference * p["lambda_"] * vds / root,
            (g_source - g_drain + vary) * vp_g,
            g_drain - g_source,
        ]
    )
    return p["polarity"] * scale * longer * difference, slopes


def _pinch_off(p: Parameters, vg: Array, vt: Any) -> tuple[Array, Array, Array, Array]:
    """Pinch-off voltage and ``∂vp/∂vg``, slope factor and ``∂n/∂vp``."""
    half, phi = 0.5 * p["gamma"], p["phi"]
    lifted = vg - p["polarity"] * p["vto"] + phi + p["gamma"] * np.sqrt(phi)
    on = lifted.real > 0.0
    with np.errstate(invalid="ignore", divide="ignore"):
        root = np.sqrt(np.where(on, lifted, 0.0) + half**2)
        vp = np.where(on, lifted - 2.0 * half * (root - half), 0.0) - phi
        vp_g = np.where(on, np.where(root == 0.0, 1.0, 1.0 - half / root), 0.0)
    depth = np.sqrt(phi + vp + 4.0 * vt)
    return vp, vp_g, 1.0 + half / depth, -0.5 * half / depth**3


def _interpolation(u: Array) -> tuple[Array, Array]:
    """``ln²(1 + exp u)`` and its derivative by u, without overflow; real or complex."""
    positive = u.real > 0.0
    e = np.exp(np.where(positive, -u, u))
    logarithm = np.where(positive, u, 0.0) + np.log1p(e)
    return logarithm**2, 2.0 * logarithm * np.where(positive, 1.0, e) / (1.0 + e)


def ekv_noise(p: Parameters, u: Array, temperature: float) -> Array:
    """Thermal noise of the channel, weak to strong inversion [A²/Hz] (EKV 2.6, section 4.6).

    ``4kT β n Vt [4/3 (x² + x y + y²)/(x + y) - 1]``, ``x = √(1/4 + F(vp-vs))``, ``y`` at the drain.
    """
    vds, vg, vs = p["polarity"] * u
    vt = thermal_voltage(p["temperature"])
    vp, _, n, _ = _pinch_off(p, vg, vt)
    x = np.sqrt(0.25 + _interpolation((vp - vs) / (2.0 * vt))[0])
    y = np.sqrt(0.25 + _interpolation((vp - vs - vds) / (2.0 * vt))[0])
    charge = n * vt * (4.0 / 3.0 * (x**2 + x * y + y**2) / (x + y) - 1.0)
    density: Array = 4.0 * BOLTZMANN * temperature * p["kp"] * p["w"] / p["l"] * charge
    return density


def breakdown_voltage(bv: float, ibv: float, is_: float, nbv: float, vt: float) -> float:
    """The ``bv`` [V] of :func:`junction_current` at which the current reaches ``-ibv`` [A] at ``-bv`` itself.

    By ngspice's fixed-point iteration, which takes a step or two.
    """
    if not np.isfinite(bv) or ibv < is_ * bv / vt:
        return bv
    moved = bv - nbv * vt * np.log(1.0 + ibv / is_)
    for _ in range(25):
        last, moved = moved, bv - nbv * vt * np.log(ibv / is_ + 1.0 - moved / vt)
        if abs(moved - last) <= 1e-15 * bv:
            break
    return float(moved)

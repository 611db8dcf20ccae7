"""Device laws: their derivatives, limits and textbook values; where they are analytic; their noise."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ohmostat.simulator import semiconductors as semi
from ohmostat.simulator.devices import DEVICES, Device

K_Q = 1.38064852e-23 / 1.6021766208e-19
VT = K_Q * 300.15
KINDS = sorted(DEVICES)


@dataclass(frozen=True)
class Wave:
    """``u0 sin(u1)``, as an expression."""

    ports: tuple[Any, ...] = (("a", "b"), ("c", "0"))
    analytic: bool = True

    def evaluate(self, u: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return u[0] * np.sin(u[1]), np.stack([np.sin(u[1]), u[0] * np.cos(u[1])])

    def text(self, ports: Any, constant: Any) -> str:
        raise NotImplementedError


SPECIAL: dict[str, Callable[[np.random.Generator, int], np.ndarray]] = {
    "polarity": lambda rng, k: rng.choice([-1.0, 1.0], k),
    "temperature": lambda rng, k: rng.uniform(250, 400, k),
    "is_": lambda rng, k: 10 ** rng.uniform(-16, -9, k),
    "gmin": lambda rng, k: 10 ** rng.uniform(-13, -3, k),
    "bv": lambda rng, k: rng.choice([2.0, np.inf], k),
    "m": lambda rng, k: rng.uniform(0.1, 0.9, k),
    "fc": lambda rng, k: rng.uniform(0.1, 0.8, k),
    "ron": lambda rng, k: 10 ** rng.uniform(0, 3, k),
    "high": lambda rng, k: rng.uniform(1.5, 2.0, k),
}


def bank(kind: str, seed: int = 0, k: int = 200) -> tuple[Device, dict[str, Any], np.ndarray]:
    """A kind with random parameters and port voltages (ports, 3, k)."""
    rng, device = np.random.default_rng(seed), DEVICES[kind]
    values: dict[str, Any] = {"expression": Wave()}
    for parameter in device.parameters:
        draw = SPECIAL.get(parameter.name, lambda rng, k: rng.uniform(0.5, 1.0, k))
        values[parameter.name] = draw(rng, k)
    controls = 2 if device.controls is None else device.controls
    u = rng.uniform(-3.0, 1.0, (1 + controls, 3, k))
    if kind in ("mosfet", "ekv"):
        u = rng.uniform(-3.0, 3.0, u.shape)
    return device, values, u


def derivative(law: Callable[..., Any], values: dict[str, Any], u: np.ndarray, port: int) -> np.ndarray:
    """Central difference of the fourth order."""
    h = 1e-4 * VT
    at = {}
    for k in (-2, -1, 1, 2):
        moved = u.copy()
        moved[port] += k * h
        at[k] = law(values, moved)[0]
    return (8 * (at[1] - at[-1]) - (at[2] - at[-2])) / (12 * h)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("part", ["law", "storage"])
def test_slopes_are_derivatives(kind: str, part: str) -> None:
    device, values, u = bank(kind)
    law = getattr(device, part)
    if law is None:
        return
    f, slopes = law(values, u)
    assert f.shape == u.shape[1:] and slopes.shape == u.shape
    for port in range(len(u)):
        difference = derivative(law, values, u, port)
        scale = np.abs(slopes).max(axis=0) + np.abs(f) + 1e-9 * np.abs(f).max()
        smooth = np.abs(difference - slopes[port]) <= 1e-6 * scale
        # a handful of points may straddle a seam, where a second derivative jumps; a switch has no slope
        assert smooth.mean() > 0.995


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("part", ["law", "storage"])
def test_one_row_of_parameters_serves_a_batch_and_a_batch_its_own(kind: str, part: str) -> None:
    device, values, u = bank(kind)
    law = getattr(device, part)
    if law is None:
        return
    rows = {
        name: np.broadcast_to(value, u.shape[1:]) for name, value in values.items() if name != "expression"
    }
    rows["expression"] = values["expression"]
    for one, batch in zip(law(values, u), law(rows, u), strict=True):
        assert np.array_equal(one, batch)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if DEVICES[kind].analytic])
def test_complex_steps_give_the_slopes_of_analytic_kinds(kind: str) -> None:
    device, values, u = bank(kind)
    for law in (device.law, device.storage):
        if law is None:
            continue
        f, slopes = law(values, u)
        for port in range(len(u)):
            moved = u.astype(complex)
            moved[port] += 1e-30j
            g, _ = law(values, moved)
            np.testing.assert_allclose(g.real, f, rtol=1e-12, atol=1e-12 * np.abs(f).max())
            np.testing.assert_allclose(
                g.imag / 1e-30, slopes[port], rtol=1e-9, atol=1e-9 * np.abs(slopes).max()
            )


@pytest.mark.parametrize("kind", [kind for kind in KINDS if DEVICES[kind].limit is not None])
def test_limiting_leaves_small_steps_alone_and_ends(kind: str) -> None:
    """Going on from the limited voltages towards the same goal arrives there."""
    device, values, u = bank(kind)
    assert device.limit is not None
    assert np.array_equal(device.limit(values, u, u), u)
    near = u + 1e-3 * VT
    assert np.array_equal(device.limit(values, near, u), near)
    goal, here = u, np.zeros_like(u)
    for _ in range(200):
        here = device.limit(values, goal, here)
    np.testing.assert_allclose(here, goal)


def test_a_wild_junction_step_is_cut_to_what_the_exponential_bears() -> None:
    _, values, _ = bank("diode", k=1)
    values |= {"is_": np.array([1e-14]), "n": np.ones(1), "temperature": np.array([300.15])}
    limited = semi.limit_diode(values, np.full((1, 1, 1), 40.0), np.full((1, 1, 1), 0.65))
    assert limited[0, 0, 0] == pytest.approx(0.65 + VT * np.log(1 + 39.35 / VT))


DIODE = {"is_": 1e-14, "n": 1.5, "temperature": 300.15, "gmin": 0.0, "cjo": 2e-12, "vj": 0.8, "m": 0.4,
         "fc": 0.5, "tt": 1e-9, "bv": 5.0, "nbv": 1.2}  # fmt: skip


def diode(v: Any, **changes: float) -> Any:
    values = {name: np.array([value]) for name, value in {**DIODE, **changes}.items()}
    return semi.diode(values, np.reshape(v, (1, 1, -1)))[0][0]


def test_a_diode_in_its_three_regions() -> None:
    n_vt = 1.5 * VT
    assert diode(0.7)[0] == pytest.approx(1e-14 * (np.exp(0.7 / n_vt) - 1), rel=1e-12)
    assert diode(-2.0)[0] == pytest.approx(-1e-14 * (1 - (3 * n_vt / (2.0 * np.e)) ** 3), rel=1e-12)
    assert diode(-5.5)[0] == pytest.approx(-1e-14 * np.exp(0.5 / (1.2 * VT)), rel=1e-12)
    assert diode(0.3, gmin=1e-3)[0] == pytest.approx(3e-4, rel=1e-6)
    assert diode(-50.0, bv=np.inf)[0] == pytest.approx(-1e-14)


def test_a_diode_is_smooth_at_its_seam() -> None:
    seam = -3 * 1.5 * VT
    below, above = diode(seam - 1e-12)[0], diode(seam + 1e-12)[0]
    assert below == pytest.approx(above, rel=1e-9)


def test_breakdown_is_where_it_was_asked_for() -> None:
    moved = semi.breakdown_voltage(5.0, 1e-3, 1e-14, 1.2, VT)
    assert diode(-5.0, bv=moved)[0] == pytest.approx(-1e-3, rel=1e-2)  # SPICE's own definition adds bv/vt
    assert semi.breakdown_voltage(np.inf, 1e-3, 1e-14, 1.0, VT) == np.inf


@given(st.floats(-4.0, 4.0), st.floats(0.1, 0.9))
@settings(max_examples=60, deadline=None)
def test_depletion_charge_integrates_its_capacitance(v: float, fc: float) -> None:
    values = {name: np.array([value]) for name, value in {**DIODE, "fc": fc, "tt": 0.0}.items()}
    grid, weights = np.polynomial.legendre.leggauss(60)
    corners = sorted({0.0, v, *([fc * 0.8] if 0 < fc * 0.8 < v else [])})
    total = 0.0
    for a, b in pairwise(corners):
        points = a + (b - a) * (grid + 1) / 2
        total += (b - a) / 2 * weights @ semi.diode_charge(values, points[None, None])[1][0, 0]
    charge = semi.diode_charge(values, np.array([[[v]], [[0.0]]])[:, None, 0])[0]
    assert charge[0, 0] == pytest.approx(np.sign(v) * total, rel=1e-9, abs=1e-27)


CHANNEL = {"polarity": 1.0, "vto": 0.6, "kp": 1e-4, "gamma": 0.4, "phi": 0.7, "lambda_": 0.0, "w": 1e-5,
           "l": 1e-6, "temperature": 300.15}  # fmt: skip


def channel(law: Any, d: Any, g: Any, s: Any, b: Any, **changes: float) -> Any:
    """Drain current for terminal voltages, through each law's own ports."""
    values = {name: np.array([value]) for name, value in {**CHANNEL, **changes}.items()}
    d, g, s, b = np.broadcast_arrays(*(np.atleast_1d(np.asarray(v, float))[None] for v in (d, g, s, b)))
    ports = (d - s, g - s, b - s) if law is semi.mosfet else (d - s, g - b, s - b)
    return law(values, np.stack(ports))[0][0]


@pytest.mark.parametrize("law", [semi.mosfet, semi.ekv])
@given(*(st.floats(-3.0, 3.0) for _ in range(4)))
@settings(max_examples=60, deadline=None)
def test_channels_are_symmetric_passive_and_come_in_pairs(
    law: Any, d: float, g: float, s: float, b: float
) -> None:
    here = {"lambda_": 0.05}
    i = channel(law, d, g, s, b, **here)[0]
    assert channel(law, s, g, d, b, **here)[0] == pytest.approx(-i, rel=1e-9, abs=1e-18)
    assert i * (d - s) >= -1e-18
    p_channel = channel(law, -d, -g, -s, -b, **here, polarity=-1.0, vto=-0.6)[0]
    assert p_channel == pytest.approx(-i, rel=1e-9, abs=1e-18)


def test_the_square_law() -> None:
    beta = 1e-4 * 10
    assert channel(semi.mosfet, 3.0, 1.6, 0.0, 0.0)[0] == pytest.approx(beta / 2)  # saturated at 1 V over
    assert channel(semi.mosfet, 0.5, 1.6, 0.0, 0.0)[0] == pytest.approx(beta * 0.5 * (1 - 0.25))
    assert channel(semi.mosfet, 3.0, 0.5, 0.0, 0.0)[0] == 0.0
    von = 0.6 + 0.4 * (np.sqrt(0.7 + 2.0) - np.sqrt(0.7))
    assert channel(semi.mosfet, 3.0, 1.6, 0.0, -2.0)[0] == pytest.approx(beta / 2 * (1.6 - von) ** 2)
    assert channel(semi.mosfet, 3.0, 1.6, 0.0, 0.0, lambda_=0.1)[0] == pytest.approx(beta / 2 * 1.3)


def test_ekv_in_weak_and_in_strong_inversion() -> None:
    """One decade per n Vt ln 10 below threshold, a square law of slope factor n above."""
    weak = channel(semi.ekv, 1.0, [0.1, 0.12], 0.0, 0.0)
    vp = 0.1 - 0.6  # of gamma = 0
    bare = channel(semi.ekv, 1.0, [0.1, 0.12], 0.0, 0.0, gamma=0.0)
    assert np.log(bare[1] / bare[0]) == pytest.approx(0.02 / VT, rel=1e-4)
    assert bare[0] == pytest.approx(2e-3 * VT**2 * np.exp(vp / VT), rel=1e-4)
    n_weak = 0.02 / VT / np.log(weak[1] / weak[0])
    assert 1.1 < n_weak < 1.4
    strong = channel(semi.ekv, 6.0, 4.6, 0.0, 0.0, gamma=0.0)[0]
    assert strong == pytest.approx(1e-3 / 2 * 4.0**2, rel=1e-6)  # beta/2n (vg - vto)²


def test_ekv_stays_finite_far_outside() -> None:
    for v in ([-500.0], [500.0], [0.0]):
        assert np.isfinite(channel(semi.ekv, v, [-500.0, 500.0], [0.0, 0.0], 0.0)).all()


def test_noise_is_thermal_or_shot() -> None:
    k, q, t = 1.38064852e-23, 1.6021766208e-19, 350.0
    u = np.array([0.7]).reshape(1, 1, 1)

    def noise(kind: str, values: dict[str, float], ports: np.ndarray) -> float:
        law = DEVICES[kind].noise
        assert law is not None
        given_ = {name: np.array([value]) for name, value in values.items()}
        return float(law(given_, ports, t)[0, 0])

    assert noise("resistor", {"conductance": 1e-3}, u) == pytest.approx(4 * k * t * 1e-3)
    assert noise("diode", DIODE, u) == pytest.approx(2 * q * diode(0.7)[0])
    assert noise("diode", DIODE, -u) == pytest.approx(-2 * q * diode(-0.7)[0])
    on = np.array([3.0, 1.6, 0.0]).reshape(3, 1, 1)
    assert noise("mosfet", CHANNEL, on) == pytest.approx(8 / 3 * k * t * 1e-3)  # gm = beta (vgs - vto)
    switch = {"vt": 0.5, "ron": 10.0, "roff": 1e9}
    assert noise("switch", switch, np.ones((2, 1, 1))) == pytest.approx(0.4 * k * t)


def test_ekv_noise_goes_from_shot_to_two_thirds_thermal() -> None:
    k, q, t = 1.38064852e-23, 1.6021766208e-19, 300.15
    values = {name: np.array([value]) for name, value in {**CHANNEL, "gamma": 0.0}.items()}
    weak, strong = (np.array([vds, vg, 0.0]).reshape(3, 1, 1) for vds, vg in ((1.0, 0.2), (8.0, 5.6)))
    current = semi.ekv(values, weak)[0][0, 0]
    assert semi.ekv_noise(values, weak, t)[0, 0] == pytest.approx(2 * q * current, rel=1e-3)
    transconductance = 1e-3 * 5.0
    thermal = 4 * k * t * 2 / 3 * transconductance
    assert semi.ekv_noise(values, strong, t)[0, 0] == pytest.approx(thermal, rel=0.01)


def test_a_switch_turns_at_its_threshold() -> None:
    values = {"vt": np.array([0.5]), "ron": np.array([10.0]), "roff": np.array([1e6])}
    u = np.array([[1.0, 1.0], [0.4, 0.6]])[:, None]
    assert DEVICES["switch"].law(values, u)[0].tolist() == [[1e-6, 0.1]]

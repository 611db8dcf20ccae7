"""Transients against closed forms, exact energy balances and ngspice."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import strategies as st

from ohmostat.simulator.devices import Current
from ohmostat.simulator.netlist import Netlist, NetlistError
from ohmostat.simulator.ngspice import TIGHT_TRANSIENT, ngspice_available, simulate_with_ngspice, with_options
from ohmostat.simulator.operating_point import ConvergenceError, operating_point, operating_points
from ohmostat.simulator.spice import write_spice
from ohmostat.simulator.transient import Transient, TransientError, transient
from ohmostat.simulator.transient_steps import METHODS, STARTER, Method
from ohmostat.simulator.waveforms import Exponential, PiecewiseLinear, Pulse, Sine

from .small_circuits import netlist_of, rc, rectifier, rlc

seeds = st.integers(0, 2**32 - 1)
IMPLICIT = ("tr-bdf2", "esdirk4")
ORDERS = {"tr-bdf2": 2, "esdirk4": 4, "explicit": 3}


def filtered_sine(t: np.ndarray, tau: float = 1e-6, frequency: float = 1e6) -> np.ndarray:
    """An RC filter's answer to a sine of 1 V that begins at 0."""
    w = 2 * np.pi * frequency
    return (np.sin(w * t) - w * tau * np.cos(w * t) + w * tau * np.exp(-t / tau)) / (1 + (w * tau) ** 2)


# -- orders --------------------------------------------------------------------------------------------


def residuals(method: Method, weights: np.ndarray) -> dict[int, float]:
    """Largest violation of the order conditions (Butcher's, of trees with up to four nodes), by order."""
    a, c, one = method.a, method.c, np.ones(len(method.c))
    trees: dict[int, list[tuple[np.ndarray, float]]] = {
        1: [(one, 1)],
        2: [(c, 1 / 2)],
        3: [(c**2, 1 / 3), (a @ c, 1 / 6)],
        4: [(c**3, 1 / 4), (c * (a @ c), 1 / 8), (a @ c**2, 1 / 12), (a @ a @ c, 1 / 24)],
    }
    return {order: max(abs(weights @ phi - value) for phi, value in of) for order, of in trees.items()}


@pytest.mark.parametrize(
    ("method", "order", "embedded"),
    [(METHODS["tr-bdf2"], 2, 3), (METHODS["esdirk4"], 4, 3), (METHODS["explicit"], 3, 2), (STARTER, 2, 1)],
    ids=["tr-bdf2", "esdirk4", "explicit", "starter"],
)
def test_order_conditions(method: Method, order: int, embedded: int) -> None:
    for weights, p in ((method.a[-1], order), (method.a[-1] - method.error, embedded)):
        found = residuals(method, weights)
        assert all(found[k] < 1e-14 for k in range(1, p + 1))
        assert p == 4 or found[p + 1] > 1e-4
    assert method.order == min(order, embedded) + 1


@pytest.mark.parametrize("method", [*(METHODS[name] for name in IMPLICIT), STARTER])
def test_implicit_methods_are_l_stable(method: Method) -> None:
    s = len(method.c)

    def growth(z: complex) -> complex:
        stages = np.linalg.solve(np.eye(s) - z * method.a, np.ones(s))
        return complex(stages[-1])

    assert max(abs(growth(1j * y)) for y in np.logspace(-3, 4, 300)) < 1 + 1e-12
    assert abs(growth(-1e9)) < 1e-7


def fixed_steps(net: Netlist, stop: float, steps: int, method: str, **more: object) -> Transient:
    """In equal steps but for the start, which is cut short by its own error."""
    return transient(net, stop, max_step=stop / steps, rtol=0.9, atol=0.9, method=method, **more)  # type: ignore[arg-type]


def slope(errors: list[float]) -> float:
    """Order of convergence from errors at steps that halve."""
    return float(np.mean(np.log2(np.array(errors[:-1]) / np.array(errors[1:]))))


@pytest.mark.parametrize("method", ORDERS)
def test_order_on_a_driven_rc(method: str) -> None:
    errors = []
    for steps in (64, 128, 256):
        wave = fixed_steps(rc(Sine(0.0, 1.0, 1e6)), 2e-6, steps, method)
        errors.append(float(np.abs(wave["out"] - filtered_sine(wave.times)).max()))
    assert slope(errors) == pytest.approx(ORDERS[method], abs=0.35)


@pytest.mark.parametrize("method", IMPLICIT)
def test_order_on_a_resonator(method: str) -> None:
    """Voltage and inductor current of a damped resonance, with the inductor in the state."""
    net = rlc(resistance=50.0)
    decay, w = 1 / (2 * 50.0 * 1e-9), np.sqrt(1e15 - (1 / (2 * 50.0 * 1e-9)) ** 2)
    errors = []
    for steps in (100, 200, 400):
        wave = fixed_steps(net, 4e-7, steps, method, initial={"v": 1.0}, uic=True)
        t = wave.times
        exact = np.exp(-decay * t) * (np.cos(w * t) - decay / w * np.sin(w * t))
        errors.append(float(np.abs(wave["v"] - exact).max()))
    assert slope(errors) == pytest.approx(ORDERS[method], abs=0.35)


@pytest.fixture(scope="module")
def tight() -> Transient:
    """The rectifier, run tight."""
    return transient(rectifier(), 1e-6, rtol=1e-7, atol=1e-9, method="esdirk4")


@pytest.mark.parametrize("method", IMPLICIT)
def test_errors_follow_the_tolerance(method: str, tight: Transient) -> None:
    t = np.linspace(0.0, 1e-6, 301)
    for rtol in (1e-3, 1e-5):
        wave = transient(rectifier(), 1e-6, rtol=rtol, atol=rtol * 1e-2, method=method)
        assert np.abs(wave.at(t)["out"] - tight.at(t)["out"]).max() < 10 * rtol * wave["in"].max()
        assert wave.residual < rtol * 2e-2


# -- stiff circuits, starts and corners ----------------------------------------------------------------


@pytest.mark.parametrize("method", ("auto", *IMPLICIT))
def test_stiff_rc_takes_the_slow_steps(method: str) -> None:
    """Time constants a million apart: fast parts follow at once and do not ring."""
    net = rc(Pulse(0.0, 1.0, delay=1e-3, rise=1e-6))
    net.resistor("R2", "out", "slow", conductance=1e-6)
    net.capacitor("C2", "slow", "0", 1e-6)
    wave = transient(net, 5.0, method=method, rtol=1e-4)
    t = wave.times[wave.times > 2e-3]
    assert np.abs(wave.at(t)["slow"] - -np.expm1(-(t - 1e-3) / 1.0)).max() < 1.5e-3  # R1 is 0.1 % of R2
    assert wave["out"].max() < 1 + 1e-4 and wave["out"].min() > -1e-4
    assert wave.counts.accepted < 400


@pytest.mark.parametrize("method", ("auto", *ORDERS))
def test_a_jump_is_exact(method: str) -> None:
    wave = transient(rc(Pulse(0.0, 1.0, delay=1e-6, width=1e-6)), 4e-6, method=method, rtol=1e-6, atol=1e-9)
    t = np.linspace(0.0, 4e-6, 997)
    up, down = (np.where(t > start, -np.expm1(-(t - start) / 1e-6), 0.0) for start in (1e-6, 2e-6))
    assert np.abs(wave.at(t)["out"] - (up - down)).max() < 2e-5
    for corner in (1e-6, 2e-6):
        before, after = np.flatnonzero(np.isclose(wave.times, corner, rtol=1e-12, atol=0.0))
        assert wave["out"][before] == pytest.approx(wave["out"][after], abs=1e-6)
        assert abs(wave["in"][after] - wave["in"][before]) == pytest.approx(1.0, abs=1e-6)
        if method != "explicit":
            jump = wave.current("V1")[after] - wave.current("V1")[before]
            assert abs(jump) == pytest.approx(1e-3, rel=1e-3)


def test_corners_are_hit() -> None:
    ramp = PiecewiseLinear((1e-7, 3.3e-7, 3.3e-7 + 1e-10, 7e-7), (0.0, 1.0, -1.0, 0.5))
    net = rc(ramp)
    net.current_source("I1", "0", "out", waveform=Exponential(0.0, 1e-3, 2.5e-7, 1e-8, 4e-7, 1e-8))
    wave = transient(net, 1e-6)
    for corner in (*ramp.times, 2.5e-7, 4e-7):
        assert np.sum(wave.times == corner) == 2
    assert wave.times[0] == 0.0 and wave.times[-1] == 1e-6
    assert np.all(np.diff(wave.times) >= 0.0)
    assert np.abs(wave["in"] - [ramp.value(t) for t in wave.times]).max() < 1e-5


def test_a_switch_changes_at_its_threshold() -> None:
    """A ramp closes and opens it: the capacitor's closed form before, between and after."""
    net = Netlist("switched")
    net.voltage_source("Vc", "c", "0", waveform=PiecewiseLinear((0.0, 3e-6, 6e-6), (0.0, 3.0, 0.0)))
    net.voltage_source("V1", "in", "0", 1.0)
    net.switch("S1", "in", "out", "c", "0", vt=2.0, ron=1e3, roff=1e12)
    net.capacitor("C1", "out", "0", 1e-9)
    net.resistor("R1", "out", "0", conductance=1e-3)
    net.resistor("R2", "in", "mid", conductance=1e-3)
    net.switch("S2", "mid", "0", "c", "0", vt=2.0, ron=1e3, roff=1e12)
    wave = transient(net, 8e-6, rtol=1e-6, atol=1e-9)
    t = np.linspace(0.0, 8e-6, 1999)
    full = -0.5 * np.expm1(-2.0 * np.clip(t - 2e-6, 0.0, 2e-6) / 1e-6)
    assert np.abs(wave.at(t)["out"] - full * np.exp(-np.maximum(t - 4e-6, 0.0) / 1e-6)).max() < 2e-5
    away = np.abs(t - 3e-6) - 1e-6
    away, calm = away[np.abs(away) > 1e-10], np.abs(away) > 1e-10  # "mid" jumps
    assert np.abs(wave.at(t[calm])["mid"] - np.where(away < 0.0, 0.5, 1.0)).max() < 1e-6
    assert wave.counts.accepted < 1500


def test_kept_factors_do_not_hide_an_error() -> None:
    """A bridge rectifier floats while its diodes are off; factors from when they conducted find no fault."""
    net = Netlist("bridge")
    net.voltage_source("V1", "a", "0", waveform=Sine(0.0, 10.0, 50.0))
    net.resistor("Rs", "a", "p", conductance=0.1)
    for k, ends in enumerate((("p", "out"), ("0", "out"), ("neg", "p"), ("neg", "0"))):
        net.diode(f"D{k}", *ends, is_=1e-12, n=1.2, cjo=20e-12)
    net.capacitor("C1", "out", "neg", 47e-6)
    net.resistor("R1", "out", "neg", conductance=1e-3)
    net.resistor("R2", "neg", "0", conductance=1e-7)
    few, many = (transient(net, 30e-3, rtol=3e-6, atol=1e-8, max_step=step) for step in (5e-4, 3e-5))
    assert np.abs(few.at(many.times)["out"] - many["out"]).max() < 5e-3


def test_bends_of_nodes_without_storage_are_seen() -> None:
    """Nothing in this circuit has a local error: its steps follow where the interpolation would err."""
    net = Netlist("clipped")
    net.voltage_source("V1", "in", "0", waveform=Sine(0.0, 1.0, 1e6))
    net.diode("D1", "in", "out", is_=1e-15)
    net.resistor("R1", "out", "0", conductance=1e-5)
    wave = transient(net, 2e-6, rtol=1e-5)
    t = np.linspace(0.0, 2e-6, 1500)
    exact = operating_points(net, {"V1": np.sin(2e6 * np.pi * t)})["out"]
    assert np.abs(wave.at(t)["out"] - exact).max() < 5e-4


def test_a_slope_of_a_source_jumps_into_a_controlled_one() -> None:
    """The current of a capacitor at a source is no state, and neither is what it controls."""
    net = rc(PiecewiseLinear((1e-6, 2e-6), (0.0, 1.0)))
    net.capacitor("Cin", "in", "0", 1e-9)
    net.ccvs("H1", "h", "0", Current("V1"), 1e3)
    net.resistor("Rh", "h", "0", conductance=1e-3)
    wave = transient(net, 3e-6, rtol=1e-6)
    t = np.linspace(1.01e-6, 1.99e-6, 50)
    through = t - 1e-6 + 1e-6 * np.expm1(-(t - 1e-6) / 1e-6)  # the voltage at the resistor's end
    assert wave.at(t)["h"] == pytest.approx(-1.0 - 1e6 * (t - 1e-6 - through), abs=1e-4)


def test_capacitors_alone_divide_a_step() -> None:
    """No resistor in the source's path: charge, not voltage, passes the jump; then the node discharges."""
    net = Netlist("divider")
    net.voltage_source("V1", "in", "0", waveform=Pulse(0.0, 1.0, delay=1e-6))
    net.capacitor("C1", "in", "out", 1e-9)
    net.capacitor("C2", "out", "0", 3e-9)
    net.resistor("R1", "out", "0", conductance=1e-3)
    wave = transient(net, 10e-6, rtol=1e-6, atol=1e-9)
    t = np.linspace(1.1e-6, 10e-6, 50)
    assert wave.at(t)["out"] == pytest.approx(0.25 * np.exp(-(t - 1e-6) / 4e-6), abs=1e-5)


SCHMITT = """.model n nmos vto=0.7 kp=100u lambda=0.02
.model p pmos vto=-0.7 kp=50u lambda=0.02
V1 v 0 3.3
M1 a in 0 0 n w=4u l=1u
M2 o in a 0 n w=4u l=1u
M3 v o a 0 n w=4u l=1u
M4 b in v v p w=8u l=1u
M5 o in b v p w=8u l=1u
M6 0 o b v p w=8u l=1u
C9 o 0 10f
R1 o in 100k
C1 in 0 100p
"""


def test_starts() -> None:
    net = rc(Pulse(2.0, 2.0))
    assert transient(net, 1e-6)["out"][0] == pytest.approx(2.0)
    assert transient(net, 1e-6, initial={"out": 0.5})["out"][0] == pytest.approx(0.5, abs=1e-6)
    for wave in (
        transient(net, 1e-6, uic=True, initial={"out": 0.5}),
        transient(net, 1e-6, uic=True, stored={"C1": 0.5}),
    ):
        assert wave["out"] == pytest.approx(2.0 - 1.5 * np.exp(-wave.times / 1e-6), abs=1e-3)
        assert wave["in"][0] == pytest.approx(2.0)  # no storage: it follows at once
    wave = transient(rlc(0.0), 1e-7, uic=True, stored={"L1": 1e-3}, rtol=1e-6, atol=1e-9)
    assert wave.current("L1") == pytest.approx(1e-3 * np.cos(wave.times / np.sqrt(1e-15)), abs=1e-7)


def test_nodes_are_held_where_newtons_method_alone_does_not_lead() -> None:
    """A Schmitt trigger of six transistors, its input held at 0.1 V: the operating point of the same circuit
    with a source there.
    """
    trigger, tied = (netlist_of(SCHMITT + more) for more in ("", "V9 in 0 0.1\n"))
    wave, point = transient(trigger, 1e-9, initial={"in": 0.1}), operating_point(tied)
    for node in ("in", "o", "a", "b"):
        assert wave[node][0] == pytest.approx(point[node], abs=1e-6)


def test_nodes_are_held_in_a_circuit_that_has_no_rest() -> None:
    """A relaxation oscillator with a comparator that knows two levels only: its period is RC 2 ln 3."""
    net = netlist_of("B1 o 0 v=v(p)>v(n)?5:-5\nR1 o p 10k\nR2 p 0 10k\nC2 p 0 1p\nR3 o n 10k\nC3 n 0 10n\n")
    with pytest.raises(ConvergenceError):
        operating_point(net)
    wave = transient(net, 6e-4, initial={"n": 0.1})
    rising = wave.times[1:][(wave["o"][1:] > 0) & (wave["o"][:-1] < 0)]
    assert np.diff(rising)[0] == pytest.approx(1e-4 * 2 * np.log(3), rel=2e-3)


def test_start_chooses_the_operating_point() -> None:
    """A latch stays in the state in which it is started."""
    net = Netlist("latch")
    for k, other in ((1, 2), (2, 1)):
        net.amplifier(f"B{k}", f"q{k}", f"v{k}", law="tanh", low=-1.0, high=1.0, gain=5.0, offset=0.0)
        net.vcvs(f"E{k}", f"n{k}", "0", f"q{k}", "0", -1.0)
        net.resistor(f"R{k}", f"n{k}", f"v{other}", conductance=1e-5)
        net.capacitor(f"C{k}", f"v{k}", "0", 1e-12)
    for sign in (1.0, -1.0):
        point = operating_point(net, initial={"v1": sign, "v2": -sign})
        wave = transient(net, 1e-6, start=point)
        assert np.abs(wave["v1"] - point["v1"]).max() < 1e-6 and point["v1"] * sign > 0.9


# -- the rest ------------------------------------------------------------------------------------------


def test_a_batch_is_its_samples() -> None:
    conductances = np.array([1e-3, 2e-3, 5e-3])
    for net, rtol in ((rc(Sine(0.0, 1.0, 1e6)), 1e-6), (rectifier(), 1e-5)):
        batch = transient(net, 1e-6, at={"R1": conductances}, rtol=rtol, atol=rtol * 1e-2)
        assert batch.voltages.shape == (len(batch.times), 3, len(net.nodes))
        assert batch.energy().dissipated.shape == (len(batch.times), 3)
        t = np.linspace(0.0, 1e-6, 101)
        for k, g in enumerate(conductances):
            one = transient(net, 1e-6, at={"R1": g}, rtol=rtol, atol=rtol * 1e-2)
            assert np.abs(batch.at(t)["out"][:, k] - one.at(t)["out"]).max() < 20 * rtol


def test_same_bits_again() -> None:
    first, second = (transient(rectifier(), 1e-6) for _ in range(2))
    assert np.array_equal(first.x, second.x) and np.array_equal(first.times, second.times)


def test_linear_circuits_reuse_their_factors() -> None:
    wave = transient(rc(Pulse(0.0, 1.0, 1e-6, 1e-7, 1e-7, 1e-6, 3e-6)), 30e-6)
    assert wave.counts.iterations == 0
    assert wave.counts.factorizations < wave.counts.accepted / 3


def test_no_step_leads_on() -> None:
    """A current that rises beyond what the circuit can take, at half of the time."""
    net = Netlist("full")
    net.current_source("I1", "0", "v", waveform=PiecewiseLinear((0.0, 1e-6), (0.0, 2e-3)))
    net.amplifier("B1", "s", "v", law="tanh", low=-1.0, high=1.0, gain=5.0, offset=0.0)
    net.vccs("G1", "v", "0", "s", "0", 1e-3)
    with pytest.raises(
        TransientError, match=r"'full': no step leads on from \d\S*e-07 s.*'v' \(.* V\).*capacitance"
    ):
        transient(net, 1e-6)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"stop": -1.0}, "stop is -1 s; give a finite value above 0 s"),
        ({"rtol": 0.0}, "rtol is 0"),
        ({"atol": np.nan}, "atol is nan V"),
        ({"method": "euler"}, "'euler'; use one of tr-bdf2, esdirk4, explicit"),
        ({"stored": {"C1": 1.0}}, "uic=True"),
        ({"stored": {"R1": 1.0}, "uic": True}, "stored 'R1'"),
        ({"initial": {"nowhere": 1.0}}, "no node 'nowhere'"),
    ],
)
def test_impossible_arguments(more: dict[str, object], message: str) -> None:
    with pytest.raises(NetlistError, match=message):
        transient(rc(Pulse(0.0, 1.0)), **{"stop": 1e-6, **more})  # type: ignore[arg-type]


def test_times_outside() -> None:
    wave = transient(rc(Pulse(0.0, 1.0)), 1e-6)
    with pytest.raises(ValueError, match="give 0 s to 1e-06 s"):
        wave.at([0.0, 2e-6])


def test_explicit_says_what_it_cannot_take() -> None:
    bare = rc(Pulse(0.0, 1.0))
    bare.resistor("R2", "out", "bare", conductance=1e-3)
    coupled = rc(Pulse(0.0, 1.0))
    coupled.capacitor("C2", "in", "out", 1e-12)
    for net, message in (
        (bare, "capacitor to ground at node 'bare'"),
        (coupled, "device 'C2'"),
        (rectifier(), "device 'D1'"),
        (rlc(), "branch currents of device 'L1'"),
    ):
        with pytest.raises(NetlistError, match=f"{message}.*tr-bdf2"):
            transient(net, 1e-6, method="explicit")


def test_gives_up_after_max_steps() -> None:
    with pytest.raises(TransientError, match="10 steps led only to"):
        transient(rc(Sine(0.0, 1.0, 1e6)), 1e-6, max_steps=10)


# -- against ngspice -----------------------------------------------------------------------------------


def ngspice_run(net: Netlist, tran: str, initial: dict[str, float] | None = None) -> dict[str, np.ndarray]:
    text = (
        write_spice(net, initial=initial).replace(".nodeset", ".ic").replace("\n.op\n", f"\n.tran {tran}\n")
    )
    return dict(simulate_with_ngspice(with_options(text, TIGHT_TRANSIENT))["tran"].vectors)


def inverters(title: str, stages: list[tuple[str, str]]) -> Netlist:
    """CMOS inverters (input, output) at 3 V."""
    net = Netlist(title)
    net.voltage_source("Vdd", "vdd", "0", 3.0)
    for k, (a, b) in enumerate(stages):
        net.mosfet(f"MN{k}", b, a, "0", "0", vto=0.7, kp=1e-4, lambda_=0.02, w=10e-6, l=1e-6, cbd=5e-15)
        net.mosfet(
            f"MP{k}", b, a, "vdd", "vdd", polarity=-1, vto=-0.7, kp=5e-5, lambda_=0.02, w=20e-6, l=1e-6
        )
        net.capacitor(f"C{k}", b, "0", 50e-15)
    return net


def periods(t: np.ndarray, v: np.ndarray, level: float) -> np.ndarray:
    up = np.flatnonzero((v[:-1] < level) & (v[1:] >= level))
    return np.diff(t[up] + (level - v[up]) / (v[up + 1] - v[up]) * (t[up + 1] - t[up]))


@pytest.mark.skipif(not ngspice_available(), reason="needs ngspice")
def test_ring_oscillator_against_ngspice() -> None:
    net = inverters("ring", [(f"n{k}", f"n{(k + 1) % 3}") for k in range(3)])
    initial = {"n0": 3.0, "n1": 0.0, "n2": 1.0}
    theirs = ngspice_run(net, "1p 1.5n 0 1p", initial)
    t = np.linspace(0.0, 1.5e-9, 3001)
    ours = transient(net, 1.5e-9, initial=initial, rtol=1e-5, atol=1e-7).at(t)["n0"]
    expected = np.interp(t, theirs["time"], theirs["v(n0)"])
    mine, other = (periods(t, v, 1.5)[-1] for v in (ours, expected))
    assert mine == pytest.approx(other, rel=1e-3)
    assert np.abs(ours - expected).max() < 0.005 * 3.0


@pytest.mark.skipif(not ngspice_available(), reason="needs ngspice")
def test_schmitt_trigger_against_ngspice() -> None:
    """Two inverters with resistive feedback, driven slowly up and down."""
    net = inverters("schmitt", [("g", "m"), ("m", "out")])
    net.voltage_source("V1", "in", "0", waveform=PiecewiseLinear((0.0, 40e-9, 80e-9), (0.0, 3.0, 0.0)))
    net.resistor("Rin", "in", "g", conductance=1e-4)
    net.resistor("Rf", "out", "g", conductance=5e-5)
    net.capacitor("Cg", "g", "0", 10e-15)
    theirs = ngspice_run(net, "20p 80n 0 20p")
    wave = transient(net, 80e-9, rtol=1e-5, atol=1e-7)
    t = np.linspace(0.0, 80e-9, 2001)
    found, expected = wave.at(t)["out"], np.interp(t, theirs["time"], theirs["v(out)"])
    for values in (found, expected):
        assert len(np.flatnonzero(np.diff(values > 1.5))) == 2
    edges = [t[np.flatnonzero(np.diff(values > 1.5))] for values in (found, expected)]
    assert edges[0] == pytest.approx(edges[1], abs=0.1e-9)
    calm = np.all([np.abs(t - edge) > 1e-9 for edge in edges[1]], axis=0)
    assert np.abs(found - expected)[calm].max() < 1e-3 * 3.0

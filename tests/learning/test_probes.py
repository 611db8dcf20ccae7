"""Probes: what they measure, what noise does to that, and what it costs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from ohmostat.circuits.chip import Chip
from ohmostat.circuits.families import FAMILIES, Bank
from ohmostat.circuits.specs import HomeostatSpec
from ohmostat.learning.homeostat import Running
from ohmostat.learning.probes import READING, SCHEMES, Prober

Make = Callable[..., Chip]
Rebuild = Callable[..., Chip]
Inputs = Callable[..., np.ndarray]

PORTS = 15  # of the small chip: 6 + 5 + 4
WIDTH = 10  # of its wider colour, the first and last layer: both colours are probed at once
ORDER = 16  # Hadamard patterns for that
AMPLITUDE = 0.01
SKEWED = {"learning.angle": 70.0, "mismatch.conductance": 0.5}
EXACT = [("one-port", WIDTH), ("hadamard", ORDER)]


def true_skew(chip: Chip) -> dict[str, np.ndarray]:
    """``G_ij - G_ji`` [S] of the actual devices, drivers left out, by forward bank."""
    skew = {}
    for forward, backward in chip.circuit.feedback_pairs:
        back = chip.weight(backward.array)
        skew[forward.name] = chip.weight(forward.array) - (back if backward.transposed else back.T)
    return skew


def skew(prober: Prober, chip: Chip, count: int) -> dict[str, np.ndarray]:
    """The same, measured."""
    found = prober.couplings(chip, count)
    pairs = chip.circuit.feedback_pairs
    return {forward.name: found[forward.name] - found[backward.name].T for forward, backward in pairs}


def flat(arrays: dict[str, np.ndarray]) -> np.ndarray:
    return np.concatenate([arrays[name].ravel() for name in sorted(arrays)])


def relative_error(measured: dict[str, np.ndarray], chip: Chip) -> float:
    true = flat(true_skew(chip))
    return float(np.linalg.norm(flat(measured) - true) / np.linalg.norm(true))


# -- what it measures ------------------------------------------------------------------------------


@pytest.mark.parametrize(("scheme", "cycle"), EXACT)
@pytest.mark.parametrize("start", [0, 7])
def test_a_full_cycle_is_exact(make_chip: Make, scheme: str, cycle: int, start: int) -> None:
    """Wherever in the cycle it begins, and however many cycles."""
    chip = make_chip({**SKEWED, "mismatch.conductance": 1.0, "chip.columns": "passive"})
    prober = Prober(scheme)
    assert prober.cycle(WIDTH) == cycle
    if start:
        skew(prober, chip, start)
    for cycles in (1, 3):
        assert relative_error(skew(prober, chip, cycles * cycle), chip) < 1e-10


@pytest.mark.parametrize("scheme", ["one-port", "hadamard"])
def test_a_full_cycle_is_exact_where_layers_are_fed_by_two_colours(
    make_chip: Make, scheme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A ring of three layers: no two of them have one colour."""
    ring = [*FAMILIES["twin"](3), Bank("closing", 2, 0), Bank("opening", 0, 2)]
    monkeypatch.setitem(FAMILIES, "twin", lambda layers: ring)
    chip, prober = make_chip(SKEWED), Prober(scheme)
    assert len(chip.circuit.feedback_pairs) == 3
    assert relative_error(skew(prober, chip, prober.cycle(PORTS)), chip) < 1e-10


@pytest.mark.parametrize("ports", [1, 2, 10, 16, 33])
def test_patterns(ports: int) -> None:
    for scheme in ("one-port", "hadamard"):
        prober = Prober(scheme, amplitude=0.02)
        cycle = prober.cycle(ports)
        probes, power = prober.patterns(ports, cycle)
        np.testing.assert_array_equal(prober.patterns(ports, cycle - 1, first=1)[0], probes[1:])
        np.testing.assert_allclose(probes.T @ probes, cycle * power * np.eye(ports), atol=1e-15)
        assert np.abs(probes).max() == 0.02
        np.testing.assert_array_equal(prober.patterns(ports, cycle, cycle)[0], probes)  # round again
    assert Prober("random").cycle(ports) == 0


def test_random_patterns_are_normal_and_never_repeat() -> None:
    prober, twin = Prober("random", seed=3), Prober("random", seed=3)
    first, second = (prober.patterns(20, 500, start)[0] for start in (0, 500))
    assert prober.patterns(20, 1)[1] == AMPLITUDE**2
    assert first.std() == pytest.approx(AMPLITUDE, rel=0.03)
    assert abs(np.corrcoef(first.ravel(), second.ravel())[0, 1]) < 0.03
    np.testing.assert_array_equal(twin.patterns(20, 500)[0], first)
    other = Prober("random", seed=4)
    assert abs(np.corrcoef(first.ravel(), other.patterns(20, 500)[0].ravel())[0, 1]) < 0.03


def test_probes_at_the_drivers_inputs_see_their_gains(make_chip: Make) -> None:
    chip = make_chip({"chip.family": "shared", "mismatch.driver_gain": 0.3, "mismatch.conductance": 0.5})
    found = Prober(inputs=True).couplings(chip, ORDER)
    for bank in chip.circuit.banks:
        if bank.pre >= 0:
            block = chip.blocks.weight(bank.post, bank.pre)
            np.testing.assert_allclose(found[bank.name], block, rtol=1e-9, atol=1e-18)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_measurement_never_reads_a_target(make_chip: Make, scheme: str) -> None:
    chip, blind = make_chip(SKEWED), make_chip(SKEWED)
    rng = np.random.default_rng(0)
    for array in blind.devices.values():
        for plane in (array.target, array.deviation, array.step):
            plane[...] = rng.random(plane.shape)
    seen, unseen = (skew(Prober(scheme), c, 12) for c in (chip, blind))
    for name in seen:
        np.testing.assert_array_equal(seen[name], unseen[name])


def test_it_sees_the_actual_devices(make_chip: Make, rebuilt: Rebuild) -> None:
    """A g+ that conducts more by h adds h to the skew; inputs and biases do not matter."""
    chip, step = make_chip(SKEWED), 3e-7
    before = skew(Prober(), chip, ORDER)
    for name, at, sign in (("forward1", (0, 1, 2), 1), ("feedback1", (1, 2, 1), 1)):
        after = skew(Prober(), rebuilt(chip, name, at, step), ORDER)
        changed = after["forward1.forward"] - before["forward1.forward"]
        assert changed[1, 2] == pytest.approx(sign * step, rel=1e-9)
        assert np.count_nonzero(np.abs(changed) > 1e-15) == 1
    for name in ("forward0", "bias1"):
        after = skew(Prober(), rebuilt(chip, name, (0, 0, 0), step), ORDER)
        np.testing.assert_array_equal(after["forward1.forward"], before["forward1.forward"])


@pytest.mark.parametrize("family", ["twin", "shared"])
def test_sensed_currents_are_the_synapses_alone(make_chip: Make, family: str) -> None:
    """``q = G ξ``, without the neurons' loads, and behind the drivers (their gains do not show)."""
    skew = {"mismatch.driver_gain": 0.3} if family == "shared" else {}
    chip = make_chip({"chip.family": family, "chip.columns": "passive", "mismatch.conductance": 0.5} | skew)
    probes = np.random.default_rng(0).normal(size=(7, PORTS))
    expected = np.zeros((7, PORTS))
    for bank in chip.circuit.banks:
        if bank.pre >= 0:
            g = chip.weight(bank.array)
            g = g.T if bank.transposed else g
            expected[:, chip.blocks.slices[bank.post]] += probes[:, chip.blocks.slices[bank.pre]] @ g.T
    np.testing.assert_allclose(Prober().sense(chip, probes), expected, rtol=1e-12, atol=1e-20)
    if family == "twin":
        dense = chip.blocks.dense()
        np.testing.assert_allclose(expected, probes @ dense.T, rtol=1e-12, atol=1e-20)


# -- schemes at equal numbers of measurements ------------------------------------------------------


def mean_square_errors(chip: Chip, scheme: str, count: int) -> float:
    """Mean over starting points or seeds of ``|error|² / |G|²``, both conductances of each pair in ``G``."""
    pairs = chip.circuit.feedback_pairs
    power = sum(np.sum(chip.weight(bank.array) ** 2) for pair in pairs for bank in pair)
    errors = []
    for k in range(ORDER):
        prober = Prober(scheme, seed=k)
        if scheme != "random" and k:
            skew(prober, chip, k)
        measured = skew(prober, chip, count)
        errors.append(np.sum((flat(measured) - flat(true_skew(chip))) ** 2) / power)
    return float(np.mean(errors))


def test_schemes_at_equal_numbers_of_measurements(make_chip: Make) -> None:
    """Random: about width / m. One-port: width / m - 1. Hadamard: no more than that, of its order, as
    cross-talk between layers that do not meet costs nothing. After the cycle nothing is left.
    """
    chip = make_chip(SKEWED)
    counts = (2, 4, 8, WIDTH, 16, 64)
    error = {s: np.array([mean_square_errors(chip, s, m) for m in counts]) for s in SCHEMES}
    np.testing.assert_allclose(error["random"] * counts, WIDTH, rtol=0.5)
    np.testing.assert_allclose(error["one-port"][:3], WIDTH / np.array(counts[:3]) - 1, rtol=0.3)
    assert (error["hadamard"][:3] < 1.2 * (ORDER / np.array(counts[:3]) - 1)).all()
    assert (np.diff(error["hadamard"][:5]) < 0).all() and (np.diff(error["random"]) < 0).all()
    assert (np.diff(error["one-port"][:4]) < 0).all()
    assert (error["hadamard"] < error["random"]).all()
    assert error["one-port"][3] < 1e-20 and error["hadamard"][4] < 1e-20 and error["hadamard"][5] < 1e-20


# -- the sense amplifier ---------------------------------------------------------------------------

NOISE = 3e-9


@pytest.mark.parametrize(
    ("scheme", "count", "expected"),
    [
        ("one-port", WIDTH, 2 * (NOISE / AMPLITUDE) ** 2),
        ("hadamard", ORDER, 2 * (NOISE / AMPLITUDE) ** 2 / ORDER),  # every probe serves every port
        ("hadamard", 4 * ORDER, 2 * (NOISE / AMPLITUDE) ** 2 / (4 * ORDER)),
    ],
)
def test_variance_from_the_amplifiers_noise(
    make_chip: Make, scheme: str, count: int, expected: float
) -> None:
    chip = make_chip(SKEWED)
    prober = Prober(scheme, noise=NOISE, seed=1)
    errors = np.array([flat(skew(prober, chip, count)) - flat(true_skew(chip)) for _ in range(200)])
    assert np.mean(errors**2) == pytest.approx(expected, rel=0.06)  # 200 x 50 values
    assert abs(errors.mean()) < 4 * np.sqrt(expected / errors.size)
    assert abs(np.corrcoef(errors[0], errors[1])[0, 1]) < 0.5  # fresh at every reading


def test_noise_is_one_draw_a_column_and_reading(make_chip: Make) -> None:
    chip = make_chip(SKEWED)
    prober = Prober(noise=NOISE)
    silent = Prober().sense(chip, np.ones((2000, PORTS)))
    heard = np.concatenate([prober.sense(chip, np.ones((1000, PORTS)), k) for k in (0, 1000)]) - silent
    np.testing.assert_allclose(heard.std(axis=0), NOISE, rtol=0.08)
    off = np.corrcoef(heard.T) - np.eye(PORTS)
    assert np.abs(off).max() < 0.1


def test_resolution_of_the_converter(make_chip: Make) -> None:
    chip, step = make_chip(SKEWED), 1e-9
    probes = np.random.default_rng(0).normal(scale=0.1, size=(500, PORTS))
    exact = Prober().sense(chip, probes)
    read = Prober(resolution=step).sense(chip, probes)
    np.testing.assert_allclose(read / step, np.round(read / step), atol=1e-6)
    error = read - exact
    assert np.abs(error).max() <= 0.5001 * step
    assert error.var() == pytest.approx(step**2 / 12, rel=0.05)
    noisy = Prober(resolution=step, noise=NOISE).sense(chip, probes)  # noise comes first
    np.testing.assert_allclose(noisy / step, np.round(noisy / step), atol=1e-6)


def test_a_coarse_converter_is_blind(make_chip: Make) -> None:
    measured = skew(Prober(resolution=1e-3), make_chip(SKEWED), ORDER)
    assert not flat(measured).any()


# -- what it costs ---------------------------------------------------------------------------------

TAU = 1e-7  # 1 pF over 10 uS


@pytest.mark.parametrize("inputs", [False, True])
@pytest.mark.parametrize("scheme", SCHEMES)
def test_heat_of_the_probes(make_chip: Make, scheme: str, inputs: bool) -> None:
    """Every device between a probed driver and a held column: ``g ξ²``, drawn out device by device."""
    chip = make_chip({"chip.family": "shared", "mismatch.driver_gain": 0.3, "mismatch.conductance": 0.5})
    prober = Prober(scheme, 0.02, inputs=inputs)
    patterns = Prober(scheme, 0.02).patterns(WIDTH, 7)[0]
    by_layer = {0: patterns[:, :6], 1: patterns[:, :5], 2: patterns[:, 6:]}  # layers 0 and 2 share a colour
    heat = 0.0
    for bank in chip.circuit.banks:
        if bank.pre >= 0:
            g = chip.devices[bank.array].actual.sum(axis=0)
            g = g if bank.transposed else g.T  # rows: drivers
            drive = by_layer[bank.pre] * (chip.drivers[bank.name] if inputs else 1.0)
            heat += sum(
                g[j, i] * row[j] ** 2 for row in drive for j in range(len(g)) for i in range(len(g[0]))
            )
    prober.couplings(chip, 7)
    assert prober.spent.energy == pytest.approx(heat * READING * TAU, rel=1e-12)


def test_superposed_and_dedicated_probes_cost_differently(make_chip: Make, inputs: Inputs) -> None:
    """The first pay for the held sample's power, the second for settling the chip first, once a step."""
    chip, x = make_chip({**SKEWED, "chip.columns": "passive"}), inputs(4)
    free = chip.relax(x)
    held = Running.beside(chip, x, free).held
    assert held is not None
    direct = 0.0
    for bank in chip.circuit.banks:
        g = chip.devices[bank.array].actual
        pre = {-1: x, -2: np.full((4, 1), chip.bias_voltage)}.get(bank.pre)
        drive = free.layer(bank.pre) if pre is None else pre
        for sign, plane in ((1, g[0]), (-1, g[1])):
            drop = sign * drive[:, None, :] - chip.blocks.layer(free.voltages, bank.post)[:, :, None]
            direct += np.sum(plane * drop**2)
    direct += chip.circuit.design.neuron.leak * np.sum(free.voltages**2)
    assert held == pytest.approx(direct / 4, rel=1e-9)
    superposed, dedicated = Prober(), Prober()
    superposed.gather(chip, 7, held)
    dedicated.gather(chip, 7)
    assert superposed.spent.measurements == dedicated.spent.measurements == 7
    assert superposed.spent.time == pytest.approx(7 * READING * TAU)
    settling = TAU * np.log(1 / chip.circuit.design.learning.tolerance)
    assert dedicated.spent.time == pytest.approx(7 * READING * TAU + settling)
    extra = superposed.spent.energy - dedicated.spent.energy
    assert extra == pytest.approx(held * 7 * READING * TAU)


def test_unsettled_samples_are_not_held(make_chip: Make, inputs: Inputs) -> None:
    chip, x = make_chip(SKEWED), inputs(3)
    free = chip.relax(x)
    alone = Running.beside(chip, x[:1], chip.relax(x[:1]))
    one = Running.beside(chip, x, replace(free, settled=np.array([True, False, False])), pace=0.5)
    assert one.held == pytest.approx(alone.held) and one.pace == 0.5
    np.testing.assert_allclose(one.ports, alone.ports)
    none = Running.beside(chip, x, replace(free, settled=np.zeros(3, bool)))
    assert none.held is None and none.ports.shape == (0, PORTS)
    dedicated = make_chip({**SKEWED, "homeostat.slots": "dedicated"})
    assert Running.beside(dedicated, x, free).held is None


def test_from_spec() -> None:
    spec = HomeostatSpec(scheme="random", amplitude=0.02, noise=1e-9, resolution=2e-9)
    assert Prober.from_spec(spec, 5) == Prober("random", 0.02, 1e-9, 2e-9, 5)
    with pytest.raises(ValueError, match=r"'best'.*random, one-port, hadamard"):
        Prober("best")

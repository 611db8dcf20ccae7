"""The audit: its two ends against the rules, each part against what it must be, and all of them together."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from ohmostat.circuits.chip import Chip
from ohmostat.circuits.periphery import IDEAL, Periphery
from ohmostat.circuits.wiring import Wiring
from ohmostat.cli import main
from ohmostat.learning.audit import (
    EVERYTHING,
    IMPERFECTIONS,
    INTERACTION,
    Subject,
    Vectors,
    audit,
    combinations,
    in_double,
    spot_check,
)
from ohmostat.learning.estimators import (
    Stencil,
    cauchy,
    centered,
    chebyshev,
    exact_response,
    one_sided,
)
from ohmostat.learning.linearised import Linearised
from ohmostat.learning.nudges import CrossEntropy, Nudge, SquaredError
from ohmostat.learning.rules import Adjoint, EquilibriumPropagation, contracted

Make = Callable[..., Chip]
Inputs = Callable[..., np.ndarray]

SAMPLES, BETA = 6, 2e-7
SQUARED = SquaredError(np.random.default_rng(1).random((SAMPLES, 4)), 1.0)
ENTROPY = CrossEntropy(np.random.default_rng(2).normal(size=(3, 4)), np.zeros(3), np.arange(SAMPLES) % 3, 1.0)
PARTS = {
    "mismatch.conductance": 0.5, "mismatch.amplifier_gain": 0.1, "mismatch.amplifier_offset": "30mV",
    "learning.init_scale": 0.6,
}  # fmt: skip
PERIPHERY = {
    "mismatch.nudge_gain": 0.1, "mismatch.nudge_offset": "5nA", "mismatch.sense_gain": 0.1,
    "mismatch.sense_offset": "20mV", "learning.read_noise": "100uV", "learning.tolerance": 1e-5,
}  # fmt: skip
FAMILIES = {
    "twin": {"learning.angle": 40.0},
    "shared": {"chip.family": "shared", "mismatch.driver_gain": 0.2},
    "loop": {"chip.family": "loop"},
    "relay": {"chip.family": "relay", "chip.relays": 7},
}
WIRES = Wiring(40.0, 60.0)


def whole(found: Vectors) -> np.ndarray:
    return np.concatenate([vector.ravel() for vector in found.values()])


def apart(a: Vectors, b: Vectors) -> float:
    """Length of the difference over that of b."""
    return float(np.linalg.norm(whole(a) - whole(b)) / np.linalg.norm(whole(b)))


def devices(update: object) -> Vectors:
    return {name: gradient.devices() for name, gradient in update.gradients.items()}  # type: ignore[attr-defined]


@pytest.fixture(scope="module")
def subject_of(make_chip: Make, inputs: Inputs) -> Callable[..., Subject]:
    """``subject_of(family, estimator, wiring, periphery, {"key": value})``, on a small chip."""

    def made(
        family: str = "twin",
        estimator: Stencil | None = None,
        wiring: Wiring | None = None,
        periphery: Periphery | None = None,
        changes: dict[str, object] | None = None,
    ) -> Subject:
        chip = make_chip(PARTS | FAMILIES[family] | (changes or {}))
        chip.periphery = periphery or chip.periphery
        return Subject.of(chip, inputs(SAMPLES), SQUARED, estimator or centered(BETA), wiring)

    return made


Of = Callable[..., Subject]


# -- the two ends ----------------------------------------------------------------------------------


@pytest.mark.parametrize("columns", ["virtual-ground", "passive"])
@pytest.mark.parametrize("family", FAMILIES)
def test_none_is_the_adjoint_and_all_is_what_ep_measures(subject_of: Of, family: str, columns: str) -> None:
    subject = subject_of(family, changes=PERIPHERY | {"chip.columns": columns})
    found = audit(subject)
    chip, x = subject.chip, subject.inputs
    adjoint = devices(Adjoint().update(chip, x, subject.tight, SQUARED))
    measured = devices(EquilibriumPropagation(centered(BETA)).update(chip, x, subject.loose, SQUARED))
    assert apart(found.true, adjoint) < 1e-7
    assert apart(found.measured, measured) < 1e-14
    assert apart(measured, adjoint) > 0.1


@pytest.mark.parametrize("columns", ["virtual-ground", "passive"])
@pytest.mark.parametrize("family", FAMILIES)
def test_the_reference_is_the_finite_difference(subject_of: Of, family: str, columns: str) -> None:
    subject = subject_of(family, changes={"chip.columns": columns})
    found = audit(subject)
    assert max(spot_check(subject, found).values()) < 1e-5
    false = replace(found, true={name: 1.01 * vector for name, vector in found.true.items()})
    assert min(spot_check(subject, false).values()) > 5e-3


@pytest.mark.parametrize("family", FAMILIES)
def test_the_reference_is_the_finite_difference_of_wired_cells(subject_of: Of, family: str) -> None:
    subject = subject_of(family, wiring=WIRES)
    found = audit(subject)
    assert max(spot_check(subject, found).values()) < 1e-5
    assert found.size("wires", "forward0") > 1e-3  # far from what the ports' own voltages make
    ports = devices(Adjoint().update(subject.chip, subject.inputs, subject.tight, SQUARED))
    wires = {name: ports[name] - found.true[name] for name in ports}
    first = np.linalg.norm(whole(wires)) / np.linalg.norm(whole(found.true))
    assert found.parts["wires"].first[EVERYTHING] == pytest.approx(first, rel=1e-6)


@pytest.mark.parametrize("wiring", [None, WIRES])
def test_the_reference_is_the_finite_difference_at_a_corner(subject_of: Of, wiring: Wiring | None) -> None:
    hot = {"corner.temperature": "400K", "corner.device_tempco": "-2m/K", "corner.voltage": 0.9}
    subject = subject_of(wiring=wiring, changes=hot)
    assert subject.chip.conduction == pytest.approx(0.8)
    assert max(spot_check(subject, audit(subject)).values()) < 1e-5


# -- each part -------------------------------------------------------------------------------------


def test_asymmetry_alone_is_the_bias_of_the_exact_response(subject_of: Of) -> None:
    subject = subject_of()
    found = audit(subject)
    chip, x, free = subject.chip, subject.inputs, subject.tight
    biased = devices(contracted(chip, x, free, exact_response(free, SQUARED)))
    assert found.parts["asymmetry"].first[EVERYTHING] == pytest.approx(apart(biased, found.true), rel=1e-5)
    assert found.parts["asymmetry"].repaired[EVERYTHING] > 1 - 1e-6 > found.alignment(EVERYTHING)


def test_a_finite_nudge_counts_by_its_estimators_order(subject_of: Of) -> None:
    for make, order in ((one_sided, 1), (centered, 2)):
        sizes = [audit(subject_of("twin", make(b))).size("finite nudge", EVERYTHING) for b in (4e-8, 2e-8)]
        assert np.log2(sizes[0] / sizes[1]) == pytest.approx(order, abs=0.05)


def test_equal_gains_are_factors(subject_of: Of) -> None:
    """A source's gain scales every gradient; an amplifier's, each that has a port behind it twice."""
    common = {"mismatch.conductance": 0.0, "learning.angle": 0.0}
    sources = audit(subject_of(periphery=Periphery(nudge_gain=1.1), changes=common))
    amplifiers = audit(subject_of(periphery=Periphery(sense_gain=1.1), changes=common))
    assert set(sources.parts) == {"settling", "finite nudge", "asymmetry", "nudge gain"}
    for name in sources.true:
        assert sources.parts["nudge gain"].first[name] == pytest.approx(0.1, rel=1e-5)
        twice = name.startswith("feedback") or name in ("forward1", "forward2")
        expected = 1.1**2 - 1 if twice else 0.1
        assert amplifiers.parts["sense gain"].first[name] == pytest.approx(expected, rel=1e-5)
        assert sources.parts["nudge gain"].repaired[name] == pytest.approx(1, abs=1e-4)


def test_offsets_of_the_sources_cancel_but_for_curvature_or_count_over_beta(subject_of: Of) -> None:
    def first(estimator: Stencil, ampere: float) -> float:
        found = audit(subject_of("twin", estimator, periphery=Periphery(nudge_offset=ampere)))
        return found.parts["nudge offset"].first[EVERYTHING]

    assert first(centered(BETA), 1e-9) < 1e-6
    one, two = first(one_sided(BETA), 1e-9), first(one_sided(BETA / 2), 1e-9)
    assert one > 1e-3
    assert two / one == pytest.approx(2, rel=1e-4)


def test_noise_and_settling_scale_as_they_must(subject_of: Of) -> None:
    """Noise with its rms, and over β; settling falls with the tolerance, and no further than rounding."""

    def noise(volts: float, beta: float) -> float:
        found = audit(subject_of("twin", centered(beta), periphery=Periphery(noise=volts, seed=1)))
        return found.parts["noise"].first[EVERYTHING]

    base = noise(1e-7, BETA)
    assert noise(2e-7, BETA) / base == pytest.approx(2, rel=1e-3)
    assert noise(1e-7, BETA / 2) / base == pytest.approx(2, rel=1e-3)
    sizes = [
        audit(subject_of(changes={"learning.tolerance": t})).size("settling", EVERYTHING)
        for t in (1e-3, 1e-5, 1e-12)
    ]
    assert sizes[0] > 10 * sizes[1] > 100 * sizes[2]


# -- a linearised chip -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "estimator",
    [one_sided(1e-5), centered(1e-5), cauchy(1e-5, 4), chebyshev(1e-5, 4)],
    ids=lambda estimator: estimator.name,
)
def test_a_linear_chip_answers_any_nudge_by_its_derivative(subject_of: Of, estimator: Stencil) -> None:
    free = replace(subject_of().tight, periphery=IDEAL)
    exact = exact_response(free, ENTROPY).epsilon
    found = estimator.response(Linearised.of(free), ENTROPY)
    assert found.valid.all()
    np.testing.assert_allclose(found.epsilon, exact, rtol=0, atol=1e-6 * np.abs(exact).max())
    curved = estimator.response(free, ENTROPY).epsilon
    assert np.abs(curved - exact).max() > 1e-3 * np.abs(exact).max()


def test_a_linear_chip_goes_on_settling_from_where_it_was_left(subject_of: Of) -> None:
    """With no nudge an unsettled state moves by ``-J̃⁻¹ I``; phases stop as coarsely as the chip's own."""
    free = replace(subject_of().tight, periphery=IDEAL)
    voltages = free.voltages + 1e-3 * np.random.default_rng(4).normal(size=free.voltages.shape)
    away = replace(free, voltages=voltages, ports=free.circuit.ports(voltages)[0])
    nothing = Nudge(SQUARED, np.zeros(SAMPLES), SAMPLES)
    moved = Linearised.of(away).under(nothing).ports - away.ports
    current = away.circuit.current(voltages, away.injected)
    for k in range(SAMPLES):
        expected = -np.linalg.solve(away.port_jacobian(k), current[k])
        np.testing.assert_allclose(moved[k], expected, rtol=0, atol=1e-9)
    coarse = audit(subject_of(changes={"learning.tolerance": 1e-3})).parts["settling"]
    assert 0.2 < coarse.first[EVERYTHING] / coarse.last[EVERYTHING] < 5


# -- all of them together --------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(6))
def test_parts_and_interaction_add_up_and_the_interaction_is_small(
    make_chip: Make, inputs: Inputs, seed: int
) -> None:
    """On chips of random spreads: exactly as vectors, and at most a fifth of the error."""
    rng = np.random.default_rng(seed)
    family = ("twin", "shared")[seed % 2]
    spreads = {"mismatch.nudge_gain": rng.uniform(0.02, 0.2), "mismatch.sense_gain": rng.uniform(0.02, 0.1)}
    changes = PARTS | FAMILIES[family] | PERIPHERY | spreads | {"converters.reading_bits": 20}
    chip = make_chip(changes, chip_seed=seed)
    estimator = (centered(BETA), one_sided(BETA), chebyshev(BETA, 4))[seed % 3]
    found = audit(Subject.of(chip, inputs(SAMPLES, seed), SQUARED, estimator, WIRES))
    assert set(found.parts) == set(IMPERFECTIONS)
    for name in found.true:
        error = found.measured[name] - found.true[name]
        total = sum(vectors[name] for vectors in found.contributions.values())
        np.testing.assert_allclose(total, error, rtol=0, atol=1e-13 * np.abs(found.true[name]).max())
        assert sum(found.share(part, name) for part in found.contributions) == pytest.approx(1)
    assert 0 < found.size(INTERACTION, EVERYTHING) < 0.2 * found.error(EVERYTHING)
    assert np.isnan(found.share_error(INTERACTION, EVERYTHING))  # with wires none is told


def test_a_shares_error_is_the_jackknife_of_audits_without_each_sample(
    make_chip: Make, inputs: Inputs
) -> None:
    chip, x = make_chip(PARTS | FAMILIES["twin"]), inputs(SAMPLES)
    found = audit(Subject.of(chip, x, SQUARED, centered(BETA)))
    kept = [np.delete(np.arange(SAMPLES), k) for k in range(SAMPLES)]
    costs = [replace(SQUARED, targets=SQUARED.targets[rows]) for rows in kept]
    fewer = [
        audit(Subject.of(chip, x[rows], cost, centered(BETA))) for rows, cost in zip(kept, costs, strict=True)
    ]
    for part in found.contributions:
        for array in found.arrays:
            spread = np.std([one.share(part, array) for one in fewer])
            expected = pytest.approx(np.sqrt(SAMPLES - 1) * spread, rel=1e-5, abs=1e-9)
            assert found.share_error(part, array) == expected
    assert found.share_error("asymmetry", EVERYTHING) > 1e-5


def test_a_shares_error_is_about_what_other_samples_change(make_chip: Make, inputs: Inputs) -> None:
    chip, cost = make_chip(PARTS | FAMILIES["twin"]), SquaredError(np.full((30, 4), 0.8), 1.0)
    several = [audit(Subject.of(chip, inputs(30, seed), cost, centered(4 * BETA))) for seed in range(12)]
    spread = np.std([one.share("asymmetry", EVERYTHING) for one in several], ddof=1)
    told = np.mean([one.share_error("asymmetry", EVERYTHING) for one in several])
    assert 0.5 < told / spread < 2


def test_combinations_are_none_all_each_alone_and_all_but_each() -> None:
    sets = combinations(("a", "b", "c"))
    assert [sorted(s) for s in sets] == [
        [], ["a", "b", "c"], ["a"], ["b"], ["c"], ["b", "c"], ["a", "c"], ["a", "b"],
    ]  # fmt: skip
    assert len(combinations(("a", "b"))) == 4  # what is alone is all but the other


def test_all_gradients_are_of_the_samples_that_are_sound_in_every_combination(
    make_chip: Make, inputs: Inputs
) -> None:
    chip, x = make_chip(PARTS | FAMILIES["twin"]), inputs(40)
    rng = np.random.default_rng(3)
    cost = CrossEntropy(8 * rng.normal(size=(3, 4)), np.zeros(3), np.arange(40) % 3, 1.0)
    subject = Subject.of(chip, x, cost, centered(1e-7))
    found = audit(subject)
    assert 0 < found.valid.sum() < 40
    few = replace(cost, labels=cost.labels[found.valid])
    free = chip.relax(x[found.valid], tolerance=1e-12)
    assert apart(found.true, devices(Adjoint().update(chip, x[found.valid], free, few))) < 1e-6
    assert max(spot_check(subject, found).values()) < 1e-5


def test_no_sound_sample_is_an_error_with_a_remedy(subject_of: Of) -> None:
    subject = subject_of()
    none = replace(subject.tight, settled=np.zeros(SAMPLES, bool))
    with pytest.raises(ValueError, match=r"no sample has a sound .*; lower learning\.beta"):
        audit(replace(subject, tight=none))


def test_a_copy_in_double_is_the_same_chip(make_chip: Make, inputs: Inputs) -> None:
    chip = make_chip(PARTS | PERIPHERY | FAMILIES["shared"] | {"learning.dtype": "float32"})
    double = in_double(chip)
    assert double.blocks.dtype == np.float64
    x = inputs(SAMPLES)
    np.testing.assert_allclose(double.relax(x).ports, chip.relax(x).ports, rtol=0, atol=1e-4)
    np.testing.assert_array_equal(double.devices["forward1"].actual, chip.devices["forward1"].actual)
    assert double.periphery is chip.periphery


# -- the command -----------------------------------------------------------------------------------

SMALL = ["--quiet", "--samples", "20", "--set", "task.train=200", "--set", "task.test=100"]
BROKEN = ["--set", "mismatch.conductance=0.5", "--set", "mismatch.sense_gain=0.1"]


def test_the_command_prints_a_table_and_writes_figure_and_vectors(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, plot = tmp_path / "audit.h5", tmp_path / "audit.png"
    files = ["--out", str(out), "--plot", str(plot)]
    assert main(["audit", "digits", *SMALL, *BROKEN, "--epochs", "1", *files]) == 0
    text = capsys.readouterr().out
    for word in ("share of the error", "forward0", "feedback1", "asymmetry", "sense", "finite differences"):
        assert word in text
    assert "-0.0 " not in text and "standard error of the share [%]" in text
    assert plot.read_bytes().startswith(b"\x89PNG")
    with h5py.File(out) as file:
        for vectors in file["vectors"].values():
            parts = [d[()] for name, d in vectors.items() if name not in ("true", "measured")]
            error = vectors["measured"][()] - vectors["true"][()]
            np.testing.assert_allclose(
                np.sum(parts, axis=0), error, atol=1e-13 * np.abs(vectors["true"]).max()
            )
        shares = file["table/share"]
        np.testing.assert_allclose(np.sum(shares[()], axis=1), 1, rtol=1e-9)
        assert list(shares.attrs["rows"])[-1] == EVERYTHING
        assert list(shares.attrs["columns"])[-1] == INTERACTION
        assert file.attrs["samples"] == 20


def test_the_command_audits_a_trained_chip_as_json(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run.h5"
    train = ["--quiet", "--set", "learning.epochs=1", "--set", "task.train=200", "--set", "task.test=100"]
    assert main(["train", "digits", *train, *BROKEN, "--out", str(run)]) == 0
    capsys.readouterr()
    assert main(["audit", str(run), "--quiet", "--samples", "20", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["samples"] == 20
    assert sum(column[EVERYTHING] for column in found["share"].values()) == pytest.approx(1)
    assert max(found["spot_check"]["difference"].values()) < 1e-5
    assert set(found["repaired"]) == {"settling", "finite nudge", "asymmetry", "sense gain"}


def test_a_resistance_that_cannot_be_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    for wrong in ("1,2,3", "-1", "nan", "wide"):
        with pytest.raises(SystemExit):
            main(["audit", "fashion-6k", f"--wires={wrong}"])
        assert "give one resistance in ohms, or two" in capsys.readouterr().err

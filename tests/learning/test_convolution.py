"""Learning on convolutional chips: gradients of shared devices, what is tied, and the homeostat."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from ohmostat.circuits.chip import Chip
from ohmostat.circuits.circuit import Circuit
from ohmostat.circuits.design import Design
from ohmostat.circuits.sections import DesignError
from ohmostat.learning.asymmetry import diagnosis, objective, weight_angles
from ohmostat.learning.audit import Subject, audit, spot_check
from ohmostat.learning.balance import imbalance
from ohmostat.learning.catalogue import RULES
from ohmostat.learning.contrast import ContrastiveEP
from ohmostat.learning.data import load
from ohmostat.learning.estimators import adjoint_response, centered, exact_response
from ohmostat.learning.gains import AutomaticGain, FixedGain
from ohmostat.learning.homeostat import Homeostat
from ohmostat.learning.hybrid import input_gradient
from ohmostat.learning.nudges import SquaredError
from ohmostat.learning.probes import Prober
from ohmostat.learning.rules import gradients
from ohmostat.learning.training import Trainer, initialise
from ohmostat.learning.trim import DriverTrim

Make = Callable[..., Chip]
Rebuild = Callable[..., Chip]
Inputs = Callable[..., np.ndarray]

SAMPLES = 3
STEP = 2e-9  # S, of a leak of 1e-5: error of the central difference about (STEP / leak)²
COST = SquaredError(np.random.default_rng(1).random((SAMPLES, 4)), 1.0)
SHARINGS = ["time-multiplexed", "replicated"]
LAYERS = [64, "3x3x2 stride 2", "2x2x3 pad 1 pool 2", 4]
MISMATCH = {
    "mismatch.conductance": 0.5, "mismatch.programming": 0.3, "mismatch.amplifier_gain": 0.15,
    "mismatch.amplifier_offset": "30mV",
    "learning.init_scale": 0.5,  # far from where feedback makes a chip bistable, and its derivatives large
}  # fmt: skip
CHIPS = {
    "twin": {"learning.angle": 60.0},
    "shared": {"chip.family": "shared", "mismatch.driver_gain": 0.2},
}


def small(sharing: str) -> dict[str, object]:
    return {"chip.layers": LAYERS, "chip.sharing": sharing}


def some_devices(gradient: np.ndarray) -> list[tuple[int, ...]]:
    """The one of the largest gradient, and a few at random."""
    rng, largest = np.random.default_rng(7), np.unravel_index(np.abs(gradient).argmax(), gradient.shape)
    picked = [tuple(int(rng.integers(n)) for n in gradient.shape) for _ in range(4)]
    return [tuple(int(i) for i in largest), *picked]


# -- gradients -------------------------------------------------------------------------------------


@pytest.mark.parametrize("sharing", SHARINGS)
@pytest.mark.parametrize("family", CHIPS)
def test_adjoint_gradient_of_every_kind_of_device(
    make_chip: Make, rebuilt: Rebuild, inputs: Inputs, family: str, sharing: str
) -> None:
    """Against the loss of the chip settled anew with one device moved, wherever that device is."""
    chip = make_chip(small(sharing) | MISMATCH | CHIPS[family])
    x = inputs(SAMPLES)
    free = chip.relax(x)
    assert free.stable is not None and free.stable.all()
    found = gradients(chip, x, free, adjoint_response(free, COST).epsilon)
    assert found.keys() == chip.devices.keys()
    for name, gradient in found.items():
        devices = gradient.devices()
        assert devices.shape == chip.devices[name].actual.shape
        for at in some_devices(devices):
            up, down = (loss(rebuilt(chip, name, at, sign * STEP), x) for sign in (1, -1))
            error = (up - down) / (2 * STEP) - devices[at]
            assert abs(error) < 1e-6 * np.abs(devices).max(), (name, at)


def loss(chip: Chip, x: np.ndarray) -> float:
    free = chip.relax(x, certify=0)
    assert free.settled.all()
    return float(COST.value(free.outputs, np.arange(len(x))).mean())


@pytest.mark.parametrize("sharing", SHARINGS)
@pytest.mark.parametrize("family", CHIPS)
def test_ep_is_exact_on_a_symmetric_chip(make_chip: Make, inputs: Inputs, family: str, sharing: str) -> None:
    """Twins without mismatch, and one array with equal drivers whatever its mismatch."""
    still = {"mismatch.conductance": 0.0, "mismatch.programming": 0.0} if family == "twin" else {}
    chip = make_chip(small(sharing) | MISMATCH | still | {"chip.family": family})
    x = inputs(SAMPLES)
    free = chip.relax(x)
    ep, true = (gradients(chip, x, free, of(free, COST).epsilon) for of in (exact_response, adjoint_response))
    for name in true:
        size = np.abs(true[name].differential).max()
        np.testing.assert_allclose(ep[name].differential, true[name].differential, atol=1e-10 * size)


@pytest.mark.parametrize("sharing", SHARINGS)
def test_contrastive_ep_gives_twins_the_sum_of_their_gradients(
    make_chip: Make, inputs: Inputs, sharing: str
) -> None:
    chip, x = make_chip(small(sharing) | MISMATCH | CHIPS["twin"]), inputs(SAMPLES)
    free = chip.relax(x)
    estimator = centered(1e-3 * chip.neuron.leak)
    hebbian = ContrastiveEP(estimator).update(chip, x, free, COST).gradients
    vector = gradients(chip, x, free, exact_response(free, COST).epsilon)
    for forward, backward in chip.circuit.feedback_pairs:
        both = vector[forward.array].differential + vector[backward.array].differential.T
        found, twin = (hebbian[bank.array].differential for bank in (forward, backward))
        np.testing.assert_allclose(found, both, rtol=0, atol=1e-4 * np.abs(both).max())
        np.testing.assert_array_equal(twin, found.T)


def test_the_input_gradient_goes_back_through_the_windows(make_chip: Make, inputs: Inputs) -> None:
    chip, x = make_chip(small("time-multiplexed") | MISMATCH), inputs(1)
    free, cost = chip.relax(x), SquaredError(COST.targets[:1], 1.0)
    found = input_gradient(chip, adjoint_response(free, cost).epsilon)[0]
    for pixel in (0, 9, 37):
        moved = [x + sign * 1e-4 * np.eye(64)[pixel] for sign in (1, -1)]
        up, down = (float(cost.value(chip.relax(m, certify=0).outputs, np.arange(1))[0]) for m in moved)
        assert (up - down) / 2e-4 == pytest.approx(found[pixel], rel=1e-5, abs=1e-9)


@pytest.mark.parametrize("family", CHIPS)
def test_a_node_rests_where_its_two_columns_and_its_leak_balance(
    make_chip: Make, inputs: Inputs, family: str
) -> None:
    chip, x = make_chip(small("replicated") | MISMATCH | CHIPS[family]), inputs(SAMPLES)
    free = chip.relax(x)
    np.testing.assert_allclose(imbalance(chip, x, free), chip.neuron.leak * free.voltages, atol=1e-15)


@pytest.mark.parametrize("sharing", SHARINGS)
def test_the_audit_takes_its_gradient_apart(make_chip: Make, inputs: Inputs, sharing: str) -> None:
    chip = make_chip(small(sharing) | MISMATCH | CHIPS["twin"])
    subject = Subject.of(chip, inputs(SAMPLES), COST, centered(0.01 * chip.neuron.leak))
    differences = spot_check(subject, audit(subject))
    assert max(differences.values()) < 1e-5


# -- training --------------------------------------------------------------------------------------


def trainer_of(sharing: str, **changes: object) -> Trainer:
    design = Design.named("digits").replace(
        {
            "chip.layers": [64, "3x3x4", "3x3x6 stride 2", 10], "chip.sharing": sharing,
            "chip.columns": "virtual-ground", "neuron.gain": 2.0, "neuron.offset": "250mV",
            "neuron.leak": "10uS", "learning.init_scale": 0.5, "mismatch.conductance": 0.0,
        } | changes
    )  # fmt: skip
    return Trainer.from_design(design, load("digits"), chip_seed=1)


def test_without_mismatch_the_two_realisations_learn_the_same() -> None:
    once, each = (trainer_of(sharing) for sharing in SHARINGS)
    images, labels = once.data.train_x, once.data.train_y
    for k in range(4):
        for trainer in (once, each):
            trainer.step(images[10 * k : 10 * k + 10], labels[10 * k : 10 * k + 10])
    start = trainer_of(SHARINGS[0]).chip.blocks.dense()
    moved, other = (trainer.chip.blocks.dense() - start for trainer in (once, each))
    np.testing.assert_allclose(other, moved, rtol=0, atol=1e-8 * np.abs(moved).max())


def test_product_feedback_refuses_what_is_learned_at_many_places_at_once() -> None:
    keys = {"chip.layers": [64, "3x3x2 stride 2", "2x2x3", 10], "task.data": "digits", "chip.family": "relay",
            "homeostat.mode": "decay"}  # fmt: skip
    with pytest.raises(DesignError, match=r'learning\.rule = "product-feedback": .*write plain sizes'):
        Trainer.from_design(Design().replace({**keys, "learning.rule": "product-feedback"}), load("digits"))
    one = {**keys, "chip.layers": [64, "3x3x2 stride 2", 10]}  # its outputs' array is a plain one
    Trainer.from_design(Design().replace({**one, "learning.rule": "product-feedback"}), load("digits"))


@pytest.mark.parametrize("rule", [rule for rule in RULES if rule != "product-feedback"])
def test_every_rule_trains(rule: str) -> None:
    keys = {
        "chip.layers": [64, "3x3x2 stride 2", "2x2x3", 10], "task.data": "digits", "learning.batch": 20,
        "learning.rule": rule, "homeostat.mode": "decay" if rule == "kolen-pollack" else "off",
    }  # fmt: skip
    trainer = Trainer.from_design(Design().replace(keys), load("digits").subset(40, 20))
    before = {name: array.actual.copy() for name, array in trainer.chip.devices.items()}
    last = trainer.fit(1)[-1]
    assert last.left_out == 0 and np.isfinite(last.loss)
    assert all((trainer.chip.devices[name].actual != actual).any() for name, actual in before.items())


def test_trim_makes_a_shared_convolution_symmetric() -> None:
    """Drivers belong to ports, one each, whatever devices are behind them."""
    design = Design().replace(
        {
            "chip.layers": [64, "3x3x2 stride 2", "2x2x3", 10], "chip.family": "shared",
            "task.data": "digits", "mismatch.driver_gain": 0.2, "mismatch.conductance": 0.5,
            "learning.dtype": "float64",
        }
    )  # fmt: skip
    chip = Circuit(design).fabricate(seed=2)
    initialise(chip, 5, 1.0, 0.0)
    trim, before = DriverTrim(64, Prober("one-port", inputs=True)), objective(chip)[0]
    trim.correct(chip)
    assert objective(chip)[0] < 1e-12 * before


def test_replicated_crossbars_are_commanded_alike_and_stay_unequal() -> None:
    trainer = trainer_of("replicated", **{"mismatch.conductance": 0.3, "homeostat.mode": "off"})
    trainer.step(trainer.data.train_x[:10], trainer.data.train_y[:10])
    array = trainer.chip.devices["forward1"]
    target, actual = (plane.reshape(2, -1, 6, 36) for plane in (array.target, array.actual))
    assert target.shape[1] == 4 and (target == target[:, :1]).all()
    assert (actual[:, 1:] != actual[:, :1]).all()


# -- the homeostat ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("moves", "shares"), [("both", (-1, 1)), ("feedback", (0, 2))])
@pytest.mark.parametrize("sharing", SHARINGS)
def test_a_full_cycle_moves_every_pair_by_its_share(
    make_chip: Make, sharing: str, moves: str, shares: tuple[int, int]
) -> None:
    """What faces each other is moved by the gain, as on a dense chip: of time-multiplexed devices each once,
    however many positions see it.
    """
    chip = make_chip(
        small(sharing) | MISMATCH
        | {"chip.layers": [64, "3x3x2 stride 2", "2x2x3", 4], "learning.angle": 70.0, "device.g_min": 0.0,
           "device.g_max": 1e-3, "mismatch.programming": 0.0}
    )  # fmt: skip
    skew = {f.array: chip.weight(f.array) - chip.weight(b.array).T for f, b in chip.circuit.feedback_pairs}
    before = {name: chip.weight(name).copy() for name in chip.devices}
    chip.program(Homeostat(FixedGain(0.1), 64, Prober("one-port"), moves).correct(chip))
    for forward, backward in chip.circuit.feedback_pairs:
        step = 0.1 * skew[forward.array]
        for bank, change in ((forward, shares[0] * step), (backward, shares[1] * step.T)):
            found = chip.weight(bank.array) - before[bank.array]
            np.testing.assert_allclose(found, change, rtol=1e-8, atol=1e-15)


@pytest.mark.parametrize("sharing", SHARINGS)
def test_the_homeostat_restores_symmetry(make_chip: Make, inputs: Inputs, sharing: str) -> None:
    """Where pools make devices overlap it takes several cycles; the gradient then is the adjoint's."""
    chip = make_chip(small(sharing) | MISMATCH | {"learning.angle": 70.0, "device.g_max": "100uS"})
    before, homeostat = objective(chip)[0], Homeostat(AutomaticGain(), 32, Prober("hadamard"))
    for _ in range(80):
        chip.program(homeostat.correct(chip))
    assert objective(chip)[0] < 1e-4 * before
    assert max(weight_angles(chip).values()) < 1
    x = inputs(SAMPLES)
    free = chip.relax(x)
    ep, adjoint = (response(free, COST).epsilon for response in (exact_response, adjoint_response))
    assert np.abs(ep - adjoint).max() < 2e-2 * np.abs(adjoint).max()


def test_the_objective_and_its_gradient_are_those_of_the_devices(make_chip: Make, rebuilt: Rebuild) -> None:
    for family, keys in CHIPS.items():
        chip = make_chip(small("time-multiplexed") | MISMATCH | keys)
        value, slopes = objective(chip)
        jacobian = chip.blocks.dense()
        assert value == pytest.approx(0.5 * np.sum((jacobian - jacobian.T) ** 2), rel=1e-12)
        for name, slope in slopes.items():
            for at in some_devices(np.stack([slope, -slope])):
                up, down = (objective(rebuilt(chip, name, at, s * STEP))[0] for s in (1, -1))
                sign = 1 if at[0] == 0 else -1
                expected = sign * slope[at[1:]]
                assert abs((up - down) / (2 * STEP) - expected) < 1e-6 * np.abs(slope).max(), family


def test_all_of_its_asymmetry_is_trainable(make_chip: Make) -> None:
    found = diagnosis(make_chip(small("time-multiplexed") | MISMATCH | CHIPS["twin"]))["forward1"]
    assert found.trainable == pytest.approx(found.total, rel=1e-6) and found.limits < 1e-3 * found.total


def test_probes_cost_what_they_drive() -> None:
    """A time-multiplexed crossbar is driven at every position, as often as replicated ones together."""
    spent = []
    for sharing in SHARINGS:
        design = Design().replace(
            {"chip.layers": [64, "3x3x2", "2x2x2", 10], "chip.sharing": sharing, "task.data": "digits"}
        )
        chip, prober = Circuit(design).fabricate(seed=0), Prober("one-port")
        prober.couplings(chip, 8)
        spent.append(prober.spent)
    assert spent[0].measurements == spent[1].measurements
    assert spent[0].energy == pytest.approx(spent[1].energy, rel=1e-6)

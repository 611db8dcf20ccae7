"""The trainer on the digits: determinism, equal terms for all arms, what it records."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
import pytest

from ohmostat.circuits.chip import Chip
from ohmostat.circuits.design import Design
from ohmostat.circuits.equilibrium import Equilibrium
from ohmostat.circuits.sections import DesignError
from ohmostat.learning import training
from ohmostat.learning.asymmetry import weight_angles
from ohmostat.learning.catalogue import make_rule
from ohmostat.learning.data import load
from ohmostat.learning.dataset import Dataset
from ohmostat.learning.estimators import adjoint_response
from ohmostat.learning.homeostat import Homeostat, Running, WeightDecay
from ohmostat.learning.nudges import CrossEntropy, SquaredError, beta_in_watts
from ohmostat.learning.rules import Adjoint, EquilibriumPropagation, Update, gradients
from ohmostat.learning.training import Tally, Trainer, initialise, make_homeostat, run_seed
from ohmostat.learning.trim import DriverTrim
from ohmostat.simulator import device_kernels, products

TRAIN, TEST, BATCH = 120, 60, 20
STEPS = TRAIN // BATCH
ARMS: dict[str, dict[str, object]] = {
    "ep": {"homeostat.mode": "off"},
    "homeostat": {"homeostat.mode": "probe"},
    "decay": {"homeostat.mode": "decay"},
    "adjoint": {"homeostat.mode": "off", "learning.rule": "adjoint"},
}


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load("digits").subset(TRAIN, TEST)


def design(changes: Mapping[str, object] | None = None) -> Design:
    """The shipped design for the digits, smaller."""
    small = {"chip.layers": [64, 16, 10], "learning.batch": BATCH, "learning.epochs": 2,
             "learning.schedule": "constant"}  # fmt: skip
    return Design.named("digits").replace(small | dict(changes or {}))


def trainer(digits: Dataset, changes: Mapping[str, object] | None = None, chip: int = 0) -> Trainer:
    return Trainer.from_design(design(changes), digits, chip_seed=chip)


def history(trained: Trainer) -> dict[str, np.ndarray]:
    arrays = trained.history_arrays()
    arrays.pop("seconds")
    return arrays


def assert_same(a: Trainer, b: Trainer) -> None:
    """Bit for bit: history, every device, the readout."""
    first, second = history(a), history(b)
    assert first.keys() == second.keys()
    for name in first:
        np.testing.assert_array_equal(first[name], second[name], err_msg=name)
    for name, devices in a.chip.devices.items():
        np.testing.assert_array_equal(devices.actual, b.chip.devices[name].actual, err_msg=name)
        np.testing.assert_array_equal(devices.target, b.chip.devices[name].target, err_msg=name)
    np.testing.assert_array_equal(a.readout.weight, b.readout.weight)
    np.testing.assert_array_equal(a.readout.bias, b.readout.bias)


# -- determinism, and equal terms for all arms -----------------------------------------------------


@pytest.mark.parametrize("scheme", ["hadamard", "random"])
def test_same_seed_same_bits(digits: Dataset, scheme: str) -> None:
    changes = {
        "homeostat.scheme": scheme, "homeostat.noise": "1nA", "mismatch.programming": 0.2,
        "learning.cost": "cross-entropy", "learning.dtype": "float32", "homeostat.probes": 32,
    }  # fmt: skip
    runs = [trainer(digits, changes, chip=4) for _ in range(2)]
    for run in runs:
        run.fit(1)
    assert_same(*runs)
    other = trainer(digits, {**changes, "task.seed": 1}, chip=4)
    assert (other.chip.weight("forward0") != trainer(digits, changes, chip=4).chip.weight("forward0")).any()


def test_threads_change_not_a_bit(digits: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    for kernels in (device_kernels, products):
        monkeypatch.setattr(kernels, "WORTH_SHARING", 0)
    one, *more = (trainer(digits, {"learning.threads": n, "homeostat.mode": "off"}) for n in (1, 2, 3))
    for each in (one, *more):
        each.fit(1)
    for each in more:
        assert_same(one, each)


def test_arms_share_chip_weights_and_data_order(digits: Dataset) -> None:
    runs = [trainer(digits, {**arm, "learning.cost": "cross-entropy"}) for arm in ARMS.values()]
    first = runs[0]
    for run in runs[1:]:
        np.testing.assert_array_equal(run.readout.weight, first.readout.weight)
        for name, devices in run.chip.devices.items():
            np.testing.assert_array_equal(devices.actual, first.chip.devices[name].actual)
            np.testing.assert_array_equal(devices.deviation, first.chip.devices[name].deviation)
        for epoch in (1, 2):
            for ours, theirs in zip(run.batches(epoch), first.batches(epoch), strict=True):
                np.testing.assert_array_equal(ours[0], theirs[0])
                np.testing.assert_array_equal(ours[1], theirs[1])


def test_training_does_not_disturb_the_data_order(digits: Dataset) -> None:
    fresh, used = trainer(digits, ARMS["homeostat"]), trainer(digits, ARMS["homeostat"])
    used.fit(1)
    for a, b in zip(fresh.batches(2), used.batches(2), strict=True):
        np.testing.assert_array_equal(a[1], b[1])


def test_chips_differ_in_devices_starting_weights_and_data_order(digits: Dataset) -> None:
    """A spread over chips would else be one of devices alone, and none at all without mismatch."""
    a, b = trainer(digits, chip=0), trainer(digits, chip=1)
    for name, devices in a.chip.devices.items():
        other = b.chip.devices[name]
        assert (devices.deviation != other.deviation).any()
        assert name.startswith("bias") or (devices.target != other.target).any()
    assert (a.readout.weight != b.readout.weight).any()
    assert (next(a.batches(1))[0] != next(b.batches(1))[0]).any()
    assert (a.chip.blocks.gain == b.chip.blocks.gain).all()  # no mismatch of amplifiers in this design


@pytest.mark.parametrize("mode", ["probe", "decay"])
def test_a_gain_of_zero_is_no_controller(digits: Dataset, mode: str) -> None:
    """Measuring alone changes nothing: the arms differ by the steps of the controller and by nothing else."""
    plain = trainer(digits, ARMS["ep"])
    off = {"homeostat.schedule": "constant", "homeostat.gain": 0.0, "homeostat.decay": 0.0}
    idle = trainer(digits, {"homeostat.mode": mode, "homeostat.probes": 32, **off})
    plain.fit(1)
    idle.fit(1)
    free = {"measurements": 0, "probe_time": 0.0, "probe_energy": 0.0}
    plain.history = [replace(e, **free) for e in plain.history]
    idle.history = [replace(e, **free) for e in idle.history]
    assert_same(plain, idle)


def test_batches(digits: Dataset) -> None:
    run = trainer(digits, {"learning.batch": 32})
    orders = []
    for epoch in (1, 2):
        batches = list(run.batches(epoch))
        assert [len(y) for _, y in batches] == [32, 32, 32]  # whole batches only
        rows = [tuple(image) for images, _ in batches for image in images]
        known = {tuple(image): label for image, label in zip(digits.train_x, digits.train_y, strict=True)}
        assert len(set(rows)) == 96
        assert [known[row] for row in rows] == [label for _, labels in batches for label in labels]
        orders.append(rows)
    assert orders[0] != orders[1]


# -- one step --------------------------------------------------------------------------------------


def test_chips_differ_in_the_probes_of_their_rule_too(digits: Dataset) -> None:
    measured = {"learning.rule": "aep-measured", "homeostat.mode": "probe"}
    probers = []
    for chip in (0, 1):
        run = trainer(digits, measured, chip)
        assert isinstance(run.homeostat, Homeostat) and run.rule.prober is not None
        probers += [run.rule.prober, run.homeostat.prober]
    assert len({prober.seed for prober in probers}) == 4


@pytest.mark.parametrize("arm", ARMS)
@pytest.mark.parametrize("columns", ["passive", "virtual-ground"])
def test_first_steps_by_hand(digits: Dataset, arm: str, columns: str) -> None:
    """Two steps with momentum: ``Δw = -rate leak² m``, and the controller's change beside it."""
    changes = {
        **ARMS[arm], "chip.columns": columns, "learning.cost": "cross-entropy", "learning.momentum": 0.5,
        "homeostat.scheme": "random", "learning.rate": 0.2, "learning.tolerance": 1e-12,
        "learning.readout_scale": 1.0, "neuron.gain": 2.0,
    }  # fmt: skip
    run, copy = trainer(digits, changes), trainer(digits, changes)
    spec, leak = run.design, run.design.neuron.leak
    weight, bias = run.readout.weight.copy(), run.readout.bias.copy()
    momentum: dict[str, np.ndarray] = {}
    controller, rule = make_homeostat(spec, run_seed(run.chip)), make_rule(spec)
    for images, labels in list(run.batches(1))[:2]:
        run.step(images, labels)
        x = images.astype(float)
        cost = CrossEntropy(weight, bias, labels, 1.0)
        free = copy.chip.relax(x)
        update = rule.update(copy.chip, x, free, cost, 0)
        beside = Running.beside(copy.chip, x, free)
        commands = controller.correct(copy.chip, beside) if controller else {}
        for name, gradient in update.gradients.items():
            slope = gradient.along_pair(copy.chip.devices[name].target)
            momentum[name] = 0.5 * momentum.get(name, 0.0) + slope
            commands[name] = commands.get(name, 0.0) - 0.2 * leak**2 * momentum[name]
        copy.chip.program(commands)
        for name, slope in zip(("weight", "bias"), cost.readout_gradients(free.outputs), strict=True):
            momentum[name] = 0.5 * momentum.get(name, 0.0) + slope
        weight, bias = weight - 0.2 * momentum["weight"], bias - 0.2 * momentum["bias"]
    assert run.steps == 2
    for name, devices in run.chip.devices.items():
        np.testing.assert_allclose(devices.actual, copy.chip.devices[name].actual, rtol=1e-9)
    np.testing.assert_allclose(run.readout.weight, weight, rtol=1e-9)
    np.testing.assert_allclose(run.readout.bias, bias, rtol=1e-9, atol=1e-15)


@pytest.mark.parametrize("cost", ["squared-error", "cross-entropy"])
def test_a_step_of_the_adjoint_lowers_the_loss_as_its_gradient_says(digits: Dataset, cost: str) -> None:
    changes = {
        **ARMS["adjoint"], "learning.cost": cost, "learning.momentum": 0.0, "learning.rate": 1e-3,
        "mismatch.conductance": 0.0, "learning.tolerance": 1e-12,
    }  # fmt: skip
    run = trainer(digits, changes)
    images, labels = next(run.batches(1))
    x, rows = run.inputs(images), np.arange(BATCH)

    def loss() -> float:
        return float(run.cost(labels).value(run.chip.relax(x, certify=0).outputs, rows).mean())

    free, before, first = run.chip.relax(x), loss(), run.cost(labels)
    slopes = gradients(run.chip, x, free, adjoint_response(free, first).epsilon)
    leak = run.design.neuron.leak
    drop = sum(np.sum((leak * g.along_pair(run.chip.devices[n].target)) ** 2) for n, g in slopes.items())
    if isinstance(first, CrossEntropy):
        drop += sum(np.sum(g**2) for g in first.readout_gradients(free.outputs))
    run.step(images, labels)
    assert before - loss() == pytest.approx(1e-3 * drop, rel=0.05)


def test_inputs_and_targets_reach_the_rails(digits: Dataset) -> None:
    run = trainer(digits, {"neuron.low": "-200mV", "neuron.high": "800mV"})
    assert run.inputs(np.array([[0, 0.5, 1]], np.float32)).tolist() == [[0, 0.4, 0.8]]
    cost = run.cost(np.array([3, 0]))
    assert isinstance(cost, SquaredError) and cost.swing == 1.0
    assert cost.targets[0].tolist() == [-0.2] * 3 + [0.8] + [-0.2] * 6


def test_make_rule_and_homeostat() -> None:
    assert make_rule(design({"learning.rule": "adjoint"})) == Adjoint()
    ep = make_rule(design({"learning.estimator": "one-sided", "learning.beta": 0.2}))
    assert isinstance(ep, EquilibriumPropagation) and ep.estimator.name == "one-sided"
    assert ep.estimator.beta == beta_in_watts(design(), 0.2)
    probe = make_homeostat(design({"homeostat.mode": "probe", "homeostat.noise": "2nA"}), 7)
    assert isinstance(probe, Homeostat) and (probe.prober.noise, probe.prober.seed) == (2e-9, 7)
    shared = {"chip.family": "shared", "homeostat.mode": "trim", "homeostat.probes": 8}
    trim = make_homeostat(design(shared), 7)
    assert isinstance(trim, DriverTrim) and trim.prober.inputs and trim.probes == 8
    with pytest.raises(DesignError, match=r'homeostat\.mode = "trim": the twin family has no read drivers'):
        make_homeostat(design({"homeostat.mode": "trim"}), 7)
    decay = make_homeostat(design({"homeostat.mode": "decay", "homeostat.decay": 0.02}), 7)
    assert isinstance(decay, WeightDecay) and decay.share == 0.02
    assert make_homeostat(design({"homeostat.mode": "off"}), 7) is None


@pytest.mark.parametrize("every", [1, 2, 5])
def test_homeostat_acts_at_every_nth_batch(digits: Dataset, every: int) -> None:
    changes = {"homeostat.every": every, "homeostat.scheme": "random", "homeostat.probes": 3}
    run = trainer(digits, changes)
    run.fit(2)
    calls = -(-2 * STEPS // every)
    assert run.history[-1].measurements == 3 * calls + 4 * (16 + 10)  # calibration of the two twins
    assert run.history[0].measurements == 0


# -- starting weights ------------------------------------------------------------------------------


@pytest.mark.parametrize("spread", ["forward", "fan-in"])
@pytest.mark.parametrize("angle", [0.0, 45.0, 90.0])
def test_initial_weights(make_chip: Callable[..., Chip], angle: float, spread: str) -> None:
    chip = make_chip(
        {"chip.layers": [64, 60, 40, 10], "learning.angle": angle, "learning.init_scale": 0.5,
         "learning.input_scale": 0.8, "device.g_min": 0.0, "device.g_max": 1e-3,
         "learning.feedback_spread": spread}
    )  # fmt: skip
    leak = chip.circuit.design.neuron.leak
    for (forward, backward), found in zip(
        chip.circuit.feedback_pairs, weight_angles(chip).values(), strict=True
    ):
        wf, wb = chip.weight(forward.array), chip.weight(backward.array)
        expected = 0.5 * leak / np.sqrt(wf.shape[1])
        assert wf.std() == pytest.approx(expected, rel=0.1)
        a = np.radians(angle)
        own = expected if spread == "forward" else 0.5 * leak / np.sqrt(wb.shape[1])
        assert wb.std() == pytest.approx(np.hypot(np.cos(a) * expected, np.sin(a) * own), rel=0.1)
        between = np.degrees(np.arctan2(np.sin(a) * own, np.cos(a) * expected))
        assert found == pytest.approx(between, abs=1e-4 if angle == 0 else 7)
    assert chip.weight("forward0").std() == pytest.approx(0.8 * leak / 8, rel=0.05)
    assert not chip.weight("bias0").any()


def test_initial_weights_of_a_shared_chip(make_chip: Callable[..., Chip]) -> None:
    twin, shared = make_chip(), make_chip({"chip.family": "shared"})
    np.testing.assert_array_equal(shared.weight("forward1"), twin.weight("forward1"))
    initialise(shared, 6, 1.0, 0.0)
    assert (shared.weight("forward1") != twin.weight("forward1")).any()


# -- a run -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("arm", ARMS)
def test_loss_falls_and_accuracy_rises(digits: Dataset, arm: str) -> None:
    run = trainer(digits, {**ARMS[arm], "learning.rate": 0.1})
    epochs = run.fit(20)
    assert epochs[-1].loss < 0.75 * epochs[1].loss
    assert epochs[0].accuracy < 0.3 and epochs[-1].accuracy > 0.4
    unknown = {"step_time", "step_energy"} if arm == "adjoint" else set()
    for epoch in epochs[1:]:
        assert {name for name, value in epoch.scalars().items() if not np.isfinite(value)} == unknown
    if arm == "adjoint":
        assert min(epochs[-1].measured.values()) == pytest.approx(1.0)


def test_what_an_epoch_records(digits: Dataset) -> None:
    run = trainer(digits, {"learning.angle": 60.0})
    seen: list[object] = []
    epochs = run.fit(progress=seen.append)
    assert [epoch.epoch for epoch in epochs] == [0, 1, 2]
    assert seen == [epochs[0], *[None] * STEPS, epochs[1], *[None] * STEPS, epochs[2]]
    for epoch in epochs:
        assert epoch.alignment.keys() == run.chip.devices.keys()
        assert all(-1 <= value <= 1 for value in epoch.alignment.values())
        assert epoch.angle.keys() == {"forward1"}
        assert 0.5 < epoch.symmetry <= 1 and 0.5 < epoch.symmetry_after <= 1
        assert epoch.unsettled == epoch.unsettled_nudged == epoch.unsettled_test == epoch.left_out == 0
        assert epoch.unstable == epoch.jumped == 0
    assert epochs[0].angle["forward1"] > 40
    assert epochs[0].sweeps == 0 and epochs[1].sweeps > 1
    assert epochs[0].seconds > 0
    arrays = run.history_arrays()
    assert arrays["alignment/forward0"].shape == (3,)
    assert arrays["alignment/forward0"][2] == epochs[2].alignment["forward0"]


def test_recorded_alignment_is_one_where_ep_is_exact(digits: Dataset) -> None:
    shared = {"chip.family": "shared", "mismatch.conductance": 0.5, "mismatch.programming": 0.5}
    for epoch in trainer(digits, {**shared, **ARMS["ep"]}).fit(1):
        assert min(epoch.alignment.values()) > 1 - 1e-6
        assert epoch.symmetry == pytest.approx(1) and epoch.angle["forward1"] < 1e-3


def test_the_homeostat_keeps_what_plain_ep_loses(digits: Dataset) -> None:
    """First-layer alignment on the same chip and data, from a good start, from mismatch and from a bad one.

    Unequal updates part the twins even where they started as equals (physics, section 4: Homeostasis).
    """
    for start in ({}, {"mismatch.conductance": 0.5}, {"learning.angle": 90.0}):
        lasts = {}
        for arm in ("ep", "homeostat", "decay"):
            control = {"homeostat.probes": 32, "homeostat.gain": 0.05, "learning.rate": 0.1}
            lasts[arm] = trainer(digits, {**start, **ARMS[arm], **control}).fit(20)[-1]
        for arm in ("ep", "decay"):
            assert lasts[arm].alignment["forward0"] < 0.8 and lasts[arm].angle["forward1"] > 45
        assert lasts["homeostat"].alignment["forward0"] > 0.97
        assert lasts["homeostat"].angle["forward1"] < 15


def test_fit_goes_on_where_it_stopped(digits: Dataset) -> None:
    changes = {"learning.cost": "cross-entropy", "learning.optimizer": "adam", "homeostat.probes": 32}
    straight, halting = trainer(digits, changes), trainer(digits, changes)
    straight.fit(3)
    assert len(halting.fit(1)) == 2
    assert halting.fit(1) is halting.history and len(halting.history) == 2  # nothing more to do
    halting.fit(3)
    assert_same(straight, halting)
    assert trainer(digits).fit(0)[0].epoch == 0


def test_evaluation_leaves_the_chip_alone(digits: Dataset) -> None:
    run = trainer(digits)
    before = {name: devices.actual.copy() for name, devices in run.chip.devices.items()}
    assert run.evaluate() == run.evaluate()
    run.diagnose()
    for name, actual in before.items():
        np.testing.assert_array_equal(run.chip.devices[name].actual, actual)


@pytest.mark.parametrize("cost", ["squared-error", "cross-entropy"])
def test_accuracy_is_the_share_of_right_answers(
    digits: Dataset, monkeypatch: pytest.MonkeyPatch, cost: str
) -> None:
    monkeypatch.setattr(training, "EVALUATION_BATCH", 25)  # a last batch of another size
    run = trainer(digits, {"learning.cost": cost})
    free = run.chip.relax(digits.test_x.astype(float))
    scores = free.outputs
    if cost == "cross-entropy":
        scores = scores @ run.readout.weight.T + run.readout.bias
    expected = np.mean(np.argmax(scores, axis=1) == digits.test_y)
    assert run.evaluate() == (expected, 0.0)


# -- what does not settle --------------------------------------------------------------------------


def test_a_batch_that_does_not_settle_teaches_nothing(
    digits: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = trainer(digits, {**ARMS["ep"], "learning.momentum": 0.0})
    images, labels = next(run.batches(1))
    relax = run.chip.relax

    def shaky(*args: object, **options: object) -> Equilibrium:
        free = relax(*args, **options)  # type: ignore[arg-type]
        return replace(free, settled=np.zeros_like(free.settled))

    monkeypatch.setattr(run.chip, "relax", shaky)
    before = {name: devices.actual.copy() for name, devices in run.chip.devices.items()}
    tally = Tally()
    run.step(images, labels, tally)
    for name, actual in before.items():
        np.testing.assert_array_equal(run.chip.devices[name].actual, actual)
    assert (tally.samples, tally.unsettled, tally.left_out, tally.unsettled_nudged) == (
        BATCH,
        BATCH,
        BATCH,
        0,
    )
    assert run.evaluate()[1] == 1.0


def test_a_chip_that_cannot_settle_is_counted(digits: Dataset) -> None:
    """Strong feedback of the wrong sign and steep amplifiers: the circuit oscillates."""
    run = trainer(
        digits,
        {"chip.columns": "virtual-ground", "neuron.gain": 60.0, "device.g_max": "200uS",
         "learning.cost": "cross-entropy", "homeostat.mode": "off", "learning.angle": 90.0},
    )  # fmt: skip
    strong = 3 * run.chip.weight("forward1") * 5
    run.chip.write({"forward1": strong, "feedback1": -strong.T})
    epochs = run.fit(1)
    assert epochs[0].unsettled_test + epochs[1].unsettled_test > 0
    assert epochs[1].unsettled + epochs[1].unstable > 0.1
    assert epochs[1].left_out >= epochs[1].unsettled
    assert all(np.isfinite(devices.actual).all() for devices in run.chip.devices.values())


def test_tally_counts_what_was_certified(make_chip: Callable[..., Chip]) -> None:
    chip = make_chip()
    free = chip.relax(np.zeros((4, 64)), certify=3)
    free = replace(free, stable=np.array([True, False, True, False]))
    nudged = replace(
        free, settled=np.array([True, False, True, True]), jumped=np.array([True, False, False, False])
    )
    update = Update({}, np.array([True, False, True, True]), nudged)
    tally = Tally()
    for _ in range(2):
        tally.add(free, update, np.full(4, 0.5))
    assert (tally.samples, tally.loss, tally.sweeps) == (8, 4.0, 2 * free.sweeps.sum())
    assert (tally.checked, tally.unstable) == (6, 2)
    assert (tally.nudged, tally.unsettled_nudged, tally.left_out) == (8, 2, 2)
    assert (tally.checked_nudged, tally.jumped) == (6, 2)


def test_the_cosine_falls_from_the_rate_to_nothing(digits: Dataset) -> None:
    run = trainer(digits, {"learning.schedule": "cosine", "learning.rate": 0.1})
    assert run.rate() == 0.1
    run.steps = STEPS  # half of two epochs
    assert run.rate() == pytest.approx(0.05)
    run.steps = 2 * STEPS
    assert run.rate() == pytest.approx(0.0, abs=1e-15)

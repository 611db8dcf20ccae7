"""Training a chip: free phase, nudged phases, contraction, homeostat, programming; again."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from ..circuits.chip import Chip
from ..circuits.circuit import Circuit
from ..circuits.converters import Converter
from ..circuits.design import Design
from ..circuits.equilibrium import Equilibrium
from ..circuits.families import BIAS, INPUT
from ..circuits.fluctuation import fluctuating, observed
from ..circuits.mismatch import derived_seed, generator
from ..circuits.resistive import inputs_at_full, starting_conductances
from ..circuits.wiring import Wiring
from ..simulator.blocks import Array
from . import asymmetry, relays
from .catalogue import make_rule
from .costs import SAMPLES, Costs, costs
from .dataset import Dataset
from .estimators import adjoint_response, exact_response, read_outputs
from .homeostat import Controller, Homeostat, Running, WeightDecay
from .nudges import CrossEntropy, SquaredError, differences
from .optimizers import make_optimizer
from .probes import Spent
from .rules import LearningRule, Update, contracted
from .trim import DriverTrim

if TYPE_CHECKING:
    from ..circuits.archive import Run

ALIGNMENT_SAMPLES = 500
CERTIFIED_EVERY = 10  # batches: one sample of these has its phases' stability certified
EVALUATION_BATCH = 250


@dataclass
class Readout:
    """The digital readout ``softmax(R s / swing + c)`` outside the circuit."""

    weight: Array
    bias: Array

    @classmethod
    def of(cls, chip: Chip, parts: tuple[Array, Array]) -> Readout:
        """Of weights (classes, n_out) and biases (classes,), in the precision of a chip."""
        weight, bias = (part.astype(chip.dtype) for part in parts)
        return cls(weight, bias)


def input_voltages(chip: Chip, images: Array) -> Array:
    """What a chip's inputs are driven with [V] for images in [0, 1], by its converter if it has one; see
    :func:`.resistive.inputs_at_full`.
    """
    high, bits = inputs_at_full(chip), chip.circuit.design.converters.input_bits
    volts: Array = np.multiply(images, high, dtype=chip.dtype)
    return Converter(0.0, high, 2**bits)(volts) if bits and high else volts


def cost_of(chip: Chip, readout: Readout, labels: Array) -> CrossEntropy | SquaredError:
    """The cost that a chip's design asks for, of a batch of ``labels``."""
    design, neuron = chip.circuit.design, chip.circuit.design.neuron
    if design.learning.cost == "cross-entropy":
        return CrossEntropy(readout.weight, readout.bias, labels, neuron.swing)
    paired = chip.circuit.resistive and design.resistive.outputs == "paired"
    classes = design.sizes[-1] // (2 if paired else 1)
    targets = np.full((len(labels), classes), neuron.low, chip.dtype)
    targets[np.arange(len(labels)), labels] = neuron.high
    return SquaredError(targets, neuron.swing, differences(classes, chip.dtype) if paired else None)


def predicted(chip: Chip, readout: Readout, free: Equilibrium, first: int = 0) -> Array:
    """Class (batch,) of each sample, from its outputs as they are read: the readout's, or the highest.

    ``first`` is the address of the first reading.
    """
    cost, outputs = cost_of(chip, readout, np.zeros(len(free.ports), np.int64)), read_outputs(free, first)
    scores = cost.probabilities(outputs) if isinstance(cost, CrossEntropy) else cost.outputs(outputs)
    best: Array = np.argmax(scores, axis=1)
    return best


@dataclass(frozen=True)
class Epoch:
    """What is recorded after each epoch (epoch 0: before training). Shares are of samples.

    ``loss``: mean over the epoch (NaN at epoch 0). ``alignment``: cosine of EP's exact-response gradient
    (β → 0) to the adjoint's, by array, on a fixed set of samples; ``response``: that of the exact response
    itself, by layer, sample by sample, their mean; ``measured``: that of the rule's own gradient, finite
    nudge and all. ``angle``: between forward and feedback weights [degrees], by forward
    array. ``symmetry``: ``|S|/(|S|+|A|)`` of J̃ at one sample, ``symmetry_after`` the best diagonal.
    ``unsettled`` (free) and ``unsettled_nudged`` during training, ``unsettled_test``; ``left_out`` of the
    updates; ``unstable`` and ``jumped`` among certified samples. ``sweeps``: mean per free phase.
    ``measurements``: the homeostat's, so far; ``rule_measurements``: the rule's own, during the epoch;
    ``probe_time`` [s] and ``probe_energy`` [J] of both, so far (:class:`.probes.Spent`). ``pulses`` and
    ``reads``: the programmer's, so far. ``inference_time`` [s] and ``inference_energy`` [J] of a sample,
    ``step_time`` and ``step_energy`` of a training step, without the probes' and NaN where no chip can take
    it (:mod:`.costs`).
    ``wire_drop`` and ``wire_error``: the largest drop along the wires, and what their estimate misses there
    (:meth:`.Wiring.check`).
    """

    epoch: int
    loss: float
    accuracy: float
    alignment: dict[str, float]
    response: dict[str, float]
    measured: dict[str, float]
    angle: dict[str, float]
    symmetry: float
    symmetry_after: float
    unsettled: float
    unsettled_nudged: float
    unsettled_test: float
    left_out: float
    unstable: float
    jumped: float
    sweeps: float
    measurements: int
    probe_time: float
    probe_energy: float
    rule_measurements: int
    pulses: int
    reads: int
    inference_time: float
    inference_energy: float
    step_time: float
    step_energy: float
    wire_drop: float
    wire_error: float
    seconds: float

    def scalars(self) -> dict[str, float]:
        """All of it as flat numbers, dictionaries as ``key/array``."""
        flat: dict[str, float] = {}
        for key, value in asdict(self).items():
            if isinstance(value, dict):
                flat |= {f"{key}/{name}": v for name, v in value.items()}
            else:
                flat[key] = value
        return flat


def initialise(
    chip: Chip,
    seed: int,
    scale: float,
    angle: float,
    input_scale: float = 1.0,
    feedback_spread: str = "forward",
) -> None:
    """Write random starting weights, in units of the leak: ``W_f ~ N(0, scale²/fan-in)`` between neurons,
    ``N(0, input_scale²/fan-in)`` from the inputs, biases 0, and ``W_b = cos α W_fᵀ + sin α W_b⁰`` (α in
    degrees) with an independent ``W_b⁰``. That has the spread of ``W_f`` (``feedback_spread="forward"``), so
    that α is the angle between them, or ``scale/√fan-in`` of its own array (``"fan-in"``), as published
    (Laborieux and Zenke, ICLR 2024): five times as much from 10 outputs to 256 neurons.

    What relays listen by, their rest and what they drive by begin as :func:`.relays.shape` says.
    """
    leak, pre = chip.circuit.design.neuron.leak, {b.array: b.pre for b in chip.circuit.banks[::-1]}
    weights = {}
    layouts = chip.circuit.layouts
    for name, layout in layouts.items():
        spread = {BIAS: 0.0, INPUT: input_scale}.get(pre[name], scale) / np.sqrt(layout.fan_in)
        rng = generator(seed, "weights", name)
        if chip.circuit.resistive:
            planes = len(chip.own(chip.devices[name].target))
            start = starting_conductances(rng, (planes, *layout.crossbar), spread * leak / np.sqrt(planes))
            weights[name] = layout.repeated(start)
            continue
        weights[name] = layout.repeated(spread * leak * rng.standard_normal(layout.crossbar))
    a = np.radians(angle)
    for forward, backward in chip.circuit.feedback_pairs:
        if not backward.transposed:  # a twin of its own, not the same array read the other way
            wf, wb = weights[forward.array], weights[backward.array]
            if feedback_spread == "forward":
                wb *= np.sqrt(layouts[backward.array].fan_in / layouts[forward.array].fan_in)
            weights[backward.array] = np.cos(a) * wf.T + np.sin(a) * wb
    relays.shape(chip, weights)
    chip.write(weights)


def initialise_from(chip: Chip) -> None:
    """Write the starting weights that the chip's own design asks for."""
    start = chip.circuit.design.learning
    initialise(chip, run_seed(chip), start.init_scale, start.angle, start.input_scale, start.feedback_spread)


def run_seed(chip: Chip) -> int:
    """Seed of all that is random in training this chip."""
    return derived_seed(chip.circuit.design.task.seed, "chip", str(chip.seed))


@dataclass
class Tally:
    """Counts over one epoch."""

    samples: int = 0
    loss: float = 0.0
    unsettled: int = 0
    nudged: int = 0
    unsettled_nudged: int = 0
    left_out: int = 0
    checked: int = 0
    unstable: int = 0
    checked_nudged: int = 0
    jumped: int = 0
    sweeps: int = 0
    rule_measurements: int = 0

    def shares(self) -> dict[str, float]:
        """What of an :class:`Epoch` it has counted, by name."""
        nudged, checked = max(self.nudged, 1), max(self.checked, 1)
        samples = max(self.samples, 1)
        return {
            "loss": self.loss / (self.samples - self.unsettled) if self.samples > self.unsettled else np.nan,
            "unsettled": self.unsettled / samples,
            "left_out": self.left_out / samples,
            "sweeps": self.sweeps / samples,
            "unsettled_nudged": self.unsettled_nudged / nudged,
            "unstable": self.unstable / checked,
            "jumped": self.jumped / max(self.checked_nudged, 1),
        }

    def add(self, free: Equilibrium, update: Update, loss: Array) -> None:
        """Count one batch."""
        nudged = update.nudged
        self.left_out += int(np.sum(~update.valid))
        self.rule_measurements += update.measurements
        self.samples += len(loss)
        self.loss += float(np.sum(loss[free.settled]))
        self.unsettled += int(np.sum(~free.settled))
        self.sweeps += int(np.sum(free.sweeps))
        if free.checked is not None and free.stable is not None:
            self.checked += int(free.checked.sum())
            self.unstable += int(np.sum(free.checked & free.settled & ~free.stable))
        if nudged is not None:
            self.nudged += len(nudged.settled)
            self.unsettled_nudged += int(np.sum(~nudged.settled))
            if nudged.checked is not None and nudged.jumped is not None:
                self.checked_nudged += int(nudged.checked.sum())
                self.jumped += int(np.sum(nudged.jumped))


@dataclass
class Trainer:
    """Trains one chip of a design on a data set; the history grows by one :class:`Epoch` an epoch.

    Every random choice (starting weights, data order, probes) comes from ``design.task.seed`` and the
    chip's seed, so that chips differ in all of them, and arms which differ in rule or homeostat in none.
    """

    chip: Chip
    data: Dataset
    rule: LearningRule
    homeostat: Controller | None
    readout: Readout
    history: list[Epoch] = field(default_factory=list)

    @classmethod
    def from_design(cls, design: Design, data: Dataset, chip_seed: int | None = None) -> Trainer:
        """Fabricate chip ``chip_seed`` (default: the task's seed), write its starting weights, set up."""
        chip = Circuit(design).fabricate(seed=design.task.seed if chip_seed is None else chip_seed)
        initialise_from(chip)
        return cls._of(chip, data, None)

    @classmethod
    def from_run(cls, run: Run, data: Dataset) -> Trainer:
        """Go on with a chip as it was archived, or measured, and its readout; the history begins anew."""
        return cls._of(run.chip, data, run.readout)

    @classmethod
    def _of(cls, chip: Chip, data: Dataset, readout: tuple[Array, Array] | None) -> Trainer:
        """A chip as it stands, and what its design asks for beside it; without a readout, a fresh one."""
        design, seed = chip.circuit.design, run_seed(chip)
        if readout is None:
            shape = data.classes, design.sizes[-1]
            spread = design.learning.readout_scale / np.sqrt(shape[1])
            readout = spread * generator(seed, "readout").standard_normal(shape), np.zeros(shape[0])
        rule = make_rule(design, derived_seed(seed, "rule"))  # its probes are not the homeostat's
        return cls(chip, data, rule, make_homeostat(design, seed), Readout.of(chip, readout))

    def __post_init__(self) -> None:
        self.design = self.chip.circuit.design
        self.rule.check(self.chip.circuit)
        learning = self.design.learning
        if len(self.data.train_y) < learning.batch:
            raise ValueError(
                f"learning.batch is {learning.batch}, but there are {len(self.data.train_y)} "
                "training samples: make the batch smaller, or task.train larger"
            )
        self.optimizer = make_optimizer(
            learning.optimizer, learning.rate, learning.momentum, learning.threads
        )
        self.steps = 0

    # -- one step -------------------------------------------------------------------------------

    def inputs(self, images: Array) -> Array:
        """Input voltages [V] of images in [0, 1]; see :func:`input_voltages`."""
        return input_voltages(self.chip, images)

    def cost(self, labels: Array) -> CrossEntropy | SquaredError:
        """The design's cost for a batch of labels."""
        return cost_of(self.chip, self.readout, labels)

    def step(self, images: Array, labels: Array, tally: Tally | None = None) -> None:
        """Learn from one batch: settle, nudge, contract, correct, program. All phases see the same noise."""
        with fluctuating(self.chip, self.steps):
            changes = self._changes(images, labels, tally)
        self.chip.program(changes)
        self.steps += 1

    def _changes(self, images: Array, labels: Array, tally: Tally | None) -> dict[str, Array]:
        """What one batch makes of every array [S], after the readout has learned from it."""
        chip, x, cost = self.chip, self.inputs(images), self.cost(labels)
        self.optimizer.rate = self.rate()
        certify = int(self.steps % CERTIFIED_EVERY == 0)
        free = self.rule.relax(chip, x, certify)
        free = observed(chip, free, self.steps)
        update = self.rule.update(chip, x, free, cost, certify)
        if tally is not None:
            tally.add(free, update, cost.value(read_outputs(free), np.arange(len(x))))
        changes = self._correction(x, free)
        leak = self.design.neuron.leak
        single = chip.circuit.resistive  # devices are programmed one by one, or as pairs
        for name, gradient in update.gradients.items():
            if name in update.kept:
                continue
            slope = gradient.devices() if single else gradient.along_pair(chip.devices[name].target)
            slope = chip.circuit.layouts[name].tied(slope)
            change = self.optimizer.step(name, slope, leak)
            changes[name] = changes[name] + change if name in changes else change
        if isinstance(cost, CrossEntropy):
            self._train_readout(cost, free, update.valid)
        return changes

    @property
    def steps_per_epoch(self) -> int:
        """Whole batches in the training set."""
        return len(self.data.train_y) // self.design.learning.batch

    def rate(self) -> float:
        """The present learning rate: constant, or ``½ rate (1 + cos π t)`` at the share t of all epochs."""
        learning = self.design.learning
        if learning.schedule == "constant":
            return learning.rate
        total = learning.epochs * self.steps_per_epoch
        return float(0.5 * learning.rate * (1 + np.cos(np.pi * min(self.steps / total, 1.0))))

    def _correction(self, inputs: Array, free: Equilibrium) -> dict[str, Array]:
        if self.homeostat is None or self.steps % self.design.homeostat.every:
            return {}
        pace = self.rate() / self.design.learning.rate
        return self.homeostat.correct(self.chip, Running.beside(self.chip, inputs, free, pace))

    def _train_readout(self, cost: CrossEntropy, free: Equilibrium, valid: Array) -> None:
        weight, bias = cost.readout_gradients(read_outputs(free), valid)
        self.readout.weight = self.readout.weight + self.optimizer.step("readout/weight", weight)
        self.readout.bias = self.readout.bias + self.optimizer.step("readout/bias", bias)

    # -- epochs ---------------------------------------------------------------------------------

    def batches(self, epoch: int) -> Iterator[tuple[Array, Array]]:
        """The epoch's batches, in an order that depends on the run's seed alone."""
        size, count = self.design.learning.batch, len(self.data.train_y)
        order = generator(run_seed(self.chip), "order", str(epoch)).permutation(count)
        for first in range(0, count - size + 1, size):
            rows = order[first : first + size]
            yield self.data.train_x[rows], self.data.train_y[rows]

    def fit(
        self, epochs: int | None = None, progress: Callable[[Epoch | None], None] | None = None
    ) -> list[Epoch]:
        """Train to ``epochs`` (default: the design's) and return the history.

        ``progress`` is called with None after every step and with each new :class:`Epoch`. Runs on one
        BLAS thread: the products are small, and a second thread costs more than it brings.
        """
        from threadpoolctl import threadpool_limits

        with threadpool_limits(1, user_api="blas"):
            return self._fit(epochs, progress)

    def _fit(self, epochs: int | None, progress: Callable[[Epoch | None], None] | None) -> list[Epoch]:
        report = progress or (lambda epoch: None)
        if not self.history:
            self._record(Tally(), time.perf_counter(), report)
        while len(self.history) <= (self.design.learning.epochs if epochs is None else epochs):
            began, tally = time.perf_counter(), Tally()
            for images, labels in self.batches(len(self.history)):
                self.step(images, labels, tally)
                report(None)
            self._record(tally, began, report)
        return self.history

    def history_arrays(self) -> dict[str, Array]:
        """The history as one array (epochs + 1,) for every recorded quantity."""
        rows = [epoch.scalars() for epoch in self.history]
        return {name: np.array([row[name] for row in rows], np.float64) for name in rows[0]}

    def _record(self, tally: Tally, began: float, report: Callable[[Epoch | None], None]) -> None:
        accuracy, unsettled_test = self.evaluate()
        exact, response, measured, symmetry = self.diagnose()
        spent, probed = (part.spent if part else Spent() for part in (self.homeostat, self.rule.prober))
        programmer, price = self.chip.programmer, self.costs()
        step, wiring = price.step(self.design.learning.batch), Wiring.of(self.design)
        drop, error = wiring.check(self.chip) if wiring else (0.0, 0.0)
        epoch = Epoch(
            epoch=len(self.history),
            accuracy=accuracy,
            alignment=exact,
            response=response,
            measured=measured,
            angle=asymmetry.weight_angles(self.chip),
            symmetry=symmetry.measure,
            symmetry_after=symmetry.after,
            unsettled_test=unsettled_test,
            measurements=spent.measurements,
            probe_time=spent.time + probed.time,
            probe_energy=spent.energy + probed.energy,
            rule_measurements=tally.rule_measurements,
            pulses=programmer.pulses,
            reads=programmer.reads,
            inference_time=price.inference.time,
            inference_energy=price.inference.energy,
            step_time=step.time,
            step_energy=step.energy,
            wire_drop=drop,
            wire_error=error,
            seconds=time.perf_counter() - began,
            **tally.shares(),
        )
        self.history.append(epoch)
        report(epoch)

    def costs(self) -> Costs:
        """Of the chip as it is, with as many pulses and reads a step as since the last record."""
        programmer, pulses, reads = self.chip.programmer, 0.0, 0.0
        if self.history:
            last, steps = self.history[-1], self.steps_per_epoch
            pulses, reads = (programmer.pulses - last.pulses) / steps, (programmer.reads - last.reads) / steps
        x, cost = self.inputs(self.data.test_x[:SAMPLES]), self.cost(self.data.test_y[:SAMPLES])
        return costs(self.chip, x, cost, self.rule.nudging, pulses, reads)

    def evaluate(self) -> tuple[float, float]:
        """Test accuracy, and the share of test samples that did not settle (they are judged as they are).

        Devices and readings have the noise of the present step.
        """
        with fluctuating(self.chip, self.steps):
            return self._evaluate()

    def _evaluate(self) -> tuple[float, float]:
        right = unsettled = 0
        for first in range(0, len(self.data.test_y), EVALUATION_BATCH):
            labels = self.data.test_y[first : first + EVALUATION_BATCH]
            images = self.data.test_x[first : first + EVALUATION_BATCH]
            free = observed(self.chip, self.rule.relax(self.chip, self.inputs(images), 0), self.steps)
            right += int(np.sum(predicted(self.chip, self.readout, free, first) == labels))
            unsettled += int(np.sum(~free.settled))
        return right / len(self.data.test_y), unsettled / len(self.data.test_y)

    def diagnose(self) -> tuple[dict[str, float], dict[str, float], dict[str, float], asymmetry.Symmetry]:
        """On the fixed samples: cosine to the adjoint's gradient by array, of EP's exact response; that of
        the response itself by layer; that of what the rule measures; and the symmetry of J̃ at the first.
        """
        x = self.inputs(self.data.test_x[:ALIGNMENT_SAMPLES])
        free = observed(self.chip, self.rule.relax(self.chip, x, 0), 0)
        cost = self.cost(self.data.test_y[:ALIGNMENT_SAMPLES])
        ep, adjoint = exact_response(free, cost), adjoint_response(free, cost)
        true = contracted(self.chip, x, free, adjoint).gradients
        exact = asymmetry.alignment(contracted(self.chip, x, free, ep).gradients, true)
        layers = [str(name) for name in self.chip.circuit.layer_names]
        response = asymmetry.response_alignment(free.circuit, ep.epsilon, adjoint.epsilon, layers)
        aside = copy.deepcopy(self.rule)  # its probes are no part of training, nor of what that has spent
        measured = asymmetry.alignment(aside.update(self.chip, x, free, cost, 0).gradients, true)
        passing = (listening.post for _, listening, _ in self.chip.circuit.relay_paths)
        return exact, response, measured, asymmetry.symmetry(free, relays=passing)


def make_homeostat(design: Design, seed: int) -> Controller | None:
    """The controller that a design's ``[homeostat]`` section describes; ``seed`` is that of its probes."""
    spec = design.homeostat
    if spec.mode == "probe":
        return Homeostat.from_spec(spec, seed)
    if spec.mode == "trim":
        return DriverTrim.from_design(design, seed)
    return WeightDecay(spec.decay) if spec.mode == "decay" else None

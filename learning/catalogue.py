"""The estimators and learning rules that a design can name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from ..circuits.design import Design
from ..circuits.sections import refuse
from .balance import BalanceErrors
from .contrast import ContrastiveEP, CoupledLearning
from .dual import DualPropagation
from .estimators import Estimator, Exact, Stencil, cauchy, centered, chebyshev, one_sided
from .feedback import AntisymmetricFeedback, KolenPollack, ProductFeedback
from .nudges import beta_in_watts
from .oscillation import Oscillation, continuous, lock_in
from .probes import Prober
from .rules import Adjoint, EquilibriumPropagation, LearningRule

ESTIMATORS: dict[str, Callable[[float, int, float], Estimator]] = {
    "one-sided": lambda beta, nudges, period: one_sided(beta),
    "negative": lambda beta, nudges, period: one_sided(-beta),
    "centered": lambda beta, nudges, period: centered(beta),
    "cauchy": lambda beta, nudges, period: cauchy(beta, nudges),
    "chebyshev": lambda beta, nudges, period: chebyshev(beta, nudges),
    "exact": lambda beta, nudges, period: Exact(),
    "lock-in": lambda beta, nudges, period: lock_in(beta, nudges, period),
    "continuous": lambda beta, nudges, period: continuous(beta, period),
}
"""By name, from β [W], the number of nudges, and the period [s] of those that oscillate."""

RULES: dict[str, Callable[[Design, int], LearningRule]] = {
    "ep": lambda design, seed: EquilibriumPropagation(make_estimator(design)),
    "adjoint": lambda design, seed: Adjoint(),
    "contrastive": lambda design, seed: ContrastiveEP(_make_stencil(design)),
    "coupled": lambda design, seed: CoupledLearning(_make_stencil(design)),
    "aep": lambda design, seed: AntisymmetricFeedback(make_estimator(design)),
    "aep-measured": lambda design, seed: _make_measured(design, seed),
    "kolen-pollack": lambda design, seed: KolenPollack(make_estimator(design)),
    "product-feedback": lambda design, seed: ProductFeedback(make_estimator(design)),
    "dual-propagation": lambda design, seed: DualPropagation(beta_in_watts(design, design.learning.beta)),
    "balance": lambda design, seed: BalanceErrors(_make_stencil(design)),
}
"""By name, from the design, and the seed of what the rule draws."""


def make_estimator(design: Design) -> Estimator:
    """The estimator of the response that a design's ``[learning]`` section names."""
    learning = design.learning
    beta, period = beta_in_watts(design, learning.beta), learning.period * design.neuron.tau
    estimator = ESTIMATORS[learning.estimator](beta, learning.nudges, period)
    if isinstance(estimator, Stencil | Oscillation):
        return replace(estimator, judged=learning.jumps == "leave-out")
    return estimator


def _make_stencil(design: Design) -> Stencil:
    """The estimator, for a rule that compares states under separate nudges."""
    estimator, learning = make_estimator(design), design.learning
    if not isinstance(estimator, Stencil):
        needed = f'compares settled states, and estimator = "{learning.estimator}" settles none'
        refuse("learning.rule", learning.rule, f'{needed}; write "centered"', "learning.estimator")
    return estimator


def _make_measured(design: Design, seed: int) -> LearningRule:
    """Antisymmetric-feedback EP with a skew that the ``[homeostat]`` section's probes measure."""
    spec = design.homeostat
    prober = Prober.from_spec(spec, seed, inputs=True)
    return AntisymmetricFeedback(make_estimator(design), prober, spec.probes, "aep-measured")


def make_rule(design: Design, seed: int | None = None) -> LearningRule:
    """The rule that a design's ``[learning]`` section names; ``seed`` (default: the task's) is that of its
    probes.
    """
    return RULES[design.learning.rule](design, design.task.seed if seed is None else seed)

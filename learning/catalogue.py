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

RULES: dict[str, Callable[[Design], LearningRule]] = {
    "ep": lambda design: EquilibriumPropagation(make_estimator(design)),
    "adjoint": lambda design: Adjoint(),
    "contrastive": lambda design: ContrastiveEP(_make_stencil(design)),
    "coupled": lambda design: CoupledLearning(_make_stencil(design)),
    "aep": lambda design: AntisymmetricFeedback(make_estimator(design)),
    "aep-measured": lambda design: _make_measured(design),
    "kolen-pollack": lambda design: KolenPollack(make_estimator(design)),
    "product-feedback": lambda design: ProductFeedback(make_estimator(design)),
    "dual-propagation": lambda design: DualPropagation(beta_in_watts(design, design.learning.beta)),
    "balance": lambda design: BalanceErrors(_make_stencil(design)),
}


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


def _make_measured(design: Design) -> LearningRule:
    """Antisymmetric-feedback EP with a skew that the ``[homeostat]`` section's probes measure."""
    spec = design.homeostat
    prober = Prober.from_spec(spec, design.task.seed, inputs=True)
    return AntisymmetricFeedback(make_estimator(design), prober, spec.probes, "aep-measured")


def make_rule(design: Design) -> LearningRule:
    """The rule that a design's ``[learning]`` section names."""
    return RULES[design.learning.rule](design)

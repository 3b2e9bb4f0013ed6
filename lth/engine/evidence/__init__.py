"""What criteria look at: gradients, Hessian products, flow, noise; for every seed of a cohort from that seed alone.

The functions of one network (`gradient`, `hessian_gradient`, ...) are pure and take any floating-point type, so that
they can be held against finite differences. `gather` computes what a criterion asks for, one seed after another: a
seed's evidence is the same to the bit in any cohort.
"""

from lth.engine.evidence import chance, given
from lth.engine.evidence.cohort import Loss, OneSeed, Sample, ScoredCohort
from lth.engine.evidence.fisher import fisher_diagonal
from lth.engine.evidence.gathering import gather
from lth.engine.evidence.gradients import gradient, hessian_gradient
from lth.engine.evidence.registry import EVIDENCE, Evidence, register_evidence, register_rows
from lth.engine.evidence.weight_flow import flow

__all__ = [
    "EVIDENCE",
    "Evidence",
    "Loss",
    "OneSeed",
    "Sample",
    "ScoredCohort",
    "fisher_diagonal",
    "flow",
    "gather",
    "gradient",
    "hessian_gradient",
    "register_evidence",
    "register_rows",
]
del chance, given

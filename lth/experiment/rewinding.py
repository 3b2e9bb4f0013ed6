"""Which weights a pruned network starts from again, and how it is trained."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from lth.experiment.durations import Duration
from lth.experiment.section import Section


class RewindToInit(Section):
    """Rewind to the initial weights."""

    kind: Literal["init"] = Field("init", description="The weights of initialisation (Frankle & Carbin 2019).")


class RewindToStep(Section):
    """Late rewinding: to the weights of an early step of the dense training."""

    kind: Literal["step"] = Field("step", description="The weights of step k of the dense training (late rewinding).")
    step: Duration = Field(description="k: the step whose weights, data order and learning rate training resumes from.")


class RewindLearningRate(Section):
    """Learning-rate rewinding: the trained weights stay, the schedule starts again."""

    kind: Literal["learning_rate"] = Field(
        "learning_rate",
        description="Keep the trained weights and train again from step 0 of the learning-rate "
        "schedule (LRR; Renda et al. 2020).",
    )


class FineTune(Section):
    """Fine-tuning: the trained weights stay, and so does the last learning rate."""

    kind: Literal["fine_tune"] = Field(
        "fine_tune", description="Keep the trained weights and train on at the last learning rate (Renda et al. 2020)."
    )
    duration: Duration | None = Field(None, description="How long; empty: as long as the training.")


class NoRewinding(Section):
    """Neither rewound nor retrained: the pruned network as it stands."""

    kind: Literal["none"] = Field(
        "none", description="Neither rewind nor retrain: the trained weights that are left are evaluated as they are."
    )


Rewinding = RewindToInit | RewindToStep | RewindLearningRate | FineTune | NoRewinding

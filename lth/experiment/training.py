"""How one network is trained: optimizer, learning-rate schedule, batch, duration, precision."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from lth.experiment.durations import Duration, comparable
from lth.experiment.section import Section, default_kind, not_longer


class Adam(Section):
    """Adam (Kingma & Ba 2015)."""

    kind: Literal["adam"] = Field("adam", description="Adam.")
    learning_rate: float = Field(1.2e-3, gt=0, le=100, description="Step size before the schedule's factor.")
    beta1: float = Field(0.9, ge=0, lt=1, description="Decay of the running mean of gradients, per step.")
    beta2: float = Field(0.999, ge=0, lt=1, description="Decay of the running mean of squared gradients, per step.")
    epsilon: float = Field(1e-8, gt=0, le=1, description="Added to the denominator.")
    weight_decay: float = Field(0.0, ge=0, le=1, description="L2 penalty added to the gradient.")


class SGD(Section):
    """Stochastic gradient descent with momentum."""

    kind: Literal["sgd"] = Field("sgd", description="SGD.")
    learning_rate: float = Field(0.1, gt=0, le=100, description="Step size before the schedule's factor.")
    momentum: float = Field(0.9, ge=0, lt=1, description="Momentum; 0 for none.")
    nesterov: bool = Field(False, description="Nesterov's form of momentum.")
    weight_decay: float = Field(0.0, ge=0, le=1, description="L2 penalty added to the gradient.")

    @model_validator(mode="after")
    def _nesterov(self) -> SGD:
        if self.nesterov and self.momentum == 0:
            raise ValueError(f"nesterov needs a momentum above 0; got {self.momentum}")
        return self


class Constant(Section):
    """The same learning rate throughout."""

    kind: Literal["constant"] = Field("constant", description="The same learning rate throughout.")
    warmup: Duration = Field("0it", description="Linear rise from 0 to the full learning rate over this duration.")


class Step(Section):
    """A learning rate that drops at milestones."""

    kind: Literal["step"] = Field("step", description="Drops at milestones.")
    warmup: Duration = Field("0it", description="Linear rise from 0 to the full learning rate over this duration.")
    milestones: tuple[Duration, ...] = Field(description="When the rate drops, counted from the start, increasing.")
    factor: float = Field(0.1, gt=0, lt=1, description="What the rate is multiplied with at each milestone.")

    @field_validator("milestones")
    @classmethod
    def _increasing(cls, milestones: tuple[str, ...]) -> tuple[str, ...]:
        if not milestones:
            raise ValueError("a step schedule needs at least one milestone, e.g. [20000it, 25000it]")
        for earlier, later in pairwise(milestones):
            if comparable(earlier, later) and int(earlier[:-2]) >= int(later[:-2]):
                raise ValueError(f"milestones must increase, but {earlier} comes before {later}")
        return milestones


class Cosine(Section):
    """A learning rate that falls to zero along half a cosine."""

    kind: Literal["cosine"] = Field("cosine", description="Half a cosine from the full rate to 0 at the end.")
    warmup: Duration = Field("0it", description="Linear rise from 0 to the full learning rate over this duration.")


class Training(Section):
    """How one network is trained; every level and arm is trained the same way."""

    optimizer: Annotated[Adam | SGD, Field(discriminator="kind"), default_kind("adam")] = Field(
        default_factory=Adam, description="Optimizer: adam or sgd, with its settings."
    )
    schedule: Annotated[Constant | Step | Cosine, Field(discriminator="kind"), default_kind("constant")] = Field(
        default_factory=Constant, description="Learning-rate schedule: constant, step or cosine, with warm-up."
    )
    batch_size: int = Field(
        60,
        ge=1,
        le=1_000_000,
        description="Examples a step; an epoch's incomplete last batch is left out (every epoch is shuffled anew).",
    )
    duration: Duration = Field("50000it", description="Length of every training, in steps (it) or epochs (ep).")
    evaluate_every: Duration = Field("100it", description="Interval between evaluations on the validation split.")
    precision: Literal["float32", "tf32", "bf16"] = Field(
        "float32", description="Arithmetic of matrix products: float32; tf32 (CUDA only); bf16 (automatic mixed)."
    )

    @model_validator(mode="after")
    def _lengths(self) -> Training:
        if int(self.duration[:-2]) == 0:
            raise ValueError("training.duration must be at least one step; got " + self.duration)
        if int(self.evaluate_every[:-2]) == 0:
            raise ValueError("training.evaluate_every must be at least one step; got " + self.evaluate_every)
        not_longer("training.evaluate_every", self.evaluate_every, self.duration)
        not_longer("training.schedule.warmup", self.schedule.warmup, self.duration)
        return self

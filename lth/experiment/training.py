"""How one network is trained: optimizer, learning-rate schedule, batch, duration, precision."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from lth.engine.optimizers import OPTIMIZERS
from lth.engine.schedules import SCHEDULES
from lth.engine.watchers import WATCHERS
from lth.experiment.durations import Duration
from lth.experiment.one_of import OneOf, Part
from lth.experiment.section import Section, not_longer

_OPTIMIZER = OneOf(OPTIMIZERS, "adam")
_SCHEDULE = OneOf(SCHEDULES, "constant")
_ALWAYS = {
    "early_stop": "leave it out, every training keeps its best evaluation",
    "rewind_point": "leave it out, and say with rewinding.step where tickets begin",
}
_WATCHER = OneOf(WATCHERS, "", without=_ALWAYS)


class Training(Section):
    """How one network is trained; every level and arm is trained the same way."""

    optimizer: Annotated[Part, _OPTIMIZER] = Field(
        default_factory=_OPTIMIZER.make, description="Optimizer (`lth list optimizers`), with its settings."
    )
    schedule: Annotated[Part, _SCHEDULE] = Field(
        default_factory=_SCHEDULE.make, description="Learning-rate schedule (`lth list schedules`), with warm-up."
    )
    batch_size: int = Field(
        60,
        ge=1,
        le=1_000_000,
        description="Examples a step; an epoch's incomplete last batch is left out (every epoch is shuffled anew).",
    )
    duration: Duration = Field("50000it", description="Length of every training, in steps (it) or epochs (ep).")
    evaluate_every: Duration = Field("100it", description="Interval between evaluations on the validation split.")
    clip_norm: float | None = Field(
        None,
        gt=0,
        le=1e6,
        description="Most that the norm of a seed's gradient may be in a step: longer ones are shortened to it "
        "(Pascanu et al. 2013); empty: never.",
    )
    watchers: tuple[Annotated[Part, _WATCHER], ...] = Field(
        (),
        description="What sees every training beside early stop, and may change its mask or end it (`lth list "
        "watchers`): names, or `kind` with settings.",
    )
    precision: Literal["float32", "tf32", "bf16"] = Field(
        "float32", description="Arithmetic of matrix products: float32; tf32 (CUDA only); bf16 (automatic mixed)."
    )

    @field_validator("watchers", mode="before")
    @classmethod
    def _named(cls, value: object) -> object:
        if not isinstance(value, list | tuple):
            return value
        return tuple({"kind": each} if isinstance(each, str) else each for each in value)

    @field_validator("watchers")
    @classmethod
    def _own(cls, watchers: tuple[Part, ...]) -> tuple[Part, ...]:
        kinds = [watcher.kind for watcher in watchers]
        for kind in kinds:
            if kinds.count(kind) > 1:
                raise ValueError(f"watcher {kind!r} appears twice; name each once")
        return watchers

    @property
    def mask_changers(self) -> tuple[str, ...]:
        """The watchers that may change the mask while a network trains."""
        return tuple(part.kind for part in self.watchers if WATCHERS[part.kind].changes_mask)

    @model_validator(mode="after")
    def _lengths(self) -> Training:
        if int(self.duration[:-2]) == 0:
            raise ValueError("training.duration must be at least one step; got " + self.duration)
        if int(self.evaluate_every[:-2]) == 0:
            raise ValueError("training.evaluate_every must be at least one step; got " + self.evaluate_every)
        not_longer("training.evaluate_every", self.evaluate_every, self.duration)
        not_longer("training.schedule.warmup", str(self.schedule.settings().get("warmup", "0it")), self.duration)
        return self

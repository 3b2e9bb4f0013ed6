"""Late rewinding: to the weights of an early step of the dense training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from lth.durations import comparable
from lth.engine.recipe import Recipe
from lth.rewinding.registry import Retraining, Source, register_rewind
from lth.settings import Steps, setting


@register_rewind("step", "The weights of step k of the dense training (late rewinding).")
@dataclass(frozen=True)
class RewindToStep:
    """Late rewinding: to the weights of an early step of the dense training (Frankle et al. 2020)."""

    source: ClassVar[Source] = "step"
    trains: ClassVar[bool] = True
    step: Steps = setting(description="k: the step whose weights, data order and learning rate training resumes from.")

    @staticmethod
    def check_experiment(section: Any, experiment: Any) -> None:
        whole = experiment.training.duration
        if comparable(section.step, whole) and int(section.step[:-2]) >= int(whole[:-2]):
            raise ValueError(
                f"rewinding.step is {section.step}, past the end of a training of {whole}; rewind to an "
                "earlier step, so that something is left to train"
            )

    @property
    def kept_step(self) -> int:
        return self.step

    def retraining(self, recipe: Recipe) -> Retraining:
        return Retraining(self.step, recipe)

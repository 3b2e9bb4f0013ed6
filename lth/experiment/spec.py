"""The experiment: everything that a person decides about a sweep, in one frozen model.

The same model is the YAML file, the command line's `--set`, and the form in Prefect's UI; each field carries the
sentence that all three show.
"""

from __future__ import annotations

import difflib
from itertools import pairwise
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, JsonValue, field_validator, model_validator

from lth.experiment.durations import Duration, comparable
from lth.experiment.identity import digest


class Section(BaseModel):
    """A frozen part of an experiment; unknown fields are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _yes_is_no_number(cls, fields: object) -> object:
        # YAML reads `yes`, `on` and `true` as True, which would pass as the number 1.
        for name, value in fields.items() if isinstance(fields, dict) else ():
            if isinstance(value, bool) and name in cls.model_fields and cls.model_fields[name].annotation is not bool:
                raise ValueError(f"{name} is {value!r}, but it is no yes-or-no field; write numbers in digits, "
                                 "and quote a text such as 'yes'")
        return fields


def _known(kind: str, name: str, names: list[str]) -> str:
    if name not in names:
        close = difflib.get_close_matches(name, names, 1)
        hint = f"did you mean {close[0]!r}? " if close else ""
        raise ValueError(f"unknown {kind} {name!r}; {hint}known: {', '.join(sorted(names))}")
    return name


def _default_kind(kind: str) -> BeforeValidator:
    """A part that does not say its kind is of the default one: `schedule: {warmup: 500it}` is constant."""
    return BeforeValidator(lambda value: {"kind": kind, **value} if isinstance(value, dict) else value)


class Dataset(Section):
    """What the networks learn."""

    name: str = Field("digits", description="Data set: a registered name (`lth list datasets`).")
    path: str | None = Field(
        None, description="For `parquet` only: the folder with train*.parquet and test*.parquet, below LTH_DATA_DIR."
    )
    validation: int = Field(
        5000, ge=1, le=10_000_000, description="Examples held out of the training split for validation, drawn per seed."
    )
    standardise: Literal["channel", "none"] = Field(
        "channel",
        description="`channel`: subtract the mean and divide by the deviation of each colour channel, both measured on "
        "the seed's training split; `none`: only scale pixels to 0-1.",
    )
    crop_padding: int = Field(
        0, ge=0, le=64, description="Augmentation: random crops after padding by this many pixels a side; 0 for none."
    )
    flip: bool = Field(False, description="Augmentation: mirror each training image left-right with probability 1/2.")

    @field_validator("name")
    @classmethod
    def _name(cls, name: str) -> str:
        from lth.data import dataset_names

        return _known("data set", name, list(dataset_names()))

    @model_validator(mode="after")
    def _path(self) -> Dataset:
        if (self.path is not None) != (self.name == "parquet"):
            raise ValueError(
                "dataset.path belongs to the data set `parquet` and only to it; "
                f"got name {self.name!r} with path {self.path!r}"
            )
        return self


class Model(Section):
    """The network that tickets are cut from."""

    name: str = Field(
        "mlp", description="A registered network (`lth list models`) or your own as `package.module:factory`."
    )
    arguments: dict[str, JsonValue] = Field(
        default_factory=dict, description="Keyword arguments of the network, e.g. {hidden: [300, 100]}."
    )
    initialisation: Literal["glorot_normal", "kaiming_normal", "own"] = Field(
        "glorot_normal",
        description="How dense and convolutional weights are drawn: Gaussian Glorot or Kaiming (fan-in) with zero "
        "biases, or `own` as the network's constructor draws them.",
    )
    prunable: tuple[str, ...] | None = Field(
        None,
        description="Weight tensors that may be pruned, by parameter name; empty: every weight of a dense or "
        "convolutional layer, never biases or norms.",
    )
    output_layer: str | None = Field(
        None,
        description="Parameter name of the output layer's weight; empty: the last dense or convolutional layer run.",
    )

    @field_validator("name")
    @classmethod
    def _name(cls, name: str) -> str:
        from lth.models import model_names

        if ":" not in name:
            return _known("model", name, list(model_names()))
        module, _, factory = name.partition(":")
        if not all(part.isidentifier() for part in [*module.split("."), factory]):
            raise ValueError(f"{name!r} is no import path; write package.module:factory, e.g. my_networks:wide")
        return name


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

    optimizer: Annotated[Adam | SGD, Field(discriminator="kind"), _default_kind("adam")] = Field(
        default_factory=Adam, description="Optimizer: adam or sgd, with its settings."
    )
    schedule: Annotated[Constant | Step | Cosine, Field(discriminator="kind"), _default_kind("constant")] = Field(
        default_factory=Constant, description="Learning-rate schedule: constant, step or cosine, with warm-up."
    )
    batch_size: int = Field(60, ge=1, le=1_000_000, description="Examples a step; an epoch's incomplete last batch "
                            "is left out (every epoch is shuffled anew).")
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


def not_longer(field: str, part: str, whole: str) -> None:
    """Refuse a duration that is past the end of the training, where units allow the comparison."""
    if comparable(part, whole) and int(part[:-2]) > int(whole[:-2]):
        raise ValueError(f"{field} is {part}, past the end of a training of {whole}; make it at most {whole}")


Fraction = Annotated[float, Field(gt=0, lt=1)]


class PruningFraction(Section):
    """What part of the remaining weights one level removes, by kind of layer."""

    dense: Fraction | None = Field(0.2, description="Of dense layers: above 0, below 1; empty: never pruned.")
    conv: Fraction | None = Field(0.1, description="Of convolutions: above 0, below 1; empty: never pruned.")


class Pruning(Section):
    """Which weights are removed, and how many at each level."""

    criterion: str = Field("magnitude", description="Score of a weight, lowest pruned (`lth list criteria`).")
    scope: Literal["layer", "global"] = Field(
        "layer", description="Where scores compete: within each layer, or across all prunable layers."
    )
    schedule: Literal["iterative", "one_shot"] = Field(
        "iterative",
        description="`iterative`: prune a fraction, rewind, train, again; `one_shot`: cut the trained dense network "
        "straight to the weight count of each level.",
    )
    fraction: PruningFraction = Field(
        default_factory=PruningFraction, description="Part of the remaining weights removed per level. A single "
        "number stands for all kinds of layers."
    )
    output_factor: float = Field(
        0.5, ge=0, le=1, description="The output layer's fraction is this factor times the others'; 0 leaves it dense."
    )
    levels: int = Field(20, ge=0, le=200, description="Pruning levels after the dense network (level 0).")

    @field_validator("criterion")
    @classmethod
    def _criterion(cls, name: str) -> str:
        from lth.pruning import criterion_names

        return _known("criterion", name, list(criterion_names()))

    @field_validator("fraction", mode="before")
    @classmethod
    def _one_number(cls, value: object) -> object:
        if value is None or isinstance(value, dict | PruningFraction):
            return value
        try:
            number = float(str(value))  # YAML reads 2e-1 as a text
        except ValueError:
            number = 0.0
        if not 0 < number < 1:
            raise ValueError(f"a fraction is above 0 and below 1, got {value!r}; write one number, or dense and conv")
        return {"dense": number, "conv": number}

    @model_validator(mode="after")
    def _something_to_prune(self) -> Pruning:
        rates = {rate for rate in (self.fraction.dense, self.fraction.conv) if rate is not None}
        if not rates and self.levels:
            raise ValueError("pruning.fraction leaves every kind of layer unpruned; set dense, conv or both")
        if self.scope == "global" and (len(rates) > 1 or self.output_factor not in (0, 1)):
            raise ValueError(
                "pruning.scope 'global' lets all layers compete, so they need one fraction: give dense and conv the "
                "same fraction (or leave one empty) and set output_factor to 1 (or 0 to leave the output layer dense)"
            )
        return self


class RewindToInit(Section):
    """Rewind to the initial weights."""

    kind: Literal["init"] = Field("init", description="The weights of initialisation (Frankle & Carbin 2019).")


class RewindToStep(Section):
    """Late rewinding: to the weights of an early step of the dense training."""

    kind: Literal["step"] = Field("step", description="The weights of step k of the dense training (late rewinding).")
    step: Duration = Field(description="k: the step whose weights, data order and learning rate training resumes from.")


class Arm(Section):
    """What is trained at every level: the ticket or a control."""

    name: str = Field(description="Name of the arm (`lth list arms`).")
    draws: int = Field(1, ge=1, le=1000, description="Independent draws of this control for every seed.")

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, value: object) -> object:
        if isinstance(value, str):
            name, colon, draws = value.partition(":")
            return {"name": name, "draws": draws} if colon else {"name": name}
        return value

    @model_validator(mode="after")
    def _known_arm(self) -> Arm:
        from lth.arms import arm_names

        _known("arm", self.name, list(arm_names()))
        if self.name == "ticket" and self.draws != 1:
            raise ValueError(f"the arm 'ticket' is not random: it has one draw, not {self.draws}")
        return self


class Experiment(Section):
    """A sweep for lottery tickets: what decides each training, and what is compared."""

    name: str = Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$",
        description="A short name: letters, digits, - and _. It begins the experiment's id.",
    )
    dataset: Dataset = Field(default_factory=Dataset, description="Data set, validation split, augmentation.")
    model: Model = Field(default_factory=Model, description="Network and initialisation.")
    training: Training = Field(default_factory=Training, description="Optimizer, schedule, batch, duration.")
    pruning: Pruning = Field(default_factory=Pruning, description="Criterion, scope, schedule, fractions, levels.")
    rewinding: Annotated[RewindToInit | RewindToStep, Field(discriminator="kind"), _default_kind("init")] = Field(
        default_factory=RewindToInit, description="Which weights a pruned network starts from again."
    )
    arms: tuple[Arm, ...] = Field(
        (Arm(name="ticket"), Arm(name="reinit"), Arm(name="random_mask")),
        min_length=1,
        description="What is trained at every level: `ticket` and its controls, e.g. [ticket, reinit:3, random_mask].",
    )
    margin: float = Field(
        0.005, gt=0, lt=1, description="A ticket matches if it is not worse than dense by more than this accuracy "
        "(a fraction: 0.005 is half a percentage point). Declared before the sweep runs."
    )

    @model_validator(mode="after")
    def _consistent(self) -> Experiment:
        names = [arm.name for arm in self.arms]
        repeated = sorted({name for name in names if names.count(name) > 1})
        if repeated:
            raise ValueError(f"arm {repeated[0]!r} appears twice; write '{repeated[0]}:2' for two draws")
        if "ticket" not in names:
            raise ValueError("arms must include 'ticket': it is the dense baseline and what controls are cut after")
        if isinstance(self.rewinding, RewindToStep):
            step, whole = self.rewinding.step, self.training.duration
            if comparable(step, whole) and int(step[:-2]) >= int(whole[:-2]):
                raise ValueError(f"rewinding.step is {step}, past the end of a training of {whole}; rewind to an "
                                 "earlier step, so that something is left to train")
        return self

    def deciding(self) -> dict[str, Any]:
        """What decides one training, as plain JSON data: the content of the experiment's id."""
        content = self.model_dump(mode="json", exclude={"name": True, "arms": True, "margin": True,
                                                        "pruning": {"levels"}})
        return dict(content)

    @property
    def id(self) -> str:
        """`<name>-<10 hex>`: the same for every sweep whose trainings are interchangeable."""
        return f"{self.name}-{digest(self.deciding())[:10]}"

    def draws(self) -> list[tuple[str, int]]:
        """Every (arm, draw) of the experiment, the ticket first."""
        ordered = sorted(self.arms, key=lambda arm: arm.name != "ticket")
        return [(arm.name, draw) for arm in ordered for draw in range(arm.draws)]



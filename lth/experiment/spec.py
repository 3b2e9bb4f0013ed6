"""The experiment: everything that a person decides about a sweep, in one frozen model.

The same model is the YAML file, the command line's `--set`, and the form in Prefect's UI; each field carries the
sentence that all three show.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, JsonValue, field_validator, model_validator

from lth.experiment.durations import Duration, comparable
from lth.experiment.identity import digest
from lth.experiment.section import Section, default_kind, known
from lth.experiment.training import Training


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

        return known("data set", name, list(dataset_names()))

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
            return known("model", name, list(model_names()))
        module, _, factory = name.partition(":")
        if not all(part.isidentifier() for part in [*module.split("."), factory]):
            raise ValueError(f"{name!r} is no import path; write package.module:factory, e.g. my_networks:wide")
        return name


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

        return known("criterion", name, list(criterion_names()))

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

        known("arm", self.name, list(arm_names()))
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
    rewinding: Annotated[RewindToInit | RewindToStep, Field(discriminator="kind"), default_kind("init")] = Field(
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



"""The experiment: everything that a person decides about a sweep, in one frozen model.

The same model is the YAML file, the command line's `--set`, and the form in Prefect's UI; each field carries the
sentence that all three show.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, JsonValue, field_validator, model_validator

from lth.errors import InvalidExperiment
from lth.experiment.identity import digest
from lth.experiment.one_of import OneOf, Part
from lth.experiment.pruning import Pruning
from lth.experiment.section import Section, known
from lth.experiment.training import Training
from lth.objectives import OBJECTIVES
from lth.registry import import_module
from lth.rewinding import REWINDS, rewind_of

if TYPE_CHECKING:
    from lth.data.examples import DataSet


class Dataset(Section):
    """What the networks learn."""

    name: str = Field("digits", description="Data set: a registered name (`lth list datasets`).")
    path: str | None = Field(
        None,
        description="For `parquet` and `table` only: the folder with train*.parquet and test*.parquet, below "
        "LTH_DATA_DIR.",
    )
    target: str | None = Field(None, description="For `table` only: the name of the column to learn.")
    target_kind: Literal["class", "number"] | None = Field(
        None,
        description="For `table` only: learn the target's values as classes or as numbers; empty: text, booleans and "
        "integers of at most 100 values are classes, everything else is a number.",
    )
    validation: int = Field(
        5000, ge=1, le=10_000_000, description="Examples held out of the training split for validation, drawn per seed."
    )
    standardise: Literal["channel", "none"] = Field(
        "channel",
        description="`channel`: subtract the mean and divide by the deviation of each colour channel or column, both "
        "measured on the seed's training split; `none`: only scale pixels to 0-1, and leave columns as they are.",
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
    def _source(self) -> Dataset:
        from lth.data.registry import needed_of

        wrong = needed_of(self.name, path=self.path, target=self.target)
        if wrong:
            raise ValueError(wrong)
        if self.target_kind is not None and self.target is None:
            raise ValueError(
                f"dataset.target_kind is {self.target_kind!r}, but there is no dataset.target; leave it out"
            )
        return self

    def load(self) -> DataSet:
        """Read the data set, from LTH_DATA_DIR where it is not embedded.

        Raises DataError, or InvalidExperiment where it cannot be transformed as this section asks for.
        """
        from lth.data import load_dataset

        data = load_dataset(self.name, path=self.path, target=self.target, target_kind=self.target_kind)
        data.transform(self.standardise, self.crop_padding, self.flip)  # a table is neither cropped nor mirrored
        return data


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
        description="How weights are drawn: Gaussian Glorot or Kaiming (fan-in), with zero biases of dense and "
        "convolutional layers, or `own` as the network's constructor draws them.",
    )
    prunable: tuple[str, ...] | None = Field(
        None,
        description="Weight tensors that may be pruned, by parameter name; empty: every trained matrix or filter that "
        "multiplies what flows through the network, never biases, norms or tables.",
    )
    output_layer: str | None = Field(
        None,
        description="Parameter name of the output layer's weight; empty: the last weight to run.",
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
        from lth.arms import ARMS

        if self.draws != 1 and not ARMS[known("arm", self.name, list(ARMS))].random:
            raise ValueError(f"the arm {self.name!r} is not random: it has one draw, not {self.draws}")
        known("arm", self.name, list(ARMS))
        return self


class Transfer(Section):
    """Tickets that were found elsewhere: those of another experiment, or one that was exported."""

    experiment: str | None = Field(
        None,
        pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}-[0-9a-f]{10}$",
        description="Id of the experiment whose tickets are trained here, level by level and seed by seed: its masks, "
        "and the weights that it rewound them to. It lies in the same store. The output layer is new and dense.",
    )
    ticket: str | None = Field(
        None,
        pattern=r"^[0-9a-f]{64}$",
        description="Instead, SHA-256 of one exported ticket in the same store, which `lth run --ticket FILE` puts "
        "there. It is level 1 of every seed.",
    )

    @model_validator(mode="after")
    def _one_source(self) -> Transfer:
        if (self.experiment is None) == (self.ticket is None):
            raise ValueError("give transfer.experiment or transfer.ticket, one of them")
        return self


_OBJECTIVE = OneOf(OBJECTIVES, "classification")
_REWINDING = OneOf(REWINDS, "init")


class Experiment(Section):
    """A sweep for lottery tickets: what decides each training, and what is compared."""

    name: str = Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$",
        description="A short name: letters, digits, - and _. It begins the experiment's id.",
    )
    dataset: Dataset = Field(default_factory=Dataset, description="Data set, validation split, augmentation.")
    model: Model = Field(default_factory=Model, description="Network and initialisation.")
    objective: Annotated[Part, _OBJECTIVE] = Field(
        default_factory=_OBJECTIVE.make, description="What is learnt and how it is scored (`lth list objectives`)."
    )
    training: Training = Field(default_factory=Training, description="Optimizer, schedule, batch, duration.")
    pruning: Pruning = Field(default_factory=Pruning, description="Criterion, scope, schedule, fractions, levels.")
    rewinding: Annotated[Part, _REWINDING] = Field(
        default_factory=_REWINDING.make,
        description="Which weights a pruned network starts from again, and how it is trained (`lth list rewinds`).",
    )
    transfer: Transfer | None = Field(
        None,
        description="Train tickets that were found elsewhere on this experiment's data, instead of finding new "
        "ones (`lth run --ticket`). The network is the same but for its output layer.",
    )
    arms: tuple[Arm, ...] = Field(
        (Arm(name="ticket"), Arm(name="reinit"), Arm(name="random_mask")),
        min_length=1,
        description="What is trained at every level: `ticket` and its controls, e.g. [ticket, reinit:3, random_mask].",
    )
    imports: tuple[str, ...] = Field(
        (),
        description="Modules of your own to import first: they register criteria, arms, models and data sets. They "
        "are not part of the id; the names that they register are.",
    )
    margin: float = Field(
        0.005,
        gt=0,
        lt=1,
        description="A ticket matches if it is not worse than dense by more than this accuracy "
        "(a fraction: 0.005 is half a percentage point). Declared before the sweep runs.",
    )

    @model_validator(mode="before")
    @classmethod
    def _import_first(cls, fields: object) -> object:
        named = fields.get("imports") if isinstance(fields, dict) else None
        for module in [named] if isinstance(named, str) else named or ():
            if not isinstance(module, str) or not all(part.isidentifier() for part in module.split(".")):
                raise ValueError(f"imports: {module!r} is no module name; write it as in Python, e.g. my_methods")
            try:
                import_module(module, "imports")
            except InvalidExperiment as error:
                raise ValueError(str(error)) from None
        return fields

    @field_validator("imports", mode="before")
    @classmethod
    def _one_module(cls, value: object) -> object:
        return (value,) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _consistent(self) -> Experiment:
        names = [arm.name for arm in self.arms]
        repeated = sorted({name for name in names if names.count(name) > 1})
        if repeated:
            raise ValueError(f"arm {repeated[0]!r} appears twice; write '{repeated[0]}:2' for two draws")
        if "ticket" not in names:
            raise ValueError("arms must include 'ticket': it is the dense baseline and what controls are cut after")
        rewind = rewind_of(self.rewinding.kind)
        if self.pruning.when == "at_initialisation" and rewind.source != "initial":
            raise ValueError(
                f"pruning.when 'at_initialisation' leaves nothing to rewind to but the initial weights; "
                f"set rewinding.kind to init, not {self.rewinding.kind!r}"
            )
        if self.pruning.when == "at_initialisation" and "dense" in names:
            raise ValueError(
                "arm 'dense' would repeat level 0: at initialisation a ticket costs one training, as the "
                "dense network does; leave it out and compare with level 0"
            )
        if self.transfer is not None and (
            self.pruning != Pruning(levels=self.pruning.levels) or self.rewinding != _REWINDING.make()
        ):
            raise ValueError(
                "transfer takes masks and weights as they were found: of pruning say only the levels, and "
                "nothing of rewinding"
            )
        if self.transfer is not None and self.transfer.ticket is not None and self.pruning.levels != 1:
            raise ValueError(
                f"an exported ticket is level 1 and the only one; set pruning.levels to 1, not {self.pruning.levels}"
            )
        for name in self.training.mask_changers:
            controls = [arm for arm in names if arm != "ticket"]
            if controls:
                raise ValueError(
                    f"watcher {name!r} changes masks while networks train: arm {controls[0]!r} would be changed twice, "
                    "and compare unlike with unlike; set arms to [ticket]"
                )
            if self.pruning.remove != "weights":
                raise ValueError(f"watcher {name!r} changes masks of weights; set pruning.remove to weights")
        if self.transfer is not None and "dense" in names:
            raise ValueError(
                "arm 'dense' would repeat level 0: here a ticket costs one training, as the dense network "
                "does; leave it out and compare with level 0"
            )
        if (
            not rewind.trains
            and self.pruning.watchers
            and self.pruning.schedule == "iterative"
            and self.pruning.levels > 1
        ):
            raise ValueError(
                f"criterion {self.pruning.criterion!r} needs a training before every level, and rewinding "
                f"{self.rewinding.kind!r} has none; set pruning.schedule to one_shot, or another rewinding"
            )
        if hasattr(rewind, "check_experiment"):
            rewind.check_experiment(self.rewinding, self)
        return self

    def deciding(self) -> dict[str, Any]:
        """What decides one training, as plain JSON data: the content of the experiment's id."""
        content = self.model_dump(
            mode="json", exclude={"name": True, "arms": True, "margin": True, "imports": True, "pruning": {"levels"}}
        )
        # What came later and is not said is no part of an id, so that all others keep those that they had before.
        if self.transfer is None:
            del content["transfer"]
        if self.objective == _OBJECTIVE.make():
            del content["objective"]
        for name, unsaid in (("clip_norm", None), ("watchers", ())):
            if getattr(self.training, name) == unsaid:
                del content["training"][name]
        for field in ("target", "target_kind"):  # nor were there tables
            if content["dataset"][field] is None:
                del content["dataset"][field]
        return dict(content)

    @property
    def id(self) -> str:
        """`<name>-<10 hex>`: the same for every sweep whose trainings are interchangeable."""
        return f"{self.name}-{digest(self.deciding())[:10]}"

    def draws(self) -> list[tuple[str, int]]:
        """Every (arm, draw) of the experiment, the ticket first."""
        ordered = sorted(self.arms, key=lambda arm: arm.name != "ticket")
        return [(arm.name, draw) for arm in ordered for draw in range(arm.draws)]

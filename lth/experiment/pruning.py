"""What is pruned: criterion, scope, schedule, counts."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from lth.experiment.name_in import NameIn
from lth.experiment.section import Section, known
from lth.pruning import CRITERIA, SCOPES
from lth.pruning.scopes import scopes_of_one_density
from lth.pruning.sources import MASK_SOURCES, scores_trained
from lth.structured import UNIT_CRITERIA

Fraction = Annotated[float, Field(gt=0, lt=1)]


class PruningFraction(Section):
    """What part of the remaining weights one level removes, by kind of layer."""

    dense: Fraction | None = Field(0.2, description="Of dense layers: above 0, below 1; empty: never pruned.")
    conv: Fraction | None = Field(0.1, description="Of convolutions: above 0, below 1; empty: never pruned.")


class Scoring(Section):
    """What a criterion that looks at data is shown. What is left empty is as the criterion's authors published it."""

    examples: int | None = Field(
        None, ge=1, le=10_000_000, description="Training examples, drawn per seed (SNIP: one batch of 100 or 128)."
    )
    per_class: int | None = Field(
        None, ge=1, le=1_000_000, description="Instead of `examples`: so many of every class (GraSP: 10)."
    )
    batch_size: int | None = Field(
        None, ge=1, le=1_000_000, description="Examples a batch, where averages run over batches (taylor); empty: 128."
    )
    temperature: float | None = Field(
        None, gt=0, le=1e6, description="For grasp: divides the logits; empty: 200 as published."
    )
    mode: Literal["train", "eval"] = Field(
        "train",
        description="How the network is run for gradients: `train`: batch norm with the statistics of the batch, and "
        "dropout (as the authors of GraSP); `eval`: with its running statistics, without dropout (as the authors of "
        "SNIP). With batch norm the two keep other weights.",
    )
    halves: bool = Field(
        False,
        description="For grasp: score the sample in two halves, sorted by class, as its authors' public code does.",
    )

    @model_validator(mode="after")
    def _one_count(self) -> Scoring:
        if self.examples is not None and self.per_class is not None:
            raise ValueError(f"give examples or per_class, not both; got {self.examples} and {self.per_class}")
        if self.halves and self.examples == 1:
            raise ValueError("scoring.halves cuts the sample in two; set scoring.examples to 2 or more")
        return self


class Pruning(Section):
    """What is removed, and how much at each level."""

    remove: Literal["weights", "units"] = Field(
        "weights",
        description="`weights`: single weights; `units`: whole neurons, filters and channels, physically, "
        "with every tensor that reads or writes them.",
    )
    criterion: str = Field(
        "magnitude", description="Score of a weight, lowest pruned (`lth list criteria`); for units l1, l2 or bn_scale."
    )
    when: Annotated[str, NameIn(MASK_SOURCES)] = Field(
        "after_training",
        description="Which weights are scored (`lth list mask-sources`): those of the trained network, or the initial "
        "ones (nothing needs to be trained before a mask is known).",
    )
    scope: Annotated[str, NameIn(SCOPES)] = Field(
        "layer",
        description="Where scores compete (`lth list scopes`): `layer`: within each layer by its fraction; `global`: "
        "across all layers; the others share the density of the whole network out among the layers: `uniform`, "
        "`uniform_plus` (first convolution dense, output at least 20%; Gale et al. 2019), `erk` (Evci et al. 2020), "
        "`smart_ratio` (Su et al. 2020).",
    )
    schedule: Literal["iterative", "one_shot"] = Field(
        "iterative",
        description="`iterative`: prune a fraction, rewind, train, again; `one_shot`: cut the dense network "
        "straight to the weight count of each level, all levels side by side.",
    )
    fraction: PruningFraction = Field(
        default_factory=PruningFraction,
        description="Part of the remaining weights (or units) removed per level. A "
        "single number stands for all kinds of layers.",
    )
    output_factor: float = Field(
        0.5,
        ge=0,
        le=1,
        description="The output layer's fraction is this factor times the others'; 0 leaves it dense. "
        "Where scores compete across layers it is 1, unless you say 0; units have none.",
    )
    densities: tuple[Fraction, ...] | None = Field(
        None,
        min_length=1,
        max_length=200,
        description="Instead of a fraction per level: the density of each level, "
        "falling, of all layers that are pruned, e.g. [0.05, 0.02]. Not with scope `layer`. They are part of the "
        "experiment's id, and `fraction` then only tells which kinds of layers are pruned.",
    )
    levels: int = Field(20, ge=0, le=200, description="Pruning levels after the dense network (level 0).")
    rounds: int | None = Field(
        None,
        ge=1,
        le=10_000,
        description="Times that weights are scored and removed within one level, on an "
        "exponential ladder; empty: as the criterion's authors published it (synflow 100, others 1).",
    )
    scoring: Scoring = Field(
        default_factory=Scoring, description="Examples and temperature of criteria that need data."
    )
    allow_empty_layers: bool = Field(
        False,
        description="Go on where pruning leaves a layer without any weight (the network then is cut in two); "
        "otherwise that is an error.",
    )

    @property
    def watchers(self) -> tuple[str, ...]:
        """The watchers of a training that the criterion's evidence comes from, by name."""
        return CRITERIA[self.criterion].watchers if self.remove == "weights" else ()

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

    @model_validator(mode="before")
    @classmethod
    def _follow(cls, fields: object) -> object:
        """What is not said follows from what is: a level for each density; one density for all layers together."""
        if not isinstance(fields, dict):
            return fields
        filled = dict(fields)
        if isinstance(fields.get("densities"), list | tuple):
            filled.setdefault("levels", len(fields["densities"]))
            filled.setdefault("fraction", 0.2)
        scope = str(fields.get("scope", "layer"))
        if (scope in SCOPES and SCOPES[scope].rule is not None) or fields.get("remove") == "units":
            filled.setdefault("output_factor", 1.0)
        return filled

    @model_validator(mode="after")
    def _something_to_prune(self) -> Pruning:
        rates = {rate for rate in (self.fraction.dense, self.fraction.conv) if rate is not None}
        if not rates and self.levels:
            raise ValueError("pruning.fraction leaves every kind of layer unpruned; set dense, conv or both")
        if (
            SCOPES[self.scope].rule is not None
            and self.remove == "weights"
            and (self.output_factor not in (0, 1) or (len(rates) > 1 and self.densities is None))
        ):
            raise ValueError(
                f"pruning.scope {self.scope!r} gives all layers one density together, so they need one fraction: give "
                "dense and conv the same fraction (or leave one empty) and set output_factor to 1 (or 0 to leave the "
                "output layer dense)"
            )
        return self

    @model_validator(mode="after")
    def _densities_fall(self) -> Pruning:
        if self.densities is None:
            return self
        if SCOPES[self.scope].rule is None or self.remove == "units":
            *most, last = scopes_of_one_density()
            raise ValueError(
                f"pruning.densities are of the whole network: set pruning.scope to {', '.join(most)} or {last}, and "
                "remove weights; by layer and for units give pruning.fraction"
            )
        if any(second >= first for first, second in pairwise(self.densities)):
            raise ValueError(f"pruning.densities must fall from level to level; got {list(self.densities)}")
        if self.levels > len(self.densities):
            raise ValueError(f"pruning.levels is {self.levels}, but there are only {len(self.densities)} densities")
        return self

    @model_validator(mode="after")
    def _known_criterion(self) -> Pruning:
        if self.remove == "units":
            known("criterion for units", self.criterion, list(UNIT_CRITERIA))
            if not SCOPES[self.scope].units or not scores_trained(self.when):
                raise ValueError(
                    "pruning.remove 'units' goes with scope layer or global, after training; "
                    f"got {self.scope!r}, {self.when!r}"
                )
            refused: dict[str, object] = {
                "rounds": self.rounds,
                "scoring": self.scoring != Scoring(),
                "output_factor": self.output_factor != 1,
                "allow_empty_layers": self.allow_empty_layers,
            }
        else:
            criterion = CRITERIA[known("criterion", self.criterion, list(CRITERIA))]
            if criterion.trained and not scores_trained(self.when):
                raise ValueError(
                    f"criterion {self.criterion!r} scores what a training did; set pruning.when to after_training"
                )
            data = self.scoring.examples or self.scoring.per_class
            refused = {
                "scoring.examples and per_class": data if not criterion.needs_data else None,
                "scoring.batch_size": self.scoring.batch_size if not criterion.needs_batches else None,
                "scoring.mode": None if criterion.takes_mode or self.scoring.mode == "train" else self.scoring.mode,
                "scoring.halves": self.scoring.halves and not criterion.takes_halves,
                "scoring.temperature": None if criterion.needs_temperature else self.scoring.temperature,
            }
        for field, value in refused.items():
            if value:
                raise ValueError(f"criterion {self.criterion!r} has no use for pruning.{field}; leave it out")
        return self

"""How a sweep is executed. Nothing here is part of an experiment or its id."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from lth.experiment.section import Section


class Execution(Section):
    """Machines, not science: device, threads, shares, sizes of cohorts."""

    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="Where cohorts train: `auto` takes a GPU if Ray has one, else CPU cores."
    )
    cohort_size: int | None = Field(
        None,
        ge=1,
        le=100_000,
        description="Seeds that travel together as one unit; empty: chosen from the number of "
        "seeds, the model's size and what Ray has.",
    )
    threads: int = Field(
        1,
        ge=1,
        le=256,
        description="CPU cores and torch threads per cohort. On a CPU the last bits of a result "
        "depend on it: keep to one number in a store. One thread and more cohorts is also the fastest.",
    )
    gpu_share: float | None = Field(
        None,
        gt=0,
        le=1,
        description="Part of a GPU per cohort; 0.5 puts two cohorts on each. Empty: as many as its "
        "memory and the machine's cores allow.",
    )
    save_every: float = Field(
        60.0,
        ge=0,
        le=86_400,
        description="Seconds between saves of a training in progress, at most, from which it "
        "goes on if its machine is lost; 0: never. Saving never takes more than a fiftieth of the time.",
    )
    cores: int | None = Field(
        None, ge=1, le=1024, description="CPU cores for a local Ray; empty: all. A cluster at RAY_ADDRESS has its own."
    )

"""The options by which `lth run` and `lth plan` add seeds until it is decided."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from lth.errors import InvalidExperiment

if TYPE_CHECKING:
    from lth.until_decided import UntilDecided

Until = Annotated[
    bool,
    typer.Option(
        "--until-decided",
        help="Add seeds until it is decided down to which level the ticket matches; verdicts stay valid.",
    ),
]
AtMost = Annotated[
    int | None, typer.Option(help="With --until-decided: so many seeds in all, or fewer; 100 if not given.")
]
Batch = Annotated[
    int | None, typer.Option(help="With --until-decided: seeds to add at a time; as many as --seeds if not given.")
]


def until_of(wanted: bool, at_most: int | None, batch: int | None) -> UntilDecided | None:
    """How a command adds seeds, if it does."""
    from lth.until_decided import AT_MOST, UntilDecided

    if not wanted:
        for option, value in (("--at-most", at_most), ("--batch", batch)):
            if value is not None:
                raise InvalidExperiment(f"{option} {value} is about seeds that are added; give --until-decided too")
        return None
    return UntilDecided(AT_MOST if at_most is None else at_most, batch)

"""Which source an experiment's masks come from, and what planning and hand-over learn from it."""

from __future__ import annotations

import pytest

from lth.experiment import load_experiment
from lth.pruning.sources import AfterTraining, AtInitialisation
from lth.sweep.sources import source_of
from lth.sweep.sources.another_experiment import AnotherExperiment
from lth.sweep.sources.cut_here import CutHere
from lth.sweep.sources.exported_file import ExportedFile

INIT, SHOT = "pruning.when=at_initialisation", "pruning.schedule=one_shot"
TAKEN = "pruning={levels: 1, fraction: {dense: 0.2, conv: 0.1}}"
ID, SHA = "mnist-0123456789", "a" * 64
OTHERS = [None, None, None, None]


@pytest.mark.parametrize(
    ("settings", "source", "parents", "trainings", "read_later"),
    [
        ([], CutHere(AfterTraining(True), "magnitude"), [None, 0, 1, 2], [1, 2, 3, 4], [True, True, True, True]),
        (
            [SHOT],
            CutHere(AfterTraining(False), "magnitude"),
            [None, 0, 0, 0],
            [1, 2, 2, 2],
            [True, False, False, False],
        ),
        ([INIT], CutHere(AtInitialisation(True), "magnitude"), [None, 0, 1, 2], [1, 1, 1, 1], [False] * 4),
        ([INIT, SHOT], CutHere(AtInitialisation(False), "magnitude"), OTHERS, [1, 1, 1, 1], [False] * 4),
        ([TAKEN, f"transfer.experiment={ID}"], AnotherExperiment(ID), OTHERS, [1, 1, 1, 1], [False] * 4),
        ([TAKEN, f"transfer.ticket={SHA}"], ExportedFile(SHA), OTHERS, [1, 1, 1, 1], [False] * 4),
    ],
)
def test_what_each_source_asks_of_a_sweep(
    settings: list[str], source: object, parents: list[int | None], trainings: list[int], read_later: list[bool]
) -> None:
    chosen = source_of(load_experiment("smoke", settings))
    assert chosen == source
    assert [chosen.parent_level(level) for level in range(4)] == parents
    assert [chosen.trainings_behind(level) for level in range(4)] == trainings
    assert [chosen.read_later(level) for level in range(4)] == read_later
    assert chosen.scores_trained == (isinstance(source, CutHere) and isinstance(source.source, AfterTraining))


def test_tables_say_what_chose_the_masks_and_who_found_them() -> None:
    sources = [
        CutHere(AfterTraining(True), "snip"),
        CutHere(AtInitialisation(True), "snip"),
        AnotherExperiment(ID),
        ExportedFile(SHA),
    ]
    assert [source.criterion for source in sources] == ["snip", "snip", "transfer", "transfer"]
    assert [source.elsewhere for source in sources] == [None, None, ID, "the experiment that the ticket is from"]

"""Tickets of another experiment on other data: masks and weights are the source's, the output layer is new."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import lth.results
from lth.data import ImageData, load_dataset
from lth.engine import initialise
from lth.errors import DamagedObject, InvalidExperiment, LthError
from lth.experiment import Experiment, load_experiment
from lth.experiment.load import build_experiment
from lth.experiment.spec import Dataset
from lth.store import Store, Unit
from lth.sweep import stages
from lth.sweep.extraction import collect
from lth.sweep.handover import Job
from lth.sweep.here import run_here
from lth.sweep.planning import done_of, work
from lth.sweep.record import code_version
from lth.sweep.setup import DataFacts, resolve
from lth.sweep.transfer import find_tickets, taking_over_experiment, taking_over_file
from lth.tickets import save

SEEDS = (0, 1, 2)
LEVELS = 2
SHORT = ["training.duration=30it", "training.evaluate_every=10it"]


@pytest.fixture(scope="module")
def digits() -> ImageData:
    return load_dataset("digits")


@pytest.fixture(scope="module")
def thirds(digits: ImageData) -> ImageData:
    """The same images, but three classes: the digit modulo 3."""
    return replace(
        digits, name="thirds", classes=3, train_labels=digits.train_labels % 3, test_labels=digits.test_labels % 3
    )


Swept = tuple[Experiment, Experiment, Store]


@pytest.fixture(scope="module")
def swept(digits: ImageData, thirds: ImageData, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Swept]:
    """A source with those settings and its tickets on `thirds`: (source, transferred, store)."""
    known: dict[tuple[str, ...], Swept] = {}

    def sweeps(*settings: str) -> Swept:
        if settings not in known:
            store = Store(tmp_path_factory.mktemp("store"))
            source = load_experiment("smoke", settings)
            run_here(source, SEEDS, store, digits)
            taken = load_experiment("smoke", SHORT, taking_over_experiment(store, source.id))
            run_here(taken, SEEDS, store, thirds)
            known[settings] = source, taken, store
        return known[settings]

    return sweeps


def masks_of(store: Store, experiment: Experiment, arm: str, level: int) -> dict[str, np.ndarray]:
    where = store.committed(experiment.id).where
    return store.read_masks(experiment.id, {seed: where[arm, 0, level, seed] for seed in SEEDS})


def starts(store: Store, experiment: Experiment, data: ImageData, arm: str, level: int = 2) -> dict[str, torch.Tensor]:
    """The weights that an arm of a level starts from, by parameter; not yet masked."""
    job = Job(experiment, DataFacts.of(data), store.url, "cpu", 1, code_version())
    done = done_of(experiment, SEEDS, store.committed(experiment.id))
    todo = work(experiment, Unit(arm, 0, level, SEEDS), done, find_tickets(store, experiment, SEEDS, job.facts))
    pruned = stages.prune_unit(job, todo, data).result if arm == "ticket" else None
    rows = stages.rewind_unit(job, todo, data, pruned).result.weights
    return job.setup.network.layout.views(rows)


LATE = "rewinding={kind: step, step: 7it}"


@pytest.mark.parametrize("settings", [(), (LATE,), ("pruning.scope=global", "pruning.fraction=0.3")])
def test_masks_are_the_sources_and_the_output_layer_is_dense(
    swept: Callable[..., Swept], settings: tuple[str, ...]
) -> None:
    source, taken, store = swept(*settings)
    for level in (1, LEVELS):
        theirs, ours = masks_of(store, source, "ticket", level), masks_of(store, taken, "ticket", level)
        np.testing.assert_array_equal(ours["1.weight"], theirs["1.weight"])
        assert ours["3.weight"].shape == (3, 3, 16) and ours["3.weight"].all()


def test_levels_say_what_remains_and_that_it_was_taken_over(swept: Callable[..., Swept]) -> None:
    _, taken, store = swept()
    rows = store.committed(taken.id).rows.to_pylist()
    assert {row["arm"] for row in rows} == {"ticket", "reinit", "random_mask"}
    assert len(rows) == len(SEEDS) * (1 + 3 * LEVELS) and {row["criterion"] for row in rows} == {"transfer"}
    # 64-16-10 loses 30% of 1,024 weights a level, half to even: 717, 502; the new output layer has 16 x 3
    remaining = {0: 1024 + 48, 1: 717 + 48, 2: 502 + 48}
    assert all(row["weights_remaining"] == remaining[row["level"]] for row in rows)
    assert all(row["weights_total"] == 1072 and row["steps"] == 30 for row in rows)


def test_tickets_start_from_the_sources_initialisation_with_a_new_output_layer(
    swept: Callable[..., Swept], thirds: ImageData, digits: ImageData
) -> None:
    source, taken, store = swept()
    theirs, ours = resolve(source, DataFacts.of(digits)).network, resolve(taken, DataFacts.of(thirds)).network
    initial = theirs.layout.views(initialise(theirs, SEEDS))
    for arm in ("ticket", "random_mask"):
        found = starts(store, taken, thirds, arm)
        for name in ("1.weight", "1.bias"):
            torch.testing.assert_close(found[name], initial[name], rtol=0, atol=0)
        drawn = ours.layout.views(initialise(ours, SEEDS, "transfer"))["3.weight"]
        torch.testing.assert_close(found["3.weight"], drawn, rtol=0, atol=0)


def test_a_late_rewound_source_gives_the_weights_of_its_step(swept: Callable[..., Swept], thirds: ImageData) -> None:
    source, taken, store = swept(LATE)
    late = store.read_checkpoint(source.id, Unit("ticket", 0, 0, SEEDS).name)
    for arm in ("ticket", "random_mask"):
        found = starts(store, taken, thirds, arm)
        for name in ("1.weight", "1.bias"):
            torch.testing.assert_close(found[name], late[f"rewind/{name}"], rtol=0, atol=0)


def test_controls_are_cut_after_the_taken_ticket(swept: Callable[..., Swept], thirds: ImageData) -> None:
    _, taken, store = swept()
    ticket, random, reinit = (masks_of(store, taken, arm, 2) for arm in ("ticket", "random_mask", "reinit"))
    np.testing.assert_array_equal(ticket["1.weight"], reinit["1.weight"])
    assert (ticket["1.weight"] != random["1.weight"]).any()
    assert (ticket["1.weight"].sum((1, 2)) == random["1.weight"].sum((1, 2))).all()
    fresh, taken_over = (starts(store, taken, thirds, arm)["1.weight"] for arm in ("reinit", "ticket"))
    assert (fresh != taken_over).any()


def test_seeds_one_by_one_give_the_same(swept: Callable[..., Swept], thirds: ImageData) -> None:
    _, taken, store = swept()
    before = lth.results.open(store.url, taken.id).levels.sort_by("seed")
    name = build_experiment({**taken.model_dump(mode="json"), "name": "again"})
    run_here(name, SEEDS, store, thirds, cohort_size=1)
    after = lth.results.open(store.url, name.id).levels.sort_by("seed")
    columns = ["arm", "draw", "level", "seed", "test_accuracy", "train_loss", "mask_sha256"]
    order = [(column, "ascending") for column in columns[:4]]
    assert before.sort_by(order).select(columns).equals(after.sort_by(order).select(columns))


def test_a_taken_ticket_can_be_taken_away(
    swept: Callable[..., Swept], thirds: ImageData, monkeypatch: pytest.MonkeyPatch
) -> None:

    _, taken, store = swept()
    monkeypatch.setattr(Dataset, "load", lambda _: thirds)
    found = collect(store, taken.id, 1, 2)
    assert found.card.criterion == "transfer" and found.card.weights_remaining == 502 + 48


def test_a_seed_whose_ticket_was_lost_is_recorded_as_such(
    digits: ImageData, thirds: ImageData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A diverged seed leaves no mask to take over."""
    from lth.sweep.sources import another_experiment

    store, source = Store(tmp_path), load_experiment("smoke", ["arms=[ticket]"])
    run_here(source, SEEDS, store, digits)
    lost, read = ("ticket", 0, 1, 2), another_experiment.done_of

    def without(*given: Any) -> Any:
        done = read(*given)
        return {**done, lost: replace(done[lost], has_mask=False, diverged=True)}

    monkeypatch.setattr(another_experiment, "done_of", without)
    taken = load_experiment("smoke", ["arms=[ticket]"], taking_over_experiment(store, source.id))
    run_here(taken, SEEDS, store, thirds)
    status = {(row["level"], row["seed"]): row["status"] for row in store.committed(taken.id).rows.to_pylist()}
    assert {place for place, said in status.items() if said == "diverged"} == {(1, 2)}


def test_what_is_missing_is_said_before_anything_is_trained(
    swept: Callable[..., Swept], digits: ImageData, thirds: ImageData, tmp_path: Path
) -> None:
    source, taken, store = swept()

    def refused(
        experiment: Experiment, data: ImageData = thirds, seeds: tuple[int, ...] = SEEDS, where: Store = store
    ) -> str:
        with pytest.raises(LthError) as said:
            run_here(experiment, seeds, where, data)
        return str(said.value)

    assert "has no tickets of level 0 for seeds 7; run it for them first" in refused(taken, seeds=(0, 7))
    deeper = taken.model_copy(update={"pruning": taken.pruning.model_copy(update={"levels": 5})})
    assert "has no tickets of level 3 for seeds 0-2" in refused(deeper)
    assert f"there is no experiment '{source.id}' in {Store(tmp_path).url}" in refused(taken, where=Store(tmp_path))
    wide = load_experiment("smoke", ["model.arguments.hidden=[17]"], taking_over_experiment(store, source.id))
    assert "1.bias is 16 there and 17 here; use its model, and images of its size" in refused(wide)
    fewer = load_experiment("smoke", ["model.prunable=[3.weight]"], taking_over_experiment(store, source.id))
    assert "1.weight is pruned in one of them only; set model.prunable as it was there" in refused(fewer)
    with pytest.raises(InvalidExperiment, match=f"it took over those of {source.id}; take them from there"):
        taking_over_experiment(store, taken.id)
    tuned = load_experiment("smoke", ["rewinding={kind: fine_tune, duration: 5it}", "name=tuned"])
    run_here(tuned, (0,), store, digits)
    with pytest.raises(InvalidExperiment, match="rewinds by 'fine_tune'"):
        taking_over_experiment(store, tuned.id)


def test_with_as_many_classes_the_output_layer_is_new_all_the_same(digits: ImageData, tmp_path: Path) -> None:
    store, source = Store(tmp_path), load_experiment("smoke")
    run_here(source, SEEDS, store, digits)
    taken = load_experiment("smoke", SHORT, taking_over_experiment(store, source.id))
    run_here(taken, SEEDS, store, digits)
    network = resolve(source, DataFacts.of(digits)).network
    theirs = network.layout.views(initialise(network, SEEDS))["3.weight"]
    assert (starts(store, taken, digits, "ticket")["3.weight"] != theirs).float().mean() > 0.99


def test_what_a_file_says_of_levels_and_arms_counts(tmp_path: Path) -> None:
    own = tmp_path / "own.yaml"
    own.write_text("preset: smoke\npruning: {levels: 1}\narms: [ticket, shuffled_weights]\n")
    taken = load_experiment(str(own), [], OTHERS)
    assert taken.pruning.levels == 1 and [arm.name for arm in taken.arms] == ["ticket", "shuffled_weights"]
    assert load_experiment("smoke", [], OTHERS).draws() == [("ticket", 0), ("reinit", 0), ("random_mask", 0)]
    own.write_text("preset: smoke\npruning: {levels: 2}\ntransfer: {experiment: mnist-0123456789}\n")
    assert load_experiment(str(own)).transfer == load_experiment("smoke", [], OTHERS).transfer


OTHERS: dict[str, Any] = {
    "transfer": {"experiment": "mnist-0123456789"},
    "model": {"arguments": {"hidden": [16]}},
    "imports": [],
    "pruning": {"levels": 2},
    "from": "mnist",
}


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        (["pruning.criterion=snip"], "of pruning say only the levels"),
        (["rewinding={kind: step, step: 2it}"], "nothing of rewinding"),
        (["arms=[ticket, dense]"], "compare with level 0"),
        (["transfer.experiment=../x"], "transfer.experiment"),
        ([f"transfer.ticket={'a' * 64}"], "one of them"),
        (["transfer.experiment=null"], "one of them"),
        ([f"transfer={{experiment: null, ticket: {'a' * 64}}}"], "set pruning.levels to 1, not 2"),
    ],
)
def test_settings_that_would_have_no_effect_are_refused(settings: list[str], reason: str) -> None:
    with pytest.raises(InvalidExperiment, match=reason):
        load_experiment("smoke", settings, OTHERS)


def test_other_experiments_keep_their_ids_and_a_transfer_has_its_own() -> None:
    source = load_experiment("smoke")
    assert "transfer" not in source.deciding()
    taken = load_experiment("smoke", [], OTHERS)
    other = load_experiment("smoke", [], {**OTHERS, "transfer": {"experiment": "mnist-0123456780"}})
    assert len({source.id, taken.id, other.id}) == 3 and taken.name == "smoke-from-mnist"


@pytest.mark.parametrize("settings", [(), (LATE,)])
def test_an_exported_ticket_is_level_one_of_every_seed(
    swept: Callable[..., Swept], settings: tuple[str, ...], thirds: ImageData, tmp_path: Path
) -> None:
    source, _, store = swept(*settings)
    ticket = collect(store, source.id, 1, 2)
    save(ticket, tmp_path / "taken")
    place = Store(tmp_path / "elsewhere")  # knows nothing of the source
    found, content = taking_over_file(tmp_path / "taken")
    assert place.put_ticket(content) == found["transfer"]["ticket"]
    taken = load_experiment("smoke", SHORT, found)
    assert taken.pruning.levels == 1 and taken.name == "smoke-from-smoke"
    run_here(taken, SEEDS, place, thirds)
    assert place.committed(taken.id).rows.num_rows == len(SEEDS) * (1 + 3)
    masks, start = masks_of(place, taken, "ticket", 1), starts(place, taken, thirds, "ticket", 1)
    theirs = resolve(taken, DataFacts.of(thirds)).network
    for row in range(len(SEEDS)):
        np.testing.assert_array_equal(masks["1.weight"][row], ticket.masks["1.weight"].numpy())
        for name in ("1.weight", "1.bias"):
            torch.testing.assert_close(start[name][row], ticket.initial[name], rtol=0, atol=0)
    drawn = theirs.layout.views(initialise(theirs, SEEDS, "transfer"))["3.weight"]
    torch.testing.assert_close(start["3.weight"], drawn, rtol=0, atol=0)
    random, weights = masks_of(place, taken, "random_mask", 1), starts(place, taken, thirds, "random_mask", 1)
    assert (random["1.weight"][0] != random["1.weight"][1]).any() and (random["1.weight"].sum((1, 2)) == 502).all()
    torch.testing.assert_close(weights["1.weight"], start["1.weight"], rtol=0, atol=0)
    accuracies = lth.results.open(place.url, taken.id).levels["test_accuracy"].to_pylist()
    assert len(set(accuracies)) > 3  # seeds train in orders of their own


def test_what_is_wrong_with_an_exported_ticket_is_one_line(
    swept: Callable[..., Swept], digits: ImageData, thirds: ImageData, tmp_path: Path
) -> None:
    source, _, store = swept()
    save(collect(store, source.id, 0, 1), tmp_path / "taken")
    place = Store(tmp_path / "elsewhere")
    found, content = taking_over_file(tmp_path / "taken" / "ticket.safetensors")
    taken = load_experiment("smoke", SHORT, found)
    with pytest.raises(InvalidExperiment, match="there is no ticket .* puts it there"):
        run_here(taken, SEEDS, place, thirds)
    place.put_ticket(content)
    larger = replace(digits, train_inputs=digits.train_inputs[:, :, :6], test_inputs=digits.test_inputs[:, :, :6])
    with pytest.raises(InvalidExperiment, match="1.weight is 16x64 there and 16x48 here"):
        run_here(taken, SEEDS, place, larger)
    [key] = place.objects.sizes("tickets")
    place.objects.replace(key, b"something else")
    with pytest.raises(LthError, match="its bytes are not those of its name"):
        run_here(taken, SEEDS, place, thirds)
    for path, reason in ((tmp_path / "no.safetensors", "there is no ticket at"), (tmp_path, "there is no ticket at")):
        with pytest.raises(LthError, match=reason):
            taking_over_file(path)


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        (("pruning.remove=units", "pruning.criterion=l1", "model.arguments.hidden=[32, 16]"), "it removes units"),
        (("rewinding={kind: fine_tune, duration: 5it}",), "was rewound by 'fine_tune'"),
    ],
)
def test_exported_networks_that_are_no_tickets_are_refused(
    settings: tuple[str, ...], reason: str, digits: ImageData, tmp_path: Path
) -> None:
    store = Store(tmp_path / "store")
    source = load_experiment("smoke", ["arms=[ticket]", "pruning.levels=1", *settings])
    run_here(source, (0,), store, digits)
    save(collect(store, source.id, 0, 1), tmp_path / "taken")
    with pytest.raises(InvalidExperiment, match=reason):
        taking_over_file(tmp_path / "taken")


def test_the_same_file_is_the_same_ticket_in_every_process(swept: Callable[..., Swept], tmp_path: Path) -> None:
    source, _, store = swept()
    save(collect(store, source.id, 0, 1), tmp_path / "taken")
    content = (tmp_path / "taken" / "ticket.safetensors").read_bytes()
    assert taking_over_file(tmp_path / "taken")[1] == content
    assert taking_over_file(tmp_path / "taken")[0]["transfer"] == {"ticket": hashlib.sha256(content).hexdigest()}


def test_a_damaged_source_is_named_and_nothing_of_the_target_is_touched(
    digits: ImageData, thirds: ImageData, tmp_path: Path
) -> None:
    store, source = Store(tmp_path), load_experiment("smoke", [LATE])
    run_here(source, SEEDS, store, digits)
    taken = load_experiment("smoke", SHORT, taking_over_experiment(store, source.id))
    store.delete_checkpoint(source.id, Unit("ticket", 0, 0, SEEDS).name)
    with pytest.raises(LthError, match=f"the tickets of {source.id} cannot be read: .*lth verify {source.id}") as said:
        run_here(taken, SEEDS, store, thirds)
    assert not isinstance(said.value, DamagedObject)  # whose unit a sweep would set aside
    assert store.committed(taken.id).rows.num_rows == len(SEEDS)

"""A store and tickets that somebody else wrote: no command and no function runs what they name, unless it is trusted.

Their payload is a module that leaves a canary, a file, when it is imported and when it is called.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
import typer
import yaml
from safetensors.torch import load, save

import lth.results
from flows.cli.app import app
from lth import trust
from lth.data import load_dataset
from lth.errors import LthError, Untrusted
from lth.experiment import Experiment
from lth.experiment.load import build_experiment, load_experiment
from lth.models import MODELS
from lth.store import Store
from lth.store.verify import verify
from lth.sweep.extraction import collect
from lth.sweep.here import run_here
from lth.sweep.overlap import compare
from lth.sweep.transfer import taking_over_experiment, taking_over_file
from lth.tickets import load_ticket
from lth.tickets import save as save_ticket

PAYLOAD = """
import os
from torch import nn
from lth.models import register_model

def leave():
    if "CANARY" in os.environ:
        open(os.environ["CANARY"], "a").close()

leave()

@register_model("strange", "leaves a canary")
def strange(input_shape, classes):
    leave()
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 12), nn.ReLU(), nn.Linear(12, classes))

def net(input_shape, classes):
    return strange(input_shape, classes)
"""
KINDS = {
    "by import path": ["model={name: 'strangers_code:net'}", "name=path"],
    "by imports": ["imports=[strangers_code]", "model={name: strange}", "name=imported"],
}


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Experiment], dict[str, bytes]]:
    """A store that a stranger filled by running his experiments, those, and tickets that he took out."""
    folder = tmp_path_factory.mktemp("strangers")
    (folder / "strangers_code.py").write_text(PAYLOAD)
    sys.path.insert(0, str(folder))
    data, found, tickets = load_dataset("digits"), {}, {}
    for kind, settings in KINDS.items():
        experiment = load_experiment("smoke", [*settings, "pruning.levels=1", "arms=[ticket]"])
        store = Store(folder / "store")
        run_here(experiment, (0, 1), store, data)
        found[kind] = experiment
        save_ticket(collect(store, experiment.id, 0, 1), folder / kind)
        tickets[kind] = (folder / kind / "ticket.safetensors").read_bytes()
    MODELS._entries.pop("strange", None)
    return folder, found, tickets


@pytest.fixture
def strangers(
    written: tuple[Path, dict[str, Experiment], dict[str, bytes]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[Path]:
    """The store's folder, in a process that has never heard of what the stranger wrote; his module can be imported."""
    monkeypatch.setenv("CANARY", str(tmp_path / "canary"))
    monkeypatch.setattr(trust, "_NAMED", set())
    monkeypatch.setattr(
        MODELS, "_entries", {name: entry for name, entry in MODELS._entries.items() if name != "strange"}
    )
    sys.modules.pop("strangers_code", None)
    shutil.copytree(written[0] / "store", tmp_path / "store")
    yield tmp_path / "store"
    sys.modules.pop("strangers_code", None)


def canary(store: Path) -> bool:
    return (store.parent / "canary").exists()


def forged(data: bytes, **card: object) -> bytes:
    """A ticket with other words on its card; its checksum is of the tensors, which are as they were."""
    header = json.loads(json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])["__metadata__"]["lth"])
    header["card"].update(card)
    return bytes(save(load(data), {"lth": json.dumps(header)}))


COMMANDS = typer.main.get_command(app).commands  # type: ignore[attr-defined]
REQUIRED = {"seed": ["--seed", "0"], "level": ["--level", "1"]}


def calls(identity: str, ticket: str, store: str) -> dict[str, list[list[str]]]:
    """Every command of the command line, on what the stranger wrote, as far as its parameters allow."""
    found: dict[str, list[list[str]]] = {}
    for name, command in COMMANDS.items():
        line, choices = [name], [[]]
        options = {parameter.name for parameter in command.params}
        for parameter in command.params:
            if isinstance(parameter, click.Argument) or parameter.param_type_name == "argument":
                match parameter.name:
                    case "source":
                        choices = [[identity]] if parameter.required else [[identity], []]
                    case "sources":
                        choices = [[identity, identity]]
                    case "sql":
                        choices = [["SELECT * FROM levels"], ["SELECT * FROM verdicts"], ["SELECT * FROM masks"]]
                    case "what":
                        choices = [["experiments"], ["models"], ["criteria"]]
                    case other:
                        pytest.fail(f"lth {name} has a new argument {other!r}: say what it is called with here")
            elif parameter.required:
                line += REQUIRED[str(parameter.name)]
        if "ticket" in options:
            choices += [["smoke", "--ticket", identity], ["smoke", "--ticket", ticket]]
        line += ["--store", store] if "store" in options else []
        line += ["--here"] if "here" in options else []
        found[name] = [[*line, *words] for words in choices]
    return found


def test_every_command_is_tried() -> None:
    assert (
        set(calls("a-0123456789", "t", "s")) == set(COMMANDS) >= {"plan", "report", "export", "connectivity", "status"}
    )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_no_command_runs_what_a_store_or_a_ticket_names(  # type: ignore[no-untyped-def]
    lth, written, strangers: Path, kind: str, command: str
) -> None:
    _, experiments, tickets = written
    ticket = strangers.parent / "ticket.safetensors"
    ticket.write_bytes(tickets[kind])
    for arguments in calls(experiments[kind].id, str(ticket), str(strangers))[command]:
        status, out, errors = lth(*arguments)
        assert not canary(strangers), arguments
        assert "strangers_code" not in sys.modules, arguments
        assert "unexpected error" not in errors and "Traceback" not in errors, (arguments, errors)
        if status == 1:
            assert len(errors.strip().splitlines()) == 1, errors
        if "--ticket" in arguments or command in ("export", "connectivity"):
            assert status == 1 and "--trust" in errors and "strangers_code" in errors, (arguments, out, errors)


@pytest.mark.parametrize("kind", KINDS)
def test_it_runs_where_it_is_trusted(lth, written, strangers: Path, kind: str) -> None:  # type: ignore[no-untyped-def]
    _, experiments, _ = written
    identity = experiments[kind].id
    status, _, errors = lth("export", identity, "--seed", "0", "--level", "1", "--store", str(strangers), "--trust")
    assert status == 0, errors
    assert canary(strangers)


def test_a_report_without_trust_lacks_the_figure_that_needs_the_network(  # type: ignore[no-untyped-def]
    lth, written, strangers: Path
) -> None:
    identity = written[1]["by import path"].id
    assert lth("report", identity, "--store", str(strangers), "--output", "a.html")[0] == 0
    page = Path("a.html").read_text()
    assert 'id="initial-values"' not in page and "import strangers_code and call strangers_code:net" in page
    assert not canary(strangers)
    assert lth("report", identity, "--store", str(strangers), "--output", "b.html", "--trust")[0] == 0
    assert 'id="initial-values"' in Path("b.html").read_text() and canary(strangers)


def edited(store: Path, identity: str, **model: object) -> None:
    file = store / "experiments" / identity / "experiment.yaml"
    content = yaml.safe_load(file.read_text())
    content["experiment"]["model"].update(model)
    file.write_text(yaml.safe_dump(content))


@pytest.mark.parametrize("command", ["report", "plan", "connectivity", "export"])
def test_a_spec_that_does_not_fit_its_id_is_not_believed_even_with_trust(  # type: ignore[no-untyped-def]
    lth, written, strangers: Path, command: str
) -> None:
    identity = written[1]["by import path"].id
    edited(strangers, identity, name="os:system", arguments={"command": f"touch {strangers.parent / 'canary'}"})
    for arguments in calls(identity, "none", str(strangers))[command]:
        if identity not in arguments or (command == "plan" and "--ticket" not in arguments):
            continue
        status, _, errors = lth(*arguments, "--trust")
        assert status == 1 and "what it describes has the id path-" in errors, (arguments, errors)
    assert not canary(strangers)


def test_no_function_runs_what_a_store_names(written, strangers: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    for experiment in written[1].values():
        store, results = Store(strangers), lth.results.open(strangers, experiment.id)
        for table in lth.results.TABLES:
            getattr(results, table)
            results.pandas(table)
        results.query("SELECT count(*) FROM levels")
        assert verify(store, [experiment.id]).findings == ()
        assert compare(store, experiment.id, "seeds").num_rows
        build = store.describe(experiment.id)["experiment"]
        if experiment.imports:  # the name is known to nobody
            with pytest.raises(LthError, match="strange"):
                build_experiment(build)
        else:
            build_experiment(build)
        for refused in (
            lambda: collect(store, experiment.id, 0, 1),  # noqa: B023
            lambda: taking_over_experiment(store, experiment.id),  # noqa: B023
        ):
            with pytest.raises(Untrusted, match="strangers_code"):
                refused()
    assert not canary(strangers) and "strangers_code" not in sys.modules


@pytest.mark.parametrize(
    "card",
    [
        {"model": "os:system", "model_arguments": {"command": "touch CANARY"}},
        {"model": "strangers_code:net"},
        {"model": "strange", "imports": ["strangers_code"]},
        {"model": "strange", "imports": ["os", "strangers_code"]},
    ],
)
def test_a_ticket_runs_nothing(written, strangers: Path, card: dict, tmp_path: Path) -> None:  # type: ignore[no-untyped-def, type-arg]
    text = json.dumps(card).replace("CANARY", str(tmp_path / "canary"))
    file = tmp_path / "ticket.safetensors"
    file.write_bytes(forged(written[2]["by import path"], **json.loads(text)))
    ticket = load_ticket(file)
    named = card["imports"][-1] if "imports" in card else card["model"]
    for refused in (
        ticket.module,
        ticket.deployed,
        lambda: save_ticket(ticket, tmp_path / "again", ("torch",)),
        lambda: save_ticket(ticket, tmp_path / "again", ("dense",)),
        lambda: taking_over_file(file),
    ):
        with pytest.raises(Untrusted, match=named) as error:
            refused()
        assert "--trust" in str(error.value) and "\n" not in str(error.value)
    assert not canary(strangers) and "strangers_code" not in sys.modules


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("when", ["load", "module"])
def test_a_trusted_ticket_loads(written, strangers: Path, kind: str, when: str, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    file = tmp_path / "ticket.safetensors"
    file.write_bytes(written[2][kind])
    module = load_ticket(file, trust=True).module() if when == "load" else load_ticket(file).module(trust=True)
    assert sum(mask.sum() for name, mask in module.named_buffers() if name.endswith("_mask")) > 0
    assert canary(strangers)


def test_what_the_user_has_named_himself_needs_no_trust(written, strangers: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    file = tmp_path / "ticket.safetensors"
    file.write_bytes(written[2]["by import path"])
    load_experiment("smoke", KINDS["by import path"])
    assert load_ticket(file).module() is not None
    file.write_bytes(forged(written[2]["by import path"], model="strangers_code:leave"))
    with pytest.raises(Untrusted, match="strangers_code:leave"):
        load_ticket(file).module()


HUGE = [
    ({"model": "mlp", "model_arguments": {"hidden": [10**9]}}, "numbers"),
    ({"model": "mlp", "model_arguments": {"hidden": [10**6] * 20}}, "numbers"),
    ({"model": "mlp", "model_arguments": {"hidden": [10**30]}}, "could not be built"),
    ({"model": "mlp", "model_arguments": {"hidden": [-1]}}, "hidden"),
    ({"model": "mlp", "model_arguments": {"hidden": "os:system"}}, "hidden"),
    ({"model": "mlp", "model_arguments": {"hide": [3]}}, "arguments"),
    ({"model": "mlp", "classes": 10**12}, "numbers"),
    ({"model": "resnet", "model_arguments": {"depth": 6 * 10**8 + 2}}, "numbers"),
    ({"model": "resnet20", "model_arguments": {"width": 10**9}}, "could not be built"),
    ({"model": "vgg16", "input_shape": [1, 32, 32], "model_arguments": {"width": 1e9}}, "numbers"),
    ({"model": "torchvision", "model_arguments": {"architecture": "vit_h_14", "image_size": 14 * 10**4}}, "numbers"),
    ({"model": "mlp", "input_shape": [10**5, 10**5]}, "inputs of"),
]


@pytest.mark.parametrize(("card", "word"), HUGE)
def test_a_card_cannot_make_a_network_larger_than_its_weights(  # type: ignore[no-untyped-def, type-arg]
    written, strangers: Path, card: dict, word: str, tmp_path: Path
) -> None:
    file = tmp_path / "ticket.safetensors"
    file.write_bytes(forged(written[2]["by import path"], **card))
    with pytest.raises(LthError, match=word) as error:
        load_ticket(file).module()
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "card",
    [
        {"input_shape": ["1", 8, 8]},
        {"input_shape": [0, 8, 8]},
        {"classes": -10},
        {"classes": "10"},
        {"model_arguments": ["hidden"]},
        {"imports": [3]},
        {"model": 3},
        {"level": None},
        {"unheard": 1},
        {"columns": 3},
    ],
)
def test_a_card_of_other_types_is_refused_in_one_line(written, card: dict, tmp_path: Path) -> None:  # type: ignore[no-untyped-def, type-arg]
    file = tmp_path / "ticket.safetensors"
    file.write_bytes(forged(written[2]["by import path"], **card))
    with pytest.raises(LthError, match="damaged, or of another version") as error:
        load_ticket(file)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("header", ["[" * 100_000, "[]", "3", '{"format": "lth ticket 1"}', '{"format": ' + "[" * 5000])
def test_a_header_that_is_no_card_is_refused_in_one_line(written, header: str, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    file = tmp_path / "ticket.safetensors"
    file.write_bytes(save(load(written[2]["by import path"]), {"lth": header}))
    with pytest.raises(LthError) as error:
        load_ticket(file)
    assert "\n" not in str(error.value)


def test_a_ticket_is_an_ordinary_file(tmp_path: Path) -> None:
    (tmp_path / "ticket.safetensors").symlink_to("/dev/zero")
    with pytest.raises(LthError, match="ordinary file"):
        load_ticket(tmp_path)


@pytest.mark.parametrize(
    "change",
    [{"levels": 10**9}, {"arms": ["ticket:1000000000"]}, {"arms": ["[/]:1"]}, {"seeds": "0-2147483647"}, {"arms": 3}],
)
@pytest.mark.parametrize("command", ["status", "list"])
def test_a_sweep_record_cannot_make_a_command_busy_or_fall(  # type: ignore[no-untyped-def, type-arg]
    lth, written, strangers: Path, change: dict, command: str
) -> None:
    identity = written[1]["by import path"].id
    (record,) = (strangers / "experiments" / identity / "sweeps").glob("*.json")
    record.write_text(json.dumps(json.loads(record.read_text()) | change))
    status, _, errors = lth(command, "experiments" if command == "list" else identity, "--store", str(strangers))
    assert "unexpected error" not in errors and len(errors.strip().splitlines()) <= 1
    assert status == 1 or command == "list"

"""Names that a person writes lead nowhere outside of the store: refused in one line, before anything is written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from local_service import LocalService
from typer.testing import CliRunner

from flows.cli.app import app
from lth.errors import LthError

pytestmark = [pytest.mark.services, pytest.mark.timeout(1200)]
ESCAPES = ["../out", "a/../../out", "/tmp/out", "..", "a/b", "a\\b", "%2e%2e", "a\nb", "~", "s3://other/x"]


def refusal(*arguments: str) -> str:
    """How the command line refuses these arguments."""
    error = CliRunner().invoke(app, arguments).exception
    assert isinstance(error, LthError), error
    return str(error)


@pytest.mark.parametrize("name", ESCAPES)
@pytest.mark.parametrize("what", ["name", "arms", "pruning.criterion", "model.name", "dataset.name", "imports"])
def test_no_name_leads_out_of_the_store(what: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    value = json.dumps([name] if what in ("arms", "imports") else name)
    message = refusal("plan", "smoke", "--seeds", "0", "--store", "inside/store", "--set", f"{what}={value}")
    assert what.partition(".")[0].rstrip("s") in message and "\n" not in message
    assert [path.name for path in tmp_path.rglob("*")] in ([], ["inside"], ["inside", "store"])


@pytest.mark.parametrize(
    "command",
    [("status",), ("overlap",), ("query", "SELECT * FROM levels", "--experiment")],
    ids=["status", "overlap", "query"],
)
@pytest.mark.parametrize("identity", ["../../outside", "..", "../experiment=x", "/outside"])
def test_no_experiment_id_reads_outside_of_the_store(command: tuple[str, ...], identity: str, tmp_path: Path) -> None:
    for kind in ("levels", "experiments"):
        (tmp_path / "outside" / kind).mkdir(parents=True)
    assert "outside" not in refusal(*command, identity, "--store", str(tmp_path / "store")).replace(identity, "")


def test_the_form_refuses_names_that_lead_elsewhere(service: LocalService) -> None:
    deployment = service.api("GET", "/deployments/name/sweep/sweep").json()["id"]
    for changes in ({"name": "../out"}, {"name": "a/b"}, {"dataset": "../../etc"}, {"criterion": "os:system"}):
        answer = service.api(
            "POST",
            f"/deployments/{deployment}/create_flow_run",
            {"parameters": {"preset": "smoke", "changes": changes}},
        )
        assert answer.status_code in (409, 422), (changes, answer.text)

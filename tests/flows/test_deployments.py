"""What prefect.yaml promises of each deployment; that a server takes it is tested on real ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from prefect.flows import load_flow_from_entrypoint

FILE = yaml.safe_load((Path(__file__).parents[2] / "prefect.yaml").read_text())
DEPLOYMENTS: dict[str, dict[str, Any]] = {each["name"]: each for each in FILE["deployments"]}


def test_there_are_four() -> None:
    assert set(DEPLOYMENTS) == {"sweep", "nightly", "compact", "report"}
    assert FILE["pull"] == [], "nothing is copied, and the log of a run is not about it"


@pytest.mark.parametrize("name", DEPLOYMENTS)
def test_each_has_a_pool_tags_a_limit_and_a_description_that_tells_what_a_further_run_does(name: str) -> None:
    deployment = DEPLOYMENTS[name]
    assert deployment["work_pool"] == {"name": "default"}
    assert "lth" in deployment["tags"]
    limit, strategy = (deployment["concurrency_limit"][key] for key in ("limit", "collision_strategy"))
    assert limit >= 1 and strategy in ("ENQUEUE", "CANCEL_NEW")
    description = deployment["description"]
    assert description.startswith("**")
    assert ("cancelled" if strategy == "CANCEL_NEW" else "wait") in description
    if limit > 1:
        assert f"At most {['', 'one', 'two', 'three', 'four'][limit]} " in description


@pytest.mark.parametrize("name", DEPLOYMENTS)
def test_its_flow_takes_its_parameters(name: str) -> None:
    flow = load_flow_from_entrypoint(DEPLOYMENTS[name]["entrypoint"])
    schema = flow.parameters.model_dump()
    given = DEPLOYMENTS[name].get("parameters", {})
    jsonschema.validate({"experiment": "digits-0123456789", **given} if name == "report" else given, schema)
    for parameter in schema["properties"].values():
        assert parameter.get("description"), "a person reads it in the form"


@pytest.mark.parametrize("name", DEPLOYMENTS)
def test_schedules_are_switched_off_and_say_their_time_zone(name: str) -> None:
    schedules = DEPLOYMENTS[name].get("schedules", [])
    assert len(schedules) == (name in ("nightly", "compact"))
    for schedule in schedules:
        assert schedule["active"] is False and schedule["timezone"] == "Europe/Berlin"
        assert len(schedule["cron"].split()) == 5
    if name == "nightly":
        assert "01:00 Berlin time" in DEPLOYMENTS[name]["description"] and schedules[0]["cron"] == "0 1 * * *"

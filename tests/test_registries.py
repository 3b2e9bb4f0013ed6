"""What every registry promises of every entry, whoever registered it."""

from __future__ import annotations

import inspect

import pytest

from lth.catalogue import REGISTRIES, registry_of

ENTRIES = [(what, name) for what in REGISTRIES for name in registry_of(what)]


@pytest.mark.parametrize(("what", "name"), ENTRIES)
def test_every_entry_says_what_it_is(what: str, name: str) -> None:
    registry = registry_of(what)
    description = registry.description(name)
    assert len(description) > 3 and "\n" not in description
    assert inspect.getdoc(registry.definition(name)), "no docstring"
    assert registry[name] is not None


@pytest.mark.parametrize("what", REGISTRIES)
def test_every_registry_has_its_contract_in_one_docstring(what: str) -> None:
    registry = registry_of(what)
    assert len(registry) > 0
    assert registry.contract is not None and len(str(inspect.getdoc(registry.contract))) > 80

"""Whose code may run: what the user of this process has named himself, and nothing that a store or a ticket names.

An experiment may name code: modules to import, and a network by import path. Reading one imports nothing. Whoever runs
an experiment that he wrote runs its code (`run_code_of`); whoever reads what others may have written asks first
(`require_trust`).
"""

from __future__ import annotations

from collections.abc import Iterable

from lth.errors import InvalidExperiment, Untrusted
from lth.registry import import_module

_NAMED: set[str] = set()
"""Modules, and networks by import path, that the user of this process has named."""


def run_code_of(imports: Iterable[str], model: str = "") -> None:
    """Import the modules of an experiment, and remember them and its network by import path as the user's own.

    Only for what the user of this process has written, or said that he trusts. Raises InvalidExperiment naming the
    module that cannot be imported.
    """
    for module in imports:
        import_module(module_name(module), "imports")
        _NAMED.add(module)
    if ":" in model:
        _NAMED.add(model)


def own_imports(imports: Iterable[str]) -> list[str]:
    """Those modules that the user of this process has named himself."""
    return [module for module in imports if module in _NAMED]


def module_name(module: object) -> str:
    """A name that can be imported; InvalidExperiment for anything else."""
    if not isinstance(module, str) or not all(part.isidentifier() for part in module.split(".")):
        raise InvalidExperiment(f"imports: {module!r} is no module name; write it as in Python, e.g. my_methods")
    return module


def is_own(model: str) -> bool:
    """Whether the user of this process has named that network by import path, or imports its module."""
    return model in _NAMED or model.partition(":")[0] in _NAMED


def require_trust(what: str, imports: Iterable[str], model: str, trust: bool) -> None:
    """Run the code that `what`, a store's or a ticket's, needs: if the user trusts it. Else raise Untrusted.

    `imports` are the modules that it cannot do without; `model` is its network, if that is one by import path.
    """
    modules = [module_name(module) for module in imports]
    path = model if ":" in model and not is_own(model) else ""
    if not modules and not path:
        return
    if not trust:
        would = [f"import {', '.join(modules)}"] if modules else []
        would += [f"import {path.partition(':')[0]} and call {path}"] if path else []
        raise Untrusted(
            f"{what} names code of its author: it would {' and '.join(would)}. That code can do whatever you can: "
            "add --trust (in Python trust=True) only if you trust who wrote it"
        )
    run_code_of(modules, path)

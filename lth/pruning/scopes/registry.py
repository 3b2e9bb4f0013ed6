"""The registry of scopes: where scores compete, and how the density of a network is shared out among its layers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction

from lth.models.structure import PrunableTensor
from lth.registry import Registry

Shares = tuple[dict[str, Fraction], dict[str, Fraction]]
Rule = Callable[[Sequence[PrunableTensor], Fraction], Shares]
"""(tensors, density of them together) -> (fixed densities by name, ratios by name)."""


@dataclass(frozen=True)
class Scope:
    """Where scores compete, as a rule over the tensors that are pruned, in the order of the network.

    The rule is asked for every level, with the density of all these tensors together, and answers fixed densities and
    ratios r: a layer with a ratio has the density min(1, e r), with e solved so that the total comes out exactly.
    Within such layers, and those of fixed density, scores compete by layer. Layers in neither compete with one another
    for what is left; they and layers with ratios do not go together. Without a rule every layer has a fraction of its
    own. `units`: whether whole units can be removed so.
    """

    rule: Rule | None
    units: bool = False


SCOPES: Registry[Scope] = Registry("scope", Scope)


def register_scope(name: str, description: str, *, units: bool = False) -> Callable[[Rule], Rule]:
    """Decorator: make a rule known by `name`; see `Scope` for what it answers.

        @register_scope("square", "In proportion to the square root of a layer's size, inverted.")
        def square(tensors, density):
            return {}, {tensor.name: 1 / Fraction(math.isqrt(tensor.size)) for tensor in tensors}

    Raises InvalidExperiment if another scope has that name already.
    """

    def register(rule: Rule) -> Rule:
        SCOPES.add(name, Scope(rule, units), description, rule)
        return rule

    return register


def scopes_of_one_density() -> list[str]:
    """Those that give all layers one density together, and no layer a fraction of its own."""
    return [name for name, scope in sorted(SCOPES.items()) if scope.rule is not None]

"""Scopes: where scores compete."""

from lth.pruning.scopes import everywhere, kernels, layer, smart_ratio, uniform
from lth.pruning.scopes.registry import SCOPES, Rule, Scope, Shares, register_scope, scopes_of_one_density

__all__ = ["SCOPES", "Rule", "Scope", "Shares", "register_scope", "scopes_of_one_density"]
del everywhere, kernels, layer, smart_ratio, uniform

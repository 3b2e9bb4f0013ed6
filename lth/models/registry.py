"""Networks by name. A network is a factory `(input_shape, classes, **arguments) -> nn.Module`.

`input_shape` is (channels, height, width) of images, (features,) of tables; the module maps floats
[batch, *input_shape] to logits [batch, classes], one number where the target is one.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from lth.errors import InvalidExperiment, in_one_line
from lth.models.computed_weights import let_rows_be_zero
from lth.models.modes import evaluating
from lth.registry import Registry, import_module


class Factory(Protocol):
    """Called as `factory(input_shape=..., classes=..., **model.arguments)`, it returns an `nn.Module`.

    `input_shape` is that of one example; the module maps float inputs [batch, *input_shape] to outputs
    [batch, classes].
    """

    def __call__(self, *arguments: Any, **named: Any) -> nn.Module: ...


MODELS: Registry[Factory] = Registry("model", Factory)
_ONLY_IMAGES: set[str] = set()


def register_model(name: str, description: str, *, only_images: bool = False) -> Callable[[Factory], Factory]:
    """Decorator: make a factory known by `name`. One that takes `only_images` is never given another `input_shape`."""

    def register(factory: Factory) -> Factory:
        _ONLY_IMAGES.add(name) if only_images else _ONLY_IMAGES.discard(name)
        MODELS.add(name, factory, description, factory)
        return factory

    return register


def model_names() -> dict[str, str]:
    """Every registered network and its one-line description."""
    return MODELS.names()


def _imported(path: str) -> Factory:
    module_name, _, attribute = path.partition(":")
    module = import_module(module_name, f"model.name {path!r}")
    factory: Factory | None = getattr(module, attribute, None)
    if not callable(factory):
        raise InvalidExperiment(
            f"model.name {path!r}: {module_name!r} has no callable {attribute!r}; "
            "name a function or class that returns a torch.nn.Module"
        )
    return factory


def build_model(
    name: str, input_shape: tuple[int, ...], classes: int, arguments: dict[str, Any] | None = None
) -> nn.Module:
    """Build a network; its weights come from torch's global generator, which the caller owns.

    `name` is registered or `package.module:factory`. A user's factory is given `input_shape` and `classes` if it
    takes them. Raises InvalidExperiment naming the model when it cannot be built, is no module, or takes images where
    the data are a table.
    """
    if name in _ONLY_IMAGES and len(input_shape) != 3:
        raise InvalidExperiment(
            f"model {name!r} takes images, but the data set is a table of {input_shape[0]} features; use mlp"
        )
    factory = _imported(name) if ":" in name else MODELS[name]
    given: dict[str, Any] = {"input_shape": input_shape, "classes": classes}
    try:
        parameters = inspect.signature(factory).parameters
    except ValueError:
        parameters = {}  # type: ignore[assignment]
    open_ended = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    if name not in MODELS and not open_ended:
        given = {key: value for key, value in given.items() if key in parameters}
    try:
        module = factory(**given, **(arguments or {}))
    except InvalidExperiment:
        raise
    except (Exception, SystemExit) as error:
        raise InvalidExperiment(
            f"model {name!r} could not be built with arguments {arguments or {}}: "
            f"{in_one_line(error)}; mend model.arguments or the network"
        ) from None
    if not isinstance(module, nn.Module):
        raise InvalidExperiment(
            f"model.name {name!r} returned {type(module).__name__}, not a torch.nn.Module; "
            "name a function or class that returns one"
        )
    if any(is_lazy(tensor) for tensor in [*module.parameters(), *module.buffers()]):
        _give_shapes(name, module, input_shape)
    let_rows_be_zero(module)
    return module


def _give_shapes(name: str, module: nn.Module, input_shape: Sequence[int]) -> None:
    """Run a module with lazy layers (`nn.LazyLinear`) once, so that its weights exist."""
    try:
        with torch.no_grad(), evaluating(module):
            module(torch.zeros(1, *input_shape))
    except Exception as error:
        raise InvalidExperiment(
            f"model {name!r} does not run on inputs of shape {tuple(input_shape)}: "
            f"{in_one_line(error)}; mend the network"
        ) from None

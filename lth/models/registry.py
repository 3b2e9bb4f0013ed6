"""Networks by name. A network is a factory `(input_shape, classes, **arguments) -> nn.Module`.

`input_shape` is (channels, height, width); the module maps float images [batch, C, H, W] to logits [batch, classes].
"""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from lth.errors import InvalidExperiment

Factory = Callable[..., nn.Module]
MODELS: dict[str, tuple[Factory, str]] = {}


def register_model(name: str, description: str) -> Callable[[Factory], Factory]:
    """Decorator: make a factory known by `name`."""

    def register(factory: Factory) -> Factory:
        MODELS[name] = (factory, description)
        return factory

    return register


def model_names() -> dict[str, str]:
    """Every registered network and its one-line description."""
    return {name: description for name, (_, description) in sorted(MODELS.items())}


def _imported(path: str) -> Factory:
    module_name, _, attribute = path.partition(":")
    # A command started as a program does not search the folder that it is started in; a user's module lies there.
    here = str(Path.cwd())
    if here not in sys.path and "" not in sys.path:
        sys.path.append(here)
    try:
        module = importlib.import_module(module_name)
    except (Exception, SystemExit) as error:  # a script that is imported may well call sys.exit()
        raise InvalidExperiment(f"model.name {path!r}: importing {module_name!r} failed: {in_one_line(error)}; "
                                "give package.module:factory, importable from here") from None
    factory = getattr(module, attribute, None)
    if not callable(factory):
        raise InvalidExperiment(f"model.name {path!r}: {module_name!r} has no callable {attribute!r}; "
                                "name a function or class that returns a torch.nn.Module")
    return factory


def in_one_line(error: BaseException) -> str:
    """The kind of an error and the first line of its text: torch's errors often have many."""
    return ": ".join([type(error).__name__, *str(error).strip().splitlines()[:1]])


def build_model(
    name: str, input_shape: tuple[int, int, int], classes: int, arguments: dict[str, Any] | None = None
) -> nn.Module:
    """Build a network; its weights come from torch's global generator, which the caller owns.

    `name` is registered or `package.module:factory`. A user's factory is given `input_shape` and `classes` if it
    takes them. Raises InvalidExperiment naming the model when it cannot be built or is no module.
    """
    if ":" in name:
        factory = _imported(name)
    elif name in MODELS:
        factory = MODELS[name][0]
    else:
        raise InvalidExperiment(f"unknown model {name!r}; known: {', '.join(sorted(MODELS))}")
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
        raise InvalidExperiment(f"model {name!r} could not be built with arguments {arguments or {}}: "
                                f"{in_one_line(error)}; mend model.arguments or the network") from None
    if not isinstance(module, nn.Module):
        raise InvalidExperiment(f"model.name {name!r} returned {type(module).__name__}, not a torch.nn.Module; "
                                "name a function or class that returns one")
    if any(is_lazy(tensor) for tensor in [*module.parameters(), *module.buffers()]):
        _give_shapes(name, module, input_shape)
    return module


def _give_shapes(name: str, module: nn.Module, input_shape: Sequence[int]) -> None:
    """Run a module with lazy layers (`nn.LazyLinear`) once, so that its weights exist."""
    was_training = module.training
    try:
        with torch.no_grad():
            module.eval()(torch.zeros(1, *input_shape))
    except Exception as error:
        raise InvalidExperiment(f"model {name!r} does not run on images of shape {tuple(input_shape)}: "
                                f"{in_one_line(error)}; mend the network") from None
    module.train(was_training)

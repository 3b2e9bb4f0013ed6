"""torchvision's classifiers, untrained, with a head for the data's classes; imported when one is built."""

from __future__ import annotations

import difflib
from typing import Any

from torch import nn

from lth.errors import InvalidExperiment
from lth.models.registry import register_model
from lth.torchvision_import import import_torchvision

_WITH_AUXILIARY_OUTPUTS = ("googlenet", "inception_v3")


@register_model(
    "torchvision",
    "any classifier of torchvision, untrained: architecture: resnet18, mobilenet_v2, ...",
    only_images=True,
)
def torchvision_model(
    input_shape: tuple[int, int, int], classes: int, architecture: str, **arguments: Any
) -> nn.Module:
    """`architecture` as torchvision builds it with `arguments`, fitted to the data: head, channels, ViT's image size.

    Where images have not 3 channels, the first convolution is replaced by one that takes them, drawn as torch draws
    convolutions. Auxiliary classifiers are left out: the answer is one tensor of logits.
    """
    models = import_torchvision().models
    names = models.list_models(module=models)
    if architecture not in names:
        close = difflib.get_close_matches(str(architecture), names, 3)
        raise InvalidExperiment(
            f"model.arguments.architecture {architecture!r} is no classifier of torchvision; "
            + (
                f"did you mean {' or '.join(close)}?"
                if close
                else "give one such as resnet18, mobilenet_v2 or vgg11_bn"
            )
        )
    if architecture in _WITH_AUXILIARY_OUTPUTS:
        if arguments.get("aux_logits"):
            raise InvalidExperiment(
                f"model.arguments.aux_logits is {arguments['aux_logits']!r}, but auxiliary "
                "classifiers are not trained here; leave it out"
            )
        # As it would be anyway, but torchvision warns unless it is said.
        arguments = {"init_weights": True, **arguments, "aux_logits": False}
    if architecture.startswith("vit_") and input_shape[1] == input_shape[2]:
        arguments = {"image_size": input_shape[1], **arguments}
    module: nn.Module = models.get_model(architecture, weights=None, num_classes=classes, **arguments)
    if input_shape[0] != 3:
        _take_channels(module, input_shape[0])
    return module


def _take_channels(module: nn.Module, channels: int) -> None:
    """Replace the first convolution by one of the same form for images of `channels` channels."""
    # torchvision declares layers in the order in which they run; in all of its classifiers the images meet this one.
    name, conv = next((name, layer) for name, layer in module.named_modules() if isinstance(layer, nn.Conv2d))
    module.set_submodule(
        name,
        nn.Conv2d(
            channels,
            conv.out_channels,
            conv.kernel_size,  # type: ignore[arg-type]
            conv.stride,  # type: ignore[arg-type]
            conv.padding,  # type: ignore[arg-type]
            conv.dilation,  # type: ignore[arg-type]
            conv.groups,
            conv.bias is not None,
            conv.padding_mode,
        ),
    )

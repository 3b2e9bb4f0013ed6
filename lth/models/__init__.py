"""Networks: the registry, the built-in families, users' own modules, and what in them can be pruned."""

from lth.models import convolutional, mlp, resnet, torchvision_models, vgg  # noqa: F401  (importing one registers it)
from lth.models.registry import MODELS, build_model, model_names, register_model
from lth.models.structure import PrunableTensor, prunable_tensors

__all__ = ["MODELS", "PrunableTensor", "build_model", "model_names", "prunable_tensors", "register_model"]

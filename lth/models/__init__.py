"""Networks: the registry, the built-in families, users' own modules, and what in them can be pruned."""

from lth.models import convolutional, mlp, resnet, torchvision_models, vgg  # noqa: F401  (importing one registers it)
from lth.models.registry import MODELS, build_model, model_names, register_model
from lth.models.structure import LeftDense, PrunableTensor, Structure, prunable_tensors, structure_of

__all__ = [
    "MODELS",
    "LeftDense",
    "PrunableTensor",
    "Structure",
    "build_model",
    "model_names",
    "prunable_tensors",
    "register_model",
    "structure_of",
]

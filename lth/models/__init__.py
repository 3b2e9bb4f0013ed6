"""Networks: the registry, the built-in families, users' own modules, and what in them can be pruned."""

from lth.models import convolutional as _convolutional
from lth.models import mlp as _mlp
from lth.models.registry import build_model, model_names, register_model
from lth.models.structure import PrunableTensor, prunable_tensors

__all__ = ["PrunableTensor", "build_model", "model_names", "prunable_tensors", "register_model"]
del _convolutional, _mlp

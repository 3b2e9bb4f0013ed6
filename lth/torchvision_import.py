"""Importing torchvision beside a torch that it was not built for."""

from __future__ import annotations

import importlib
import sys
import threading
from types import ModuleType

import torch

from lth.errors import DataError

_lock = threading.Lock()
_schemas: torch.library.Library | None = None
"""Schemas live as long as their Library object does, so it is kept for the life of the process."""


def import_torchvision() -> ModuleType:
    """The torchvision module, also where its compiled operators do not load.

    torchvision's usual wheel is built for CUDA. Beside a CPU build of torch its operators are missing, and the import
    ends with "operator torchvision::nms does not exist", because torchvision attaches shape functions to the
    operators `nms` and `qnms`. Only after that very error, declare the two schemas ourselves and import again: data
    sets, transforms and models then work; the compiled operators and image codecs do not, and nothing here uses them.

    Raises:
        DataError: torchvision is not installed.
    """
    global _schemas
    with _lock:
        try:
            return importlib.import_module("torchvision")
        except ModuleNotFoundError as error:
            if error.name != "torchvision":
                raise
            raise DataError("torchvision is not installed, and this comes from it: install it") from error
        except RuntimeError as error:
            if "operator torchvision::nms does not exist" not in str(error):
                raise
        for module in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
            del sys.modules[module]
        if _schemas is None:
            _schemas = torch.library.Library("torchvision", "FRAGMENT")
            _schemas.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
            _schemas.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        return importlib.import_module("torchvision")

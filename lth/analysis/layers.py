"""What a mask leaves of every layer: densities, units that died, and the weights that still carry a signal.

A remaining weight is effective if it lies on a path of remaining weights from an input to an output of the network
(the paths whose count SynFlow differentiates: Tanaka et al. 2020). The others cost storage and do nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pyarrow as pa
import torch
from torch import nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from lth.engine.network import Network
from lth.errors import LthError
from lth.models.calling import call
from lth.store.analysis_schemas import LAYERS
from lth.store.unit import Unit

_SUMS = {
    "linear",
    "bilinear",
    "matmul",
    "mm",
    "bmm",
    "addmm",
    "baddbmm",
    "einsum",
    "conv1d",
    "conv2d",
    "conv3d",
    "conv_transpose1d",
    "conv_transpose2d",
    "conv_transpose3d",
    "scaled_dot_product_attention",
    "multi_head_attention_forward",
}
_RECURRENT = {kind + cell for kind in ("lstm", "gru", "rnn_tanh", "rnn_relu") for cell in ("", "_cell")}
_NORMS = {"batch_norm", "instance_norm", "group_norm", "layer_norm", "rms_norm", "local_response_norm", "normalize"}
_ACTIVATIONS = {
    "relu",
    "relu6",
    "leaky_relu",
    "rrelu",
    "prelu",
    "elu",
    "selu",
    "celu",
    "gelu",
    "silu",
    "mish",
    "softplus",
    "softsign",
    "sigmoid",
    "logsigmoid",
    "tanh",
    "hardswish",
    "hardsigmoid",
    "hardtanh",
    "threshold",
    "softmax",
    "log_softmax",
    "dropout",
    "dropout1d",
    "dropout2d",
    "dropout3d",
    "alpha_dropout",
    "feature_alpha_dropout",
}
_MEAN_POOL = {
    "max_pool1d": functional.avg_pool1d,
    "max_pool2d": functional.avg_pool2d,
    "max_pool3d": functional.avg_pool3d,
}
_ADAPTIVE_MEAN_POOL = {
    "adaptive_max_pool1d": functional.adaptive_avg_pool1d,
    "adaptive_max_pool2d": functional.adaptive_avg_pool2d,
    "adaptive_max_pool3d": functional.adaptive_avg_pool3d,
}


class PathsUnknown(LthError):
    """Which weights of this network carry a signal cannot be told."""


def live_weights(
    module: nn.Module, masks: Mapping[str, torch.Tensor], input_shape: Sequence[int]
) -> dict[str, torch.Tensor]:
    """Which weights lie on a path of kept weights from an input to an output: bool [*shape] per tensor of `masks`.

    `masks` are one seed's, bool [*shape] by parameter name; other weights count as kept. The module is run once on
    ones, forwards and backwards, with masks for weights and no biases: a unit's value is then above zero if an input
    reaches it, its gradient if it reaches an output. Both are cut to 0 or 1 after every layer, so nothing overflows
    or vanishes in a network of any depth. What only the values decide must not close a path, so norms, activations
    and dropout pass their input on, and max pooling, whose winner could be any, takes the mean.

    Exact for networks of dense and convolutional layers, torch's norms and activations, mean and max pooling,
    concatenations, and residual sums, as modules or as functions. Other operations are taken as they are, with their
    derivatives at one point: a maximum of another kind or a dilated max pooling shows the winners' paths only, and
    attention says nothing certain of its queries and keys. Parameters of one axis are 0 if named a bias and 1 if not.

    A unit without inputs may still pass on the constant of its bias; it carries nothing of the input and counts as
    dead. Raises `LthError` for a mask that is not boolean or does not fit the module, for torch's recurrent layers,
    whose gates saturate, and if an operation overflows.
    """
    device = next(iter(masks.values())).device if masks else torch.device("cpu")
    parameters = {name: _ones_or_zeros(name, parameter, device) for name, parameter in module.named_parameters()}
    for name, mask in masks.items():
        if name not in parameters or mask.dtype != torch.bool or mask.shape != parameters[name].shape:
            raise LthError(
                f"a mask of {name!r} that is {mask.dtype} {list(mask.shape)} does not fit the network: it "
                "needs one boolean tensor per weight tensor, of its shape"
            )
        parameters[name] = mask.float().requires_grad_()
    buffers = {name: _at_rest(name, buffer.detach().to(device)) for name, buffer in module.named_buffers()}

    was_training = module.training
    module.eval()
    try:
        with torch.enable_grad(), _PathsOnly():
            reached = call(module, {**buffers, **parameters}, torch.ones(1, *input_shape, device=device))
            gradients = torch.autograd.grad(reached.sum(), [parameters[name] for name in masks], allow_unused=True)
    finally:
        module.train(was_training)
    return {
        name: torch.zeros_like(mask) if gradient is None else mask & _positive(gradient)  # None: never used
        for (name, mask), gradient in zip(masks.items(), gradients, strict=True)
    }


def layer_table(
    network: Network, masks: Mapping[str, torch.Tensor], input_shape: Sequence[int], experiment_id: str, unit: Unit
) -> pa.Table:
    """The rows of LAYERS: one per seed and prunable tensor, from masks bool [seeds, *shape], seeds as in `unit`.

    Units are a tensor's outputs: neurons or filters. A unit is dead if none of its weights in the tensor is effective;
    where a residual sum joins it, the shortcut may still be alive. Raises `LthError` as `live_weights` does, and for a
    prunable tensor without a mask or with another number of seeds.
    """
    for tensor in network.prunable:
        if tensor.name not in masks or len(masks[tensor.name]) != len(unit.seeds):
            raise LthError(
                f"{tensor.name!r} needs a mask for each of the {len(unit.seeds)} seeds of {unit.name}; got "
                f"{len(masks[tensor.name]) if tensor.name in masks else 'none'}"
            )
    rows: list[dict[str, object]] = []
    for row, seed in enumerate(unit.seeds):
        kept = {tensor.name: masks[tensor.name][row] for tensor in network.prunable}
        try:
            live = live_weights(network.module, kept, input_shape)
        except PathsUnknown:
            live = None
        for tensor in network.prunable:
            remaining = int(kept[tensor.name].sum())
            dead = effective = None
            by_unit = _by_unit(network.module, tensor.name, kept[tensor.name] if live is None else live[tensor.name])
            if live is not None:
                effective, dead = int(live[tensor.name].sum()), len(by_unit) - int(by_unit.any(1).sum())
            rows.append(
                {
                    "experiment_id": experiment_id,
                    "arm": unit.arm,
                    "seed": seed,
                    "draw": unit.draw,
                    "level": unit.level,
                    "tensor": tensor.name,
                    "remaining": remaining,
                    "total": tensor.size,
                    "density": remaining / tensor.size,
                    "effective": effective,
                    "effective_density": None if effective is None else effective / tensor.size,
                    "units": len(by_unit),
                    "dead_units": dead,
                    "flops": 2 * remaining * tensor.positions,
                }
            )
    return pa.Table.from_pylist(rows, schema=LAYERS)


def _ones_or_zeros(name: str, parameter: torch.Tensor, device: torch.device) -> torch.Tensor:
    """What stands for a parameter without a mask: a bias opens no path, a weight or a scale lets everything through."""
    bias = parameter.ndim < 2 and "bias" in name.rsplit(".", 1)[-1]
    return torch.full(parameter.shape, 0.0 if bias else 1.0, device=device)


def _at_rest(name: str, buffer: torch.Tensor) -> torch.Tensor:
    """Buffers as they are, but for the running statistics of a norm that a user wrote by hand: mean 0, variance 1."""
    last = name.rsplit(".", 1)[-1]
    if last == "running_mean":
        return torch.zeros_like(buffer)
    return torch.ones_like(buffer) if last == "running_var" else buffer


def _by_unit(module: nn.Module, name: str, weights: torch.Tensor) -> torch.Tensor:
    """A weight tensor as [units, weights of the unit]."""
    layer = module.get_submodule(name.rpartition(".")[0])
    if isinstance(layer, nn.modules.conv._ConvTransposeNd):  # [in, out / groups, ...], the groups within the inputs
        weights = weights.unflatten(0, (layer.groups, -1)).transpose(1, 2).flatten(0, 1)
    return weights.flatten(1)


def _positive(values: torch.Tensor) -> torch.Tensor:
    if bool(values.isnan().any()):
        raise PathsUnknown("live paths are unknown for this network: one of its operations overflows on ones")
    return values > 0


class _ZeroOrOne(torch.autograd.Function):
    """1 where a value is above zero; and on the way back, where a gradient is."""

    @staticmethod
    def forward(context: Any, values: torch.Tensor) -> torch.Tensor:
        return _positive(values).to(values.dtype)

    @staticmethod
    def backward(context: Any, *gradients: torch.Tensor) -> torch.Tensor:
        return _positive(gradients[0]).to(gradients[0].dtype)


_zero_or_one: Callable[[torch.Tensor], torch.Tensor] = _ZeroOrOne.apply


class _PathsOnly(TorchFunctionMode):
    """Within it torch's operations say where a signal can go, not what becomes of it."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        name = func.__name__.strip("_")  # relu_ and __matmul__, too
        if name in _SUMS:
            result = func(*args, **kwargs)
            return (_zero_or_one(result[0]), *result[1:]) if isinstance(result, tuple) else _zero_or_one(result)
        if name in _RECURRENT:
            raise PathsUnknown(f"live paths through a recurrent layer ({name}) are unknown: leave this analysis out")
        if name in _NORMS or name in _ACTIVATIONS:
            # A copy, because the caller may add to the result in place and go on using its input.
            return (args[0] if args else kwargs["input"]).clone()
        if name in _MEAN_POOL:
            return _mean_pool(_MEAN_POOL[name], func, *args, **kwargs)
        if name in _ADAPTIVE_MEAN_POOL:
            kwargs.pop("return_indices", None)
            return _ADAPTIVE_MEAN_POOL[name](*args[:2], **kwargs)
        return func(*args, **kwargs)


def _mean_pool(
    mean_pool: Callable[..., torch.Tensor],
    max_pool: Callable[..., Any],
    input: torch.Tensor,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """The mean over the windows of a max pooling with these arguments."""
    if return_indices or any(step != 1 for step in ([dilation] if isinstance(dilation, int) else dilation)):
        return max_pool(input, kernel_size, stride, padding, dilation, ceil_mode, return_indices)
    return mean_pool(input, kernel_size, stride or None, padding, ceil_mode)

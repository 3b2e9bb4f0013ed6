"""Whether a network takes every batch that it will be given: the sizes are known before anything trains."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from lth.errors import InvalidExperiment, in_one_line
from lth.models.calling import call
from lth.streams import own_randomness

QUICK = 2.0
"""Seconds within which numbers may be computed: torch takes that long to load what it needs for shapes alone."""


@dataclass(frozen=True)
class BatchSize:
    """So many examples in one pass, in training mode or not; `why` says which batch that is."""

    examples: int
    training: bool
    why: str


def in_batches(total: int, size: int, training: bool, why: str) -> list[BatchSize]:
    """The sizes that `total` examples are cut into."""
    found = [BatchSize(size, training, why)] if total >= size else []
    rest = total % size
    return [*found, *([BatchSize(rest, training, f"the last batch of {why}")] if rest else [])]


def check_batch_sizes(
    build: Callable[[], nn.Module], inputs: torch.Tensor, outputs: int, sizes: Sequence[BatchSize]
) -> None:
    """Run what `build` makes on batches of all sizes: on numbers where that is quick, else on shapes alone.

    `inputs` [n, ...] are some examples. Raises InvalidExperiment for the first that it does not run on or that it does
    not answer with [batch, outputs].
    """
    different = list({(size.examples, size.training): size for size in reversed(sizes)}.values())
    with own_randomness(0, "inspection"):
        module = build().to(inputs.device)
        if _seconds_an_example(module, inputs) * sum(size.examples for size in different) > QUICK:
            blank = build()  # may keep tensors without numbers
            different = [size for size in different if not _shapes_agree(blank, inputs, outputs, size)]
        for size in different:
            _run(module, inputs, outputs, size)


def _seconds_an_example(module: nn.Module, inputs: torch.Tensor) -> float:
    begun = time.process_time()
    try:
        with torch.no_grad():
            module.eval()(inputs[:2])
    except Exception:  # which sizes it takes is found out afterwards
        return 0.0
    return (time.process_time() - begun) / 2


def _shapes_agree(module: nn.Module, inputs: torch.Tensor, outputs: int, size: BatchSize) -> bool:
    """Whether the shapes come out right without computing anything; a module that looks at values does not say."""
    tensors = [*module.named_parameters(), *module.named_buffers()]
    blank = {name: tensor.detach().to("meta") for name, tensor in tensors}
    try:
        with torch.no_grad():
            batch = inputs.new_empty((size.examples, *inputs.shape[1:]), device="meta")
            answer = call(module.train(size.training), blank, batch)
    except Exception:  # whatever a user's module raises
        return False
    return isinstance(answer, torch.Tensor) and tuple(answer.shape) == (size.examples, outputs)


def _run(module: nn.Module, inputs: torch.Tensor, outputs: int, size: BatchSize) -> None:
    what = f"{size.examples} example{'s' * (size.examples != 1)}"
    mode = "training" if size.training else "evaluation"
    batch = inputs[torch.arange(size.examples, device=inputs.device) % len(inputs)]
    try:
        with torch.no_grad():
            answer = module.train(size.training)(batch)
    except Exception as error:
        remedy = "choose another training.batch_size" if size.training else "mend its forward"
        raise InvalidExperiment(
            f"it does not run on {what} at a time in {mode} mode ({size.why}): {in_one_line(error)}; {remedy}"
        ) from None
    if not isinstance(answer, torch.Tensor) or tuple(answer.shape) != (size.examples, outputs):
        shape = tuple(answer.shape) if isinstance(answer, torch.Tensor) else type(answer).__name__
        raise InvalidExperiment(
            f"it answers {what} in {mode} mode ({size.why}) with {shape}, not with {(size.examples, outputs)}; "
            "mend its forward"
        )

"""Scores on a CUDA device are those of the CPU. Skipped where there is none."""

from __future__ import annotations

import pytest
import torch
from scored_networks import BUILDS, SHAPE, cohort_of, images, masks_of, network_of

from lth.engine import EVIDENCE, exact_arithmetic, make_feed
from lth.engine.evidence import gather
from lth.pruning import CRITERIA, Scored, prune

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]
SEEDS = (3, 7)


def on(device: str, name: str) -> tuple[Scored, dict[str, torch.Tensor]]:
    network, data = network_of(BUILDS[name]), images()
    cohort = cohort_of(network, SEEDS, data)
    moved = Scored(
        network,
        SEEDS,
        cohort.weights.to(device),
        {key: b.to(device) for key, b in cohort.buffers.items()},
        cohort.initial.to(device),
        {name: rows.to(device) for name, rows in cohort.watched.items()},
        make_feed(data, SEEDS, 40, data.transform("channel"), device),
        cohort.input_shape,
    )
    return moved, {key: mask.to(device) for key, mask in masks_of(network, SEEDS).items()}


@pytest.mark.parametrize("name", BUILDS)
def test_every_evidence_is_that_of_the_cpu(name: str) -> None:
    found = {}
    for device in ("cpu", "cuda"):
        cohort, masks = on(device, name)
        with exact_arithmetic(1, "float32"):
            found[device] = gather(
                frozenset(EVIDENCE),
                cohort.network,
                SEEDS,
                cohort.weights,
                cohort.buffers,
                cohort.network.masks(masks),
                initial=cohort.initial,
                watched=cohort.watched,
                feed=cohort.feed,
                input_shape=SHAPE,
            )
    for need, tensors in found["cuda"].items():
        for tensor, values in tensors.items():
            expected = found["cpu"][need][tensor]
            assert values.is_cuda, (need, tensor)
            torch.testing.assert_close(values.cpu(), expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max()))


@pytest.mark.parametrize("criterion", sorted(CRITERIA))
def test_masks_of_a_gpu_have_the_counts_and_nearly_all_the_weights(criterion: str) -> None:
    kept = {}
    for device in ("cpu", "cuda"):
        cohort, masks = on(device, "convolutional")
        after = {name: int(mask[0].sum()) // 2 for name, mask in masks.items()}
        with exact_arithmetic(1, "float32"):
            kept[device] = prune(cohort, CRITERIA[criterion], masks, after)
    for name, mask in kept["cuda"].items():
        assert torch.equal(mask.cpu().flatten(1).sum(1), kept["cpu"][name].flatten(1).sum(1))
        assert float((mask.cpu() != kept["cpu"][name]).float().mean()) < 0.01  # ties within rounding

"""The data of a cohort, as an experiment asks for them."""

from __future__ import annotations

import torch

from lth.data.examples import DataSet
from lth.engine import Feed, make_feed
from lth.sweep.handover import Job


def feed_of(job: Job, data: DataSet, seeds: tuple[int, ...], device: torch.device) -> Feed:
    """Split and transformed as the experiment says."""
    dataset = job.experiment.dataset
    transform = data.transform(dataset.standardise, dataset.crop_padding, dataset.flip)
    return make_feed(data, seeds, dataset.validation, transform, device)

"""Objectives and scores against scikit-learn, autograd, and numbers worked out by hand."""

from __future__ import annotations

import pytest
import torch
from sklearn.metrics import r2_score, roc_auc_score

from lth.errors import InvalidExperiment
from lth.objectives import OBJECTIVES, SCORES, Classification, HasOutputGradient, Regression, Score, Target, score_of

GENERATOR = torch.Generator().manual_seed(0)


def outputs_and_targets(kind: str, classes: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    """Of three seeds and forty examples."""
    if kind == "regression":
        return torch.randn(3, 40, 1, generator=GENERATOR), torch.randn(3, 40, generator=GENERATOR)
    outputs = torch.randn(3, 40, classes, generator=GENERATOR)
    return outputs, torch.randint(0, classes, (3, 40), generator=GENERATOR)


@pytest.mark.parametrize("kind", OBJECTIVES)
def test_the_mean_of_the_losses_is_the_loss_and_its_gradient_is_autograds(kind: str) -> None:
    objective = OBJECTIVES[kind]()
    outputs, targets = outputs_and_targets(kind)
    assert isinstance(objective, HasOutputGradient)
    written = torch.full_like(outputs, 7.0)
    summed, sums = objective.output_gradient(outputs.clone(), targets, written)
    for seed in range(3):
        here = outputs[seed].double().requires_grad_()
        loss = objective.loss(here, targets[seed])
        (gradient,) = torch.autograd.grad(loss, here)
        torch.testing.assert_close(written[seed].double(), gradient, rtol=1e-5, atol=1e-7)
        assert float(objective.losses(outputs, targets)[seed].mean()) == pytest.approx(float(loss), rel=1e-5)
        assert float(summed[seed]) == pytest.approx(40 * float(loss), rel=1e-5)
    torch.testing.assert_close(sums, score_of(objective).sums_of(outputs, targets))


@pytest.mark.parametrize("classes", [2, 4])
def test_auroc_is_scikit_learns_ties_and_all(classes: int) -> None:
    outputs, targets = outputs_and_targets("classification", classes)
    outputs[:, 20:] = outputs[:, :20]  # every value twice
    found = SCORES["auroc"].of_split(outputs, targets)  # type: ignore[misc]
    for seed in range(3):
        if classes == 2:
            expected = roc_auc_score(targets[seed], outputs[seed, :, 1] - outputs[seed, :, 0])
        else:
            expected = roc_auc_score(targets[seed], torch.softmax(outputs[seed].double(), 1), multi_class="ovr")
        assert float(found[seed]) == pytest.approx(expected, abs=1e-12)


def test_auroc_by_hand() -> None:
    scores = torch.tensor([0.1, 0.4, 0.35, 0.8])
    outputs = torch.stack([torch.zeros(4), scores], 1).unsqueeze(0)
    # Of the four pairs of a 1 and a 0, (0.35 > 0.1), (0.8 > 0.1) and (0.8 > 0.4) are in order, (0.35, 0.4) is not.
    assert float(SCORES["auroc"].of_split(outputs, torch.tensor([[0, 0, 1, 1]]))[0]) == 0.75  # type: ignore[misc]
    assert bool(SCORES["auroc"].of_split(outputs, torch.tensor([[0, 0, 0, 0]])).isnan())  # type: ignore[misc]


def test_r2_is_scikit_learns_and_adds_up_over_batches() -> None:
    outputs, targets = outputs_and_targets("regression")
    score = SCORES["r2"]
    whole = score.from_sums(score.sums_of(outputs, targets), 40)
    parts = sum(score.sums_of(outputs[:, at : at + 15], targets[:, at : at + 15]) for at in (0, 15, 30))
    torch.testing.assert_close(score.from_sums(parts, 40), whole)  # type: ignore[arg-type]
    for seed in range(3):
        assert float(whole[seed]) == pytest.approx(r2_score(targets[seed], outputs[seed, :, 0]), abs=1e-6)


def test_an_objective_refuses_targets_that_it_cannot_learn() -> None:
    assert (Classification().outputs(Target("class", 7)), Regression().outputs(Target("number"))) == (7, 1)
    with pytest.raises(InvalidExperiment, match="is a number; set objective.kind to regression"):
        Classification().outputs(Target("number"))
    with pytest.raises(InvalidExperiment, match="one of 7 classes; set objective.kind to classification"):
        Regression().outputs(Target("class", 7))


def test_a_score_is_made_of_sums_or_of_a_whole_split() -> None:
    with pytest.raises(ValueError, match="needs sums and of_sums, or else of_split"):
        Score("nothing", "nothing", True, True)
    assert (SCORES["accuracy"].written(0.98126), SCORES["r2"].written(0.45123)) == ("98.13%", "0.4512")

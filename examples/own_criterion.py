"""A criterion of your own: one function, held against magnitude and against chance.

python examples/own_criterion.py [FOLDER]
"""

import sys
import tempfile
from pathlib import Path

import torch

import lth
from lth.pruning import register_criterion


# In a module of its own, named by the experiment under `imports`, other processes and machines find it, too.
@register_criterion("both_ends", "|w w_0|: large before training and after it")
def both_ends(weights: torch.Tensor, initial_weights: torch.Tensor) -> torch.Tensor:
    """The parameters say what is needed, tensors [seeds, *shape] of one layer; the lowest scores are pruned."""
    return (weights * initial_weights).abs()


def main(folder: Path) -> None:
    """One sweep for each criterion, with the same seeds: dense networks, splits and data orders are the same."""
    print(f"{'criterion':<12} {'density':>8} {'accuracy':>9}")
    for criterion in ("both_ends", "magnitude", "random"):
        results = lth.run(
            "smoke",
            seeds="0-4",
            store=folder / "store",
            settings=[f"name={criterion}", f"pruning.criterion={criterion}", "arms=[ticket]", "pruning.levels=3"],
            progress=False,
        )
        last = results.summary.to_pylist()[-1]
        print(f"{criterion:<12} {last['density']:>8.1%} {last['test_score_at_early_stop_mean']:>9.2%}")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp()))

"""A network of your own: any module by its import path, nothing registered.

python examples/own_network.py [FOLDER]
"""

import math
import sys
import tempfile
from pathlib import Path

import torch
from torch import nn

import lth


class Residual(nn.Module):
    """Two hidden layers, the second added to the first. What can be pruned is found by running it once."""

    def __init__(self, input_shape: tuple[int, ...], classes: int, width: int = 32) -> None:
        super().__init__()
        self.first = nn.Linear(math.prod(input_shape), width)
        self.second = nn.Linear(width, width)
        self.output = nn.Linear(width, classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits [batch, classes] of images [batch, channels, height, width]."""
        hidden = self.first(images.flatten(1)).relu()
        hidden = hidden + self.second(hidden).relu()
        logits: torch.Tensor = self.output(hidden)
        return logits


def main(folder: Path) -> None:
    """Prune it twice, and show how much of each of its layers is left."""
    network = 'model={name: "own_network:Residual", arguments: {width: 24}}'  # module:class, importable from here
    results = lth.run("smoke", seeds="0-2", store=folder / "store", settings=[network, "arms=[ticket]"], progress=False)
    print(results)
    layers = results.query(
        "SELECT tensor, level, avg(density) AS density FROM layers GROUP BY ALL ORDER BY tensor, level"
    ).to_pandas()
    print("\nDensity of every layer, by level:")
    print(layers.pivot(index="tensor", columns="level", values="density").round(3))


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp()))

"""How fast the cohort engine trains LeNet-300-100 on MNIST, against the ordinary loop and against matrix products.

Three things are timed in turn, several rounds in one run, and compared round by round:

- the ordinary loop: torchvision's MNIST with ToTensor and Normalize through a DataLoader, nn.Sequential, Adam, masks
  multiplied after each step, with torch's default number of threads;
- the engine as a sweep runs it: one process and one thread a core, each with the block of seeds that it would train;
- what torch.matmul reaches on the same shapes, in the same processes at the same time.

Run: LTH_DATA_DIR=… python benchmarks/engine.py [--rounds 7]. Prints a table and, as its last line, a JSON object.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import statistics
import time
from functools import partial
from multiprocessing.connection import Connection
from typing import Any

import torch
from torch import nn

from lth.data import data_root, load_dataset
from lth.engine import (
    CohortTraining,
    Network,
    Recipe,
    Start,
    describe,
    exact_arithmetic,
    initial_buffers,
    initialise,
    make_feed,
)
from lth.engine.optimizers import Adam
from lth.engine.schedules import Constant
from lth.models import build_model, prunable_tensors
from lth.sweep.record import code_version
from lth.sweep.stages import blocks
from lth.torchvision_import import import_torchvision

BATCH = 60
LAYERS = (784, 300, 100, 10)
DENSITIES = {"dense": 1.0, "21%": 0.211, "3.6%": 0.036}


def flops_per_step() -> int:
    """Twice the multiply-adds of a step: forward, weight gradients, input gradients of all layers but the first."""
    pairs = list(zip(LAYERS, LAYERS[1:], strict=False))
    return 2 * BATCH * (2 * sum(i * o for i, o in pairs) + sum(i * o for i, o in pairs[1:]))


class OrdinaryLoop:
    """What most single-process scripts do."""

    def __init__(self) -> None:
        torchvision = import_torchvision()
        transform = torchvision.transforms.Compose(
            [torchvision.transforms.ToTensor(), torchvision.transforms.Normalize((0.1307,), (0.3081,))]
        )
        dataset = torchvision.datasets.MNIST(str(data_root()), train=True, download=False, transform=transform)
        self.loader = torch.utils.data.DataLoader(dataset, batch_size=BATCH, shuffle=True)
        self.model = nn.Sequential(
            nn.Flatten(), nn.Linear(784, 300), nn.ReLU(), nn.Linear(300, 100), nn.ReLU(), nn.Linear(100, 10)
        )
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=1.2e-3)
        self.loss = nn.CrossEntropyLoss()
        self.masks = {
            name: (torch.rand_like(parameter) < 0.211).float()
            for name, parameter in self.model.named_parameters()
            if parameter.ndim == 2
        }

    def seconds_per_step(self, steps: int) -> float:
        batches = iter(self.loader)
        next(batches)
        begun = time.perf_counter()
        for _ in range(steps):
            images, labels = next(batches)
            self.optimizer.zero_grad()
            self.loss(self.model(images), labels).backward()
            self.optimizer.step()
            with torch.no_grad():
                for name, parameter in self.model.named_parameters():
                    if name in self.masks:
                        parameter.mul_(self.masks[name])
        return (time.perf_counter() - begun) / steps


def lenet() -> Network:
    build = partial(build_model, "mlp", (1, 28, 28), 10, {"hidden": [300, 100]})
    return describe(build, (1, 28, 28), 10, prunable_tensors(build(), (1, 28, 28), 10), "glorot_normal")


def worker(first_seed: int, connection: Connection) -> None:
    """One core: trains a block of seeds, or multiplies matrices, when told to; answers with seed-steps a second."""
    network = lenet()
    data = load_dataset("mnist")
    size = blocks(network, 64, torch.device("cpu"))[0].stop
    seeds = tuple(range(first_seed, first_seed + size))
    recipe = Recipe(Adam(), Constant(), BATCH, 10**9, 10**9)
    with exact_arithmetic(1, "float32"):
        feed = make_feed(data, seeds, 5000, data.transform("channel"))
        trainings = {}
        for name, density in DENSITIES.items():
            masks = network.masks(
                {
                    tensor.name: torch.randperm(tensor.size).expand(size, -1).view(size, *tensor.shape)
                    < round(density * tensor.size)
                    for tensor in network.prunable
                }
            )
            start = Start(initialise(network, seeds), initial_buffers(network, seeds), masks)
            trainings[name] = CohortTraining(network, recipe, feed, start).advance(20)
        products = Products(size)
        connection.send(size)
        while (order := connection.recv()) is not None:
            what, steps = order
            begun = time.perf_counter()
            if what == "matmul":
                reached = products.best_rate(steps)
            else:
                trainings[what].advance(trainings[what].step + steps)
                reached = size * steps / (time.perf_counter() - begun)
            connection.send(reached)


class Products:
    """The matrix products of one step, and nothing else; the better of single and stacked ones is the ceiling."""

    def __init__(self, seeds: int) -> None:
        self.seeds = seeds
        self.values = [torch.randn(seeds, BATCH, width) for width in LAYERS]
        self.weights = [torch.randn(seeds, o, i) for i, o in zip(LAYERS, LAYERS[1:], strict=False)]
        self.outputs = [torch.empty(seeds, BATCH, width) for width in LAYERS]
        self.gradients = [torch.empty_like(weight) for weight in self.weights]

    def best_rate(self, steps: int) -> float:
        """Steps' worth of products a second and seed."""
        return max(self._rate(steps, stacked=True), self._rate(steps, stacked=False))

    def _rate(self, steps: int, stacked: bool) -> float:
        begun = time.perf_counter()
        if stacked:
            for _ in range(steps):
                self._products(self.values, self.weights, self.outputs, self.gradients)
        else:
            for row in range(self.seeds):
                each = [
                    [tensor[row] for tensor in tensors]
                    for tensors in (self.values, self.weights, self.outputs, self.gradients)
                ]
                for _ in range(steps):
                    self._products(*each)
        return self.seeds * steps / (time.perf_counter() - begun)

    @staticmethod
    def _products(
        values: list[torch.Tensor],
        weights: list[torch.Tensor],
        outputs: list[torch.Tensor],
        gradients: list[torch.Tensor],
    ) -> None:
        for layer, weight in enumerate(weights):
            torch.matmul(values[layer], weight.mT, out=outputs[layer + 1])
            torch.matmul(values[layer + 1].mT, values[layer], out=gradients[layer])
            if layer:
                torch.matmul(values[layer + 1], weight, out=outputs[layer])


def together(connections: list[Connection], what: str, steps: int) -> float:
    """All workers at once; the sum of what they reached."""
    for connection in connections:
        connection.send((what, steps))
    return float(sum(connection.recv() for connection in connections))


def main() -> None:
    """Measure, print the table and the JSON line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=150)
    options = parser.parse_args()
    cores = os.cpu_count() or 1
    context = multiprocessing.get_context("spawn")
    pipes = [context.Pipe() for _ in range(cores)]
    processes = [
        context.Process(target=worker, args=(1000 * number, pipe[1]), daemon=True) for number, pipe in enumerate(pipes)
    ]
    for process in processes:
        process.start()
    connections = [pipe[0] for pipe in pipes]
    size = [connection.recv() for connection in connections].pop()
    ordinary = OrdinaryLoop()
    ordinary.seconds_per_step(20)
    rounds: list[dict[str, float]] = []
    for _ in range(options.rounds):
        found = {
            "ordinary": 1 / ordinary.seconds_per_step(options.steps),
            "matmul": together(connections, "matmul", options.steps),
        }
        found.update({name: together(connections, name, options.steps) for name in DENSITIES})
        rounds.append(found)
    for connection in connections:
        connection.send(None)
    report(rounds, cores, size)


def report(rounds: list[dict[str, float]], cores: int, size: int) -> None:
    """Medians over rounds; ratios are taken within a round first."""

    def median(values: list[float]) -> float:
        return statistics.median(values)

    gigaflops = flops_per_step() / 1e9
    print(
        f"LeNet-300-100, batch {BATCH}, Adam, MNIST; {cores} cores, {size} seeds each; median of {len(rounds)} rounds"
    )
    print(f"{'':24}{'seed-steps/s':>14}{'ms/seed-step':>14}{'GFLOP/s':>10}{'x ordinary':>12}{'of matmul':>11}")
    figures: dict[str, Any] = {}
    for name in ("ordinary", "matmul", *DENSITIES):
        rate = median([found[name] for found in rounds])
        speedup = median([found[name] / found["ordinary"] for found in rounds])
        fraction = median([found[name] / found["matmul"] for found in rounds])
        label = name if name not in DENSITIES else f"engine, {name}"
        print(f"{label:24}{rate:14.0f}{1e3 / rate:14.3f}{rate * gigaflops:10.1f}{speedup:12.2f}{fraction:11.3f}")
        figures[name] = {
            "seed_steps_per_second": round(rate, 1),
            "speedup_vs_dataloader": round(speedup, 2),
            "fraction_of_matmul": round(fraction, 3),
        }
    spread = [found["dense"] / found["ordinary"] for found in rounds]
    print(
        json.dumps(
            {
                "benchmark": "engine",
                "speedup_vs_dataloader": figures["dense"]["speedup_vs_dataloader"],
                "speedup_min_max": [round(min(spread), 2), round(max(spread), 2)],
                "fraction_of_matmul": figures["dense"]["fraction_of_matmul"],
                "by_density": figures,
                "n": len(rounds),
                "cores": cores,
                "seeds_per_core": size,
                "device": f"cpu ({platform.machine()})",
                "torch": str(torch.__version__),
                "code_version": code_version(),
            }
        )
    )


if __name__ == "__main__":
    main()

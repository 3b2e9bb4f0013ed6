"""Flipped bits over all kinds of objects of a store: is each named by `verify`, and is none believed by a reader?

Run: python -m tests.store.flipped_bits [--flips 1000] [--seed 0]. Prints a table: kind, flips, named, believed, unread.
"""

from __future__ import annotations

import argparse
import random
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa

import lth.results
from flows.results import put_report_page, results_of
from lth.data import load_dataset
from lth.errors import LthError
from lth.experiment import load_experiment
from lth.report import report_page
from lth.store import Store, Unit
from lth.store.curated import Curated, compact
from lth.store.verify import verify
from lth.sweep.here import run_here
from lth.sweep.overlap import compare

PART = Unit("ticket", 0, 2, (0, 1))


def make_store(folder: Path) -> tuple[Store, str]:
    """A sweep with one object at least of every kind: two seeds compacted, one that landed since."""
    import torch

    store, experiment = Store(folder), load_experiment("smoke", ["rewinding={kind: step, step: 5it}"])
    run_here(experiment, (0, 1), store, load_dataset("digits"))
    compact(store, units_at_once=4)
    run_here(experiment, (0, 1, 2), store, load_dataset("digits"))
    store.put_analysis("overlap", experiment.id, compare(store, experiment.id, "seeds", None, None))
    store.put_progress(experiment.id, PART, PART, {"weights": torch.arange(12.0)}, "begun")
    claims = store.claims(experiment.id)
    claims._count(0)
    claims.take(PART.name)
    store.put_ticket(b"a ticket that somebody exported")
    results_of(store, experiment.id)
    put_report_page(store, experiment.id)
    return store, experiment.id


def kind_of(key: str) -> str:
    """What a kind of object is called in the table of counts."""
    parts = key.split("/")
    if parts[0] == "curated":
        return "curated log" if "_delta_log" in parts else f"curated {parts[1]}"
    return "sweeps" if "sweeps" in parts[:-1] and parts[0] == "experiments" else parts[0]


def readers(store: Store, identifier: str) -> dict[str, Callable[[], Any]]:
    """Everything that reads a store for somebody, each as rows, texts or tensors that can be compared."""

    def rows(name: str) -> Callable[[], Any]:
        def read() -> Any:
            results = lth.results.open(store.url, identifier)
            table: pa.Table = getattr(results, name)
            order = [(column, "ascending") for column in table.column_names[:6]]
            return table.sort_by(order).to_pylist(), sorted(results.damaged)

        return read

    def query() -> Any:
        results = lth.results.open(store.url, identifier)
        found = results.query(
            "SELECT l.arm, l.level, l.seed, l.test_loss, max(m.loss), sum(k.remaining), min(k.sha256)"
            " FROM levels l JOIN metrics m USING (arm, draw, level, seed) JOIN masks k USING (arm, draw, level, seed)"
            " GROUP BY ALL ORDER BY ALL"
        )
        return found.to_pylist(), sorted(results.damaged)

    def report() -> Any:
        results = lth.results.open(store.url, identifier)
        return report_page(results, identifier, store.describe(identifier), results.verdicts), sorted(results.damaged)

    def checkpoints() -> Any:
        found = {}
        for key in sorted(store.objects.sizes("checkpoints")):
            name = key.rpartition("/")[2].removesuffix(".safetensors")
            tensors = store.read_checkpoint(identifier, name)
            found[name] = {tensor: values.tolist() for tensor, values in tensors.items()}
        return found, []

    def progress() -> Any:
        state = store.read_progress(identifier, PART, PART, "begun")
        return None if state is None else {name: value.tolist() for name, value in state.items()}, []

    def ticket() -> Any:
        [key] = store.objects.sizes("tickets")
        return store.read_ticket(key.split("/")[1].removesuffix(".safetensors")), []

    return {
        **{name: rows(name) for name in ("levels", "metrics", "masks", "overlap", "layers", "verdicts")},
        "query": query,
        "report": report,
        "describe": lambda: (store.describe(identifier), []),
        "sweeps": lambda: (store.sweeps(identifier), []),
        "checkpoints": checkpoints,
        "progress": progress,
        "ticket": ticket,
        "curated": lambda: (Curated(store).read("levels", [identifier]).sort_by("seed").to_pylist(), ["curated"]),
    }


READ_BY = {
    "levels": ("levels", "metrics", "masks", "verdicts", "query"),
    "metrics": ("metrics", "query"),
    "masks": ("masks", "query"),
    "overlap": ("overlap",),
    "layers": ("layers",),
    "checkpoints": ("checkpoints",),
    "progress": ("progress",),
    "tickets": ("ticket",),
    "experiments": ("describe", "verdicts"),
    "sweeps": ("sweeps",),
    "curated levels": ("levels", "metrics", "masks", "verdicts", "query"),
    "curated metrics": ("metrics", "query"),
    "curated masks": ("masks", "query"),
    "curated published": ("levels", "metrics", "masks", "query"),
    "curated log": ("levels", "metrics", "query"),
    "curated logs": ("levels", "query"),
    "claims": (),
    "reports": (),
}
"""Which readers look at a kind of object. A report page is read by nobody of ours, a claim decides no result."""


def flip(path: Path, bit: int) -> None:
    content = bytearray(path.read_bytes())
    content[bit // 8] ^= 1 << bit % 8
    path.write_bytes(content)


def try_flips(flips: int, seed: int, folder: Path) -> dict[str, Counter[str]]:
    """Flip so many bits, one at a time, spread evenly over the kinds; what came of them by kind: `flips`, `named` by
    verify, `believed` by a reader (wrong rows, or rows lost with no object named), `right` (from elsewhere), `refused`.
    """
    generator = random.Random(seed)
    store, identifier = make_store(folder)
    root = Path(store.objects.location.root)
    right = {name: read() for name, read in readers(store, identifier).items()}
    keys: dict[str, list[str]] = {}
    for path in sorted(path for path in root.rglob("*") if path.is_file()):
        keys.setdefault(kind_of(str(path.relative_to(root))), []).append(str(path.relative_to(root)))
    assert set(keys) == set(READ_BY), set(keys) ^ set(READ_BY)
    found: dict[str, Counter[str]] = {kind: Counter() for kind in sorted(keys)}
    for number in range(flips):
        kind = sorted(keys)[number % len(keys)]
        key = generator.choice(keys[kind])
        path = root / key
        whole = path.read_bytes()
        bit = generator.randrange(8 * len(whole))
        flip(path, bit)
        count = found[kind]
        count["flips"] += 1
        named = [each.key for each in verify(store).findings if each.trouble not in ("extra",)]
        if key in named:
            count["named"] += 1
        else:
            print(f"NOT NAMED: {key} bit {bit}")
        asked = readers(store, identifier)
        for name in READ_BY[kind]:
            try:
                rows, damaged = asked[name]()
            except LthError as error:
                count["refused"] += 1
                if key.rpartition("/")[2].split(".")[0] not in str(error):
                    count["unnamed"] += 1
                    print(f"NOT NAMED BY {name}: {key} bit {bit}: {error}")
                continue
            if rows == right[name][0]:
                count["right"] += 1
            elif any(key.rpartition("/")[2].split(".")[0] in each for each in damaged) or (
                name == "progress" and rows is None
            ):
                count["left out"] += 1  # rows that are named are missing; those that are there must be right
                if (
                    isinstance(rows, list)
                    and name not in ("query", "verdicts")
                    and not all(row in right[name][0] for row in rows)
                ):
                    count["believed"] += 1
                    print(f"BELIEVED by {name}: {key} bit {bit}")
            else:
                count["believed"] += 1
                print(f"BELIEVED by {name}: {key} bit {bit}")
        path.write_bytes(whole)
    return found


def main() -> None:
    """Flip, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--flips", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = try_flips(options.flips, options.seed, Path(folder))
    columns = ("flips", "named", "believed", "unnamed", "right", "left out", "refused")
    print(f"{'kind':20}" + "".join(f"{column:>10}" for column in columns))
    for kind, count in {**found, "all": sum(found.values(), Counter())}.items():
        print(f"{kind:20}" + "".join(f"{count[column]:10}" for column in columns))


if __name__ == "__main__":
    main()

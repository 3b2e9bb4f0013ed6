"""Claims about pruning at initialisation, judged on final test accuracies, paired by seed."""

from __future__ import annotations

from collections.abc import Mapping

import pyarrow as pa
from lenet_claims import Claim

from lth.analysis import mean_interval
from lth.analysis.summary import seed_means

AT = {"10%": {"synflow": 1, "snip": 1, "magnitude": 1}, "1%": {"synflow": 2, "snip": 1, "random": 1}}
"""At which level each criterion's experiment has a density."""

Tables = Mapping[str, Mapping[str, pa.Table]]


def snip_claims(levels: pa.Table) -> list[Claim]:
    """SNIP on LeNet-300-100 and MNIST (Lee et al. 2019): 1.7% of errors dense, 1.6% at 95%, 2.4% at 98% sparsity."""
    dense, at_95, at_98 = (_finals(levels, "ticket", level) for level in (0, 1, 2))
    error = mean_interval([100 * (1 - value) for value in at_98.values()])
    return [
        _less_than("SNIP error - dense error at 95% sparsity", dense, at_95, 0.3, "1.6 - 1.7 = -0.1 pp"),
        Claim(
            "at init",
            "SNIP error at 98% sparsity",
            f"{error.mean:.2f}% [{error.low:.2f}, {error.high:.2f}]",
            "2.4 ± 0.4%",
            abs(error.mean - 2.4) <= 0.4,
            "2.4%",
        ),
    ]


def small_vgg_claims(tables: Tables) -> list[Claim]:
    """The order of criteria at 1% (Tanaka et al. 2020), and what shuffled masks do at 10% (Frankle et al. 2021)."""
    one = {name: _finals(tables["1%"][name], "ticket", level) for name, level in AT["1%"].items()}
    claims = [
        _more_than("SynFlow - SNIP at density 1%", one["synflow"], one["snip"], 0.0, False, "90.08 - 89.15 (VGG-16)"),
        _more_than("SNIP - random at density 1%", one["snip"], one["random"], 0.0, True, "89.15 - 79.14 (VGG-16)"),
    ]
    ticket, moved = (
        {name: _finals(tables["10%"][name], arm, level) for name, level in AT["10%"].items()}
        for arm in ("ticket", "shuffled_mask")
    )
    claims.append(
        _more_than(
            "magnitude after training: ticket - shuffled mask at density 10%",
            ticket["magnitude"],
            moved["magnitude"],
            0.0,
            True,
            "hurts",
        )
    )
    for name, label in (("snip", "SNIP"), ("synflow", "SynFlow")):
        claims.append(
            _less_than(
                f"{label}: ticket - shuffled mask at density 10%", ticket[name], moved[name], 1.0, "keeps or improves"
            )
        )
    return claims


def _finals(levels: pa.Table, arm: str, level: int) -> dict[int, float]:
    return {
        row["seed"]: row["test_accuracy"]
        for row in seed_means(levels, ["test_accuracy"]).to_pylist()
        if row["arm"] == arm and row["level"] == level
    }


def _difference(one: Mapping[int, float], other: Mapping[int, float]) -> tuple[float, str]:
    interval = mean_interval([100 * (one[seed] - other[seed]) for seed in sorted(one.keys() & other.keys())])
    return interval.mean, f"{interval.mean:+.2f} pp [{interval.low:+.2f}, {interval.high:+.2f}]"


def _more_than(
    text: str, one: Mapping[int, float], other: Mapping[int, float], bound: float, strict: bool, published: str
) -> Claim:
    mean, found = _difference(one, other)
    return Claim(
        "at init",
        text,
        found,
        f"{'>' if strict else '>='} {bound:+g} pp",
        mean > bound if strict else mean >= bound,
        published,
    )


def _less_than(text: str, one: Mapping[int, float], other: Mapping[int, float], bound: float, published: str) -> Claim:
    mean, found = _difference(one, other)
    return Claim("at init", text, found, f"<= {bound:+g} pp", mean <= bound, published)

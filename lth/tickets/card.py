"""The model card: what a ticket is, where it came from, what it scores, and how it is used."""

from __future__ import annotations

from collections.abc import Mapping

from lth.objectives import SCORES
from lth.tickets.portable import Card


def model_card(card: Card, files: Mapping[str, str]) -> str:
    """Markdown. `files`: what lies beside it, with a word on each."""
    score = SCORES[card.score]
    what = "dense network" if card.level == 0 and card.arm == "ticket" else f"{card.arm} of level {card.level}"
    when = "early stop" if card.weights == "early_stop" else "the end of its training"
    dense = (
        ""
        if card.dense_test_score is None or card.level == 0
        else (f" The dense network of the same seed: {score.written(card.dense_test_score)}.")
    )
    examples = "images" if card.data_kind == "images" else "rows"
    lines = [
        f"# {card.experiment_id}: {what}, seed {card.seed}",
        "",
        f"A `{card.model}` for `{card.dataset}` with {card.weights_remaining:,} of {card.weights_total:,} prunable "
        f"weights ({100 * card.density:.3g}%){f', chosen by `{card.criterion}`' if card.criterion else ''}.",
        "",
        f"Test {score.label} at {when} (step {card.step:,}): **{score.written(card.test_score)}** of "
        f"{card.test_examples:,} {examples}; measured again when it was taken out: "
        f"{score.written(card.test_score_here)}.{dense}",
        "",
        "| file | what it is |",
        "|---|---|",
        *(f"| `{name}` | {about} |" for name, about in files.items()),
        "",
        f"{_takes(card)}, and {_gives(card)}.",
        *_columns(card),
        "",
        "## Where it came from",
        "",
        "| | |",
        "|---|---|",
        f"| experiment | `{card.experiment_id}` |",
        f"| arm, draw, level, seed | {card.arm}, {card.draw}, {card.level}, {card.seed} |",
        f"| data, SHA-256 | {card.dataset}, `{card.data_sha256}` |",
        f"| first trained with | lth {card.code_version} on {card.device} |",
        f"| model arguments | `{card.model_arguments}` |",
        "",
        "It was trained for research on sparse networks and not examined for anything else: no use that matters to a "
        "person is intended.",
        "",
    ]
    return "\n".join(lines)


def _takes(card: Card) -> str:
    shape = ", ".join(map(str, card.raw_shape))
    if card.data_kind == "images":
        return (
            f"Networks take raw pixels, float32 [batch, {shape}], as {card.dataset} has them (bytes); only "
            "`load_ticket(...).module(...)` takes them standardised"
        )
    return (
        f"Networks take raw rows, float32 [batch, {shape}]: the columns below in this order, NaN where a value is "
        "missing, -1 for a category that is not listed"
    )


def _gives(card: Card) -> str:
    if card.target_kind == "number":
        return "give a number in the units of the target"
    return f"give the logits of {card.classes} classes"


def _columns(card: Card) -> list[str]:
    """Of a table, its columns, and the numbers that stand for categories."""
    if not card.columns:
        return []
    lines = ["", "| | column | values |", "|---|---|---|"]
    for position, column in enumerate(card.columns):
        values = (
            "number"
            if column.categories is None
            else ", ".join(f"{code}: {name}" for code, name in enumerate(column.categories))
        )
        lines.append(f"| {position} | {column.name} | {values} |")
    return lines

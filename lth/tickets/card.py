"""The model card: what a ticket is, where it came from, what it scores, and how it is used."""

from __future__ import annotations

from collections.abc import Mapping

from lth.tickets.portable import Card


def model_card(card: Card, files: Mapping[str, str]) -> str:
    """Markdown. `files`: what lies beside it, with a word on each."""
    shape = ", ".join(map(str, card.input_shape))
    what = "dense network" if card.level == 0 and card.arm == "ticket" else f"{card.arm} of level {card.level}"
    when = "early stop" if card.weights == "early_stop" else "the end of its training"
    dense = (
        ""
        if card.dense_test_accuracy is None or card.level == 0
        else (f" The dense network of the same seed: {100 * card.dense_test_accuracy:.2f}%.")
    )
    lines = [
        f"# {card.experiment_id}: {what}, seed {card.seed}",
        "",
        f"A `{card.model}` for `{card.dataset}` with {card.weights_remaining:,} of {card.weights_total:,} prunable "
        f"weights ({100 * card.density:.3g}%){f', chosen by `{card.criterion}`' if card.criterion else ''}.",
        "",
        f"Test accuracy at {when} (step {card.step:,}): **{100 * card.test_accuracy:.2f}%** of {card.test_examples:,} "
        f"images; measured again when it was taken out: {100 * card.test_accuracy_here:.2f}%.{dense}",
        "",
        "| file | what it is |",
        "|---|---|",
        *(f"| `{name}` | {about} |" for name, about in files.items()),
        "",
        f"Networks take raw pixels, float32 [batch, {shape}] from 0 to 255, and give the logits of {card.classes} "
        "classes.",
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

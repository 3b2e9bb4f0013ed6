from __future__ import annotations

import io
import re

import pyarrow as pa
import pytest
from rich.console import Console

from lth.analysis import summarise
from lth.errors import LthError
from lth.report import markdown_table, summary_table

# Half the interval of five seeds is 0.20 points, see conftest.
PLAIN = {"ticket": [0.975, 0.98124], "reinit": [None, 0.974], "random_mask": [None, 0.11]}
FOUR = PLAIN | {"sign_preserving_reinit": [None, 0.9751]}


def text(summary: pa.Table, *, terminal: bool = False, width: int = 80) -> str:
    stream = io.StringIO()
    Console(file=stream, width=width, force_terminal=terminal, color_system="standard" if terminal else None).print(
        summary_table(summary)
    )
    return stream.getvalue()


def test_cells_rows_and_caption(sweep) -> None:
    lines = text(summarise(sweep(PLAIN))).splitlines()
    start = next(place for place, line in enumerate(lines) if "100%" in line)
    assert lines[0].strip() == "toy-0123456789"
    assert [line.split() for line in lines[start : start + 4]] == [
        ["0", "100%", "97.50", "±0.20"],
        ["266,200", "@5,000"],
        ["1", "80%", "98.12", "±0.20*", "11.00", "±0.20", "97.40", "±0.20"],
        ["212,960", "@4,900", "@4,900", "@4,900"],
    ]
    caption = " ".join(" ".join(lines[start + 4 :]).split())
    assert caption == (
        "Test accuracy at early stop in %: mean ± half the 95% t interval over n = 5 seeds. "
        "@: mean early-stop step. *: best mean of the level. Level 0: the dense network."
    )


def test_best_of_a_level_is_bold_in_a_terminal_and_a_lone_dense_row_is_not(sweep) -> None:
    out = text(summarise(sweep(PLAIN)), terminal=True)
    bold = re.findall(r"\x1b\[1m([^\x1b]*±[^\x1b]*)\x1b", out)
    assert [cell.strip() for cell in bold] == ["98.12 ±0.20*"]


def test_equal_best_means_are_both_marked(sweep) -> None:
    assert text(summarise(sweep({"ticket": [0.9, 0.95], "reinit": [None, 0.95]}))).count("±0.20*") == 2


def test_four_arms_fit_eighty_columns_whole(sweep) -> None:
    wide = sweep(FOUR, offsets=(-0.05, 0.05, 0.0), diverged=[("reinit", 1, 0)])
    out = text(summarise(wide))
    assert max(map(len, out.splitlines())) <= 80 and "…" not in out and "\x1b" not in out
    assert "sign_" in out and "preserving_" in out
    assert re.search(r"97\.50 ±12\.42", out)  # sd 0.05, t(2, 0.975) = 4.303, 4.303 * 0.05 / sqrt(3) = 0.12422


def test_n_stands_in_each_cell_where_it_differs_and_diverged_are_told(sweep) -> None:
    diverged = [("reinit", 1, 0), *(("random_mask", 1, seed) for seed in range(5))]
    out = text(summarise(sweep(PLAIN, diverged=diverged)))
    assert "@4,900 n=4" in out and "@4,900 n=5" in out and "@5,000 n=5" in out
    assert re.search(r"\bdiverged\b.*97\.45", out) and "n=0" in out  # reinit without seed 0: 97.4 + 0.05
    assert "Diverged and left out: 6 trainings." in " ".join(out.split())


def test_one_seed_shows_no_interval(sweep) -> None:
    out = text(summarise(sweep(PLAIN, offsets=[0.0])))
    assert "±" not in out and "98.12*" in out and "one seed, no interval" in " ".join(out.split())


def test_the_caption_names_another_confidence(sweep) -> None:
    assert "half the 90% t interval" in " ".join(text(summarise(sweep(PLAIN), confidence=0.9)).split())


def test_markdown_has_the_same_content(sweep) -> None:
    lines = markdown_table(summarise(sweep(PLAIN))).splitlines()
    assert lines[:6] == [
        "### toy-0123456789",
        "",
        "| level | density | weights | ticket | random_mask | reinit |",
        "| ---: | ---: | ---: | ---: | ---: | ---: |",
        "| 0 | 100% | 266,200 | 97.50 ±0.20<br>@5,000 |  |  |",
        "| 1 | 80% | 212,960 | **98.12 ±0.20**\\*<br>@4,900 | 11.00 ±0.20<br>@4,900 | 97.40 ±0.20<br>@4,900 |",
    ]
    assert lines[7].startswith("Test accuracy at early stop in %: mean ± half the 95% t interval over n = 5 seeds.")


def test_several_experiments_are_refused(sweep) -> None:
    both = pa.concat_tables([sweep(PLAIN), sweep(PLAIN, experiment="other-9876543210")])
    for show in (summary_table, markdown_table):
        with pytest.raises(LthError, match="2 experiments"):
            show(summarise(both))

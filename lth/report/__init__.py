"""What a person looks at: figures and tables of a sweep."""

from lth.report.caveats import caveats, recorded_caveats
from lth.report.comparison import comparison_figure, comparison_table
from lth.report.figures import early_stop_figure, save_figure, save_png, score_figure
from lth.report.page import figures_of, report_page
from lth.report.style import arm_styles
from lth.report.tables import markdown_table, summary_table
from lth.report.verdict_texts import claim, verdict_markdown, verdict_table

__all__ = [
    "arm_styles",
    "caveats",
    "claim",
    "comparison_figure",
    "comparison_table",
    "early_stop_figure",
    "figures_of",
    "markdown_table",
    "recorded_caveats",
    "report_page",
    "save_figure",
    "save_png",
    "score_figure",
    "summary_table",
    "verdict_markdown",
    "verdict_table",
]

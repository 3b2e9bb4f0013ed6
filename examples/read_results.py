"""Read what a store holds with pandas and with DuckDB.

python examples/read_results.py [FOLDER]
"""

import sys
import tempfile
from pathlib import Path

import lth
import lth.results


def main(folder: Path) -> None:
    """Run a small sweep, so that there is something to read; then open the store as anybody could."""
    lth.run("smoke", seeds="0-2", store=folder / "store", progress=False)
    results = lth.results.open(folder / "store")  # or "s3://bucket/prefix"

    print("pandas: a row of `levels` is a training")
    levels = results.pandas("levels")
    print(levels.groupby(["level", "arm"])["test_accuracy_at_early_stop"].agg(["count", "mean", "std"]).round(4))

    print("\nDuckDB: the validation curve of dense networks and of tickets")
    curve = results.query(
        """
        SELECT level, step, count(*) AS seeds, round(avg(loss), 3) AS loss
        FROM metrics WHERE arm = 'ticket' AND split = 'val' GROUP BY ALL ORDER BY ALL
        """
    )
    print(curve.to_pandas().pivot(index="step", columns="level", values="loss"))

    print("\nDuckDB, on a connection of your own: every table is a view")
    connection = results.duckdb()
    (masks,) = connection.sql("SELECT count(DISTINCT mask_sha256) FROM levels WHERE arm = 'ticket'").fetchall()[0]
    print(f"{masks} different masks of tickets, the full one among them")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp()))

"""A sweep as in a notebook: run it, look at its summary, ask what it proves.

python examples/notebook_sweep.py [FOLDER]
"""

import sys
import tempfile
from pathlib import Path

import lth


def main(folder: Path) -> None:
    """Run five seeds of a small sweep; what FOLDER holds already is not run again."""
    results = lth.run("smoke", seeds=range(5), store=folder / "store", progress=False)
    print(results)  # in a notebook the last line of a cell, `results`, shows the same

    print("\nMean test accuracy at early stop, by level and arm:")
    summary = results.summary.to_pandas()
    print(summary.pivot(index="level", columns="arm", values="test_score_at_early_stop_mean").round(4))

    print("\nThe ticket against the dense network:")
    verdicts = results.pandas("verdicts").query("arm == 'ticket' and against_level == 0")
    print(verdicts[["level", "density", "n", "difference", "low", "high", "verdict"]].round(3).to_string(index=False))


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp()))

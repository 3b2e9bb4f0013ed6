"""Whether all units of an experiment were computed with the same code, versions and instructions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

import pyarrow as pa

from lth.errors import DamagedObject
from lth.store.findings import Finding
from lth.store.origin_columns import NAMES
from lth.store.store import Store
from lth.store.unit import pins_folder


def pins_findings(store: Store, experiment_id: str, computed: Sequence[pa.Table]) -> Iterator[Finding]:
    """What decides results must be one thing for all units of an experiment."""
    where = pins_folder(experiment_id)
    said: dict[str, set[str]] = {}
    try:
        for record in store.pins(experiment_id):
            for name, value in {**record, **record["sources"]}.items():
                if isinstance(value, str):
                    said.setdefault(name, set()).add(value)
    except DamagedObject as error:
        yield Finding("damaged", error.key or where, str(error))
    for name, values in sorted(said.items()):
        if len(values) > 1:
            yield Finding("contradictory", where, f"sweeps began with different {name}: {', '.join(sorted(values))}")
    for name in NAMES:
        counts: Counter[str] = Counter()
        for table in computed:
            for value, device in zip(table[name].to_pylist(), table["device"].to_pylist(), strict=True):
                if value is not None and (name != "instructions" or device.startswith("cpu")):
                    counts[value.partition("+")[0]] += 1
        if len(counts) > 1:
            kinds = ", ".join(f"{value} ({count:,} trainings)" for value, count in counts.most_common())
            yield Finding(
                "contradictory", f"levels/experiment={experiment_id}", f"computed with different {name}: {kinds}"
            )

"""What a store holds of an experiment, to be compared with what another holds."""

from __future__ import annotations

from lth.experiment import Experiment
from lth.store import Store, content_hash, result_columns


def tables_of(store: Store, experiment: Experiment) -> dict[str, str]:
    """The content of a store's tables, without what may differ from run to run. Nothing in it may be damaged."""
    found = store.committed(experiment.id)
    assert not found.damaged
    hashes = {"levels": content_hash(found.rows, result_columns("levels", found.rows))}
    for kind in ("metrics", "masks"):
        table, damaged = store.read_table(found, kind)
        assert not damaged
        hashes[kind] = content_hash(table, result_columns(kind, table))
    return hashes

"""Open a store's tables: Arrow, and SQL through DuckDB.

    results = lth.results.open("s3://bucket/prefix")
    results.levels.to_pandas()
    results.query("SELECT arm, level, avg(test_accuracy) FROM levels GROUP BY ALL ORDER BY ALL")
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

import pyarrow as pa

from lth.errors import LthError, StoreError
from lth.store.location import redact
from lth.store.objects import READING
from lth.store.reading import Committed
from lth.store.schemas import ANALYSIS_SCHEMAS, LEVELS, SCHEMAS
from lth.store.store import Store

if TYPE_CHECKING:
    import duckdb


TABLES = (*SCHEMAS, "verdicts")
"""What a query can name."""
DEFAULT_MARGIN = 0.005


def tables() -> dict[str, pa.Schema]:
    """Every table that a query can name, with the columns, types and meaning of each."""
    from lth.analysis.verdicts import VERDICTS

    return {**SCHEMAS, "verdicts": VERDICTS}


class InvalidQuery(LthError):
    """SQL that DuckDB cannot run on these tables."""


def open(store_url: str | os.PathLike[str], experiment: str | None = None) -> Results:
    """The results in a store: of one experiment, by its id, or of all. Reads the `levels` objects.

    Raises StoreError if the store cannot be read, or has no such experiment.
    """
    store = Store(store_url, READING)
    location = store.objects.location
    if location.protocol == "file" and not os.path.isdir(location.root):
        raise StoreError(f"there is no store at {store.url}; check the directory, or run an experiment into it first")
    known = store.experiments()
    if experiment is not None and experiment not in known:
        raise StoreError(f"store {store.url} has no experiment {experiment!r}; it has {', '.join(known) or 'none'}")
    chosen = known if experiment is None else [experiment]
    return Results(store, {experiment_id: store.committed(experiment_id) for experiment_id in chosen})


class Results:
    """The committed units of some experiments as three Arrow tables, each (arm, draw, level, seed) counted once.

    `levels` is in memory; `metrics` and `masks` are read when they are first asked for.
    """

    def __init__(self, store: Store, committed: Mapping[str, Committed]) -> None:
        self._store = store
        self._committed = dict(committed)
        self._levels = pa.concat_tables([LEVELS.empty_table(), *(found.rows for found in self._committed.values())])
        self._loaded: dict[str, pa.Table] = {"levels": self._levels}
        self._damaged = {key: why for found in self._committed.values() for key, why in found.damaged.items()}

    @property
    def experiments(self) -> list[str]:
        """The ids of the experiments."""
        return list(self._committed)

    @property
    def levels(self) -> pa.Table:
        """One row per experiment, arm, draw, level and seed; columns as in `lth.store.LEVELS`."""
        return self._levels

    @property
    def metrics(self) -> pa.Table:
        """One row per experiment, arm, draw, level, seed, step and split; columns as in `lth.store.METRICS`."""
        return self._table("metrics")

    @property
    def masks(self) -> pa.Table:
        """One row per experiment, arm, draw, level, seed and tensor; columns as in `lth.store.MASKS`."""
        return self._table("masks")

    @property
    def layers(self) -> pa.Table:
        """One row per experiment, arm, draw, level, seed and tensor: densities, dead units, effective weights."""
        return self._table("layers")

    @property
    def overlap(self) -> pa.Table:
        """Pairs of masks and how much they share, as `lth overlap` has computed them."""
        return self._table("overlap")

    @property
    def connectivity(self) -> pa.Table:
        """Pairs of copies and the barrier between them, as `lth connectivity` has computed them."""
        return self._table("connectivity")

    @property
    def verdicts(self) -> pa.Table:
        """Every arm and level against the dense network and the other arms; columns as in `lth.analysis.VERDICTS`.

        The margin is the one that an experiment declared when it first ran; without any it is
        0.005, post hoc.
        """
        return self._table("verdicts")

    @property
    def damaged(self) -> dict[str, str]:
        """Key -> what is wrong with it, for every object left out so far: damage inside metrics and masks shows only
        when they are read."""
        return dict(self._damaged)

    def query(self, sql: str) -> pa.Table:
        """The rows of a SQL query (DuckDB) over the tables: `levels`, `metrics`, `masks`, `layers`, `overlap`,
        `connectivity`, `verdicts`.

        Only tables that the SQL names are read. It sees nothing else: no files, no network, no Python variables.
        Raises InvalidQuery with DuckDB's own words.
        """
        import duckdb

        with duckdb.connect(":memory:") as connection:
            for name in TABLES:
                if name == "levels" or re.search(rf"\b{name}\b", sql, re.IGNORECASE):
                    connection.register(name, self._table(name))
            # In this order: once the configuration is locked, the SQL cannot take any of it back.
            connection.execute("SET python_enable_replacements = false")
            connection.execute("SET enable_external_access = false")
            connection.execute("SET lock_configuration = true")
            try:
                relation = connection.sql(sql)
                if relation is None:
                    raise InvalidQuery("the SQL returns no rows; write a SELECT, e.g. SELECT * FROM levels")
                return relation.to_arrow_table()
            except duckdb.Error as error:
                raise InvalidQuery(_explain(error)) from error

    def _table(self, name: str) -> pa.Table:
        if name == "verdicts" and name not in self._loaded:
            judged = [judge(self._store, experiment_id, found.rows) for experiment_id, found in self._committed.items()]
            self._loaded[name] = pa.concat_tables([tables()[name].empty_table(), *judged])
        if name not in self._loaded:
            parts = [SCHEMAS[name].empty_table()]
            for experiment_id, found in self._committed.items():
                if name in ANALYSIS_SCHEMAS:
                    table, damaged = self._store.read_analysis(name, experiment_id)
                else:
                    table, damaged = self._store.read_table(found, name)
                parts.append(table)
                self._damaged.update(damaged)
            self._loaded[name] = pa.concat_tables(parts)
        return self._loaded[name]


def judge(store: Store, experiment_id: str, levels: pa.Table) -> pa.Table:
    """`verdicts` of rows of `levels` of one experiment, at the margin that it declared when it first ran; where nothing
    says so, at 0.005, post hoc."""
    from lth.analysis.verdicts import VERDICTS, verdicts

    if not levels.num_rows:
        return VERDICTS.empty_table()
    margin = store.describe(experiment_id).get("margin")
    if not isinstance(margin, float):
        return verdicts(levels, DEFAULT_MARGIN, declared=False)
    return verdicts(levels, margin)


def _explain(error: duckdb.Error) -> str:
    """The first lines of DuckDB's message, and the names there are where it did not find one."""
    import duckdb

    said = [line for line in redact(str(error)).splitlines() if line.strip()]
    message = "\n".join(["the SQL cannot be run:", *said[:5]])
    if isinstance(error, (duckdb.CatalogException, duckdb.BinderException)):
        names = [f"  {name}: {', '.join(schema.names)}" for name, schema in tables().items()]
        message += "\nthe tables and their columns are\n" + "\n".join(names)
    return message

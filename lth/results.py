"""Open a store's tables: as Arrow, pandas or Polars, and in SQL through DuckDB.

results = lth.results.open("s3://bucket/prefix")
results.pandas("levels")
results.query("SELECT arm, level, avg(test_accuracy) FROM levels GROUP BY ALL ORDER BY ALL")
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

import pyarrow as pa
import pyarrow.compute as pc

from lth.errors import DamagedObject, LthError, StoreError
from lth.query_types import as_arrow
from lth.store.curated import Curated
from lth.store.location import redact
from lth.store.objects import READING
from lth.store.schemas import ANALYSIS_SCHEMAS, ROW_KEYS, SCHEMAS, UNIT_SCHEMAS
from lth.store.score_columns import columns_in_sql
from lth.store.store import Store

if TYPE_CHECKING:
    import duckdb
    import pandas
    import polars
    from duckdb import DuckDBPyConnection


TABLES = (*SCHEMAS, "verdicts")
"""What a query can name."""
DEFAULT_MARGIN = 0.005
_ABOUT_TABLES = re.compile(r"\b(show|describe|summarize|pragma\w*|information_schema|duckdb_\w+)\b", re.IGNORECASE)
"""SQL that asks which tables there are, beside those that it names."""


def tables() -> dict[str, pa.Schema]:
    """Every table that a query can name, with the columns, types and meaning of each."""
    from lth.analysis.verdicts import VERDICTS

    return {**SCHEMAS, "verdicts": VERDICTS}


class InvalidQuery(LthError):
    """SQL that DuckDB cannot run on these tables."""


def open(store_url: str | os.PathLike[str], experiment: str | None = None) -> Results:
    """The results in a store: of one experiment, by its id, or of all.

    Raises StoreError if the store cannot be read, or has no such experiment.
    """
    store = Store(store_url, READING)
    location = store.objects.location
    if location.protocol == "file" and not os.path.isdir(location.root):
        where = "check the directory, or run an experiment into it first"
        if re.fullmatch(r".+-[0-9a-f]{10}", os.path.basename(location.root)):
            where = "that looks like an experiment's id, and --store is where experiments lie"
        raise StoreError(f"there is no store at {store.url}; {where}")
    known = store.experiments()
    if experiment is not None and experiment not in known:
        raise StoreError(f"store {store.url} has no experiment {experiment!r}; it has {', '.join(known) or 'none'}")
    chosen = known if experiment is None else [experiment]
    return Results(store, chosen)


class Results:
    """The committed trainings of some experiments as tables, each (arm, draw, level, seed) counted once.

    Rows come from the curated tables, and from the objects of units that are not compacted yet. Only those units'
    `levels` are read at once; everything else when it is first asked for. A query scans the curated tables where they
    lie, an attribute such as `metrics` loads the whole table.
    """

    def __init__(self, store: Store, experiments: Sequence[str]) -> None:
        self._store = store
        self._experiments = list(experiments)
        self._curated = Curated(store)
        self._landed = {experiment_id: self._curated.landed(experiment_id) for experiment_id in self._experiments}
        self._landed_tables: dict[str, pa.Table] = {}
        self._loaded: dict[str, pa.Table] = {}
        self._damaged = {key: why for landed in self._landed.values() for key, why in landed.damaged.items()}

    def __repr__(self) -> str:
        return f"<results of {', '.join(self._experiments) or 'nothing'} in {self._store.url}>"

    @property
    def experiments(self) -> list[str]:
        """The ids of the experiments."""
        return list(self._experiments)

    @property
    def levels(self) -> pa.Table:
        """One row per experiment, arm, draw, level and seed; columns as in `lth.store.LEVELS`."""
        return self._table("levels")

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
        """Key -> what is wrong with it, for every damaged object met so far: damage inside metrics and masks shows only
        when they are read. Rows of units are left out; those of curated files are read from where they landed."""
        return {**self._curated.damaged, **self._damaged}

    def query(self, sql: str) -> pa.Table:
        """The rows of a SQL query (DuckDB) over the tables: `levels`, `metrics`, `masks`, `layers`, `overlap`,
        `connectivity`, `verdicts`.

        Only tables that the SQL names are read. It sees nothing else: no files, no network, no Python variables.
        A column that has the name of one before it gets a number (`n`, `n_1`), and what Arrow cannot hold is text (see
        `lth.query_types`). Raises InvalidQuery, of two lines, with DuckDB's own words and the nearest name.
        """
        import duckdb

        with duckdb.connect(":memory:") as connection:
            named = [name for name in TABLES if re.search(rf"\b{name}\b", sql, re.IGNORECASE)]
            self._show(connection, named)
            if _ABOUT_TABLES.search(sql):
                for name in set(TABLES).difference(named):
                    connection.register(name, tables()[name].empty_table())
            # In this order: once the configuration is locked, the SQL cannot take any of it back.
            connection.execute("SET python_enable_replacements = false")
            connection.execute("SET enable_external_access = false")
            connection.execute("SET lock_configuration = true")
            try:
                relation = connection.sql(sql)
                if relation is None:
                    raise InvalidQuery("the SQL returns no rows; write a SELECT, e.g. SELECT * FROM levels")
                return as_arrow(relation)
            except duckdb.Error as error:
                raise InvalidQuery(_explain(error, named)) from error

    def duckdb(self) -> DuckDBPyConnection:
        """A DuckDB connection that has every table as a view, for SQL of your own that may also see files and
        variables. Close it when you are done."""
        import duckdb

        connection = duckdb.connect(":memory:")
        self._show(connection, TABLES)
        return connection

    def pandas(self, table: str) -> pandas.DataFrame:
        """A table by its name as a pandas data frame."""
        return self._named(table).to_pandas()

    def polars(self, table: str) -> polars.DataFrame:
        """A table by its name as a Polars data frame; needs polars (`pip install lth[polars]`)."""
        try:
            import polars
        except ImportError:
            raise LthError("Polars is not installed; pip install 'lth[polars]', or take .pandas(...)") from None
        return cast("polars.DataFrame", polars.from_arrow(self._named(table)))

    def _named(self, table: str) -> pa.Table:
        if table not in TABLES:
            raise LthError(f"there is no table {table!r}; there is {', '.join(TABLES)}")
        return self._table(table)

    def _show(self, connection: DuckDBPyConnection, names: Sequence[str]) -> None:
        """Make tables known to a connection; those that are curated are scanned when they are queried."""
        connection.execute("SET enable_progress_bar = false")  # it would be printed into what a command writes
        for name in names:
            if name not in UNIT_SCHEMAS or name in self._loaded or self._curated.empty:
                connection.register(name, self._table(name))
                continue
            dataset = self._curated.dataset(name, self._experiments)
            connection.register(f"curated_{name}", dataset)
            connection.register(f"landed_{name}", self._landed_table(name))
            columns = columns_in_sql(UNIT_SCHEMAS[name].names, dataset.schema.names)
            ours = ", ".join(f"'{experiment_id}'" for experiment_id in self._experiments) or "NULL"
            connection.execute(
                f"CREATE VIEW {name} AS SELECT {columns} FROM curated_{name} WHERE experiment_id IN ({ours}) "
                f"UNION ALL BY NAME SELECT * FROM landed_{name}"
            )

    def _table(self, name: str) -> pa.Table:
        if name not in self._loaded:
            self._loaded[name] = self._read(name)
        return self._loaded[name]

    def _read(self, name: str) -> pa.Table:
        if name == "verdicts":
            levels = self.levels
            judged = [
                judge(self._store, experiment_id, levels.filter(pc.equal(levels["experiment_id"], experiment_id)))
                for experiment_id in self._experiments
            ]
            return pa.concat_tables([tables()[name].empty_table(), *judged])
        if name in ANALYSIS_SCHEMAS:
            parts = [SCHEMAS[name].empty_table()]
            for experiment_id in self._experiments:
                rows, damaged = self._store.read_analysis(name, experiment_id)
                parts.append(rows)
                self._damaged.update(damaged)
            return pa.concat_tables(parts)
        whole = pa.concat_tables([self._curated.read(name, self._experiments), self._landed_table(name)])
        if name != "levels" or self._curated.empty:
            return whole
        return whole.sort_by([(column, "ascending") for column in ("experiment_id", *ROW_KEYS["levels"])])

    def _landed_table(self, name: str) -> pa.Table:
        """The rows of units that are not compacted yet."""
        if name not in self._landed_tables:
            parts = [UNIT_SCHEMAS[name].empty_table()]
            for experiment_id, landed in self._landed.items():
                rows, damaged = landed.rows, dict[str, str]()
                if name != "levels":
                    if not self._curated.is_whole(name, [experiment_id]):
                        landed = self._curated.landed(experiment_id, name)
                    rows, damaged = self._store.read_table(landed, name)
                parts.append(rows)
                self._damaged.update({**landed.damaged, **damaged})
            self._landed_tables[name] = pa.concat_tables(parts)
        return self._landed_tables[name]


def judge(store: Store, experiment_id: str, levels: pa.Table, margin: float | None = None) -> pa.Table:
    """`verdicts` of rows of `levels` of one experiment, at the margin that it declared when it first ran; where nothing
    says so, at 0.005, post hoc, and so at another `margin`. The records of its sweeps tell which seeds were added."""
    from lth.analysis.starts import UNKNOWN, starts_of
    from lth.analysis.verdicts import VERDICTS, verdicts

    if not levels.num_rows:
        return VERDICTS.empty_table()
    try:
        starts = starts_of(store.sweeps(experiment_id))
    except DamagedObject:  # `lth verify` names it; what it said of the first look is lost
        starts = [UNKNOWN]
    declared = store.describe(experiment_id).get("margin")
    if not isinstance(declared, float):
        return verdicts(levels, DEFAULT_MARGIN if margin is None else margin, declared=False, starts=starts)
    return verdicts(levels, declared if margin is None else margin, margin in (None, declared), starts=starts)


def _explain(error: duckdb.Error, named: Sequence[str]) -> str:
    """The first line of DuckDB's message, and the nearest name there is where it did not find one."""
    said = [" ".join(line.split()) for line in redact(str(error)).splitlines() if line.strip()]
    first = f"the SQL cannot be run: {said[0]}" if said else "the SQL cannot be run"
    known = tables()
    table = re.match(r"Catalog Error: Table with name (.+?) does not exist", said[0]) if said else None
    column = re.search(r'[Cc]olumn (?:named )?"(.+?)"', said[0]) if said and "Binder Error" in said[0] else None
    if table:
        return f"{first}\n{_nearest(table[1], list(known))}the tables are {', '.join(known)}"
    if column:
        names = [name for each in named or known for name in known[each].names]
        return f"{first}\n{_nearest(column[1], names)}DESCRIBE {(named or TABLES)[0]} lists the columns"
    return "\n".join([first, *(line for line in said[1:2] if line.startswith("Did you mean"))])


def _nearest(name: str, names: Sequence[str]) -> str:
    close = difflib.get_close_matches(name.lower(), names, 1) or [each for each in names if name.lower() in each][:1]
    return f"did you mean {close[0]!r}? " if close else ""

"""Staging tables: a ledger at one moment, as tables of schema `staging` that the views read.

They are small beside the metrics. Values that all trials share are stored once, and each trial is
one row. The metrics themselves stay in their files.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import pyarrow as pa

from sweeper import sql
from sweeper.analysis.views import snapshot
from sweeper.analysis.views.plan import Plan
from sweeper.store import tables
from sweeper.store.ledger import Ledger
from sweeper.store.schema import METRICS, logged_steps

LOGGED = {"step": pa.int64(), "place": pa.int64(), "before": pa.int64()}
"""The logged steps of a store: the step, its place from 1, the step before it (null: none)."""


def create_table(connection: sql.Connection, name: str, table: pa.Table) -> None:
    """Create the table `name` with the rows of `table`."""
    connection.register("incoming", table.to_reader())
    connection.execute(f"create table {name} as select * from incoming")
    connection.unregister("incoming")


class Staging:
    """Creates the staging tables of a ledger in a connection.

    Attributes:
        ledger: The sweep's ledger.
        connection: The database.
        readable: The files that the views read; filled by `create`.
        rows: The query for all rows of metrics that count; set by `create`.
    """

    def __init__(self, ledger: Ledger, connection: sql.Connection) -> None:
        self.ledger = ledger
        self.connection = connection
        self.readable: list[str] = []
        self.rows = ""

    def create(self, plan: Plan, ends: Callable[[], pa.Table]) -> None:
        """Create the tables that ``trials.sql`` reads, `staging.logged` and `staging.superseded`.

        Args:
            plan: The trials.
            ends: Returns how trials ended, see `snapshot.ends`; called late, as it takes longest.
        """
        ledger, connection = self.ledger, self.connection
        connection.execute("create schema staging")
        create_table(connection, "staging.plan", plan.rows)
        fixed = plan.fixed if plan.fixed.num_columns else pa.table({"nothing": [0]})
        create_table(connection, "staging.fixed", fixed)
        create_table(connection, "staging.attempts", snapshot.attempts(ledger))
        create_table(connection, "staging.members", snapshot.members(ledger))
        shared = self._create_superseded()
        create_table(connection, "staging.ends", ends())
        if shared:
            connection.execute(
                f"delete from staging.ends as m where {_superseded('m', 'last_step')}"
            )
        self._create_logged()
        self.rows = self._create_progress(shared)

    def shown(self) -> str:
        """Return the condition on rows of metrics that keeps those of planned trials."""
        foreign = self.connection.sql(
            "select 1 from staging.members "
            "where trial_id not in (select trial_id from staging.trials) limit 1"
        ).fetchall()
        return "trial_id in (select trial_id from staging.trials)" if foreign else "true"

    def drop_inputs(self) -> None:
        """Drop the tables that only `staging.trials` was computed from."""
        for name in ("plan", "ends", "members", "progress"):
            self.connection.execute(f"drop table staging.{name}")

    def _create_superseded(self) -> frozenset[str]:
        """Create `staging.superseded`; return the packs whose later rows it invalidates.

        It lists the trials that a later pack carried on from a step before the end of an earlier
        pack: rows of the earlier pack beyond the step `upto` don't count.
        """
        create_table(self.connection, "staging.packs", snapshot.packs(self.ledger))
        self.connection.execute(
            "create table staging.superseded as "
            "select p.pack_id, a.trial_id, min(b.start_step) as upto "
            "from staging.members as a join staging.packs as p using (number) "
            "join staging.members as b on a.trial_id = b.trial_id "
            "where b.number > a.number and b.start_step < p.max_step group by all"
        )
        packs = self.connection.sql("select distinct pack_id from staging.superseded").fetchall()
        return frozenset(pack_id for (pack_id,) in packs)

    def _create_logged(self) -> None:
        """Create `staging.logged`: `LOGGED`, and the fingerprint of all steps up to each one."""
        last = max((part.max_step for part, _ in self.ledger.state.parts()), default=0)
        steps = logged_steps(self.ledger.meta["points_per_decade"], max(0, last))
        columns = [list(steps), range(1, len(steps) + 1), [None, *steps[:-1]]]
        create_table(
            self.connection, "staging.steps", pa.table(columns, schema=pa.schema([*LOGGED.items()]))
        )
        self.connection.execute(
            "create table staging.logged as select *, bit_xor(hash(step)) over (order by step) "
            "as digest from staging.steps"
        )

    def _create_progress(self, shared: frozenset[str]) -> str:
        """Create `staging.progress`; return the query for the rows of metrics that count."""
        sources = snapshot.sources(self.ledger, shared)
        extra = sorted({column for source in sources for column in source.columns})
        live = snapshot.live(self.ledger)
        selects, open_selects = [], []
        for number, source in enumerate(sources):
            selects.append(self._select(f"source_{number}", source, extra))
            mine = tuple(part for part in source.parts if part.path in live)
            if mine:
                fresh = snapshot.Source(mine, source.columns, source.pack_id, source.cutoff)
                open_selects.append(self._select(f"live_{number}", fresh, ()))
        none = ", ".join(f"null::{_sql_type(t)} as {sql.identifier(c)}" for c, t in METRICS.items())
        nothing = f"select {none} where false"
        self.connection.execute(
            "create table staging.progress as select trial_id, max(step) as step from "
            f"({' union all '.join(open_selects) or nothing}) group by trial_id"
        )
        files = self.ledger.files
        if self._in_place:
            self.readable = [files.location(p.path) for source in sources for p in source.parts]
        return "\nunion all\n".join(selects) or nothing

    @property
    def _in_place(self) -> bool:
        """Whether DuckDB can read the files where they are; else they are loaded into memory."""
        root = self.ledger.files.root
        return root is not None and sql.can_name(str(root))

    def _select(self, name: str, source: snapshot.Source, extra: Iterable[str]) -> str:
        """Return the query for the rows of `source` that count."""
        files = self.ledger.files
        if self._in_place:
            table = sql.parquet([files.location(part.path) for part in source.parts])
        else:
            table = f"staging.{name}"
            chunks = [tables.read(files, part) for part in source.parts]
            create_table(
                self.connection, table, pa.concat_tables(chunks, promote_options="default")
            )
        columns = [f"m.{sql.identifier(c)}" for c in METRICS]
        for column in extra:
            quoted = sql.identifier(column)
            columns.append(
                f"m.{quoted}" if column in source.columns else f"null::double as {quoted}"
            )
        text = f"select {', '.join(columns)} from {table} as m where true"
        if source.cutoff is not None:
            text += f" and m.step <= {source.cutoff}"
        if source.pack_id is not None:
            text += f" and not {_superseded('m', 'step', source.pack_id)}"
        return text


def _superseded(rows: str, step: str, pack_id: str | None = None) -> str:
    pack = f"{rows}.pack_id" if pack_id is None else sql.literal(pack_id)
    return (
        f"exists (select 1 from staging.superseded as s where s.pack_id = {pack} "
        f"and s.trial_id = {rows}.trial_id and {rows}.{step} > s.upto)"
    )


def _sql_type(kind: pa.DataType) -> str:
    return {pa.string(): "varchar", pa.int64(): "bigint", pa.float64(): "double"}[kind]

"""The facts of one moment of a ledger, as tables of schema `facts` that the views are made of.

They are small beside the metrics: what is the same for all trials is kept once, and what a trial
has is a row of numbers. The metrics themselves stay in their files.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import pyarrow as pa

from sweeper import sql
from sweeper.analysis.views import snapshot
from sweeper.analysis.views.plan import Plan
from sweeper.analysis.views.template import fill
from sweeper.store import tables as parts
from sweeper.store.ledger import Ledger
from sweeper.store.schema import METRICS, logged_steps

LOGGED = {"step": pa.int64(), "place": pa.int64(), "before": pa.int64()}
"""The logged steps of a store: the step, its place from 1, the one before it (null: none)."""


def keep(connection: sql.Connection, name: str, table: pa.Table) -> None:
    """Create the table `name` with the rows of `table`."""
    connection.register("incoming", table.to_reader())
    connection.execute(f"create table {name} as select * from incoming")
    connection.unregister("incoming")


class Facts:
    """Brings the tables of a snapshot and the metrics files into a connection.

    Attributes:
        ledger: The sweep's ledger.
        connection: Where to.
        readable: The files that the views read; known once they are created.
    """

    def __init__(self, ledger: Ledger, connection: sql.Connection) -> None:
        self.ledger = ledger
        self.connection = connection
        self.readable: list[str] = []

    def create(self, plan: Plan, ends: Callable[[], pa.Table]) -> None:
        """Create the tables of schema `facts` and the view `metrics`.

        Args:
            plan: The trials.
            ends: Returns how trials ended, see `snapshot.ends`; asked late, as it takes longest.
        """
        ledger, connection = self.ledger, self.connection
        connection.execute("create schema facts")
        keep(connection, "facts.plan", plan.rows)
        one = plan.fixed if plan.fixed.num_columns else pa.table({"nothing": [0]})
        keep(connection, "facts.fixed", one)
        keep(connection, "facts.attempts", snapshot.attempts(ledger))
        keep(connection, "facts.listed", snapshot.listed(ledger))
        shared = self._supersede()
        keep(connection, "facts.ends", ends())
        if shared:
            connection.execute(f"delete from facts.ends as m where {_superseded('m', 'last_step')}")
        self._log()
        shown = self._shown()
        rows = self._rows(shared)
        self._stand()
        connection.execute(f"create view metrics as {fill('metrics', rows=rows, shown=shown)}")

    def _supersede(self) -> frozenset[str]:
        """Find trials that went on in a later pack, from a step before the end of the earlier."""
        keep(self.connection, "facts.packs", snapshot.packs(self.ledger))
        self.connection.execute(
            "create table facts.superseded as "
            "select p.pack_id, a.trial_id, min(b.start_step) as upto "
            "from facts.listed as a join facts.packs as p using (number) "
            "join facts.listed as b on a.trial_id = b.trial_id "
            "where b.number > a.number and b.start_step < p.max_step group by all"
        )
        found = self.connection.sql("select distinct pack_id from facts.superseded").fetchall()
        return frozenset(pack_id for (pack_id,) in found)

    def _log(self) -> None:
        """Create `facts.logged`: `LOGGED`, and the fingerprint of the steps up to each."""
        last = max((part.max_step for part, _ in self.ledger.state.parts()), default=0)
        steps = logged_steps(self.ledger.meta["points_per_decade"], max(0, last))
        columns = [list(steps), range(1, len(steps) + 1), [None, *steps[:-1]]]
        keep(self.connection, "facts.steps", pa.table(columns, schema=pa.schema([*LOGGED.items()])))
        self.connection.execute(
            "create table facts.logged as select *, bit_xor(hash(step)) over (order by step) "
            "as digest from facts.steps"
        )

    def _stand(self) -> None:
        """Create `facts.trials` in the place of `facts.plan`."""
        again = "select 1 from facts.ends group by trial_id having count(*) > 1 limit 1"
        last = (
            "qualify row_number() over "
            "(partition by e.trial_id order by e.steps desc, e.number desc) = 1"
        )
        twice = self.connection.sql(again).fetchall()
        text = fill("standing", last=last if twice else "")
        self.connection.execute(f"create table facts.trials as {text}")
        for name in ("plan", "ends", "listed", "progress"):
            self.connection.execute(f"drop table facts.{name}")

    def _shown(self) -> str:
        """Return the condition that tells which rows belong to the plan."""
        foreign = self.connection.sql(
            "select 1 from facts.listed "
            "where trial_id not in (select trial_id from facts.plan) limit 1"
        ).fetchall()
        return "trial_id in (select trial_id from facts.trials)" if foreign else "true"

    def _rows(self, shared: frozenset[str]) -> str:
        """Create `facts.progress`; return the query for the rows of metrics that count."""
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
            "create table facts.progress as select trial_id, max(step) as step from "
            f"({' union all '.join(open_selects) or nothing}) group by trial_id"
        )
        files = self.ledger.files
        if files.root is not None:
            self.readable = [files.location(p.path) for source in sources for p in source.parts]
        return "\nunion all\n".join(selects) or nothing

    def _select(self, name: str, source: snapshot.Source, extra: Iterable[str]) -> str:
        """Return the query for the rows of `source` that count."""
        files = self.ledger.files
        if files.root is not None:
            paths = ", ".join(sql.literal(files.location(part.path)) for part in source.parts)
            table = f"read_parquet([{paths}])"
        else:
            table = f"facts.{name}"
            pieces = [parts.read(files, part) for part in source.parts]
            keep(self.connection, table, pa.concat_tables(pieces, promote_options="default"))
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
        f"exists (select 1 from facts.superseded as s where s.pack_id = {pack} "
        f"and s.trial_id = {rows}.trial_id and {rows}.{step} > s.upto)"
    )


def _sql_type(kind: pa.DataType) -> str:
    return {pa.string(): "varchar", pa.int64(): "bigint", pa.float64(): "double"}[kind]

"""The min, max or last value of a metric in a trial, as one number per cell: ``min(test_loss)``.

Phase diagrams draw landscapes with it: the best loss of each cell instead of its delay.
"""

from __future__ import annotations

import re

from sweeper import sql
from sweeper.errors import UsageError, did_you_mean

TAKEN = {"min": "min({0})", "max": "max({0})", "last": "arg_max({0}, step)"}
"""Name to the SQL over a trial's logged values; values that aren't finite don't count."""


def sql_of(connection: sql.Connection, value: str) -> str:
    """Return the SQL over `cells` of a value of a diagram.

    Args:
        connection: Views, see `sweeper.analysis.views.views.open_views`.
        value: ``min(M)``, ``max(M)`` or ``last(M)`` of a metric M: the median over the seeds of
            that of each trial's logged steps. Anything else is SQL itself.

    Raises:
        UsageError: There is no such metric; names the nearest.
    """
    found = re.fullmatch(rf"\s*({'|'.join(TAKEN)})\(\s*(\w+)\s*\)\s*", value)
    if found is None:
        return f"({value})"
    name = found[2]
    schema = sql.query(connection, "select * from metrics limit 0").schema
    known = [n for n in schema.names if n not in ("trial_id", "step")]
    if name not in known:
        raise UsageError(f"value: no metric {name!r}. {did_you_mean(name, known)}")
    taken = TAKEN[found[1]].format(sql.identifier(name))
    return (
        f"(select median(taken) from (select {taken} as taken from metrics join trials "
        "using (trial_id) where trials.cell_id = cells.cell_id group by trial_id))"
    )

"""A sweep as an object: what the commands that read and tidy up do, from Python.

`sweeper.open` returns it. Results are Arrow tables; each has a method `to_pandas`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from sweeper import sql
from sweeper.analysis.views.views import open_views
from sweeper.config.fields import Scalar
from sweeper.config.messages import STORE
from sweeper.engine import housekeeping
from sweeper.errors import StoreError
from sweeper.report import best, status, trial
from sweeper.report.trial import Trial
from sweeper.store.files import local_folder
from sweeper.store.lease import join, open_sweep, sweeps
from sweeper.store.ledger import META, Ledger

if TYPE_CHECKING:
    from sweeper.analysis.diagrams.curves import Curves
    from sweeper.analysis.diagrams.phase import PhaseDiagram
    from sweeper.report.figure import Figure


class Sweep:
    """A sweep in a store, also while it runs: each call sees the rows that are there by then.

    `sweeper.open` makes it.

    Attributes:
        store: The store: a folder, or a URL.
        name: Name of the sweep.
    """

    def __init__(self, store: str, name: str) -> None:
        self.store = store
        self.name = name
        self._ledger = open_sweep(store, name)

    def __repr__(self) -> str:
        return f"sweeper.open({self.name!r}, store={self.store!r})"

    @property
    def ledger(self) -> Ledger:
        """The sweep's ledger, read to its end."""
        if self._ledger.is_current():
            self._ledger.refresh()
        else:
            self._ledger = open_sweep(self.store, self.name)
        return self._ledger

    @property
    def trials(self) -> pa.Table:
        """The view `trials`: one row per trial, with its config, status and provenance.

        ``trials.flatten()`` has one column per field of the config, e.g. ``model.depth``.
        """
        return self.sql("select * from trials")

    @property
    def cells(self) -> pa.Table:
        """The view `cells`: one row per cell, with the median delay over its seeds."""
        return self.sql("select * from cells")

    @property
    def delays(self) -> pa.Table:
        """The view `delays`: one row per trial, with t1, t2 and the delay."""
        return self.sql("select * from delays")

    @property
    def metrics(self) -> pa.Table:
        """The view `metrics`: one row per trial and logged step. `sql` returns a part of it."""
        return self.sql("select * from metrics")

    def sql(
        self, query: str, *, everything: bool = False, timeout_s: float | None = None
    ) -> pa.Table:
        """Return the result of a query over the views, as the command `sweeper sql` does.

        Args:
            query: One SQL statement over trials, metrics, delays and cells.
            everything: Query every trial in the store instead of the latest grid's.
            timeout_s: Seconds after which the query is ended; None for no limit.

        Raises:
            QueryError: The query is wrong, isn't read-only, or takes too long.
            StoreError: The store can't be read.
        """
        with open_views(self.ledger, everything=everything) as views:
            sql.check_read_only(query, views)
            return sql.query(views, query, timeout_s=timeout_s)

    @property
    def status(self) -> status.Status:
        """How many trials have ended and how, who trains, the rate, the failures."""
        return status.status(self.store, self.name)

    def trial(self, id: str) -> Trial:  # noqa: A002 - as the column is called by everybody
        """Return a trial, also one that the latest grid lacks.

        Args:
            id: Its id, or the first digits of it.

        Raises:
            UsageError: No trial's id begins so, or those of several trials do.
        """
        return trial.find(self, id)

    def best(
        self, n: int = 10, by: str | None = None, *, reference: Mapping[str, Scalar] | None = None
    ) -> pa.Table:
        """Return the best cells, the best one first: rows of the view `cells`.

        Without `by`, these are the cells that the grid's section `search` optimizes for: by default
        those with the largest amplification. A grid without that section is ranked by `delay`: the
        largest median delay over the seeds.

        Only cells whose value is known are ranked. A cell whose median delay is censored has just a
        lower bound (``delay_bound``), and an amplification over a censored reference just an upper
        one, so neither can win; `sweeper search` treats them likewise.

        Args:
            n: The most cells.
            by: delay, amplification, t2, or an SQL expression over `cells`, e.g.
                ``delay / t1``. The largest value is best, but for the objective of a search that
                minimizes it. A value that is no column of `cells` is the second column of the
                result.
            reference: For amplifications: path to value in the reference cell, e.g.
                ``{"selection.tau": 0}``. By default that of the section `search`, or else the
                config's neutral value (tau = 0).

        Raises:
            UsageError: `n` is below 1; or an amplification is wanted, and no cell has its reference
                in the sweep.
            QueryError: `by` isn't a number for each cell.
        """
        return best.best(self.ledger, n, by, reference=reference)

    def phase(
        self,
        x: str,
        y: str,
        *,
        value: str = "delay",
        facet: str | None = None,
        where: str | None = None,
    ) -> Figure[PhaseDiagram]:
        """Return a phase diagram, as the command `sweeper phase` draws it.

        Args:
            x: Horizontal axis, e.g. ``regularizer.strength``.
            y: Vertical axis, e.g. ``selection.tau``.
            value: Colour: delay, t1, t2, phase, ``min(METRIC)`` or an SQL expression over `cells`.
            facet: Axis with one diagram per value.
            where: SQL condition on the cells to draw.

        Returns:
            A figure that a notebook shows, with a method `save`.
        """
        from sweeper.report import figures

        return figures.phase_figure(
            self.ledger, x=x, y=y, value=value, facet=facet, condition=where
        )

    def curves(self, where: str | None = None) -> Figure[Curves]:
        """Return the learning curves of some trials, as the command `sweeper curves` draws them.

        Args:
            where: SQL condition on the trials to draw, e.g. ``seed = 0``; None for all.

        Returns:
            A figure that a notebook shows, with a method `save`.
        """
        from sweeper.report import figures

        return figures.curves_figure(self.ledger, condition=where)

    def delete(self) -> None:
        """Delete the sweep with all its results, without asking.

        Raises:
            BusyError: A launch drives the sweep.
            StoreError: A file can't be deleted.
        """
        housekeeping.delete(self.store, self.name)

    def rename(self, name: str) -> None:
        """Rename the sweep in its store.

        Raises:
            BusyError: A launch drives the sweep.
            UsageError: The name is taken or no name, or the store is a bucket.
        """
        housekeeping.rename(self.store, self.name, name)
        self.name = name
        self._ledger = open_sweep(self.store, name)


def open(path: str | Path, *, store: str | Path | None = None) -> Sweep:  # noqa: A001
    """Return a sweep, to read its results.

    >>> sweep = sweeper.open("sweeps/depth")
    >>> sweep.cells.to_pandas()

    Args:
        path: Folder or URL of the sweep. A name alone means a sweep of the store.
        store: Folder or URL of the store; `path` is then the sweep's name. By default the variable
            SWEEPER_STORE, or the folder ``sweeps``.

    Raises:
        StoreError: There is no such sweep; lists those that exist.
    """
    if store is not None:
        return Sweep(str(store), str(path))
    where, name = _split(str(path))
    try:
        return Sweep(where, name)
    except StoreError:
        if not (inside := sweeps(str(path))):
            raise
        raise StoreError(
            f"{path}: a store, not a sweep. Open one of its sweeps, e.g. "
            f"sweeper.open({join(str(path), inside[0])!r})."
        ) from None


def _split(path: str) -> tuple[str, str]:
    """Return the store and the name of the sweep at `path`."""
    path = path.rstrip("/") or "/"
    root = local_folder(path)
    where, _, name = path.rpartition("/")
    if root is None:
        return where, name
    if "/" not in path and not (root / META).exists():
        return os.environ.get("SWEEPER_STORE") or STORE, path
    if where and name not in (".", ".."):
        return where, name
    return str(root.resolve().parent), root.resolve().name

"""The commands that read."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sweeper.cli.options import STORE, Everything, JsonOption, Name, StoreOption
from sweeper.cli.shell import out, readable_errors, skip_pandas
from sweeper.errors import StoreError

if TYPE_CHECKING:
    from sweeper.report.status import Status, Unreadable


def list_sweeps(store: StoreOption = STORE, as_json: JsonOption = False) -> None:
    """List the sweeps in the store, one row per sweep."""
    from sweeper.engine import progress
    from sweeper.report import status
    from sweeper.store import lease

    skip_pandas()
    with readable_errors():
        rows = status.statuses(store, lease.sweeps(store))
    if as_json:
        for row in rows:
            progress.emit(**row.as_dict())
    elif not rows:
        out.print(f"no sweep in {store}", markup=False)
    else:
        out.print(status.status_table(rows), *status.reasons(rows), sep="\n")
    _end(rows)


def show_status(
    name: Annotated[
        str | None,
        typer.Argument(metavar="[NAME]", help="Name of the sweep; without it, all sweeps."),
    ] = None,
    store: StoreOption = STORE,
    watch: Annotated[
        bool, typer.Option("--watch", help="Refresh every two seconds until the sweep ends.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Show the progress, rate and failures of one sweep or of all sweeps."""
    import time

    from rich.live import Live

    from sweeper.engine import progress
    from sweeper.report import status
    from sweeper.store import lease

    skip_pandas()
    with readable_errors():
        if name is None:
            rows = status.statuses(store, lease.sweeps(store))
        else:
            rows = [status.status(store, name)]
        if as_json:
            for row in rows:
                progress.emit(**row.as_dict())
        elif not rows:
            out.print(f"no sweep in {store}", markup=False)
        elif not watch:
            out.print(status.status_view(rows, store))
        else:
            names = [row.name for row in rows]
            with Live(status.status_view(rows, store), console=out, refresh_per_second=2) as live:
                while not all(row.settled for row in rows):
                    time.sleep(2)
                    rows = status.statuses(store, names)
                    live.update(status.status_view(rows, store))
    _end(rows)


def _end(rows: Sequence[Status | Unreadable]) -> None:
    """Exit with an error's code if a sweep is damaged."""
    if any(row.damaged for row in rows):
        raise typer.Exit(StoreError.exit_code)


def doctor(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="[NAME]", help="Name of the sweep; without it, all sweeps and the machine."
        ),
    ] = None,
    store: StoreOption = STORE,
    repair: Annotated[
        bool,
        typer.Option(
            "--repair", help="Mend what can be mended safely. Launch again to train what is lost."
        ),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Prove that a sweep is whole: its records, files and rows. Exit with 2 if it isn't."""
    from sweeper.doctor import visit
    from sweeper.engine import progress

    skip_pandas()
    well = True
    with readable_errors():
        for event in visit.visit(store, name, repair=repair):
            well = well and event.is_well
            if as_json:
                progress.emit(**event.as_dict())
            else:
                out.print(event.line, markup=False)
    if not well:
        raise typer.Exit(StoreError.exit_code)


def sql(
    name: Name,
    text: Annotated[
        str | None, typer.Argument(metavar="[QUERY]", help="One query. Without it, a prompt opens.")
    ] = None,
    store: StoreOption = STORE,
    output: Annotated[
        Path | None, typer.Option("-o", help="Write the result to this file.")
    ] = None,
    form: Annotated[
        str | None,
        typer.Option(
            "--format",
            help="table, csv, json or parquet. By default the suffix of the file, or table.",
        ),
    ] = None,
    everything: Everything = False,
    timeout: Annotated[
        float | None,
        typer.Option(
            min=0, metavar="SECONDS", help="End the query after this time. By default it has none."
        ),
    ] = None,
) -> None:
    """Query the views trials, metrics, delays and cells with SQL, also while the sweep runs."""
    from sweeper.report import query

    skip_pandas()
    with readable_errors():
        if text is None:
            query.prompt(store, name, everything=everything, timeout_s=timeout)
        else:
            written = query.sql(
                store,
                name,
                text,
                output=output,
                form=form,
                everything=everything,
                timeout_s=timeout,
            )
            if written is not None:
                out.print(written, markup=False)


def phase(
    name: Name,
    x: Annotated[str, typer.Option("--x", help="Horizontal axis, e.g. regularizer.strength.")],
    y: Annotated[str, typer.Option("--y", help="Vertical axis, e.g. selection.tau.")],
    value: Annotated[
        str,
        typer.Option(
            help="Colour: delay, t1, t2, phase, min(METRIC) or an SQL expression over cells."
        ),
    ] = "delay",
    facet: Annotated[
        str | None, typer.Option(help="Axis with one diagram per value, e.g. model.depth.")
    ] = None,
    where: Annotated[
        str | None, typer.Option(help="SQL condition on the cells to draw, e.g. 'task.N = 30'.")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("-o", help="File: png, svg, csv or parquet. Without it, print a table."),
    ] = None,
    store: StoreOption = STORE,
) -> None:
    """Draw a phase diagram. Censored and missing cells are marked."""
    from sweeper.report import figures

    skip_pandas()
    with readable_errors():
        path = figures.phase(
            store, name, x=x, y=y, value=value, facet=facet, condition=where, output=output
        )
    if path is not None:
        out.print(str(path), markup=False)


def curves(
    name: Name,
    where: Annotated[
        str | None, typer.Option(help="SQL condition on the trials to draw, e.g. 'seed = 0'.")
    ] = None,
    output: Annotated[Path, typer.Option("-o", help="File: png or svg.")] = Path("curves.png"),
    store: StoreOption = STORE,
) -> None:
    """Draw the learning curves of the trials that meet a condition."""
    from sweeper.report import figures

    skip_pandas()
    with readable_errors():
        path = figures.curves(store, name, condition=where, output=output)
    out.print(str(path), markup=False)


TrialOption = Annotated[
    str | None,
    typer.Argument(metavar="[TRIAL]", help="Id of the trial, or the first digits of it."),
]


def show(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME", help="Name of the sweep. Without TRIAL, the id of a trial of any sweep."
        ),
    ],
    trial: TrialOption = None,
    store: StoreOption = STORE,
    as_json: JsonOption = False,
) -> None:
    """Show one trial: its config, results, error, and the command that trains it again."""
    from sweeper.engine import progress
    from sweeper.report import trial_view

    skip_pandas()
    with readable_errors():
        sweep, one = trial_view.find(store, name, trial)
        if as_json:
            progress.emit(**trial_view.event(sweep, one))
        else:
            for line in trial_view.lines(sweep, one):
                out.print(line, markup=False)


def logs(
    name: Name,
    trial: Annotated[
        str, typer.Argument(metavar="TRIAL", help="Id of the trial, or the first digits of it.")
    ],
    store: StoreOption = STORE,
) -> None:
    """Print the output and the traceback of one trial, as far as they are kept."""
    from sweeper.report import trial_view

    skip_pandas()
    with readable_errors():
        _, one = trial_view.find(store, name, trial)
        for line in trial_view.log_lines(one):
            out.print(line, markup=False)


def fit(
    name: Name,
    law: Annotated[
        str, typer.Option(help="The law, e.g. 't2 ~ 1/(optimizer.lr*regularizer.strength)'.")
    ],
    where: Annotated[
        str | None, typer.Option(help="SQL condition on the trials to fit, e.g. 'task.N = 30'.")
    ] = None,
    by: Annotated[str | None, typer.Option(help="Fit the law once per value of this path.")] = None,
    level: Annotated[float, typer.Option(help="Confidence level of the intervals.")] = 0.95,
    output: Annotated[
        Path | None, typer.Option("-o", help="Draw the fit to this file: png or svg.")
    ] = None,
    store: StoreOption = STORE,
    as_json: JsonOption = False,
) -> None:
    """Fit a power law to t1, t2 or delay. Censored trials count as lower bounds."""
    from sweeper.engine import progress
    from sweeper.report import figures

    skip_pandas()
    with readable_errors():
        fitted = figures.fit(store, name, law, condition=where, by=by, level=level, output=output)
    if as_json:
        for row in fitted.rows():
            progress.emit(**row)
        return
    out.print(figures.fit_table(fitted))
    if output is not None:
        out.print(str(output), markup=False)


def schema() -> None:
    """Print the JSON schema of grid files, for editors that check and complete them."""
    from sweeper import trainable
    from sweeper.grid.jsonschema import json_schema

    with readable_errors():
        config = trainable.load("trainables.grokking").Config
        typer.echo(json.dumps(json_schema(config), indent=2))


COMMANDS = {
    "ls": list_sweeps,
    "status": show_status,
    "doctor": doctor,
    "show": show,
    "logs": logs,
    "sql": sql,
    "phase": phase,
    "curves": curves,
    "fit": fit,
    "schema": schema,
}

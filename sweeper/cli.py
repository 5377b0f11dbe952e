"""The commands: parse, call one function, print.

Heavy libraries are imported in the bodies of the commands, so that `sweeper --help` is instant.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console, RenderableType

from sweeper import __version__
from sweeper.errors import ConfigError, SweeperError, UsageError

if TYPE_CHECKING:
    from types import FrameType

    from sweeper.agenda import Agenda
    from sweeper.driver import Launched, Runner
    from sweeper.grid import Grid

app = typer.Typer(
    add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False,
    help="Grids of thousands of small training runs, as phase diagrams of grokking delay.",
)  # fmt: skip
_width = None if sys.stdout.isatty() else 200
out = Console(highlight=False, soft_wrap=True, width=_width)
err = Console(stderr=True, highlight=False, soft_wrap=True, width=_width)

ASK_ABOVE = 100_000
"""Launching more new trials than this asks first, unless --yes."""

GridFile = Annotated[Path, typer.Argument(metavar="GRID", help="The grid file.")]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(metavar="[KEY=VALUE]...", help="Overrides, e.g. seeds=3 or task.N=30,40."),
]
Name = Annotated[str, typer.Argument(metavar="NAME", help="The sweep.")]
StoreOption = Annotated[
    str, typer.Option("--store", envvar="SWEEPER_STORE", help="Folder or URI of the store.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON object a line.")]
Where = Annotated[str | None, typer.Option(help="SQL condition on the trials or cells to show.")]
Everything = Annotated[
    bool, typer.Option("--all", help="Every trial ever run, not the latest grid.")
]


@contextmanager
def readable_errors() -> Iterator[None]:
    """Turn an error that a user can mend into red lines and its exit code."""
    try:
        yield
    except ConfigError as error:
        for problem in error.problems:
            _complain(problem)
        raise typer.Exit(error.exit_code) from None
    except SweeperError as error:
        _complain(str(error))
        raise typer.Exit(error.exit_code) from None


def _complain(message: str) -> None:
    err.print("[bold red]error:[/] ", end="")
    err.print(message, markup=False)


def _version(value: bool) -> None:
    if value:
        typer.echo(f"sweeper {__version__}")
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Say the version.")
    ] = False,
) -> None:
    pass


@app.command()
def launch(
    grid: GridFile,
    overrides: Overrides = None,
    address: Annotated[
        str,
        typer.Option(envvar=["SWEEPER_ADDRESS", "RAY_ADDRESS"], help="local, auto or HOST:PORT."),
    ] = "local",
    store: StoreOption = "sweeps",
    max_concurrent: Annotated[
        int | None, typer.Option(min=1, help="Packs at the same time.")
    ] = None,
    max_failures: Annotated[
        int | None, typer.Option(min=1, help="Stop once this many trials failed.")
    ] = None,
    inline: Annotated[
        bool, typer.Option("--inline", help="Train in this process, without Ray.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Don't ask before many trials.")] = False,
    as_json: JsonOption = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Only errors.")] = False,
) -> None:
    """Train every trial of GRID that the store doesn't hold yet. Interrupted? Launch again."""
    from sweeper import loading, progress, sweep

    with readable_errors():
        loaded = loading.load_grid(grid, overrides or [])
        stopper = _Stopper()
        with (
            progress.display(out, as_json=as_json, quiet=quiet) as show,
            progress.Monitor(show, max_failures=max_failures, stop=stopper.ask) as monitor,
        ):

            def announce(agenda: Agenda) -> None:
                for message in agenda.damage:
                    err.print(f"damaged: {message} Its trials are trained again.", markup=False)
                if as_json:
                    progress.emit(**progress.plan_event(loaded, agenda))
                elif not quiet:
                    out.print(progress.plan_sentence(loaded, agenda), markup=False)
                _confirm(agenda.counts.new, yes=yes)

            def started(launched: Launched) -> None:
                stopper.arm(launched)
                monitor.start(launched)

            with _runner(loaded, address, inline, max_concurrent) as runner:
                outcome = sweep.launch(loaded, store, runner, announce=announce, started=started)
    counts = outcome.counts
    code = outcome.exit_code if not stopper.signal or not counts.new else 128 + stopper.signal
    if as_json:
        progress.emit(event="end", trials=counts.trials, done=counts.done, new=counts.new,
                      failed=counts.failed, exit_code=code)  # fmt: skip
    elif not quiet:
        rest = f", {counts.new} left: launch again to go on" if counts.new else ""
        failed = (
            f", {counts.failed} failed: see `sweeper status {loaded.name}`" if counts.failed else ""
        )
        out.print(f"{counts.trials} trials: {counts.done} done{failed}{rest}", markup=False)
    raise typer.Exit(code)


def _runner(
    grid: Grid, address: str, inline: bool, max_concurrent: int | None
) -> AbstractContextManager[Runner]:
    if inline:
        from sweeper import driver

        return nullcontext(driver.inline(grid))
    from sweeper.launch_ray import on_ray

    return on_ray(grid, address=address, max_concurrent=max_concurrent)


class _Stopper:
    """The first Ctrl-C drains a launch: packs save and end. The second one kills it."""

    def __init__(self) -> None:
        self.signal = 0
        self._launched: Launched | None = None

    def arm(self, launched: Launched) -> None:
        """Listen to SIGINT and SIGTERM from now on."""
        self._launched = launched
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._on_signal)

    def ask(self) -> None:
        """Ask the launch to stop."""
        from sweeper import sweep

        if self._launched is not None:
            sweep.request_stop(self._launched.ledger.files, self._launched.launch_id)

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        if self.signal:
            err.print("killed; what was committed is safe")
            os._exit(128 + number)
        self.signal = number
        err.print("draining: packs save and end; once more to kill")
        self.ask()


def _confirm(new: int, *, yes: bool) -> None:
    if new > ASK_ABOVE and not yes:
        if not sys.stdin.isatty():
            raise UsageError(
                f"{new} new trials are more than {ASK_ABOVE}. Say --yes to train them."
            )
        if not typer.confirm(f"Train {new} new trials?"):
            raise typer.Exit(4)


@app.command()
def plan(
    grid: GridFile,
    overrides: Overrides = None,
    store: StoreOption = "sweeps",
    as_json: JsonOption = False,
) -> None:
    """Say what `launch` would do, without doing it: trials, packs, memory, time."""
    from sweeper import estimate as estimating
    from sweeper import loading, progress

    with readable_errors():
        loaded = loading.load_grid(grid, overrides or [])
        cost = estimating.estimate(loaded, store)
    if as_json:
        event = progress.plan_event(loaded, cost)
        progress.emit(**event, seconds=cost.seconds, memory_bytes=cost.memory)
        return
    for message in cost.damage:
        err.print(f"damaged: {message} `launch` trains its trials again.", markup=False)
    out.print(progress.plan_sentence(loaded, cost, cost.seconds), markup=False)
    shown = ", ".join(f"{path} x {n}" for path, n in estimating.axis_sizes(loaded).items())
    sizes = f"{loaded.n_cells} cells x {len(loaded.seeds)} seeds; axes: {shown or 'none'}"
    out.print(sizes, markup=False)
    if loaded.n_excluded:
        rules = "; ".join(loaded.file.excludes)
        out.print(f"{loaded.n_excluded} cells excluded by: {rules}", markup=False)
    out.print(f"largest pack: {cost.memory / 2**20:.1f} MB", markup=False)


@app.command("ls")
def list_sweeps(store: StoreOption = "sweeps", as_json: JsonOption = False) -> None:
    """List the sweeps of the store."""
    from sweeper import answers, progress
    from sweeper import store as stores

    with readable_errors():
        rows = [answers.status(store, one) for one in stores.sweeps(store)]
    if as_json:
        for row in rows:
            progress.emit(**row.as_dict())
    elif not rows:
        out.print(f"no sweep in {store}", markup=False)
    else:
        out.print(answers.status_table(rows))


@app.command()
def status(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="The sweep.")] = None,
    store: StoreOption = "sweeps",
    watch: Annotated[bool, typer.Option("--watch", help="Again every two seconds.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show progress, rates and failures of one sweep, or of all."""
    import time

    from rich.live import Live

    from sweeper import answers, progress
    from sweeper import store as stores

    with readable_errors():
        names = [name] if name else stores.sweeps(store)
        if not names:
            out.print(f"no sweep in {store}", markup=False)
            return
        if as_json:
            for one in names:
                progress.emit(**answers.status(store, one).as_dict())
            return

        def render() -> RenderableType:
            return answers.status_view([answers.status(store, one) for one in names])

        if not watch:
            out.print(render())
            return
        with Live(render(), console=out, refresh_per_second=2) as live:
            while not all(answers.status(store, one).settled for one in names):
                time.sleep(2)
                live.update(render())


@app.command()
def sql(
    name: Name,
    query: Annotated[
        str | None, typer.Argument(help="A query; none: an interactive prompt.")
    ] = None,
    store: StoreOption = "sweeps",
    output: Annotated[Path | None, typer.Option("-o", help="Write the result here.")] = None,
    form: Annotated[
        str | None, typer.Option("--format", help="table, csv, json or parquet.")
    ] = None,
    everything: Everything = False,
) -> None:
    """Ask the views trials, metrics, delays and cells, also while the sweep runs. Read-only."""
    from sweeper import answers

    with readable_errors():
        if query is None:
            answers.prompt(store, name, everything=everything)
        else:
            answers.sql(store, name, query, output=output, form=form, everything=everything)


@app.command()
def phase(
    name: Name,
    x: Annotated[str, typer.Option("--x", help="Axis, e.g. regularizer.strength.")],
    y: Annotated[str, typer.Option("--y", help="Axis, e.g. selection.tau.")],
    value: Annotated[str, typer.Option(help="delay, t1, t2, phase or a column.")] = "delay",
    facet: Annotated[str | None, typer.Option(help="Axis of the small multiples.")] = None,
    where: Where = None,
    output: Annotated[Path | None, typer.Option("-o", help="png, svg, csv or parquet.")] = None,
    store: StoreOption = "sweeps",
) -> None:
    """Draw the phase diagram; censored and missing cells are drawn as such."""
    from sweeper import figures

    with readable_errors():
        path = figures.phase(
            store, name, x=x, y=y, value=value, facet=facet, condition=where, output=output
        )
    if path is not None:
        out.print(str(path), markup=False)


@app.command()
def curves(
    name: Name,
    where: Where = None,
    output: Annotated[Path, typer.Option("-o", help="png or svg.")] = Path("curves.png"),
    store: StoreOption = "sweeps",
) -> None:
    """Draw the learning curves of some trials."""
    from sweeper import figures

    with readable_errors():
        path = figures.curves(store, name, condition=where, output=output)
    out.print(str(path), markup=False)


@app.command()
def stop(name: Name, store: StoreOption = "sweeps") -> None:
    """Ask a running launch to drain: its packs save and end."""
    from sweeper import sweep

    with readable_errors():
        message = sweep.stop(store, name)
    out.print(message, markup=False)


@app.command()
def retry(name: Name, store: StoreOption = "sweeps") -> None:
    """Make failed trials new again: the next launch trains them."""
    from sweeper import sweep

    with readable_errors():
        n = sweep.retry(store, name)
    out.print(f"{n} failed trials are new again: launch to train them", markup=False)


@app.command()
def schema() -> None:
    """Print the JSON schema of grid files, for editors."""
    from sweeper import trainable
    from sweeper.jsonschema import json_schema

    with readable_errors():
        config = trainable.load("trainables.grokking").Config
        typer.echo(json.dumps(json_schema(config), indent=2))


def main() -> None:
    """Run the command line; a mistake on it is exit code 2."""
    # A trainable of the user's own lives in the working folder. Behind everything else: a folder
    # of theirs that is called analysis must not hide ours. Ray's workers take over the path.
    sys.path.append(str(Path.cwd()))
    app()


if __name__ == "__main__":
    main()

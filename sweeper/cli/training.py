"""The commands that train."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sweeper.cli.shell import (
    Address,
    GridFile,
    Inline,
    JsonOption,
    MaxConcurrent,
    MaxFailures,
    Name,
    Overrides,
    Quiet,
    StoreOption,
    Yes,
    err,
    out,
    readable_errors,
    runner,
    showing,
)
from sweeper.errors import UsageError

if TYPE_CHECKING:
    from sweeper.search.finalist import Progressed

SEARCH_FIGURE = Path("search.png")


def launch(
    grid: GridFile,
    overrides: Overrides = None,
    address: Address = "local",
    store: StoreOption = "sweeps",
    max_concurrent: MaxConcurrent = None,
    max_failures: MaxFailures = None,
    inline: Inline = False,
    yes: Yes = False,
    as_json: JsonOption = False,
    quiet: Quiet = False,
) -> None:
    """Train every trial of GRID that the store doesn't hold yet. Interrupted? Launch again."""
    from sweeper.compile import loading
    from sweeper.engine import commands as sweep

    with readable_errors():
        loaded = loading.load_grid(grid, overrides or [])
        with (
            showing(
                loaded, as_json=as_json, quiet=quiet, yes=yes, max_failures=max_failures
            ) as shown,
            runner(loaded, address, inline, max_concurrent) as here,
        ):
            outcome = sweep.launch(
                loaded, store, here, announce=shown.announce, started=shown.started
            )
        code = shown.finish(outcome)
    raise typer.Exit(code)


def search(
    grid: GridFile,
    overrides: Overrides = None,
    address: Address = "local",
    store: StoreOption = "sweeps",
    storage: Annotated[
        str | None, typer.Option(envvar="OPTUNA_STORAGE", help="URL of the study's database.")
    ] = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Begin a new study; it learns from what was trained.")
    ] = False,
    output: Annotated[Path, typer.Option("-o", help="The figure: png or svg.")] = SEARCH_FIGURE,
    max_concurrent: MaxConcurrent = None,
    max_failures: MaxFailures = None,
    inline: Inline = False,
    as_json: JsonOption = False,
    quiet: Quiet = False,
) -> None:
    """Look for the best cells: Optuna suggests them from the file's section `search`."""
    from sweeper.compile import loading
    from sweeper.engine import progress
    from sweeper.report import figures
    from sweeper.search import report as found
    from sweeper.search import search as searching

    with readable_errors():
        figures.check_suffix(output)
        loaded = loading.load_grid(grid, overrides or [])

        def say(at: Progressed) -> None:
            if as_json:
                progress.emit(event="round", suggestions=at.asked, of=at.of, known=at.known)
            elif not quiet:
                out.print(found.progressed_sentence(at), markup=False)

        with (
            showing(loaded, as_json=as_json, quiet=True, max_failures=max_failures) as shown,
            runner(loaded, address, inline, max_concurrent, rounds=True) as here,
        ):
            result = searching.search(
                loaded, store, here, storage=storage, fresh=fresh, started=shown.started, say=say
            )
        drawn = bool(result.history.suggestions)  # none: stopped within the very first round
        if drawn:
            figures.search(store, loaded.name, result.history, output)
    command = found.reproduce(result, grid, overrides or [], loaded.name)
    if as_json:
        figure = str(output) if drawn else None
        progress.emit(**found.found_event(result), reproduce=command, figure=figure)
    elif not quiet:
        out.print(found.found_view(result))
        if command:
            out.print(f"To train the best cell again: {command}", markup=False)
        if drawn:
            out.print(str(output), markup=False)
        out.print(f"the study: optuna-dashboard {result.storage}", markup=False)
    raise typer.Exit(shown.signalled(result.exit_code, work_left=result.left > 0))


def refine(
    name: Name,
    x: Annotated[str, typer.Option("--x", help="Numeric axis, e.g. regularizer.strength.")],
    y: Annotated[str, typer.Option("--y", help="Numeric axis, e.g. task.N.")],
    budget: Annotated[int, typer.Option(help="Most new trials.")],
    value: Annotated[str, typer.Option(help="phase or delay.")] = "phase",
    levels: Annotated[
        int, typer.Option(min=1, max=10, help="How often the grid's spacing may be halved.")
    ] = 3,
    where: Annotated[str | None, typer.Option(help="SQL over cells: which to refine.")] = None,
    address: Address = "local",
    store: StoreOption = "sweeps",
    max_concurrent: MaxConcurrent = None,
    max_failures: MaxFailures = None,
    inline: Inline = False,
    as_json: JsonOption = False,
    quiet: Quiet = False,
) -> None:
    """Add cells where neighbouring cells of a phase diagram disagree."""
    from sweeper.engine import progress
    from sweeper.refine import refine as refining

    with readable_errors():
        if budget < 1:
            raise UsageError(f"--budget {budget}: nothing to spend. Give the most new trials.")
        wanted = refining.diagram(
            store, name, x=x, y=y, value=value, condition=where, levels=levels
        )
        with (
            showing(wanted.grid, as_json=as_json, quiet=quiet, max_failures=max_failures) as shown,
            runner(wanted.grid, address, inline, max_concurrent, rounds=True) as here,
        ):
            refined = refining.refine(
                wanted, store, here, budget, announce=shown.announce, started=shown.started
            )
    code = shown.signalled(refined.exit_code, work_left=refined.unfinished)
    if as_json:
        progress.emit(
            event="refined",
            trials=refined.trials,
            cells=refined.cells,
            rounds=refined.rounds,
            settled=refined.settled,
            exit_code=code,
        )
    elif not quiet:
        out.print(refining.sentence(refined), markup=False)
    raise typer.Exit(code)


def extend(
    name: Name,
    steps: Annotated[int, typer.Option(min=1, help="The new horizon, in optimizer steps.")],
    where: Annotated[
        str | None, typer.Option(help="SQL over trials and delays: which censored trials.")
    ] = None,
    address: Address = "local",
    store: StoreOption = "sweeps",
    max_concurrent: MaxConcurrent = None,
    max_failures: MaxFailures = None,
    inline: Inline = False,
    as_json: JsonOption = False,
    quiet: Quiet = False,
) -> None:
    """Carry censored trials on from their checkpoints, to a longer horizon."""
    from sweeper.refine import extend as extending

    with readable_errors():
        wanted = extending.extension(store, name, steps, condition=where)
        with (
            showing(wanted.grid, as_json=as_json, quiet=quiet, max_failures=max_failures) as shown,
            runner(wanted.grid, address, inline, max_concurrent) as here,
        ):
            outcome = extending.extend(
                wanted, store, here, announce=shown.announce, started=shown.started
            )
        code = shown.finish(outcome)
    raise typer.Exit(code)


def plan(
    grid: GridFile,
    overrides: Overrides = None,
    store: StoreOption = "sweeps",
    as_json: JsonOption = False,
) -> None:
    """Say what `launch` would do, without doing it: trials, packs, memory, time."""
    from sweeper.compile import loading
    from sweeper.engine import estimate as estimating
    from sweeper.engine import progress

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


def stop(name: Name, store: StoreOption = "sweeps") -> None:
    """Ask a running launch to drain: its packs save and end."""
    from sweeper.engine import commands as sweep

    with readable_errors():
        message = sweep.stop(store, name)
    out.print(message, markup=False)


def retry(name: Name, store: StoreOption = "sweeps") -> None:
    """Make failed trials new again: the next launch trains them."""
    from sweeper.engine import commands as sweep

    with readable_errors():
        n = sweep.retry(store, name)
    out.print(f"{n} failed trials are new again: launch to train them", markup=False)

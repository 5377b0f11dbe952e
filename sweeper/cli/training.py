"""The commands that train."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sweeper.cli.options import (
    STORE,
    GridFile,
    JsonOption,
    Name,
    Overrides,
    StoreOption,
    Training,
    Trust,
)
from sweeper.cli.shell import err, out, readable_errors, runner, showing
from sweeper.errors import UsageError, redact

if TYPE_CHECKING:
    from sweeper.search.finalist import SearchProgress

SEARCH_FIGURE = Path("search.png")


def launch_grid(
    grid: GridFile,
    overrides: Overrides = None,
    trust: Trust = None,
    yes: Annotated[
        bool, typer.Option("--yes", "-y", help="Train more than 100,000 new trials without asking.")
    ] = False,
    rerun: Annotated[
        bool,
        typer.Option(
            "--rerun", help="Train trials again that another version of your code or data trained."
        ),
    ] = False,
    *,
    training: Training,
) -> None:
    """Train every trial of GRID that isn't in the store yet. Launch again to resume."""
    from sweeper.compile import loading
    from sweeper.engine import commands

    with readable_errors():
        loaded = loading.load_grid(grid, overrides or [], trust=trust)
        with showing(loaded, training, yes=yes) as shown, runner(loaded, training) as here:
            outcome = commands.launch(
                loaded,
                training.store,
                here,
                rerun=rerun,
                announce=shown.announce,
                started=shown.started,
            )
        code = shown.finish(outcome)
    raise typer.Exit(code)


def search_grid(
    grid: GridFile,
    overrides: Overrides = None,
    trust: Trust = None,
    storage: Annotated[
        str | None,
        typer.Option(
            envvar="OPTUNA_STORAGE",
            help="Database of the Optuna study, as a URL. By default a file in the store.",
        ),
    ] = None,
    fresh: Annotated[
        bool,
        typer.Option("--fresh", help="Begin a new study. It starts from the trials in the store."),
    ] = False,
    output: Annotated[
        Path, typer.Option("-o", help="File of the figure: png or svg.")
    ] = SEARCH_FIGURE,
    *,
    training: Training,
) -> None:
    """Search for the best cells: Optuna suggests cells from the file's section `search`."""
    from sweeper.compile import loading
    from sweeper.engine import progress
    from sweeper.report import figures
    from sweeper.search import report, search

    with readable_errors():
        figures.check_suffix(output)
        loaded = loading.load_grid(grid, overrides or [], trust=trust)

        def say(at: SearchProgress) -> None:
            if training.as_json:
                progress.emit(event="round", suggestions=at.asked, of=at.of, known=at.known)
            elif not training.quiet:
                out.print(report.progress_sentence(at), markup=False)

        bar = replace(training, quiet=training.silent or not out.is_terminal)
        with showing(loaded, bar) as shown, runner(loaded, training, rounds=True) as here:
            result = search.search(
                loaded,
                training.store,
                here,
                storage=storage,
                fresh=fresh,
                started=shown.started,
                say=say,
            )
        drawn = bool(result.history.suggestions)  # none: stopped within the very first round
        if drawn:
            figures.search(training.store, loaded.name, result.history, output)
    command = report.reproduce(result, grid, overrides or [], loaded.name, training.store)
    if training.as_json:
        figure = str(output) if drawn else None
        progress.emit(**report.result_event(result), reproduce=command, figure=figure)
    elif not training.quiet:
        out.print(report.result_view(result))
        if command:
            out.print(f"Train the best cell again: {command}", markup=False)
        if drawn:
            out.print(str(output), markup=False)
        out.print(f"Show the study: optuna-dashboard {redact(result.storage)}", markup=False)
    raise typer.Exit(shown.signalled(result.exit_code, work_left=result.left > 0))


def refine_sweep(
    name: Name,
    x: Annotated[str, typer.Option("--x", help="Numeric axis, e.g. regularizer.strength.")],
    y: Annotated[str, typer.Option("--y", help="Numeric axis, e.g. task.N.")],
    budget: Annotated[int, typer.Option(help="Train at most this many new trials.")],
    value: Annotated[
        str, typer.Option(help="Compare neighbouring cells by this: phase or delay.")
    ] = "phase",
    levels: Annotated[
        int, typer.Option(min=1, max=10, help="Halve the grid's spacing at most this often.")
    ] = 3,
    where: Annotated[str | None, typer.Option(help="SQL condition on the cells to refine.")] = None,
    *,
    training: Training,
) -> None:
    """Add cells where neighbouring cells of a phase diagram disagree."""
    from sweeper.engine import progress
    from sweeper.refine import diagram, refine

    with readable_errors():
        if budget < 1:
            raise UsageError(
                f"--budget {budget}: too small. Give the number of new trials to train, at least 1."
            )
        wanted = diagram.diagram(
            training.store, name, x=x, y=y, value=value, condition=where, levels=levels
        )
        with (
            showing(wanted.grid, training) as shown,
            runner(wanted.grid, training, rounds=True) as here,
        ):
            refined = refine.refine(
                wanted, training.store, here, budget, announce=shown.announce, started=shown.started
            )
    code = shown.signalled(refined.exit_code, work_left=refined.unfinished)
    if training.as_json:
        progress.emit(
            event="refined",
            trials=refined.trials,
            cells=refined.cells,
            rounds=refined.rounds,
            settled=refined.settled,
            exit_code=code,
        )
    elif not training.quiet:
        out.print(refine.sentence(refined), markup=False)
    raise typer.Exit(code)


def extend_sweep(
    name: Name,
    steps: Annotated[int, typer.Option(min=1, help="The new horizon, in optimizer steps.")],
    where: Annotated[
        str | None, typer.Option(help="SQL condition on the trials to extend, e.g. 'seed = 0'.")
    ] = None,
    *,
    training: Training,
) -> None:
    """Continue censored trials from their checkpoints to a longer horizon."""
    from sweeper.refine import extend

    with readable_errors():
        wanted = extend.extension(training.store, name, steps, condition=where)
        with showing(wanted.grid, training) as shown, runner(wanted.grid, training) as here:
            outcome = extend.extend(
                wanted, training.store, here, announce=shown.announce, started=shown.started
            )
        code = shown.finish(outcome)
    raise typer.Exit(code)


def plan_grid(
    grid: GridFile,
    overrides: Overrides = None,
    trust: Trust = None,
    address: Annotated[
        str,
        typer.Option(help="Plan for this cluster: auto or HOST:PORT. By default for this machine."),
    ] = "local",
    store: StoreOption = STORE,
    as_json: JsonOption = False,
) -> None:
    """Print what `launch` would do: trials, packs, memory and time. Nothing is trained."""
    from sweeper.compile import loading
    from sweeper.config.messages import counted
    from sweeper.engine import estimate, progress

    with readable_errors():
        loaded = loading.load_grid(grid, overrides or [], trust=trust)
        if address == "local":
            cost = estimate.estimate(loaded, store)
        else:
            training = Training(address=address, store=store, as_json=as_json)
            with runner(loaded, training, wait_s=0) as there:
                cost = estimate.estimate(loaded, store, there)
    if as_json:
        event = progress.plan_event(loaded, cost)
        event |= {"seconds": cost.seconds, "memory_bytes": cost.memory}
        progress.emit(**event, failures=cost.failures)
        return
    for message in cost.damage:
        err.print(f"damaged: {message} The next launch trains its trials again.", markup=False)
    out.print(progress.plan_sentence(loaded, cost, cost.seconds), markup=False)
    if cost.hidden:
        out.print(progress.hidden_before(loaded, cost.hidden), markup=False)
    if cost.outdated:
        out.print(progress.outdated(loaded, cost.outdated), markup=False)
    shown = ", ".join(f"{path} x {n}" for path, n in estimate.axis_sizes(loaded).items())
    sizes = f"{counted(loaded.n_cells, 'cell')} x {counted(len(loaded.seeds), 'seed')}"
    out.print(f"{sizes}; axes: {shown or 'none'}", markup=False)
    if loaded.n_excluded:
        rules = "; ".join(loaded.file.excludes)
        out.print(f"{counted(loaded.n_excluded, 'cell')} excluded by: {rules}", markup=False)
    if loaded.config.code is None:
        out.print(f"largest pack: {cost.memory / 2**20:.1f} MB", markup=False)
    else:
        out.print(progress.criterion_sentence(loaded), markup=False)
    for message in cost.failures:
        err.print(f"a trial can't take a step: {message}", markup=False)


def stop_sweep(name: Name, store: StoreOption = STORE) -> None:
    """Stop a running launch: its packs save a checkpoint and end."""
    from sweeper.engine import commands

    with readable_errors():
        message = commands.stop(store, name)
    out.print(message, markup=False)


def retry_sweep(name: Name, store: StoreOption = STORE) -> None:
    """Mark failed trials as new, so that the next launch trains them again."""
    from sweeper.config.messages import counted
    from sweeper.engine import commands

    with readable_errors():
        n = commands.retry(store, name)
    trials = counted(n, "failed trial")
    text = f"{trials} {'is' if n == 1 else 'are'} new again: launch to train"
    out.print(f"{text} {'it' if n == 1 else 'them'}", markup=False)


COMMANDS = {
    "launch": launch_grid,
    "plan": plan_grid,
    "search": search_grid,
    "refine": refine_sweep,
    "extend": extend_sweep,
    "stop": stop_sweep,
    "retry": retry_sweep,
}

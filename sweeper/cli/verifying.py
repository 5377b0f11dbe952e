"""The command that verifies the papers' claims."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sweeper.cli.options import Training, expanded
from sweeper.cli.shell import Stopper, out, readable_errors, runner

if TYPE_CHECKING:
    from sweeper.analysis.laws import Claim
    from sweeper.verify.verify import Verification

Laws = Annotated[
    list[str] | None,
    typer.Argument(metavar="[LAW]...", help="Ids or numbers of laws. Without any, all laws."),
]


class _Stopper(Stopper):
    """Stops all launches of a verification at once."""

    training: Verification | None = None

    def ask(self) -> None:
        if self.training is not None:
            self.training.stop()


def verify_laws(
    laws: Laws = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Use smaller grids; without LAW, only the quick laws.")
    ] = False,
    report: Annotated[
        Path | None,
        typer.Option(help="Write a page to this file, with its figures in a folder beside it."),
    ] = None,
    listed: Annotated[bool, typer.Option("--list", help="List the laws and exit.")] = False,
    *,
    training: Training,
) -> None:
    """Measure the papers' laws and report which of their claims hold."""
    from sweeper.verify import verify

    with readable_errors():
        chosen = verify.choose(laws or [], quick=quick and not listed)
        if listed:
            _list(chosen, as_json=training.as_json)
            return
        code = _verify(chosen, training, asked=laws or [], quick=quick, report=report)
    raise typer.Exit(code)


def _verify(
    laws: list[Claim], training: Training, *, asked: list[str], quick: bool, report: Path | None
) -> int:
    """Train, measure, print and write the page; return the exit code."""
    import time

    from sweeper.engine import progress
    from sweeper.verify import reproduction, verify

    begun = time.monotonic()
    folder = reproduction.prepare(report) if report is not None else None
    grids = list(verify.grids_of(laws, quick=quick).values())
    stopper = _Stopper()

    def started(begun: Verification) -> None:
        stopper.training = begun
        stopper.arm(begun.launched[0])
        if not training.silent:
            out.print(reproduction.plan_sentence(len(laws), begun, here.workers), markup=False)

    with (
        progress.display(out, as_json=False, quiet=training.silent) as show,
        runner(grids[0], training, rounds=True) as here,
    ):
        complete = verify.train(grids, training.store, here, started=started, show=show)
    if not complete:
        if not training.silent:
            out.print("stopped early: verify again to continue", markup=False)
        return 128 + stopper.signal if stopper.signal else verify.WORK_LEFT
    verified = []
    for one in verify.measure(laws, training.store, quick=quick, figures=folder):
        verified.append(one)
        if training.as_json:
            progress.emit(**one.as_dict())
    if not training.silent:
        out.print(reproduction.verdict_table(verified))
    if report is not None:
        reproduction.write(verified, report, wall_s=time.monotonic() - begun, asked=asked)
        if not training.silent:
            out.print(str(report), markup=False)
    return verify.exit_code(verified, complete=True)


def _list(laws: list[Claim], *, as_json: bool) -> None:
    from rich.table import Table

    from sweeper.engine import progress

    if as_json:
        for law in laws:
            progress.emit(
                id=law.id,
                law=law.number,
                title=law.title,
                claim=law.claim,
                source=law.source,
                quick=law.quick,
                expected=law.outcome(law.expected),
            )
        return
    table = Table(box=None, pad_edge=False)
    for heading in ("law", "paper", "title", "quick", "expected"):
        table.add_column(heading, justify="right" if heading == "paper" else "left")
    for law in laws:
        expected = law.outcome(law.expected)
        table.add_row(law.id, str(law.number), law.title, "yes" if law.quick else "", expected)
    out.print(table)


COMMANDS = {"verify": expanded(verify_laws, without=("max_failures",))}

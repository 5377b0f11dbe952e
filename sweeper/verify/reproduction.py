"""The page of a verification: a table of all laws, and a section with a figure for each."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.table import Table
from rich.text import Text

from sweeper.analysis.diagrams.export import writing
from sweeper.analysis.laws import Verdict
from sweeper.config.messages import counted, duration
from sweeper.errors import UsageError
from sweeper.verify.verify import Verification, Verified

COLOURS = {
    Verdict.CONFIRMED: "green",
    Verdict.REFUTED: "cyan",
    Verdict.DEPENDS: "cyan",
    Verdict.IN_PART: "yellow",
    Verdict.NOT_REPRODUCED: "red",
}

HEAD = """# Reproduction: the papers' claims, measured

Written by `sweeper verify --report`: every number below comes from a launch of the grids in
`analysis/laws/grids` and queries over their views. Edit the laws, not this page.

Verdicts: **confirmed**; **refuted as stated**, with the statement that holds instead; **depends
on** something that the paper's statement leaves open, with the measured range. **In part** is
undecided; **not reproduced**: the main check failed, or nothing could be measured.
Laws are named by their ids; the column *paper* has the number of the paper's statement, which
several laws may share. Seconds are those of the packs of the sweeps that a law reads, one after the
other, on a shared core; laws that read the same sweep count it each.
"""


def plan_sentence(laws: int, verification: Verification, workers: int) -> str:
    """Return the plan of a verification as a sentence."""
    known = verification.trials - verification.new
    return (
        f"{counted(laws, 'law')}, {counted(len(verification.launched), 'sweep')}; "
        f"{counted(verification.trials, 'trial')}: {known} done, {verification.new} new; "
        f"{counted(len(verification.tasks), 'pack')} on {counted(workers, 'CPU')}"
    )


def verdict_table(verified: Sequence[Verified]) -> Table:
    """Return a table for the terminal, one row per law."""
    table = Table(box=None, pad_edge=False)
    table.add_column("law", overflow="fold")
    table.add_column("paper", justify="right")
    for heading in ("claim (source)", "measured", "verdict"):
        table.add_column(heading, overflow="fold")
    table.add_column("seconds", justify="right")
    for one in verified:
        claim, verdict = one.claim, one.measured.verdict
        unexpected = "" if one.as_expected else f" (expected: {claim.outcome(claim.expected)})"
        table.add_row(
            claim.id,
            str(claim.number),
            Text(f"{claim.claim} ({claim.source})"),
            Text(_said(one)),
            Text(f"{one.outcome}{unexpected}", style=COLOURS[verdict]),
            f"{one.seconds:.1f}",
        )
    return table


def _said(one: Verified) -> str:
    """Return the measurement, the checks that are not met, and the statement that holds instead."""
    measured = one.measured
    missed = f"; not met: {'; '.join(measured.missed)}" if measured.missed else ""
    notes = "".join(f" {note}" for note in (measured.note, one.claim.instead) if note)
    return f"{measured.text}{missed}.{notes}" if missed or notes else measured.text


def write(verified: Sequence[Verified], path: Path, *, wall_s: float, asked: Sequence[str]) -> None:
    """Write the page to `path`; the figures stand in the folder `figures(path)` beside it.

    Args:
        verified: The laws; a page that was there is replaced by theirs.
        path: Path of the page.
        wall_s: Seconds that the command took, without training in earlier commands.
        asked: The laws that the command named.

    Raises:
        UsageError: The page can't be written.
    """
    quick = any(one.quick for one in verified)
    lines = [HEAD]
    reached = {v: sum(one.measured.verdict is v for one in verified) for v in Verdict}
    shown = ", ".join(f"{n} {verdict}" for verdict, n in reached.items())
    command = " ".join(["sweeper verify", *asked, *(["--quick"] if quick else [])])
    took = f"`{command}` took {duration(wall_s)}."
    lines.append(f"{counted(len(verified), 'law')}: {shown}. {took}\n")
    if quick:
        lines.append("The grids were cut (`--quick`): intervals are wider than in a full run.\n")
    lines.append("| law | paper | claim | measured | verdict | seconds |")
    lines.append("|---|---|---|---|---|---|")
    for one in verified:
        claim = one.claim
        cells = (
            f"[{claim.id}](#{anchor(one)})",
            str(claim.number),
            claim.claim,
            one.measured.text,
            f"**{one.outcome}**",
            f"{one.seconds:.1f}",
        )
        lines.append(f"| {' | '.join(cell.replace('|', '&#124;') for cell in cells)} |")
    lines += ["", *(_section(one, path) for one in verified)]
    with writing(path) as file:
        file.write("\n".join(lines).encode())


def anchor(one: Verified) -> str:
    """Return the anchor that Markdown makes of a section's heading."""
    kept = (c for c in heading(one).lower() if c.isalnum() or c in " -_")
    return "".join(kept).replace(" ", "-")


def heading(one: Verified) -> str:
    """Return the heading of a law's section."""
    return f"{one.claim.id}: {one.claim.title}"


def _section(one: Verified, path: Path) -> str:
    claim, measured = one.claim, one.measured
    figure = figures(path) / f"{claim.id}.png"
    checks = "\n".join(
        f"- {'met' if met else '**not met**'}: {words}" for words, met in measured.checks.items()
    )
    grids = ", ".join(f"`{grid.name}`" for grid in claim.grids)
    flag = " --quick" if one.quick else ""
    parts = [
        f"## {heading(one)}",
        f"{claim.claim}\n\nSource: {claim.source}, number {claim.number} of the papers' claims.",
        f"Measured: {measured.text}. **{one.outcome[:1].upper()}{one.outcome[1:]}.**",
        claim.instead,
        checks,
        measured.note,
        f"Settings: {claim.settings or 'as in the source'}. "
        f"{counted(one.trials, 'trial')} of {grids}, {one.seconds:.1f} s of packs.",
        f"```sh\nsweeper verify {claim.id}{flag}\n```",
        f"![{claim.title}]({figures(path).name}/{figure.name})" if figure.exists() else "",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def figures(path: Path) -> Path:
    """Return the folder of the figures of the page at `path`."""
    return path.with_suffix("")


def prepare(path: Path) -> Path:
    """Make the folder of the figures of the page at `path`, and return it.

    Raises:
        UsageError: The page isn't Markdown, or its folder can't be written.
    """
    if path.suffix != ".md":
        raise UsageError(f"{path}: the page is Markdown. Name a file that ends in .md.")
    folder = figures(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{folder}: can't be made: {error.strerror}. Name another page.") from None
    return folder

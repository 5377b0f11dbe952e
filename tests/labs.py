"""A user's folder: a script or a function of theirs, and a grid file that names it."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from sweeper.compile.loading import load_grid
from sweeper.engine import commands
from sweeper.engine.driver import Outcome, Runner
from sweeper.engine.task import PackTask
from sweeper.engine.worker import run_inline
from sweeper.grid.grid import Grid
from sweeper.store.outcomes import ended_trials
from tests.sweeps import ledger, rows

GRID = """
name: lab
trainable: {trainable}
fixed: {{steps: 20}}
grid:
  product:
    lr: [0.1, 0.5]
seeds: 2
checkpoint: {{every_s: 1.0e-9}}
"""

DECAY = """
start = run.restore()
x = start["x"] if start else 1.0 + run.seed
for step in run.steps(20):
    {middle}
    run.log(step, train_acc=1 - min(1, x), test_acc=1 - min(1, 2 * x), train_loss=x)
    x *= 1 - {lr}
    run.checkpoint({{"x": x}})
{end}
"""
"""A training that decays: large rates generalize, small ones are censored."""

HEAD = """
import os, signal, sys, time
from pathlib import Path
import sweeper

run = sweeper.init(lr=0.1, depth=1)
"""

FUNCTION = """
import os, signal, sys, time
from dataclasses import dataclass
from pathlib import Path

@dataclass
class Config:
    lr: float = 0.1
    depth: int = 1

def train(config: Config, run):
"""


@dataclass
class Lab:
    """A folder with a user's code and a grid file.

    Attributes:
        folder: The folder.
        name: The name of the trainable in the grid file.
        text: The grid file.
    """

    folder: Path
    name: str = "./train.py"
    text: str = GRID

    @property
    def store(self) -> str:
        """The store of its sweep."""
        return str(self.folder / "sweeps")

    def script(self, middle: str = "pass", end: str = "", head: str = HEAD) -> Lab:
        """Write a script that runs `middle` in each step and `end` after the loop."""
        body = DECAY.format(middle=middle, end=end, lr="run.config.lr")
        (self.folder / "train.py").write_text(head + body)
        return self

    def raw(self, text: str) -> Lab:
        """Write the script `text`."""
        (self.folder / "train.py").write_text(textwrap.dedent(text))
        return self

    def function(self, middle: str = "pass", end: str = "", module: str = "lab_train") -> Lab:
        """Write a function that trains in the same way, in a module."""
        body = DECAY.format(middle=middle, end=end, lr="config.lr")
        (self.folder / f"{module}.py").write_text(FUNCTION + textwrap.indent(body, "    "))
        self.name = f"{module}:train"
        return self

    def grid(self, *overrides: str) -> Grid:
        """Return the grid."""
        path = self.folder / "grid.yaml"
        path.write_text(self.text.format(trainable=self.name))
        return load_grid(path, overrides)

    def launch(
        self,
        *overrides: str,
        launcher: Callable[[Sequence[PackTask]], None] = run_inline,
        rerun: bool = False,
    ) -> Outcome:
        """Launch the grid in this process."""
        return commands.launch(self.grid(*overrides), self.store, Runner(launcher, 1), rerun=rerun)

    def rows(self) -> pa.Table:
        """Return the rows that count."""
        return rows(self.store, "lab")

    def ends(self) -> list[dict[str, object]]:
        """Return the last end of each trial that counts, by lr and seed."""
        book = ledger(self.store, "lab")
        ends = {e["trial_id"]: e for e in ended_trials(book).sort_by("steps").to_pylist()}
        return [ends[t.id] for t in self.grid().trials() if t.id in ends]

    def outputs(self) -> list[str]:
        """Return the outputs that are kept."""
        return [p.read_text() for p in sorted(Path(self.store, "lab", "output").glob("*.txt"))]

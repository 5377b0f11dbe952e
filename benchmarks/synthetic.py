"""Large sweeps that nobody trained: any number of trials whose t1 and t2 are known beforehand.

Planned, packed, written and listed by the project's own code, from a grid file on; only the
numbers are drawn instead of trained. They have full mantissas, as trained ones have, so that
nothing compresses better than it would.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sweeper.compile.loading import load_grid
from sweeper.engine.driver import begin
from sweeper.engine.planner import plan_launch
from sweeper.engine.resources import local_cpus
from sweeper.store import compaction, tables
from sweeper.store.files import Files
from sweeper.store.lease import join, open_sweep
from sweeper.store.ledger import Ledger
from sweeper.store.packs import pack_rows
from sweeper.store.records import Record
from sweeper.store.schema import METRICS, logged_steps
from sweeper.store.sink import Claim, Sink
from sweeper.store.state import PackState

SEEDS = 10
TRAIN, TEST = 0.05, 0.03
"""Thresholds of t1 and t2."""

DRAWN = ("train_loss", "test_loss", "train_error", "test_error", "l1", "l2")
"""The metrics that sparse recovery has."""

GRID = """
name: {name}
fixed:
  task: {{name: sparse_recovery, n: 100, s: 5, N: 30}}
  optimizer: {{name: gd, lr: 0.1}}
  regularizer.name: l1
  selection.name: coherent
  steps: {horizon}
grid:
  product:
    regularizer.strength: {{logspace: [1.0e-5, 1.0e-1, {nx}]}}
    selection.tau: {{linspace: [0, 0.9, {ny}]}}
seeds: {seeds}
criterion: {{metric: error, train: {train}, test: {test}}}
stop: {{after_generalization: false}}
log: {{points_per_decade: {density}}}
"""


@dataclass(frozen=True)
class Synthetic:
    """A sweep in a store, with what its views have to say.

    Attributes:
        ledger: The sweep's ledger.
        steps: The logged steps, the same for every trial, ``[M]``.
        plan: The trials, as `Grid.table` has them.
        first: Places in `steps` of t1 and t2 of each trial of `plan`; M for never. ``[2, n]``.
    """

    ledger: Ledger
    steps: NDArray[np.int64]
    plan: pa.Table
    first: NDArray[np.int64]

    @classmethod
    def planned(cls, where: str, name: str, trials: int, rows: int) -> Synthetic:
        """Plan and pack `trials` trials with `rows` logged steps each, as a launch does.

        The number of trials is rounded up to whole cells.
        """
        density, steps = _steps(rows)
        cells = -(-trials // SEEDS)
        nx = max(n for n in range(1, int(cells**0.5) + 1) if cells % n == 0)
        ny = cells // nx
        text = GRID.format(
            name=name,
            horizon=steps[-1],
            nx=nx,
            ny=ny,
            seeds=SEEDS,
            train=TRAIN,
            test=TEST,
            density=density,
        )
        Path(where).mkdir(parents=True, exist_ok=True)
        path = Path(where, f"{name}.yaml")
        path.write_text(text)
        grid = load_grid(path, [])
        files = Files.at(join(where, name), create=True)
        ledger = Ledger.create(files, {"name": name, "points_per_decade": density})
        wanted = plan_launch(grid, ledger, workers=local_cpus())
        begin(grid, ledger, wanted, "synthetic", device="cpu")
        plan = wanted.table
        return cls(ledger, np.array(steps, dtype=np.int64), plan, _first(plan, len(steps)))

    def save(self) -> None:
        """Write down what isn't in the store: the places of t1 and t2."""
        np.save(_beside(self.ledger), self.first)

    @classmethod
    def saved(cls, where: str, name: str) -> Synthetic:
        """Return a sweep that was saved."""
        ledger = open_sweep(where, name)
        assert ledger.state.launch is not None
        steps = logged_steps(ledger.meta["points_per_decade"], ledger.state.launch["steps"])
        plan = tables.read(ledger.files, ledger.state.launch["plan"])
        return cls(ledger, np.array(steps, dtype=np.int64), plan, np.load(_beside(ledger)))

    def batches(self, trials: int) -> Iterator[tuple[list[PackState], list[NDArray[np.int64]]]]:
        """Yield packs with the places of their trials in the plan, some `trials` at a time."""
        state = self.ledger.state
        place = {t: i for i, t in enumerate(self.plan["trial_id"].to_pylist())}
        listed = pack_rows(self.ledger, list(state.packs))
        ids = np.array([place[t] for t in listed["trial_id"].to_pylist()], dtype=np.int64)
        names = listed["pack_id"].to_pylist()
        taken: list[PackState] = []
        places: list[NDArray[np.int64]] = []
        at = 0
        while at < len(ids):
            pack = state.packs[names[at]]
            taken.append(pack)
            places.append(ids[at : at + pack.size])
            at += pack.size
            if sum(map(len, places)) >= trials or at == len(ids):
                yield taken, places
                taken, places = [], []

    def sink(self, flushes: int) -> None:
        """Let every pack write its rows through a sink, which commits them `flushes` times."""
        ids = np.array(self.plan["trial_id"].to_pylist(), dtype=object)
        for packs, places in self.batches(1):
            (pack,), (mine,) = packs, places
            claim = Claim.take(self.ledger, pack.id, "synthetic", {"host": "h", "device": "cpu"})
            drawn = draw(len(self.steps), self.first[:, mine], int(mine[0]))
            names = list(ids[mine])
            every = -(-len(self.steps) // flushes)
            with Sink(claim) as sink:
                for k, step in enumerate(self.steps.tolist()):
                    sink.write(step, names, **{m: column[:, k] for m, column in drawn.items()})
                    if (k + 1) % every == 0:
                        sink.flush()
                self._end(sink, names)

    def compacted(self) -> None:
        """Write all rows as compaction leaves them, by as many processes as there are cores."""
        ids = np.array(self.plan["trial_id"].to_pylist(), dtype=object)
        batch = compaction.MAX_ROWS // len(self.steps)
        spawn = get_context("spawn")
        with ProcessPoolExecutor(local_cpus(), mp_context=spawn) as workers:
            waiting = []
            for number, (packs, places) in enumerate(self.batches(batch)):
                for pack, mine in zip(packs, places, strict=True):
                    claim = Claim.take(self.ledger, pack.id, "synthetic", {"device": "cpu"})
                    with Sink(claim) as sink:
                        self._end(sink, list(ids[mine]))
                mine = np.concatenate(places)
                mine = mine[np.argsort(ids[mine])]
                path = f"metrics/compact-{number:06}.parquet"
                job = (
                    self.ledger.files.uri,
                    path,
                    list(ids[mine]),
                    self.steps,
                    self.first[:, mine],
                    number,
                )
                waiting.append(([p.id for p in packs], workers.submit(write, *job)))
            for pack_ids, job_done in waiting:
                self.ledger.append(
                    {
                        "kind": "compact",
                        "at": time.time(),
                        "removed": [],
                        "added": [job_done.result()],
                        "pack_ids": pack_ids,
                    }
                )

    def _end(self, sink: Sink, names: Sequence[str]) -> None:
        last = int(self.steps[-1])
        sink.end(names, "censored", last_step=last, steps=last)
        sink.flush(done=True)

    def expected(self) -> pa.Table:
        """Return what `delays` has to say: trial_id, t1, t2, t1_lower, t2_lower; by trial."""
        columns: dict[str, pa.Array] = {"trial_id": self.plan["trial_id"]}
        m = len(self.steps)
        for name, place in zip(("t1", "t2"), self.first, strict=True):
            columns[name] = pa.array(self.steps[np.minimum(place, m - 1)], mask=place == m)
            lower = self.steps[np.clip(place - 1, 0, m - 1)]
            columns[f"{name}_lower"] = pa.array(lower, mask=(place == m) | (place == 0))
        return pa.table(columns).sort_by("trial_id")


def _beside(ledger: Ledger) -> str:
    return f"{ledger.files.uri}.npy"


def _steps(rows: int) -> tuple[int, tuple[int, ...]]:
    """Return points a decade and as many logged steps as `rows`, up to 10^5 or so."""
    density = max(1, rows // 5)
    horizon = 1
    while len(logged_steps(density, horizon)) < rows:
        horizon *= 2
    return density, logged_steps(density, horizon)[:rows]


def _first(plan: pa.Table, rows: int) -> NDArray[np.int64]:
    """Return places of t1 and t2: they come later, and then never, along both axes."""
    rng = np.random.default_rng(0)
    x = np.log10(plan["regularizer.strength"].to_numpy())
    y = plan["selection.tau"].to_numpy()
    noise = rng.normal(0, 0.05, (2, len(x)))
    share = (x + 5) / 4
    t1 = 0.1 + 0.95 * share + noise[0]
    t2 = np.where(y > 0.85, t1 - 0.02, t1 + 0.5 * y + noise[1])
    places = np.floor(np.stack([t1, t2]) * rows).astype(np.int64)
    return np.where(places >= rows, rows, np.maximum(places, 0))


def draw(rows: int, first: NDArray[np.int64], seed: int) -> dict[str, NDArray[np.float64]]:
    """Return the metrics of some trials, each ``[n, M]``: errors reach their thresholds at `first`.

    Args:
        rows: Logged steps M.
        first: Places of t1 and t2, ``[2, n]``.
        seed: Of the numbers.
    """
    rng = np.random.default_rng(seed)
    places = np.arange(rows)
    drawn = {}
    for name in DRAWN:
        values = rng.random((first.shape[1], rows))
        if name.endswith("_error"):
            side, threshold = (0, TRAIN) if name == "train_error" else (1, TEST)
            before = places < first[side][:, None]
            values = threshold * np.where(before, 1.001 + values, values)
        drawn[name] = values
    return drawn


def write(
    uri: str,
    path: str,
    ids: list[str],
    steps: NDArray[np.int64],
    first: NDArray[np.int64],
    seed: int,
) -> Record:
    """Write the rows of sorted trials as one compacted file; return its entry."""
    n, m = len(ids), len(steps)
    codes = pa.array(np.repeat(np.arange(n, dtype=np.int32), m))
    columns: dict[str, pa.Array] = {
        "trial_id": pa.DictionaryArray.from_arrays(codes, pa.array(ids, pa.string())).cast(
            pa.string()
        ),
        "step": pa.array(np.tile(steps, n)),
    }
    drawn = draw(m, first, seed)
    for name in list(METRICS)[2:]:
        column = drawn.get(name)
        columns[name] = (
            pa.nulls(n * m, pa.float64()) if column is None else pa.array(column.reshape(-1))
        )
    return tables.write_metrics(Files.at(uri), path, pa.table(columns))

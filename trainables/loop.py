"""The fused loop: trains every trial of a pack, logs, stops, saves, compacts.

The only place where a pack is opened. Trials end one by one: an ended trial's state is set
aside, and when half of the trials have ended the survivors move to smaller tensors. That
depends on steps alone, never on time, so that a pack killed and resumed ends bit-equal.
"""

from __future__ import annotations

import io
import pickle
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sweeper.criterion import RISING
from sweeper.errors import PackTooLargeError, StoreError, UsageError
from sweeper.packing import Pack
from sweeper.store.checkpoint import Checkpoints, Saved
from sweeper.store.schema import logged_steps
from sweeper.store.sink import Sink
from sweeper.trainables import networks
from sweeper.trainables.batch import malloc
from sweeper.trainables.batch.weights import Block
from sweeper.trainables.config import GrokkingConfig
from sweeper.trainables.families import low_rank, modular_arithmetic, sparse_recovery

Blocks = Callable[[Pack[GrokkingConfig], Sequence[int]], list[Block]]

BLOCKS: dict[str, Blocks] = {
    "product": sparse_recovery.blocks,
    "diagonal": sparse_recovery.blocks,
    "mlp": modular_arithmetic.blocks,
    "matrix": low_rank.blocks,
    "factorised": low_rank.blocks,
}
"""Model to the function that puts trials of a pack into tensors; others are networks'."""

PAYLOAD_VERSION = 2
"""Version of the checkpoints that are written; those of version 1 are read as well.

Version 1 saved weights with their padding (`Weights.load`). Early checkpoints of version 2 hold a
second moment ``v`` for momentum, too, which is always 0 and is not read.
"""


@dataclass(frozen=True, slots=True)
class Recorded:
    """The record of one trial in a checkpoint.

    Attributes:
        step: Steps that it had taken.
        diverged: Whether a metric of its last logged row was not finite.
        best: Column name to its best value so far.
        state: Name of a tensor to the tensor; see `Weights.saved`.
    """

    step: int
    diverged: bool
    best: dict[str, float]
    state: dict[str, Tensor]


def train(pack: Pack[GrokkingConfig], sink: Sink, checkpoints: Checkpoints) -> None:
    """Train every trial of `pack` to its end; see `sweeper.trainable.Trainable.train`."""
    torch.set_num_threads(pack.run.threads)
    malloc.keep_freed()
    try:
        with torch.no_grad():
            _Loop(pack, sink, checkpoints).run()
    except torch.OutOfMemoryError as error:
        raise PackTooLargeError(str(error)) from error
    except (RuntimeError, MemoryError) as error:
        if isinstance(error, MemoryError) or "can't allocate memory" in str(error):
            raise PackTooLargeError(str(error)) from error
        raise


def device(asked: str) -> str:
    """Return `asked`.

    Raises:
        UsageError: It is a CUDA device, and this machine has none.
    """
    if asked.startswith("cuda") and not device_count(asked):
        raise UsageError(
            f"no GPU found on this machine by torch {torch.__version__}. Train on a machine with a "
            "GPU and a build of torch that supports it, or set resources.gpu=0."
        )
    return asked


def device_count(asked: str) -> int:
    """Return the number of devices of the kind of `asked` on this machine; 1 for the CPU."""
    if not asked.startswith("cuda"):
        return 1
    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def device_memory(asked: str) -> int:
    """Return the bytes of the smallest GPU of the kind of `asked`; 0 if there is none."""
    n = device_count(asked) if asked.startswith("cuda") else 0
    return min((torch.cuda.get_device_properties(i).total_memory for i in range(n)), default=0)


def probe(pack: Pack[GrokkingConfig]) -> float:
    """Return the measured seconds of one optimizer step of `pack`, by a run of some 0.2 s."""
    torch.set_num_threads(pack.run.threads)
    malloc.keep_freed()
    with torch.no_grad():
        blocks = _blocks(pack, range(len(pack.trials)))
        for block in blocks:  # one-time loading and allocation are not part of a step
            block.step(0)
        count, taken, begun = 1, 0, time.perf_counter()
        while (elapsed := time.perf_counter() - begun) < 0.2:
            if taken >= 3 and elapsed > 0.1:
                break
            for _ in range(count):
                for block in blocks:
                    block.step(taken)
                taken += 1
            count *= 2
        return (time.perf_counter() - begun) / taken


def _blocks(pack: Pack[GrokkingConfig], positions: Sequence[int]) -> list[Block]:
    model = str(pack.trials[0].values["model.name"])
    return BLOCKS.get(model, networks.blocks)(pack, positions)


class _Loop:
    """The state of one pack in training.

    A trial is known by its position in the pack. A trial that ended before the pack was resumed
    is no longer part of it, and stays in `carried` for the next checkpoints.

    Attributes (beside the obvious):
        alive: Positions of the trials that have not ended.
        steps: Steps that each trial had taken when it ended, ``[trials]``.
        diverged: Whether a metric of the last logged row was not finite, ``[trials]``.
        best: Column name to the best value of each trial so far, ``[trials]``.
        aside: Position of an ended trial to its final state.
        carried: Id of a trial that ended before the pack was resumed to its record.
    """

    def __init__(self, pack: Pack[GrokkingConfig], sink: Sink, checkpoints: Checkpoints) -> None:
        self.pack, self.sink, self.checkpoints = pack, sink, checkpoints
        self.criterion = pack.criterion
        self.ids = pack.trial_ids
        self.alive = np.arange(len(self.ids))
        self.steps = np.zeros(len(self.ids), dtype=np.int64)
        self.diverged = np.zeros(len(self.ids), dtype=bool)
        self.best: dict[str, NDArray[np.float64]] = {}
        self.aside: dict[int, dict[str, Tensor]] = {}
        self.carried: dict[str, Recorded] = {}
        self.step = 0
        self._rebuild()

    def _rebuild(self) -> None:
        """Put the trials that are alive into tensors of their own."""
        self.blocks = _blocks(self.pack, self.alive.tolist())

    def _rows(self, block: Block) -> tuple[Tensor, list[int]]:
        """Return the rows of `block` that hold a trial, and those trials' positions."""
        pairs = [(row, p) for row, p in enumerate(block.positions) if p >= 0]
        rows = torch.tensor([row for row, _ in pairs], device=block.weights.value.device)
        return rows, [p for _, p in pairs]

    def run(self) -> None:
        """Train to the end."""
        resumed = self._restore()
        run = self.pack.run
        for target in run.logged_steps():
            if target < self.step or (resumed and target == self.step):
                continue
            self._advance(target)
            if not len(self.alive):
                break
            self._log()
            if not len(self.alive):
                break
            self._compact()
        if len(self.alive):
            self._advance(run.steps)
            self._finish_horizon()
        self.checkpoints.finish(self.step, self._payload(self.checkpoints.keeps))

    def _advance(self, target: int) -> None:
        """Take optimizer steps up to `target`, saving whenever it is time."""
        blocks, due = self.blocks, self.checkpoints.due
        while self.step < target:
            if due():
                self._save()
            for block in blocks:
                block.step(self.step)
            self.step += 1

    def _metrics(self) -> dict[str, NDArray[np.float64]]:
        """Return the metrics of the trials that are alive, in their order."""
        order: list[int] = []
        columns: dict[str, list[Tensor]] = {}
        for block in self.blocks:
            rows, positions = self._rows(block)
            order += positions
            for name, column in block.metrics().items():
                columns.setdefault(name, []).append(column[rows].double().cpu())
        place = {position: i for i, position in enumerate(order)}
        index = [place[int(p)] for p in self.alive]
        return {name: torch.cat(parts).numpy()[index] for name, parts in columns.items()}

    def _log(self) -> None:
        """Measure, write one row per trial, and end the trials that are due to end."""
        metrics = self._metrics()
        self.sink.write(self.step, [self.ids[p] for p in self.alive], **metrics)
        for name, column in metrics.items():
            if name.startswith(("train_", "test_")):
                rising = name.split("_", 1)[1] in RISING
                best = self.best.setdefault(name, np.full(len(self.ids), np.nan))
                better = np.fmax if rising else np.fmin
                best[self.alive] = better(best[self.alive], column)
        finite = np.isfinite(metrics["train_loss"]) & np.isfinite(metrics["test_loss"])
        self.diverged[self.alive] = ~finite
        run = self.pack.run
        if run.diverged:
            self._end(~finite, "diverged")
        if run.after_generalization:
            self._end(self._generalized(), "generalized")

    def _generalized(self) -> NDArray[np.bool_]:
        """Return which of the trials that are alive have both memorized and generalized."""
        unknown = np.full(
            len(self.ids), np.nan
        )  # the criterion never holds where the task lacks its metric
        train, test = (
            self.best.get(f"{side}_{self.criterion.metric}", unknown)[self.alive]
            for side in ("train", "test")
        )
        return self.criterion.train_holds(train) & self.criterion.test_holds(test)

    def _finish_horizon(self) -> None:
        """End the trials that are left: they have reached the horizon."""
        self._end(self.diverged[self.alive], "diverged")
        self._end(self._generalized(), "generalized")
        self._end(np.ones(len(self.alive), dtype=bool), "censored")

    def _end(self, which: NDArray[np.bool_], status: str) -> None:
        """End those of the trials that are alive."""
        positions = self.alive[which]
        self.alive = self.alive[~which]
        if len(positions):
            self.aside |= self._states(positions.tolist())
            self.steps[positions] = self.step
            last = logged_steps(self.pack.run.points_per_decade, self.step)[-1]
            ids = [self.ids[p] for p in positions]
            self.sink.end(ids, status, last_step=last, steps=self.step)

    def _compact(self) -> None:
        """Move the trials to smaller tensors once half of the ones there have ended."""
        held = sum(p >= 0 for block in self.blocks for p in block.positions)
        if 2 * len(self.alive) <= held:
            states = self._states(self.alive.tolist())
            self._rebuild()
            self._load(states)

    def _states(self, positions: Sequence[int]) -> dict[int, dict[str, Tensor]]:
        """Return the state of each trial at `positions`, as in their block's weights."""
        wanted = set(positions)
        states = {p: self.aside[p] for p in wanted if p in self.aside}
        for block in self.blocks:
            rows, at = self._rows(block)
            chosen = [i for i, p in enumerate(at) if p in wanted and p not in states]
            if chosen:
                state = block.weights.saved(rows[chosen])
                for i, index in enumerate(chosen):
                    states[at[index]] = {name: tensor[i] for name, tensor in state.items()}
        return states

    def _load(self, states: dict[int, dict[str, Tensor]]) -> None:
        """Set the state of each trial in the tensors; the opposite of `_states`."""
        for block in self.blocks:
            rows, at = self._rows(block)
            chosen = [i for i, p in enumerate(at) if p in states]
            if chosen:
                names = states[at[chosen[0]]]
                stacked = {n: torch.stack([states[at[i]][n] for i in chosen]) for n in names}
                block.weights.load(rows[chosen], stacked)

    def _payload(self, keeps: Callable[[str], bool]) -> bytes | None:
        """Return a checkpoint of the trials whose ids `keeps` accepts; None where there are none.

        Loading it runs no code.
        """
        chosen = [p for p, trial_id in enumerate(self.ids) if keeps(trial_id)]
        carried = {i: record for i, record in self.carried.items() if keeps(i)}
        if not chosen and not carried:
            return None
        self.steps[self.alive] = self.step
        states = self._states(chosen)
        before = list(carried.values())
        rows = [states[p] for p in chosen] + [record.state for record in before]
        best = {
            name: np.append(column[chosen], [record.best.get(name, np.nan) for record in before])
            for name, column in self.best.items()
        }
        content = {
            "version": PAYLOAD_VERSION,
            "pack_id": self.pack.id,
            "trial_ids": [self.ids[p] for p in chosen] + list(carried),
            "steps": torch.tensor([*self.steps[chosen].tolist(), *(r.step for r in before)]),
            "diverged": torch.tensor(
                [*self.diverged[chosen].tolist(), *(r.diverged for r in before)]
            ),
            "best": {name: torch.from_numpy(column) for name, column in best.items()},
            "state": {name: torch.stack([row[name] for row in rows]) for name in rows[0]},
        }
        buffer = io.BytesIO()
        torch.save(content, buffer)
        return buffer.getvalue()

    def _save(self) -> None:
        payload = self._payload(lambda _: True)
        assert payload is not None, "a pack has trials"
        self.checkpoints.save(self.step, payload)

    def _restore(self) -> bool:
        """Take up the saved states; return whether there were any."""
        place = {trial_id: p for p, trial_id in enumerate(self.ids)}
        states: dict[int, dict[str, Tensor]] = {}
        for one in self.checkpoints.start():
            content = read_payload(one)
            wanted = set(one.trial_ids)
            resumed = content["pack_id"] == self.pack.id
            for i, trial_id in enumerate(content["trial_ids"]):
                if trial_id in wanted:
                    record = self._recorded(content, i)
                    states[place[trial_id]] = record.state
                    self._take(record, place[trial_id])
                elif resumed:
                    self.carried[trial_id] = self._recorded(content, i)
        if states:
            (self.step,) = {int(self.steps[p]) for p in states}  # by the engine's grouping
            self._load(states)
        return bool(states)

    def _recorded(self, content: dict[str, Any], i: int) -> Recorded:
        """Return the record of trial number `i` of a checkpoint."""
        return Recorded(
            step=int(content["steps"][i]),
            diverged=bool(content["diverged"][i]),
            best={name: float(column[i]) for name, column in content["best"].items()},
            state={name: content["state"][name][i] for name in self.blocks[0].weights.names()},
        )

    def _take(self, record: Recorded, position: int) -> None:
        """Take up the record of one trial."""
        self.steps[position] = record.step
        self.diverged[position] = record.diverged
        for name, value in record.best.items():
            self.best.setdefault(name, np.full(len(self.ids), np.nan))[position] = value


def read_payload(saved: Saved) -> dict[str, Any]:
    """Return the content of a checkpoint; loading it runs no code.

    Raises:
        StoreError: It can't be read, or a newer program wrote it.
    """
    try:
        content: dict[str, Any] = torch.load(io.BytesIO(saved.payload), weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise StoreError(f"a checkpoint of {saved.trial_ids[0]} cannot be read: {error}") from error
    if content["version"] > PAYLOAD_VERSION:
        raise StoreError(
            f"a checkpoint of {saved.trial_ids[0]} has version {content['version']}, and this "
            f"program reads up to {PAYLOAD_VERSION}. Upgrade sweeper."
        )
    return content

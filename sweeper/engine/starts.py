"""The final checkpoints that trials continue from if they need more steps."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from sweeper.errors import UsageError
from sweeper.store.ledger import Ledger


@dataclass(frozen=True, slots=True)
class Starts:
    """The checkpoints that new trials continue from, one value per trial.

    Attributes:
        steps: Step of the checkpoint; -1 without one.
        paths: Path of the checkpoint; null without one.
        packs: Id of the pack that wrote the checkpoint; null without one.
    """

    steps: NDArray[np.int64]
    paths: pa.Array
    packs: pa.Array


def starts_of(ledger: Ledger, ends: pa.Table, longer: NDArray[np.bool_]) -> Starts:
    """Return the checkpoints: those of `ends` for the `longer` trials, none for the others."""
    state = ledger.state
    packs = ends["pack_id"].combine_chunks().dictionary_encode()
    which = packs.indices.to_numpy()
    sources = [state.packs[i] for i in packs.dictionary.to_pylist()]
    keeps = [
        state.launches[pack.attempts[-1].record["launch_id"]]["checkpoint"]["keep"]
        for pack in sources
    ]
    lost = np.array(
        [p.checkpoint is None or keep == "none" for p, keep in zip(sources, keeps, strict=True)]
    )
    censored_only = np.array([keep == "censored" for keep in keeps])
    ended_otherwise = pc.not_equal(ends["status"], "censored").to_numpy()
    gone = lost[which] | (censored_only[which] & ended_otherwise)
    if gone.any():
        row = int(np.argmax(gone))
        end = ends.slice(row, 1).to_pylist()[0]
        raise UsageError(
            f"trial {end['trial_id']} has to continue from step {end['steps']}, but its final "
            f"checkpoint wasn't kept (checkpoint.keep: {keeps[which[row]]}). "
            "Choose another name for the sweep, or the old number of steps."
        )
    kept = [pack.checkpoint["path"] for pack in sources if pack.checkpoint is not None]
    steps = np.full(len(longer), -1, dtype=np.int64)
    steps[longer] = ends["steps"].to_numpy()
    source = np.zeros(len(longer), dtype=np.int64)
    source[longer] = which
    at = pa.array(source, mask=~longer)
    return Starts(steps, pa.array(kept, pa.string()).take(at), packs.dictionary.take(at))

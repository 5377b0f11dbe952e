"""The trained weights of a trial, from the checkpoint of its pack.

A checkpoint's bytes are the trainable's own. `FORMATS` lists the formats that are recognized by
their content, whatever trained them. For every other one the trainable has an optional function
``weights(payload, trial)``, which returns name to tensor, or None if the checkpoint doesn't hold
the trial.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from sweeper import trainable
from sweeper.config.trial import Trial as Planned
from sweeper.errors import UsageError
from sweeper.store import tables
from sweeper.store.ledger import Ledger
from sweeper.store.records import Record

if TYPE_CHECKING:
    from sweeper.report.trial import Trial

Reader = Callable[[bytes, Planned], Any]

FORMATS: Sequence[tuple[Callable[[bytes], bool], Reader]] = ()
"""Whether a checkpoint is of a format, and the function that reads the weights of a trial in it."""


def weights(ledger: Ledger, planned: Planned, launch: Record, trial: Trial) -> dict[str, Any]:
    """Return the weights of a trial; see `sweeper.report.trial.Trial.weights`."""
    if trial.pack_id is None or not kept(ledger, trial):
        raise UsageError(_missing(ledger, trial))
    pack = ledger.state.packs[trial.pack_id]
    assert pack.checkpoint is not None, "it is kept"
    payload = tables.content(ledger.files, pack.checkpoint)
    state: dict[str, Any] | None = _reader(payload, launch)(payload, planned)
    if state is None:
        raise UsageError(_missing(ledger, trial))
    return state


def kept(ledger: Ledger, trial: Trial) -> bool:
    """Return whether the checkpoint of a trial's pack is kept, and holds the trial."""
    if trial.pack_id is None or ledger.state.packs[trial.pack_id].checkpoint is None:
        return False
    if not ledger.state.packs[trial.pack_id].done:
        return trial.status != "failed"
    keep = _keep(ledger, trial)
    return trial.status != "failed" and (keep == "all" or keep == trial.status)


def _reader(payload: bytes, launch: Record) -> Reader:
    """Return the function that reads a checkpoint.

    Raises:
        UsageError: The trainable that wrote it has none, or can't be imported.
    """
    for recognizes, read in FORMATS:
        if recognizes(payload):
            return read
    name = launch["trainable"]
    own: Reader | None = getattr(trainable.load(name, launch.get("code")), "weights", None)
    if own is None:
        raise UsageError(
            f"only the trainable {name!r} knows the format of its checkpoints. Give it a function "
            "`weights(payload, trial)` that returns name to tensor."
        )
    return own


def _missing(ledger: Ledger, trial: Trial) -> str:
    """Return why a checkpoint doesn't hold a trial, and what to do."""
    if trial.status == "pending":
        return f"{trial.id}: not trained yet, so it has no weights. Launch the sweep."
    if trial.status == "running":
        return f"{trial.id}: no checkpoint yet, so it has no weights. Wait for one."
    if trial.status == "failed":
        return (
            f"{trial.id}: it failed, and the weights of failed trials aren't kept. Its error says "
            f"why; `sweeper retry {ledger.name}` lets the next launch train it again."
        )
    keep = _keep(ledger, trial)
    if keep == "all":  # a user's code
        return (
            f"{trial.id}: its training saved no state. Call run.restore() before the loop and "
            f"run.checkpoint(state) in it, and train it again: {trial.command}"
        )
    return (
        f"{trial.id}: its weights weren't kept, because checkpoint.keep is {keep} and the trial "
        f"ended as {trial.status}. Train it again with its weights: {trial.command}"
    )


def _keep(ledger: Ledger, trial: Trial) -> str:
    """Return the setting `checkpoint.keep` of the launch that trained a trial last."""
    assert trial.pack_id is not None
    attempts = {a.number: a.record for a in ledger.state.packs[trial.pack_id].attempts}
    claim = attempts.get(trial.attempt or 0, {})
    launch = ledger.state.launches.get(claim.get("launch_id", ""), {})
    return str(launch.get("checkpoint", {}).get("keep", "none"))

"""`sweeper.init`: the beginning of a user's training script."""

from __future__ import annotations

from typing import Any

from sweeper.runs import alone, channel
from sweeper.runs.fields import DeclarationError, declare
from sweeper.runs.run import Run, RunError

_begun: list[bool] = []
"""Not empty once a sweep's run has begun in this process."""


def init(config: Any = None, /, **defaults: Any) -> Run:
    """Begin the training of one trial, and return its run.

    By hand, the config has its defaults and what the command line sets, as in
    ``python train.py --lr 3e-3``. In a sweep it comes from the grid file, which names the script
    (``trainable: ./train.py``) and has the fields of the config as axes.

    Args:
        config: The fields and their defaults: a dictionary, a dataclass or an instance of one, a
            pydantic model, or an `argparse.ArgumentParser`. Fields called `seed` and `steps` are
            filled in by the grid's `seeds` and `fixed.steps`.
        defaults: The same as keyword arguments: ``sweeper.init(lr=1e-3, depth=2)``.

    Raises:
        DeclarationError: The config can't be understood; the message says what to write.
        RunError: It is called a second time in the same trial.
    """
    connection = channel.claim()
    if connection is None:
        if _begun:
            raise RunError(
                "sweeper.init was called twice in one trial. Call it once, and pass the run on."
            )
        return alone.begin(declare(config, defaults))
    _begun.append(True)
    try:
        declaration = declare(config, defaults)
    except DeclarationError as error:
        channel.send(connection, "refused", str(error))
        raise
    return channel.begin(connection, declaration)

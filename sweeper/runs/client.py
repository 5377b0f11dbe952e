"""`sweeper.init`: the beginning of a user's training script."""

from __future__ import annotations

from typing import Any

from sweeper.runs import alone, channel
from sweeper.runs.fields import DeclarationError, declare
from sweeper.runs.run import Run, RunError

_begun: list[Run] = []
"""The run of a sweep in this process, once it has begun. It lives as long as the process, and so
does its connection."""


def init(config: Any = None, /, **defaults: Any) -> Run:
    """Begin the training of one trial, and return its run.

    By hand, the config has its defaults and what the command line sets, as in
    ``python train.py --lr 3e-3``. In a sweep it comes from the grid file, which names the script
    (``trainable: ./train.py``) and has the fields of the config as axes.

    Args:
        config: The fields and their defaults: a dictionary, a dataclass or an instance of one, a
            pydantic model, or an `argparse.ArgumentParser`. A sweep fills in the seed (fields
            called `seed` or `random_state`), the horizon (`steps`, `n_steps`, `max_iters` and the
            like) and the `device`; see `sweeper.runs.fields.FILLED`.
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
    try:
        declaration = declare(config, defaults)
    except DeclarationError as error:
        channel.send(connection, "refused", str(error))
        raise
    _begun.append(channel.begin(connection, declaration))
    return _begun[0]

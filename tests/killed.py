"""Searches in processes of their own that are killed at a chosen moment."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import signal
from pathlib import Path
from typing import Any

from sqlalchemy import event
from sqlalchemy.engine import Engine

from sweeper.compile.loading import load_grid
from sweeper.store.ledger import Ledger
from tests.searches import search

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["tests.killed", "scipy.stats.qmc", "optuna.storages._rdb.storage"])


def run(file: Path, store: str, moment: int | None, storage: str | None = None) -> int | None:
    """Search in a new process; return its exit code.

    Args:
        file: The grid file.
        store: URI of the store.
        moment: It is killed with SIGKILL before this commit to the study or the ledger, or right
            behind it, counted from 0; None for never.
        storage: URL of the study's database.
    """
    process = CONTEXT.Process(target=_searching, args=(file, store, moment, storage))
    process.start()
    process.join()
    return process.exitcode


def _searching(file: Path, store: str, moment: int | None, storage: str | None) -> None:
    moments = itertools.count()

    def passing(*_: object) -> None:
        if next(moments) == moment:
            os.kill(os.getpid(), signal.SIGKILL)

    append = Ledger.append

    def appending(self: Ledger, *args: Any, **options: Any) -> Any:
        passing()
        result = append(self, *args, **options)
        passing()
        return result

    Ledger.append = appending  # type: ignore[method-assign]
    event.listen(Engine, "commit", passing)
    os._exit(search(load_grid(file, []), store, storage=storage).exit_code)

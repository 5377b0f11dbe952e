"""A Ray of this machine that other machines can't reach."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType


@contextmanager
def on_loopback(constants: ModuleType, local: bool) -> Iterator[None]:
    """Let a Ray that is started within the context listen on the loopback interface alone.

    On macOS and Windows Ray does so by itself, unless a variable asks for a cluster. A value of
    that variable that is set already stays.

    Args:
        constants: Ray's module of constants. It read the variable when it was imported, while the
            processes that Ray starts read it again.
        local: Whether the Ray is of this machine; nothing is changed otherwise.
    """
    name = constants.ENABLE_RAY_CLUSTERS_ENV_VAR
    if not local or name in os.environ:
        yield
        return
    before = constants.ENABLE_RAY_CLUSTER
    os.environ[name] = "0"
    vars(constants)["ENABLE_RAY_CLUSTER"] = False
    try:
        yield
    finally:
        del os.environ[name]
        vars(constants)["ENABLE_RAY_CLUSTER"] = before

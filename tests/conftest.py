"""What all tests share: one thread each, no settings from outside, a Ray that stays by itself."""

from __future__ import annotations

import os
import secrets
import signal
from pathlib import Path

import pytest
from hypothesis import settings

# Before any test module imports NumPy, torch or Ray: they read these once.
os.environ |= {
    "OMP_NUM_THREADS": "1",
    "MPLBACKEND": "Agg",
    "RAY_AUTH_MODE": "token",  # as in production, but with a token that never touches a home
    "RAY_AUTH_TOKEN": secrets.token_hex(16),
    "RAY_USAGE_STATS_ENABLED": "0",
}
for name in ("SWEEPER_STORE", "SWEEPER_ADDRESS", "RAY_ADDRESS", "OPTUNA_STORAGE"):
    os.environ.pop(name, None)

settings.register_profile("sweeper", deadline=None)  # a busy machine is no failure
settings.load_profile("sweeper")


HANDLERS = {
    number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
}
"""The handlers of signals before any test."""


@pytest.fixture(autouse=True)
def own_signals() -> None:
    """Undo what commands did to the handlers of signals: their processes would have ended.

    Commands also run in fixtures of whole modules, before this one.
    """
    for number, handler in HANDLERS.items():
        signal.signal(number, handler)


@pytest.fixture
def store(tmp_path: Path) -> str:
    """The URI of a store that doesn't exist yet."""
    return str(tmp_path / "sweeps")


RAY = (
    "test_chaos",
    "test_cli",
    "test_docs",
    "test_lost",
    "test_peers",
    "test_preflight",
    "test_ray",
)
"""Files whose tests start Ray: they share one worker of xdist, beside which the others run."""


ALONE = ("test_mutations", "test_law_slopes", "test_grokking")
"""Files of many long tests that share nothing: any worker takes any of them."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep the tests of a file on one worker, and those that start Ray on one and the same."""
    for item in items:
        if item.path.stem in ALONE and item.get_closest_marker("long"):
            continue
        group = "ray" if item.path.stem in RAY else item.path.stem
        item.add_marker(pytest.mark.xdist_group(group))

"""sweeper: grids of thousands of small training runs, as phase diagrams of grokking delay.

From Python: `sweeper.load_grid`, `sweeper.launch`, `sweeper.query`; see `sweeper.api`.
"""

from importlib import import_module
from typing import Any

from sweeper import aliases

__version__ = "0.1.0"


_API = ("launch", "load_grid", "query")
_RUNS = {"init": "client", "Run": "run"}

aliases.install()


def __getattr__(name: str) -> Any:
    """Load the API on first use: importing the package stays instant."""
    if name in _API:
        from sweeper import api

        return getattr(api, name)
    if name in _RUNS:  # nothing heavy: a script that is run by hand starts as fast as without it
        return getattr(import_module(f"sweeper.runs.{_RUNS[name]}"), name)
    raise AttributeError(f"module 'sweeper' has no attribute {name!r}")

"""sweeper: grids of thousands of small training runs, as phase diagrams of grokking delay.

From Python: `sweeper.launch` trains a grid, `sweeper.open` reads a sweep; see `sweeper.api`. In a
training script of your own: `sweeper.init`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from sweeper import aliases

if TYPE_CHECKING:
    from sweeper.api import launch, query
    from sweeper.compile.loading import load_grid
    from sweeper.report.sweep import Sweep, open  # noqa: A004
    from sweeper.report.trial import Trial
    from sweeper.runs.client import init
    from sweeper.runs.run import Run

__all__ = ["Run", "Sweep", "Trial", "init", "launch", "load_grid", "open", "query"]

__version__ = "0.1.0"


_API = {
    "Run": "sweeper.runs.run",
    "Sweep": "sweeper.report.sweep",
    "Trial": "sweeper.report.trial",
    "init": "sweeper.runs.client",
    "launch": "sweeper.api",
    "load_grid": "sweeper.compile.loading",
    "open": "sweeper.report.sweep",
    "query": "sweeper.api",
}
"""Name to the module that it is loaded from on first use.

A script that is run by hand starts as fast as without `init`, and reading a sweep loads no Ray.
"""

aliases.install()


def __getattr__(name: str) -> Any:
    """Load the API on first use: importing the package stays instant."""
    if name in _API:
        return getattr(import_module(_API[name]), name)
    raise AttributeError(f"module 'sweeper' has no attribute {name!r}")

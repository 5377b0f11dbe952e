"""sweeper: grids of thousands of small training runs, as phase diagrams of grokking delay.

From Python: `sweeper.load_grid`, `sweeper.launch`, `sweeper.query`; see `sweeper.api`.
"""

from typing import Any

from sweeper import aliases

__version__ = "0.1.0"


_API = ("launch", "load_grid", "query")

aliases.install()


def __getattr__(name: str) -> Any:
    """Load the API on first use: importing the package stays instant."""
    if name in _API:
        from sweeper import api

        return getattr(api, name)
    raise AttributeError(f"module 'sweeper' has no attribute {name!r}")

"""sweeper: grids of thousands of small training runs, as phase diagrams of grokking delay."""

__version__ = "0.1.0"

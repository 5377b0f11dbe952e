"""The grid file: its text, its shape, its overrides, and the cells that it describes."""

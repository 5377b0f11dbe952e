"""From a grid file to a checked `Grid`: every mistake with its place, all at once."""

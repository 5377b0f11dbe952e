"""The search space: dimensions, their conditions, and the cells that suggestions become."""

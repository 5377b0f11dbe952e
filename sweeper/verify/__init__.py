"""The papers' laws: launch their grids, measure their claims, write the page of results."""

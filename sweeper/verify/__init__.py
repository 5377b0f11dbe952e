"""The papers' laws: launch their grids, judge their claims, write the page of results."""

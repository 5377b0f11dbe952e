"""Optuna searches for cells; every suggestion is trained as trials of the store."""

"""Optimizers, regularizers, and the metrics that are computed on request."""

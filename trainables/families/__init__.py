"""Families with hand-written gradients: linear models, low-rank matrices, the modular MLP."""

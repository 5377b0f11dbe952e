"""Configs: typed fields, their checks, a user's own choices, and the identity of a trial."""

from sweeper.config.fields import BATCHED, DRAWN, Config, Constraint, Leaf, Scalar, Section, Values

__all__ = ["BATCHED", "DRAWN", "Config", "Constraint", "Leaf", "Scalar", "Section", "Values"]

"""The papers' claims: the statement of each, the grids that test it, and its measurement."""

from __future__ import annotations

from sweeper.analysis.laws import (
    decay,
    diagonal,
    images,
    language_molecules,
    matrices,
    measurements,
    mlp_penalties,
    modular,
    products,
    relu_flow,
    sparse,
    teacher_student,
    toy,
    transformers,
)
from sweeper.analysis.laws.claim import Claim, LawGrid, Measured, Verdict
from sweeper.analysis.laws.evidence import Evidence, UnmeasuredError

__all__ = ["LAWS", "Claim", "Evidence", "LawGrid", "Measured", "UnmeasuredError", "Verdict"]

FAMILIES = (
    sparse,
    measurements,
    products,
    matrices,
    decay,
    diagonal,
    modular,
    images,
    transformers,
    toy,
    mlp_penalties,
    teacher_student,
    relu_flow,
    language_molecules,
)

LAWS: tuple[Claim, ...] = tuple(
    sorted(
        (law for family in FAMILIES for law in family.LAWS), key=lambda law: (law.number, law.id)
    )
)
"""All of them, by their number."""

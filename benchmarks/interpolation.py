"""Labels between the cells of a refined diagram, by interpolation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from sweeper.refine.mesh import FINE, Mark, Point

BATCH = 4096
"""Points per batch: bounds the memory of the matrix of distances."""


def labels_at(marks: Mapping[Point, Mark], points: Sequence[tuple[float, float]]) -> list[str]:
    """Return the most likely label at each of `points`, which may lie between marks.

    The indicator of each label is interpolated with the distance as the kernel, and the label with
    the highest value wins. A mark whose seeds agree is interpolated exactly. A split mark may get
    the label of its neighbours, so that noise makes no islands.

    Args:
        marks: The known results by position; at least one.
        points: Positions on the two axes.
    """
    known = sorted(marks)
    labels = sorted({mark.label for mark in marks.values()})
    apart = _distances(known, known)
    slack = 8 * np.min(apart, initial=FINE, where=apart > 0)
    slacks = [slack if marks[p].split else 0.0 for p in known]
    system = np.pad(np.diag(slacks) - apart, (0, 1), constant_values=1)
    system[-1, -1] = 0  # the weights add up to 0, beside a constant
    ones = [[marks[p].label == label for label in labels] for p in known]
    weights = np.linalg.solve(system, np.pad(np.array(ones, np.float64), ((0, 1), (0, 0))))
    labels_there: list[str] = []
    for start in range(0, len(points), BATCH):
        distances = _distances(points[start : start + BATCH], known)
        votes = weights[-1] - distances @ weights[:-1]
        labels_there += [labels[index] for index in votes.argmax(axis=1)]
    return labels_there


def _distances(
    points: Sequence[tuple[float, float]], others: Sequence[Point]
) -> NDArray[np.float64]:
    here, there = (np.array(places, np.float64).T for places in (points, others))
    apart: NDArray[np.float64] = np.hypot(*(here[:, :, None] - there[:, None, :]))
    return apart

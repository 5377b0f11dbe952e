"""Polarizability of molecules, from few of them.

References:
    [L23] Liu, Michaud, Tegmark, Omnigrok, 2023. arXiv 2210.01117, Fig. 5
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from sweeper.config.trial import Trial
from sweeper.errors import UsageError
from sweeper.trainables.batch.weights import padded
from sweeper.trainables.config.molecules import NODE, pool
from sweeper.trainables.data.examples import Data, Examples
from sweeper.trainables.data.molecules import Molecule, library
from sweeper.trainables.data.streams import data_seed, stream
from sweeper.trainables.networks.losses import Loss, squares


def data_of(trial: Trial) -> Data:
    """Return the examples of `trial`: atoms, bonds, which atoms there are; polarizabilities.

    Raises:
        UsageError: There are no molecules, or fewer than the trial wants.
    """
    v: Any = trial.values
    return _data(
        data_seed(trial),
        v["task.source"],
        v["task.path"],
        pool(v),
        v["task.N"],
        v["task.N_test"],
        v["task.standardized"],
    )


@lru_cache(maxsize=64)
def _molecules(source: str, path: str | None, first: int) -> tuple[Molecule, ...]:
    known = library(source, path)
    return tuple(known.molecule(i) for i in range(first))


@lru_cache(maxsize=128)
def _data(
    seed: int, source: str, path: str | None, first: int, N: int, N_test: int, standardized: bool
) -> Data:
    """Draw tests, then train molecules; all are padded as the largest they are drawn from."""
    known = library(source, path)
    if first > len(known.target):
        raise UsageError(
            f"task.N = {N}, task.N_test = {N_test}: there are {len(known.target)} molecules. "
            "Lower one of them, or task.first."
        )
    molecules = _molecules(source, path, first)
    size = padded(max(len(m.atoms) for m in molecules))
    order = torch.randperm(first, generator=stream(seed, "molecules", first)).tolist()
    train, test = order[N_test : N_test + N], order[:N_test]
    target = torch.tensor(known.target)
    if standardized:
        mean, deviation = target[train].mean(), target[train].std(correction=0)
        if deviation == 0:
            raise UsageError(
                f"task.N = {N}: all train molecules are equally polarizable. Raise task.N, or "
                "set task.standardized: false."
            )
        target = (target - mean) / deviation
    return Data(
        *(
            Examples(graphs([molecules[i] for i in part], size), target[part][:, None])
            for part in (train, test)
        )
    )


def graphs(molecules: Sequence[Molecule], size: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return molecules padded to `size` atoms.

    Returns:
        Features of the atoms, padded to 16, ``[N, size, 16]``; types of bonds, 0 for none,
        ``[N, size, size]`` as int8; whether there is an atom, 1 or 0, ``[N, size]``.
    """
    N = len(molecules)
    atoms = torch.zeros(N, size, padded(NODE), dtype=torch.float64)
    bonds = torch.zeros(N, size, size, dtype=torch.int8)
    there = torch.zeros(N, size, dtype=torch.float64)
    for i, molecule in enumerate(molecules):
        A = len(molecule.atoms)
        atoms[i, :A, :NODE] = torch.from_numpy(molecule.atoms)
        bonds[i, :A, :A] = torch.from_numpy(molecule.bonds)
        there[i, :A] = 1
    return atoms, bonds, there


def loss_of(values: Mapping[str, Any]) -> Loss:  # noqa: ARG001
    """Return the squared error; its mean is of bohr^6, or of train variances."""
    return Loss(squares, relative=True)

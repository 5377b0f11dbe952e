"""Random streams: draws depend on seed, purpose and shape, on nothing else."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from sweeper.trainables import loop
from sweeper.trainables.data.pairs import split_of
from sweeper.trainables.data.streams import stream
from sweeper.trainables.families.sparse_recovery import instance_of
from tests.packs import MODULAR, SPARSE, pack, trial


def draw(*key: Any) -> float:
    return float(torch.rand(1, generator=stream(*key), dtype=torch.float64))


def test_a_stream_is_the_same_for_the_same_key_and_another_for_any_other() -> None:
    keys = [(0, "a"), (1, "a"), (0, "b"), (0, "a", 1), (0, "a", 2), (0, "a", 1, 2), (2**40, "a")]
    assert len({draw(*key) for key in keys}) == len(keys)
    assert all(draw(*key) == draw(*key) for key in keys)


def test_a_stream_never_changes() -> None:
    assert draw(0, "split", 529) == 0.6074929816720224


def test_a_stream_neither_reads_nor_moves_the_global_generator() -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = draw(3, "x")
    assert torch.equal(before, torch.get_rng_state())
    torch.manual_seed(2)
    assert draw(3, "x") == first


@pytest.mark.parametrize(
    "more",
    [
        {"optimizer.lr": 0.3},
        {"dtype": "float32"},
        {"model.depth": 3},
        {"model.init_scale": 0.5},
        {"regularizer.name": "l1", "regularizer.strength": 0.1},
        {"optimizer.name": "ista"},
        {"model.sign_free": True},
        {"selection.name": "coherent", "selection.tau": 0.0},
    ],
)
def test_trials_of_a_seed_share_their_data_whatever_else_differs(more: dict[str, Any]) -> None:
    a, b = (instance_of(trial(SPARSE | m, 4)) for m in ({}, more))
    assert torch.equal(a.X, b.X)
    assert torch.equal(a.y, b.y)
    assert torch.equal(a.signal, b.signal)


def test_other_seeds_and_other_data_seeds_have_other_data() -> None:
    signals = [instance_of(trial(SPARSE, seed)).signal for seed in (0, 1)]
    assert not torch.equal(*signals)
    fixed = [instance_of(trial(SPARSE, s, task__data_seed=7)).signal for s in (0, 1)]
    assert torch.equal(*fixed)


def test_coherent_rows_are_nested_in_tau_and_leave_the_other_rows_alone() -> None:
    taus = [0.0, 0.3, 0.6, 1.0]
    Xs = [instance_of(trial(SPARSE, selection__name="coherent", selection__tau=t)).X for t in taus]
    for k, X in zip([0, 3, 6, 10], Xs, strict=True):
        assert torch.equal(X[:k], Xs[-1][:k])
        assert torch.equal(X[k:], Xs[0][k:])
        assert torch.equal(X[:k].sum(dim=1), torch.ones(k, dtype=torch.float64))
        assert torch.equal(X[:k].square().sum(dim=1), torch.ones(k, dtype=torch.float64))


def init_of(given: dict[str, Any], seed: int, mates: int = 0) -> list[torch.Tensor]:
    """Return a trial's initial weights inside of a pack."""
    trials = [trial(given, seed), *(trial(given, 10 + i) for i in range(mates))][::-1]
    last = loop._blocks(pack(trials), range(len(trials)))[-1]
    return [w.real(w.value)[-1] for w in last.weights.each]


def test_an_init_depends_on_the_seed_not_on_dtype_pack_mates_or_data_seed() -> None:
    base = init_of(MODULAR, 3)
    others: list[dict[str, Any]] = [
        {},
        {"task.data_seed": 9},
        {"optimizer.name": "sgd", "optimizer.lr": 3.0},
        {"selection.fraction": 0.3, "task.operation": "mul"},
    ]
    for more in others:
        same = init_of(MODULAR | more, 3, mates=12)
        assert all(torch.equal(a, b) for a, b in zip(base, same, strict=True))
    double = init_of(MODULAR | {"dtype": "float64"}, 3)
    assert all(torch.equal(a, b.float()) for a, b in zip(base, double, strict=True))
    scaled = init_of(MODULAR | {"model.init_scale": 2.0}, 3)
    assert all(torch.equal(2 * a, b) for a, b in zip(base, scaled, strict=True))
    assert not torch.equal(base[0], init_of(MODULAR, 4)[0])


def test_a_data_seed_fixes_the_split_apart_from_the_seed() -> None:
    assert torch.equal(*(split_of(trial(MODULAR, s, task__data_seed=5))[0] for s in (0, 1)))
    assert not torch.equal(*(split_of(trial(MODULAR, s))[0] for s in (0, 1)))


def test_train_sets_of_one_seed_are_nested_and_shared_by_operations() -> None:
    small, large = (
        set(split_of(trial(MODULAR, selection__fraction=f))[0].tolist()) for f in (0.3, 0.8)
    )
    assert small < large
    assert small == set(
        split_of(trial(MODULAR, task__operation="mul", selection__fraction=0.3))[0].tolist()
    )

"""Minibatches: what an epoch goes through."""

from __future__ import annotations

import pytest
import torch

from sweeper.trainables.data.batches import Batches


def of_an_epoch(batches: Batches, first: int, count: int) -> torch.Tensor:
    return torch.cat([batches.of(first + i) for i in range(count)], dim=1)


@pytest.mark.parametrize(("drop_last", "sizes"), [(True, [4, 4]), (False, [4, 4, 3])])
def test_an_epoch_goes_through_the_examples_once(drop_last: bool, sizes: list[int]) -> None:
    batches = Batches({"optimizer.batch": 4, "optimizer.drop_last": drop_last}, [0, 1], 11, "cpu")
    n = len(sizes)
    for epoch in range(3):
        found = [batches.of(n * epoch + i) for i in range(n)]
        assert [tuple(b.shape) for b in found] == [(2, size) for size in sizes]
        for row in torch.cat(found, dim=1).tolist():
            assert len(set(row)) == sum(sizes)
            assert set(row) <= set(range(11))
    assert not torch.equal(of_an_epoch(batches, 0, n), of_an_epoch(batches, n, n))
    assert not torch.equal(*of_an_epoch(batches, 0, n))


def test_batches_depend_on_the_seed_and_the_step_alone() -> None:
    values = {"optimizer.batch": 4, "optimizer.drop_last": False}
    alone, packed = Batches(values, [5], 11, "cpu"), Batches(values, [3, 5], 11, "cpu")
    for taken in (0, 1, 2, 7, 3, 30):  # also backwards: a resumed trial begins anywhere
        assert torch.equal(alone.of(taken)[0], packed.of(taken)[1])


@pytest.mark.parametrize("drop_last", [True, False])
def test_a_batch_larger_than_all_is_all(drop_last: bool) -> None:
    batches = Batches({"optimizer.batch": 99, "optimizer.drop_last": drop_last}, [0], 11, "cpu")
    assert sorted(batches.of(5)[0].tolist()) == list(range(11))
    assert not torch.equal(batches.of(0), batches.of(1))

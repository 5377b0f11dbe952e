"""Products of permutations, mislabelled train pairs, train pairs that a file names."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import permutations, product
from pathlib import Path
from typing import Any

import pytest
import torch

from sweeper.compile.compile import read_grid
from sweeper.config.trial import Trial
from sweeper.errors import ConfigError
from sweeper.grid.document import parse
from sweeper.trainables import loop
from sweeper.trainables.config.fields import pairs
from sweeper.trainables.config.indices import indices, pinned
from sweeper.trainables.config.shapes import table as counts
from sweeper.trainables.data.pairs import labels_of, products, split_of, table_of
from sweeper.trainables.networks.block import NetworkBlock
from tests.packs import MODULAR, pack, run, same, trial
from tests.test_gridfile import load

S3: dict[str, Any] = {"task.name": "symmetric_group", "task.degree": 3}
SMALL: dict[str, dict[str, Any]] = {
    "mlp": {"model.d": 8, "model.width": 16},
    "transformer": {"model.name": "transformer", "model.d": 8, "model.heads": 2, "model.mlp": 16},
}


def composed(x: Sequence[int], y: Sequence[int]) -> tuple[int, ...]:
    """Return x after y."""
    return tuple(x[i] for i in y)


def inverse(x: Sequence[int]) -> tuple[int, ...]:
    return tuple(sorted(range(len(x)), key=lambda i: x[i]))


@pytest.mark.parametrize("degree", [3, 4, 5])
@pytest.mark.parametrize("operation", ["xy", "xyx_inv", "xyx"])
def test_a_product_of_permutations_is_what_they_do_one_after_the_other(
    operation: str, degree: int
) -> None:
    elements = list(permutations(range(degree)))
    a, b, c = products(operation, degree)
    assert list(zip(a.tolist(), b.tolist(), strict=True)) == list(
        product(range(len(elements)), repeat=2)
    )
    for i in range(0, len(a), max(1, len(a) // 500)):
        x, y = elements[a[i]], elements[b[i]]
        last = {"xy": (), "xyx_inv": inverse(x), "xyx": x}[operation]
        expected = composed(composed(x, y), last) if last else composed(x, y)
        assert elements[c[i]] == expected


@pytest.mark.parametrize("model", SMALL)
def test_networks_learn_products_of_permutations(model: str) -> None:
    given = S3 | SMALL[model] | {"optimizer.lr": 1e-2, "selection.fraction": 0.8}
    t = trial(given, 1)
    memory = run(pack([t], steps=150))
    assert memory.column(t.id, "train_acc")[-1] == 1.0
    assert memory.column(t.id, "train_acc")[0] < 0.6
    assert counts(t.values) == (28, 8) == tuple(len(part) for part in split_of(t))


def outliers(k: int, seed: int = 0, **more: Any) -> Trial:
    return trial(MODULAR | {"selection.name": "outliers", "selection.k": k}, seed, **more)


def test_k_train_labels_are_wrong_and_no_test_label_is() -> None:
    result = table_of(outliers(0).values)[2]
    for k in (0, 1, 5, 29):
        labels, (train, test) = labels_of(outliers(k)), split_of(outliers(k))
        assert int((labels != result).sum()) == int((labels[train] != result[train]).sum()) == k
        assert torch.equal(labels[test], result[test])
        assert labels.min() >= 0
        assert labels.max() < 7
    assert torch.equal(split_of(outliers(5))[0], split_of(trial(MODULAR))[0])


def test_outliers_are_drawn_by_the_data_seed_and_those_of_a_smaller_k_are_among_them() -> None:
    result = table_of(outliers(0).values)[2]
    few, many = labels_of(outliers(4)), labels_of(outliers(20))
    assert torch.equal(many[few != result], few[few != result])
    assert torch.equal(few, labels_of(outliers(4)))
    assert not torch.equal(few, labels_of(outliers(4, seed=1)))
    fixed = {"task__data_seed": 5}
    assert torch.equal(labels_of(outliers(4, 1, **fixed)), labels_of(outliers(4, 2, **fixed)))


def test_every_wrong_label_can_be_drawn_and_none_is_preferred() -> None:
    result = table_of(outliers(0).values)[2]
    shifts = torch.cat([(labels_of(outliers(29, s)) - result) % 7 for s in range(300)])
    found = torch.bincount(shifts, minlength=7)[1:].double()
    assert int(found.sum()) == 300 * 29
    assert float(((found - found.mean()) ** 2 / found.mean()).sum()) < 20.5  # chi^2, 5: 0.1 %


@pytest.mark.parametrize("model", SMALL)
def test_train_accuracy_is_that_of_the_labels_trained_on(model: str) -> None:
    given = {
        "task.name": "modular_arithmetic",
        "task.p": 7,
        "selection.name": "outliers",
        "optimizer.lr": 1e-2,
    } | SMALL[model]
    trials = [trial(given, 3, selection__k=k) for k in (0, 12, 29)]
    together = run(pack(trials, steps=250))
    for t in trials:  # by the true labels it would end at 1, 17 / 29 and 0
        assert together.column(t.id, "train_acc")[-1] > 0.9
    for t in trials[1:]:
        same(run(pack([t], steps=250)), together, [t])


def test_more_outliers_than_train_pairs_are_refused() -> None:
    with pytest.raises(AssertionError, match=r"selection.k = 30, .*fewer train pairs than labels"):
        outliers(30)
    with pytest.raises(AssertionError, match=r"selection.k = 29, .*fewer train pairs than labels"):
        trial(S3 | {"selection.name": "outliers", "selection.k": 29, "selection.fraction": 0.8})


def test_a_trial_without_outliers_trains_as_a_uniform_one() -> None:
    a, b = outliers(0), trial(MODULAR)
    assert a.id != b.id
    one, other = run(pack([a], steps=20)), run(pack([b], steps=20))
    assert one.of(a.id) == other.of(b.id)


def by_file(path: Path, given: dict[str, Any] | None = None, seed: int = 0) -> Trial:
    return trial(
        (given or MODULAR) | {"selection.name": "indices", "selection.file": str(path)}, seed
    )


def test_the_train_pairs_are_those_of_the_file_for_every_seed_and_network(tmp_path: Path) -> None:
    path = tmp_path / "train.txt"
    path.write_text("# every third pair\n48\n\n" + "".join(f"{i}\n" for i in range(0, 45, 3)))
    for seed in (0, 1):
        train, test = split_of(by_file(path, seed=seed))
        assert train.tolist() == [*range(0, 45, 3), 48]
        assert sorted(train.tolist() + test.tolist()) == list(range(49))
    net = SMALL["transformer"] | {"task.name": "modular_arithmetic", "task.p": 7}
    trials = [by_file(path, net, s) for s in (0, 1)]
    assert counts(trials[0].values) == (16, 33)
    (block,) = loop._blocks(pack(trials), range(2))
    assert isinstance(block, NetworkBlock)
    a, b, _ = table_of(trials[0].values)
    inputs: Any = block._train[0]
    assert torch.equal(inputs[0][1], a[train])
    assert torch.equal(inputs[1][1], b[train])
    memory = run(pack([by_file(path, seed=s) for s in (0, 1)], steps=5))
    assert len(memory.ends) == 2


def test_what_the_file_says_counts_for_the_identity_and_how_it_says_it_doesnt(
    tmp_path: Path,
) -> None:
    path = tmp_path / "train.txt"
    path.write_text("1\n2\n3\n")
    first = by_file(path)
    path.write_text("# the same\n 3\n1\n\n2 # two\n")
    assert by_file(path).id == first.id
    path.write_text("1\n2\n4\n")
    changed = by_file(path)
    assert changed.id != first.id
    assert split_of(changed)[0].tolist() == [1, 2, 4]


def test_a_file_that_was_changed_between_planning_and_training_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "train.txt"
    path.write_text("1\n2\n3\n")
    t = by_file(path)
    path.write_text("1\n2\n5\n")
    indices.cache_clear()
    with pytest.raises(ValueError, match="has changed: its digest is"):
        split_of(t)
    assert by_file(path).values["selection.file"] == pinned(str(path)) != t.values["selection.file"]


FILE = """name: g
fixed:
  task: {name: modular_arithmetic, p: 5}
  steps: 10
  selection: {name: indices, file: TRAIN}
"""


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("1\n2\n1\n", "has 1 in line 1 and in line 3. Keep one."),
        ("1\nx2\n", "has 'x2' in line 2, where an index from 0 must be."),
        ("1\n-2\n", "has '-2' in line 2, where an index from 0 must be."),
        ("# none\n", "has no index. Name a file with one index per line."),
        (None, "cannot be read: No such file or directory. Name a file with one index per line."),
    ],
)
def test_a_file_that_cant_be_used_is_told_at_its_place_in_the_grid(
    text: str | None, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    if text is not None:
        Path("train.txt").write_text(text)
    with pytest.raises(ConfigError) as caught:
        read_grid(parse(FILE.replace("TRAIN", "train.txt"), "g"), load)
    assert caught.value.problems == [f"g:5:36: selection.file = 'train.txt' {reason}"]


BEYOND = "the indices go beyond the pairs of the table, counted from 0, or leave none to test on."
CHANGED = "the file is missing, or its indices have another digest."


@pytest.mark.parametrize(
    ("text", "file", "remedy"),
    [
        ("1\n25\n", "train.txt", BEYOND),
        ("".join(f"{i}\n" for i in range(25)), "train.txt", BEYOND),
        ("1\n24\n", "train.txt#0123456789abcdef", CHANGED),
        ("1\n24\n", "gone.txt#0123456789abcdef", CHANGED),
    ],
)
def test_a_file_that_doesnt_go_with_the_table_or_was_changed_is_told_too(
    text: str, file: str, remedy: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("train.txt").write_text(text)
    with pytest.raises(ConfigError) as caught:
        read_grid(parse(FILE.replace("TRAIN", file), "g"), load)
    (message,) = caught.value.problems
    assert message.startswith("g:")
    assert f"selection.file = '{file.partition('#')[0]}#" in message
    assert remedy in message


def test_a_table_has_as_many_pairs_as_its_size_says() -> None:
    for given in (MODULAR, MODULAR | {"task.operation": "div"}, S3, {**S3, "task.degree": 4}):
        values = trial(given).values
        assert len(table_of(values)[0]) == pairs(values)

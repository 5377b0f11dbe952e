"""`KEY=VALUE` replaces what the file says of a path, wherever it says it."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from sweeper.compile.compile import read_grid
from sweeper.config.fields import Scalar
from sweeper.errors import ConfigError
from sweeper.grid.document import Document, parse
from sweeper.grid.grid import Grid
from sweeper.grid.overrides import apply
from tests.test_gridfile import load

FILE = """
name: g
fixed:
  task: {name: sparse_recovery, N: 40}
  regularizer: {name: l1, strength: 0.5}
  steps: 100
grid:
  - product:
      optimizer.lr: [0.1, 0.2]
    zip:
      - {task.n: [50, 60], task.s: [3, 4]}
  - product:
      optimizer.lr: [0.3]
seeds: 1
"""

MODULAR = """
name: m
fixed: {task: {name: modular_arithmetic}, steps: 100}
"""


def overridden(text: str, *overrides: str) -> Grid:
    return read_grid(apply(parse(text, "g.yaml"), overrides), load)


def column(grid: Grid, path: str) -> list[Scalar]:
    return [trial.values.get(path) for trial in grid.trials()]


def problems(text: str, *overrides: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        overridden(text, *overrides)
    assert caught.value.exit_code == 2
    return caught.value.problems


def test_the_document_itself_is_left_alone() -> None:
    document = parse(FILE, "g.yaml")
    before = parse(FILE, "g.yaml")
    apply(document, ["task.N=20", "optimizer.lr=1", "seeds=2", "resources.cpu=2"])
    assert document == before


@pytest.mark.parametrize(
    ("overrides", "path", "expected"),
    [
        (["task.N=20"], "task.N", {20}),
        (["fixed.task.N=20"], "task.N", {20}),
        (["task.N=20,30"], "task.N", {20, 30}),
        (["task.N=20,"], "task.N", {20}),
        (["task.N = 20 , 30"], "task.N", {20, 30}),
        (["task.N={range: [1, 4]}"], "task.N", {1, 2, 3}),
        (["optimizer.lr={logspace: [0.01, 1, 3]}"], "optimizer.lr", {0.01, 0.1, 1.0}),
        (["optimizer.lr=1"], "optimizer.lr", {1.0}),
        (["optimizer.lr=1", "optimizer.lr=2,3"], "optimizer.lr", {2.0, 3.0}),
        (["optimizer.lr=2,3", "optimizer.lr=1"], "optimizer.lr", {1.0}),
        (["task.n=70"], "task.n", {70}),
        (["task.snr=null"], "task.snr", {None}),
        (["regularizer.name=l1,l2_sq"], "regularizer.name", {"l1", "l2_sq"}),
        (["regularizer.name='l2_sq'"], "regularizer.name", {"l2_sq"}),
        (["model.sign_free=true"], "model.sign_free", {True}),
        (["task={name: sparse_recovery, s: 2}"], "task.N", {30}),
    ],
)
def test_an_override_sets_or_sweeps_a_path(
    overrides: Sequence[str], path: str, expected: set[Scalar]
) -> None:
    assert set(column(overridden(FILE, *overrides), path)) == expected


def test_a_scalar_takes_the_place_of_an_axis_in_every_block() -> None:
    grid = overridden(FILE, "optimizer.lr=7")
    assert set(column(grid, "optimizer.lr")) == {7.0}
    assert grid.n_cells == 3


def test_an_axis_taken_out_of_a_zip_leaves_the_others() -> None:
    grid = overridden(FILE, "task.n=70", "task.s=5")
    assert set(column(grid, "task.n")) == {70}
    assert grid.n_cells == 3


def test_an_axis_can_be_added_where_the_file_has_no_grid() -> None:
    assert overridden(MODULAR, "task.p=5,7").n_cells == 2


@pytest.mark.parametrize(
    ("override", "read"),
    [
        ("seeds=3", lambda g: g.seeds == [0, 1, 2]),
        ("seeds=3,5", lambda g: g.seeds == [3, 5]),
        ("seeds=[3,5]", lambda g: g.seeds == [3, 5]),
        ("steps=7", lambda g: g.steps == 7),
        ('exclude=["optimizer.lr < 0.15"]', lambda g: g.file.excludes == ["optimizer.lr < 0.15"]),
        (
            "exclude=[optimizer.lr < 0.15, 'task.n in (50, 51)']",
            lambda g: g.file.excludes == ["optimizer.lr < 0.15", "task.n in (50, 51)"],
        ),
        ("exclude=[]", lambda g: g.file.excludes == []),
        ("exclude=task.n in (50, 51)", lambda g: g.file.excludes == ["task.n in (50, 51)"]),
        ("steps=1e3", lambda g: g.steps == 1000),
        ("fixed.steps=7", lambda g: g.steps == 7),
        ("name=other", lambda g: g.name == "other"),
        ("resources.pack=8", lambda g: g.file.resources.pack == 8),
        ("log.points_per_decade=9", lambda g: g.file.log.points_per_decade == 9),
        ("checkpoint.keep=none", lambda g: g.file.checkpoint.keep == "none"),
        ("stop={diverged: false}", lambda g: not g.file.stop.diverged),
        ("exclude=optimizer.lr in (0.1, 0.3)", lambda g: g.n_excluded == 3),
    ],
)
def test_keys_of_the_file_can_be_overridden(override: str, read: object) -> None:
    assert callable(read)
    assert read(overridden(FILE, override))


def test_a_list_is_a_vector_and_a_list_of_lists_is_an_axis_of_vectors() -> None:
    assert column(overridden(MODULAR, "optimizer.betas=[0.9,0.95]"), "optimizer.betas") == [
        (0.9, 0.95)
    ]
    both = [(0.9, 0.95), (0.8, 0.9)]
    for text in ("[[0.9,0.95],[0.8,0.9]]", "[0.9,0.95],[0.8,0.9]"):
        grid = overridden(MODULAR, f"optimizer.betas={text}")
        assert column(grid, "optimizer.betas") == both


def test_text_in_quotes_stays_one_value() -> None:
    document = apply(parse(FILE, "g.yaml"), ["task.signal='a,b'", 'name="a,b"'])
    assert document.value["fixed"]["task.signal"] == "a,b"
    assert document.value["name"] == "a,b"


def test_another_name_leaves_out_what_the_file_says_for_the_old_one() -> None:
    grid = overridden(FILE, "regularizer.name=none")
    assert "regularizer.strength" not in next(iter(grid.trials())).values
    swept = FILE.replace(", strength: 0.5", "").replace(
        "optimizer.lr: [0.3]", "regularizer.strength: [0.1, 0.2]"
    )
    grid = overridden(swept, "regularizer.name=none")
    assert (grid.n_written, grid.n_cells, grid.n_duplicates) == (6, 5, 1)


def test_another_task_leaves_out_what_the_file_says_for_the_old_one() -> None:
    grid = overridden(FILE, "task.name=modular_arithmetic")
    trial = next(iter(grid.trials()))
    assert trial.values["model.name"] == "mlp"
    assert "task.N" not in trial.values


def test_what_an_override_says_itself_is_never_left_out() -> None:
    assert problems(FILE, "regularizer.name=none", "regularizer.strength=3") == [
        "override 'regularizer.strength=3': regularizer.strength doesn't apply to "
        "regularizer.name = 'none'. Choose regularizer.name: l1 or l2_sq or l2_fro or group, or "
        "remove regularizer.strength."
    ]


FORM = "has no key or no value. Write KEY=VALUE, e.g. task.N=40, task.N=20,40 or seeds=3."


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("foo", FORM),
        ("=3", FORM),
        ("seeds=", FORM),
        ("task..N=3", FORM),
        ("optimizer.lr=[", "'[' isn't a YAML value. Quote it."),
        ("optimizer.lr=[,", "'[,' isn't a list of YAML values. Quote text that has brackets."),
        (
            "grid=3",
            "grid is a section, not a value. Name a path below it. " + FORM.split(". ", 1)[1],
        ),
        ("optimizer.lrr=3", "optimizer has no field 'lrr'. Did you mean 'lr'?"),
        ("optimizer.lrr=3,4", "optimizer has no field 'lrr'. Did you mean 'lr'?"),
        ("lr=3", "unknown key 'lr'. Did you mean 'optimizer.lr'?"),
        ("optimizer.lr=-1", "optimizer.lr = -1 must be above 0."),
        ("optimizer.lr=1,low", "optimizer.lr = 'low' must be a number."),
        ("optimizer.lr=yes", "optimizer.lr = 'yes' must be a number."),
        (
            "optimizer.lr={logspace: [0, 1, 3]}",
            "optimizer.lr: logspace needs end points above 0. Use linspace.",
        ),
        (
            "task.N=[20,40]",
            "task.N = [20, 40] must be a whole number. To sweep it, make it an axis of grid.",
        ),
        ("steps=1,2", "steps can't be an axis. It belongs to fixed.steps."),
        ("steps=0", "steps = 0 must be at least 1, and below 2^53."),
        (
            "seeds=0",
            "seeds = 0 must be a whole number of seeds from 1 to 1000000, or a list of seeds.",
        ),
        ("seeds=1,1", "seeds has 1 twice. Keep one."),
        ("resources.gpus=1", "resources has no key 'gpus'. Did you mean 'gpu'?"),
        (
            "task=modular_arithmetic",
            "task = 'modular_arithmetic' must be a mapping. Write task: {name: modular_arithmetic}.",
        ),
        (
            "name=a/b",
            "name = 'a/b' must have 1 to 64 of A-Z a-z 0-9 . _ - and start with a letter or digit.",
        ),
        ("optimizer.lr=*a", "'*a' isn't a YAML value. Quote it."),
    ],
)
def test_a_mistake_names_the_override_instead_of_a_line(override: str, message: str) -> None:
    assert problems(FILE, override) == [f"override {override!r}: {message}"]


def test_mistakes_of_all_overrides_come_together_after_those_of_the_file() -> None:
    text = FILE.replace("N: 40", "N: 0")
    found = problems(text, "seeds=0", "optimizer.lr=-1")
    assert [p.split(": ")[0] for p in found] == [
        "g.yaml:4:36",
        "override 'seeds=0'",
        "override 'optimizer.lr=-1'",
    ]


@pytest.mark.parametrize("broken", ["grid: 5", "grid: [5]", "grid: {zip: 5}", "grid: {product: 5}"])
def test_a_broken_file_stays_a_broken_file(broken: str) -> None:
    text = f"name: g\nfixed: {{task: {{name: sparse_recovery}}, steps: 1}}\n{broken}\n"
    for override in ("task.N=20", "task.N=20,30", "task=1"):
        assert problems(text, override)[0].startswith("g.yaml:3:")


def test_without_overrides_nothing_changes() -> None:
    document = Document("g.yaml", {"name": "g"})
    assert apply(document, []) is document

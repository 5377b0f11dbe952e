"""A user's own parts: written for one trial, outside of the package, run in packs."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from importlib import invalidate_caches
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sweeper.api import query
from sweeper.compile.loading import load_grid
from sweeper.config.plugins import _with_plugins, load_plugin, with_plugins
from sweeper.config.resolve import resolve
from sweeper.config.trial import Trial
from sweeper.errors import ConfigError, UsageError
from sweeper.packing import Pack, Run
from sweeper.trainables.config import GrokkingConfig
from tests.packs import STRICT, killed_and_resumed, run, same
from tests.sweeps import run as launched

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "own.md").read_text()
PATHS = {
    "task.name": "my_lab.parity:Parity",
    "model.name": "my_lab.parity:Bottleneck",
    "regularizer.name": "my_lab.parity:Quartic",
    "selection.name": "my_lab.parity:Heaviest",
}


def block(language: str) -> str:
    found = re.search(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)
    assert found is not None
    return found[1]


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with the page's module and grid, on Python's path."""
    (tmp_path / "my_lab").mkdir()
    (tmp_path / "my_lab" / "parity.py").write_text(block("python"))
    (tmp_path / "parity.yaml").write_text(block("yaml"))
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)  # a module changes within a second
    yield tmp_path
    forget()


def forget() -> None:
    """Import the module anew next time, as another process does."""
    load_plugin.cache_clear()
    _with_plugins.cache_clear()
    for name in [n for n in sys.modules if n.partition(".")[0] == "my_lab"]:
        del sys.modules[name]
    invalidate_caches()


def config_of(given: dict[str, Any]) -> type[GrokkingConfig]:
    names = [(p.removesuffix(".name"), v) for p, v in given.items() if p.endswith(".name")]
    made: Any = with_plugins(GrokkingConfig, names)
    return made  # type: ignore[no-any-return]


def trial(given: dict[str, Any], seed: int) -> Trial:
    config = config_of(given)
    resolved = resolve(config, given)
    assert not resolved.problems
    return Trial.of(config, resolved.values, seed, trainable="trainables.grokking")


def pack(trials: list[Trial], given: dict[str, Any], steps: int = 40) -> Pack[Any]:
    criteria = dict.fromkeys(config_of(given).parts["task"], STRICT)
    run_ = Run(steps=steps, points_per_decade=20, criteria=criteria)
    return Pack("0123", tuple(trials), config_of(given), run_)


def test_each_class_of_the_page_is_short(lab: Path) -> None:
    assert max(len(c.splitlines()) for c in block("python").split("\n\n\n")) < 30


def test_the_page_s_grid_runs(lab: Path) -> None:
    store = lab / "sweeps"
    launched(load_grid(lab / "parity.yaml", ["steps=60"]), str(store))
    rows = query(str(store), "parity", "select * from trials").to_pylist()
    assert len(rows) == 16
    assert {r["status"] for r in rows} <= {"generalized", "censored"}
    assert {r["task"]["name"] for r in rows} == {"my_lab.parity:Parity"}
    assert sum(r["model"]["name"] == "my_lab.parity:Bottleneck" for r in rows) == 8
    assert {r["task"]["k"] for r in rows} == {2, 3}


def test_own_parts_in_a_pack_equal_themselves_alone_and_a_plain_loop(lab: Path) -> None:
    given: dict[str, Any] = {
        **PATHS,
        "regularizer.strength": 0.01,
        "optimizer.name": "sgd",
        "optimizer.lr": 0.1,
        "dtype": "float64",
    }
    strengths = (0.01, 0.05, 0.2)
    trials = [trial(given | {"regularizer.strength": s}, i) for i, s in enumerate(strengths)]
    together = run(pack(trials, given))
    for t in trials:
        alone = run(pack([t], given))
        for name in ("train_loss", "test_loss", "l2"):
            np.testing.assert_allclose(
                together.column(t.id, name), alone.column(t.id, name), rtol=1e-9
            )
    plain = _plain(trials[1], 0.05, steps=40)
    assert together.column(trials[1].id, "train_loss")[-1] == pytest.approx(plain, rel=1e-9)


def _plain(t: Trial, strength: float, steps: int) -> float:
    """The last train loss of a loop as a user would write it, from the same start."""
    from my_lab.parity import Heaviest, Parity  # type: ignore[import-not-found]

    from sweeper.trainables.networks.user_defined import OwnModel

    config = config_of({p: str(t.values[p]) for p in PATHS})
    model: Any = config.parts["model"]["my_lab.parity:Bottleneck"]()
    own = OwnModel(model, (8,), 2)
    module = own._module.double()
    with torch.no_grad():
        for weight, start in zip(module.parameters(), own.base(t.seed), strict=True):
            weight.copy_(start)
    g = torch.Generator()
    inputs, targets = Parity.model_construct(inputs=8, k=2).examples(g)
    rows = Heaviest.model_construct(fraction=0.5).train(inputs, targets, g).sort().values
    x, y = inputs[rows].double(), targets[rows].long()
    loss = torch.nn.functional.cross_entropy
    with torch.enable_grad():
        for _ in range(steps):
            penalty = sum(w.pow(4).sum() for w in module.parameters())
            total = loss(module(x), y) + strength * penalty
            gradients = torch.autograd.grad(total, list(module.parameters()))
            with torch.no_grad():
                for weight, gradient in zip(module.parameters(), gradients, strict=True):
                    weight.sub_(0.1 * gradient)
    return float(loss(module(x), y).detach())


def test_a_pack_of_own_parts_goes_on_after_a_kill_as_if_nothing_had_been(lab: Path) -> None:
    given: dict[str, Any] = {**PATHS, "regularizer.strength": 0.01}
    trials = [trial(given, i) for i in range(3)]
    same(killed_and_resumed(lambda: pack(trials, given), 17), run(pack(trials, given)), trials)


def test_an_own_penalty_works_on_a_built_in_family(lab: Path) -> None:
    given: dict[str, Any] = {
        "task.name": "sparse_recovery",
        "task.n": 20,
        "task.s": 2,
        "task.N": 10,
        "regularizer.name": "my_lab.parity:Quartic",
        "model.init_scale": 1.0,
    }
    weak, strong = (trial(given | {"regularizer.strength": s}, 0) for s in (1e-6, 0.5))
    done = run(pack([weak, strong], given))
    assert done.column(strong.id, "l2")[-1] < 0.9 * done.column(weak.id, "l2")[-1]


def test_an_own_selection_works_on_modular_arithmetic(lab: Path) -> None:
    given: dict[str, Any] = {
        "task.name": "modular_arithmetic",
        "task.p": 7,
        "model.d": 8,
        "model.width": 16,
        "selection.name": "my_lab.parity:Heaviest",
        "selection.fraction": 0.4,
    }
    t = trial(given, 0)
    done = run(pack([t], given))
    assert done.column(t.id, "train_loss")[-1] < done.column(t.id, "train_loss")[0]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("my_lab.parity:Missing", "has no 'Missing'"),
        ("my_lab.nothing:Parity", "can't be imported: No module named 'my_lab.nothing'"),
        ("my_lab.parity:Quartic", "is no task: it has to subclass"),
        ("my_lab.broken:Parity", "can't be imported: ZeroDivisionError"),
        ("my_lab.clash:Parity", "task.N is a field of other choices"),
        ("my_lab.odd:Parity", "can't be stored as a column"),
        ("my_lab.loss:Parity", "loss = 'hinge' must be 'cross_entropy' or 'mse'"),
        ("trainables.config.own:Task", "has no method examples"),
    ],
)
def test_a_class_that_is_no_choice_is_refused_at_its_place(
    lab: Path, name: str, message: str
) -> None:
    (lab / "my_lab" / "broken.py").write_text("1 / 0\n")
    head = "from trainables.config.own import Task\nclass Parity(Task):\n"
    head += "    def examples(self, g): ...\n"
    fields = "    inputs: int = 1\n    outputs: int = 1\n"
    (lab / "my_lab" / "clash.py").write_text(head + fields + "    N: float = 1.0\n")
    (lab / "my_lab" / "odd.py").write_text(head + fields + "    table: dict[str, int] = {}\n")
    (lab / "my_lab" / "loss.py").write_text(head + fields + "    loss = 'hinge'\n")
    path = lab / "bad.yaml"
    path.write_text(block("yaml").replace("my_lab.parity:Parity", name))
    with pytest.raises(ConfigError) as caught:
        load_grid(path)
    assert message in str(caught.value)
    assert f"{path}:4:" in str(caught.value)


def test_a_part_without_a_base_takes_no_own_class() -> None:
    with pytest.raises(UsageError, match="only these parts take your own: task, model"):
        load_plugin(GrokkingConfig, "optimizer", "my_lab.parity:Parity")


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        ("return 2 * bits - 1, bits[:, : self.k]", r"have to be \[N, ...\] and \[N\]"),
        ("return 2 * bits - 1, bits.sum(dim=1)", "targets have to be from 0 to outputs - 1"),
        ("return 2 * bits - 1, bits.mean(dim=1)", "targets have to be whole numbers"),
        ("return bits", r"has to return \(inputs, targets\); it returned Tensor"),
    ],
)
def test_examples_of_the_wrong_kind_are_told_of(lab: Path, broken: str, message: str) -> None:
    path = lab / "my_lab" / "parity.py"
    line = "return 2 * bits - 1, bits[:, : self.k].sum(dim=1) % 2"
    path.write_text(path.read_text().replace(line, broken))
    given: dict[str, Any] = {**PATHS, "regularizer.strength": 0.01}
    with pytest.raises(ValueError, match=message):
        run(pack([trial(given, 0)], given))


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        ("order.double()", "it returned torch.float64 of shape"),
        ("order[:10].repeat(2)", "each once, or a mask"),
        ("order[None]", "it returned torch.int64 of shape"),
        ("None", "it returned NoneType"),
        ("order[:0]", "selects 0 of 256 examples"),
    ],
)
def test_what_a_selection_may_not_return_is_told_of(lab: Path, returned: str, message: str) -> None:
    rewrite(lab, "return order[: int(self.fraction * len(order))]", f"return {returned}")
    given: dict[str, Any] = {**PATHS, "regularizer.strength": 0.01}
    with pytest.raises(ValueError, match=message):
        run(pack([trial(given, 0)], given))


def test_a_mask_is_as_good_as_indices(lab: Path) -> None:
    given: dict[str, Any] = {**PATHS, "regularizer.strength": 0.01}
    indices = run(pack([t := trial(given, 0)], given)).of(t.id)
    line = "return order[: int(self.fraction * len(order))]"
    mask = ("mask = inputs[:, 0] > 9", "mask[order[:128]] = True", "return mask")
    rewrite(lab, line, "\n        ".join(mask))
    assert run(pack([t], given)).of(t.id) == indices


def rewrite(lab: Path, line: str, new: str) -> None:
    """Change the module, as a user does between two launches."""
    path = lab / "my_lab" / "parity.py"
    text = path.read_text()
    assert line in text
    path.write_text(text.replace(line, new))
    forget()


def test_a_default_that_changes_makes_other_trials(lab: Path) -> None:
    given: dict[str, Any] = {**PATHS, "regularizer.strength": 0.01}
    before = trial(given, 0)
    assert trial(given | {"task.k": 2}, 0).id == before.id
    rewrite(lab, "k: int = 2", "k: int = 3")
    assert trial(given, 0).id == trial(given | {"task.k": 3}, 0).id != before.id
    assert trial(given | {"task.k": 2}, 0).id == before.id


def test_a_field_of_an_own_choice_keeps_its_value_whatever_a_built_in_one_means(lab: Path) -> None:
    """A built-in network without hidden layers has no width; an own one may have."""
    rewrite(lab, "    width: int = 32", "    width: int = 32\n    depth: int = 0")
    given: dict[str, Any] = {**PATHS, "regularizer.strength": 0.01, "model.depth": 0}
    narrow, wide = (trial(given | {"model.width": width}, 0) for width in (8, 16))
    assert [t.values["model.width"] for t in (narrow, wide)] == [8, 16]
    assert narrow.id != wide.id


def test_own_classes_that_disagree_on_a_field_are_refused_together(lab: Path) -> None:
    head = "from trainables.config.own import Task\nclass {0}(Task):\n    inputs: int = 1\n"
    body = "    outputs: int = 1\n    kind: {1} = {2}\n    def examples(self, g): ...\n"
    both = (head + body).format("A", "str", "'x'") + (head + body).format("B", "bool", "True")
    (lab / "my_lab" / "two.py").write_text(both)
    path = lab / "two.yaml"
    names = '["my_lab.two:A", "my_lab.two:B"]'
    path.write_text(f"name: two\nfixed: {{steps: 1}}\ngrid: {{product: {{task.name: {names}}}}}\n")
    with pytest.raises(ConfigError, match=r"task.kind is bool here and str in 'my_lab.two:A'"):
        load_grid(path)


def test_frozen_parameters_are_refused(lab: Path) -> None:
    line = "        return torch.nn.Sequential"
    rewrite(lab, line, "        into.requires_grad_(False)\n" + line)
    given: dict[str, Any] = {**PATHS, "regularizer.strength": 0.01}
    with pytest.raises(ValueError, match="every parameter is trained"):
        run(pack([trial(given, 0)], given))


@pytest.mark.parametrize(
    ("module", "message"),
    [
        ("torch.nn.Sequential(into, torch.nn.BatchNorm1d(self.width), out)", "with buffers cannot"),
        ("torch.nn.Sequential(into, torch.nn.Dropout(0.5), out)", "randomness"),
        ("__import__('os').kill(__import__('os').getpid(), 11)", "(signal 11)"),
    ],
)
def test_a_model_that_cannot_train_is_refused_before_anything_is_written(
    module: str, message: str, lab: Path
) -> None:
    line = "return torch.nn.Sequential(into, torch.nn.Tanh(), out)"
    rewrite(lab, line, f"return {module}")
    store = lab / "sweeps"
    with pytest.raises(UsageError) as caught:
        launched(load_grid(lab / "parity.yaml", ["steps=60"]), str(store))
    assert "a trial with task.name = my_lab.parity:Parity, model.name = my_lab" in str(caught.value)
    assert message in str(caught.value)
    assert not store.exists()


def test_a_penalty_has_to_be_one_number(lab: Path) -> None:
    rewrite(lab, "return sum(w.pow(4).sum() for w in weights)", "return weights[0]")
    given: dict[str, Any] = {**PATHS, "regularizer.strength": 0.01}
    with pytest.raises(ValueError, match="has to return a tensor with one number"):
        run(pack([trial(given, 0)], given))


def test_a_dense_network_wants_as_many_inputs_as_the_task_says(lab: Path) -> None:
    given = {"task.name": PATHS["task.name"], "model.name": "dense"}
    run(pack([trial(given, 0)], given))
    rewrite(lab, "return 2 * bits - 1,", "return bits[:, :5],")
    with pytest.raises(ValueError, match="an example has 5 numbers, and inputs = 8"):
        run(pack([trial(given, 0)], given))

"""Trained weights are those of the trial, under names that torch has for them."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import sweeper as package
from sweeper.compile.mapping import grid_of
from sweeper.errors import StoreError, UsageError
from sweeper.report import weights as reader
from sweeper.report.sweep import Sweep
from sweeper.trainables import state_dict
from sweeper.trainables.config import GrokkingConfig
from sweeper.trainables.config.shapes import SHAPES
from sweeper.trainables.config.weight_names import NAMES
from sweeper.trainables.networks.lstm import LstmNetwork
from tests.nets import SMALL, data, module, network
from tests.packs import DENSE, MATRIX, MODULAR, SPARSE, Memory, pack, run, trial
from tests.stores import Made, Planned, curve, end
from tests.sweeps import run as launched
from tests.sweeps import toy_grid

TRANSFORMER = {
    "task.name": "modular_arithmetic",
    "task.p": 5,
    "model.name": "transformer",
    "model.d": 8,
    "model.heads": 2,
    "model.mlp": 12,
    "model.layers": 2,
}

MODELS: dict[str, dict[str, Any]] = {
    "product": SPARSE,
    "sign_free": {**SPARSE, "model.sign_free": True},
    "diagonal": {**SPARSE, "model.name": "diagonal", "model.depth": 3},
    "matrix": MATRIX,
    "factorised": {**MATRIX, "model.name": "factorised", "model.depth": 3},
    "mlp": {**MODULAR, "model.depth": 2},
    "dense": {**DENSE, "model.depth": 2},
    "dense without biases": {**DENSE, "model.bias": False},
    "dense without last bias": {**DENSE, "model.last_bias": False},
    "transformer": TRANSFORMER,
    "transformer with layer norms": {**TRANSFORMER, "model.layer_norm": True},
}


def trained(given: dict[str, Any], seeds: int = 3, steps: int = 8) -> tuple[Memory, list[Any]]:
    """Train a pack of `seeds` trials."""
    trials = [trial(given, seed) for seed in range(seeds)]
    return run(pack(trials, steps)), trials


def norm(name: str, state: dict[str, Tensor]) -> float:
    """Return the metric `l2` of a trial with these weights: of all of them, or of their product."""
    each = [value.double() for value in state.values()]
    if name == "sign_free":
        return float(torch.linalg.vector_norm(each[0] - each[1]))
    if name == "diagonal":
        return float(torch.linalg.vector_norm(torch.stack(each).prod(dim=0)))
    if name == "factorised":
        return float(torch.linalg.matrix_norm(torch.linalg.multi_dot(each)))
    return math.sqrt(sum(float(value.square().sum()) for value in each))


@pytest.mark.parametrize("name", MODELS)
def test_weights_are_the_numbers_that_were_trained_without_padding(name: str) -> None:
    given = {**MODELS[name], **({"optimizer.lr": 1e-3} if name == "factorised" else {})}
    memory, trials = trained(given)
    assert memory.saved is not None
    for t in trials:
        state = state_dict.weights(memory.saved, t)
        alone = run(pack([t], 8)).saved
        assert alone is not None
        again = state_dict.weights(alone, t)
        assert state is not None
        assert again is not None
        assert [*again] == [*state]
        for one, other in zip(again.values(), state.values(), strict=True):
            assert torch.equal(one, other)
        assert norm(name, state) == pytest.approx(memory.column(t.id, "l2")[-1], rel=1e-5)


def test_every_model_has_names_and_those_of_networks_have_shapes() -> None:
    assert NAMES.keys() == GrokkingConfig.parts["model"].keys()
    assert SHAPES.keys() <= NAMES.keys()


@pytest.mark.parametrize(
    "given", [{"model.depth": 2}, {"model.bias": False}, {"model.last_bias": False}]
)
def test_a_dense_network_is_a_sequence_of_linear_layers(given: dict[str, Any]) -> None:
    net = network({**SMALL, **given})
    names = NAMES["dense"](trial({**SMALL, **given}).values)
    layers = [
        layer
        for layer in module(net, trial({**SMALL, **given}).values)
        if isinstance(layer, nn.Linear)
    ]
    same = dict(nn.ModuleDict({"layers": nn.ModuleList(layers)}).named_parameters())
    assert names == [*same]


def test_a_transformers_names_have_the_shapes_that_they_say() -> None:
    memory, (t,) = trained({**TRANSFORMER, "model.layer_norm": True}, seeds=1)
    assert memory.saved is not None
    state = state_dict.weights(memory.saved, t)
    assert state is not None
    block = {
        "attn.W_Q": (2, 4, 8),
        "attn.W_K": (2, 4, 8),
        "attn.W_V": (2, 4, 8),
        "attn.W_O": (2, 8, 4),
        "mlp.W_in": (12, 8),
        "mlp.b_in": (12,),
        "mlp.W_out": (8, 12),
        "mlp.b_out": (8,),
        "ln1.weight": (8,),
        "ln1.bias": (8,),
        "ln2.weight": (8,),
        "ln2.bias": (8,),
    }
    assert {name: tuple(value.shape) for name, value in state.items()} == {
        "embed.weight": (6, 8),
        "pos_embed.weight": (3, 8),
        **{f"blocks.{i}.{name}": shape for i in range(2) for name, shape in block.items()},
        "unembed.weight": (5, 8),
    }


def test_a_transformer_made_of_its_weights_has_its_losses() -> None:
    """The whole model in plain torch: the loss and the accuracy that were logged last."""
    given = {**TRANSFORMER, "model.layer_norm": True, "dtype": "float64"}
    memory, (t,) = trained(given, seeds=1, steps=10)
    assert memory.saved is not None
    w = state_dict.weights(memory.saved, t)
    assert w is not None
    net = network(given)
    (a, b), targets = (x[0] for x in net._train[0]), net._train[1][0]
    x = w["embed.weight"][torch.stack([a, b, torch.full_like(a, 5)], dim=1)] + w["pos_embed.weight"]
    for i in range(2):
        layer = {k.removeprefix(f"blocks.{i}."): v for k, v in w.items() if f"blocks.{i}." in k}
        q, k, v = (torch.einsum("ntd,hkd->nhtk", x, layer[f"attn.W_{of}"]) for of in "QKV")
        mixed = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + torch.einsum("nhtk,hdk->ntd", mixed, layer["attn.W_O"])
        x = nn.functional.layer_norm(x, (8,), layer["ln1.weight"], layer["ln1.bias"])
        hidden = torch.relu(x @ layer["mlp.W_in"].T + layer["mlp.b_in"])
        x = x + hidden @ layer["mlp.W_out"].T + layer["mlp.b_out"]
        x = nn.functional.layer_norm(x, (8,), layer["ln2.weight"], layer["ln2.bias"])
    logits = x[:, -1] @ w["unembed.weight"].T
    loss = nn.functional.cross_entropy(logits, targets)
    assert float(loss) == pytest.approx(memory.column(t.id, "train_loss")[-1], rel=1e-9)


def test_an_lstm_is_that_of_torch() -> None:
    names = NAMES["lstm"]({"model.depth": 2})
    torch.manual_seed(0)
    reference = nn.ModuleDict(
        {
            "embedding": nn.Embedding(5, 8),
            "lstm": nn.LSTM(8, 8, num_layers=2),
            "linear": nn.Linear(8, 1),
        }
    )
    assert names == [*dict(reference.named_parameters())]


def test_the_gates_of_an_lstm_are_in_the_order_of_torch() -> None:
    values = {"model.d": 8, "model.width": 8, "model.depth": 2, "task.words": 4}
    net = LstmNetwork(values)
    held = [w.float() for w in net.base(0)]
    state = {
        name: state_dict._as_torch(w) if "lstm." in name else w
        for name, w in zip(NAMES["lstm"](values), held, strict=True)
    }
    torch.manual_seed(0)
    embedding, lstm, linear = (
        nn.Embedding(5, 8),
        nn.LSTM(8, 8, 2, batch_first=True),
        nn.Linear(8, 1),
    )
    whole = nn.ModuleDict({"embedding": embedding, "lstm": lstm, "linear": linear})
    whole.load_state_dict(state)
    words = torch.randint(0, 5, (3, 7))
    ours = net.forward([w[None] for w in held], [words[None]])[0]
    theirs = linear(lstm(embedding(words))[0][:, -1])
    torch.testing.assert_close(ours, theirs.detach(), rtol=1e-4, atol=1e-5)


def test_weights_of_another_trial_are_none() -> None:
    memory, _ = trained(SPARSE, seeds=1)
    assert memory.saved is not None
    assert state_dict.weights(memory.saved, trial(SPARSE, 7)) is None


LAB = """
import torch
from sweeper.trainables.config import own

class Net(own.Model):
    width: int = 6

    def module(self, shape, outputs):
        return torch.nn.Sequential(
            torch.nn.Flatten(), torch.nn.Linear(shape[0], self.width), torch.nn.Tanh(),
            torch.nn.Linear(self.width, outputs, bias=False),
        )
"""


def test_a_users_module_loads_its_trained_weights_and_has_the_logged_loss(
    tmp_path: Path, store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my_net.py").write_text(LAB)
    monkeypatch.syspath_prepend(str(tmp_path))
    grid = {
        "name": "own",
        "fixed": {
            "task": {"name": "teacher_student", "N": 20, "N_test": 10, "hidden": 5},
            "model.name": "my_net:Net",
            "optimizer.lr": 0.01,
            "dtype": "float64",
            "steps": 30,
        },
        "seeds": 2,
    }
    package.launch(grid, store, inline=True)
    sweep = package.open("own", store=store)
    one = sweep.trial(sweep.trials["trial_id"][1].as_py())
    (again,) = grid_of(one.grid).trials()
    assert again.id == one.id
    assert " | sweeper launch - --trust" in one.command
    state = one.weights()
    task = one.config["task"]
    last = nn.Linear(6, task["outputs"], bias=False)
    net = nn.Sequential(nn.Flatten(), nn.Linear(task["inputs"], 6), nn.Tanh(), last).double()
    net.load_state_dict(state)
    examples = {f"task.{name}": value for name, value in task.items() if value is not None}
    made = network({**examples, "dtype": "float64"}, one.seed)
    inputs, targets = data(made)
    with torch.no_grad():
        loss = made._loss.each(net(inputs)[None], targets[None]).mean()
    assert float(loss) == pytest.approx(one.metrics["train_loss"].to_pylist()[-1], rel=1e-9)


def toy(tmp_path: Path, store: str, *changes: str) -> Sweep:
    launched(toy_grid(tmp_path, *changes), store)
    return package.open("toy", store=store)


def first(sweep: Sweep, condition: str = "true") -> Any:
    ids = sweep.sql(f"select trial_id from trials where {condition} order by trial_id")["trial_id"]
    return sweep.trial(ids[0].as_py())


def test_weights_that_were_not_kept_are_said_with_the_setting_and_a_command(
    tmp_path: Path, store: str
) -> None:
    sweep = toy(tmp_path, store, "checkpoint.keep=none", "steps=20")
    one = first(sweep)
    assert not one.has_weights
    with pytest.raises(UsageError) as caught:
        one.weights()
    assert str(caught.value) == (
        f"{one.id}: its weights weren't kept, because checkpoint.keep is none and the trial ended "
        f"as {one.status}. Train it again with its weights: {one.command}"
    )
    assert "checkpoint" not in one.grid


def test_under_censored_those_of_censored_trials_are_kept(store: str) -> None:
    grid = {
        "name": "kept",
        "fixed": {"task": {"name": "sparse_recovery", "n": 8, "s": 1, "N": 8}, "steps": 60},
        "grid": {"product": {"optimizer.lr": [1e-6, 0.3]}},
        "criterion": {"metric": "error", "train": 0.5, "test": 0.5},
        "checkpoint": {"keep": "censored"},
    }
    package.launch(grid, store, inline=True)
    sweep = package.open("kept", store=store)
    censored, generalized = (
        first(sweep, "status = 'censored'"),
        first(sweep, "status = 'generalized'"),
    )
    assert (censored.has_weights, generalized.has_weights) == (True, False)
    assert censored.weights()["w"].shape == (8,)
    with pytest.raises(
        UsageError, match=r"because checkpoint\.keep is censored and the trial ended"
    ):
        generalized.weights()


def test_a_failed_trial_and_one_that_was_not_trained_have_no_weights(
    tmp_path: Path, store: str
) -> None:
    made = Made.at(store)
    launch = made.launch([Planned(i) for i in "abc"])
    pack_id = made.pack(["a", "b"])
    attempt = made.claim(pack_id, launch)
    failed = {**end("a", "failed", 0), "error": "Traceback"}
    made.rows(pack_id, attempt, curve("a", [0], train_acc=[0.1]), [failed], done=True)
    sweep = package.open("demo", store=store)
    with pytest.raises(UsageError) as caught:
        sweep.trial("a").weights()
    assert str(caught.value) == (
        "a: it failed, and the weights of failed trials aren't kept. Its error says why; `sweeper "
        "retry demo` lets the next launch train it again."
    )
    with pytest.raises(UsageError) as caught:
        sweep.trial("c").weights()
    assert str(caught.value) == "c: not trained yet, so it has no weights. Launch the sweep."


def test_a_trainable_without_the_function_is_named(tmp_path: Path, store: str) -> None:
    one = first(toy(tmp_path, store, "steps=20"))
    with pytest.raises(UsageError) as caught:
        one.weights()
    assert str(caught.value) == (
        "only the trainable 'tests.toy' knows the format of its checkpoints. Give it a function "
        "`weights(payload, trial)` that returns name to tensor."
    )


def test_a_format_is_recognized_by_the_content(
    tmp_path: Path, store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = first(toy(tmp_path, store, "steps=20"))

    def read(payload: bytes, planned: Any) -> dict[str, str]:
        return {planned.id: payload[:1].decode()}

    formats = [(lambda payload: False, None), (lambda payload: payload[:1] == b"{", read)]
    monkeypatch.setattr(reader, "FORMATS", formats)
    assert one.weights() == {one.id: "{"}


def test_a_damaged_checkpoint_is_named(store: str) -> None:
    grid = {
        "name": "rot",
        "fixed": {"task": {"name": "sparse_recovery", "n": 8, "s": 1, "N": 8}, "steps": 5},
    }
    package.launch(grid, store, inline=True)
    (path,) = Path(store, "rot/checkpoints").iterdir()
    one = first(package.open("rot", store=store))
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(StoreError, match=r"checkpoints/.*\.pt: "):
        one.weights()
    assert one.metrics.num_rows > 2

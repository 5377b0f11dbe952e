"""Transformers: the same numbers as modules that compute every token of every pair."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from sweeper.config.trial import Trial
from sweeper.criterion import Criterion
from sweeper.packing import Pack
from sweeper.trainables import grokking, loop
from sweeper.trainables.config import GrokkingConfig
from sweeper.trainables.config.shapes import parameters, step_numbers
from sweeper.trainables.data.pairs import labels_of, split_of, table_of
from sweeper.trainables.networks.block import NetworkBlock
from tests.packs import killed_and_resumed, pack, run, same, trial

TINY = {
    "task.name": "modular_arithmetic",
    "task.p": 7,
    "model.name": "transformer",
    "model.d": 12,
    "model.heads": 2,
    "model.mlp": 20,
    "optimizer.name": "adam",
    "dtype": "float64",
}
POWER = {"model.layers": 2, "model.layer_norm": True, "model.operator_token": True}

KINDS: dict[str, dict[str, Any]] = {
    "one layer": TINY,
    "two layers": TINY | {"model.layers": 2},
    "three layers, layer norm": TINY | {"model.layers": 3, "model.layer_norm": True},
    "as Power's": TINY | POWER,
    "one layer, as Power's": TINY | POWER | {"model.layers": 1},
    "permutations": TINY | {"task.name": "symmetric_group", "task.degree": 3} | POWER,
    "mislabelled": TINY | {"selection.name": "outliers", "selection.k": 9},
    "odd heads": TINY | {"model.d": 15, "model.heads": 3, "model.layers": 2},
}
for _given in KINDS.values():
    if _given["task.name"] == "symmetric_group":
        del _given["task.p"]


class Reference(torch.nn.Module):
    """One transformer as one writes it: all tokens, a causal mask, modules of torch."""

    def __init__(self, values: Any, weights: list[Tensor]) -> None:
        super().__init__()
        d, heads, mlp = values["model.d"], values["model.heads"], values["model.mlp"]
        self.heads, self.norm = heads, values["model.layer_norm"]
        self.E, self.P, self.U = weights[0], weights[1], weights[-1]
        self.attentions, self.mlps, self.norms = [], [], []
        size = 12 if self.norm else 8
        for start in range(2, len(weights) - 1, size):
            *QKV, out, W_in, b_in, W_out, b_out = weights[start : start + 8]
            norms = weights[start + 8 : start + size]
            attention = torch.nn.MultiheadAttention(
                d, heads, bias=False, batch_first=True, dtype=torch.float64
            )
            first, last = torch.nn.Linear(d, mlp), torch.nn.Linear(mlp, d)
            made = {
                attention.in_proj_weight: torch.cat([w.reshape(d, d) for w in QKV]),
                attention.out_proj.weight: out.transpose(0, 1).reshape(d, d),
            }
            for linear, W, b in ((first, W_in, b_in), (last, W_out, b_out)):
                linear.double()
                made |= {linear.weight: W, linear.bias: b}
            for i in range(0, len(norms), 2):
                norm = torch.nn.LayerNorm(d, dtype=torch.float64)
                made |= {norm.weight: norms[i], norm.bias: norms[i + 1]}
                self.norms.append(norm)
            for parameter, value in made.items():
                parameter.data = value.clone()
            self.attentions.append(attention)
            self.mlps.append(torch.nn.Sequential(first, torch.nn.ReLU(), last))

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the logits [N, p] of tokens [N, length]."""
        x = self.E[tokens] + self.P
        length = tokens.shape[1]
        mask = torch.ones(length, length, dtype=torch.bool).triu(1)
        norms = iter(self.norms)
        for attention, mlp in zip(self.attentions, self.mlps, strict=True):
            x = x + attention(x, x, x, attn_mask=mask, need_weights=False)[0]
            x = next(norms)(x) if self.norm else x
            x = x + mlp(x)
            x = next(norms)(x) if self.norm else x
        return x[:, -1] @ self.U.T


def tokens_of(values: Any, pairs: Tensor, p: int) -> Tensor:
    """Return ``a b =`` or ``a o b =`` of every pair."""
    a, b, _ = table_of(values)
    same = torch.ones_like(pairs)
    middle = [same * (p + 1)] if values["model.operator_token"] else []
    return torch.stack([a[pairs], *middle, b[pairs], same * p], dim=1)


def network(given: dict[str, Any], count: int = 3, scale: float = 2.0) -> NetworkBlock:
    trials = [trial(given | {"model.init_scale": scale}, s) for s in range(count)]
    (block,) = loop._blocks(pack(trials), range(count))
    assert isinstance(block, NetworkBlock)
    for weight in block.weights.each:  # biases start at 0, which would hide them
        real = weight.real(weight.value)
        real += 0.1 * torch.randn(real.shape, generator=torch.Generator().manual_seed(1))
    return block


def own(block: NetworkBlock, i: int) -> list[Tensor]:
    """Return the weights of one trial, unpadded."""
    return [w.real(w.value)[i].clone() for w in block.weights.each]


def gradients(of: Reference) -> list[Tensor]:
    """Return the gradients of a reference in the order of the weights."""
    found: list[Any] = [of.E.grad, of.P.grad]
    norms = iter(of.norms)
    for attention, mlp in zip(of.attentions, of.mlps, strict=True):
        grads: Any = {
            name: p.grad for name, p in [*attention.named_parameters(), *mlp.named_parameters()]
        }
        found += grads["in_proj_weight"].chunk(3)
        out = grads["out_proj.weight"]
        found.append(out.view(len(out), of.heads, -1).transpose(0, 1))
        found += [grads[name] for name in ("0.weight", "0.bias", "2.weight", "2.bias")]
        if of.norm:
            found += [p.grad for norm in (next(norms), next(norms)) for p in norm.parameters()]
    return [*found, of.U.grad]


@pytest.mark.parametrize("kind", KINDS)
def test_outputs_and_gradients_are_those_of_torchs_modules(kind: str) -> None:
    block = network(KINDS[kind])
    assert parameters(block._values) == sum(w.numel() for w in own(block, 0))
    block.set_gradient(0)
    inputs: Any = block._train[0]
    found = block._architecture.forward([w.value for w in block.weights.each], inputs)
    for i, t in enumerate(block._trials):
        train, _ = split_of(t)
        with torch.enable_grad():
            weights = [w.requires_grad_() for w in own(block, i)]
            reference = Reference(t.values, weights)
            logits = reference(tokens_of(t.values, train, found.shape[2]))
            loss = torch.nn.functional.cross_entropy(logits, labels_of(t)[train])
            torch.autograd.backward(loss)
        torch.testing.assert_close(found[i], logits.detach(), rtol=1e-9, atol=1e-11)
        for weight, expected in zip(block.weights.each, gradients(reference), strict=True):
            real = weight.real(weight.grad)[i]
            torch.testing.assert_close(real, expected.reshape(real.shape), rtol=1e-8, atol=1e-10)
            assert weight.grad[i].count_nonzero() == real.count_nonzero()  # padding stays zero


@pytest.mark.parametrize(
    ("given", "std"),
    [
        ({}, [12**-0.5] * 7 + [None, 12**-0.5, None, 102**-0.5]),
        (POWER | {"model.layers": 1}, [12**-0.5] * 7 + [None, 12**-0.5, *[None] * 5, 103**-0.5]),
    ],
)
def test_weights_start_as_normal_numbers_biases_at_zero(
    given: dict[str, Any], std: list[float | None]
) -> None:
    scale = 3.0
    t = trial(TINY | given | {"task.p": 101, "model.init_scale": scale}, 1)
    (block,) = loop._blocks(pack([t]), range(1))
    for weight, expected in zip(block.weights.each, std, strict=True):
        start = weight.real(weight.value)[0]
        if len(weight.shape) == 1:
            assert set(start.tolist()) in ({0.0}, {scale})
        elif expected is not None:
            tolerance = 4 / (2 * start.numel()) ** 0.5
            assert float(start.std()) == pytest.approx(scale * expected, rel=tolerance)
            assert abs(float(start.mean())) < 4 * scale * expected / start.numel() ** 0.5
    scales = [w for w in block.weights.each if len(w.shape) == 1 and w.real(w.value)[0][0] == scale]
    assert len(scales) == (2 if "model.layer_norm" in given else 0)


def test_the_mean_embedding_distance_is_that_of_neighbours_on_the_circle() -> None:
    block = network(TINY, 2)
    found = block.metrics()["med"]
    for i in range(2):
        E = own(block, i)[0]
        steps = [float((E[(k + 1) % 7] - E[k]).norm()) for k in range(7)]
        assert float(found[i]) == pytest.approx(sum(steps) / 7, rel=1e-12)
    assert "med" not in network(KINDS["permutations"], 2).metrics()  # no number has a neighbour


def company(given: dict[str, Any], count: int = 7) -> list[Trial]:
    more = {"optimizer.name": "adamw"}
    return [
        trial(given | more, i % 4, optimizer__lr=1e-3 * (2 + i), optimizer__weight_decay=i % 3)
        for i in range(count)
    ]


@pytest.mark.parametrize("kind", ["one layer", "odd heads", "as Power's"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_trial_has_the_same_rows_alone_and_in_every_company(kind: str, dtype: str) -> None:
    trials = company(KINDS[kind] | {"dtype": dtype})
    within = run(pack(trials, steps=6))
    for chosen in (trials[:1], trials[6:], trials[2:5]):
        same(run(pack(chosen, steps=6)), within, chosen)


@pytest.mark.parametrize("kill_at", [0, 11])
def test_a_killed_pack_ends_as_if_nobody_had(kill_at: int) -> None:
    early = Criterion(metric="acc", train=0.3, test=0.1)  # some trials end on the way

    def make() -> Pack[GrokkingConfig]:
        return pack(company(TINY | {"optimizer.batch": 8, "dtype": "float32"}), 40, early)

    undisturbed = run(make())
    assert len({steps for _, _, steps in undisturbed.ends.values()}) > 1
    same(killed_and_resumed(make, kill_at), undisturbed, make().trials)


def test_a_width_that_heads_dont_divide_is_refused() -> None:
    with pytest.raises(AssertionError, match=r"model.d = 12, model.heads = 5: heads share"):
        trial(TINY | {"model.heads": 5})


@pytest.mark.parametrize(
    "given",
    [
        {"task.p": 29, "model.d": 48, "model.mlp": 128},
        {"task.p": 59, "model.d": 64, "model.layers": 2, "optimizer.name": "sgd"},
    ],
)
def test_the_memory_of_a_step_is_claimed_within_a_factor_of_two(given: dict[str, Any]) -> None:
    t = trial({"task.name": "modular_arithmetic", "model.name": "transformer"} | given)
    (block,) = loop._blocks(pack([t]), range(1))
    assert isinstance(block, NetworkBlock)
    kept = 0

    def keep(tensor: Tensor) -> Tensor:
        nonlocal kept
        kept += tensor.untyped_storage().nbytes() if tensor.data_ptr() not in seen else 0
        seen.add(tensor.data_ptr())
        return tensor

    seen = {w.value.data_ptr() for w in block.weights.each}
    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
        values = [w.value.detach().requires_grad_() for w in block.weights.each]
        inputs: Any = block._train[0]
        block._loss.each(block._architecture.forward(values, inputs), block._train[1])
    claimed = 4 * step_numbers(t.values)
    assert kept / 2 <= claimed <= kept * 2
    assert grokking.memory_bytes(t.config(GrokkingConfig)) >= 2 * claimed

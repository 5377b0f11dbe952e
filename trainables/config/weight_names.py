"""The names of a trained network's weights, free of torch.

They are those of `torch.nn` where a module of torch has the same weights, so that a state dict can
be loaded into it. A matrix is ``outputs x inputs`` everywhere, as that of `torch.nn.Linear`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

Values = Mapping[str, Any]


def _product(values: Values) -> list[str]:
    return ["u", "v"] if values["model.sign_free"] else ["w"]


def _factors(values: Values) -> list[str]:
    return [f"factors.{i}" for i in range(values["model.depth"])]


def _mlp(values: Values) -> list[str]:
    layers = [f"layers.{i}.weight" for i in range(values["model.depth"])]
    return ["embedding_a.weight", "embedding_b.weight", *layers, "unembedding.weight"]


def _dense(values: Values) -> list[str]:
    names = []
    for i in range(values["model.depth"] + 1):
        names += [f"layers.{i}.weight", *([f"layers.{i}.bias"] if values["model.bias"] else [])]
    return names if values["model.last_bias"] or not values["model.bias"] else names[:-1]


def _transformer(values: Values) -> list[str]:
    layer = [f"attn.W_{of}" for of in "QKVO"] + [f"mlp.{of}" for of in MLP]
    if values["model.layer_norm"]:
        layer += [f"ln{i}.{of}" for i in (1, 2) for of in ("weight", "bias")]
    blocks = [f"blocks.{i}.{name}" for i in range(values["model.layers"]) for name in layer]
    return ["embed.weight", "pos_embed.weight", *blocks, "unembed.weight"]


MLP = ("W_in", "b_in", "W_out", "b_out")


def _lstm(values: Values) -> list[str]:
    names = ["embedding.weight"]
    for i in range(values["model.depth"]):
        names += [f"lstm.{of}_l{i}" for of in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]
    return [*names, "linear.weight", "linear.bias"]


def _message_passing(_: Values) -> list[str]:
    pair = ("weight", "bias")
    rounds = [
        f"rounds.{i}.{layer}.{of}"
        for i in range(2)
        for layer in ("edge.0", "edge.1", "node")
        for of in pair
    ]
    return rounds + [f"head.{i}.{of}" for i in range(2) for of in pair]


NAMES: dict[str, Callable[[Values], list[str]]] = {
    "product": _product,
    "diagonal": _factors,
    "matrix": lambda _: ["matrix"],
    "factorised": _factors,
    "mlp": _mlp,
    "dense": _dense,
    "transformer": _transformer,
    "lstm": _lstm,
    "message_passing": _message_passing,
}
"""Model name to the names of its weights, in the order in which the model holds them."""

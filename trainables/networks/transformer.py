"""Decoder-only transformers over the tokens ``a b =``, read at the last one.

The result at a token depends only on the tokens up to it, so little is computed per pair: the
stream at a is a function of a, with one row per operand. In the first layer this holds for every
token, since each embedding enters alone. The last layer is computed at the last token only.

Shape suffixes: B trials, N pairs, R rows, d width of the stream, H heads, k width of a head,
p operands.

References:
    [L23] Liu, Michaud, Tegmark, Omnigrok, 2023. arXiv 2210.01117
    [NC23] Nanda, Chan, et al., Progress measures for grokking, 2023. arXiv 2301.05217
    [P22] Power et al., Grokking, 2022. arXiv 2201.02177
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from sweeper.trainables.batch.weights import padded
from sweeper.trainables.config import symbols
from sweeper.trainables.config.fields import MODULAR
from sweeper.trainables.config.shapes import transformer
from sweeper.trainables.data.pairs import mean_step
from sweeper.trainables.data.streams import stream
from sweeper.trainables.networks.affine import affine

WHOLE = 16
"""Operands and pairs are filled up to multiples of this, with rows that nothing comes of.

Then no elementwise pass ends on a few numbers that are rounded in another way, and a trial's
numbers do not depend on its pack-mates to the last bit.
"""

EPS = 1e-5
"""The number that a layer norm adds to the variance, as torch.nn.LayerNorm."""


Operands = frozenset[str]
"""Which of the operands, "a" and "b", something depends on."""

BOTH: Operands = frozenset("ab")


class OperandRows(NamedTuple):
    """Something at one token.

    Attributes:
        of: ``[B, R, ...]`` with a row for each value of what it depends on: R is 1, p, or N for
            both operands, the latter two filled up to `WHOLE`.
        on: What it depends on.
    """

    of: Tensor
    on: Operands


class Lookup:
    """The rows of every pair.

    Args:
        inputs: The operands of each pair, ``[B, N]`` each.
        rows: Rows that something of one operand has.
    """

    def __init__(self, inputs: Sequence[Tensor], rows: int) -> None:
        B, N = inputs[0].shape
        filled = [torch.nn.functional.pad(x, (0, -N % WHOLE)) for x in inputs]
        first = torch.arange(B, device=inputs[0].device)[:, None] * rows
        self._rows = {name: (x + first).flatten() for name, x in zip("ab", filled, strict=True)}
        self._pairs = B, N + -N % WHOLE

    def spread(self, x: OperandRows, on: Operands) -> Tensor:
        """Return the rows of `x` for each value of `on`, or one row where it depends on nothing."""
        if not x.on or x.on == on:
            return x.of
        assert on == BOTH
        (name,) = x.on
        rows = x.of.flatten(0, 1).index_select(0, self._rows[name])
        return rows.view(*self._pairs, *rows.shape[1:])


@dataclass(frozen=True, slots=True)
class TransformerLayer:
    """The weights of one layer; each ``[B, ...]``.

    Attributes:
        heads: Queries, keys and values, ``[B, H, k, d]`` each, and the output, ``[B, H, d, k]``.
        mlp: ``[B, mlp, d]`` and its bias, ``[B, d, mlp]`` and its bias.
        norms: Scale and shift of the layer norm after the attention, and of that after the MLP,
            each ``[B, d]``; empty without.
    """

    heads: tuple[Tensor, ...]
    mlp: tuple[Tensor, ...]
    norms: tuple[Tensor, ...]


class TransformerNetwork:
    """Embeddings and positions, layers, unembedding.

    Args:
        values: The values of a trial.
    """

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._shapes = transformer(values)
        self._p = symbols(values)
        self._d, self._heads = values["model.d"], values["model.heads"]
        self._numbers = values["task.name"] in MODULAR
        self._norm: bool = values["model.layer_norm"]
        self._operator: bool = values["model.operator_token"]

    def held(self) -> list[tuple[int, ...]]:
        """Return the shapes with every size padded but the number of heads."""
        shapes = [tuple(padded(size) for size in shape) for shape in self._shapes]
        for i, shape in enumerate(self._shapes):
            if len(shape) == 3:
                shapes[i] = (shape[0], *shapes[i][1:])
        tokens = self._shapes[0][0]
        return [(tokens + -tokens % WHOLE, shapes[0][1]), *shapes[1:]]

    def base(self, seed: int) -> list[Tensor]:
        """Return N(0, 1/d), for the unembedding N(0, 1/tokens); 0 for biases, 1 for scales."""
        g = stream(seed, "transformer", *self._shapes)
        first, last = self._shapes[0], len(self._shapes) - 1
        weights = []
        for i, shape in enumerate(self._shapes):
            if len(shape) > 1:
                fan = first[0] if i == last else self._d
                drawn = torch.randn(*shape, generator=g, dtype=torch.float64)
                weights.append(drawn / math.sqrt(fan))
            else:
                weights.append(torch.zeros(shape, dtype=torch.float64))
        for i in self._scales():
            weights[i] += 1
        return weights

    def _per_layer(self) -> int:
        return 12 if self._norm else 8

    def _scales(self) -> list[int]:
        """Return the places of the scales of layer norms among the weights."""
        size = self._per_layer()
        starts = range(2, len(self._shapes) - 1, size) if self._norm else ()
        return [start + i for start in starts for i in (8, 10)]

    def _layers(self, weights: Sequence[Tensor]) -> list[TransformerLayer]:
        size = self._per_layer()
        return [
            TransformerLayer(
                tuple(weights[i : i + 4]),
                tuple(weights[i + 4 : i + 8]),
                tuple(weights[i + 8 : i + size]),
            )
            for i in range(2, len(weights) - 1, size)
        ]

    def forward(self, weights: Sequence[Tensor], inputs: Sequence[Tensor]) -> Tensor:
        """Return the logits ``[B, N, p]`` at the last token for operands ``[B, N]`` each."""
        E, P, U = weights[0], weights[1], weights[-1]
        lookup = Lookup(inputs, E.shape[1])
        tokens = [
            OperandRows((E if which is None else E[:, which : which + 1]) + P[:, i : i + 1], on)
            for i, (which, on) in enumerate(self._tokens())
        ]
        *layers, last_layer = self._layers(weights)
        for layer in layers:
            tokens = self._layer(layer, tokens, range(len(tokens)), lookup)
        (end,) = self._layer(last_layer, tokens, [len(tokens) - 1], lookup)
        return affine(end.of, U)[:, : inputs[0].shape[1], : self._p]

    def measure(self, weights: Sequence[Tensor]) -> dict[str, Tensor]:
        """Return `med`, the mean embedding distance of neighbours, where operands are numbers."""
        return {"med": mean_step(weights[0][:, : self._p])} if self._numbers else {}

    def _tokens(self) -> list[tuple[int | None, Operands]]:
        """Return for each token its row of the embedding, None for any, and what it depends on."""
        middle = [(self._p + 1, frozenset[str]())] if self._operator else []
        return [(None, frozenset("a")), *middle, (None, frozenset("b")), (self._p, frozenset())]

    def _layer(
        self,
        layer: TransformerLayer,
        tokens: Sequence[OperandRows],
        wanted: Sequence[int],
        lookup: Lookup,
    ) -> list[OperandRows]:
        """Return the output of `layer` on `tokens` at the places that are `wanted`."""
        queries, keys, values, out = layer.heads
        K, V = ([_projected(x, W) for x in tokens] for W in (keys, values))
        out = out.mT.flatten(1, 2)  # [B, H * k, d]
        W_in, b_in, W_out, b_out = layer.mlp
        results = []
        for i in wanted:
            on = frozenset[str]().union(*(x.on for x in tokens[: i + 1]))
            q = _projected(tokens[i], queries)
            attended = self._attended(q, K[: i + 1], V[: i + 1], on, lookup)
            y = torch.baddbmm(lookup.spread(tokens[i], on), attended, out)
            y = self._normed(y, layer.norms[:2])
            y = y + affine(affine(y, W_in, b_in, "relu"), W_out, b_out)
            results.append(OperandRows(self._normed(y, layer.norms[2:]), on))
        return results

    def _attended(
        self,
        q: OperandRows,
        K: Sequence[OperandRows],
        V: Sequence[OperandRows],
        on: Operands,
        lookup: Lookup,
    ) -> Tensor:
        """Return the mixed values of all heads, ``[B, R, H * k]``."""
        scores = []
        for key in K:
            both = q.on | key.on
            product = lookup.spread(q, both) * lookup.spread(key, both)
            score = self._apart(product).sum(3)  # [B, R, H]
            scores.append(lookup.spread(OperandRows(score, both), on))
        scale = math.sqrt(self._d // self._heads)
        rows = max(score.shape[1] for score in scores)
        attention = torch.stack([s.expand(-1, rows, -1) for s in scores]) / scale
        shares = torch.softmax(attention, 0)[..., None]
        mixed: Tensor | None = None
        for share, value in zip(shares, V, strict=True):
            part = self._apart(lookup.spread(value, on))
            mixed = share * part if mixed is None else torch.addcmul(mixed, share, part)
        assert mixed is not None
        return mixed.flatten(2)

    def _apart(self, x: Tensor) -> Tensor:
        """Return ``x_BR(Hk)`` as ``[B, R, H, k]``."""
        return x.view(*x.shape[:2], self._heads, -1)

    def _normed(self, x: Tensor, weights: Sequence[Tensor]) -> Tensor:
        if not weights:
            return x
        scale, shift = weights
        real = x[:, :, : self._d]
        normal = torch.nn.functional.layer_norm(real, (self._d,), eps=EPS)
        normal = torch.nn.functional.pad(normal, (0, x.shape[2] - self._d))
        return torch.addcmul(shift[:, None], normal, scale[:, None])


def _projected(x: OperandRows, W: Tensor) -> OperandRows:
    """Return the heads' projections of x by W, ``[B, H, k, d]``: ``[B, R, H * k]``."""
    return OperandRows(affine(x.of, W.flatten(1, 2)), x.on)

"""Stacked LSTMs that read a text and answer with one number.

The recurrence is written out, forward and backward: a word of all texts of all trials is one
batched product and a few passes over memory, where automatic differentiation would take dozens.

Shape suffixes: B trials, N texts, T words of a text, d -> h widths of a layer.

References:
    [HS97] Hochreiter, Schmidhuber, Long Short-Term Memory, 1997.
    [L23] Liu, Michaud, Tegmark, Omnigrok, 2023. arXiv 2210.01117, Fig. 4
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from sweeper.trainables.batch.weights import padded
from sweeper.trainables.config.texts import lstm
from sweeper.trainables.data.streams import stream
from sweeper.trainables.networks.affine import affine


class LstmLayer(torch.autograd.Function):
    """The hidden states of one layer.

    Gates stand in the order output, input, forget, candidate.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """Return the hidden states ``[T, B, h, N]``; the first starts from zeros.

        Args:
            ctx: Keeps the tensors that the backward pass needs.
            x: The input, ``[T, B, d, N]``.
            weight: From hidden state and input to gates, ``[B, 4 h, h + d]``.
            bias: Of the gates, ``[B, 4 h, 1]``.
        """
        T, B, d, N = x.shape
        h = weight.shape[1] // 4
        seen = x.new_empty(T + 1, B, h + d, N)
        seen[0, :, :h] = 0
        seen[:T, :, h:] = x
        gates, shares = x.new_empty(T, B, 4 * h, N), x.new_empty(T, B, h, N)
        cells = x.new_zeros(T + 1, B, h, N)  # twice the cells
        twice = torch.ones_like(bias)
        twice[:, 3 * h :] = 2
        weight2, bias2 = weight * twice, bias * twice
        parts = zip(*(of.unbind() for of in torch.split(gates, h, dim=2)), strict=True)
        moments = zip(
            parts,
            gates.unbind(),
            shares.unbind(),
            seen.unbind(),
            seen[1:, :, :h].unbind(),
            pairwise(cells.unbind()),
            strict=False,
        )
        for (o, i, f, g), gate, share, given, hidden, (before, after) in moments:
            torch.baddbmm(bias2, weight2, given, out=gate).sigmoid_()
            # tanh x = 2 sigmoid(2 x) - 1: several times as fast as torch.tanh
            torch.mul(f, before, out=after).addcmul_(i, g, value=4).sub_(i, alpha=2)
            torch.sigmoid(after, out=share)
            torch.mul(o, share, out=hidden).mul_(2).sub_(o)
        cells.div_(2)
        tanhs = shares.mul_(2).sub_(1)
        gates[:, :, 3 * h :].mul_(2).sub_(1)
        ctx.save_for_backward(gates, cells, tanhs, seen, weight)
        return seen[1:, :, :h]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the gradients of the arguments for the gradient ``[T, B, h, N]``."""
        gates, cells, tanhs, seen, weight = ctx.saved_tensors
        T, B, width, N = gates.shape
        h = width // 4
        o, i, f, g = torch.split(gates, h, dim=2)
        sigmoid, tanh = torch.ops.aten.sigmoid_backward, torch.ops.aten.tanh_backward
        of_output, to_cell = sigmoid(tanhs, o), tanh(o, tanhs)
        of_rest = gates.new_empty(T, B, 3, h, N)  # input, forget, candidate
        sigmoid.grad_input(g, i, grad_input=of_rest[:, :, 0])
        sigmoid.grad_input(cells[:T], f, grad_input=of_rest[:, :, 1])
        tanh.grad_input(i, g, grad_input=of_rest[:, :, 2])
        grads, of_seen = torch.empty_like(gates), torch.empty_like(seen[:T])
        of_weight = torch.zeros_like(weight)
        above, cell, turned = grad[T - 1], torch.zeros_like(tanhs[0]), weight.mT
        moments = zip(
            grads.unbind(),
            grads[:, :, :h].unbind(),
            grads[:, :, h:].view(T, B, 3, h, N).unbind(),
            to_cell.unbind(),
            of_output.unbind(),
            of_rest.unbind(),
            f.unbind(),
            of_seen.unbind(),
            of_seen[:, :, :h].unbind(),
            seen[:T].mT.unbind(),
            (grad[0], *grad[:-1].unbind()),
            strict=True,
        )
        for now, output, rest, to, out, inner, forget, lower, hidden, given, more in reversed(
            list(moments)
        ):
            cell.addcmul_(above, to)
            torch.mul(above, out, out=output)
            torch.mul(cell[:, None], inner, out=rest)
            cell.mul_(forget)
            torch.bmm(turned, now, out=lower)
            of_weight.baddbmm_(now, given)
            above = more + hidden
        return of_seen[:, :, h:], of_weight, grads.sum(dim=0).sum(dim=2)[:, :, None]


_layer: Callable[..., Tensor] = LstmLayer.apply


class LstmNetwork:
    """Embeddings of the words, layers of LSTM [HS97], a linear map of the last hidden state.

    Args:
        values: The values of a trial.
    """

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._shapes = lstm(values)
        self._depth: int = values["model.depth"]
        self._width: int = values["model.width"]

    def held(self) -> list[tuple[int, ...]]:
        """Return the shapes with every size padded; those of the layers are multiples of 8."""
        return [tuple(padded(size) for size in shape) for shape in self._shapes]

    def base(self, seed: int) -> list[Tensor]:
        """Return N(0, 1) for the embedding and U(+-1/sqrt(h)) for the rest, as torch.nn."""
        g = stream(seed, "lstm", *self._shapes)
        embedding, *others = self._shapes
        weights = [torch.randn(*embedding, generator=g, dtype=torch.float64)]
        for shape in others:
            uniform = torch.rand(*shape, generator=g, dtype=torch.float64) * 2 - 1
            weights.append(uniform / math.sqrt(self._width))
        return weights

    def forward(self, weights: Sequence[Tensor], inputs: Sequence[Tensor]) -> Tensor:
        """Return one output ``[B, N, 1]`` for the words ``[B, N, T]`` of each text."""
        words = inputs[0].mT  # by time
        B = len(words)
        embedding, *layers, last, bias = weights
        offsets = torch.arange(B, device=words.device)[:, None, None] * embedding.shape[1]
        rows = (words + offsets).flatten()
        x = embedding.flatten(0, 1).index_select(0, rows).view(*words.shape, -1)
        x = x.permute(1, 0, 3, 2)  # [T, B, d, N]
        for i in range(0, 4 * self._depth, 4):
            of_input, of_hidden, *biases = layers[i : i + 4]
            weight = torch.cat([of_hidden, of_input], dim=2)
            x = _layer(x, weight, (biases[0] + biases[1])[:, :, None])
        return affine(x[-1].mT, last, bias)[:, :, :1]

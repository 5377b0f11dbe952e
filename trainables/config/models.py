"""The models: the weights that are trained, and the functions that they define.

References:
    [N25] Notsawo et al., 2025. arXiv 2506.05718
    [B25] Boursier et al., 2025. arXiv 2505.20172
    [L23] Liu, Michaud, Tegmark, Omnigrok, 2023. arXiv 2210.01117
    [NC23] Nanda, Chan, et al., Progress measures for grokking, 2023. arXiv 2301.05217
    [P22] Power et al., Grokking, 2022. arXiv 2201.02177
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from sweeper.config.fields import BATCHED, Section
from sweeper.trainables.config.fields import DENSE, MATRIX, SPARSE, TABLES, Count, Positive, by_name
from sweeper.trainables.config.molecules import MessagePassing
from sweeper.trainables.config.texts import Lstm


class Product(Section):
    """a = A_1 * ... * A_L elementwise, or u^L - v^L ([N25] App. F.1, [B25] App. D.2).

    Attributes:
        depth: Number of factors L, from 1 to 8.
        sign_free: Whether a is u^L - v^L; false: a product of L factors, whose entries cannot
            change their sign (law 13).
        init_scale: Initial value of every entry of every factor, above 0.
    """

    fits: ClassVar[Mapping[str, tuple[str, ...]]] = {"task": SPARSE}

    name: Literal["product"] = "product"
    depth: Annotated[int, Field(ge=1, le=8)] = 1
    sign_free: bool = False
    init_scale: Annotated[Positive, BATCHED] = 1e-6


class Diagonal(Section):
    """a = w_1 * ... * w_L elementwise; L = 2 is the diagonal linear network ([B25] App. D.2).

    Unlike the factors of `product`, these start with different values.

    Attributes:
        depth: Number of factors L, from 2 to 8.
        init_scale: Standard deviation of the initial entries of every factor, N(0, init_scale^2).
    """

    fits: ClassVar[Mapping[str, tuple[str, ...]]] = {"task": SPARSE}

    name: Literal["diagonal"] = "diagonal"
    depth: Annotated[int, Field(ge=2, le=8)] = 2
    init_scale: Annotated[Positive, BATCHED] = 1.0


class MLP(Section):
    """Two embeddings combined to one input, `depth` hidden ReLU layers, logits.

    Attributes:
        embedding: Combination of the embeddings of the two operands: `hadamard`, the elementwise
            product; `matrix`, the matrix product of the two, each reshaped to sqrt(d) x sqrt(d)
            ([N25] Fig. 1); `sum`.
        d: Width of the embeddings.
        width: Width of the hidden layers.
        depth: Number of hidden layers, from 1 to 8.
        init: Distribution of the initial weights at init_scale 1: `default`, U(+-1/sqrt(fan_in)),
            as torch.nn.Linear without biases; `fan_out`, N(0, 1/fan_out) after the embeddings
            ([N25]); `normal`, N(0, 1) for all.
        init_scale: Factor of the initial value of every weight, above 0.
    """

    fits: ClassVar[Mapping[str, tuple[str, ...]]] = {"task": TABLES}

    name: Literal["mlp"] = "mlp"
    embedding: Literal["hadamard", "matrix", "sum"] = "hadamard"
    d: Count = 64
    width: Count = 128
    depth: Annotated[int, Field(ge=1, le=8)] = 1
    init: Literal["default", "fan_out", "normal"] = "default"
    init_scale: Annotated[Positive, BATCHED] = 1.0


class Transformer(Section):
    """A decoder-only transformer over the tokens ``a b =``; the answer is read at the last one.

    It has learned positions, causal heads, a ReLU MLP with biases in each layer, no other biases,
    and a separate unembedding. Initial embeddings and weights are N(0, 1/d), the unembedding is
    N(0, 1/tokens), biases are 0 ([NC23], [L23]). Only results have logits, other tokens have none.
    Unlike the network of [P22], it has no fixed positions and no warm-up of 10 steps.

    Attributes:
        layers: Number of layers, from 1 to 8; each has attention and an MLP on a residual stream.
        d: Width of the residual stream, a multiple of `heads`.
        heads: Number of attention heads, each of width d / heads.
        mlp: Width of the hidden layer of each MLP; 4 d in [P22].
        layer_norm: Whether the residual stream is normalized after each attention and each MLP
            ([P22]).
        operator_token: Whether the tokens are ``a o b =`` ([P22]); false: ``a b =``.
        init_scale: Factor of the initial value of every weight, above 0: alpha of [L23].
    """

    fits: ClassVar[Mapping[str, tuple[str, ...]]] = {"task": TABLES}

    name: Literal["transformer"] = "transformer"
    layers: Annotated[int, Field(ge=1, le=8)] = 1
    d: Count = 128
    heads: Count = 4
    mlp: Count = 512
    layer_norm: bool = False
    operator_token: bool = False
    init_scale: Annotated[Positive, BATCHED] = 1.0


class Matrix(Section):
    """Train the matrix A itself ([N25] 1.4).

    Attributes:
        init_scale: Initial value of A as a multiple of the identity, above 0.
    """

    fits: ClassVar[Mapping[str, tuple[str, ...]]] = {"task": MATRIX}

    name: Literal["matrix"] = "matrix"
    init_scale: Annotated[Positive, BATCHED] = 1e-6


class Factorised(Section):
    """A = W_1 ... W_L, a product of matrices; L = 2 is U V^T ([B25] 2.2).

    Attributes:
        depth: Number of factors L, from 2 to 8.
        width: Inner size of the factors, the largest rank that A can have; null: min(n1, n2).
        init_scale: Standard deviation of the initial entries of every factor, N(0, init_scale^2).
    """

    fits: ClassVar[Mapping[str, tuple[str, ...]]] = {"task": MATRIX}

    name: Literal["factorised"] = "factorised"
    depth: Annotated[int, Field(ge=2, le=8)] = 2
    width: Count | None = None
    init_scale: Annotated[Positive, BATCHED] = 1.0


class Dense(Section):
    """A fully connected network: `depth` hidden layers of `width`, then a linear one.

    Attributes:
        width: Width of the hidden layers.
        depth: Number of hidden layers, from 0 to 8.
        activation: Activation of the hidden layers; `leaky_relu` has slope 0.2 below 0.
        bias: Whether layers have biases.
        last_bias: Whether the last layer has a bias; without effect if `bias` is false.
        init: Distribution of the initial weights and biases at init_scale 1: `default`,
            U(+-1/sqrt(fan_in)), as torch.nn.Linear; `fan_out`, N(0, 1/fan_out) for weights and 0
            for biases ([N25]); `normal`, N(0, 1) ([B25]).
        init_scale: Factor of the initial value of every weight and bias, above 0: alpha of [L23].
    """

    fits: ClassVar[Mapping[str, tuple[str, ...]]] = {"task": DENSE}

    name: Literal["dense"] = "dense"
    width: Count = 100
    depth: Annotated[int, Field(ge=0, le=8)] = 2
    activation: Literal["relu", "tanh", "leaky_relu"] = "relu"
    bias: bool = True
    last_bias: bool = True
    init: Literal["default", "fan_out", "normal"] = "default"
    init_scale: Annotated[Positive, BATCHED] = 1.0


Model = Product | Diagonal | MLP | Transformer | Matrix | Factorised | Dense | Lstm | MessagePassing

MODELS = by_name(Model)

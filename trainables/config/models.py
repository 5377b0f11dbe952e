"""The models: what is trained.

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
        depth: L, the number of factors.
        sign_free: u^L - v^L instead of a product, which can't change its sign (law 13).
        init_scale: Every factor starts at this value in every component.
    """

    fits: ClassVar[Mapping[str, tuple[str, ...]]] = {"task": SPARSE}

    name: Literal["product"] = "product"
    depth: Annotated[int, Field(ge=1, le=8)] = 1
    sign_free: bool = False
    init_scale: Annotated[Positive, BATCHED] = 1e-6


class Diagonal(Section):
    """a = w_1 * ... * w_L elementwise; L = 2 is the diagonal linear network ([B25] App. D.2).

    Unlike the factors of `product`, these start apart and stay so.

    Attributes:
        depth: L, the number of factors.
        init_scale: Every entry of every factor starts as N(0, init_scale^2).
    """

    fits: ClassVar[Mapping[str, tuple[str, ...]]] = {"task": SPARSE}

    name: Literal["diagonal"] = "diagonal"
    depth: Annotated[int, Field(ge=2, le=8)] = 2
    init_scale: Annotated[Positive, BATCHED] = 1.0


class MLP(Section):
    """Two embeddings combined to one input, `depth` hidden ReLU layers, logits.

    Attributes:
        embedding: How the two operands' embeddings are combined: `hadamard`, elementwise product;
            `matrix`, matrix product of the two, each reshaped to sqrt(d) x sqrt(d) ([N25] Fig. 1);
            `sum`.
        d: Width of the embeddings.
        width: Width of the hidden layers.
        depth: Number of hidden layers.
        init: How weights start for init_scale 1: `default`, as torch.nn.Linear without biases,
            U(+-1/sqrt(fan_in)); `fan_out`, those behind the embeddings as N(0, 1/fan_out) ([N25]);
            `normal`, all as N(0, 1).
        init_scale: Multiplies the initial value of every weight.
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

    Learned positions, causal heads, a ReLU MLP with biases in each layer, no other biases, and an
    unembedding of its own. Embeddings and weights start as N(0, 1/d), the unembedding as
    N(0, 1/tokens), biases as 0 ([NC23], [L23]). Results alone have logits, other tokens none. [P22]
    begins with 10 steps of warm-up and has fixed positions; neither is there.

    Attributes:
        layers: Number of layers, each attention and an MLP around a residual stream.
        d: Width of the residual stream, a multiple of `heads`.
        heads: Attention heads, each of width d / heads.
        mlp: Width of the MLPs; [P22] has 4 d.
        layer_norm: Normalize the residual stream after each attention and each MLP ([P22]).
        operator_token: The tokens are ``a o b =`` ([P22]).
        init_scale: Multiplies the initial value of every weight: alpha of [L23].
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
    """A itself is trained ([N25] 1.4).

    Attributes:
        init_scale: A starts as this multiple of the identity.
    """

    fits: ClassVar[Mapping[str, tuple[str, ...]]] = {"task": MATRIX}

    name: Literal["matrix"] = "matrix"
    init_scale: Annotated[Positive, BATCHED] = 1e-6


class Factorised(Section):
    """A = W_1 ... W_L, a product of matrices; L = 2 is U V^T ([B25] 2.2).

    Attributes:
        depth: L, the number of factors.
        width: Inner size of the factors, the largest rank that A can have; null: min(n1, n2).
        init_scale: Every entry of every factor starts as N(0, init_scale^2).
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
        depth: Number of hidden layers.
        activation: Of the hidden layers; `leaky_relu` has slope 0.2 below 0.
        bias: Whether layers have biases.
        last_bias: Whether the last layer has one, where layers have biases.
        init: How weights start for init_scale 1: `default`, as torch.nn.Linear, weights and biases
            as U(+-1/sqrt(fan_in)); `fan_out`, weights as N(0, 1/fan_out) and biases as 0 ([N25]);
            `normal`, weights and biases as N(0, 1) ([B25]).
        init_scale: Multiplies the initial value of every weight and bias: alpha of [L23].
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

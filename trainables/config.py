"""The config of `trainables.grokking`: its parts, their fields and what goes with what.

Free of torch. A new task, model, regularizer, selection or optimizer is one class here and one
entry in `GrokkingConfig.parts`, beside its tensors in the module of the same name. A default
never changes: a field that equals it is no part of a trial's id.

References:
    [N25] Notsawo et al., Grokking Beyond the Euclidean Norm, 2025. arXiv 2506.05718
    [P22] Power et al., Grokking, 2022. arXiv 2201.02177
    [G25] Gu et al., 2025. arXiv 2504.03162
    [B25] Boursier et al., 2025. arXiv 2505.20172
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, Field

from sweeper.config import BATCHED, DRAWN, Config, Constraint, Scalar, Section

Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
Unit = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]

SPARSE = ("sparse_recovery",)
MODULAR = ("modular_arithmetic",)


class SparseRecovery(Section):
    """Recover an s-sparse vector a* from N linear measurements y = X a* + noise ([N25] 1.4).

    Attributes:
        n: Length of a*.
        s: Nonzeros of a*, at random places.
        N: Measurements.
        signal: Law of the nonzeros, of variance 1/n: N(0, 1/n), or +-1/sqrt(n).
        snr: Signal-to-noise ratio of the measurements, as a ratio of powers; null: no noise.
        data_seed: Seeds data apart from the init; null: the trial's seed.
        rng: `numpy_legacy` draws as the published code does, and so reproduces its instances.
    """

    defaults: ClassVar[Mapping[str, Scalar]] = {
        "model.name": "product", "optimizer.name": "gd", "dtype": "float64",
    }  # fmt: skip

    name: Literal["sparse_recovery"] = "sparse_recovery"
    n: Count = 100
    s: Annotated[Count, DRAWN] = 5
    N: Count = 30
    signal: Annotated[Literal["gaussian", "rademacher"], DRAWN] = "gaussian"
    snr: Annotated[Positive | None, DRAWN] = None
    data_seed: Annotated[Annotated[int, Field(ge=0, lt=2**32)] | None, DRAWN] = None
    rng: Literal["torch", "numpy_legacy"] = "torch"


OPERATIONS = (
    "add", "sub", "mul", "div", "div_odd_sub", "x2_y2", "x2_xy_y2", "x2_xy_y2_x", "x3_xy",
    "x3_xy2_y",
)  # fmt: skip


class ModularArithmetic(Section):
    """Learn the table of a binary operation modulo a prime p ([P22] A.1.1).

    Attributes:
        p: The modulus, a prime.
        operation: ``add sub mul div``, ``div_odd_sub`` (x/y if y is odd, else x - y), and the
            polynomials x^2+y^2, x^2+xy+y^2, x^2+xy+y^2+x, x^3+xy, x^3+xy^2+y.
        data_seed: Seeds the split apart from the init; null: the trial's seed.
    """

    defaults: ClassVar[Mapping[str, Scalar]] = {
        "model.name": "mlp", "optimizer.name": "adamw", "dtype": "float32",
        "selection.fraction": 0.6,
    }  # fmt: skip

    name: Literal["modular_arithmetic"] = "modular_arithmetic"
    p: Annotated[int, Field(ge=3, le=997)] = 23
    operation: Literal[OPERATIONS] = "add"  # type: ignore[valid-type]
    data_seed: Annotated[Annotated[int, Field(ge=0, lt=2**32)] | None, DRAWN] = None


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


class MLP(Section):
    """Two embeddings multiplied elementwise, `depth` hidden ReLU layers, logits.

    Attributes:
        embedding: How the two operands' embeddings are combined.
        d: Width of the embeddings.
        width: Width of the hidden layers.
        depth: Number of hidden layers.
        init_scale: Multiplies the default init of every weight.
    """

    fits: ClassVar[Mapping[str, tuple[str, ...]]] = {"task": MODULAR}

    name: Literal["mlp"] = "mlp"
    embedding: Literal["hadamard"] = "hadamard"
    d: Count = 64
    width: Count = 128
    depth: Annotated[int, Field(ge=1, le=8)] = 1
    init_scale: Annotated[Positive, BATCHED] = 1.0


class NoRegularizer(Section):
    """No penalty."""

    name: Literal["none"] = "none"


class L1(Section):
    """strength * ||a||_1 of the recovered vector; for networks the sum of |w| over all weights."""

    name: Literal["l1"] = "l1"
    strength: Annotated[NonNegative, BATCHED]


class L2Squared(Section):
    """strength / 2 * the sum of w^2 over all weights (factors); its gradient is strength * w."""

    name: Literal["l2_sq"] = "l2_sq"
    strength: Annotated[NonNegative, BATCHED]


class L2Frobenius(Section):
    """strength * the sum over weight tensors of ||W||_F, not squared (papers' code)."""

    name: Literal["l2_fro"] = "l2_fro"
    strength: Annotated[NonNegative, BATCHED]


class Nuclear(Section):
    """strength * the sum over weight matrices of ||W||_*; subgradient: the polar factor."""

    fits: ClassVar[Mapping[str, tuple[str, ...]]] = {"task": MODULAR}

    name: Literal["nuclear"] = "nuclear"
    strength: Annotated[NonNegative, BATCHED]


class Term(BaseModel):
    """One term of a sum of regularizers; absent while its strength is null."""

    model_config = Section.model_config
    strength: Annotated[NonNegative | None, BATCHED] = None


class Terms(BaseModel):
    """The terms a sum can have."""

    model_config = Section.model_config
    l1: Term = Term()
    l2_sq: Term = Term()
    l2_fro: Term = Term()
    nuclear: Term = Term()


class Sum(Section):
    """Several regularizers at once, each with its own strength."""

    name: Literal["sum"] = "sum"
    terms: Terms = Terms()


class Uniform(Section):
    """Measurements are Gaussian; of a table, `fraction` of the pairs is drawn for training."""

    name: Literal["uniform"] = "uniform"
    fraction: Annotated[float, Field(gt=0, lt=1)] | None = None


class Coherent(Section):
    """floor(tau * N) measurements are columns of the sparsity basis ([N25] G.1.2).

    Attributes:
        tau: Share of such rows; 0 is `uniform`.
    """

    fits: ClassVar[Mapping[str, tuple[str, ...]]] = {"task": SPARSE}
    neutral: ClassVar[Mapping[str, Scalar]] = {"selection.tau": 0.0}

    name: Literal["coherent"] = "coherent"
    tau: Annotated[Unit, DRAWN] = 0.0


class Square(Section):
    """The pairs with both operands at most k are held out of training ([G25] Table 1).

    Attributes:
        k: Largest operand of the square, counted from 0.
        fraction: Train share of the whole table, drawn from the rest.
    """

    fits: ClassVar[Mapping[str, tuple[str, ...]]] = {"task": MODULAR}
    neutral: ClassVar[Mapping[str, Scalar]] = {"selection.name": "uniform"}

    name: Literal["square"] = "square"
    k: Annotated[Count, DRAWN]
    fraction: Annotated[float, Field(gt=0, lt=1)] = 0.6


class Strip(Section):
    """The pairs with the first operand at most k are held out of training ([G25] Table 1).

    Attributes:
        k: Largest first operand of the strip, counted from 0.
        fraction: Train share of the whole table, drawn from the rest.
    """

    fits: ClassVar[Mapping[str, tuple[str, ...]]] = {"task": MODULAR}
    neutral: ClassVar[Mapping[str, Scalar]] = {"selection.name": "uniform"}

    name: Literal["strip"] = "strip"
    k: Annotated[Count, DRAWN]
    fraction: Annotated[float, Field(gt=0, lt=1)] = 0.6


class GradientDescent(Section):
    """Full-batch (sub)gradient descent ([N25] Eq. 1)."""

    name: Literal["gd"] = "gd"
    lr: Annotated[Positive, BATCHED] = 0.1


class Ista(Section):
    """Gradient step on the loss, then the proximal step of the penalty ([N25] 1.1)."""

    fits: ClassVar[Mapping[str, tuple[str, ...]]] = {"task": SPARSE}

    name: Literal["ista"] = "ista"
    lr: Annotated[Positive, BATCHED] = 0.1


class Projected(Section):
    """Subgradient step on the penalty, then projection onto the data's solutions ([N25] 1.1)."""

    fits: ClassVar[Mapping[str, tuple[str, ...]]] = {"task": SPARSE}

    name: Literal["projected"] = "projected"
    lr: Annotated[Positive, BATCHED] = 0.1


class _Stochastic(Section):
    lr: Annotated[Positive, BATCHED] = 1e-2
    weight_decay: Annotated[NonNegative, BATCHED] = 0.0
    batch: Count | None = None


class Sgd(_Stochastic):
    """Stochastic gradient descent; `batch` null takes the full batch.

    Its weight decay is coupled, as in torch.optim: the penalty `l2_sq` by another name.
    """

    name: Literal["sgd"] = "sgd"


class Adam(_Stochastic):
    """Adam; penalties and weight decay are coupled, they enter through the gradient."""

    name: Literal["adam"] = "adam"
    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = (
        0.9, 0.98,
    )  # fmt: skip


class AdamW(Adam):
    """Adam with decoupled weight decay: w <- w - lr * weight_decay * w at every step."""

    name: Literal["adamw"] = "adamw"  # type: ignore[assignment]


def share(fraction: float, whole: int) -> int:
    """Return floor(fraction * whole); 0.29 of 100 is 29, although its float product is below."""
    return math.floor(fraction * whole + 1e-9)


def table_size(operation: str, p: int) -> int:
    """Return the pairs that `operation` is defined on: division leaves out b = 0."""
    return p * (p - 1) if operation == "div" else p * p


def _prime(p: int) -> bool:
    return p > 1 and all(p % q for q in range(2, int(p**0.5) + 1))


def _splits(p: int, operation: str, fraction: float | None) -> bool:
    size = table_size(operation, p)
    return fraction is not None and 0 < share(fraction, size) < size


def _leaves_enough(p: int, operation: str, selection: str, k: int, fraction: float) -> bool:
    columns = table_size(operation, p) // p
    missing = p - columns  # division has no b = 0, in the square neither
    last = min(k, p - 1)
    held = (last + 1) * (columns if selection == "strip" else last + 1 - missing)
    return share(fraction, p * columns) <= p * columns - held


def _linear_solver(optimizer: str, depth: int, sign_free: bool) -> bool:
    return optimizer not in ("ista", "projected") or (depth == 1 and not sign_free)


class GrokkingConfig(Config):
    """The config of one trial of `trainables.grokking`."""

    parts: ClassVar[Mapping[str, Mapping[str, type[Section]]]] = {
        "task": {"sparse_recovery": SparseRecovery, "modular_arithmetic": ModularArithmetic},
        "model": {"product": Product, "mlp": MLP},
        "regularizer": {
            "none": NoRegularizer, "l1": L1, "l2_sq": L2Squared, "l2_fro": L2Frobenius,
            "nuclear": Nuclear, "sum": Sum,
        },
        "selection": {"uniform": Uniform, "coherent": Coherent, "square": Square, "strip": Strip},
        "optimizer": {
            "gd": GradientDescent, "ista": Ista, "projected": Projected, "sgd": Sgd, "adam": Adam,
            "adamw": AdamW,
        },
    }  # fmt: skip
    names: ClassVar[Mapping[str, str]] = {"regularizer": "none", "selection": "uniform"}
    criteria: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "sparse_recovery": {"metric": "error", "train": 1e-3, "test": 1e-3},
        "modular_arithmetic": {"metric": "acc", "train": 0.99, "test": 0.99},
    }
    constraints: ClassVar[tuple[Constraint, ...]] = (
        Constraint(("task.n", "task.s"), lambda n, s: s <= n,
                   "a vector has at most n nonzeros. Lower task.s or raise task.n."),
        Constraint(("task.p",), _prime, "p must be a prime, e.g. 23, 59, 97 or 113."),
        Constraint(("task.name", "selection.name", "selection.fraction"),
                   lambda task, name, f: task not in SPARSE or name != "uniform" or f is None,
                   "fraction applies to tasks with a table. Remove it, or sweep task.N."),
        Constraint(("task.p", "task.operation", "selection.fraction"), _splits,
                   "that leaves no pair to train on, or none to test on. "
                   "Choose selection.fraction between 0 and 1, e.g. 0.6."),
        Constraint(("task.p", "task.operation", "selection.name", "selection.k",
                    "selection.fraction"), _leaves_enough,
                   "the fraction counts pairs of the whole table, and the hold-out leaves fewer. "
                   "Lower selection.fraction or selection.k."),
        Constraint(("task.name", "regularizer.terms.nuclear.strength"),
                   lambda task, strength: task not in SPARSE or strength is None,
                   "a vector has no nuclear norm. Remove this term."),
        Constraint(tuple(f"regularizer.terms.{t}.strength" for t in Terms.model_fields),
                   lambda *strengths: any(s is not None for s in strengths),
                   "a sum needs a term. Set one of them, or regularizer.name: none."),
        Constraint(("model.depth", "model.sign_free", "optimizer.name"),
                   lambda depth, free, name: _linear_solver(name, depth, free),
                   "ista and projected need a linear model. "
                   "Set model.depth: 1 and model.sign_free: false, or optimizer.name: gd."),
        Constraint(("optimizer.name", "regularizer.name"),
                   lambda solver, penalty: not (
                       solver in ("ista", "projected") and penalty not in ("none", "l1", "l2_sq")),
                   "ista and projected are written for the penalties none, l1 and l2_sq. "
                   "Choose one of them, or optimizer.name: gd."),
        Constraint(("task.name", "optimizer.batch"),
                   lambda task, batch: task not in SPARSE or batch is None,
                   "sparse recovery is trained on all measurements. Remove optimizer.batch."),
    )  # fmt: skip

    task: SparseRecovery | ModularArithmetic = Field(discriminator="name")
    model: Product | MLP = Field(discriminator="name")
    regularizer: NoRegularizer | L1 | L2Squared | L2Frobenius | Nuclear | Sum = Field(
        discriminator="name"
    )
    selection: Uniform | Coherent | Square | Strip = Field(discriminator="name")
    optimizer: GradientDescent | Ista | Projected | Sgd | Adam | AdamW = Field(discriminator="name")
    dtype: Literal["float32", "float64"] = "float64"

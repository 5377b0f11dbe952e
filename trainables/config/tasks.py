"""The tasks: the functions to learn, and the data to learn them from.

References:
    [N25] Notsawo et al., Grokking Beyond the Euclidean Norm, 2025. arXiv 2506.05718
    [B25] Boursier et al., 2025. arXiv 2505.20172
    [L23] Liu, Michaud, Tegmark, Omnigrok, 2023. arXiv 2210.01117
    [P22] Power et al., Grokking, 2022. arXiv 2201.02177
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from sweeper.config.fields import DRAWN, Scalar, Section
from sweeper.trainables.config.fields import Count, Positive, Seed, by_name
from sweeper.trainables.config.images import Digits, Mnist
from sweeper.trainables.config.molecules import Qm9
from sweeper.trainables.config.texts import Imdb
from sweeper.trainables.config.toy import ToyAddition


class SparseRecovery(Section):
    """Recover an s-sparse vector a* from N linear measurements y = X a* + noise ([N25] 1.4).

    Attributes:
        n: Length of a*, at least 1.
        s: Number of nonzeros of a*, at random places; at most n.
        N: Number of measurements, at least 1.
        signal: Distribution of the nonzeros, of variance 1/n: `gaussian`, N(0, 1/n); `rademacher`,
            +-1/sqrt(n).
        group_size: Number of neighbours in a group; nonzeros fill whole groups, at random among
            the n / group_size ones. It divides n and s; 1: single places.
        design: Distribution of the measurements, of variance 1/N: `gaussian`; or `fourier`, the
            values at random points of a trigonometric series with coefficients a* ([B25] Fig. 4).
        snr: Signal-to-noise ratio of the measurements, a ratio of powers above 0; null: no noise.
        data_seed: Seed of the data, apart from the initial weights, from 0 to 2^32 - 1; null: the
            trial's seed.
        rng: Random number generator: `torch`; or `numpy_legacy`, which draws in the order of the
            published code of [N25] and reproduces its instances.
    """

    defaults: ClassVar[Mapping[str, Scalar]] = {
        "model.name": "product",
        "optimizer.name": "gd",
        "dtype": "float64",
    }

    name: Literal["sparse_recovery"] = "sparse_recovery"
    n: Count = 100
    s: Annotated[Count, DRAWN] = 5
    N: Count = 30
    signal: Annotated[Literal["gaussian", "rademacher"], DRAWN] = "gaussian"
    group_size: Annotated[Count, DRAWN] = 1
    design: Annotated[Literal["gaussian", "fourier"], DRAWN] = "gaussian"
    snr: Annotated[Positive | None, DRAWN] = None
    data_seed: Annotated[Seed | None, DRAWN] = None
    rng: Literal["torch", "numpy_legacy"] = "torch"


OPERATIONS = (
    "add",
    "sub",
    "mul",
    "div",
    "div_odd_sub",
    "x2_y2",
    "x2_xy_y2",
    "x2_xy_y2_x",
    "x3_xy",
    "x3_xy2_y",
)


class ModularArithmetic(Section):
    """Learn the table of a binary operation modulo a prime p ([P22] A.1.1).

    Attributes:
        p: The modulus, a prime from 3 to 997.
        operation: The binary operation: ``add sub mul div``, ``div_odd_sub`` (x/y if y is odd,
            else x - y), and the polynomials x^2+y^2, x^2+xy+y^2, x^2+xy+y^2+x, x^3+xy, x^3+xy^2+y.
        data_seed: Seed of the split, apart from the initial weights, from 0 to 2^32 - 1; null: the
            trial's seed.
    """

    defaults: ClassVar[Mapping[str, Scalar]] = {
        "model.name": "mlp",
        "optimizer.name": "adamw",
        "dtype": "float32",
        "selection.fraction": 0.6,
    }

    name: Literal["modular_arithmetic"] = "modular_arithmetic"
    p: Annotated[int, Field(ge=3, le=997)] = 23
    operation: Literal[OPERATIONS] = "add"  # type: ignore[valid-type]
    data_seed: Annotated[Seed | None, DRAWN] = None


PRODUCTS = ("xy", "xyx_inv", "xyx")


class SymmetricGroup(Section):
    """Learn the table of a product of two permutations ([P22] A.1.1, there of degree 5).

    Attributes:
        degree: Number of things that are permuted, from 3 to 5. The degree! permutations are
            numbered in lexicographic order.
        operation: `xy`, `xyx_inv` or `xyx`: x * y, x * y * x^-1 or x * y * x, where
            (x * y)(i) = x(y(i)).
        data_seed: Seed of the split, apart from the initial weights, from 0 to 2^32 - 1; null: the
            trial's seed.
    """

    defaults: ClassVar[Mapping[str, Scalar]] = ModularArithmetic.defaults

    name: Literal["symmetric_group"] = "symmetric_group"
    degree: Annotated[int, Field(ge=3, le=5)] = 5
    operation: Literal[PRODUCTS] = "xy"  # type: ignore[valid-type]
    data_seed: Annotated[Seed | None, DRAWN] = None


class MatrixCompletion(Section):
    """Recover an n1 x n2 matrix A* of low rank from N of its entries ([N25] 1.4).

    A* = U V^T with Gaussian U and V, rescaled to ||A*||_F = sqrt(n1 n2).

    Attributes:
        n1: Number of rows of A*.
        n2: Number of columns of A*.
        rank: Rank of A*, at most min(n1, n2).
        N: Number of measured entries, at most n1 * n2.
        data_seed: Seed of the data, apart from the initial weights, from 0 to 2^32 - 1; null: the
            trial's seed.
    """

    defaults: ClassVar[Mapping[str, Scalar]] = {
        "model.name": "matrix",
        "optimizer.name": "gd",
        "dtype": "float64",
    }

    name: Literal["matrix_completion"] = "matrix_completion"
    n1: Count = 10
    n2: Count = 10
    rank: Annotated[Count, DRAWN] = 2
    N: Count = 70
    data_seed: Annotated[Seed | None, DRAWN] = None


class MatrixSensing(Section):
    """Recover an n1 x n2 matrix A* of low rank from N values x^T A* z ([N25] 1.2).

    A* is that of `matrix_completion`; x ~ N(0, I / n1) and z ~ N(0, I / n2).

    Attributes:
        n1: Number of rows of A*.
        n2: Number of columns of A*.
        rank: Rank of A*, at most min(n1, n2).
        N: Number of measurements, at least 1.
        data_seed: Seed of the data, apart from the initial weights, from 0 to 2^32 - 1; null: the
            trial's seed.
    """

    defaults: ClassVar[Mapping[str, Scalar]] = MatrixCompletion.defaults

    name: Literal["matrix_sensing"] = "matrix_sensing"
    n1: Count = 10
    n2: Count = 10
    rank: Annotated[Count, DRAWN] = 2
    N: Count = 70
    data_seed: Annotated[Seed | None, DRAWN] = None


class TeacherStudent(Section):
    """Learn a random network of the student's kind from N of its values ([L23] 2).

    x ~ N(0, I), y = teacher(x).

    Attributes:
        teacher: Distribution of the teacher's weights: `default`, the default initial weights of a
            `dense` network; `gaussian`, no biases, N(0, 1) in the first layer and N(0, 1) / fan_in
            in the others ([N25] Fig. 10).
        inputs: Length of x.
        outputs: Length of y.
        hidden: Width of the teacher's hidden layers.
        depth: Number of the teacher's hidden layers, from 0 to 8.
        activation: Activation of the teacher's hidden layers.
        N: Number of train examples.
        N_test: Number of test examples.
        tolerance: Bound on the mean over the outputs of the squared error, above 0; an example
            below it counts as right for the accuracy.
        loss: Loss of one example: `mse`, the mean over its outputs of the squared error, as
            torch's; `half_square`, half the sum.
        data_seed: Seed of the data, apart from the initial weights, from 0 to 2^32 - 1; null: the
            trial's seed.
    """

    defaults: ClassVar[Mapping[str, Scalar]] = {
        "model.name": "dense",
        "model.activation": "tanh",
        "optimizer.name": "adamw",
        "dtype": "float32",
    }

    name: Literal["teacher_student"] = "teacher_student"
    inputs: Count = 5
    outputs: Count = 5
    hidden: Count = 100
    depth: Annotated[int, Field(ge=0, le=8)] = 2
    activation: Literal["relu", "tanh"] = "tanh"
    N: Count = 100
    N_test: Count = 100
    tolerance: Positive = 1e-3
    teacher: Annotated[Literal["default", "gaussian"], DRAWN] = "default"
    loss: Literal["mse", "half_square"] = "mse"
    data_seed: Annotated[Seed | None, DRAWN] = None


class ReluRegression(Section):
    """Learn a function of one variable, a sum of few ReLUs, from N of its values ([B25] Fig. 3).

    x ~ U[-2, 2] and y = sum_j u_j ReLU(v_j (x - c_j)) with u_j ~ N(0, 1), v_j = +-1 and kinks
    c_j ~ U[-2, 2]. Tested on equally spaced points of [-2, 2], both ends included. The loss is half
    the mean of the squared errors.

    Attributes:
        N: Number of train examples.
        N_test: Number of test points, at least 2.
        hidden: Number of ReLUs of the function.
        data_seed: Seed of the data, apart from the initial weights, from 0 to 2^32 - 1; null: the
            trial's seed.
    """

    defaults: ClassVar[Mapping[str, Scalar]] = {
        "model.name": "dense",
        "model.depth": 1,
        "model.last_bias": False,
        "model.init": "normal",
        "model.init_scale": 2.0,
        "optimizer.name": "gd",
        "optimizer.lr": 1e-3,
        "dtype": "float64",
    }

    name: Literal["relu_regression"] = "relu_regression"
    N: Count = 10
    N_test: Annotated[int, Field(ge=2)] = 401
    hidden: Annotated[Count, DRAWN] = 3
    data_seed: Annotated[Seed | None, DRAWN] = None


Task = (
    SparseRecovery
    | ModularArithmetic
    | SymmetricGroup
    | MatrixCompletion
    | MatrixSensing
    | TeacherStudent
    | ReluRegression
    | Digits
    | Mnist
    | ToyAddition
    | Imdb
    | Qm9
)

TASKS = by_name(Task)

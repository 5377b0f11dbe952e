"""Matrix completion and sensing: steps beside numpy's, selections, metrics, refusals."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from sweeper.config.fields import Values
from sweeper.config.resolve import broken, resolve
from sweeper.trainables.config import GrokkingConfig
from sweeper.trainables.config.optimizers import OPTIMIZERS
from sweeper.trainables.data.matrix_data import MatrixInstance, leverage, matrix
from sweeper.trainables.families.low_rank import LowRankBlock, instance_of
from tests.packs import MATRIX, pack, run, trial

SENSING = MATRIX | {"task.name": "matrix_sensing", "task.N": 18}
Array = NDArray[np.float64]


def block_of(given: dict[str, Any], seed: int = 0, **more: Any) -> LowRankBlock:
    return LowRankBlock(pack([trial(given, seed, **more)]), [0])


def measurements(one: MatrixInstance) -> Array:
    """Return the measurements as rows that see a matrix row by row."""
    if one.X is not None:
        return one.X.numpy()
    assert one.measured is not None
    return np.eye(one.signal.numel())[one.measured.numpy().ravel() > 0]


def factors_of(block: LowRankBlock) -> list[Array]:
    return [w.real(w.value)[0].numpy().copy() for w in block.weights.each]


def product(factors: list[Array]) -> Array:
    A = factors[0]
    for factor in factors[1:]:
        A = A @ factor
    return A


def strength(values: Values, penalty: str) -> float:
    """Return the strength of a penalty, alone or in a sum."""
    if values["regularizer.name"] == penalty:
        found: Any = values["regularizer.strength"]
    else:
        found = values.get(f"regularizer.terms.{penalty}.strength") or 0.0
    return float(found)


def reference_step(factors: list[Array], X: Array, y: Array, values: Values) -> list[Array]:
    """Take one step as the papers write it, by numpy's singular value decomposition."""
    A, lr = product(factors), float(values["optimizer.lr"])  # type: ignore[arg-type]
    l1, l2, fro, nuclear = (strength(values, p) for p in ("l1", "l2_sq", "l2_fro", "nuclear"))
    U, s, Vh = np.linalg.svd(A, full_matrices=False)
    G = (X.T @ (X @ A.ravel() - y)).reshape(A.shape)
    H = l1 * np.sign(A) + nuclear * (U * (s > 1e-6 * s[0])) @ Vh
    if values["optimizer.name"] == "svt":
        U, s, Vh = np.linalg.svd(A - lr * G, full_matrices=False)
        return [U @ np.diag(np.maximum(s - lr * nuclear, 0)) @ Vh / (1 + lr * l2)]
    if values["optimizer.name"] == "projected":
        A = A - lr * (H + l2 * A)
        return [A - (X.T @ np.linalg.solve(X @ X.T, X @ A.ravel() - y)).reshape(A.shape)]
    moved = []
    for i, W in enumerate(factors):
        left = product([np.eye(len(A)), *factors[:i]])
        right = product([*factors[i + 1 :], np.eye(A.shape[1])])
        g = left.T @ (G + H) @ right.T + l2 * W + fro * W / np.linalg.norm(W)
        moved.append(W - lr * g)
    return moved


def penalty(name: str) -> dict[str, Any]:
    if name == "none":
        return {}
    if name == "sum":
        terms = {"l1": 0.02, "l2_sq": 0.3, "l2_fro": 0.1, "nuclear": 0.05}
        return {"regularizer.name": "sum"} | {
            f"regularizer.terms.{term}.strength": s for term, s in terms.items()
        }
    return {"regularizer.name": name, "regularizer.strength": 0.2}


GD = ["none", "l1", "l2_sq", "l2_fro", "nuclear", "sum"]
SOLVED = [
    *(("gd", depth, name) for depth in (1, 2, 3, 4) for name in GD),
    *(("svt", 1, name) for name in ("none", "nuclear", "l2_sq")),
    *(("projected", 1, name) for name in ("none", "l1", "nuclear", "l2_sq")),
]


@pytest.mark.parametrize(("solver", "depth", "name"), SOLVED)
@pytest.mark.parametrize("task", [MATRIX, MATRIX | {"task.n2": 9, "task.N": 30}, SENSING])
def test_steps_are_those_of_numpy(task: dict[str, Any], solver: str, depth: int, name: str) -> None:
    given = task | penalty(name) | {"optimizer.name": solver, "optimizer.lr": 0.03}
    if depth > 1:
        given |= {"model.depth": depth, "model.width": 4, "model.init_scale": 0.5}
    else:
        given["model.init_scale"] = 0.4
    t = trial(given)
    block, one = block_of(given), instance_of(t)
    X = measurements(one)
    y, factors = X @ one.signal.numpy().ravel(), factors_of(block)
    for taken in range(15):
        block.step(taken)
        factors = reference_step(factors, X, y, t.values)
    for found, expected in zip(factors_of(block), factors, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-8, atol=1e-10)
    for weight in block.weights.each:
        padding = weight.value.clone()
        weight.real(padding).zero_()
        assert not padding.any()


@pytest.mark.parametrize("task", [MATRIX, SENSING])
def test_svt_ends_where_the_nuclear_norm_balances_the_residual(task: dict[str, Any]) -> None:
    weight = 0.3
    given = (
        task
        | penalty("nuclear")
        | {"optimizer.name": "svt", "optimizer.lr": 0.3, "regularizer.strength": weight}
    )
    block, one = block_of(given), instance_of(trial(given))
    for taken in range(3000):
        block.step(taken)
    X, A = measurements(one), factors_of(block)[0]
    G = (X.T @ (X @ (A - one.signal.numpy()).ravel())).reshape(A.shape)
    U, s, Vh = np.linalg.svd(A)
    r = int((s > 1e-6).sum())
    assert 0 < r < 5
    inside = U.T @ -G @ Vh.T
    np.testing.assert_allclose(inside[:r, :r], weight * np.eye(r), atol=1e-7)
    np.testing.assert_allclose(inside[r:, :r], 0, atol=1e-7)
    np.testing.assert_allclose(inside[:r, r:], 0, atol=1e-7)
    assert np.linalg.norm(inside[r:, r:], 2) <= weight


@pytest.mark.parametrize("task", [MATRIX, SENSING])
def test_projected_steps_stay_on_the_solutions_and_lower_the_norm(task: dict[str, Any]) -> None:
    given = task | penalty("nuclear") | {"optimizer.name": "projected", "model.init_scale": 1.0}
    t = trial(given)
    memory = run(pack([t], 300))
    errors, norms = memory.column(t.id, "train_error"), memory.column(t.id, "nuclear")
    assert errors[0] > 0.1
    assert errors[1:].max() < 1e-13
    assert norms[-1] < norms[1]


def test_signals_have_their_rank_and_norm() -> None:
    for rank in (1, 2, 5):
        A = matrix(3, 8, 5, rank)
        assert int(torch.linalg.matrix_rank(A)) == rank
        assert float(A.norm()) == pytest.approx(40**0.5)


def direct_leverage(A: Array, rank: int) -> Array:
    """Return the scores by the projections onto the column and row space."""
    mu = len(A) / rank * np.diag(A @ np.linalg.pinv(A, rcond=1e-10))
    nu = A.shape[1] / rank * np.diag(np.linalg.pinv(A, rcond=1e-10) @ A)
    return np.asarray(mu[:, None] + nu[None, :])


def test_leverage_measures_the_entries_of_largest_score_and_draws_the_others_in_one_order() -> None:
    given = {"task.name": "matrix_completion", "task.n2": 8, "task.N": 50}
    for seed in range(5):
        uniform = instance_of(trial(given, seed)).measured
        assert uniform is not None
        scores = direct_leverage(matrix(seed, 10, 8, 2).numpy(), 2)
        np.testing.assert_allclose(leverage(matrix(seed, 10, 8, 2), 2), scores, rtol=1e-9)
        ranked = np.argsort(-scores.ravel())
        for tau, top in ((0.0, 0), (0.29, 14), (0.5, 25), (0.58, 29), (1.0, 50)):
            found = instance_of(trial(given, seed, selection__tau=tau)).measured
            assert found is not None
            chosen = found.numpy().ravel() > 0
            assert chosen.sum() == 50
            assert chosen[ranked[:top]].all()
            if not top:
                assert torch.equal(found, uniform)
            elif top == 50:
                assert set(ranked[:50]) == set(np.flatnonzero(chosen))
            # who of the rest is drawn was drawn without leverage too
            others = set(np.flatnonzero(chosen)) - set(ranked[:top])
            assert others <= set(np.flatnonzero(uniform.numpy().ravel()))


def test_entries_are_drawn_without_a_preference() -> None:
    counts = np.zeros((6, 5))
    for seed in range(600):
        measured = instance_of(trial(MATRIX, seed)).measured
        assert measured is not None
        counts += measured.numpy()
    assert counts / 600 == pytest.approx(np.full((6, 5), 20 / 30), abs=0.08)


def test_sensing_measures_as_its_docstring_says() -> None:
    given = {"task.name": "matrix_sensing", "task.n1": 12, "task.n2": 9, "task.N": 400}
    one = instance_of(trial(given))
    assert one.X is not None
    assert float(one.X.square().mean()) == pytest.approx(1 / (12 * 9), rel=0.05)
    assert int(torch.linalg.matrix_rank(one.X[0].view(12, 9))) == 1
    for tau, left, right in ((0.0, 0, 0), (0.02, 8, 8), (0.025, 10, 9), (0.5, 12, 9)):
        X = instance_of(trial(given, selection__tau=tau)).X
        assert X is not None
        values = X @ one.signal.flatten()
        s = torch.linalg.svdvals(one.signal)
        assert values[: min(2, right)].abs().tolist() == pytest.approx(s[: min(2, right)].tolist())
        assert values[2:right].abs().tolist() == pytest.approx([0.0] * len(values[2:right]))
        norms = torch.linalg.vector_norm(X, dim=1)
        assert norms[:right].tolist() == pytest.approx([1.0] * right)
        assert torch.equal(X[max(left, 1) :], one.X[max(left, 1) :])


@pytest.mark.parametrize("task", [MATRIX, SENSING])
@pytest.mark.parametrize(
    "more",
    [
        {"optimizer.lr": 0.3},
        {"dtype": "float32"},
        {"model.depth": 3},
        {"model.init_scale": 0.5},
        {"regularizer.name": "nuclear", "regularizer.strength": 0.1},
        {"optimizer.name": "svt"},
        {"selection.tau": 0.0},
    ],
)
def test_trials_of_a_seed_share_their_data(task: dict[str, Any], more: dict[str, Any]) -> None:
    a, b = instance_of(trial(task, 4)), instance_of(trial(task | more, 4))
    assert torch.equal(a.signal, b.signal)
    assert np.array_equal(measurements(a), measurements(b))
    assert instance_of(trial(task, 5, task__data_seed=4)) is a
    assert not torch.equal(instance_of(trial(task, 5)).signal, a.signal)


@pytest.mark.parametrize("task", [MATRIX, SENSING])
def test_metrics_are_those_of_the_docstring(task: dict[str, Any]) -> None:
    given = task | {"model.depth": 2, "task.rank": 2}
    block, one = block_of(given), instance_of(trial(given))
    start = sum((W**2).sum() for W in factors_of(block)) ** 0.5
    block.weights.each[0].value[:, 1] = 0.0
    factors, signal = factors_of(block), one.signal.numpy()
    A, X = product(factors), measurements(one)
    y = X @ signal.ravel()
    found = {name: float(column[0]) for name, column in block.metrics().items()}
    r, e = np.linalg.norm(X @ A.ravel() - y), np.linalg.norm(A - signal)
    s = np.linalg.svd(A, compute_uv=False)
    ls = (np.linalg.pinv(X) @ y).reshape(A.shape) - signal
    expected = {
        "train_loss": r**2 / 2,
        "test_loss": e**2 / 2,
        "train_error": r / np.linalg.norm(y),
        "test_error": e / np.linalg.norm(signal),
        "l1": abs(A).sum(),
        "l2": np.linalg.norm(A),
        "nuclear": s.sum(),
        "distance": e,
        "sigma_max": s[0],
        "sigma_rank": s[1],
        "sigma_next": s[2],
        "effective_rank": (s > s[0] / 100).sum(),
        "weights_l2": sum((W**2).sum() for W in factors) ** 0.5,
        "ls_spectral": np.linalg.norm(ls, 2),
        "null_floor": np.linalg.norm(ls) / np.linalg.norm(signal),
        "sparsity": 1 / A.shape[0],
        "norm_ratio": sum((W**2).sum() for W in factors) ** 0.5 / start,
    }
    assert found == pytest.approx({k: float(v) for k, v in expected.items()}, rel=1e-9)


def test_a_matrix_of_full_rank_has_no_next_singular_value() -> None:
    found = block_of(MATRIX | {"task.rank": 5}).metrics()
    assert found["sigma_next"].tolist() == [0.0]


def test_the_factors_start_independent_of_each_other_and_of_the_scale() -> None:
    given = {"task.name": "matrix_completion", "model.name": "factorised", "model.width": 40}
    one, two = factors_of(block_of(given)), factors_of(block_of(given, model__init_scale=0.5))
    for a, b in zip(one, two, strict=True):
        np.testing.assert_array_equal(b, a / 2)
        assert a.std() == pytest.approx(1, abs=0.1)
    assert abs(np.corrcoef(one[0].ravel(), one[1].T.ravel())[0, 1]) < 0.15
    (start,) = factors_of(block_of(MATRIX))
    np.testing.assert_array_equal(start, 1e-6 * np.eye(6, 5))


REFUSED: list[tuple[dict[str, Any], str]] = [
    (
        {"task.rank": 6},
        "task.n1 = 6, task.n2 = 5, task.rank = 6: a matrix has at most rank "
        "min(n1, n2). Lower task.rank.",
    ),
    (
        {"task.N": 31},
        "task.name = 'matrix_completion', task.n1 = 6, task.n2 = 5, task.N = 31: a "
        "matrix has n1 * n2 entries. Lower task.N.",
    ),
    (
        {"selection.fraction": 0.5},
        "task.name = 'matrix_completion', selection.name = 'uniform', "
        "selection.fraction = 0.5: fraction applies to tasks with a table. Remove it, or sweep "
        "task.N.",
    ),
    (
        {"optimizer.name": "sgd", "optimizer.batch": 8},
        "task.name = 'matrix_completion', "
        "optimizer.batch = 8: this task is trained on all measurements. Remove optimizer.batch.",
    ),
    (
        {"model.depth": 2, "optimizer.name": "svt"},
        "model.name = 'factorised', optimizer.name = "
        "'svt': svt and projected need a linear model. Set model.name: matrix, or optimizer.name: "
        "gd.",
    ),
    (
        {"model.depth": 2, "optimizer.name": "projected"},
        "model.name = 'factorised', "
        "optimizer.name = 'projected': svt and projected need a linear model. Set model.name: "
        "matrix, or optimizer.name: gd.",
    ),
    (
        {"optimizer.name": "svt"} | penalty("l1"),
        "optimizer.name = 'svt', regularizer.name = 'l1': "
        "svt is written for the penalties none, nuclear and l2_sq. Choose one of them, or "
        "optimizer.name: gd.",
    ),
    (
        {"optimizer.name": "projected"} | penalty("l2_fro"),
        "optimizer.name = 'projected', "
        "regularizer.name = 'l2_fro': ista and projected are written for the penalties none, l1, "
        "l2_sq and group, projected for nuclear, basis_pursuit for none. Choose one of them, or "
        "optimizer.name: gd.",
    ),
    (
        {"optimizer.name": "ista"},
        "optimizer.name = 'ista' doesn't go with task.name = "
        "'matrix_completion'. Choose one of: "
        + ", ".join(n for n in OPTIMIZERS if n not in ("ista", "basis_pursuit"))
        + ".",
    ),
    (
        {"selection.name": "coherent"},
        "selection.name = 'coherent' doesn't go with task.name = "
        "'matrix_completion'. Choose one of: uniform, leverage.",
    ),
    (
        {"model.name": "product"},
        "model.name = 'product' doesn't go with task.name = "
        "'matrix_completion'. Choose one of: matrix, factorised.",
    ),
]


@pytest.mark.parametrize(("more", "message"), REFUSED)
def test_what_makes_no_sense_is_refused_with_its_remedy(more: dict[str, Any], message: str) -> None:
    resolved = resolve(GrokkingConfig, MATRIX | more)
    problems = [p.message for p in resolved.problems]
    problems += [m for _, m in broken(GrokkingConfig, resolved.values)]
    assert problems == [message]


def test_names_follow_from_the_fields() -> None:
    def names(more: dict[str, Any], task: dict[str, Any]) -> set[Any]:
        return {v for k, v in trial(task | more).values.items() if k.endswith(".name")}

    assert names({}, MATRIX) >= {"matrix", "gd", "uniform", "none"}
    assert names({"model.depth": 3}, MATRIX) >= {"factorised"}
    assert names({"selection.tau": 0.5}, MATRIX) >= {"leverage"}
    assert names({"selection.tau": 0.5}, SENSING) >= {"coherent"}

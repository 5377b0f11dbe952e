"""Sparse regression with a two-layer diagonal linear network, w = u * u - v * v, in numpy.

After Woodworth et al. (2020), "Kernel and rich regimes in overparametrized models": gradient
descent from a small initialization finds the sparse solution, from a large one it doesn't.
"""

import numpy as np
import sweeper

config = {
    "n_features": 1000,
    "n_nonzero": 5,
    "n_train": 100,
    "init_scale": 1e-3,
    "lr": 0.01,
    "n_steps": 200_000,
    "print_every": 10_000,
    "seed": 0,
}


def make_problem(cfg, rng):
    w_true = np.zeros(cfg["n_features"])
    support = rng.choice(cfg["n_features"], cfg["n_nonzero"], replace=False)
    w_true[support] = rng.choice([-1.0, 1.0], cfg["n_nonzero"])
    X = rng.standard_normal((cfg["n_train"], cfg["n_features"]))
    return X, X @ w_true, w_true


def main(cfg):
    rng = np.random.default_rng(cfg["seed"])
    X, y, w_true = make_problem(cfg, rng)
    u = np.full(cfg["n_features"], cfg["init_scale"])
    v = u.copy()
    for step in range(cfg["n_steps"] + 1):
        w = u * u - v * v
        residual = X @ w - y
        if step % cfg["print_every"] == 0:
            train_loss = np.mean(residual**2)
            test_loss = np.sum((w - w_true) ** 2)  # the population risk: X is white
            l1 = np.abs(w).sum()
            print(f"{step:7d}  train {train_loss:.3e}  test {test_loss:.3e}  l1 norm {l1:.3f}")
            run.log(step, train_loss=train_loss, test_loss=test_loss, l1=l1)
        gradient = X.T @ residual / cfg["n_train"]
        u -= cfg["lr"] * 2 * gradient * u
        v += cfg["lr"] * 2 * gradient * v
    return w


if __name__ == "__main__":
    run = sweeper.init(config)
    w = main(run.config)
    print("largest coefficients:", np.sort(np.abs(w))[::-1][: config["n_nonzero"] + 2].round(3))

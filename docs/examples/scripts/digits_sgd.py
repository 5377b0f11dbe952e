#!/usr/bin/env python
"""Handwritten digits with a linear classifier that learns online, minibatch by minibatch."""

import argparse

import numpy as np
import sweeper
from sklearn.datasets import load_digits
from sklearn.linear_model import SGDClassifier
from sklearn.metrics import log_loss
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--alpha", type=float, default=1e-4, help="strength of the penalty")
    parser.add_argument("--penalty", choices=["l2", "l1", "elasticnet"], default="l2")
    parser.add_argument("--eta0", type=float, default=1e-3, help="learning rate")
    parser.add_argument("--train-size", type=int, default=1200)
    parser.add_argument("--batch-size", type=int, default=100)
    parser.add_argument("--epochs", type=int, default=400)
    parser.add_argument("--random-state", type=int, default=0)
    parser.add_argument("-v", "--verbose", action="store_true", help="print every epoch")
    return sweeper.init(parser)


def evaluate(clf, X, y):
    return log_loss(y, clf.predict_proba(X), labels=clf.classes_), clf.score(X, y)


def main():
    run = parse_args()
    args = run.config
    X, y = load_digits(return_X_y=True)
    X_train, X_test, y_train, y_test = train_test_split(
        X, y, train_size=args.train_size, stratify=y, random_state=args.random_state
    )
    scaler = StandardScaler().fit(X_train)
    X_train, X_test = scaler.transform(X_train), scaler.transform(X_test)

    clf = SGDClassifier(
        loss="log_loss",
        penalty=args.penalty,
        alpha=args.alpha,
        learning_rate="constant",
        eta0=args.eta0,
        random_state=args.random_state,
    )
    rng = np.random.default_rng(args.random_state)
    for epoch in range(1, args.epochs + 1):
        order = rng.permutation(len(X_train))
        for start in range(0, len(order), args.batch_size):
            batch = order[start : start + args.batch_size]
            clf.partial_fit(X_train[batch], y_train[batch], classes=np.unique(y))
        if args.verbose or epoch % 20 == 0:
            train_loss, train_acc = evaluate(clf, X_train, y_train)
            test_loss, test_acc = evaluate(clf, X_test, y_test)
            print(
                f"epoch {epoch:3d}: train loss {train_loss:.3f} accuracy {train_acc:.3f}, "
                f"test loss {test_loss:.3f} accuracy {test_acc:.3f}"
            )
            run.log(epoch, train_acc=train_acc, test_acc=test_acc, test_loss=test_loss)
    print(f"{np.count_nonzero(clf.coef_)} of {clf.coef_.size} weights aren't zero")


if __name__ == "__main__":
    main()

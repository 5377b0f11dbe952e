"""The task of molecules, the network that sees their bonds, and their constraints.

References:
    [G17] Gilmer et al., Neural Message Passing for Quantum Chemistry, 2017. arXiv 1704.01212
    [L23] Liu, Michaud, Tegmark, Omnigrok, 2023. arXiv 2210.01117
    [RD14] Ramakrishnan, Dral, Rupp, von Lilienfeld, 2014. doi 10.1038/sdata.2014.22: QM9
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from sweeper.config.fields import BATCHED, DRAWN, Constraint, Scalar, Section
from sweeper.trainables.config.fields import Count, Positive, Seed, installed

NODE, BOND = 11, 4
"""Numbers that an atom has, and types of bonds."""

FIRST, ALL = 1000, 130_831
"""Molecules that ship with us, and those of the whole QM9 as qm9pack has it."""

ATOMS = ((15, 16), (4000, 24), (ALL, 32))
"""(n, atoms that the largest of the first n molecules of QM9 is padded to)."""


class Qm9(Section):
    """Predict the polarizability of a molecule: QM9 ([RD14], [L23] Fig. 5).

    The target is the isotropic polarizability in bohr^3. Train and test molecules are drawn by
    the seed from the first ones of QM9, which go from methane to larger molecules. The loss is
    the mean squared error.

    An atom is 11 numbers, as in torch-geometric's QM9: whether it is H, C, N, O, F, its atomic
    number, whether it is aromatic, sp, sp2, sp3, and how many hydrogens it is bonded to. Bonds
    are single, double, triple or aromatic. Aromaticity and hybridisation are RDKit's, from the
    SMILES; positions are not used.

    Attributes:
        N: Number of train molecules, at least 2.
        N_test: Number of test molecules.
        first: Number of molecules, from the start of the source, that train and test molecules are
            drawn from; null: N + N_test, as in [L23]'s code.
        source: Where the molecules come from: `first_thousand`, the first 1000 of QM9, which ship
            with sweeper; `qm9pack`, all 130,831, which needs the packages qm9pack and rdkit.
        path: A user's csv file with the columns `smiles` and `polarizability`; it needs rdkit. The
            path is absolute and valid on every worker. It is part of a trial's id, but the
            content of the file is not. null: the molecules of `source`.
        standardized: Whether targets are standardized by the mean and the standard deviation of
            the train molecules; false: they are in bohr^3, as in [L23]'s code.
        data_seed: Seed of the data, apart from the initial weights, from 0 to 2^32 - 1; null: the
            trial's seed.
    """

    defaults: ClassVar[Mapping[str, Scalar]] = {
        "model.name": "message_passing",
        "optimizer.name": "adam",
        "optimizer.lr": 1e-3,
        "optimizer.batch": 32,
        "optimizer.drop_last": False,
        "optimizer.betas": (0.9, 0.999),
        "dtype": "float32",
    }

    name: Literal["qm9"] = "qm9"
    N: Annotated[int, Field(ge=2)] = 100
    N_test: Count = 100
    first: Count | None = None
    source: Literal["first_thousand", "qm9pack"] = "first_thousand"
    path: str | None = None
    standardized: bool = True
    data_seed: Annotated[Seed | None, DRAWN] = None


class MessagePassing(Section):
    """Two rounds of messages along bonds ([G17]), the sum over atoms, two linear layers.

    h_i <- ReLU(W h_i + sum_j h_j Theta(bond ij) + b), where Theta is a network of one hidden
    layer that makes a matrix of the type of a bond. Weights and biases start as U(+-1/
    sqrt(fan_in)), b as 0: NNConv of torch-geometric, in [L23]'s network.

    Attributes:
        first: Width of the atoms after the first round, a multiple of 8, so that a trial's numbers
            do not depend on the other trials of its pack.
        second: Width of the atoms after the second round, a multiple of 8.
        bond: Width of the hidden layer of each Theta, a multiple of 8.
        head: Width of the hidden layer after the sum over atoms, a multiple of 8.
        init_scale: Factor of the initial value of every weight and bias: alpha of [L23].
    """

    fits: ClassVar[Mapping[str, tuple[str, ...]]] = {"task": ("qm9",)}

    name: Literal["message_passing"] = "message_passing"
    first: Annotated[int, Field(ge=8, multiple_of=8)] = 32
    second: Annotated[int, Field(ge=8, multiple_of=8)] = 16
    bond: Annotated[int, Field(ge=8, multiple_of=8)] = 32
    head: Annotated[int, Field(ge=8, multiple_of=8)] = 32
    init_scale: Annotated[Positive, BATCHED] = 1.0


def pool(values: Mapping[str, Any]) -> int:
    """Return how many molecules the examples are drawn from."""
    first = values["task.first"]
    return int(values["task.N"] + values["task.N_test"] if first is None else first)


def atoms(values: Mapping[str, Any]) -> int:
    """Return how many atoms a molecule is padded to; for a user's file the most in QM9."""
    if values["task.path"] is not None:
        return ATOMS[-1][1]
    return next(most for n, most in ATOMS if pool(values) <= n)


def example(values: Mapping[str, Any]) -> int:
    """Return how many numbers a molecule has; a type of bond takes a byte, a quarter of one."""
    A = atoms(values)
    return A * 17 + A * A // 4


def message_passing(values: Mapping[str, Any]) -> list[tuple[int, ...]]:
    """Return the weights of both rounds and of the two linear layers.

    Of a round from width a to c: the layers of Theta, ``bond x 4``, a bias, ``a c x bond``, a bias;
    W, ``c x a``, and b. Then ``head x second``, a bias, ``1 x head``, a bias.
    """
    bond, head = values["model.bond"], values["model.head"]
    widths = (NODE, values["model.first"], values["model.second"])
    shapes: list[tuple[int, ...]] = []
    for a, c in pairwise(widths):
        shapes += [(bond, BOND), (bond,), (a * c, bond), (a * c,), (c, a), (c,)]
    return [*shapes, (head, widths[-1]), (head,), (1, head), (1,)]


def message_passing_activity(values: Mapping[str, Any]) -> int:
    """Return the numbers that the forward pass of one molecule keeps for the backward pass."""
    A, first, second = atoms(values), values["model.first"], values["model.second"]
    return int(BOND * A * A + A * (NODE + 2 * (first + second)))


def _known(source: str, path: str | None, first: int | None, N: int, N_test: int) -> bool:
    most = FIRST if source == "first_thousand" else ALL
    return path is not None or max(first or 0, N + N_test) <= most


CONSTRAINTS = (
    Constraint(
        ("task.source", "task.path"),
        lambda source, path: (
            source != "qm9pack" or path is not None or installed("qm9pack", "rdkit")
        ),
        "all of QM9 comes with qm9pack (104 MB) and is read with rdkit. Install them with "
        "pip install 'sweeper[molecules]', or set task.source: first_thousand.",
    ),
    Constraint(
        ("task.source", "task.path", "task.first", "task.N", "task.N_test"),
        _known,
        f"{FIRST} molecules of QM9 ship with sweeper, {ALL} with qm9pack. Lower task.N, "
        "task.N_test or task.first, or set task.source: qm9pack.",
    ),
    Constraint(
        ("task.first", "task.N", "task.N_test"),
        lambda first, N, N_test: first is None or N + N_test <= first,
        "the examples are drawn from the first ones. Raise task.first.",
    ),
)
"""Constraints of this task; see `sweeper.trainables.config.constraints`."""

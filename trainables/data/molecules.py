"""Molecules as graphs, and their sources.

Features are those of torch-geometric's QM9, perceived by RDKit from the SMILES. What ships with us
was made so once, and is read without RDKit: a table of molecules by their heavy atoms and the
bonds between those, with hydrogens as counts.

References:
    [RD14] Ramakrishnan, Dral, Rupp, von Lilienfeld, 2014. doi 10.1038/sdata.2014.22: QM9
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
from numpy.typing import NDArray

from sweeper.errors import UsageError
from sweeper.trainables.config.molecules import NODE

SHIPPED = Path(__file__).with_name("qm9_first_thousand.csv")
"""The first 1000 molecules of QM9 [RD14]; the text beside it says whence, and the licence."""

PARTS = ("qm9_part1.csv", "qm9_part2.csv", "qm9_part3.csv")
"""Files of qm9pack, in the order of QM9."""

ELEMENTS = {"H": 1, "C": 6, "N": 7, "O": 8, "F": 9}
"""Element to its atomic number."""

BONDS = "-=#:"
"""Single, double, triple and aromatic bonds, as in SMILES; their types are 1 to 4."""


@dataclass(frozen=True, slots=True, eq=False)
class Molecule:
    """A molecule as a graph.

    Attributes:
        atoms: Features of each atom, ``[A, 11]``.
        bonds: Type of the bond between two atoms, 0 for none, ``[A, A]``.
    """

    atoms: NDArray[np.float64]
    bonds: NDArray[np.int8]


@dataclass(frozen=True, slots=True, eq=False)
class Library:
    """The first molecules of a source.

    Attributes:
        described: The `described` text of each, or its SMILES where there is no such text.
        target: Polarizability of each, in bohr^3.
    """

    described: tuple[str | tuple[str, str], ...]
    target: NDArray[np.float64]

    def molecule(self, index: int) -> Molecule:
        """Return one molecule as a graph."""
        text = self.described[index]
        return graph(*(described(text) if isinstance(text, str) else text))


@lru_cache(maxsize=4)
def library(source: str, path: str | None) -> Library:
    """Return the molecules of a source, or of a user's file.

    Raises:
        UsageError: The file or package is missing, or its content has another form.
    """
    if path is not None:
        _rdkit()
        return _smiles([Path(path)], "smiles", "polarizability")
    if source == "qm9pack":
        spec = find_spec("qm9pack")
        if spec is None or not spec.submodule_search_locations:
            raise UsageError(
                "task.source = qm9pack: the package is not installed. Install it with "
                "pip install 'sweeper[molecules]'."
            )
        folder = Path(spec.submodule_search_locations[0]) / "data"
        return _smiles([folder / part for part in PARTS], "SMILES", "Polarizability_bohr3")
    table = _table(SHIPPED, ["atoms", "bonds", "polarizability"])
    texts = zip(table["atoms"].to_pylist(), table["bonds"].to_pylist(), strict=True)
    return Library(tuple(texts), table["polarizability"].to_numpy())


def _smiles(files: list[Path], smiles: str, target: str) -> Library:
    tables = [_table(file, [smiles, target]) for file in files]
    return Library(
        tuple(text for table in tables for text in table[smiles].to_pylist()),
        np.concatenate([table[target].to_numpy() for table in tables]),
    )


def _table(file: Path, columns: list[str]) -> pa.Table:
    """Return some columns of a csv file: numbers of the last one, texts of the others."""
    kinds = dict.fromkeys(columns, pa.string()) | {columns[-1]: pa.float64()}
    convert = pa.csv.ConvertOptions(
        include_columns=columns, column_types=kinds, strings_can_be_null=False
    )
    try:
        table = pa.csv.read_csv(
            file,
            read_options=pa.csv.ReadOptions(),
            parse_options=pa.csv.ParseOptions(),
            convert_options=convert,
        )
    except FileNotFoundError:
        raise UsageError(
            f"task.path = {file}: no such file. Name a csv file with the columns smiles and "
            "polarizability, as the machine sees it that trains."
        ) from None
    except (OSError, pa.ArrowInvalid, KeyError) as error:
        wanted = " and ".join(columns)
        raise UsageError(
            f"{file}: a csv file with the columns {wanted} is wanted: {error}."
        ) from None
    if table[columns[-1]].null_count:
        raise UsageError(f"{file}: a molecule has no {columns[-1]}. Fill it in or leave it out.")
    return table


def graph(atoms: str, bonds: str) -> Molecule:
    """Return the graph of a molecule as `described` writes it, with its hydrogens."""
    heavy = [token.split("/") for token in atoms.split()]
    total = len(heavy) + sum(int(hydrogens) for *_, hydrogens in heavy)
    features = np.zeros((total, NODE))
    types = np.zeros((total, total), dtype=np.int8)
    place = len(heavy)
    for i, (letter, orbitals, hydrogens) in enumerate(heavy):
        features[i, :5] = np.array(list(ELEMENTS)) == letter.upper()
        features[i, 5] = ELEMENTS[letter.upper()]
        features[i, 6] = letter.islower()
        features[i, 7:10] = np.arange(1, 4) == int(orbitals)
        bonded = slice(place, place + int(hydrogens))
        features[bonded, 0] = features[bonded, 5] = 1
        types[i, bonded] = types[bonded, i] = 1
        place = bonded.stop
    for token in bonds.split():
        kind = next(b for b in BONDS if b in token)
        a, b = (int(end) for end in token.split(kind))
        types[a, b] = types[b, a] = 1 + BONDS.index(kind)
    features[:, 10] = ((types > 0) & (features[None, :, 0] == 1)).sum(axis=1)
    return Molecule(features, types)


def _rdkit() -> Any:
    """Return RDKit's Chem.

    Raises:
        UsageError: RDKit is not installed.
    """
    if find_spec("rdkit") is None:
        raise UsageError(
            "molecules are read from their SMILES with rdkit. Install it with "
            "pip install 'sweeper[molecules]'."
        )
    return import_module("rdkit.Chem")


def described(smiles: str) -> tuple[str, str]:
    """Return a molecule as two short texts: its heavy atoms, and the bonds between them.

    An atom is ``element/hybridisation/hydrogens``, of a lower-case element where it is aromatic,
    hybridisation 1, 2, 3 for sp, sp2, sp3 and 0 for others; a bond is ``0=1``, the atoms' places
    around one of `BONDS`. Ethene is ``C/2/2 C/2/2`` and ``0=1``.

    Raises:
        UsageError: RDKit cannot read the SMILES, or it has another element than H, C, N, O, F.
    """
    chem = _rdkit()
    molecule = chem.MolFromSmiles(smiles)
    if molecule is None:
        raise UsageError(f"smiles = {smiles}: RDKit cannot read it. Correct the line or remove it.")
    orbitals = {"SP": 1, "SP2": 2, "SP3": 3}
    kinds = {"SINGLE": "-", "DOUBLE": "=", "TRIPLE": "#", "AROMATIC": ":"}
    atoms = []
    for atom in molecule.GetAtoms():
        symbol = atom.GetSymbol()
        if symbol not in ELEMENTS:
            raise UsageError(f"smiles = {smiles}: {symbol} is none of H, C, N, O, F. Leave it out.")
        letter = symbol.lower() if atom.GetIsAromatic() else symbol
        orbital = orbitals.get(str(atom.GetHybridization()), 0)
        atoms.append(f"{letter}/{orbital}/{atom.GetTotalNumHs()}")
    bonds = [
        f"{b.GetBeginAtomIdx()}{kinds[str(b.GetBondType())]}{b.GetEndAtomIdx()}"
        for b in molecule.GetBonds()
    ]
    return " ".join(atoms), " ".join(bonds)

"""`sweeper doctor --repair` of a real sweep: a damaged record costs some packs, and never a row."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import pyarrow as pa
import pytest

from sweeper.doctor import litter
from sweeper.engine import commands
from sweeper.errors import StoreError
from sweeper.grid.grid import Grid
from sweeper.store import compaction, snapshots
from sweeper.store.ledger import Ledger
from tests.commands import sweeper
from tests.sweeps import assert_whole, ledger, rows, run, statuses, toy_grid

SETTINGS = (
    "stop.after_generalization=false",
    "task.fate=well,raises",
    "task.shift=0",
    "task.rate=0.1,0.5",
    "resources.pack=4",
)
KINDS = [
    "drive",
    "launch",
    "packs",
    "void",
    "drive",
    "launch",
    "packs",
    "compact",
    "drive",
    "launch",
    "packs",
    "drive",
    "launch",
    "packs",
]


class Patient:
    """A sweep with a split, a void pack, a compaction and four launches; and its healthy twin."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store, self.twin = str(folder / "store"), str(folder / "twin")
        short = self.grid("steps=90")
        run(short, self.store)
        assert commands.retry(self.store, "toy") == 4
        run(short, self.store)
        assert compaction.compact(ledger(self.store), min_parts=1)
        run(self.grid("steps=250"), self.store)
        more = self.grid("steps=250", "seeds=3")
        run(more, self.store)
        run(more, self.twin)
        assert rows(self.store).equals(rows(self.twin))

    def grid(self, *overrides: str) -> Grid:
        return toy_grid(self.folder, *SETTINGS, *overrides)

    def copy(self, where: Path) -> Path:
        shutil.copytree(Path(self.store), where)
        return where


@pytest.fixture(scope="module")
def patient(tmp_path_factory: pytest.TempPathFactory) -> Patient:
    return Patient(tmp_path_factory.mktemp("patient"))


def visible(store: str) -> pa.Table:
    """Return the metrics as a user sees them."""
    done = sweeper("sql", "toy", "from metrics order by all", "--format", "csv", "--store", store)
    assert done.returncode == 0, done.stderr
    return done.stdout


def doctor(store: str, *options: str) -> tuple[int, str]:
    done = sweeper("doctor", "toy", "--store", store, *options)
    assert done.stderr == ""
    return done.returncode, done.stdout


def recovers(patient: Patient, store: str) -> None:
    """Assert that a launch brings the twin's rows back, and that the doctor then finds nothing."""
    grid = patient.grid("steps=250", "seeds=3")
    run(grid, store)
    assert rows(store).equals(rows(patient.twin))
    assert visible(store) == visible(patient.twin)
    assert statuses(store) == statuses(patient.twin)
    assert_whole(store, grid)
    code, text = doctor(store)
    assert code == 0, text


def test_a_sweep_that_is_well(patient: Patient) -> None:
    book = ledger(patient.store)
    written = [book.decoded(p, book.files.read(p) or b"")["kind"] for p in book.files.paths("log")]
    assert written == KINDS
    code, text = doctor(patient.store)
    assert (code, [line for line in text.splitlines() if not line.startswith("note")]) == (
        0,
        [text.splitlines()[-1]],
    )
    assert text.splitlines()[-1].startswith("toy: well: ")


@pytest.mark.parametrize("how", ["damaged", pytest.param("missing", marks=pytest.mark.long)])
@pytest.mark.parametrize("number", range(1, len(KINDS) + 1))
def test_a_lost_record_costs_the_packs_that_it_speaks_of(
    patient: Patient, tmp_path: Path, number: int, how: str
) -> None:
    store = str(patient.copy(tmp_path / "store"))
    path = tmp_path / "store" / "toy" / f"log/{number:012d}.json"
    path.write_bytes(b"rotten") if how == "damaged" else path.unlink()
    last = number == len(KINDS)
    if not last:
        with pytest.raises(StoreError, match=f"{path.name}: (damaged|missing)"):
            ledger(store)
    code, text = doctor(store)
    if not (last and how == "missing"):
        assert code == 2
        assert f"error: {path}: {how}" in text
    code, text = doctor(store, "--repair")
    assert code == 0, text
    if not last:
        assert f"toy: log/{path.name} was m" in text
        assert "a record without effect takes its place" in text
    assert doctor(store)[0] == 0
    recovers(patient, store)


@pytest.mark.long
@pytest.mark.parametrize("how", ["damaged", "missing"])
@pytest.mark.parametrize("kind", ["metrics", "ends", "packs", "plans", "checkpoints", "chains"])
def test_a_lost_file_costs_its_pack(patient: Patient, tmp_path: Path, kind: str, how: str) -> None:
    """Of each kind the first file, one in the middle, and the last."""
    files = ledger(patient.store).files.paths(kind)
    for number, name in enumerate(sorted({files[0], files[len(files) // 2], files[-1]})):
        copy = patient.copy(tmp_path / str(number))
        path = copy / "toy" / name
        path.write_bytes(b"rotten") if how == "damaged" else path.unlink()
        counts = named(str(copy), name) if kind != "chains" else True
        _, text = doctor(str(copy))
        if counts and (kind, how) != ("chains", "missing"):
            assert str(path) in text
        doctor(str(copy), "--repair")
        recovers(patient, str(copy))


def named(store: str, name: str) -> bool:
    """Return whether packs that count name the file: not those that are void or compacted."""
    state = ledger(store).state
    alive = [pack for pack in state.packs.values() if not pack.void]
    names = {part.path for pack in alive for _, part in (*pack.parts, *pack.ends)}
    names |= {part.path for part in state.compacted} | {pack.path for pack in alive}
    names |= {pack.checkpoint["path"] for pack in alive if pack.checkpoint}
    last = state.launch
    return name in names or (last is not None and name == last["plan"]["path"])


@pytest.mark.long
@pytest.mark.parametrize("number", [2, 3, 4, 8, 11])
def test_two_lost_records_and_a_snapshot_from_before_them(
    patient: Patient, tmp_path: Path, number: int
) -> None:
    store = str(patient.copy(tmp_path / "store"))
    log = tmp_path / "store" / "toy" / "log"
    for path in sorted(log.iterdir())[1:]:
        path.rename(path.with_suffix(".away"))
    book = ledger(store)
    early = Path(book.files.location(save(book)))
    for path in sorted(log.glob("*.away")):
        path.rename(path.with_suffix(".json"))
    (log / f"{number:012d}.json").write_bytes(b"rotten")
    (log / f"{number + 1:012d}.json").unlink()
    assert doctor(store)[0] == 2
    code, text = doctor(store, "--repair")
    assert code == 0, text
    assert not early.exists()
    recovers(patient, store)


def save(book: Ledger) -> str:
    return snapshots.save(book.files, book.uid, book.state, book.number, book.chains)


def test_a_repair_that_was_killed_is_repeated(patient: Patient, tmp_path: Path) -> None:
    """After the damaged record was moved and before another took its place."""
    store = str(patient.copy(tmp_path / "store"))
    path = tmp_path / "store" / "toy" / "log/000000000003.json"
    path.unlink()
    (path.parent.parent / "damaged").mkdir()
    (path.parent.parent / "damaged" / path.name).write_bytes(b"rotten")
    assert doctor(store, "--repair")[0] == 0
    recovers(patient, store)


def test_a_repair_deletes_no_file_that_counts(patient: Patient, tmp_path: Path) -> None:
    copy = patient.copy(tmp_path / "store")
    ago = time.time() - 2 * litter.OLD_S
    for path in copy.rglob("*"):
        os.utime(path, (ago, ago))
    (copy / "toy" / "metrics" / "d.parquet").write_bytes(b"")
    os.utime(copy / "toy" / "metrics" / "d.parquet", (ago, ago))
    code, text = doctor(str(copy), "--repair")
    assert (code, text.splitlines()[0]) == (
        0,
        "repaired: toy: 1 file that no record needs deleted: 0 bytes",
    )
    assert rows(str(copy)).equals(rows(patient.twin))

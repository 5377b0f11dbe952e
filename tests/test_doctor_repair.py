"""`sweeper doctor --repair` of a real sweep: a damaged record costs some packs, and never a row."""

from __future__ import annotations

import shutil
from pathlib import Path

import pyarrow as pa
import pytest

from sweeper.engine import commands
from sweeper.errors import StoreError
from sweeper.grid.grid import Grid
from sweeper.store import compaction
from tests.commands import sweeper
from tests.sweeps import assert_whole, ledger, rows, run, statuses, toy_grid

SETTINGS = (
    "stop.after_generalization=false",
    "task.fate=well,raises",
    "task.shift=0",
    "task.rate=0.1,0.5",
    "resources.pack=4",
)
KINDS = ["drive", "launch", "packs", "void", "drive", "launch", "packs", "compact", "drive", "launch", "packs", "drive", "launch", "packs"]


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


@pytest.mark.parametrize("how", ["damaged", "missing"])
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

"""Files of data that trials name: a changed content is said, and trains again on request."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from sweeper.engine.data_files import data_of
from tests.labs import HEAD, Lab
from tests.sweeps import ledger
from tests.test_scripts import lab

__all__ = ["lab"]


def test_files_and_folders_are_named_by_fields_that_look_like_paths(tmp_path: Path) -> None:
    one, folder = tmp_path / "one.npz", tmp_path / "images"
    one.write_bytes(b"1")
    folder.mkdir()
    (folder / "a").write_bytes(b"a")
    columns = {
        "trial_id": [str(one)],
        "task.name": [str(one)],
        "task.path": [str(one)],
        "task.folder": [str(folder)],
        "task.kind": ["images"],
        "task.other": [str(tmp_path / "missing.npz")],
        "task.none": pa.nulls(1, pa.string()),
    }
    before = data_of(pa.table(columns))
    assert before.keys() == {str(one), str(folder)}
    assert data_of(pa.table(columns)) == before
    (folder / "a").rename(folder / "b")
    assert data_of(pa.table(columns))[str(folder)] != before[str(folder)]
    one.write_bytes(b"2")
    assert data_of(pa.table(columns))[str(one)] != before[str(one)]


def test_trials_on_changed_data_are_said_and_train_again_on_request(lab: Lab) -> None:
    files = [lab.folder / name for name in ("a.npz", "b.npz")]
    for file in files:
        file.write_bytes(b"1")
    lab.text = lab.text.replace("lr: [0.1, 0.5]", f"data: [{files[0]}, {files[1]}]")
    lab.script(head=HEAD.replace("depth=1", "data=''"))
    assert lab.launch().counts.done == 4
    record = next(iter(ledger(lab.store, "lab").state.launches.values()))
    assert record["data"].keys() == set(map(str, files))
    files[0].write_bytes(b"2")
    assert lab.launch().counts.done == 4
    before = len(ledger(lab.store, "lab").state.packs)
    assert lab.launch(rerun=True).counts.done == 4
    assert len(ledger(lab.store, "lab").state.packs) == before + 2
    assert lab.rows().num_rows == 4 * 20

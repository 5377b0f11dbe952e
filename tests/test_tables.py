"""Parquet files of the store: their entries, their encodings, and the messages about damage."""

from __future__ import annotations

import io
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sweeper.errors import StoreError
from sweeper.store import tables
from sweeper.store.files import Files
from sweeper.store.state import Part

STEPS = pa.table({"step": pa.array([30, 10, 20], pa.int64())})


def _part(entry: dict[str, object]) -> Part:
    return Part(**{key: entry[key] for key in Part.__slots__ if key in entry})  # type: ignore[arg-type]


def test_an_entry_has_the_size_the_checksum_and_the_range_of_steps(tmp_path: Path) -> None:
    files = Files.at(str(tmp_path))
    entry = tables.write(files, "a.parquet", STEPS)
    raw = (tmp_path / "a.parquet").read_bytes()
    assert entry == {
        "path": "a.parquet",
        "size": len(raw),
        "sha256": sha256(raw).hexdigest(),
        "rows": 3,
        "min_step": 10,
        "max_step": 30,
    }
    without = tables.write(files, "b.parquet", STEPS, steps=None)
    assert (without["min_step"], without["max_step"]) == (0, 0)
    assert tables.read(files, entry).equals(STEPS)
    assert tables.upto(STEPS, 20)["step"].to_pylist() == [10, 20]
    assert tables.upto(STEPS, None) is STEPS


def test_measured_columns_are_split_by_byte_and_repeating_ones_have_a_dictionary(
    tmp_path: Path,
) -> None:
    columns = {
        "trial_id": pa.array(["t"] * 100),
        "step": pa.array(range(100), pa.int64()),
        "train_loss": pa.array(np.random.default_rng(0).random(100)),
        "sparsity": pa.array([0.5, 0.25] * 50),
    }
    entry = tables.write_metrics(Files.at(str(tmp_path)), "m.parquet", pa.table(columns))
    assert entry["columns"] == ["sparsity"]
    group = pq.ParquetFile(tmp_path / "m.parquet").metadata.row_group(0)
    encodings = {
        group.column(i).path_in_schema: set(group.column(i).encodings) for i in range(len(columns))
    }
    assert [name for name, used in encodings.items() if "BYTE_STREAM_SPLIT" in used] == [
        "train_loss"
    ]
    assert "RLE_DICTIONARY" in encodings["sparsity"]


def test_each_kind_of_damage_has_its_message(tmp_path: Path) -> None:
    files = Files.at(str(tmp_path))
    files.write("sweep.json", b"{}")
    entry = tables.write(files, "plans/a.parquet", STEPS)
    part, path = _part(entry), tmp_path / "plans" / "a.parquet"
    assert tables.corrupt(files, part) is None
    assert tables.damaged(files, part) is None
    raw = path.read_bytes()
    path.write_bytes(raw[:-1] + b"?")
    wrong = f"{path}: damaged: its checksum differs from the ledger's."
    assert tables.damaged(files, part) is None
    assert tables.corrupt(files, part) == tables.corrupt(files, entry) == wrong
    with pytest.raises(StoreError) as caught:
        tables.content(files, entry)
    assert str(caught.value) == f"{wrong} {tables.REWRITTEN}"
    path.write_bytes(raw[:-1])
    torn = f"{path}: damaged: it has {len(raw) - 1} bytes instead of {len(raw)}."
    assert tables.damaged(files, part) == tables.corrupt(files, part) == torn
    path.unlink()
    missing = f"{path}: missing, though the ledger lists it."
    assert tables.damaged(files, part) == tables.corrupt(files, part) == missing
    with pytest.raises(StoreError) as caught:
        tables.content(files, {**entry, "path": "ends/a.parquet"})
    assert str(caught.value).endswith(
        f"ends/a.parquet: missing, though the ledger lists it. {tables.REMEDY}"
    )


@pytest.mark.parametrize(
    ("path", "content", "reason"),
    [
        (
            "metrics/a.parquet",
            b"PAR1",
            "Parquet file size is 4 bytes, smaller than the minimum file footer (8 bytes)",
        ),
        ("metrics/a.parquet", {"trial_id": ["a"]}, "it needs the column step of type int64"),
        ("ends/a.parquet", {"trial_id": [1]}, "it needs the column trial_id of type string"),
        ("packs/a.parquet", {"pack_id": ["a"]}, "it needs the column trial_id of type string"),
        ("plans/a.parquet", {"trial_id": ["a"]}, "it needs the column cell_id of type string"),
    ],
)
def test_a_file_whose_checksum_is_right_but_not_its_content_is_damaged(
    tmp_path: Path, path: str, content: Any, reason: str
) -> None:
    files = Files.at(str(tmp_path))
    (tmp_path / "sweep.json").write_bytes(b"")
    if isinstance(content, dict):
        buffer = io.BytesIO()
        pq.write_table(pa.table(content), buffer)
        content = buffer.getvalue()
    files.write(path, content)
    with pytest.raises(StoreError) as caught:
        tables.read(files, {"path": path, "sha256": sha256(content).hexdigest()})
    remedy = tables.REWRITTEN if path.startswith("plans/") else tables.REMEDY
    assert (
        str(caught.value) == f"{tmp_path}/{path}: damaged: no table of a sweep ({reason}). {remedy}"
    )

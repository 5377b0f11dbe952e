"""What is written of a sweep: every type in every format, and files that can't be."""

from __future__ import annotations

import csv
import json
import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sweeper.engine.planner import plan_launch
from sweeper.engine.progress import plan_sentence
from sweeper.errors import UsageError
from sweeper.report import figures, query
from sweeper.trainable import load
from tests.commands import PHASE, sweeper
from tests.sweeps import TOY, run, toy_grid


@pytest.fixture
def finished(tmp_path: Path, store: str) -> str:
    """A store with a finished toy sweep."""
    run(toy_grid(tmp_path), store)
    return store


def refusal(where: str, output: Path | None, form: str | None = None, text: str = "") -> str:
    with pytest.raises(UsageError) as caught:
        query.sql(where, "toy", text or "select 1 as x", output=output, form=form)
    assert caught.value.exit_code == 2
    return str(caught.value)


def test_all_columns_of_trials_are_written_as_csv(tmp_path: Path, finished: str) -> None:
    path = tmp_path / "t.csv"
    query.sql(finished, "toy", "select * from trials", output=path)
    with path.open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 12
    assert json.loads(rows[0]["versions"])["python"].startswith("3.")
    assert {row["task.shift"] for row in rows} == {"0", "1"}


NESTED = pa.table(
    {
        "a": pa.array(
            [{"b": {"c": 1.5}, "m": [("k", 2.0)]}, None],
            pa.struct(
                {"b": pa.struct({"c": pa.float64()}), "m": pa.map_(pa.string(), pa.float64())}
            ),
        ),
        "rows": pa.array([[{"x": float("nan")}], []], pa.list_(pa.struct({"x": pa.float64()}))),
        "x": [float("inf"), 1.0],
    }
)


def test_what_is_nested_becomes_dotted_columns_and_json_in_csv(tmp_path: Path) -> None:
    path = tmp_path / "n.csv"
    query.write(NESTED, path, "csv")
    with path.open() as file:
        rows = list(csv.DictReader(file))
    assert rows == [
        {"a.b.c": "1.5", "a.m": '{"k": 2.0}', "rows": '[{"x": null}]', "x": "inf"},
        {"a.b.c": "", "a.m": "", "rows": "[]", "x": "1"},
    ]


def test_a_duration_is_written_as_csv_too(tmp_path: Path, finished: str) -> None:
    path = tmp_path / "d.csv"
    query.sql(finished, "toy", "select interval 3 day as d", output=path)
    assert path.read_text() == '"d"\n"[0, 3, 0]"\n'


def test_json_has_null_where_a_number_is_not_finite(tmp_path: Path) -> None:
    path = tmp_path / "n.json"
    query.write(NESTED, path, "json")
    assert [json.loads(line) for line in path.read_text().splitlines()] == [
        {"a": {"b": {"c": 1.5}, "m": {"k": 2.0}}, "rows": [{"x": None}], "x": None},
        {"a": None, "rows": [], "x": 1.0},
    ]


def test_a_query_may_answer_nan_in_json(finished: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = "select 'nan'::double as a, ['-inf'::float, 1] as b, {'c': 'inf'::double} as d"
    query.sql(finished, "toy", text, form="json")
    assert json.loads(capsys.readouterr().out) == {"a": None, "b": [None, 1.0], "d": {"c": None}}


@pytest.mark.parametrize("form", ["csv", "json", "parquet"])
def test_a_result_that_can_not_be_written_says_why(
    tmp_path: Path, finished: str, form: str
) -> None:
    path = tmp_path / "missing" / f"f.{form}"
    assert refusal(finished, path) == (
        f"{path}: can't be written: No such file or directory. "
        "Name a file in a folder that you may write to."
    )
    assert "can't be written: Is a directory." in refusal(finished, tmp_path, form)


@pytest.mark.parametrize("suffix", ["csv", "parquet", "png", "svg"])
def test_a_figure_that_can_not_be_written_says_why(
    tmp_path: Path, finished: str, suffix: str
) -> None:
    path = tmp_path / "missing" / f"f.{suffix}"
    message = rf"f\.{suffix}: can't be written: No such file or directory\. Name"
    with pytest.raises(UsageError, match=message):
        figures.phase(finished, "toy", x="task.rate", y="task.shift", output=path)
    if suffix in ("png", "svg"):
        with pytest.raises(UsageError, match=message):
            figures.curves(finished, "toy", condition=None, output=path)


@pytest.mark.parametrize(
    ("name", "form", "message"),
    [
        ("f.xyz", None, "the suffix names no format. Add --format with one of: table, csv, json, "),
        ("f", None, "the suffix names no format."),
        (
            "f.csv",
            "json",
            "the suffix names the format csv, but --format is json. Remove one of them.",
        ),
        (
            "f.parquet",
            "table",
            "the suffix names the format parquet, but --format is table. Remove one of them.",
        ),
        ("f.csv", "xml", "format 'xml' is unknown. Choose one of: table, csv, json, parquet."),
    ],
)
def test_suffix_and_format_must_agree(
    tmp_path: Path, finished: str, name: str, form: str | None, message: str
) -> None:
    assert message in refusal(finished, tmp_path / name, form)
    assert not (tmp_path / name).exists()


@pytest.mark.parametrize(
    ("name", "form", "content"),
    [
        ("f.csv", None, b'"x"\n1\n'),
        ("f.CSV", "csv", b'"x"\n1\n'),
        ("f.json", None, b'{"x": 1}\n'),
        ("f.txt", "json", b'{"x": 1}\n'),
        ("f.txt", "table", b"x\n1\n"),
        ("f.parquet", None, None),
    ],
)
def test_a_file_holds_the_format_that_its_suffix_or_the_option_names(
    tmp_path: Path, finished: str, name: str, form: str | None, content: bytes | None
) -> None:
    query.sql(finished, "toy", "select 1 as x", output=tmp_path / name, form=form)
    if content is None:
        assert pq.read_table(tmp_path / name).to_pylist() == [{"x": 1}]
    else:
        assert (tmp_path / name).read_bytes() == content


@pytest.mark.parametrize(
    ("code", "told", "line"),
    [
        ("\n1 / 0", "ZeroDivisionError: division by zero", 2),
        ("x = (\n", "SyntaxError: '(' was never closed", 1),
        ("raise ValueError", "ValueError", 1),
        ("import sys\nsys.exit(3)", "SystemExit: 3", 2),
    ],
)
def test_a_trainable_that_fails_at_its_import_says_where(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str, told: str, line: int
) -> None:
    path = tmp_path / "broken_trainable.py"
    path.write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    sys.modules.pop("broken_trainable", None)
    with pytest.raises(UsageError) as caught:
        load("broken_trainable")
    assert str(caught.value) == (
        f"trainable 'broken_trainable' can't be imported: {told} ({path}:{line})."
    )


@pytest.mark.parametrize(
    ("rates", "told"), [("[0.1, 0.1]", "(2 cells"), ("[0.1]", "(1 cell"), ("[0.2]", None)]
)
def test_a_plan_says_that_collapsed_cells_mean_the_same(
    tmp_path: Path, rates: str, told: Any
) -> None:
    text = TOY.split("grid:")[0] + (
        f"grid:\n  - product: {{task.rate: [0.1]}}\n  - product: {{task.rate: {rates}}}\n"
    )
    grid = toy_grid(tmp_path, text=text)
    sentence = plan_sentence(grid, plan_launch(grid, None, workers=1))
    if told is None:
        assert "collapsed" not in sentence
    else:
        assert sentence.endswith(f" {told} collapsed: each means the same as another one)")


def test_text_is_printed_as_it_is() -> None:
    table = pa.table({"[red]x[/red]": ["[red]5[/red]", "[/]", ":smile:"]})
    assert query.render(table).split() == ["[red]x[/red]", "[red]5[/red]", "[/]", ":smile:"]


def test_a_query_has_a_time_limit_and_can_be_interrupted(finished: str) -> None:
    slow = "select count(*) from range(100000000000) a where hash(a.range) % 7 = 1"
    words = ("sql", "toy", slow, "--store", finished)
    ended = sweeper(*words, "--timeout", "0.5")
    message = "error: the query was ended after 0.5 s, its time limit.\n"
    assert (ended.returncode, ended.stdout, ended.stderr) == (2, "", message)
    threading.Timer(2, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
    ended = sweeper(*words)
    assert (ended.returncode, ended.stdout, ended.stderr) == (130, "", "interrupted\n")
    ended = sweeper(
        "sql", "toy", "--timeout", "0.5", "--store", finished, stdin=f"{slow};\nselect 1 as x;\n"
    )
    assert ended.stdout.splitlines()[:2] == [message.strip(), "x"]


@pytest.mark.parametrize(
    ("value", "printed"),
    [
        ("'101'::bit", "101"),
        ("123456789012345678901234567890::bignum", "123456789012345678901234567890"),
        ("340282366920938463463374607431768211455::uhugeint", f"{2**128 - 1}"),
        ("'POINT(1 2)'::geometry", "POINT (1 2)"),
        ("'12:00:00+01'::timetz", "12:00:00+01"),
        ("'-infinity'::timestamp", "-infinity"),
        ("'infinity'::timestamptz", "infinity"),
        ("'infinity'::date", "infinity"),
        ("'-infinity'::timestamp_s", "-infinity"),
        ("'0044-03-15 (BC)'::date", "-043-03-15"),
        ("'290000-01-01'::timestamp", "290000-01-01T00:00:00.000000"),
        ("['infinity'::date, '2020-01-02'::date, null]", None),
        ("{'a': {'b': '-infinity'::timestamp}}", None),
        ("map {'k': 'infinity'::date}", None),
    ],
)
def test_a_value_that_python_lacks_is_printed_as_text(
    finished: str, value: str, printed: str | None
) -> None:
    words = ("sql", "toy", f"select {value} as x", "--store", finished, "--format")
    table, lines, text = (sweeper(*words, form) for form in ("table", "json", "csv"))
    assert (table.returncode, lines.returncode, text.returncode) == (0, 0, 0)
    if printed is not None:
        assert table.stdout.splitlines()[1].strip() == printed
        assert json.loads(lines.stdout) == {"x": printed}
    else:
        assert "infinity" in table.stdout
        assert "infinity" in lines.stdout
        assert "infinity" in text.stdout


def test_bytes_are_written_to_csv(finished: str, tmp_path: Path) -> None:
    text = "select 'a\\xFF'::blob as b, null::blob as n"
    query.sql(finished, "toy", text, output=tmp_path / "b.csv")
    assert (tmp_path / "b.csv").read_text() == '"b","n"\n"a\\xff",\n'


@pytest.mark.parametrize(
    ("value", "form", "reason"),
    [
        (
            "union_value(a := 1)",
            "parquet",
            "Unhandled type for Arrow to Parquet schema conversion: sparse_union<a: int32=0>",
        ),
        (
            "interval 1 month",
            "parquet",
            "Unhandled type for Arrow to Parquet schema conversion: month_day_nano_interval",
        ),
        (
            "{}",
            "parquet",
            "Cannot write struct type 'x' with no child field to Parquet. Consider adding a dummy child field.",
        ),
    ],
)
def test_a_column_that_a_format_cannot_hold_is_named(
    finished: str, tmp_path: Path, value: str, form: str, reason: str
) -> None:
    said = refusal(finished, tmp_path / f"x.{form}", text=f"select 1 as one, {value} as x")
    assert (
        said
        == f"{form} can't hold the column 'x': {reason}. Cast it in the query, e.g. ::varchar, or write json.".replace(
            "..", "."
        )
    )
    assert not (tmp_path / f"x.{form}").exists()


def test_a_query_that_is_not_text_is_refused(finished: str) -> None:
    for text in ("select '\udcff'", 'select 1 as "\udcff"'):
        assert refusal(finished, None, text=text) == f"{text!r}: not UTF-8 text."
    asked = sweeper(*PHASE, "--where", "\udcff", "--store", finished)
    assert (asked.returncode, asked.stderr) == (2, "error: '\\udcff': not UTF-8 text.\n")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "select * from delays where task.rate > 1",
            'Binder Error: Referenced table "task" not found. task.rate is in trials: from delays '
            "join trials using (trial_id).",
        ),
        (
            "select step from metrics where task.rat = 1",
            'Binder Error: Referenced table "task" not found. task.rate is in trials: from metrics '
            "join trials using (trial_id).",
        ),
        (
            "select delai from delays",
            'Binder Error: Referenced column "delai" not found in FROM clause. Did you mean delay?',
        ),
    ],
)
def test_a_field_that_another_view_has_is_said_with_its_join(
    finished: str, text: str, message: str
) -> None:
    assert refusal(finished, None, text=text) == message

"""`sweeper verify`: laws are launched, measured, told and written down."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from sweeper.analysis.laws import LAWS, Claim, Evidence, LawGrid, Measured, Verdict
from sweeper.cli import app
from sweeper.engine import driver
from sweeper.errors import UsageError
from sweeper.store import lease
from sweeper.store.state import PackState
from sweeper.verify import reproduction, verify
from tests.stores import Made, Planned, end

LAW = next(law for law in LAWS if law.id == "l2-floor")
CUT = LawGrid(LAW.grids[0].name, cut=("optimizer.lr=0.1", "seeds=1", "steps=12_000"))
SMALL = replace(LAW, grids=(CUT,))


def contradicted(found: Evidence) -> Measured:
    """Measure law 11 rightly, but claim that the floor is a tenth of what it is."""
    final = found.columns(
        "select arg_max(test_error, step) as e, max(null_floor) as f from metrics group by trial_id"
    )
    met = bool((final["e"] <= 0.11 * final["f"]).all())
    return Measured(f"final error {final['e'][0]:.3f}", {"a tenth of the floor": met})


BROKEN = replace(SMALL, id="broken", number=99, measure=contradicted)


@pytest.fixture
def laws(monkeypatch: pytest.MonkeyPatch) -> tuple[Claim, ...]:
    """Two laws on one small grid: one that holds, and one that is broken on purpose."""
    known = (SMALL, BROKEN)
    monkeypatch.setattr(verify, "LAWS", known)
    return known


def run(*words: str) -> tuple[int, str, str]:
    done = CliRunner().invoke(app, ["verify", *words])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.exit_code, done.stdout, done.stderr


def test_a_law_that_holds_is_told_with_claim_verdict_and_page(
    laws: tuple[Claim, ...], store: str, tmp_path: Path
) -> None:
    page = tmp_path / "docs" / "reproduction.md"
    words = ("l2-floor", "--inline", "--quick", "--store", store, "--report", str(page))
    code, out, _ = run(*words)
    assert code == 0, out
    assert "1 law, 1 sweep; 1 trial: 0 done, 1 new; 1 pack on 1 CPU" in out
    assert re.search(r"l2-floor +11 .* confirmed +\d", out)
    text = page.read_text()
    for said in (
        SMALL.claim,
        SMALL.source,
        SMALL.settings,
        "**Confirmed.**",
        "law_l2_floor",
        "sweeper verify l2-floor --quick",
        "| [l2-floor](#l2-floor-",
    ):
        assert said in text.replace("&#124;", "|"), said
    (figure,) = re.findall(r"!\[.*\]\((.*)\)", text)
    assert (page.parent / figure).read_bytes().startswith(b"\x89PNG")
    assert "can't be measured" not in text


def test_what_is_in_the_store_isnt_trained_again(laws: tuple[Claim, ...], store: str) -> None:
    assert run("11", "--inline", "--quick", "--store", store)[0] == 0
    code, out, _ = run("11", "--inline", "--quick", "--store", store)
    assert (code, out.splitlines()[0]) == (
        0,
        "1 law, 1 sweep; 1 trial: 1 done, 0 new; 0 packs on 1 CPU",
    )


def test_a_law_that_is_broken_isnt_reproduced_and_exits_with_3(
    laws: tuple[Claim, ...], store: str
) -> None:
    code, out, _ = run("--inline", "--quick", "--store", store, "--json")
    assert code == 3
    told = [json.loads(line) for line in out.splitlines()]
    assert [(one["id"], one["verdict"], one["as_expected"]) for one in told] == [
        ("l2-floor", "confirmed", True),
        ("broken", "not reproduced", False),
    ]
    assert told[1]["checks"] == {"a tenth of the floor": False}
    assert told[0]["values"]["off"]["claimed"] == 0.0
    assert told[0]["seconds"] > 0
    assert told[0]["trials"] == 1


def test_a_law_whose_failure_is_expected_exits_with_0(
    monkeypatch: pytest.MonkeyPatch, store: str
) -> None:
    expected = replace(BROKEN, expected=Verdict.NOT_REPRODUCED)
    monkeypatch.setattr(verify, "LAWS", (expected,))
    assert run("--inline", "--quick", "--store", store, "--quiet")[:2] == (0, "")


def test_a_verification_that_was_stopped_goes_on_where_it_was(
    laws: tuple[Claim, ...], store: str
) -> None:
    grids = list(verify.grids_of([SMALL], quick=True).values())
    runner = driver.inline(grids[0])

    def stopping(training: verify.Verification) -> None:
        training.stop()

    assert not verify.train(grids, store, runner, started=stopping)
    assert verify.exit_code([], complete=False) == 4
    seen: list[int] = []
    assert verify.train(
        grids, store, runner, started=lambda t: seen.append(t.new), show=lambda _: None
    )
    assert seen == [1]
    (one,) = verify.measure([SMALL], store, quick=True)
    assert one.measured.verdict is Verdict.CONFIRMED


@pytest.mark.long
@pytest.mark.parametrize("inline", [True, False], ids=["inline", "ray"])
def test_a_signal_drains_all_sweeps_of_a_verification(inline: bool, store: str) -> None:
    words = ["verify", "four-factors", "l2-floor", "--store", store]
    process = subprocess.Popen(
        [sys.executable, "-m", "sweeper.cli", *words, *(["--inline"] if inline else [])],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    wanted = "law_product_four"
    while not any(p.attempts for p in packs(store, wanted)):
        assert process.poll() is None
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 130, out + err
    assert "stopping: packs save a checkpoint and end." in err
    assert out.endswith("stopped early: verify again to continue\n")
    assert not all(p.done for p in packs(store, wanted))
    for name in (wanted, "law_l2_floor"):
        assert not [p for p in packs(store, name) if p.open and p.attempts and not p.checkpoint]


def packs(store: str, name: str) -> list[PackState]:
    """The packs of a sweep, none before it exists."""
    if name not in lease.sweeps(store):
        return []
    return list(lease.open_sweep(store, name).state.packs.values())


def test_two_grids_are_launched_in_one_go(store: str) -> None:
    chosen = [law for law in LAWS if law.id in ("l2-floor", "coherence")]
    grids = [grid for name, grid in verify.grids_of(chosen, quick=True).items()]
    assert len(grids) == 2
    calls: list[int] = []
    runner = driver.Runner(lambda tasks: calls.append(len({t.sweep for t in tasks})), 1)
    assert not verify.train(grids, store, runner)
    assert calls == [2]
    assert lease.sweeps(store) == ["law_coherence", "law_l2_floor"]


def test_an_unknown_law_is_named_with_its_nearest_neighbour() -> None:
    code, _, err = run("l1-dealy", "--list")
    assert code == 2
    assert err == (
        "error: no law 'l1-dealy'. Did you mean 'l1-delay'? `sweeper verify --list` shows all.\n"
    )


def test_a_number_chooses_all_laws_that_have_it() -> None:
    assert {law.number for law in verify.choose(["1", "l2-floor"], quick=False)} == {1, 11}
    assert len(verify.choose(["1"], quick=False)) == 2


def test_quick_leaves_out_what_is_slow_unless_it_is_named() -> None:
    quick = verify.choose([], quick=True)
    assert quick == [law for law in LAWS if law.quick]
    assert len(quick) >= 15
    slow = next(law for law in LAWS if not law.quick)
    assert verify.choose([slow.id], quick=True) == [slow]


def test_the_list_tells_of_every_law() -> None:
    code, out, _ = run("--list", "--json")
    assert code == 0
    assert [json.loads(line)["id"] for line in out.splitlines()] == [law.id for law in LAWS]
    code, out, _ = run("--list")
    assert all(law.id in out for law in LAWS)


def test_ids_are_told_apart_and_every_claim_has_a_source() -> None:
    assert len({law.id for law in LAWS}) == len(LAWS)
    for law in LAWS:
        assert law.source
        assert law.claim.endswith(".")
        assert not law.id.isdigit()


def test_failed_trials_are_no_law(store: str) -> None:
    made = Made.at(store, "law_l2_floor")
    launch = made.launch([Planned("t")])
    attempt = made.claim(pack := made.pack(["t"]), launch)
    made.rows(pack, attempt, ends=[{**end("t", "failed", 0), "error": "boom"}], done=True)
    (one,) = verify.measure([SMALL], store)
    assert one.measured.verdict is Verdict.NOT_REPRODUCED
    assert one.measured.text == "1 trial failed: see `sweeper status`"


def test_rows_that_arent_there_are_told_instead_of_measured(store: str, tmp_path: Path) -> None:
    made = Made.at(store, "law_l2_floor")
    made.launch([Planned("t")])
    (one,) = verify.measure([SMALL], store, figures=tmp_path)
    assert one.measured.verdict is Verdict.NOT_REPRODUCED
    assert one.measured.text.startswith("can't be measured: ")
    assert not list(tmp_path.glob("*.png"))


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("page.html", "the page is Markdown. Name a file that ends in .md."),
        ("file/page.md", "can't be made: Not a directory. Name another page."),
    ],
)
def test_a_page_that_cant_be_written_is_refused_before_anything_is_trained(
    tmp_path: Path, path: str, message: str
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match=re.escape(message)):
        reproduction.prepare(tmp_path / path)


@pytest.mark.parametrize(
    ("checks", "verdict"),
    [
        ({"claim": True, "more": True}, Verdict.CONFIRMED),
        ({"claim": True, "more": False}, Verdict.IN_PART),
        ({"claim": False, "more": True}, Verdict.NOT_REPRODUCED),
        ({}, Verdict.NOT_REPRODUCED),
    ],
)
def test_the_first_check_is_the_claim(checks: dict[str, bool], verdict: Verdict) -> None:
    assert Measured("", checks).verdict is verdict


def test_a_verdict_reaches_itself_and_what_is_worse() -> None:
    good, refuted, depends, middling, bad = Verdict
    assert good.reaches(middling)
    assert middling.reaches(middling)
    assert not bad.reaches(middling)
    assert refuted.reaches(middling)
    assert depends.reaches(bad)
    assert not middling.reaches(depends)


def test_no_finding_stands_for_another() -> None:
    findings = (Verdict.CONFIRMED, Verdict.REFUTED, Verdict.DEPENDS)
    for one in findings:
        assert [one.reaches(other) for other in findings] == [one is other for other in findings]
        assert Measured("", {"claim": True}, finding=one).verdict is one


def test_a_verdict_in_words_says_on_what_it_depends() -> None:
    known = {law.id: law for law in LAWS}
    assert known["l1-norms"].outcome(Verdict.DEPENDS) == "depends on the seed"
    assert known["l1-prefactor"].outcome(Verdict.REFUTED) == "refuted as stated"
    with pytest.raises(ValueError, match="l2-floor: depends_on goes with"):
        replace(LAW, depends_on="the seed")
    with pytest.raises(ValueError, match="l2-floor: instead goes with REFUTED and DEPENDS"):
        replace(LAW, expected=Verdict.REFUTED)


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.id)
def test_a_law_that_is_not_confirmed_says_what_holds_instead(law: Claim) -> None:
    assert law.expected in (Verdict.CONFIRMED, Verdict.REFUTED, Verdict.DEPENDS)
    assert law.instead.endswith(".") == (law.expected is not Verdict.CONFIRMED)

"""The tests that carry the design notice when it breaks.

Each case breaks one line of a copy of the project and runs the tests that should notice.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PARTS = ("sweeper", "trainables", "analysis", "tests", "benchmarks", "grids", "pyproject.toml")

MUTATIONS = {
    # packed equals alone
    "rows aren't padded to eights": (
        "trainables/batch/weights.py",
        "EIGHT = 8",
        "EIGHT = 1",
        "tests/test_loop.py",
    ),
    "a pack draws from its first trial's seed": (
        "sweeper/packing.py",
        "return (trial.seed, *sorted(drawn",
        "return (0, *sorted(drawn",
        "tests/test_loop.py",
    ),
    "ended trials go on training before they are set aside": (
        "trainables/loop.py",
        "self.aside |= self._states(positions.tolist())",
        "pass",
        "tests/test_loop.py",
    ),
    # ids ignore spelling
    "a field equal to its default counts": (
        "sweeper/config/trial.py",
        "if path not in usual or usual[path] != value",
        "if path not in usual or value is not None",
        "tests/test_trial.py",
    ),
    "lines aren't sorted": (
        "sweeper/config/trial.py",
        """"".join(lines[p] for p in sorted(lines)))
        lines[SEED]""",
        """"".join(lines[p] for p in lines))
        lines[SEED]""",
        "tests/test_trial.py",
    ),
    # SQL equals the pure definition at equality
    "an error must be below its threshold": (
        "sweeper/criterion.py",
        "else values <= bound",
        "else values < bound",
        "tests/test_criterion.py tests/test_views.py",
    ),
    "an accuracy must be above its threshold": (
        "sweeper/criterion.py",
        "values >= bound if",
        "values > bound if",
        "tests/test_criterion.py tests/test_views.py",
    ),
    "the SQL wants an error below its threshold": (
        "analysis/views/sql/firsts.sql",
        "train_value <= $train",
        "train_value < $train",
        "tests/test_delays.py",
    ),
    "the SQL wants an accuracy above its threshold": (
        "analysis/views/sql/firsts.sql",
        "test_value >= $test",
        "test_value > $test",
        "tests/test_views.py",
    ),
    # exactly once
    "a superseded attempt may go on writing": (
        "sweeper/store/chain.py",
        "is not None:\n                return other",
        "is not None and False:\n                return other",
        "tests/test_chain.py",
    ),
    "a record counts wherever it stands": (
        "sweeper/store/chain.py",
        'if record.get("prev") == self.head:',
        "if True:",
        "tests/test_chain.py",
    ),
    "a record whose answer was lost is another writer's": (
        "sweeper/store/records.py",
        "return None if there == content else there",
        "return there",
        "tests/test_chain.py",
    ),
    "a driver that was taken over goes on": (
        "sweeper/store/ledger.py",
        "if self.driver not in (None, state.driver):",
        "if False:",
        "tests/test_ledger.py",
    ),
    "the halves of a void pack count": (
        "sweeper/store/state.py",
        "todo += pack.halves",
        "pass",
        "tests/test_chain.py",
    ),
    "rows behind a later attempt's start count": (
        "sweeper/store/state.py",
        "later = [a.resumed_at for a in self.attempts if a.number > attempt]",
        "later = []",
        "tests/test_ledger.py",
    ),
    "rows are committed after the checkpoint that follows them": (
        "sweeper/store/checkpoint.py",
        "self._sink.flush(checkpoint=entry, done=done)",
        'claim.commit({"kind": "rows", "checkpoint": entry}); self._sink.flush(done=done)',
        "tests/test_launch.py",
    ),
    "a resumed pack logs its first step again": (
        "trainables/loop.py",
        "(resumed and target == self.step)",
        "(resumed and target < self.step)",
        "tests/test_loop.py",
    ),
    "a voided pack's rows count": (
        "sweeper/store/state.py",
        "if pack.void:\n            return",
        "if False:\n            return",
        "tests/test_views.py",
    ),
    # censored, never dropped
    "a diverged trial has a delay": (
        "sweeper/criterion.py",
        "if diverged:",
        "if False:",
        "tests/test_criterion.py tests/test_views.py",
    ),
    # sparse recovery
    "a factor of a diagonal network counts twice in its own gradient": (
        "trainables/families/products.py",
        "for other in self._each if other is not weight)",
        "for other in self._each)",
        "tests/test_products.py",
    ),
    "all diagonal networks start alike": (
        "trainables/families/products.py",
        'stream(seed, "diagonal factors", depth, n)',
        'stream(0, "diagonal factors", depth, n)',
        "tests/test_products.py",
    ),
    "groups are single entries": (
        "trainables/families/sparse_recovery.py",
        "return size or 1",
        "return 1",
        "tests/test_products.py tests/test_sparse_recovery.py",
    ),
    "basis pursuit takes any solution": (
        "trainables/families/basis_pursuit.py",
        "np.ones(2 * n)",
        "np.zeros(2 * n)",
        "tests/test_products.py",
    ),
    # searches and refinements
    "a cell wins by the few seeds that generalize": (
        "sweeper/search/objectives.py",
        "return 2 * (row",
        "return 20 * (row",
        "tests/test_objectives.py",
    ),
    "what was told is told again": (
        "sweeper/search/study.py",
        "if self._trials()[number].state.is_finished():\n                return",
        "if False:\n                return",
        "tests/test_study.py",
    ),
    "a refinement hides the grid": (
        "sweeper/store/visible.py",
        "if adds is not None:\n        return shown",
        "if adds is not None:\n        return []",
        "tests/test_extend.py",
    ),
    "log axes are refined in between their values": (
        "sweeper/refine/mesh.py",
        "between = exp((1 - share) * log(low) + share * log(high))",
        "between = (1 - share) * low + share * high",
        "tests/test_mesh.py",
    ),
    "the resolution of the log is no floor": (
        "analysis/diagrams/amplification.py",
        "greatest(d.estimate, d.t2 - d.t2_lower, 1)",
        "d.estimate",
        "tests/test_amplification.py",
    ),
}


def run(folder: Path, tests: str) -> subprocess.CompletedProcess[str]:
    """Run test files in a copy of the project."""
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-x", "-q", "-m", "not long and not root", *tests.split()],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(folder)},
    )


@pytest.mark.parametrize("name", MUTATIONS)
def test_the_line_to_break_is_there(name: str) -> None:
    file, old, _, tests = MUTATIONS[name]
    assert old in (ROOT / file).read_text()
    assert all((ROOT / test).exists() for test in tests.split())


@pytest.mark.long
@pytest.mark.parametrize("name", MUTATIONS)
def test_breaking_this_line_is_noticed(name: str, tmp_path: Path) -> None:
    file, old, new, tests = MUTATIONS[name]
    for part in PARTS:
        source = ROOT / part
        if source.is_dir():
            shutil.copytree(
                source, tmp_path / part, symlinks=True, ignore=shutil.ignore_patterns("__pycache__")
            )
        else:
            shutil.copy(source, tmp_path / part)
    path = tmp_path / file
    text = path.read_text()
    path.write_text(text.replace(old, new))
    done = run(tmp_path, tests)
    assert done.returncode == 1, f"nobody noticed: {done.stdout[-2000:]}{done.stderr[-500:]}"
    assert "FAILURES" in done.stdout

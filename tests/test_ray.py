"""The launcher on Ray: the same rows as in this process, on one node, on two, and as one dies."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import ray
from ray.cluster_utils import Cluster

from sweeper.engine.ray import Cluster as LocalCluster
from sweeper.engine.tune import load_tune
from sweeper.errors import SweeperError
from sweeper.store.outcomes import ended_trials
from tests.heads import OBJECT_STORE, head_without_room
from tests.sweeps import assert_whole, ledger, rows, run, run_steps, toy_grid


def sweeper(*words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run the command in the repository's folder."""
    return subprocess.run(
        [sys.executable, "-m", "sweeper.cli", *words], capture_output=True, text=True, check=check
    )


def test_a_launch_on_a_local_ray_gives_the_rows_of_one_in_this_process(
    tmp_path: Path, store: str
) -> None:
    grid = toy_grid(tmp_path, "task.fate=well,raises,diverges", "resources.pack=2")
    done = sweeper(
        "launch",
        str(tmp_path / "toy.yaml"),
        "task.fate=well,raises,diverges",
        "resources.pack=2",
        "--store",
        store,
        check=False,
    )
    assert done.returncode == 3, done.stderr
    assert done.stdout.startswith("36 trials: 0 done, 36 new, 0 failed; 18 packs on 2 CPUs\n")
    assert "Traceback" not in done.stderr
    said = (done.stdout + done.stderr).replace(store, "STORE")
    assert "ray" not in said.lower()
    reference = str(tmp_path / "reference")
    run(grid, reference, workers=2)
    assert rows(store).equals(rows(reference))
    assert_whole(store, grid)


AGAIN = """
import sys
import ray
from pathlib import Path
from sweeper.engine import commands
from sweeper.engine.ray import on_ray
from sweeper.compile.loading import load_grid

grid = load_grid(Path(sys.argv[1]), [])
with on_ray(grid) as runner:
    outcome = commands.launch(grid, sys.argv[2], runner)
    assert outcome.exit_code == 0
    assert not ray.is_initialized()
    assert "ray.tune" not in sys.modules
"""


def test_where_nothing_is_to_do_ray_is_not_started(tmp_path: Path, store: str) -> None:
    run(toy_grid(tmp_path), store)
    words = [sys.executable, "-c", AGAIN, str(tmp_path / "toy.yaml"), store]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("ours", [True, False])
def test_actors_ask_for_an_environment_where_workers_do_not_inherit_ours(ours: bool) -> None:
    loaded = load_tune()

    def asked() -> dict[str, str]:
        made = loaded.class_cache._ActorClassCache().get(type("Any", (), {}))
        variables: dict[str, str] = made._default_options["runtime_env"].get("env_vars", {})
        return variables

    before = asked()
    assert before["RAY_CHDIR_TO_TRIAL_DIR"] == "0"
    with loaded.inherited(ours):
        assert asked() == ({} if ours else before)
    assert asked() == before


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    """A head without room for packs."""
    with head_without_room() as made:
        yield made


@pytest.mark.long
def test_a_sweep_survives_the_death_of_one_of_two_nodes_with_fractional_gpus(
    cluster: Cluster, tmp_path: Path, store: str
) -> None:
    options = (
        "resources.gpu=0.5",
        "resources.cpu=0.5",
        "resources.pack=3",
        "task.pause=0.06",
        "checkpoint.every_s=0.5",
        "stop.after_generalization=false",
        "seeds=4",
        "steps=60",
    )
    grid = toy_grid(tmp_path, *options)
    nodes = [
        cluster.add_node(num_cpus=2, num_gpus=1, object_store_memory=OBJECT_STORE) for _ in range(2)
    ]
    cluster.wait_for_nodes()
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "sweeper.cli",
            "launch",
            str(tmp_path / "toy.yaml"),
            *options,
            "--store",
            store,
            "--address",
            cluster.address,
            "--json",
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=dict(os.environ),
    )
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline:
        try:
            checkpoints = [p.checkpoint for p in ledger(store).state.packs.values()]
        except SweeperError:
            checkpoints = []
        if sum(c is not None for c in checkpoints) >= 3:
            break
        time.sleep(0.1)
    cluster.remove_node(nodes[0], allow_graceful=False)
    out, err = process.communicate(timeout=150)
    assert process.returncode == 0, out + err
    state = ledger(store).state
    resumed = [a.resumed_at for p in state.packs.values() for a in p.attempts if a.number > 1]
    assert any(step > 0 for step in resumed), "no pack had to be taken up again"
    reference = str(tmp_path / "reference")
    run(grid, reference)
    assert rows(store).equals(rows(reference))
    assert_whole(store, grid)


def test_a_launch_waits_for_the_first_worker_of_a_cluster(
    cluster: Cluster, tmp_path: Path, store: str
) -> None:
    grid = toy_grid(tmp_path)
    words = ["launch", str(tmp_path / "toy.yaml"), "--store", store, "--address", cluster.address]
    with subprocess.Popen(
        [sys.executable, "-m", "sweeper.cli", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        whose, waits = process.stdout.readline(), process.stdout.readline()
        cluster.add_node(num_cpus=2, object_store_memory=OBJECT_STORE)
        out, err = process.communicate(timeout=150)
    assert process.returncode == 0, out + err
    assert whose.startswith(f"cluster {cluster.address} (Ray ")
    assert whose.endswith(": 1 node, 0 of 0 CPUs free\n")
    assert re.fullmatch(
        r"waiting for room, at most 5 min: a pack needs 1 CPU; [\d.]+ has 0 CPUs\n", waits
    )
    assert out.startswith("12 trials: 0 done, 12 new, 0 failed; 2 packs on 2 CPUs\n")
    assert err == ""
    assert_whole(store, grid)


def test_an_unreachable_cluster_is_exit_code_5_and_leaves_no_store(
    tmp_path: Path, store: str
) -> None:
    toy_grid(tmp_path)
    done = sweeper(
        "launch",
        str(tmp_path / "toy.yaml"),
        "--store",
        store,
        "--address",
        "127.0.0.1:1",
        check=False,
    )
    assert done.returncode == 5, done.stdout + done.stderr
    assert "error: Ray at '127.0.0.1:1'" in done.stderr
    assert "Check the address" in done.stderr
    assert not Path(store).exists()


def test_a_pack_that_no_node_has_room_for_is_refused(tmp_path: Path, store: str) -> None:
    toy_grid(tmp_path)
    done = sweeper(
        "launch", str(tmp_path / "toy.yaml"), "resources.cpu=4096", "--store", store, check=False
    )
    assert done.returncode == 5
    assert "cpu 4096, gpu 0: this machine has no room for one pack" in done.stderr


def test_a_reader_during_a_launch_never_sees_an_error_a_duplicate_or_a_gap(
    tmp_path: Path, store: str
) -> None:
    grid = toy_grid(
        tmp_path, "task.pause=0.02", "resources.pack=2", "seeds=3", "checkpoint.every_s=1"
    )
    problems: list[str] = []
    seen: list[int] = []
    over = threading.Event()
    expected = list(run_steps(grid))

    def poll() -> None:
        while not over.wait(0.05):
            try:
                table = rows(store)
            except SweeperError as error:
                if "no sweep" not in str(error):
                    problems.append(str(error))
                continue
            except ValueError:  # no part yet
                continue
            steps: dict[str, list[int]] = {}
            for trial, step in zip(
                table["trial_id"].to_pylist(), table["step"].to_pylist(), strict=True
            ):
                steps.setdefault(trial, []).append(step)
            seen.append(table.num_rows)
            problems.extend(
                f"{trial}: {have}" for trial, have in steps.items() if have != expected[: len(have)]
            )

    thread = threading.Thread(target=poll)
    thread.start()
    try:
        sweeper(
            "launch",
            str(tmp_path / "toy.yaml"),
            "task.pause=0.02",
            "resources.pack=2",
            "seeds=3",
            "checkpoint.every_s=1",
            "--store",
            store,
        )
    finally:
        over.set()
        thread.join()
    assert not problems
    assert len(set(seen)) > 3, "the reader saw the sweep grow"
    assert seen == sorted(seen)
    assert ended_trials(ledger(store)).num_rows == 18


def test_the_token_that_ray_writes_is_for_its_owner_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sweeper.engine.ray import _protect_token

    token = tmp_path / "auth_token"
    token.write_text("x")
    token.chmod(0o644)
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(token))
    _protect_token()
    assert token.stat().st_mode & 0o777 == 0o600


ABSENT_ON_NODES = """
import sys

if "default_worker" in sys.argv[0]:
    raise ImportError("No module named 'dataset'")
from tests.toy import *
from tests.toy import Config, train
"""


def test_a_trainable_that_a_node_cannot_import_is_one_clear_line(
    tmp_path: Path, store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "absent.py").write_text(ABSENT_ON_NODES)
    toy_grid(tmp_path)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    grid_file = str(tmp_path / "toy.yaml")
    done = sweeper(
        "launch", grid_file, "trainable=absent", "resources.pack=6", "--store", store, check=False
    )
    assert done.returncode == 4, done.stderr
    assert re.fullmatch(
        r"error: pack \w+ on node [\d.]+: UsageError: trainable 'absent' can't be imported: "
        r"No module named 'dataset'\. Install it, or add its folder to PYTHONPATH\. "
        r"\(1 more pack failed\.\) 12 of 12 trials are left to train: fix the cause "
        r"and launch again\.\n",
        done.stderr,
    ), done.stderr


def test_a_ray_of_this_machine_listens_on_loopback_alone() -> None:
    with LocalCluster("local") as cluster:
        cluster._connect()
        assert ray.get(ray.remote(num_cpus=1)(lambda: os.getpid()).remote()) != os.getpid()
        ours = psutil.Process().children(recursive=True)
        sockets = [one for process in ours for one in process.net_connections(kind="inet")]
        listening = {one.laddr.ip for one in sockets if one.status == psutil.CONN_LISTEN}
    assert listening
    assert listening <= {"127.0.0.1", "::1", "::ffff:127.0.0.1"}
    assert "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER" not in os.environ

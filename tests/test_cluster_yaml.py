"""cluster.yaml is a config that Ray accepts, and a cluster that nobody else can run code on."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from ray.autoscaler._private.util import prepare_config, validate_config
from ruamel.yaml import YAML

ROOT = Path(__file__).parents[1]
TOKEN = "/home/ubuntu/.ray/auth_token"
COMMANDS = ("head_start_ray_commands", "worker_start_ray_commands")


@pytest.fixture(scope="module")
def cluster() -> dict[str, Any]:
    """The file as its author wrote it."""
    return dict(YAML(typ="safe").load(ROOT / "cluster.yaml"))


def start_commands(cluster: dict[str, Any]) -> list[str]:
    return [c for key in COMMANDS for c in cluster[key] if "ray start" in c]


def test_ray_accepts_the_config(cluster: dict[str, Any]) -> None:
    validate_config(prepare_config(deepcopy(cluster)))


def test_ray_would_refuse_a_misspelt_key(cluster: dict[str, Any]) -> None:
    with pytest.raises(Exception, match="idle_timeout_minute"):
        validate_config(prepare_config({**deepcopy(cluster), "idle_timeout_minute": 5}))


def test_nodes_are_reached_as_a_named_user(cluster: dict[str, Any]) -> None:
    assert cluster["auth"] == {"ssh_user": "ubuntu"}  # Ray's schema lets a missing one pass


def test_no_trial_can_run_on_the_head(cluster: dict[str, Any]) -> None:
    head = cluster["available_node_types"][cluster["head_node_type"]]
    assert head["resources"] == {"CPU": 0, "GPU": 0}
    (start,) = (c for c in cluster["head_start_ray_commands"] if "ray start" in c)
    assert "--num-cpus=0" in start
    assert "--num-gpus=0" in start


def test_workers_offer_gpus(cluster: dict[str, Any]) -> None:
    workers = [t for n, t in cluster["available_node_types"].items() if n != "head"]
    assert workers
    for worker in workers:
        assert worker["resources"]["GPU"] >= 1
        assert 0 < worker["max_workers"] <= cluster["max_workers"]


def test_every_node_asks_for_the_token(cluster: dict[str, Any]) -> None:
    starts = start_commands(cluster)
    assert len(starts) == len(COMMANDS)
    assert all("RAY_AUTH_MODE=token" in c for c in starts)
    assert any("RAY_AUTH_MODE=token" in c and ".bashrc" in c for c in cluster["setup_commands"])


def test_every_node_gets_the_token_for_its_user_alone(cluster: dict[str, Any]) -> None:
    assert cluster["file_mounts"][TOKEN] == "~/.ray/auth_token"
    assert any("chmod 600 ~/.ray/auth_token" in c for c in cluster["setup_commands"])


def test_nothing_is_opened_to_the_outside(cluster: dict[str, Any]) -> None:
    assert "IpPermissions" not in cluster["provider"]["security_group"]
    (head,) = (c for c in cluster["head_start_ray_commands"] if "ray start" in c)
    assert "--dashboard-host=127.0.0.1" in head
    assert all("0.0.0.0" not in c for c in start_commands(cluster))


def test_all_nodes_share_the_store_and_the_locked_packages(cluster: dict[str, Any]) -> None:
    setup = cluster["setup_commands"]
    assert any("SWEEPER_STORE=/mnt/sweeps" in c for c in setup)
    assert any("mount -t nfs4" in c and "/mnt/sweeps" in c for c in setup)
    assert any("make" in c and "setup" in c for c in setup)
    assert cluster["file_mounts"]["/home/ubuntu/sweeper"] == "."


def test_the_head_turns_the_second_autoscaler_off(cluster: dict[str, Any]) -> None:
    (head,) = (c for c in cluster["head_start_ray_commands"] if "ray start" in c)
    assert "RAY_enable_autoscaler_v2=0" in head

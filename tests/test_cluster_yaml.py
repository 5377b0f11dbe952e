"""The files for clusters are ones that their readers accept, and nobody else can run code there."""

from __future__ import annotations

import itertools
import re
import shlex
import shutil
import signal
import subprocess
import time
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import ray
from ray.autoscaler._private.util import prepare_config, validate_config
from ruamel.yaml import YAML

from sweeper.engine.cluster import Node, Packs, room_on, worker_types

ROOT = Path(__file__).parents[1]
TOKEN = "~/.ray/auth_token"
COMMANDS = ("head_start_ray_commands", "worker_start_ray_commands")


@pytest.fixture(scope="module")
def cluster() -> dict[str, Any]:
    """The file as its author wrote it."""
    return dict(YAML(typ="safe").load(ROOT / "cluster.yaml"))


def instructions() -> str:
    """The instructions of the container file, one per line, without comments."""
    text = (ROOT / "deploy" / "Containerfile").read_text()
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    return re.sub(r"\\\n\s*", " ", "\n".join(lines))


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
    assert re.search(r"^ENV .*\bRAY_AUTH_MODE=token\b", instructions(), re.MULTILINE)


def test_every_node_gets_the_token_for_its_user_alone(cluster: dict[str, Any]) -> None:
    assert cluster["file_mounts"][TOKEN] == "~/.ray/auth_token"
    assert any("chmod 600 ~/.ray/auth_token" in c for c in cluster["setup_commands"])


def test_nothing_is_opened_to_the_outside(cluster: dict[str, Any]) -> None:
    assert "IpPermissions" not in cluster["provider"]["security_group"]
    (head,) = (c for c in cluster["head_start_ray_commands"] if "ray start" in c)
    assert "--dashboard-host=127.0.0.1" in head
    assert all("0.0.0.0" not in c for c in start_commands(cluster))


def test_all_nodes_share_the_store_and_the_locked_packages(cluster: dict[str, Any]) -> None:
    options = cluster["docker"]["run_options"]
    assert any(re.search(r"--env SWEEPER_STORE=s3://\S+$", o) for o in options)
    assert any(o == f"--env AWS_REGION={cluster['provider']['region']}" for o in options)
    assert cluster["docker"]["image"].endswith("/sweeper:1")
    assert "pip install --requirement requirements.lock" in instructions()
    types = cluster["available_node_types"].values()
    assert {t["node_config"]["IamInstanceProfile"]["Name"] for t in types} == {"sweeper-node"}


def test_a_machine_is_ready_before_anything_runs_on_it(cluster: dict[str, Any]) -> None:
    """The first boot holds apt's lock, and Docker starts late; nothing is installed by pip."""
    boot, docker, login = cluster["initialization_commands"]
    assert boot.startswith("cloud-init status --wait")
    assert docker.startswith("until docker info")
    assert cluster["docker"]["image"].split("/")[0] in login
    every = [c for k, commands in cluster.items() if k.endswith("commands") for c in commands]
    assert not [c for c in every if "apt" in c or "pip" in c]
    text = (ROOT / "cluster.yaml").read_text()
    assert "apt-get -o DPkg::Lock::Timeout=300" in text, "the commented EFS waits for the lock"
    assert "nfsvers=4.1" in text


def test_the_head_grows_the_cluster_from_nothing(cluster: dict[str, Any]) -> None:
    """By the limits that `sweeper.engine.cluster` reads, a launch plans for all the workers."""
    alive = [Node("head", 0, head=True)]
    types = worker_types(prepare_config(deepcopy(cluster)), alive)
    assert room_on(alive, types, Packs(2, 0.25)).later == 8 * 4
    assert all(t["min_workers"] == 0 for t in cluster["available_node_types"].values())


def test_the_head_turns_the_second_autoscaler_off(cluster: dict[str, Any]) -> None:
    (head,) = (c for c in cluster["head_start_ray_commands"] if "ray start" in c)
    assert "RAY_enable_autoscaler_v2=0" in head


def test_the_image_has_what_ray_up_and_kuberay_need() -> None:
    text = instructions()
    installed = re.search(r"apt-get install --yes --no-install-recommends ([\w -]+?) *&&", text)
    assert installed is not None
    assert {"openssh-client", "rsync", "tmux", "wget"} <= set(installed[1].split())
    assert "export PATH=/opt/sweeper/bin:$PATH' > /etc/profile.d/" in text, "for login shells"
    assert re.search(r"^ENV .*PATH=/opt/sweeper/bin:\$PATH", text, re.MULTILINE), "for all others"
    copied = re.findall(r"^COPY (.+) \./\S*$", text, re.MULTILINE)
    for name in " ".join(copied).split():
        assert (ROOT / name).exists(), name
    assert {"sweeper", "trainables", "analysis"} <= set(" ".join(copied).split())
    assert text.rstrip().endswith("USER ray\nWORKDIR /home/ray"), "not as root"


@pytest.fixture(scope="module")
def job() -> dict[str, Any]:
    """The RayJob of KubeRay."""
    return dict(YAML(typ="safe").load(ROOT / "deploy" / "kuberay-rayjob.yaml"))


FIELDS = {
    "": {"apiVersion", "kind", "metadata", "spec"},
    "spec": {
        "entrypoint",
        "shutdownAfterJobFinishes",
        "ttlSecondsAfterFinished",
        "backoffLimit",
        "rayClusterSpec",
    },
    "spec.rayClusterSpec": {
        "rayVersion",
        "authOptions",
        "enableInTreeAutoscaling",
        "autoscalerOptions",
        "headGroupSpec",
        "workerGroupSpecs",
    },
    "spec.rayClusterSpec.authOptions": {"mode"},
    "spec.rayClusterSpec.autoscalerOptions": {"version", "idleTimeoutSeconds"},
    "spec.rayClusterSpec.headGroupSpec": {"rayStartParams", "template"},
    "spec.rayClusterSpec.workerGroupSpecs.0": {
        "groupName",
        "replicas",
        "minReplicas",
        "maxReplicas",
        "rayStartParams",
        "template",
    },
}
"""The fields of the RayJob that ray.io/v1 has, by the definition of KubeRay 1.7."""


@pytest.mark.parametrize("path", FIELDS)
def test_the_job_has_only_fields_of_its_definition(job: dict[str, Any], path: str) -> None:
    part: Any = job
    for key in path.split(".") if path else ():
        part = part[int(key)] if key.isdigit() else part[key]
    assert set(part) <= FIELDS[path]


def test_the_job_plans_for_all_the_workers_it_may_get(job: dict[str, Any]) -> None:
    words = shlex.split(job["spec"]["entrypoint"])
    assert words[:2] == ["sweeper", "launch"]
    options = dict(itertools.pairwise(words))
    packs = {k: float(v) for k, v in (w.split("=") for w in words if w.startswith("resources."))}
    (workers,) = job["spec"]["rayClusterSpec"]["workerGroupSpecs"]
    (container,) = workers["template"]["spec"]["containers"]
    limits = container["resources"]["limits"]
    node = Node("gpu", float(limits["cpu"]), float(limits["nvidia.com/gpu"]))
    fits = node.packs(Packs(packs["resources.cpu"], packs["resources.gpu"]))
    assert int(options["--max-concurrent"]) == fits * workers["maxReplicas"]
    assert options["--address"] == "auto"


def test_the_job_is_closed_and_all_its_pods_are_alike(job: dict[str, Any]) -> None:
    spec = job["spec"]["rayClusterSpec"]
    assert spec["authOptions"] == {"mode": "token"}
    assert spec["headGroupSpec"]["rayStartParams"] == {"num-cpus": "0", "num-gpus": "0"}
    groups = [spec["headGroupSpec"], *spec["workerGroupSpecs"]]
    pods = [group["template"]["spec"]["containers"][0] for group in groups]
    assert len({pod["image"] for pod in pods}) == 1
    for pod in pods:
        assert pod["env"][0]["name"] == "SWEEPER_STORE"
        assert pod["env"][0]["value"].startswith("s3://")
        assert pod["envFrom"] == [{"secretRef": {"name": "sweeper-store"}}]


def test_all_files_name_the_locked_version_of_ray(job: dict[str, Any]) -> None:
    (locked,) = re.findall(r"^ray==(.+)$", (ROOT / "requirements.lock").read_text(), re.MULTILINE)
    assert job["spec"]["rayClusterSpec"]["rayVersion"] == locked == ray.__version__
    assert f"'ray[default]=={locked}'" in (ROOT / "cluster.yaml").read_text()


@pytest.fixture(scope="module")
def own() -> dict[str, Any]:
    """The cluster of one's own machines."""
    return dict(YAML(typ="safe").load(ROOT / "deploy" / "on-premises.yaml"))


def test_ray_accepts_the_config_of_own_machines(own: dict[str, Any]) -> None:
    validate_config(prepare_config(deepcopy(own)))
    assert own["max_workers"] == own["min_workers"] == len(own["provider"]["worker_ips"])


def test_own_machines_are_closed_and_share_the_store(own: dict[str, Any]) -> None:
    starts = start_commands(own)
    assert len(starts) == len(COMMANDS)
    assert all("RAY_AUTH_MODE=token" in c and "ulimit -n 65536" in c for c in starts)
    assert all("PATH=/shared/sweeper/.venv/bin:$PATH" in c for c in starts), "for `ray job submit`"
    assert "--dashboard-host=127.0.0.1" in starts[0]
    assert "SWEEPER_STORE=/shared/sweeps" in starts[0]
    assert own["file_mounts"] == {TOKEN: TOKEN}
    assert any("chmod 600 ~/.ray/auth_token" in c for c in own["setup_commands"])


SBATCH = ROOT / "deploy" / "slurm.sbatch"


def test_the_script_of_slurm_is_sound() -> None:
    subprocess.run(["bash", "-n", str(SBATCH)], check=True)
    if shutil.which("shellcheck"):
        subprocess.run(["shellcheck", str(SBATCH)], check=True)


FAKE = {
    "scontrol": "echo node7; sleep 0.2; echo node8",
    "srun": 'printf "%s\\n" "token=${#RAY_AUTH_TOKEN} mode=$RAY_AUTH_MODE" "$@" > "$SRUN"; sleep 2; exit 3',
    "sweeper": 'echo "$@" "$SWEEPER_STORE" >> "$STOPPED"; sleep 3',
}
"""Stand-ins for the commands of Slurm and ours: they write down what they are called with."""


def test_the_script_of_slurm_runs_the_launch_on_all_nodes(tmp_path: Path) -> None:
    """And a notice of Slurm stops the launch, whose exit code is the script's."""
    for name, body in FAKE.items():
        (file := tmp_path / ".venv" / "bin" / name).parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"#!/bin/sh\n{body}\n")
        file.chmod(0o755)
    (tmp_path / "depth.yaml").write_text("# Question\nname: depth\n")
    variables = {
        "PATH": f"{tmp_path}/.venv/bin:/usr/bin:/bin",
        "SLURM_SUBMIT_DIR": str(tmp_path),
        "SLURM_JOB_ID": "123456",
        "SLURM_JOB_NODELIST": "node[7-8]",
        "SLURM_NNODES": "2",
        "SLURM_CPUS_PER_TASK": "16",
        "SRUN": str(tmp_path / "srun.txt"),
        "STOPPED": str(tmp_path / "stopped.txt"),
    }
    with subprocess.Popen(["bash", str(SBATCH), "depth.yaml", "seeds=3"], env=variables) as script:
        deadline = time.monotonic() + 30
        while not (tmp_path / "srun.txt").exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        script.send_signal(signal.SIGUSR1)
        assert script.wait(timeout=60) == 3
    token, *words = (tmp_path / "srun.txt").read_text().splitlines()
    assert token == "token=48 mode=token"
    at = words.index("ray")
    assert words[:at] == ["--nodes=2", "--ntasks=2", "--kill-on-bad-exit=1"]
    assert words[at : at + 6] == [
        "ray",
        "symmetric-run",
        "--address",
        "node7:23456",
        "--min-nodes",
        "2",
    ]
    launch = words[words.index("--") + 1 :]
    assert launch == ["sweeper", "launch", "depth.yaml", "seeds=3", "--address", "auto", "--yes"]
    assert (tmp_path / "stopped.txt").read_text() == f"stop depth {tmp_path}/sweeps\n"


LINK = re.compile(r"\]\(([^)#]+)")


@pytest.mark.parametrize("page", ["aws", "kubernetes", "slurm", "on-premises"])
def test_every_kind_of_cluster_has_its_page(page: str) -> None:
    assert f"(cluster/{page}.md)" in (ROOT / "docs" / "cluster.md").read_text()
    file = ROOT / "docs" / "cluster" / f"{page}.md"
    for target in LINK.findall(file.read_text()):
        assert target.startswith("http") or (file.parent / target).exists(), target
    blocks = re.findall(r"```text\n(.*?)```", file.read_text(), re.DOTALL)
    assert any(
        "sweeper launch" in block or "sbatch" in block or "apply" in block for block in blocks
    )

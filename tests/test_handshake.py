"""A wrong address of a cluster is one right line within seconds, and none of Ray's own."""

from __future__ import annotations

import http.server
import os
import platform
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest
import ray

from tests.sweeps import toy_grid

TOKEN = "a" * 48
TOKEN_HELP = (
    "Copy the cluster's token to ~/.ray/auth_token (or name its file in RAY_AUTH_TOKEN_PATH), and "
    "set RAY_AUTH_MODE=token."
)
RIGHT_PORT = "Give the port of the cluster itself: 6379, unless `ray start` was given another one."
WEB = f"a web server listens there, e.g. Ray's dashboard. {RIGHT_PORT}"
SECONDS = 30


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


@dataclass
class Head:
    """A running head node without room for trials, of which the tests see the ports."""

    port: int = field(default_factory=free_port)
    dashboard: int = field(default_factory=free_port)
    client: int = field(default_factory=free_port)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"


def environment(**variables: str) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "SWEEPER_"))}
    return kept | variables


@pytest.fixture(scope="module")
def head() -> Iterator[Head]:
    """A head with a token, a dashboard and Ray Client, on the loopback."""
    made = Head()
    with tempfile.TemporaryDirectory(prefix="ray", ignore_cleanup_errors=True) as folder:
        words = [
            "--head",
            "--node-ip-address=127.0.0.1",
            f"--port={made.port}",
            "--num-cpus=2",
            f"--temp-dir={folder}",
            "--include-dashboard=true",
            f"--dashboard-port={made.dashboard}",
            f"--ray-client-server-port={made.client}",
            "--min-worker-port=0",
            "--object-store-memory=80000000",
            "--disable-usage-stats",
        ]
        subprocess.run(
            [shutil.which("ray", path=str(Path(sys.executable).parent)) or "ray", "start", *words],
            check=True,
            capture_output=True,
            env=environment(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=TOKEN),
        )
        try:
            yield made
        finally:
            stop(folder)


def stop(folder: str) -> None:
    """Kill the processes of the head whose files are in `folder`, and only those."""
    for process in psutil.process_iter(["cmdline"]):
        if any(folder in word for word in process.info["cmdline"] or []):
            with suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGKILL)


def launched(tmp_path: Path, address: str, *before: str, **variables: str) -> str:
    """Launch on `address`, which has to be refused; return the one line that is printed."""
    toy_grid(tmp_path)
    store = tmp_path / "store"
    words = ["launch", str(tmp_path / "toy.yaml"), "--store", str(store), "--address", address]
    begun = time.monotonic()
    done = subprocess.run(
        [*before, sys.executable, "-m", "sweeper.cli", *words],
        capture_output=True,
        text=True,
        check=False,
        env=environment(**variables),
        timeout=120,
    )
    assert time.monotonic() - begun < SECONDS
    assert done.returncode == 5, done.stdout + done.stderr
    assert done.stdout == ""
    assert not store.exists()
    (line,) = done.stderr.splitlines()
    return line.removeprefix("error: ")


@pytest.mark.parametrize("port", ["dashboard", "client"])
def test_another_port_of_the_head_is_told(head: Head, port: str, tmp_path: Path) -> None:
    address = f"127.0.0.1:{getattr(head, port)}"
    client = f"a server of another kind listens there, e.g. that of Ray Client. {RIGHT_PORT}"
    said = launched(tmp_path, address, RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=TOKEN)
    assert said == f"Ray at {address!r}: {WEB if port == 'dashboard' else client}"


def test_a_web_server_is_told(tmp_path: Path) -> None:
    with http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), http.server.SimpleHTTPRequestHandler
    ) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"127.0.0.1:{server.server_address[1]}"
        assert launched(tmp_path, address) == f"Ray at {address!r}: {WEB}"
        server.shutdown()


@contextmanager
def talker(greeting: bytes) -> Iterator[str]:
    """A server that says `greeting` and nothing else; yields its address."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            held = []
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                connection.sendall(greeting)
                held.append(connection)

        threading.Thread(target=answer, daemon=True).start()
        yield f"127.0.0.1:{server.getsockname()[1]}"


@pytest.mark.parametrize("greeting", [b"SSH-2.0-OpenSSH_9.6\r\n", b""])
def test_a_server_of_another_kind_is_told(greeting: bytes, tmp_path: Path) -> None:
    with talker(greeting) as address:
        said = launched(tmp_path, address)
        assert said == f"Ray at {address!r}: another program listens there. {RIGHT_PORT}"


@pytest.mark.parametrize(
    ("variables", "reason"),
    [
        (
            {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "b" * 48},
            "the cluster refused the token of this machine",
        ),
        (
            {"RAY_AUTH_MODE": "token", "HOME": "/nowhere"},
            "RAY_AUTH_MODE is token, and this machine has no token",
        ),
        ({"RAY_AUTH_MODE": "disabled"}, "the cluster asks for a token, and none was sent"),
    ],
)
def test_a_token_that_is_wrong_or_missing_is_told(
    head: Head, variables: dict[str, str], reason: str, tmp_path: Path
) -> None:
    said = launched(tmp_path, head.address, **variables)
    assert said == f"Ray at {head.address!r}: {reason}. {TOKEN_HELP}"


NAMESPACE = ("unshare", "--pid", "--fork", "--mount-proc")


@pytest.mark.skipif(
    subprocess.run([*NAMESPACE, "true"], capture_output=True, check=False).returncode != 0,
    reason="needs a PID namespace: the right of root",
)
def test_a_machine_that_is_no_node_is_told(head: Head, tmp_path: Path) -> None:
    """A process that sees no raylet is where another machine is."""
    said = launched(tmp_path, head.address, *NAMESPACE, RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=TOKEN)
    said = re.sub(r"its nodes: [\d.]+", "its nodes: IP", said)
    assert said == (
        f"Ray at {head.address!r}: this machine is not a node of the cluster (its nodes: IP)."
        f" Run the command on a node, make this machine one with `ray start "
        f"--address={head.address} --num-cpus=0`, or submit the command with `ray job submit`."
    )


AS_ANOTHER = """
import sys
import ray
ray.__version__ = {version!r}
from sweeper.cli import main
sys.argv[0] = "sweeper"
main()
"""


def test_another_version_of_ray_is_told(head: Head, tmp_path: Path) -> None:
    """The command pretends to be an older one; see also `docs/cluster`."""
    toy_grid(tmp_path)
    words = ["launch", str(tmp_path / "toy.yaml"), "--store", str(tmp_path / "s")]
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            AS_ANOTHER.format(version="2.54.0"),
            *words,
            "--address",
            head.address,
        ],
        capture_output=True,
        text=True,
        check=False,
        env=environment(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=TOKEN),
    )
    python = platform.python_version()
    assert (done.returncode, done.stdout) == (5, "")
    assert done.stderr == (
        f"error: Ray at {head.address!r}: the cluster runs Ray {ray.__version__} on Python {python}, "
        f"this command Ray 2.54.0 on Python {python}. Install the same versions here, or run the "
        "command in the environment of the cluster's nodes.\n"
    )


@pytest.mark.parametrize(
    ("address", "message"),
    [
        (
            "ray://127.0.0.1:10001",
            "address 'ray://127.0.0.1:10001': sweeper does not use Ray Client (ray://). Run the "
            "command on a node of the cluster with --address auto, or submit it with `ray job "
            "submit`.",
        ),
        ("127.0.0.1", "address '127.0.0.1' is invalid. Use local, auto or HOST:PORT."),
        ("127.0.0.1:99999", "address '127.0.0.1:99999' is invalid. Use local, auto or HOST:PORT."),
        (
            "127.0.0.1:1",
            "Ray at '127.0.0.1:1': Connection refused. Check the address and that the cluster is up.",
        ),
    ],
)
def test_an_address_without_a_cluster_is_told(address: str, message: str, tmp_path: Path) -> None:
    assert launched(tmp_path, address) == message


def test_a_machine_without_ray_has_no_auto(tmp_path: Path) -> None:
    if subprocess.run([*NAMESPACE, "true"], capture_output=True, check=False).returncode:
        pytest.skip("needs a PID namespace: the right of root")
    assert launched(tmp_path, "auto", *NAMESPACE) == (
        "Ray at 'auto': no Ray runs on this machine. Run the command on a node of the cluster, or "
        "start one with `ray start --head`."
    )


def test_the_right_address_says_whose_cluster_it_is(head: Head, tmp_path: Path) -> None:
    """And nothing is printed but what `sweeper` says."""
    toy_grid(tmp_path)
    words = ["launch", str(tmp_path / "toy.yaml"), "--store", str(tmp_path / "store")]
    done = subprocess.run(
        [sys.executable, "-m", "sweeper.cli", *words, "--address", head.address],
        capture_output=True,
        text=True,
        check=False,
        env=environment(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=TOKEN),
    )
    assert (done.returncode, done.stderr) == (0, "")
    first, second, *between, last = done.stdout.splitlines()
    versions = f"Ray {ray.__version__}, Python {platform.python_version()}"
    assert first == f"cluster {head.address} ({versions}): 1 node, 2 of 2 CPUs free"
    assert second == "12 trials: 0 done, 12 new, 0 failed; 2 packs on 2 CPUs"
    assert all("trials ended" in line for line in between)
    assert last == "12 trials: 12 done"


def test_a_plan_for_a_cluster_is_that_of_its_nodes(head: Head, tmp_path: Path) -> None:
    """On this machine 0.25 CPUs per pack leave room for more packs than on the head's two CPUs."""
    toy_grid(tmp_path)
    words = ["plan", str(tmp_path / "toy.yaml"), "resources.cpu=0.25", "resources.pack=1"]
    done = subprocess.run(
        [sys.executable, "-m", "sweeper.cli", *words, "--address", head.address],
        capture_output=True,
        text=True,
        check=False,
        env=environment(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=TOKEN, SWEEPER_STORE=str(tmp_path)),
    )
    assert (done.returncode, done.stderr) == (0, "")
    whose, plan, *_ = done.stdout.splitlines()
    assert whose.startswith(f"cluster {head.address} (Ray ")
    assert plan.startswith("12 trials: 0 done, 12 new, 0 failed; 12 packs on 8 CPUs, at most")


def test_a_plan_waits_for_no_node(head: Head, tmp_path: Path) -> None:
    toy_grid(tmp_path)
    words = ["plan", str(tmp_path / "toy.yaml"), "resources.cpu=3", "--address", head.address]
    done = subprocess.run(
        [sys.executable, "-m", "sweeper.cli", *words],
        capture_output=True,
        text=True,
        check=False,
        env=environment(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=TOKEN, SWEEPER_STORE=str(tmp_path)),
        timeout=60,
    )
    assert done.returncode == 5, done.stdout
    assert re.sub(r"[\d.]+ has 2", "IP has 2", done.stderr) == (
        "error: resources: cpu 3, gpu 0: no node of the cluster has room for one pack: IP has 2 "
        "CPUs. Lower resources.cpu or resources.gpu, or add a node.\n"
    )

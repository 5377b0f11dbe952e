"""The check of a cluster before this process joins it: what listens there, and may we join?

`ray.init` waits a minute for some of these mistakes, and prints lines of its own for others. Here
each one is an error of one line within some seconds. The questions go to the cluster's control
service (GCS) as plain gRPC calls with a deadline. Without the package grpc, which
``pip install 'sweeper[cluster]'`` brings, only the port is checked.
"""

from __future__ import annotations

import json
import os
import platform
import socket
from contextlib import closing
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import ray
from ray._private import services
from ray.exceptions import AuthenticationError

from sweeper.errors import ClusterError

if HAS_GRPC := find_spec("grpc") is not None:
    import grpc
    from ray._private.grpc_utils import init_grpc_channel
    from ray.core.generated import gcs_pb2, gcs_service_pb2, gcs_service_pb2_grpc

CONNECT_S = 5.0
"""Seconds to wait for a port to accept a connection, and for the first bytes of its answer."""

ASK_S = 10.0
"""Seconds to wait for an answer of the control service."""

HELLO = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
"""The bytes by which a gRPC client begins: the preface of HTTP/2, and empty settings."""

MAX_PORT = 65535

SETTINGS = 4
"""The type of the frame by which a gRPC server answers; it is the fourth byte."""

ACCESS = (
    "Copy the cluster's token to ~/.ray/auth_token (or name its file in RAY_AUTH_TOKEN_PATH), and "
    "set RAY_AUTH_MODE=token."
)

RIGHT_PORT = "Give the port of the cluster itself: 6379, unless `ray start` was given another one."


@dataclass(frozen=True, slots=True)
class Identity:
    """What a cluster says of itself.

    Attributes:
        address: HOST:PORT of its control service.
        ray: Version of Ray; "" if unknown.
        python: Version of Python; "" if unknown.
    """

    address: str
    ray: str = ""
    python: str = ""

    def __str__(self) -> str:
        """Return e.g. "10.0.0.1:6379 (Ray 2.60.0, Python 3.12.3)"."""
        return (
            f"{self.address} (Ray {self.ray}, Python {self.python})" if self.ray else self.address
        )


def shake_hands(address: str) -> Identity:
    """Return the identity of the cluster at `address`, ``auto`` or ``host:port``.

    Raises:
        ClusterError: This process can't join it.
    """
    if address == "auto":
        address = _running_here()
    host, port = _host_and_port(address)
    secure = os.environ.get("RAY_USE_TLS", "0").lower() not in ("", "0", "false")
    with closing(_connection(address, host, port)) as connection:
        if not secure:  # behind TLS nobody answers a plain greeting
            _check_protocol(address, connection)
    if not HAS_GRPC:
        return Identity(address)
    try:
        with closing(init_grpc_channel(address)) as channel:
            return _ask(address, channel)
    except grpc.RpcError as error:
        raise ClusterError(f"Ray at {address!r}: {_refusal(error)}") from None
    except AuthenticationError:
        raise ClusterError(
            f"Ray at {address!r}: RAY_AUTH_MODE is token, and this machine has no token. {ACCESS}"
        ) from None


def _running_here() -> str:
    """Return the address of the cluster that this machine is a node of."""
    try:
        return str(services.canonicalize_bootstrap_address_or_die("auto"))
    except (ConnectionError, RuntimeError):
        raise ClusterError(
            "Ray at 'auto': no Ray runs on this machine. Run the command on a node of the "
            "cluster, or start one with `ray start --head`."
        ) from None


def _host_and_port(address: str) -> tuple[str, int]:
    if address.startswith("ray://"):
        raise ClusterError(
            f"address {address!r}: sweeper does not use Ray Client (ray://). Run the command on a "
            "node of the cluster with --address auto, or submit it with `ray job submit`."
        )
    host, separator, port = address.rpartition(":")
    if not separator or not port.isdigit() or not 0 < int(port) <= MAX_PORT:
        raise ClusterError(f"address {address!r} is invalid. Use local, auto or HOST:PORT.")
    return host, int(port)


def _connection(address: str, host: str, port: int) -> socket.socket:
    try:
        return socket.create_connection((host, port), timeout=CONNECT_S)
    except (OSError, OverflowError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or error
        raise ClusterError(
            f"Ray at {address!r}: {reason}. Check the address and that the cluster is up."
        ) from None


def _check_protocol(address: str, connection: socket.socket) -> None:
    """Check that the server answers as one of gRPC does."""
    try:
        connection.sendall(HELLO)
        answer = b""
        while len(answer) < SETTINGS:
            answer += (more := connection.recv(1024))
            if not more:
                break
    except OSError:
        answer = b""
    if answer.startswith((b"HTTP/", b"<")):  # some answer an unknown version by a bare page
        raise ClusterError(
            f"Ray at {address!r}: a web server listens there, e.g. Ray's dashboard. {RIGHT_PORT}"
        )
    if len(answer) < SETTINGS or answer[SETTINGS - 1] != SETTINGS:
        raise ClusterError(f"Ray at {address!r}: another program listens there. {RIGHT_PORT}")


def _ask(address: str, channel: Any) -> Identity:
    """Return the identity of a cluster, asked through `channel`; check that we can join it."""
    nodes = gcs_service_pb2_grpc.NodeInfoGcsServiceStub(channel)
    values = gcs_service_pb2_grpc.InternalKVGcsServiceStub(channel)
    found = values.InternalKVGet(
        gcs_service_pb2.InternalKVGetRequest(key=b"CLUSTER_METADATA", namespace=b"cluster"),
        timeout=ASK_S,
    )
    metadata = json.loads(found.value) if found.value else {}
    identity = Identity(
        address, metadata.get("ray_version", ""), metadata.get("python_version", "")
    )
    _check_versions(identity)
    listed = nodes.GetAllNodeInfo(gcs_service_pb2.GetAllNodeInfoRequest(), timeout=ASK_S)
    alive = [n for n in listed.node_info_list if n.state == gcs_pb2.GcsNodeInfo.ALIVE]
    here = services.find_node_ids()
    if not any(node.node_id.hex() in here for node in alive):
        where = ", ".join(sorted({node.node_manager_address for node in alive})[:3])
        raise ClusterError(
            f"Ray at {address!r}: this machine is not a node of the cluster"
            f"{f' (its nodes: {where})' if where else ''}. Run the command on a node, make this "
            f"machine one with `ray start --address={address} --num-cpus=0`, or submit the command "
            "with `ray job submit`."
        )
    return identity


def _refusal(error: Any) -> str:
    """Return why a call failed, and what to do."""
    code = error.code()
    if code == grpc.StatusCode.UNAUTHENTICATED:
        if os.environ.get("RAY_AUTH_MODE", "").lower() != "token":
            return f"the cluster asks for a token, and none was sent. {ACCESS}"
        return f"the cluster refused the token of this machine. {ACCESS}"
    if code == grpc.StatusCode.UNIMPLEMENTED:
        return f"a server of another kind listens there, e.g. that of Ray Client. {RIGHT_PORT}"
    return (
        f"no answer ({code.name.lower().replace('_', ' ')}). Check the address and that the "
        "cluster is up."
    )


def _check_versions(identity: Identity) -> None:
    """Check that the cluster has this process's versions of Ray and Python.

    Ray refuses others, and tasks are sent as bytes that only the same version of Python reads.
    """
    theirs = (identity.ray, identity.python)
    ours = (ray.__version__, platform.python_version())
    if all(theirs) and theirs != ours:
        raise ClusterError(
            f"Ray at {identity.address!r}: the cluster runs Ray {theirs[0]} on Python {theirs[1]}, "
            f"this command Ray {ours[0]} on Python {ours[1]}. Install the same versions here, or "
            "run the command in the environment of the cluster's nodes."
        )

"""When Ray can't be started or joined, the remedy fits where it was to run."""

from __future__ import annotations

from typing import Any

import pytest

from sweeper.engine.handshake import Identity
from sweeper.engine.ray import Cluster
from sweeper.errors import ClusterError

LOCAL = (
    "Set RAY_TMPDIR to a short folder that can be written, e.g. RAY_TMPDIR=/tmp, and HOME to one "
    "that can be written, or use --inline."
)
JOINED = "Check the address, that the cluster is up, and RAY_AUTH_MODE and its token."


@pytest.mark.parametrize(("address", "remedy"), [("local", LOCAL), ("auto", JOINED)])
@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (OSError("AF_UNIX path length cannot exceed 107 bytes: /x/y"), None),
        (PermissionError(13, "Permission denied", "/nowhere/.ray"), None),
        (OSError(30, "Read-only file system", "/tmp/ray"), None),
        (RuntimeError("The node timed out.\nSee the logs."), "The node timed out"),
        (ConnectionError("refused"), None),
    ],
    ids=str,
)
def test_a_ray_that_cant_start_says_what_to_do(
    address: str, remedy: str, error: Exception, reason: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(**options: Any) -> None:
        raise error

    monkeypatch.setattr("ray.init", fail)
    monkeypatch.setattr("sweeper.engine.ray.shake_hands", Identity)
    with pytest.raises(ClusterError) as caught:
        Cluster(address).room(1, 0.5)
    assert str(caught.value) == f"Ray at {address!r}: {reason or error}. {remedy}"
    assert caught.value.exit_code == 5

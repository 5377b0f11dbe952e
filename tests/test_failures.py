"""What a user reads of packs that no worker could train."""

from __future__ import annotations

import pickle

import pytest
from ray.exceptions import RayTaskError

from sweeper.engine import trainer
from sweeper.engine.failures import Failure, PackError, raise_failures
from sweeper.engine.ray import _train_pack
from sweeper.errors import StoreError, StoreFullError, UsageError, WorkerError


def raised(error: Exception, ip: str = "10.0.0.7") -> Exception:
    """Return the error that the driver gets where a worker on the node `ip` raised `error`."""
    trace = f"ray::_train_pack() (pid=12, ip=10.0.0.255)\n{type(error).__name__}: {error}"
    cause = pickle.loads(pickle.dumps(PackError(type(error).__name__, str(error), ip)))
    raised: Exception = RayTaskError(
        "_train_pack", trace, cause, proctitle="ray::_train_pack", pid=12, ip=ip
    ).as_instanceof_cause()
    return raised


DIED = """The actor died unexpectedly before finishing this task.
\tclass_name: ImplicitFunc
\tpid: 91
\tip: 10.0.0.9
The actor is dead because its node has died."""


def test_a_failure_names_the_pack_the_node_and_the_error() -> None:
    missing = UsageError("trainable 'mine' can't be imported: No module named 'mine'. Install it.")
    assert Failure.of("a1", raised(missing)).line == (
        "pack a1 on node 10.0.0.7: UsageError: trainable 'mine' can't be imported: "
        "No module named 'mine'. Install it."
    )


def test_a_failure_of_a_worker_that_died_names_its_node() -> None:
    failure = Failure.of("a1", RuntimeError(DIED))
    assert failure.line == (
        "pack a1 on node 10.0.0.9: RuntimeError: The actor died unexpectedly before finishing "
        "this task."
    )


def test_a_failure_without_node_and_message_is_still_a_line() -> None:
    assert Failure.of("a1", OSError()).line == "pack a1: OSError: no message"


def test_a_node_may_have_an_ipv6_address() -> None:
    assert Failure.of("a1", raised(ValueError("x"), "fd00::1:2")).node == "fd00::1:2"


def test_no_failure_raises_nothing() -> None:
    raise_failures([])


@pytest.mark.parametrize(
    ("n", "more"), [(1, ""), (2, " (1 more pack failed.)"), (3, " (2 more packs failed.)")]
)
def test_several_failures_are_one_line(n: int, more: str) -> None:
    with pytest.raises(WorkerError) as error:
        raise_failures([Failure.of(f"a{k}", raised(ValueError("no"))) for k in range(n)])
    assert str(error.value) == f"pack a0 on node 10.0.0.7: ValueError: no{more}"
    assert error.value.exit_code == 4


@pytest.mark.parametrize("kind", [StoreError, StoreFullError])
def test_an_error_of_the_store_goes_before_all_others(kind: type[StoreError]) -> None:
    failures = [
        Failure.of("a0", raised(ValueError("no"))),
        Failure.of("a1", raised(kind("s3: full."))),
    ]
    with pytest.raises(StoreError) as error:
        raise_failures(failures)
    assert type(error.value) is kind
    assert str(error.value) == "s3: full."


class UnpicklableError(Exception):
    """An error as a user's module may define it: its class can't be called with its arguments."""

    def __init__(self, path: str, line: int) -> None:
        super().__init__(f"{path}:{line}: Error: odd")


def test_an_error_of_any_class_survives_the_way_from_the_worker(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def run_pack(task: object, **_: object) -> None:
        raise UnpicklableError("a.csv", 3)

    trainers: list[trainer.Trainer] = []
    monkeypatch.setattr(trainer, "_trainer", trainers)
    monkeypatch.setattr(trainer, "run_pack", run_pack)
    monkeypatch.setattr("ray.util.get_node_ip_address", lambda: "10.0.0.7")
    task = {"sweep": "s", "launch_id": "l", "pack_id": "a1"}
    with pytest.raises(PackError) as caught:
        _train_pack({"task": task})
    trainers[0].close()
    error = pickle.loads(pickle.dumps(caught.value))
    assert (error.kind, error.message) == ("UnpicklableError", "a.csv:3: Error: odd")
    line = Failure.of("a1", RayTaskError("_train_pack", "trace", error, pid=1, ip="x")).line
    assert line == "pack a1 on node 10.0.0.7: UnpicklableError: a.csv:3: Error: odd"

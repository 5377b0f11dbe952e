"""The fused loop: killed, resumed, carried on and compacted, it ends with the same bits."""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from sweeper.config.trial import Trial
from sweeper.criterion import RULES, Criterion
from sweeper.errors import PackTooLargeError, StoreError
from sweeper.packing import Pack
from sweeper.store.checkpoint import Saved
from sweeper.store.schema import logged_steps
from sweeper.trainables import grokking, loop
from sweeper.trainables.batch.weights import Buffer, Placement, Weights
from sweeper.trainables.config import GrokkingConfig
from sweeper.trainables.loop import _Loop
from tests.packs import (
    DENSE,
    MATRIX,
    MODULAR,
    SPARSE,
    STRICT,
    Memory,
    killed_and_resumed,
    pack,
    run,
    same,
    trial,
)

EASY = Criterion(metric="error", train=0.3, test=0.95)
EASY_ACC = Criterion(metric="acc", train=0.5, test=0.2)
L1 = {"regularizer.name": "l1", "regularizer.strength": 1e-3}


def sparse(count: int = 12, **more: Any) -> list[Trial]:
    given = SPARSE | L1 | {"model.init_scale": 1e-3}
    return [trial(given, i % 5, optimizer__lr=0.02 + 0.01 * i, **more) for i in range(count)]


def modular(count: int = 10, **more: Any) -> list[Trial]:
    return [trial(MODULAR, i % 5, optimizer__lr=0.005 + 0.002 * i, **more) for i in range(count)]


def dense() -> list[Trial]:
    given = DENSE | {"optimizer.batch": 7, "optimizer.constant_norm": True}
    return [trial(given, i % 5, optimizer__lr=0.01 + 0.003 * i) for i in range(10)]


def matrices(**more: str) -> list[Trial]:
    given = MATRIX | {"regularizer.name": "nuclear", "regularizer.strength": 1e-2}
    return [trial(given, i % 5, optimizer__lr=0.02 + 0.03 * i, **more) for i in range(12)]


MATRICES: dict[str, Any] = {
    "model__embedding": "matrix",
    "model__d": 16,
    "optimizer__batch": 16,
    "optimizer__drop_last": False,
}


def digits() -> list[Trial]:
    given = {
        "task.name": "digits",
        "task.N": 30,
        "task.N_test": 40,
        "model.width": 16,
        "optimizer.batch": 15,
    }
    return [trial(given, i % 5, optimizer__lr=0.001 + 0.0005 * i) for i in range(8)]


PACKS: dict[str, Callable[[], Pack[GrokkingConfig]]] = {
    "sparse": lambda: pack(sparse(), 100, EASY),
    "sparse adam": lambda: pack(sparse(optimizer__name="adam"), 100, EASY),
    "sign-free": lambda: pack(
        sparse(model__sign_free=True, model__depth=3, model__init_scale=0.2), 100, EASY
    ),
    "matrix": lambda: pack(matrices(), 100, EASY),
    "matrix svt": lambda: pack(matrices(optimizer__name="svt"), 100, EASY),
    "factorised": lambda: pack(
        matrices(model__name="factorised", optimizer__name="adam"), 100, EASY
    ),
    "sensing": lambda: pack(matrices(task__name="matrix_sensing"), 100, EASY),
    "dense": lambda: pack(dense(), 100, EASY),
    "digits": lambda: pack(digits(), 100, EASY_ACC),
    "modular": lambda: pack(modular(), 100, EASY_ACC),
    "modular batches": lambda: pack(modular(optimizer__batch=7), 100, EASY_ACC),
    "modular matrix": lambda: pack(modular(**MATRICES), 100, EASY_ACC),
}


@pytest.mark.parametrize("kind", PACKS)
@pytest.mark.parametrize("kill_at", [0, 1, 10, 11, 33, 71, 80])
def test_a_pack_killed_at_a_checkpoint_ends_as_if_nobody_had(kind: str, kill_at: int) -> None:
    make = PACKS[kind]
    undisturbed = run(make())
    if max(steps for _, _, steps in undisturbed.ends.values()) <= kill_at:
        pytest.skip("all trials had ended before")
    resumed = killed_and_resumed(make, kill_at)
    same(resumed, undisturbed, make().trials)
    assert resumed.rows.keys() == undisturbed.rows.keys()


@pytest.mark.parametrize("kind", PACKS)
def test_trials_end_at_different_steps_or_the_other_tests_say_little(kind: str) -> None:
    ends = run(PACKS[kind]()).ends
    assert len({steps for _, _, steps in ends.values()}) >= 3


def states(payload: bytes | None) -> dict[str, tuple[int, list[bytes]]]:
    """Return trial to (its step, its tensors) of a checkpoint."""
    assert payload is not None
    content = torch.load(io.BytesIO(payload), weights_only=True)
    return {
        trial_id: (
            int(content["steps"][i]),
            [t[i].numpy().tobytes() for _, t in sorted(content["state"].items())],
        )
        for i, trial_id in enumerate(content["trial_ids"])
    }


@pytest.mark.parametrize("kind", PACKS)
def test_the_final_states_of_trials_that_ended_before_a_kill_are_kept(kind: str) -> None:
    undisturbed = run(PACKS[kind]())
    steps = sorted(steps for _, _, steps in undisturbed.ends.values())
    resumed = killed_and_resumed(PACKS[kind], steps[2])
    assert states(resumed.saved) == states(undisturbed.saved)
    for trial_id, (step, _) in states(resumed.saved).items():
        assert step == undisturbed.ends[trial_id][2]


@pytest.mark.parametrize("kind", PACKS)
def test_trials_carried_on_from_where_they_ended_equal_longer_ones(kind: str) -> None:
    short = run(PACKS[kind]())
    trials = PACKS[kind]().trials
    longer = run(pack(trials, 200, STRICT.model_copy(update={"metric": "loss", "train": -1.0})))
    assert short.saved is not None
    groups: dict[int, list[Trial]] = {}
    for t in trials:  # the engine makes a pack of those that stopped at the same step
        groups.setdefault(short.ends[t.id][2], []).append(t)
    assert len(groups) >= 3
    for group in groups.values():
        saved = Saved(short.saved, tuple(t.id for t in group))
        memory = Memory(start_from=[saved], rows=dict(short.rows))
        unreachable = STRICT.model_copy(update={"metric": "loss", "train": -1.0})
        run(
            Pack("carried on", tuple(group), GrokkingConfig, pack(group, 200, unreachable).run),
            memory,
        )
        same(memory, longer, group)


def test_a_pack_can_go_on_from_several_checkpoints() -> None:
    trials = sparse(6)
    parts = [run(pack(trials[:2], 50)), run(pack(trials[2:], 50))]
    saved = [
        Saved(part.saved or b"", tuple(t.id for t in chosen))
        for part, chosen in zip(parts, (trials[:2], trials[2:]), strict=True)
    ]
    rows = parts[0].rows | parts[1].rows
    same(run(pack(trials, 120), Memory(saved, rows=rows)), run(pack(trials, 120)), trials)


def test_compaction_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    built: list[_Loop] = []
    rebuild = _Loop._rebuild

    def counted(self: _Loop) -> None:
        built.append(self)
        rebuild(self)

    monkeypatch.setattr(_Loop, "_rebuild", counted)
    rebuilt = set()
    for kind, make in PACKS.items():
        del built[:]
        compacted = run(make())
        if len(built) > 1:
            rebuilt.add(kind)
        with monkeypatch.context() as patch:
            patch.setattr(_Loop, "_compact", lambda self: None)
            same(run(make()), compacted, make().trials)
    assert len(rebuilt) >= 3


def test_a_killed_trial_that_had_diverged_is_still_told_so_at_the_horizon() -> None:
    def make() -> Pack[GrokkingConfig]:
        trials = sparse(4)
        values = {**trials[0].values, "optimizer.lr": 1e9}
        bad = Trial.of(GrokkingConfig, values, 0, trainable="trainables.grokking")
        return pack([bad, *trials], 95, diverged=False)

    steps = logged_steps(20, 95)
    assert steps[-1] < 95, "the horizon itself isn't logged"
    resumed = killed_and_resumed(make, 94)
    assert resumed.ends == run(make()).ends
    assert resumed.ends[make().trials[0].id] == ("diverged", steps[-1], 95)


@pytest.mark.parametrize("rule", sorted(set(RULES) - {"threshold"}))
def test_a_trial_is_censored_where_only_its_whole_curve_could_tell(rule: str) -> None:
    given = {"train": 1.0, "test": 1.0} if rule == "relative" else {}
    criterion = Criterion.model_validate({"metric": "acc", "rule": rule, **given})
    ends = run(pack(modular(3), 30, criterion, after_generalization=False)).ends
    assert {status for status, _, _ in ends.values()} == {"censored"}
    assert {steps for _, _, steps in ends.values()} == {30}


def test_a_trial_stops_at_the_first_logged_step_at_which_it_has_done_both() -> None:
    memory = run(PACKS["modular"]())
    found = 0
    for trial_id, (status, last, steps) in memory.ends.items():
        held = EASY_ACC.train_holds(memory.column(trial_id, "train_acc")).any()
        held &= EASY_ACC.test_holds(memory.column(trial_id, "test_acc")).any()
        assert (status == "generalized") == held
        found += bool(held)
        assert steps == last if status == "generalized" else steps == 100
        before = EASY_ACC.test_holds(memory.column(trial_id, "test_acc")[:-1]).any()
        before_train = EASY_ACC.train_holds(memory.column(trial_id, "train_acc")[:-1]).any()
        assert not (before and before_train)
    assert found


def test_a_criterion_that_the_task_knows_nothing_of_never_holds() -> None:
    memory = run(pack(sparse(2), 30, Criterion(metric="acc", train=0.0, test=0.0)))
    assert {status for status, _, _ in memory.ends.values()} == {"censored"}


class Evil:
    """Unpickled, it would make a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("how", ["torch", "pickle"])
def test_a_checkpoint_that_would_execute_code_is_refused(tmp_path: Path, how: str) -> None:
    evil = Evil(tmp_path / "executed")
    if how == "torch":
        buffer = io.BytesIO()
        torch.save({"version": 1, "evil": evil}, buffer)
        payload = buffer.getvalue()
    else:
        payload = pickle.dumps(evil, protocol=2)
    trials = sparse(1)
    with pytest.raises(StoreError, match="cannot be read"):
        run(pack(trials), Memory([Saved(payload, (trials[0].id,))]))
    assert not (tmp_path / "executed").exists()


def test_a_checkpoint_of_a_newer_program_is_refused_with_a_remedy() -> None:
    buffer = io.BytesIO()
    torch.save({"version": loop.PAYLOAD_VERSION + 1}, buffer)
    trials = sparse(1)
    newer = loop.PAYLOAD_VERSION + 1
    with pytest.raises(StoreError, match=rf"has version {newer}, .* Upgrade sweeper\."):
        run(pack(trials), Memory([Saved(buffer.getvalue(), (trials[0].id,))]))


def test_weights_that_were_saved_with_their_padding_are_taken_up() -> None:
    place: Placement = {"dtype": torch.float64, "device": "cpu"}
    old, new = (Weights((2, 8), [(5,)], [(n,)], **place) for n in (8, 24))
    buffers = {"value": Buffer(old.value, [old.each[0].value])}
    for name in ("m", "v"):
        buffers[name] = old.keep(name)
        new.keep(name)
    g = torch.Generator().manual_seed(0)
    for kind in buffers.values():
        kind.flat.copy_(torch.randn(len(kind.flat), generator=g, dtype=torch.float64))
        kind.each[0][..., 5:] = 0.0
    rows = torch.tensor([1, 12])
    padded = {f"{name}.0": b.each[0].flatten(0, 1)[rows] for name, b in buffers.items()}
    new.load(rows, padded)
    again = new.saved(rows)
    assert again.keys() == padded.keys()
    for name, tensor in again.items():
        assert tensor.equal(padded[name][:, :5])
        assert tensor.any()


def with_second_moment(payload: bytes | None) -> bytes:
    """Return a checkpoint of momentum as earlier code saved it."""
    content = torch.load(io.BytesIO(payload or b""), weights_only=True)
    assert content["state"].keys() == {"value.0", "m.0"}
    content["state"]["v.0"] = torch.zeros_like(content["state"]["m.0"])
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


HEAVY: dict[str, Any] = {"optimizer__name": "sgd", "optimizer__momentum": 0.5}


def test_a_second_moment_that_momentum_once_saved_is_not_read() -> None:
    def make() -> Pack[GrokkingConfig]:
        return pack(sparse(**HEAVY), 100, EASY)

    undisturbed = run(make())
    ended = sorted(steps for _, _, steps in undisturbed.ends.values())
    first = run(make(), Memory(kill_at=ended[2]))
    whole = make()
    left = tuple(t for t in whole.trials if t.id not in first.ends)
    assert 0 < len(left) < len(whole.trials)
    saved = Saved(with_second_moment(first.saved), tuple(t.id for t in left))
    second = Memory([saved], rows=dict(first.rows), ends=dict(first.ends))
    run(Pack(whole.id, left, whole.config_type, whole.run), second)
    same(second, undisturbed, whole.trials)
    assert states(second.saved) == states(undisturbed.saved)


def test_a_pack_can_go_on_from_checkpoints_with_and_without_a_second_moment() -> None:
    trials = sparse(6, **HEAVY)
    parts = [run(pack(trials[:2], 50)), run(pack(trials[2:], 50))]
    payloads = [with_second_moment(parts[0].saved), parts[1].saved or b""]
    saved = [
        Saved(payload, tuple(t.id for t in chosen))
        for payload, chosen in zip(payloads, (trials[:2], trials[2:]), strict=True)
    ]
    rows = parts[0].rows | parts[1].rows
    same(run(pack(trials, 120), Memory(saved, rows=rows)), run(pack(trials, 120)), trials)


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory")]
)
def test_a_pack_without_room_is_told_apart_from_a_failure(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def refuse(*args: object) -> None:
        raise error

    monkeypatch.setattr(loop, "_blocks", refuse)
    with pytest.raises(PackTooLargeError):
        run(pack(sparse(1)))
    monkeypatch.setattr(loop, "_blocks", lambda *args: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run(pack(sparse(1)))


def tensors(thing: Any, seen: dict[int, int]) -> dict[int, int]:
    """Return address to bytes of every storage that `thing` holds on to."""
    if isinstance(thing, torch.Tensor):
        storage = thing.untyped_storage()
        seen[storage.data_ptr()] = storage.nbytes()
    elif isinstance(thing, dict):
        for value in thing.values():
            tensors(value, seen)
    elif isinstance(thing, list | tuple):
        for value in thing:
            tensors(value, seen)
    elif type(thing).__module__.startswith("sweeper.trainables."):
        names = getattr(thing, "__slots__", None) or vars(thing)
        tensors([getattr(thing, name) for name in names], seen)
    return seen


BIG = {"task.name": "modular_arithmetic"}
WIDE = {"task.name": "sparse_recovery", "task.N": 40, "model.sign_free": True}


@pytest.mark.parametrize(
    ("given", "count"),
    [
        (BIG, 8),
        (BIG, 32),
        (BIG, 64),
        (BIG | {"model.depth": 3, "dtype": "float64"}, 16),
        (BIG | {"optimizer.name": "sgd", "task.p": 31}, 16),
        ({"task.name": "digits", "optimizer.batch": 50}, 8),
        ({"task.name": "mnist", "optimizer.batch": 100, "dtype": "float64"}, 8),
        (BIG | {"model.embedding": "matrix", "task.p": 31, "optimizer.batch": 256}, 16),
        ({"task.name": "toy_addition"}, 8),
        ({"task.name": "sparse_recovery"}, 16),
        (WIDE, 8),
        (WIDE | {"model.depth": 3}, 8),
        (WIDE | {"optimizer.name": "adam", "task.n": 300}, 8),
        ({"task.name": "sparse_recovery", "optimizer.name": "projected", "task.n": 500}, 8),
    ],
)
def test_the_memory_of_a_trial_is_known_within_a_factor_of_two(
    given: dict[str, Any], count: int
) -> None:
    trials = [trial(given, seed) for seed in range(count)]  # no data shared: the worst case
    held = sum(tensors(loop._blocks(pack(trials), range(count)), {}).values()) / count
    claimed = grokking.memory_bytes(trials[0].config(GrokkingConfig))
    assert held / 2 <= claimed <= held * 2

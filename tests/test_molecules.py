"""Molecules: their graphs, which are drawn, and message passing against torch's modules."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from sweeper.compile.loading import load_grid
from sweeper.errors import ConfigError, UsageError
from sweeper.trainables import grokking, loop
from sweeper.trainables.config import GrokkingConfig
from sweeper.trainables.config import molecules as config
from sweeper.trainables.data import molecules
from sweeper.trainables.data.examples import Examples
from sweeper.trainables.data.molecules import described, graph, library
from sweeper.trainables.networks.block import NetworkBlock
from sweeper.trainables.networks.message_passing import MessagePassingNetwork
from sweeper.trainables.networks.qm9 import data_of, graphs
from tests.packs import killed_and_resumed, pack, run, same, trial
from tests.test_loop import tensors

SMALL = {
    "task.name": "qm9",
    "task.N": 12,
    "task.N_test": 8,
    "task.first": 40,
    "model.first": 16,
    "model.second": 8,
    "model.bond": 8,
    "model.head": 8,
    "optimizer.batch": 5,
    "optimizer.lr": 1e-2,
}
RDKIT = pytest.mark.skipif(find_spec("rdkit") is None, reason="rdkit isn't installed")


def inputs(examples: Examples) -> list[Tensor]:
    found = [part for part in examples.inputs if isinstance(part, Tensor)]
    assert len(found) == 3
    return found


def test_hydrogens_are_atoms_of_their_own() -> None:
    methane = graph("C/3/4", "")
    assert methane.atoms.tolist() == [
        [0, 1, 0, 0, 0, 6, 0, 0, 0, 1, 4],
        *[[1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0]] * 4,
    ]
    assert methane.bonds.tolist() == [[0, 1, 1, 1, 1], *[[1, 0, 0, 0, 0]] * 4]


def test_bonds_have_a_type_and_no_direction() -> None:
    nitrile = graph("N/1/0 C/1/0 C/3/3", "0#1 1-2")
    assert nitrile.bonds[:3, :3].tolist() == [[0, 3, 0], [3, 0, 1], [0, 1, 0]]
    assert nitrile.atoms[:3, 7:].tolist() == [[1, 0, 0, 0], [1, 0, 0, 0], [0, 0, 1, 3]]
    furan = graph("o/2/0 c/2/1 c/2/1 c/2/1 c/2/1", "0:1 1:2 2:3 3:4 4:0")
    assert (furan.bonds == 4).sum() == 10
    assert furan.atoms[:, 6].tolist() == [1] * 5 + [0] * 4
    assert np.array_equal(furan.bonds, furan.bonds.T)


def test_what_ships_is_the_beginning_of_qm9() -> None:
    found = library("first_thousand", None)
    assert len(found.described) == len(found.target) == config.FIRST
    assert found.target[:3].tolist() == [13.21, 9.46, 6.31], "methane, ammonia, water"
    sizes = [len(found.molecule(i).atoms) for i in range(config.FIRST)]
    assert sizes[:8] == [5, 4, 3, 4, 3, 4, 8, 6]
    assert library("first_thousand", None) is found, "read once a process"
    for n, most in config.ATOMS[:2]:
        assert most - 8 < max(sizes[:n]) <= most


def test_train_and_test_molecules_are_drawn_from_the_first_ones_by_the_seed() -> None:
    data, other = (data_of(trial(SMALL, seed)) for seed in (3, 4))
    assert data_of(trial(SMALL, 3, optimizer__lr=0.5)) is data
    plain = {"task__standardized": False}
    mine = data_of(trial(SMALL, 3, **plain))
    drawn = torch.cat([mine.train.targets, mine.test.targets]).flatten().tolist()
    known = library("first_thousand", None).target[:40].tolist()
    assert len(drawn) == 20
    assert all(drawn.count(y) <= known.count(y) for y in drawn)
    assert not torch.equal(data.train.targets, other.train.targets)
    fewer = data_of(trial(SMALL, 3, task__N=5, **plain))
    assert torch.equal(fewer.train.targets, mine.train.targets[:5])
    assert torch.equal(fewer.test.targets, mine.test.targets)
    first = data_of(trial(SMALL, 3, task__first=None, **plain))
    both = torch.cat([first.train.targets, first.test.targets]).flatten().tolist()
    assert sorted(both) == sorted(known[:20])


def test_targets_are_standardized_by_the_train_molecules_alone() -> None:
    plain, standard = (data_of(trial(SMALL, 1, task__standardized=way)) for way in (False, True))
    mean, deviation = plain.train.targets.mean(), plain.train.targets.std(correction=0)
    for side in ("train", "test"):
        expected = (getattr(plain, side).targets - mean) / deviation
        torch.testing.assert_close(getattr(standard, side).targets, expected)
    assert float(standard.train.targets.mean()) == pytest.approx(0, abs=1e-12)


GRID = """
name: molecules
fixed: {{task: {{name: qm9, {task}}}, steps: 5}}
grid: {{product: {{model.init_scale: [1, 2]}}}}
seeds: 1
"""


@pytest.mark.parametrize(
    ("task", "message"),
    [
        ("N: 900, N_test: 101", "1000 molecules of QM9 ship with sweeper, 130831 with qm9pack"),
        ("first: 1001", "1000 molecules of QM9 ship with sweeper, 130831 with qm9pack"),
        ("N: 10, N_test: 10, first: 19", "the examples are drawn from the first ones. Raise"),
        ("source: qm9pack", r"read with rdkit\. Install them with pip install 'sweeper\[mol"),
        ("path: mine.csv", "Set task.path to an absolute path"),
    ],
)
def test_what_there_isnt_is_said_before_anything_starts(
    task: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(config, "installed", lambda *packages: False)
    file = tmp_path / "g.yaml"
    file.write_text(GRID.format(task=task))
    with pytest.raises(ConfigError, match=message):
        load_grid(file, [])


def test_without_rdkit_no_smiles_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(molecules, "find_spec", lambda name: None)
    for wanted in (lambda: described("C"), lambda: library("first_thousand", "/mine.csv")):
        with pytest.raises(UsageError, match=r"with rdkit\. Install it with pip install 'sweep"):
            wanted()
    with pytest.raises(UsageError, match=r"task\.source = qm9pack: the package is not installed"):
        library.__wrapped__("qm9pack", None)


@RDKIT
def test_what_ships_is_what_rdkit_makes_of_the_smiles() -> None:
    lines = molecules.SHIPPED.read_text().splitlines()[1:]
    for line in lines[::25]:
        _, smiles, atoms, bonds, _ = line.split(",")
        assert described(smiles) == (atoms, bonds)


@RDKIT
def test_a_file_of_ones_own_is_read_with_rdkit(tmp_path: Path) -> None:
    file = tmp_path / "mine.csv"
    file.write_text("smiles,polarizability\nC,13.21\nC1=COC=C1,40\n")
    found = library.__wrapped__("first_thousand", str(file))
    assert len(found.molecule(1).atoms) == 9
    file.write_text("smiles,polarizability\nC[Si],13.21\n")
    with pytest.raises(UsageError, match="Si is none of H, C, N, O, F"):
        library.__wrapped__("first_thousand", str(file)).molecule(0)


@pytest.mark.parametrize("content", ["smiles,alpha\nC,1\n", "smiles,polarizability\nC,much\n"])
def test_an_unusable_file_is_named(
    content: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(molecules, "_rdkit", lambda: None)
    file = tmp_path / "mine.csv"
    with pytest.raises(UsageError, match=r"mine\.csv: no such file"):
        library.__wrapped__("first_thousand", str(file))
    file.write_text(content)
    with pytest.raises(UsageError, match="a csv file with the columns smiles and polarizability"):
        library.__wrapped__("first_thousand", str(file))


class Round(nn.Module):
    """A round of messages, bond by bond, as torch-geometric's NNConv does it."""

    def __init__(self, a: int, c: int, bond: int) -> None:
        super().__init__()
        self.inner, self.outer = nn.Linear(4, bond), nn.Linear(bond, a * c)
        self.own = nn.Linear(a, c, bias=False)
        self.bias = nn.Parameter(torch.zeros(c))

    def forward(self, x: Tensor, bonds: Tensor) -> Tensor:
        a, c = x.shape[1], len(self.bias)
        received = []
        for i in range(len(x)):
            total = torch.zeros(c, dtype=x.dtype)
            for j in range(len(x)):
                if bonds[i, j]:
                    kind = nn.functional.one_hot(bonds[i, j].long() - 1, 4).to(x)
                    theta = self.outer(torch.relu(self.inner(kind))).view(a, c)
                    total = total + x[j] @ theta
            received.append(total)
        return torch.relu(self.own(x) + torch.stack(received) + self.bias)


class Peer(nn.Module):
    """The network as one writes it first."""

    def __init__(self) -> None:
        super().__init__()
        self.rounds = nn.ModuleList([Round(11, 16, 8), Round(16, 8, 8)])
        self.inner, self.last = nn.Linear(8, 8), nn.Linear(8, 1)

    def forward(self, x: Tensor, bonds: Tensor) -> Tensor:
        for one in self.rounds:
            x = one(x, bonds)
        found: Tensor = self.last(torch.relu(self.inner(x.sum(dim=0))))
        return found

    def ordered(self) -> list[Tensor]:
        """Return the parameters in the order of `config.message_passing`."""
        found: list[Tensor] = []
        for one in self.rounds:
            assert isinstance(one, Round)
            found += [one.inner.weight, one.inner.bias, one.outer.weight, one.outer.bias]
            found += [one.own.weight, one.bias]
        return [*found, self.inner.weight, self.inner.bias, self.last.weight, self.last.bias]


def block_of(*trials: object) -> NetworkBlock:
    made = loop._blocks(pack(list(trials)), range(len(trials)))[0]  # type: ignore[arg-type]
    assert isinstance(made, NetworkBlock)
    return made


def test_a_trial_learns_as_the_modules_of_torch_do() -> None:
    given = SMALL | {"dtype": "float64", "model.init_scale": 1.5}
    block = block_of(*(trial(given, seed, optimizer__batch=None) for seed in range(3)))
    row, peer = 1, Peer().double()
    with torch.no_grad():
        for own, parameter in zip(block.weights.each, peer.ordered(), strict=True):
            parameter.copy_(own.real(own.value)[row])
    optimizer = torch.optim.Adam(peer.parameters(), lr=1e-2)
    examples = data_of(trial(given, row)).train
    atoms, bonds, there = inputs(examples)
    for step in range(5):
        optimizer.zero_grad()
        outputs = torch.stack(
            [
                peer(x[: int(n), :11], b[: int(n), : int(n)])
                for x, b, n in zip(atoms, bonds, there.sum(dim=1), strict=True)
            ]
        )
        loss = nn.functional.mse_loss(outputs, examples.targets)
        assert float(block.metrics()["train_loss"][row]) == pytest.approx(float(loss.detach()))
        torch.autograd.backward(loss)
        optimizer.step()
        block.step(step)
    for own, parameter in zip(block.weights.each, peer.ordered(), strict=True):
        torch.testing.assert_close(
            own.real(own.value)[row], parameter.detach(), rtol=1e-7, atol=1e-10
        )


def test_more_padding_changes_nothing() -> None:
    values = trial(SMALL, 0).values
    net = MessagePassingNetwork(values)
    weights = [torch.zeros(1, *full, dtype=torch.float64) for full in net.held()]
    for weight, start in zip(weights, net.base(0), strict=True):
        weight[0][tuple(slice(n) for n in start.shape)] = start
    known = library("first_thousand", None)
    some = [known.molecule(i) for i in (0, 5, 30)]
    few, many = (
        net.forward(weights, [part[None] for part in graphs(some, size)]) for size in (16, 32)
    )
    torch.testing.assert_close(few, many, rtol=1e-13, atol=1e-13)
    turned = [type(m)(m.atoms[::-1].copy(), m.bonds[::-1, ::-1].copy()) for m in some]
    again = net.forward(weights, [part[None] for part in graphs(turned, 16)])
    torch.testing.assert_close(few, again, rtol=1e-13, atol=1e-13)


def test_weights_start_as_those_of_torch() -> None:
    block = block_of(trial(SMALL | {"model.bond": 64}, 0))
    peer = Peer()
    for own, parameter in zip(block.weights.each, peer.ordered(), strict=True):
        value = own.real(own.value)[0]
        if value.shape == parameter.shape and not parameter.any():
            assert not value.any()
    outer = block.weights.each[2]
    found = outer.real(outer.value)[0]
    assert float(found.abs().max()) <= 1 / 8
    assert float(found.std()) == pytest.approx(1 / 8 / 3**0.5, rel=0.03)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_trial_learns_the_same_alone_and_in_any_company(dtype: str) -> None:
    trials = [trial(SMALL, i % 3, dtype=dtype, model__init_scale=1.0 + i / 2) for i in range(7)]
    alone = [run(pack([t], 12)) for t in trials]
    for size in (3, 7):
        together = run(pack(trials[:size], 12))
        for t, one in zip(trials, alone[:size], strict=False):
            same(together, one, [t])


def test_a_pack_killed_within_an_epoch_ends_as_if_nobody_had() -> None:
    trials = [trial(SMALL, i % 3, model__init_scale=1.0 + i / 2) for i in range(4)]
    resumed = killed_and_resumed(lambda: pack(trials, 12), 7)
    same(resumed, run(pack(trials, 12)), trials)


@pytest.mark.parametrize("more", [{"task.N": 100, "task.N_test": 50}, {"model.first": 64}])
def test_the_memory_of_a_trial_is_known_within_a_factor_of_two(more: dict[str, object]) -> None:
    given = {"task.name": "qm9", "optimizer.batch": None, **more}
    trials = [trial(given, seed) for seed in range(4)]
    block = block_of(*trials)
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        block.step(0)
    held = (sum(tensors(block, {}).values()) + sum(kept.values())) / len(trials)
    claimed = grokking.memory_bytes(trials[0].config(GrokkingConfig))
    assert held / 2 <= claimed <= held * 2

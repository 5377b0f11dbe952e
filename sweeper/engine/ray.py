"""The launcher on Ray: one Tune trial per pack, in reused actors, without any output of Ray.

A worker reads its pack from the store and writes all results there, so the state of Tune
(`sweeper.engine.tune`) is temporary. A pack whose worker or node dies is retried. An error of a
trial never reaches Ray (`sweeper.engine.worker`, `sweeper.engine.trainer`).

Every run of Tune starts its own workers, which first import torch. The short rounds of a search or
a refinement therefore run as plain Ray tasks, whose idle workers stay alive between rounds.

A small launch is mostly start-up. Tune is therefore imported while Ray starts, and its actors use
the workers that Ray has already started.
"""

from __future__ import annotations

import atexit
import logging
import os
import shutil
import signal
import tempfile
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
os.environ.setdefault("RAY_DEDUP_LOGS", "0")
os.environ.setdefault("RAY_enable_autoscaler_v2", "1")  # the old one takes a second to end

import psutil
import ray
from ray._private import ray_constants, utils, worker
from ray.autoscaler.sdk import request_resources
from ray.exceptions import RayError

from sweeper.engine.cluster import (
    Packs,
    Room,
    alive_nodes,
    autoscaler_config,
    room_on,
    wait_for_room,
    worker_types,
)
from sweeper.engine.cluster_messages import introduction
from sweeper.engine.driver import Runner
from sweeper.engine.failures import RETRIES, Failure, PackError, Retries, raise_failures
from sweeper.engine.handshake import Identity, shake_hands
from sweeper.engine.loopback import on_loopback
from sweeper.engine.node_check import ask_nodes
from sweeper.engine.preflight import raise_lacks
from sweeper.engine.resources import check_gpu, device, local_cpus, no_room, slots, token_file
from sweeper.engine.task import PackTask
from sweeper.engine.trainer import RaisedError, train
from sweeper.engine.tune import load_tune
from sweeper.engine.watch import Answer, Watch, end_leftovers, record_in, watched
from sweeper.errors import ClusterError, ClusterLostError
from sweeper.grid.grid import Grid

OBJECT_STORE = 80 << 20
"""Bytes of the local object store, which is hardly used."""


def _train_pack(config: dict[str, Any]) -> dict[str, Any]:
    node = ray.util.get_node_ip_address()
    try:
        train(PackTask(**config["task"]))
    except RaisedError as error:
        raise PackError(error.kind, error.message, node) from error
    except Exception as error:
        raise PackError(type(error).__name__, str(error), node) from error
    return {"done": True}


class Cluster:
    """A connection to Ray; use it as a context manager.

    Args:
        address: ``local`` starts Ray on this machine and shuts it down afterwards. ``auto`` and
            ``host:port`` join a running cluster, which keeps running.
        store: URI of the store, which all nodes need; None if unknown.
        say: Called with messages about the cluster.
    """

    def __init__(
        self,
        address: str = "local",
        *,
        store: str | None = None,
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.address = address
        self._store = store
        self._say = say
        self.identity = Identity(address)
        self._ours = False
        self._started: list[psutil.Process] = []
        self._watch: Watch | None = None

    def __enter__(self) -> Cluster:
        return self

    def _connect(self) -> None:
        if ray.is_initialized():
            return
        local = self.address == "local"
        if not local:
            self.identity = shake_hands(self.address)
        options: dict[str, Any] = (
            {
                "address": "local",
                "include_dashboard": False,
                "object_store_memory": OBJECT_STORE,
                "num_cpus": local_cpus(),
            }
            if local
            else {"address": self.address}
        )
        if _lost:
            raise ClusterLostError(
                f"{_lost[0]} This process can't use Ray any more: start another."
            )
        before = set(psutil.Process().children())
        try:
            with (
                warnings.catch_warnings(),
                _our_handler_of_sigterm(),
                on_loopback(ray_constants, local),
            ):
                warnings.simplefilter("ignore")
                ray.init(log_to_driver=False, logging_level=logging.ERROR, **options)
        except (ConnectionError, RayError, RuntimeError, ValueError, OSError) as error:
            reason = str(error).strip().split("\n")[0].rstrip(".")
            raise ClusterError(f"Ray at {self.address!r}: {reason}. {self._remedy()}") from None
        self._ours = True
        vars(worker)["print_to_stdstream"] = lambda *_, **__: None  # it prints what we say, too
        self._started = [p for p in psutil.Process().children() if p not in before]
        self._watch = self._watching()
        _protect_token()

    def _watching(self) -> Watch:
        """Return a watch over the processes of Ray that this driver depends on."""
        roles = {"raylet": "raylet", "gcs_server": "control service"}
        if self.address == "local":
            ours = {roles[p.name()]: p for p in self._started if p.name() in roles}
            folder = Path(worker.global_worker.node.get_session_dir_path()).parent
            end_leftovers(folder)
            return Watch("Ray on this machine", ours, {}, record_in(folder))
        head, _, port = gcs_address().rpartition(":")
        here = ray.get_runtime_context().get_node_id()
        node = next(one for one in ray.nodes() if one["NodeID"] == here)
        raylet = node["NodeManagerAddress"], node["NodeManagerPort"]
        servers = {"head": (head, int(port)), "raylet": raylet}
        return Watch(f"Ray at {self.address!r}", {}, servers)

    def _watched(self, work: Callable[..., Answer], *args: Any) -> Answer:
        """Return what ``work(*args)`` returns.

        Raises:
            ClusterLostError: The cluster was lost.
        """
        if self._watch is None:  # the caller of the API has connected
            return work(*args)
        try:
            return watched(self._watch, work, *args)
        except ClusterLostError as error:
            _lost.append(str(error))
            raise

    def _remedy(self) -> str:
        """Return what to do when Ray can't be started or joined."""
        if self.address == "local":
            return (
                "Set RAY_TMPDIR to a short folder that can be written, e.g. RAY_TMPDIR=/tmp, and "
                "HOME to one that can be written, or use --inline."
            )
        return "Check the address, that the cluster is up, and RAY_AUTH_MODE and its token."

    def room(
        self, cpu: float, gpu: float, most: int | None = None, wait_s: float | None = None
    ) -> Room:
        """Return the room for packs with these resources; wait for nodes of a cluster that grows.

        Args:
            cpu: CPUs of a pack.
            gpu: GPUs of a pack.
            most: The most packs of the launch at the same time.
            wait_s: The most seconds to wait for a node with room; None for some minutes.

        Raises:
            ClusterError: The cluster can't be reached, or no node has room for one pack.
        """
        wanted = Packs(cpu, gpu, most)
        if self.address != "local":
            self._connect()
            config = autoscaler_config(gcs_address())
            alive = alive_nodes(ray.nodes())
            types = worker_types(config, alive) if config else []
            about = str(self.identity), alive, ray.available_resources(), types
            for sentence in introduction(*about, wanted, self._store):
                self._say(sentence)
            return wait_for_room(
                self.address,
                wanted,
                listed=ray.nodes,
                autoscaler=config,
                demand=_demand,
                say=self._say,
                wait_s=wait_s,
            )
        if not ray.is_initialized() and not gpu:
            fits = slots(local_cpus(), cpu)
        else:
            self._connect()
            alive = alive_nodes(ray.nodes())
            if gpu and not any(node.gpus for node in alive):
                raise ClusterError(
                    f"resources.gpu = {gpu:g}: Ray found no GPU on this machine, though torch did. "
                    "Use --inline, or set resources.gpu=0 to train on CPUs."
                )
            fits = room_on(alive, [], wanted).now
        if fits < 1:
            raise no_room(cpu, gpu)
        return Room(fits, fits)

    def check_nodes(self, task: PackTask, cpu: float, gpu: float) -> None:
        """Check that every node with room for a pack can train `task`.

        Raises:
            ClusterError: A node can't.
        """
        found = self._watched(ask_nodes, task, Packs(cpu, gpu, None))
        silent = [address for address, reasons in found if reasons is None]
        if silent:
            more = f" and {len(silent) - 1} more" if silent[1:] else ""
            self._say(f"node {silent[0]}{more} can't say yet whether it can train")
        raise_lacks([(address, reasons or []) for address, reasons in found])

    def run(
        self, tasks: Sequence[PackTask], *, cpu: float, gpu: float, max_concurrent: int | None
    ) -> None:
        """Run every task once. The results are in the store.

        Raises:
            ClusterError: Ray couldn't be reached.
            StoreError: A worker could not read or write the store.
            WorkerError: A worker failed in another way; the other packs have been run.
        """
        with ThreadPoolExecutor(1) as beside:
            loading = beside.submit(load_tune)
            self._connect()  # in this thread: Ray's processes end with the thread that started them
            loaded = loading.result()
        scratch = tempfile.mkdtemp(prefix="sweeper-ray-")
        try:
            with loaded.inherited(self._ours and self.address == "local"):
                failures = self._watched(
                    loaded.run, _train_pack, tasks, scratch, cpu, gpu, max_concurrent
                )
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
        raise_failures(failures)

    def run_round(
        self, tasks: Sequence[PackTask], *, cpu: float, gpu: float, max_concurrent: int | None
    ) -> None:
        """Run every task once on workers that stay for the next round; raise as `run` does."""
        self._connect()
        raise_failures(self._watched(self._round, tasks, cpu, gpu, max_concurrent))

    @staticmethod
    def _round(
        tasks: Sequence[PackTask], cpu: float, gpu: float, max_concurrent: int | None
    ) -> list[Failure]:
        remote = ray.remote(num_cpus=cpu, num_gpus=gpu, max_retries=0, max_calls=0)(_train_pack)
        waiting = [{"task": task.as_dict()} for task in reversed(tasks)]
        running: dict[Any, dict[str, Any]] = {}  # by their references
        retries = Retries()
        failures: list[Failure] = []
        while waiting or running:
            while waiting and len(running) < (max_concurrent or len(tasks)):
                config = waiting.pop()
                running[remote.remote(config)] = config
            done, _ = ray.wait(list(running), num_returns=1)
            for reference in done:
                config = running.pop(reference)
                try:
                    ray.get(reference)
                except RayError as error:
                    if retries.used(config["task"]["pack_id"], error) <= RETRIES:
                        waiting.append(config)
                    else:
                        failures.append(Failure.of(config["task"]["pack_id"], error))
        return failures

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._watch is not None:
            self._watch.end()
        if isinstance(error, ClusterLostError) and self._watch is not None:
            atexit.unregister(ray.shutdown)  # it would wait for ever, or abort
            self._watch.end_family(self._started)
        elif self._ours:
            ray.shutdown()


_lost: list[str] = []
"""The message about the cluster that was lost, if one was: Ray isn't usable again."""


@contextmanager
def _our_handler_of_sigterm() -> Iterator[None]:
    """Keep Ray from replacing the handler of SIGTERM within the context, if there is one.

    Ray does so twice: in Python as it begins to start, and in C++ later.
    """
    ours = signal.getsignal(signal.SIGTERM)
    theirs = vars(utils).get("set_sigterm_handler")
    if ours is signal.SIG_DFL or theirs is None:
        yield
        return
    vars(utils)["set_sigterm_handler"] = lambda _: None
    try:
        yield
    finally:
        vars(utils)["set_sigterm_handler"] = theirs
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, ours)


@contextmanager
def on_ray(
    grid: Grid,
    *,
    address: str = "local",
    max_concurrent: int | None = None,
    rounds: bool = False,
    store: str | None = None,
    say: Callable[[str], None] = lambda _: None,
    wait_s: float | None = None,
) -> Iterator[Runner]:
    """Yield the runner that trains the packs of `grid` on Ray.

    Args:
        grid: The grid, with the resources of a pack.
        address: See `Cluster`.
        max_concurrent: The most packs at the same time; None for as many as fit.
        rounds: Whether there will be many short runs.
        store: URI of the store, which all nodes of a cluster need; None if unknown.
        say: Called with messages about the cluster, e.g. that a launch waits for its nodes.
        wait_s: The most seconds to wait for a node with room; None for some minutes.

    Raises:
        UsageError: Ray is to start on this machine, which lacks the GPU that the grid asks for.
        ClusterError: The cluster can't be reached, or no node has room for one pack.
    """
    resources = grid.file.resources
    if address == "local":
        check_gpu(grid)
    with Cluster(address, store=store, say=say) as cluster:
        room = cluster.room(resources.cpu, resources.gpu, max_concurrent, wait_s)
        if address == "local":
            workers = min(room.now, max_concurrent or room.now)
            most: int | None = workers
        else:  # a cluster grows only if packs are waiting
            workers, most = max_concurrent or room.later, max_concurrent

        unchecked = address != "local"  # there, driver and workers share the machine

        def launcher(tasks: Sequence[PackTask]) -> None:
            nonlocal unchecked
            if unchecked:
                cluster.check_nodes(tasks[0], resources.cpu, resources.gpu)
                unchecked = False
            run = cluster.run_round if rounds else cluster.run
            run(tasks, cpu=resources.cpu, gpu=resources.gpu, max_concurrent=most)

        yield Runner(launcher, workers, device(grid), room.memory)


def gcs_address() -> str:
    """Return HOST:PORT of the cluster that this process has joined."""
    return str(ray.get_runtime_context().gcs_address)


def _demand(bundles: Sequence[Mapping[str, float]]) -> None:
    """Ask the autoscaler, if there is one, for nodes with room for `bundles`; none ends it."""
    request_resources(bundles=[dict(bundle) for bundle in bundles])


def _protect_token() -> None:
    """Make Ray's token file readable only by its owner."""
    token = token_file()
    if token.exists() and token.stat().st_uid == os.getuid():
        token.chmod(0o600)

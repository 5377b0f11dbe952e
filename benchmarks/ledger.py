"""The ledger's speed: commits per second and their delay, and the time to open a long one.

    disk     processes that commit flat out on this disk, each to the chain of its own pack
    bucket   packs that commit every `flush_s` seconds to a simulated bucket: each request takes a
             random time (mean of a put 30 ms, a get 15 ms, a list 40 ms), and 5 % of the answers
             to puts are lost. A reader follows all packs. Requests are priced as on S3
    open     a new reader of 10^4, 10^5 and 10^6 records on this machine's disk, through a snapshot,
             and through all records

The commits are those of `sweeper.store.sink.Claim`; no rows are written beside them. The bucket
counts one more put per commit for the rows.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from statistics import median, quantiles
from typing import Any

from sweeper.errors import StoreError
from sweeper.store import snapshots
from sweeper.store.files import Files
from sweeper.store.ledger import Ledger
from sweeper.store.records import Record
from sweeper.store.sink import Claim, flush_s

LATENCY_S = {"put": 0.030, "get": 0.015, "list": 0.040}
"""Mean seconds of a request to the simulated bucket."""

LOST = 0.05
"""Share of the answers to puts that are lost."""

PRICE = {"put": 5e-6, "get": 4e-7, "list": 5e-6}
"""Dollars per request on S3 (us-east-1, 2026)."""

AT_ONCE = 128
PAGE = 1000
"""Entries of a listing per request."""


def part(number: int) -> Record:
    """Return a record of rows as a sink commits it."""
    entry = {
        "path": f"metrics/{'0' * 16}-1-{'0' * 8}-{number}.parquet",
        "size": 12_345,
        "sha256": f"{number:064x}",
        "rows": 100,
        "min_step": number,
        "max_step": number,
        "columns": [],
    }
    return {"kind": "rows", "at": 1_700_000_000.0, "part": entry}


def begin(files: Files, packs: int) -> Ledger:
    """Return the ledger of a new sweep with `packs` packs."""
    meta = {"name": "x", "points_per_decade": 50, "uid": "0" * 16}
    ledger = Ledger.create(files, meta)
    listed = [{"id": f"{i:016x}", "size": 1} for i in range(packs)]
    ledger.append({"kind": "packs", "packs": listed, "path": "packs/a.parquet", "sha256": ""})
    return ledger


# ------------------------------------------------------------------------ disk


def flat_out(uri: str, pack: str, seconds: float) -> list[float]:
    """Commit to the chain of one pack for some seconds; return the seconds of each commit."""
    ledger = Ledger.open(Files.at(uri), chains=False)
    claim = Claim.take(ledger, pack, "launch", {})
    taken: list[float] = []
    end = time.perf_counter() + seconds
    while (begun := time.perf_counter()) < end:
        claim.commit(part(len(taken)))
        taken.append(time.perf_counter() - begun)
    return taken


def disk(writers: int, seconds: float) -> dict[str, Any]:
    """Return the rate and the delays of `writers` processes."""
    with tempfile.TemporaryDirectory() as folder:
        packs = begin(Files.at(folder), writers).state.packs
        with get_context("spawn").Pool(writers) as pool:
            taken = pool.starmap(flat_out, [(folder, pack, seconds) for pack in packs])
    times = [one for each in taken for one in each]
    return {"writers": writers, "commits_per_s": len(times) / seconds, **delays(times)}


def delays(times: Sequence[float]) -> dict[str, float]:
    """Return the median and the 99th percentile in milliseconds."""
    return {"p50_ms": 1e3 * median(times), "p99_ms": 1e3 * quantiles(times, n=100)[98]}


# ------------------------------------------------------------------------ bucket


@dataclass(frozen=True, slots=True)
class Simulated(Files):
    """A bucket in memory whose requests take time."""

    content: dict[str, bytes] = field(default_factory=dict)
    requests: Counter[str] = field(default_factory=Counter)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def _request(self, kind: str, count: int = 1) -> None:
        with self.lock:
            self.requests[kind] += count
        time.sleep(count * random.expovariate(2 / LATENCY_S[kind]) + LATENCY_S[kind] / 2)

    def read(self, path: str) -> bytes | None:
        """Return a file after the time of a get."""
        self._request("get")
        return self.content.get(path)

    def read_many(self, paths: Sequence[str]) -> list[bytes | None]:
        """Return files, many at once."""
        if len(paths) < 2:
            return [self.read(path) for path in paths]
        with ThreadPoolExecutor(min(AT_ONCE, len(paths))) as pool:
            return list(pool.map(self.read, paths))

    def create(self, path: str, content: bytes) -> bool:
        """Create a file; the answer may be lost."""
        self._request("put")
        with self.lock:
            made = self.content.setdefault(path, content) is content
        if random.random() < LOST:
            raise StoreError(f"{path}: the answer was lost")
        return made

    def write(self, path: str, content: bytes, *, durable: bool = True) -> None:  # noqa: ARG002
        """Write a file after the time of a put."""
        self._request("put")
        self.content[path] = content

    def size(self, path: str) -> int | None:
        """Return a size after the time of a get."""
        self._request("get")
        return len(self.content[path]) if path in self.content else None

    def paths(self, prefix: str, *, after: str | None = None) -> list[str]:
        """Return a listing after the time of its pages."""
        with self.lock:
            found = sorted(p for p in self.content if p.startswith(f"{prefix}/"))
        found = [p for p in found if after is None or p > after]
        self._request("list", 1 + len(found) // PAGE)
        return found

    def folders(self, prefix: str = "") -> list[str]:
        """Return the folders of a listing after the time of its pages."""
        with self.lock:
            names = {p.split("/")[1] for p in self.content if p.startswith(f"{prefix}/")}
        self._request("list", 1 + len(names) // PAGE)
        return sorted(names)

    def delete(self, path: str) -> None:
        """Delete a file."""
        self.content.pop(path, None)


def commits(files: Simulated, pack: str, every: float, end: float, out: list[Any]) -> None:
    """Commit one pack every `every` seconds; collect (due, done) of each commit."""
    ledger = Ledger.open(files, chains=False)
    claim = Claim.take(ledger, pack, "launch", {})
    due = time.monotonic() + random.uniform(0, every)
    number = 0
    while due < end:
        time.sleep(max(0.0, due - time.monotonic()))
        begun = time.monotonic()
        claim.commit(part(number))
        out.append((pack, number, begun, time.monotonic()))
        number += 1
        due += every


def bucket(packs: int, seconds: float) -> dict[str, Any]:
    """Return what `packs` packs and a reader cost, and how soon the reader saw the commits."""
    files = Simulated("s3://bucket/sweep", None)
    begin(files, packs)
    every = flush_s(files, packs)
    seconds = max(seconds, 2.5 * every)
    out: list[Any] = []
    seen: dict[tuple[str, int], float] = {}
    polls: list[float] = []
    over = threading.Event()
    threading.stack_size(1 << 18)
    end = time.monotonic() + seconds + every
    writers = [
        threading.Thread(target=commits, args=(files, f"{i:016x}", every, end, out))
        for i in range(packs)
    ]

    def follow() -> None:
        ledger = Ledger.open(files)
        known = dict.fromkeys(ledger.state.packs, 0)
        while not over.wait(max(1.0, 10 * (polls[-1] if polls else 0))):
            begun = time.monotonic()
            ledger.refresh()
            polls.append(time.monotonic() - begun)
            for pack in ledger.state.packs.values():
                for number in range(known[pack.id], len(pack.parts)):
                    seen[(pack.id, number)] = time.monotonic()
                known[pack.id] = len(pack.parts)

    for thread in writers:
        thread.start()
        time.sleep(every / packs / 2)
    reader = threading.Thread(target=follow)
    reader.start()
    with files.lock:
        before = Counter(files.requests)
    first = time.monotonic()
    for thread in writers:
        thread.join()
    with files.lock:
        used = files.requests - before
    took = time.monotonic() - first
    time.sleep(1.0)
    over.set()
    reader.join()
    late = [x for x in out if x[2] >= first]
    there = Ledger.open(files).state.packs
    lost = sum(number >= len(there[pack].parts) for pack, number, *_ in out)
    twice = sum(len(p.parts) for p in there.values()) - len(out)
    shown = [seen[(p, n)] - begun + every for p, n, begun, _ in late if (p, n) in seen]
    used["put"] += len(late)  # the rows
    return {
        "packs": packs,
        "flush_s": every,
        "commits_per_s": len(late) / took,
        **delays([done - begun for *_, begun, done in late]),
        "visible_p50_s": median(shown),
        "visible_p99_s": quantiles(shown, n=100)[98],
        "poll_s": median(polls),
        "requests_per_s": {kind: n / took for kind, n in used.items()},
        "dollars_per_hour": sum(PRICE[kind] * n for kind, n in used.items()) / took * 3600,
        "acknowledged": len(out),
        "lost": lost,
        "twice": twice,
    }


# ------------------------------------------------------------------------ open


def opened(records: int, packs: int) -> dict[str, Any]:
    """Return the seconds to open a ledger of `records` records on this disk."""
    with tempfile.TemporaryDirectory() as folder:
        files = Files.at(folder)
        ledger = begin(files, packs)
        whole: dict[str, Any] = {"records": records, "packs": packs}
        each = records // packs
        for pack in ledger.state.packs:
            Claim.take(ledger, pack, "launch", {})
            chain = ledger.chains[pack]
            if records <= 100_000:
                for number in range(each - 1):
                    record = {**part(number), "attempt": 1, "nonce": f"{number:016x}"}
                    assert chain.append(Unsynced(files.uri, files.backend), record) is None
                    ledger.state.fold_pack(ledger.state.packs[pack], record)
            else:  # the records before a snapshot are never read: only the last one exists
                for number in range(each - 1):
                    ledger.state.fold_pack(ledger.state.packs[pack], {**part(number), "attempt": 1})
        if records <= 100_000:
            whole["all_records_s"] = timed(lambda: Ledger.open(files))
        path = snapshots.save(
            files, str(ledger.meta["uid"]), ledger.state, ledger.number, ledger.chains
        )
        whole["snapshot_mb"] = (files.size(path) or 0) / 1e6
        whole["snapshot_s"] = timed(lambda: Ledger.open(files))
        whole["and_every_file_s"] = timed(lambda: sum(1 for _ in Ledger.open(files).state.parts()))
        return whole


@dataclass(frozen=True, slots=True)
class Unsynced(Files):
    """A folder whose files are written without syncs, for speed."""

    def create(self, path: str, content: bytes) -> bool:
        """Create a file without syncs."""
        target = Path(self.uri, path)
        target.parent.mkdir(exist_ok=True, parents=True)
        target.write_bytes(content)
        return True


def timed(call: Any) -> float:
    """Return the least seconds of three calls."""
    taken = []
    for _ in range(3):
        begun = time.perf_counter()
        call()
        taken.append(time.perf_counter() - begun)
    return min(taken)


def main() -> None:
    """Measure, print each result as a line of JSON, and write all of them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", default=["disk", "bucket", "open"])
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("-o", "--output", type=Path)
    args = parser.parse_args()
    results: dict[str, list[Any]] = {}
    jobs: dict[str, Any] = {
        "disk": [lambda n=n: disk(n, args.seconds) for n in (1, 8, 32, 64)],
        "bucket": [lambda n=n: bucket(n, args.seconds) for n in (16, 100, 1000, 4000)],
        "open": [lambda n=n, p=p: opened(n, p) for n, p in SIZES],
    }
    for name in args.parts:
        for job in jobs[name]:
            results.setdefault(name, []).append(job())
            print(name, json.dumps(results[name][-1]), flush=True)
    if args.output:
        args.output.write_text(json.dumps(results, indent=1))


SIZES = ((10_000, 100), (100_000, 1_000), (1_000_000, 4_000))
"""Records and packs of the ledgers that are opened."""


if __name__ == "__main__":
    main()

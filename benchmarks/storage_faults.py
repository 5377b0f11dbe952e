"""Faults of a bucket while launches train into it: requests that fail, and answers that are lost.

The bucket is an HTTP server in this process. These faults don't end a launch. So the time to
recover is the time from a fault to the next committed row, with the pause between two commits.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

from benchmarks import invariants
from benchmarks.injected import Result, first_line, tell
from benchmarks.launched import Process
from tests.buckets import Bucket, serving

PATIENCE_S = 300.0
"""Seconds after which a launch hangs."""

Count = Callable[[Bucket], int]


def fail_requests(grid: Path, reference: str, folder: Path, count: int, seed: int) -> Result:
    """Fail one request in five: with 503, no answer, or half an answer."""
    kinds = ("503", "drop", "reset", "short")
    return befall(
        "failing request to a bucket",
        lambda draw: draw.choice(kinds) if draw.random() < 0.2 else "",
        lambda bucket: sum(bucket.counts[kind] for kind in kinds),
        (grid, reference, folder),
        count,
        seed,
    )


def lose_answers(grid: Path, reference: str, folder: Path, count: int, seed: int) -> Result:
    """Lose one answer in three; those of puts count."""
    return befall(
        "lost answer of a put to a bucket",
        lambda draw: draw.choice(("drop", "reset")) if draw.random() < 1 / 3 else "",
        lambda bucket: bucket.counts["lost"],
        (grid, reference, folder),
        count,
        seed,
    )


def befall(
    name: str,
    draw_fault: Callable[[random.Random], str],
    counted: Count,
    where: tuple[Path, str, Path],
    count: int,
    seed: int,
) -> Result:
    """Launch sweeps into a bucket with faults until there were `count`.

    Args:
        name: The kind of fault.
        draw_fault: Returns the fault of a request, or "".
        counted: Returns the number of faults so far.
        where: The grid file, the store with the undisturbed sweep, the folder for logs.
        count: Number of faults.
        seed: Of the faults.
    """
    grid, reference, folder = where
    result = Result(name)
    with in_bucket() as bucket:
        while result.injected < count:
            draw = random.Random(f"{seed}-{result.sweeps}")
            times: list[float] = []

            def chance(draw: random.Random = draw, times: list[float] = times) -> str:
                fault = draw_fault(draw)
                if fault:
                    times.append(time.time())
                return fault

            bucket.chance = chance
            store = f"s3://bucket/{result.sweeps}"
            log = folder / f"sweep-{result.sweeps}.log"
            launched = Process.start(grid, store, log=log)
            try:
                code = launched.process.wait(PATIENCE_S)
                ended = time.time()
            finally:
                launched.kill_all()
            bucket.chance = str
            text = log.read_text()
            problems = [f"exit code {code}: {text[-2000:]}"] * bool(code)
            result.injected = counted(bucket)
            result.messages[first_line(text)] += 1
            result.first_row_s += delays(store, times)
            result.done_s.append(ended - times[-1])
            result.problems += problems
            result.add(invariants.compare(store, reference))
            tell(result, problems)
    return result


def delays(store: str, times: list[float]) -> list[float]:
    """Return the seconds from each of the `times` to the next committed row, if one came.

    Those before the first claim don't count: Ray was still starting.
    """
    known = list(invariants.records(store))
    first = min(r["at"] for r in known if r["kind"] == "claim")
    times = [fault for fault in times if fault > first]
    rows = sorted(r["at"] for r in known if r["kind"] == "rows")
    later = ([at for at in rows if at > fault] for fault in times)
    return [after[0] - fault for fault, after in zip(times, later, strict=True) if after]


@contextmanager
def in_bucket() -> Iterator[Bucket]:
    """Serve a bucket, for this process and for those that it starts."""
    with serving() as bucket:
        address = f"http://127.0.0.1:{bucket.server_port}"
        variables = {
            "AWS_ENDPOINT": address,
            "AWS_ENDPOINT_URL": address,
            "AWS_ALLOW_HTTP": "true",
            "AWS_REGION": "here",
            "AWS_ACCESS_KEY_ID": "x",
            "AWS_SECRET_ACCESS_KEY": "x",
        }
        with patch.dict(os.environ, variables):
            yield bucket

"""Exactly once: each trial has every logged step up to its end once, and nothing after it.

The rows that count are those that the views show (`sweeper.analysis.views.staging`): a trial that
a later pack carries on from a step has no rows of the earlier pack after that step.

Rows are counted as they are read: per trial their number, the last step, and the sum of one random
number per logged step. A trial whose three numbers aren't those of a whole curve is looked at row
by row.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from sweeper.config.messages import counted
from sweeper.doctor.contents import Contents, starts
from sweeper.doctor.findings import REPAIR, Finding, some
from sweeper.store import tables
from sweeper.store.ledger import Ledger
from sweeper.store.schema import logged_steps
from sweeper.store.state import Part

CHECK = "exactly once"


@dataclass(frozen=True, slots=True)
class End:
    """The end of a trial after its most steps.

    Attributes:
        pack: Its pack.
        last_step: The last logged step.
        steps: The steps for which the trial was trained.
    """

    pack: str
    last_step: int
    steps: int


class Curves:
    """The rows and ends of all trials that count.

    Args:
        ledger: The sweep's ledger.
        contents: Its listings of packs.
    """

    def __init__(self, ledger: Ledger, contents: Contents) -> None:
        self._ledger = ledger
        self._contents = contents
        last = [part.max_step for part, _ in ledger.state.parts()]
        last += [launch["steps"] for launch in ledger.state.launches.values()]
        last += [part.max_step for _, _, part, _ in ledger.state.ends()]
        steps = logged_steps(ledger.meta["points_per_decade"], max(last, default=0))
        self._steps = np.array(steps, dtype=np.int64)
        self._keys = np.random.default_rng(0).integers(1 << 63, size=len(steps), dtype=np.uint64)
        self._whole = np.cumsum(self._keys, dtype=np.uint64)
        self._listed: dict[str, list[tuple[str, int | None]]] = {}
        """Trial to the packs that list it, in their order, each with the step it begins at."""
        for _, pack, trial_id, start in starts(ledger, contents):
            self._listed.setdefault(trial_id, []).append((pack, start))
        self._upto = self._superseded()
        self._codes: dict[str, int] = {}
        self._count = np.zeros(0, dtype=np.int64)
        self._sum = np.zeros(0, dtype=np.uint64)
        self._last = np.zeros(0, dtype=np.int64)
        self._strange = np.zeros(0, dtype=np.int64)
        self.rows = 0

    @property
    def trials(self) -> int:
        """Number of trials that have rows."""
        return len(self._codes)

    def _superseded(self) -> dict[str, dict[str, int]]:
        """Return pack to the trials that a later pack carries on, with their last steps."""
        packs = self._ledger.state.packs
        upto: dict[str, dict[str, int]] = {}
        for trial_id, listed in self._listed.items():
            for number, (pack, _) in enumerate(listed[:-1]):
                last = max((part.max_step for _, part in packs[pack].parts), default=-1)
                later = [s for _, s in listed[number + 1 :] if s is not None and s < last]
                if later:
                    upto.setdefault(pack, {})[trial_id] = min(later)
        return upto

    def take(self, rows: pa.Table, pack: str | None, part: Part) -> None:  # noqa: ARG002
        """Count rows of a file of metrics: of `pack`, or of several packs if it is None."""
        ids, steps = self._valid(rows, pack)
        if not len(steps):
            return
        self.rows += len(steps)
        codes = self._encode(ids)
        place = np.minimum(np.searchsorted(self._steps, steps), len(self._steps) - 1)
        known = self._steps[place] == steps
        np.add.at(self._count, codes, 1)
        np.add.at(self._sum, codes[known], self._keys[place[known]])
        np.maximum.at(self._last, codes, steps)
        np.add.at(self._strange, codes[~known], 1)

    def _valid(self, rows: pa.Table, pack: str | None) -> tuple[pa.Array, NDArray[np.int64]]:
        """Return trial and step of the rows that no later pack has replaced."""
        ids, steps = rows["trial_id"].combine_chunks(), rows["step"].to_numpy()
        upto = self._upto.get(pack or "", {})
        if not upto:
            return ids, steps
        at = pc.index_in(ids, pa.array(list(upto), pa.string())).fill_null(-1).to_numpy()
        limits = np.array([*upto.values(), np.iinfo(np.int64).max])
        keep = steps <= limits[at]
        return ids.filter(pa.array(keep)), steps[keep]

    def _encode(self, ids: pa.Array) -> NDArray[np.int64]:
        """Return one number per trial; new trials get new ones."""
        encoded = ids.dictionary_encode()
        names = encoded.dictionary.to_pylist()
        codes = np.array([self._codes.setdefault(i, len(self._codes)) for i in names])
        more = max(0, len(self._codes) - len(self._count))
        if more:
            more = max(more, len(self._count))
            self._count = np.append(self._count, np.zeros(more, dtype=np.int64))
            self._sum = np.append(self._sum, np.zeros(more, dtype=np.uint64))
            self._last = np.append(self._last, np.full(more, -1))
            self._strange = np.append(self._strange, np.zeros(more, dtype=np.int64))
        return cast("NDArray[np.int64]", codes[encoded.indices.to_numpy()])

    def findings(self) -> Iterator[Finding]:
        """Yield what is wrong with the rows and ends that were taken."""
        ends = self._ends()
        skip = self._in_damaged_packs()
        clashes = {t: packs for t, packs in self._clashes().items() if t not in skip}
        yield from self._grouped(clashes, "{} in two packs that both count", REPAIR)
        judged = {*self._codes, *ends} - skip
        bad = sorted(i for i in judged if not self._is_whole(i, ends))
        if bad:
            yield from self._explained(bad, ends, clashes, any_whole=len(bad) < len(judged))

    def _ends(self) -> dict[str, End]:
        """Return the ends that count, of each trial the one after its most steps."""
        ends: dict[str, End] = {}
        for pack, table in self._ended():
            upto = self._upto.get(pack, {})
            for row in table.to_pylist():
                limit = upto.get(row["trial_id"])
                if limit is not None and row["last_step"] > limit:
                    continue
                before = ends.get(row["trial_id"])
                if before is None or row["steps"] >= before.steps:
                    ends[row["trial_id"]] = End(pack, row["last_step"], row["steps"])
        return ends

    def _ended(self) -> Iterator[tuple[str, pa.Table]]:
        for pack, _, part, cutoff in self._ledger.state.ends():
            if part.path in self._contents.ends:
                yield pack, tables.upto(self._contents.ends[part.path], cutoff, "last_step")

    def _in_damaged_packs(self) -> set[str]:
        """Return the trials of packs with a damaged file: these packs are judged already."""
        damaged = self._contents.damaged
        hidden = {t for t, listed in self._listed.items() if any(p in damaged for p, _ in listed)}
        if any(i not in self._contents.listings for i in damaged):
            hidden |= self._codes.keys() - self._listed.keys()
        return hidden

    def _clashes(self) -> dict[str, set[str]]:
        """Return the trials that a later pack trains again, though an earlier pack still counts.

        Each with these earlier packs. So it is if the record that voided the earlier one is lost.
        """
        packs = self._ledger.state.packs
        several = {trial: listed for trial, listed in self._listed.items() if len(listed) > 1}
        ended: dict[str, dict[str, int]] = {}
        for pack, table in self._ended():
            mine = table.filter(pc.is_in(table["trial_id"], pa.array(several, pa.string())))
            for row in mine.to_pylist():
                ended.setdefault(pack, {})[row["trial_id"]] = row["last_step"]
        clashes: dict[str, set[str]] = {}
        for trial_id, listed in several.items():
            for number, (pack, _) in enumerate(listed[:-1]):
                last = ended.get(pack, {}).get(trial_id)
                for _, start in listed[number + 1 :]:
                    again = last is not None and start is not None and (start < max(last, 0))
                    if packs[pack].open or again:
                        clashes.setdefault(trial_id, set()).add(pack)
        return clashes

    def _is_whole(self, trial_id: str, ends: dict[str, End]) -> bool:
        """Return whether the rows are each logged step once, up to the end if there is one."""
        if trial_id not in self._listed:
            return False
        code = self._codes.get(trial_id)
        last = -1 if code is None else int(self._last[code])
        if trial_id in ends and ends[trial_id].last_step != last:
            return False
        if code is None:
            return True
        place = int(np.searchsorted(self._steps, last))
        return bool(
            self._strange[code] == 0
            and self._count[code] == place + 1
            and self._sum[code] == self._whole[place]
        )

    def _explained(
        self, bad: list[str], ends: dict[str, End], clashes: dict[str, set[str]], *, any_whole: bool
    ) -> Iterator[Finding]:
        """Yield findings on the trials `bad`, whose rows are read once more.

        Args:
            bad: The trials whose rows aren't whole.
            ends: The ends of all trials.
            clashes: The trials in two packs that both count, which are named already.
            any_whole: Whether other trials are whole. If none is, the trainable logs fewer steps.
        """
        rows = self._rows_of(bad)
        twice: dict[str, set[str]] = {}
        gaps: dict[str, set[str]] = {}
        beyond: dict[str, set[str]] = {}
        unlisted: dict[str, set[str]] = {}
        strange: list[str] = []
        for trial_id in bad:
            steps, packs = rows.get(trial_id, (np.zeros(0, dtype=np.int64), []))
            owners = {pack for pack in packs if pack}
            end = ends.get(trial_id)
            last = int(steps.max()) if len(steps) else -1
            if len(np.unique(steps)) < len(steps):
                order = [pack for pack, _ in self._listed.get(trial_id, ()) if pack in owners]
                twice[trial_id] = set(order[:-1]) or owners
            elif trial_id not in self._listed and owners:
                unlisted[trial_id] = owners
            elif not np.isin(steps, self._steps).all():
                strange.append(trial_id)
            elif end is not None and last > end.last_step:
                beyond[trial_id] = owners | {end.pack}
            else:
                gaps[trial_id] = owners | ({end.pack} if end else set())
        yield from self._grouped(twice, "{} more than once at a step", REPAIR)
        yield from self._grouped(unlisted, "{} with rows, though no pack lists them", REPAIR)
        yield from self._grouped(beyond, "{} with rows after its end", REPAIR)
        gaps = {trial: packs for trial, packs in gaps.items() if trial not in clashes}
        yield from self._gaps(gaps, strange, any_whole=any_whole)

    def _gaps(
        self, gaps: dict[str, set[str]], strange: list[str], *, any_whole: bool
    ) -> Iterator[Finding]:
        """Yield the gaps, see `_explained`."""
        where = self._ledger.files.uri
        if all("code" in launch for launch in self._ledger.state.launches.values()):
            return  # a user's script or function logs when it likes
        if strange:
            yield Finding(
                "warning",
                CHECK,
                where,
                f"{counted(len(strange), 'trial')} with rows at other steps than the logged ones, "
                f"e.g. {some(strange)}.",
                "Let the trainable write rows at pack.run.logged_steps().",
            )
        if gaps and any_whole:
            yield from self._grouped(gaps, "{} without some of the logged steps", REPAIR)
        elif gaps and not strange:
            yield Finding(
                "warning",
                CHECK,
                where,
                "every trial lacks some of the logged steps.",
                "If the trainable is your own, let it write rows at pack.run.logged_steps().",
            )

    def _rows_of(self, trials: Iterable[str]) -> dict[str, tuple[NDArray[np.int64], list[str]]]:
        """Return the steps of the counted rows of `trials`, and the packs that hold these rows."""
        state, files = self._ledger.state, self._ledger.files
        wanted = pa.array(list(trials), pa.string())
        collected: dict[str, tuple[list[int], set[str]]] = {}
        sources = [
            (part, cutoff, pack.id) for pack in state.ordered for part, cutoff in state.valid(pack)
        ]
        for part, cutoff, pack in [*sources, *((part, None, "") for part in state.compacted)]:
            raw, damage = tables.proven(files, part)
            if damage is not None:
                continue
            rows = tables.upto(tables.table(raw, ("trial_id", "step")), cutoff)
            rows = rows.filter(pc.is_in(rows["trial_id"], wanted))
            ids, steps = self._valid(rows, pack)
            for trial_id, step in zip(ids.to_pylist(), steps.tolist(), strict=True):
                known = collected.setdefault(trial_id, ([], set()))
                known[0].append(step)
                known[1].update({pack} if pack else self._owners(part, trial_id))
        return {
            i: (np.array(steps, dtype=np.int64), sorted(packs))
            for i, (steps, packs) in collected.items()
        }

    def _owners(self, part: Part, trial_id: str) -> set[str]:
        """Return the packs that the rows of a trial in a compacted file may belong to."""
        packs = self._ledger.state.compacted_by[part.path]
        mine = {pack for pack, _ in self._listed.get(trial_id, ()) if pack in packs}
        return mine or packs

    def _grouped(self, trials: dict[str, set[str]], text: str, remedy: str) -> Iterator[Finding]:
        """Yield one finding for all `trials`, each given with the packs to void."""
        if not trials:
            return
        packs = frozenset().union(*trials.values())
        what = text.format(counted(len(trials), "trial"))
        yield Finding(
            "error",
            CHECK,
            self._ledger.files.uri,
            f"{what}: {some(sorted(trials))}, in {counted(len(packs), 'pack')}: "
            f"{some(sorted(packs))}.",
            remedy,
            packs,
        )

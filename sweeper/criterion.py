"""The one definition of memorization and generalization.

A trial *memorizes* at t1, the step that the criterion finds on its train metric, and
*generalizes* at t2, the step that it finds on its test metric. By the default rule `threshold`,
this is the first logged step at or below the threshold (at or above it for accuracies). A metric
that isn't finite never meets a condition.
The criterion belongs to the analysis: changing it never trains a finished trial again.

The papers also use other rules, which differ from figure to figure ([N25], their code). These
rules compare a trial with itself, so they need its whole curve:

=============  ===========================================================================
threshold      first logged step at which the metric reaches the threshold
relative       first one at which it reaches the threshold times its own best value
argmin         first one at which it has its own best value
stable_final   first one from which on it stays near its own final value for a while
=============  ===========================================================================

These three rules say when a trial stopped improving. Whether its result is good is a second
condition, `Criterion.floor`: the best (or final) value must lie well below the trial's first value,
by default at most half of it. A trial that learns nothing has its best value at step 0; without the
floor it would count as one that generalizes at once.

The rules can also be wrong about a trial that wasn't trained for long enough. So a step is known
only if the curve shows that the metric had settled before the end. Otherwise the step is unknown,
and a missing t2 is censored at the last logged step. Under `argmin` this is a true bound. Under
the other two rules, a longer run may show that the metric had settled a little earlier, so extend
such a trial before you fit a law to it. `Criterion.train_bracket` states the condition of each
rule. A trial that hasn't ended has no whole curve, so its t1 and t2 are unknown.

A small test set can reach a threshold by chance. `Criterion.hold` requires several logged steps in
a row.

The training loop stops trials by this definition, and tests compare the SQL views with it.

References:
    [Power22] Power et al., Grokking, 2022. https://arxiv.org/abs/2201.02177
    [Liu22] Liu et al., Towards Understanding Grokking, 2022. https://arxiv.org/abs/2205.10343
    [N25] Notsawo et al., Grokking Beyond the Euclidean Norm, 2025. https://arxiv.org/abs/2506.05718
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator
from pydantic.config import JsonDict
from pydantic_core import PydanticKnownError

RISING = ("acc", "accuracy", "auc", "auroc", "f1", "precision", "r2", "recall", "reward", "score")
"""Metrics that are better when larger; all others are better when smaller."""

Rule = Literal["threshold", "relative", "stable_final", "argmin"]

RULES: tuple[str, ...] = get_args(Rule)
"""How a step may be found."""

THRESHOLDS = ("threshold", "relative")
"""Rules that take the thresholds `train` and `test`; the others take none."""

HELD = ("threshold", "relative")
"""Rules that take `hold`: their condition may hold at one logged step and fail at the next."""

FLOOR = 0.5
"""Default of `Criterion.floor`."""

FINAL_LOGS = 3
"""Logged values whose mean is the final value of `stable_final`; K of [N25]."""

FINAL_TOLERANCE = 0.05
"""How far from the final value `stable_final` calls near, as a share of it; tol of [N25]."""

STABLE_LOGS = 2
"""Consecutive logged values that have to be near for `stable_final`; M of [N25]."""


class Phase(StrEnum):
    """The phase of a trial, after [Liu22], or of a cell.

    SPLIT is for cells alone: none of the other phases has more than half of the cell's seeds.
    """

    COMPREHENSION = "comprehension"
    GROKKING = "grokking"
    MEMORIZATION = "memorization"
    CONFUSION = "confusion"
    GENERALIZED_ONLY = "generalized_only"
    DIVERGED = "diverged"
    SPLIT = "split"


class Bracket(NamedTuple):
    """The bounds of the step at which a trial meets a condition.

    Attributes:
        step: The logged step; None if it isn't reached, or if that isn't known.
        after: Last logged step that is known to come before it; None without one.
    """

    step: int | None
    after: int | None


_SCHEMA: JsonDict = {
    "if": {"properties": {"rule": {"enum": ["argmin", "stable_final"]}}, "required": ["rule"]},
    "then": {"properties": {"train": {"type": "null"}, "test": {"type": "null"}}},
    "else": {
        "properties": {"train": {"type": "number"}, "test": {"type": "number"}},
        "required": ["train", "test"],
    },
}
"""Which rules take thresholds, for the JSON schema."""


class Criterion(BaseModel):
    """The rule by which t1 and t2 are read from the metrics.

    Attributes:
        metric: `M` reads the columns ``train_M`` and ``test_M``.
        rule: How the step is found: `threshold`, the first logged step that reaches the
            threshold; `relative`, the first one that reaches the threshold times the trial's
            own best value; `argmin`, the first one with that best value; `stable_final`, the
            first one from which on two logs are within 5 % of the mean of the last three.
        train: Threshold of t1, in units of the metric; under `relative` a factor, at least 1
            (at most 1 for acc). Rules without thresholds refuse it.
        test: Threshold of t2, likewise.
        gap: Smallest delay that is called grokking, in optimizer steps ([Liu22] takes 10^3).
        hold: How many logged steps in a row have to meet the condition; the first of them counts.
            Metrics that aren't finite are left out. Only for the rules `HELD`.
        floor: For the rules that need the whole curve: the share of its first value that a metric
            has to come down to, in (0, 1]. For acc: the share of the way to 1 that may be left.
            None, the default, is 0.5 under those rules.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, allow_inf_nan=False, json_schema_extra=_SCHEMA
    )

    metric: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
    rule: Rule = "threshold"
    train: Annotated[float | None, Field(validate_default=True)] = None
    test: Annotated[float | None, Field(validate_default=True)] = None
    gap: Annotated[int, Field(ge=1)] = 1000
    hold: Annotated[int, Field(ge=1)] = 1
    floor: Annotated[float | None, Field(gt=0, le=1, validate_default=True)] = None

    @field_validator("hold")
    @classmethod
    def _held(cls, hold: int, info: ValidationInfo) -> int:
        """Check that only a rule whose condition can fail again takes `hold`."""
        if hold > 1 and info.data.get("rule", HELD[0]) not in HELD:
            raise ValueError(f"means nothing under the rule {info.data['rule']}. Remove it")
        return hold

    @field_validator("floor")
    @classmethod
    def _floored(cls, floor: float | None, info: ValidationInfo) -> float | None:
        """Check that only a rule that compares a trial with itself takes `floor`; fill it in."""
        if info.data.get("rule", "threshold") == "threshold":
            if floor is not None:
                raise ValueError("means nothing under the rule threshold. Remove it")
            return None
        return FLOOR if floor is None else floor

    @field_validator("train", "test")
    @classmethod
    def _as_the_rule_asks(cls, threshold: float | None, info: ValidationInfo) -> float | None:
        """Check that a threshold is there where the rule takes one, and only there."""
        known: dict[str, Any] = info.data
        if not {"metric", "rule"} <= known.keys():
            return threshold  # mistakes in metric and rule are reported by themselves
        rule, rising = known["rule"], known["metric"] in RISING
        if rule not in THRESHOLDS:
            if threshold is not None:
                raise ValueError(f"means nothing under the rule {rule}. Remove it")
            return None
        if threshold is None:
            raise PydanticKnownError("missing")
        if rule == "relative" and (threshold > 1 if rising else threshold < 1):
            raise ValueError(
                f"can't be reached: it is a multiple of the best {known['metric']}. "
                f"Write {'at most' if rising else 'at least'} 1"
            )
        return threshold

    @property
    def rising(self) -> bool:
        """Whether the metric is better when larger."""
        return self.metric in RISING

    @property
    def whole(self) -> bool:
        """Whether the rule needs the whole curve of a trial that has ended."""
        return self.rule != "threshold"

    @property
    def stops(self) -> bool:
        """Whether one logged row can show that a trial generalizes, so that it may stop there."""
        return not self.whole and self.hold == 1

    def train_holds(self, values: NDArray[np.floating]) -> NDArray[np.bool_]:
        """Return where a train value alone shows that t1 is reached.

        False everywhere unless `stops`.
        """
        return self._holds_alone(values, self.train)

    def test_holds(self, values: NDArray[np.floating]) -> NDArray[np.bool_]:
        """Return where a test value alone shows that t2 is reached, as `train_holds`."""
        return self._holds_alone(values, self.test)

    def train_bracket(self, steps: NDArray[np.integer], train: NDArray[np.floating]) -> Bracket:
        """Return the bounds of the memorization step of an ended trial.

        Values that aren't finite are left out first. A step is known, by rule:

        - `threshold`: always; None says that the threshold wasn't reached, or was held for fewer
          than `hold` logged steps.
        - `argmin`, `relative`: unless the best value first occurs in the last logged row. Such a
          trial was still improving and might have improved further, so its best value and all
          multiples of it are unknown. If the best value is below 0, its multiples can't be
          reached. The best value has to meet the floor.
        - `stable_final`: if the `STABLE_LOGS` rows that are near the final value come before the
          `FINAL_LOGS` rows whose mean the final value is. Otherwise the end of the curve would be
          compared with itself, and every curve would be stable. As published, the rule counts
          logged rows, not steps. So with a denser log, a slow drift counts as stable more easily.
          The final value has to meet the floor.

        Args:
            steps: All logged steps of the trial, ascending, ``[logs]``.
            train: The train metric at each, ``[logs]``.
        """
        return self._bracket(steps, train, self.train)

    def test_bracket(self, steps: NDArray[np.integer], test: NDArray[np.floating]) -> Bracket:
        """Return the bounds of the generalization step; all else as in `train_bracket`."""
        return self._bracket(steps, test, self.test)

    def t1(self, steps: NDArray[np.integer], train: NDArray[np.floating]) -> int | None:
        """Return the memorization step, None where it isn't known; see `train_bracket`."""
        return self.train_bracket(steps, train).step

    def t2(self, steps: NDArray[np.integer], test: NDArray[np.floating]) -> int | None:
        """Return the generalization step, None where it isn't known; see `train_bracket`."""
        return self.test_bracket(steps, test).step

    def _holds_alone(
        self, values: NDArray[np.floating], threshold: float | None
    ) -> NDArray[np.bool_]:
        values = np.asarray(values, dtype=np.float64)
        if not self.stops or threshold is None:
            return np.zeros(values.shape, dtype=bool)
        return np.asarray(np.isfinite(values) & self._reaches(values, threshold))

    def _reaches(self, values: NDArray[np.floating], bound: float) -> NDArray[np.bool_]:
        return np.asarray(values >= bound if self.rising else values <= bound)

    def _bracket(
        self, steps: NDArray[np.integer], values: NDArray[np.floating], threshold: float | None
    ) -> Bracket:
        finite = np.isfinite(values)
        steps = np.asarray(steps)[finite]
        known = np.array(values[finite], dtype=np.float64)
        holds = np.zeros(known.shape, dtype=bool)
        if self.rule == "stable_final":
            holds = self._stable(known)
        elif (bound := self._threshold(known, threshold)) is not None:
            holds = self._reaches(known, bound)
        if not known.size:
            return Bracket(None, None)
        padded = np.pad(holds, (0, self.hold - 1))  # a run that the curve cuts short doesn't count
        runs = np.lib.stride_tricks.sliding_window_view(padded, self.hold)
        first = first_step(steps, np.asarray(runs.all(axis=1)))
        before = steps[~holds] if first is None else steps[steps < first]
        return Bracket(first, int(before[-1]) if before.size else None)

    def _threshold(self, known: NDArray[np.float64], threshold: float | None) -> float | None:
        """Return the value that a finite curve has to reach; None where that isn't known."""
        if not self.whole:
            return threshold
        if not known.size:
            return None
        best = float(known.max() if self.rising else known.min())
        if int(np.flatnonzero(known == best)[0]) == len(known) - 1 or not self._good(known, best):
            return None
        return best if threshold is None else threshold * best

    def _good(self, known: NDArray[np.float64], value: float) -> bool:
        """Return whether `value` of a curve meets the floor."""
        assert self.floor is not None, "the rule has a floor"
        first = float(known[0])
        if self.rising:
            return value >= 1.0 - self.floor * (1.0 - first)
        return value <= first - (1.0 - self.floor) * abs(first)

    def _stable(self, known: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Return where a finite curve begins to stay near its final value."""
        holds = np.zeros(known.shape, dtype=bool)
        begins = len(known) - FINAL_LOGS
        if begins < STABLE_LOGS:
            return holds
        final = sum(known[begins:].tolist()) / FINAL_LOGS
        if not self._good(known, final):
            return holds
        near = np.abs(known[:begins] - final) <= FINAL_TOLERANCE * abs(final)
        windows = np.lib.stride_tricks.sliding_window_view(near, STABLE_LOGS)
        holds[: windows.shape[0]] = windows.all(axis=1)
        return holds


def first_step(steps: NDArray[np.integer], holds: NDArray[np.bool_]) -> int | None:
    """Return the first of the logged `steps`, ascending, at which `holds`; None if nowhere."""
    where = np.flatnonzero(holds)
    return int(steps[where[0]]) if where.size else None


def delay(t1: int | None, t2: Bracket) -> tuple[int, bool] | None:
    """Return (delay, censored) of one trial that didn't diverge, or None if it has no delay.

    Args:
        t1: Memorization step; None if never reached.
        t2: What is known of the generalization step.

    Returns:
        The delay t2 - t1 in optimizer steps, at least 0; with `censored` it is only known to
        exceed that number. None without t1: nothing was memorized, so nothing was delayed.
    """
    if t1 is None:
        return None
    if t2.step is None:
        return max(0, (t2.after or 0) - t1), True
    return max(0, t2.step - t1), False


def phase(t1: int | None, t2: int | None, *, diverged: bool, gap: int) -> Phase:
    """Return the phase of one ended trial; `gap` as in `Criterion`."""
    if diverged:
        return Phase.DIVERGED
    if t1 is None:
        return Phase.CONFUSION if t2 is None else Phase.GENERALIZED_ONLY
    if t2 is None:
        return Phase.MEMORIZATION
    return Phase.GROKKING if t2 - t1 >= gap else Phase.COMPREHENSION

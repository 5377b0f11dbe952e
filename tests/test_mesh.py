"""Refinement follows boundaries: what `propose` asks for, told by truths that are known."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from math import isclose, log, sin, sqrt

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from benchmarks.interpolation import labels_at
from sweeper.refine.mesh import FINE, Mark, Point, Scale, ends, propose

A, B = Mark("A"), Mark("B")
SQUARE = Scale("x", (0, 1))
STEEP = log(2, 10)

Truth = Callable[[float, float], str]
"""Tells the label at two indices of the grid, in lines."""


@st.composite
def scales(draw: st.DrawFn) -> Scale:
    """Axes with 2 to 6 lines, spaced as they come: small or large, whole or not."""
    whole, logarithmic = draw(st.booleans()), draw(st.booleans())
    least = 1 if logarithmic else -1000
    values = st.integers(least, 10**6) if whole else st.floats(1e-6 if logarithmic else -1e3, 1e6)
    base = draw(st.lists(values, min_size=2, max_size=6, unique=True))
    return Scale("axis", tuple(sorted(base)), log=logarithmic, whole=whole)


@given(scales(), st.data())
def test_a_value_is_found_where_it_has_the_same_value(scale: Scale, data: st.DataObject) -> None:
    value = scale.value(data.draw(st.integers(0, scale.end)))
    position = scale.position(value)
    assert position is not None
    assert scale.value(position) == value
    assert scale.position(float(value)) == position


@given(scales(), st.integers(0, 4))
def test_every_line_is_found_exactly_where_it_stands(scale: Scale, level: int) -> None:
    lines = scale.lines(level)
    assert [scale.position(scale.value(line)) for line in lines] == lines
    assert {i * FINE for i in range(len(scale.base))} <= set(lines)


@given(scales(), st.integers(0, 4))
def test_values_ascend_and_none_is_there_twice(scale: Scale, level: int) -> None:
    values = [scale.value(line) for line in scale.lines(level)]
    assert all(a < b for a, b in pairwise(values))
    assert not scale.whole or all(isinstance(v, int) for v in values)


@given(scales())
def test_lines_of_the_grid_keep_their_values_exactly(scale: Scale) -> None:
    assert tuple(scale.value(i * FINE) for i in range(len(scale.base))) == scale.base


@given(scales(), st.data())
def test_a_middle_lies_between(scale: Scale, data: st.DataObject) -> None:
    low, high = sorted(data.draw(st.tuples(*[st.sampled_from(scale.lines(2))] * 2)))
    middle = scale.middle(low, high)
    if middle is None:
        assume(high - low > 1)
        between = scale.value((low + high) // 2)
        assert between in (scale.value(low), scale.value(high))
    else:
        assert low < middle < high
        assert scale.value(low) < scale.value(middle) < scale.value(high)


def test_a_log_axis_is_halved_in_logarithms() -> None:
    scale = Scale("lr", (1e-4, 1e-2, 1.0), log=True)
    assert [scale.value(p) for p in scale.lines(1)] == [1e-4, 1e-3, 1e-2, 0.1, 1.0]
    assert scale.value(FINE // 4) == float(f"{10**-3.5:.12g}")


@given(st.floats(1e-6, 1e3), st.floats(1.01, 1e3))
def test_the_middle_on_a_log_axis_is_the_geometric_mean(low: float, ratio: float) -> None:
    scale = Scale("lr", (low, low * ratio), log=True)
    assert isclose(scale.value(FINE // 2), low * sqrt(ratio), rel_tol=1e-11)


def test_a_linear_axis_is_halved_between_lines_that_are_unevenly_spaced() -> None:
    scale = Scale("decay", (0, 0.1, 1.0))
    assert [scale.value(p) for p in scale.lines(1)] == [0, 0.05, 0.1, 0.55, 1.0]


def test_values_have_12_digits_so_that_an_id_depends_on_no_rounding() -> None:
    scale = Scale("fraction", (0.1, 0.2, 0.4))
    assert scale.value(FINE + FINE // 2) == 0.3


def test_neighbouring_whole_numbers_are_not_halved() -> None:
    scale = Scale("width", (1, 2, 4, 9), whole=True)
    assert [scale.value(p) for p in scale.lines(1)] == [1, 2, 3, 4, 6, 9]
    assert [scale.value(p) for p in scale.lines(9)] == list(range(1, 10))


def test_whole_numbers_on_a_log_axis_are_rounded_and_stay_apart() -> None:
    scale = Scale("width", (8, 16, 128), log=True, whole=True)
    assert [scale.value(p) for p in scale.lines(2)] == [8, 9, 11, 13, 16, 27, 45, 76, 128]


@pytest.mark.parametrize("value", [-0.1, 1.1, 1 / 3, 0.123456789])
def test_a_value_off_the_mesh_has_no_position(value: float) -> None:
    assert Scale("x", (0, 0.5, 1)).position(value) is None


@pytest.mark.parametrize(
    ("base", "options", "message"),
    [
        ((1,), {}, "x: (1,) must be two or more values, ascending."),
        ((2, 1), {}, "x: (2, 1) must be two or more values, ascending."),
        ((1, 1), {}, "x: (1, 1) must be two or more values, ascending."),
        ((0, 1), {"log": True}, "x: 0 must be above 0 on a log axis."),
        ((0, 0.5), {"whole": True}, "x: (0, 0.5) must be whole numbers."),
    ],
)
def test_an_axis_without_a_mesh_is_refused(
    base: tuple[float, ...], options: dict[str, bool], message: str
) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        Scale("x", base, **options)
    assert str(caught.value) == message


@pytest.mark.parametrize("position", [-1, FINE + 1])
def test_there_is_no_value_outside_of_the_grid(position: int) -> None:
    with pytest.raises(ValueError, match="outside of 0 to 1024"):
        SQUARE.value(position)


def square(*labels: Mark) -> dict[Point, Mark]:
    """Return marks at the corners of one square: bottom left, bottom right, top left, top right."""
    return dict(zip([(0, 0), (FINE, 0), (0, FINE), (FINE, FINE)], labels, strict=True))


def test_a_square_that_agrees_is_left_alone() -> None:
    assert propose(square(A, A, A, A), SQUARE, SQUARE, finest=1) == []


def test_a_square_that_disagrees_is_subdivided() -> None:
    (level,) = propose(square(A, A, A, B), SQUARE, SQUARE, finest=FINE // 4)
    half = FINE // 2
    assert sorted(level) == [(0, half), (half, 0), (half, half), (half, FINE), (FINE, half)]


def test_on_the_last_level_only_edges_that_disagree_are_halved() -> None:
    (level,) = propose(square(A, A, A, B), SQUARE, SQUARE, finest=FINE // 2)
    assert sorted(level) == [(FINE // 2, FINE), (FINE, FINE // 2)]


def test_nothing_is_finer_than_the_finest() -> None:
    assert propose(square(A, A, A, B), SQUARE, SQUARE, finest=FINE) == []


@pytest.mark.parametrize("finest", [0, -1, FINE + 1])
def test_a_finest_spacing_that_is_none_is_refused(finest: int) -> None:
    with pytest.raises(ValueError, match=f"finest = {finest} must be from 1 to 1024"):
        propose({}, SQUARE, SQUARE, finest=finest)


def test_a_boundary_that_leaves_a_square_is_followed_into_the_next() -> None:
    x = Scale("x", (0, 1, 2))
    marks = {(i * FINE, j * FINE): A for i in range(3) for j in range(2)}
    marks |= {(FINE, FINE // 2): B, (0, FINE // 2): A, (FINE // 2, FINE // 2): A}
    marks |= {(FINE // 2, 0): A, (FINE // 2, FINE): A}
    coarsest = propose(marks, x, SQUARE, finest=FINE // 4)[0]
    assert {p for p in coarsest if p[0] > FINE} == {
        (FINE + FINE // 2, 0),
        (FINE + FINE // 2, FINE // 2),
        (FINE + FINE // 2, FINE),
        (2 * FINE, FINE // 2),
    }


def test_a_square_at_a_hole_of_the_grid_is_refined_along_its_known_edges_only() -> None:
    marks = square(A, B, A, A)
    del marks[FINE, FINE]
    assert propose(marks, SQUARE, SQUARE, finest=FINE // 8) == [[(FINE // 2, 0)]]


def test_nothing_is_asked_for_across_a_hole() -> None:
    assert propose({(0, 0): A, (2 * FINE, 0): B}, Scale("x", (0, 1, 2)), SQUARE, finest=1) == []


def test_an_axis_of_neighbouring_whole_numbers_leaves_the_other_to_be_refined() -> None:
    depth = Scale("depth", (1, 2), whole=True)
    (level,) = propose(square(A, A, A, B), depth, SQUARE, finest=FINE // 4)
    assert sorted(level) == [(0, FINE // 2), (FINE, FINE // 2)]


def test_delays_disagree_only_when_they_differ_by_more_than_the_factor() -> None:
    low, double, more = (Mark("delay", v) for v in (3.0, 3.3, 3.4))
    corners = square(low, low, double, double)
    assert propose(corners, SQUARE, SQUARE, finest=1, steep=STEEP) == []
    assert not Mark("delay", 1.0).unlike(Mark("delay", 1.5), 0.5)
    corners = square(low, low, more, more)
    assert propose(corners, SQUARE, SQUARE, finest=1, steep=STEEP) != []
    assert propose(corners, SQUARE, SQUARE, finest=1) == []


def test_a_censored_delay_disagrees_by_its_label_alone() -> None:
    seen, censored = Mark("delay", 3.0), Mark("censored")
    assert censored.unlike(seen, STEEP)
    assert not censored.unlike(Mark("censored"), STEEP)


def test_the_ends_of_edges_that_disagree_are_at_the_boundary() -> None:
    assert ends(square(A, A, A, B)) == [(0, FINE), (FINE, 0), (FINE, FINE)]
    assert ends({(0, 0): A, (2 * FINE, 0): B}) == []
    assert ends({(0, 0): Mark("d", 1.0), (FINE, 0): Mark("d", 3.0)}, STEEP) == [(0, 0), (FINE, 0)]


def test_a_boundary_is_painted_halfway_between_points_that_disagree() -> None:
    places = [(0.0, 0.0), (0.4 * FINE, 0.1 * FINE), (0.6 * FINE, 0.9 * FINE), (2.0 * FINE, 0.0)]
    assert labels_at(square(A, B, A, B), places) == ["A", "A", "B", "B"]
    assert labels_at({(0, 0): A}, places) == ["A"] * 4


def test_a_split_vote_does_not_make_an_island() -> None:
    marks = {(i * FINE, j * FINE): A for i in range(5) for j in range(5)}
    odd = (2 * FINE, 2 * FINE)
    assert labels_at(marks | {odd: B}, [odd]) == ["B"]
    assert labels_at(marks | {odd: Mark("B", split=True)}, [odd]) == ["A"]


def lattice(lines: int) -> tuple[Scale, dict[Point, Mark]]:
    """Return an axis with so many lines, and no marks yet at their crossings."""
    points = [(i * FINE, j * FINE) for i in range(lines) for j in range(lines)]
    return Scale("x", tuple(range(lines))), dict.fromkeys(points, A)


def refined(
    truth: Truth, lines: int, halvings: int, budget: int = 100_000, *, a_round: int = 100_000
) -> dict[Point, Mark]:
    """Return what is known after refining from lines x lines points, within a budget."""
    axis, marks = lattice(lines)
    fresh = list(marks)
    while fresh:
        marks |= {p: Mark(truth(p[0] / FINE, p[1] / FINE)) for p in fresh}
        levels = propose(marks, axis, axis, finest=FINE >> halvings)
        fresh = [p for level in levels for p in level][: min(budget - len(marks), a_round)]
    return marks


def share_found(truth: Truth, marks: dict[Point, Mark], lines: int, cells: int = 65) -> float:
    """Return the share of the dense boundary that a painted one is within one dense cell of."""
    u = np.linspace(0, lines - 1, cells).tolist()
    true = np.array([[truth(x, y) for y in u] for x in u])
    places = [(x * FINE, y * FINE) for x in u for y in u]
    believed = np.array(labels_at(marks, places)).reshape(true.shape)
    sides, others = _sides(true), _sides(believed)
    apart = np.hypot(*(sides[:, None] - others[None]).transpose(2, 0, 1)).min(axis=1)
    return float((apart < 1.001).mean())


def _sides(labels: np.ndarray) -> np.ndarray:
    rights = np.add(np.argwhere(labels[1:] != labels[:-1]), [0.5, 0])
    return np.concatenate([rights, np.add(np.argwhere(labels[:, 1:] != labels[:, :-1]), [0, 0.5])])


TRUTHS: dict[str, Truth] = {
    "diagonal": lambda x, y: str(y > 1.1 + 0.75 * x),
    "circle": lambda x, y: str((x - 3.8) ** 2 + (y - 4.3) ** 2 > 2.5**2),
    "curve": lambda x, y: str(y > 4 + 1.5 * sin(1.1 * x) + 0.4 * sin(2.9 * x)),
    "two": lambda x, y: str((y > 0.8 + 0.2 * x**1.5, y > 3.4 + 0.5 * x)),
}


@pytest.mark.parametrize("lines", [8, 9])
@pytest.mark.parametrize("name", TRUTHS)
def test_a_boundary_is_found_from_an_eighth_of_the_dense_grid(name: str, lines: int) -> None:
    marks = refined(TRUTHS[name], lines, 3)
    assert len(marks) <= 0.12 * 64**2
    assert share_found(TRUTHS[name], marks, lines) >= 0.95


@pytest.mark.parametrize("name", TRUTHS)
def test_a_budget_is_spent_along_the_whole_boundary(name: str) -> None:
    whole = refined(TRUTHS[name], 9, 3)
    part = refined(TRUTHS[name], 9, 3, (len(whole) + 2 * 81) // 3)
    coarse = {p for p in whole if p[0] % (FINE // 2) == 0 and p[1] % (FINE // 2) == 0}
    assert len(coarse & part.keys()) >= 0.95 * len(coarse)
    left = np.array(sorted(p for p in whole if p not in part))
    apart = np.hypot(*(left[:, None] - np.array(sorted(part))[None]).transpose(2, 0, 1))
    assert apart.min(axis=1).max() <= FINE / sqrt(2)


@pytest.mark.parametrize("name", TRUTHS)
def test_a_first_part_of_a_level_is_spread_along_the_whole_boundary(name: str) -> None:
    axis, marks = lattice(9)
    marks = {p: Mark(TRUTHS[name](p[0] / FINE, p[1] / FINE)) for p in marks}
    level = propose(marks, axis, axis, finest=FINE // 8)[0]
    first = level[: len(level) // 4]
    apart = np.hypot(*(np.array(level)[:, None] - np.array(first)[None]).transpose(2, 0, 1))
    assert apart.min(axis=1).max() <= FINE
    marks |= {p: Mark(TRUTHS[name](p[0] / FINE, p[1] / FINE)) for p in first}
    then = np.array(propose(marks, axis, axis, finest=FINE // 8)[0][: len(level) // 10])
    apart = np.hypot(*(then[:, None] - np.array(first)[None]).transpose(2, 0, 1))
    assert apart.min() > FINE / 2


def test_a_stripe_between_the_lines_is_followed_from_where_it_is_first_seen() -> None:
    stripe: Truth = lambda x, y: str(abs(y - 0.3 - 0.9 * x) < 0.2)  # noqa: E731
    assert share_found(stripe, refined(stripe, 8, 3), 8) >= 0.95


@pytest.mark.parametrize("name", TRUTHS)
def test_small_rounds_end_where_large_ones_do(name: str) -> None:
    assert refined(TRUTHS[name], 8, 2, a_round=7) == refined(TRUTHS[name], 8, 2)


labels = st.sampled_from([A, B, Mark("C"), Mark("D", 1.0), Mark("D", 2.0)])
known = st.dictionaries(
    st.tuples(*[st.integers(0, 24).map(lambda i: i * FINE // 8)] * 2), labels, max_size=60
)


@given(known, st.sampled_from([None, STEEP]), st.randoms(use_true_random=False))
def test_the_order_of_what_is_known_does_not_matter(
    marks: dict[Point, Mark], steep: float | None, random: np.random.Generator
) -> None:
    axis = Scale("x", (0, 1, 2, 3))
    items = list(marks.items())
    random.shuffle(items)
    levels = propose(marks, axis, axis, finest=FINE // 8, steep=steep)
    assert propose(dict(items), axis, axis, finest=FINE // 8, steep=steep) == levels


@given(known, st.sampled_from([None, STEEP]))
def test_what_is_proposed_is_new_and_on_the_lines_and_is_there_once(
    marks: dict[Point, Mark], steep: float | None
) -> None:
    axis = Scale("x", (0, 1, 2, 3))
    levels = propose(marks, axis, axis, finest=FINE // 8, steep=steep)
    points = [p for level in levels for p in level]
    assert all(levels)
    assert len(set(points)) == len(points)
    assert marks.keys().isdisjoint(points)
    assert {i for p in points for i in p} <= set(axis.lines(3))


@settings(deadline=None)
@given(known, scales(), st.integers(0, 3), st.integers(0, 1000))
def test_refinement_ends_from_any_state_and_never_asks_twice(
    marks: dict[Point, Mark], x: Scale, halvings: int, seed: int
) -> None:
    y, rng = Scale("y", (0, 1, 2, 3)), np.random.default_rng(seed)
    places = len(x.lines(halvings)) * len(y.lines(halvings))
    for _ in range(places + 1):
        levels = propose(marks, x, y, finest=FINE >> halvings)
        points = [p for level in levels for p in level]
        if not points:
            break
        assert marks.keys().isdisjoint(points)
        taken = points[: int(rng.integers(1, len(points) + 1))]
        marks |= {p: (A, B)[int(rng.integers(2))] for p in taken}
    assert propose(marks, x, y, finest=FINE >> halvings) == []

"""The values of spaced axes, and the spacings that have none."""

from __future__ import annotations

import pytest

from sweeper.grid.spacing import LinSpace, LogSpace, Range

Spacing = LogSpace | LinSpace | Range


@pytest.mark.parametrize(
    ("axis", "values"),
    [
        (LogSpace(logspace=[1e-3, 1e-1, 3]), [0.001, 0.01, 0.1]),
        (LogSpace(logspace=[1, 1000, 4]), [1, 10, 100, 1000]),
        (LogSpace(logspace=[8, 1, 4]), [8, 4, 2, 1]),
        (LogSpace(logspace=[0.012345678901234, 0.5, 2]), [0.012345678901234, 0.5]),
        (LinSpace(linspace=[0, 0.3, 4]), [0.0, 0.1, 0.2, 0.3]),
        (LinSpace(linspace=[5, 5, 1]), [5]),
        (Range(range=[0, 3]), [0, 1, 2]),
        (Range(range=[0, 1.1, 0.1]), [i / 10 for i in range(11)]),
        (Range(range=[3, 0, -1.5]), [3.0, 1.5]),
    ],
)
def test_an_axis_has_these_values(axis: Spacing, values: list[float]) -> None:
    assert axis.values() == values
    assert [type(value) for value in axis.values()] == [type(value) for value in values]
    assert axis.count() == len(values)
    assert set(axis.extremes()) <= {*values}


@pytest.mark.parametrize(
    ("axis", "refusal"),
    [
        (LogSpace(logspace=[0, 1, 3]), "logspace needs end points above 0. Use linspace"),
        (LinSpace(linspace=[0, 1, 2.5]), "the count is 2.5; it must be a whole number from 1"),
        (LinSpace(linspace=[0, 1, 0]), "the count is 0.0; it must be a whole number from 1"),
        (
            LinSpace(linspace=[0, 1, 1]),
            "one value can't include two end points. Write a list of one value",
        ),
        (
            LinSpace(linspace=[0, 1, 1e7]),
            "10,000,000 values; an axis has at most 1,000,000. Take fewer",
        ),
        (Range(range=[0, 1e7]), "10,000,000 values; an axis has at most 1,000,000. Take fewer"),
        (Range(range=[0, 1, 0]), "range needs a step other than 0"),
        (Range(range=[1, 0]), "the range is empty. Give it at least one value"),
    ],
)
def test_an_axis_without_values_says_why(axis: Spacing, refusal: str) -> None:
    with pytest.raises(ValueError, match=r".+") as caught:
        axis.count()
    assert str(caught.value) == refusal

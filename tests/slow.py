"""Cases of a parametrized test of which some run in `make check` and all in `make check-long`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest


def long_but(fast: Iterable[Any], cases: Iterable[Any]) -> list[Any]:
    """Return `cases`, all but those in `fast` marked `long`; cases with marks keep theirs.

    Raises:
        AssertionError: A name in `fast` is no case.
    """
    kept, every = list(fast), list(cases)
    assert all(one in every for one in kept), kept
    return [
        one if one in kept or hasattr(one, "marks") else pytest.param(one, marks=pytest.mark.long)
        for one in every
    ]

"""What a law means, and what is said of one that means nothing."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweeper.analysis.fit.law import Law
from sweeper.errors import UsageError


@pytest.mark.parametrize(
    ("right", "factor", "exponents"),
    [
        (
            "1/(optimizer.lr*regularizer.strength)",
            1,
            {"optimizer.lr": -1, "regularizer.strength": -1},
        ),
        ("regularizer.strength^-1 * task.N^2", 1, {"regularizer.strength": -1, "task.N": 2}),
        ("1/optimizer.weight_decay", 1, {"optimizer.weight_decay": -1}),
        ("a / b / c * d", 1, {"a": 1, "b": -1, "c": -1, "d": 1}),
        ("a / (b / c)", 1, {"a": 1, "b": -1, "c": 1}),
        ("(a * b^2)^-0.5", 1, {"a": -0.5, "b": -1}),
        ("a**+2 * a", 1, {"a": 3}),
        ("a^(-1/2)", 1, {"a": -0.5}),
        ("a^1/2", 0.5, {"a": 1}),
        ("2e-1 * 3.^2 / .5 * a", 3.6, {"a": 1}),
        ("(2*a)^3", 8, {"a": 3}),
        ("a^0", 1, {"a": 0}),
        ("a/a", 1, {"a": 0}),
        ("regularizer.terms.l1.strength", 1, {"regularizer.terms.l1.strength": 1}),
    ],
)
def test_a_law_is_multiplied_out(right: str, factor: float, exponents: dict[str, float]) -> None:
    law = Law.parse(f"t2 ~ {right}")
    assert {p.path: p.exponent for p in law.powers} == exponents
    assert law.log_factor == pytest.approx(math.log(factor))
    assert (law.time, law.right) == ("t2", right)


def test_a_path_stands_where_the_law_names_it_first() -> None:
    law = Law.parse("  delay ~ task.N /(task.s* task.N)")
    assert [(p.path, p.column) for p in law.powers] == [("task.N", 11), ("task.s", 20)]
    assert law.time == "delay"


values = st.dictionaries(st.sampled_from("abc"), st.integers(-4, 4), min_size=1)


@given(values, st.integers(-3, 3))
def test_the_power_of_a_product_is_the_product_of_powers(
    exponents: dict[str, int], outer: int
) -> None:
    text = " * ".join(f"{path}^{e}" for path, e in exponents.items())
    found = Law.parse(f"t1 ~ ({text})^{outer}")
    assert {p.path: p.exponent for p in found.powers} == {
        path: outer * e for path, e in exponents.items()
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("t2 = 1/a", "column 4: '=' where ~ should come. Write it like EXAMPLE."),
        ("t2", "column 3: the law ends where ~ should come. Write it like EXAMPLE."),
        (
            "",
            "column 1: the law ends where the name of a time: t1, t2 or delay should come. "
            "Write it like EXAMPLE.",
        ),
        (
            "1/a ~ t2",
            "column 1: '1' where the name of a time: t1, t2 or delay should come. "
            "Write it like EXAMPLE.",
        ),
        (
            "t2 ~ ",
            "column 5: the law ends where a path, a number or ( should come. "
            "Write it like EXAMPLE.",
        ),
        (
            "t2 ~ a + b",
            "column 8: '+' where *, / or ^ should come. "
            "A law is a product of powers: a sum has no exponents to fit.",
        ),
        (
            "t2 ~ (a - b)",
            "column 9: '-' where ) should come. "
            "A law is a product of powers: a sum has no exponents to fit.",
        ),
        ("t2 ~ (a * b", "column 12: the law ends where ) should come. Write it like EXAMPLE."),
        ("t2 ~ a * b)", "column 11: ')' where *, / or ^ should come. Write it like EXAMPLE."),
        ("t2 ~ a b", "column 8: 'b' where *, / or ^ should come. Write it like EXAMPLE."),
        (
            "t2 ~ a^b",
            "column 8: 'b' where an exponent, a number should come. Write it like EXAMPLE.",
        ),
        ("t2 ~ a^2^3", "column 9: '^' where *, / or ^ should come. Write it like EXAMPLE."),
        (
            "t2 ~ a * ;",
            "column 10: ';' where a path, a number or ( should come. Write it like EXAMPLE.",
        ),
    ],
)
def test_a_law_that_says_nothing_is_refused_with_its_place(text: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        Law.parse(text)
    example = "'t2 ~ 1/(optimizer.lr*regularizer.strength)'"
    assert str(caught.value) == f"law {text!r}, {message.replace('EXAMPLE', example)}"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "t2 ~ 3 * 2^-1",
            "law 't2 ~ 3 * 2^-1': nothing on the right is a path of the config. "
            "Name one, e.g. 't2 ~ 1/(optimizer.lr*regularizer.strength)'.",
        ),
        (
            "t2 ~ 0 * a",
            "law 't2 ~ 0 * a', column 6: 0 must be above 0 and finite. "
            "Leave it out: the prefactor is fitted.",
        ),
        (
            "t2 ~ a^(1/0)",
            "law 't2 ~ a^(1/0)', column 11: 0 must be above 0 and finite to divide an exponent.",
        ),
        ("t2 ~ a^-1e999", "law 't2 ~ a^-1e999', column 9: 1e999 is no finite exponent."),
        (
            "t2 ~ 1e999*a",
            "law 't2 ~ 1e999*a', column 6: 1e999 must be above 0 and finite. "
            "Leave it out: the prefactor is fitted.",
        ),
    ],
)
def test_numbers_that_no_law_has_are_refused(text: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        Law.parse(text)
    assert str(caught.value) == message

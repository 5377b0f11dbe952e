"""A mistake is data; what a person reads is made from it."""

from __future__ import annotations

from sweeper.config.diagnostic import Diagnostic, Kind, Place, lines


def mistake(place: Place, text: str) -> Diagnostic:
    return Diagnostic(Kind.INVALID, "x", text, place=place)


def test_mistakes_come_in_the_order_of_the_file_each_once() -> None:
    mistakes = [
        mistake(Place("g.yaml", 10, 2), "b"),
        mistake(Place("override 'x=1'", override=True), "z"),
        mistake(Place("g.yaml", 9, 10), "a"),
        mistake(Place("g.yaml", 9, 9), "c"),
        mistake(Place("g.yaml", 10, 2), "b"),
        mistake(Place("override 'a=1'", override=True), "y"),
    ]
    assert lines(mistakes) == [
        "g.yaml:9:9: c",
        "g.yaml:9:10: a",
        "g.yaml:10:2: b",
        "override 'x=1': z",
        "override 'a=1': y",
    ]


def test_a_message_is_the_text_and_the_remedy() -> None:
    found = Diagnostic(Kind.INVALID, "optimizer.lr", "optimizer.lr = -1", "must be above 0.", -1)
    assert found.message == "optimizer.lr = -1 must be above 0."
    assert Diagnostic(Kind.CONSTRAINT, "a", "a = 1: too small.").message == "a = 1: too small."


def test_a_mistake_gets_its_place_later_and_keeps_all_else() -> None:
    unplaced = Diagnostic(Kind.MISSING, "name", "name is missing.", "Add it.")
    placed = unplaced.at(Place("g.yaml", 2, 3))
    assert str(placed) == "g.yaml:2:3: name is missing. Add it."
    assert placed.at(unplaced.place) == unplaced

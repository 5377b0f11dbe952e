"""The grammar of power laws: ``t2 ~ 1/(optimizer.lr*regularizer.strength)``.

Left of ``~`` stands a time, right of it a product or quotient of powers of dotted config paths
and positive numbers; ``^`` and ``**`` both raise. Written out::

    law      = name "~" product
    product  = power { ("*" | "/") power }
    power    = ( number | name | "(" product ")" ) [ ("^" | "**") exponent ]
    exponent = [sign] number | "(" [sign] number [ "/" number ] ")"

Multiplied out, every law is ``factor * path_1^e_1 * path_2^e_2 ...`` with claimed exponents e.
An exponent may be 0: that claims that the time doesn't depend on the path.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field

from sweeper.errors import UsageError

EXAMPLE = "t2 ~ 1/(optimizer.lr*regularizer.strength)"

_TOKEN = re.compile(
    r"(?P<number>(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)"
    r"|(?P<name>[^\W\d]\w*(?:\.\w+)*)|(?P<sign>\*\*|[-+*/^()~])|(?P<other>\S)"
)
_RAISED = ("^", "**")


@dataclass(frozen=True, slots=True)
class Power:
    """A path with its claimed exponent.

    Attributes:
        path: Dotted name of a config value.
        exponent: What the law claims; 0 claims that nothing depends on the path.
        column: Where the law names it first, from 1.
    """

    path: str
    exponent: float
    column: int


@dataclass(frozen=True, slots=True)
class Law:
    """A time as a power law in config values: ``time ~ factor * product of path^exponent``.

    Attributes:
        text: As the user wrote it.
        time: t1, t2, delay or another column of steps.
        powers: The paths, each once, in the order in which the law names them.
        log_factor: Natural logarithm of the product of the law's numbers.
    """

    text: str
    time: str
    powers: tuple[Power, ...]
    log_factor: float

    @classmethod
    def parse(cls, text: str) -> Law:
        """Return the law that `text` states.

        Raises:
            UsageError: It doesn't follow the grammar; names the column, what stands there and
                what would be right.
        """
        parser = _Parser(text)
        time = parser.take("name", "the name of a time: t1, t2 or delay").text
        parser.sign("~")
        product = parser.product()
        if parser.here.kind != "end":
            raise parser.wrong("*, / or ^")
        if not product.exponents:
            raise UsageError(
                f"law {text!r}: nothing on the right is a path of the config. "
                f"Name one, e.g. {EXAMPLE!r}."
            )
        powers = [Power(p, e, parser.columns[p]) for p, e in product.exponents.items()]
        return cls(text, time, tuple(powers), product.log_factor)

    @property
    def right(self) -> str:
        """The right side as the user wrote it."""
        return self.text.partition("~")[2].strip()

    def place(self, power: Power) -> str:
        """Return where in the law `power` stands, as errors begin."""
        return f"law {self.text!r}, column {power.column}"


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str
    column: int


@dataclass(slots=True)
class _Product:
    """Numbers and paths multiplied so far."""

    log_factor: float = 0.0
    exponents: dict[str, float] = field(default_factory=dict)

    def times(self, other: _Product, exponent: float) -> None:
        """Multiply by a power of `other`."""
        self.log_factor += exponent * other.log_factor
        for path, e in other.exponents.items():
            self.exponents[path] = self.exponents.get(path, 0.0) + exponent * e


class _Parser:
    """Reads a law from left to right.

    Attributes:
        here: The next token.
        columns: Path to where it stood first.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self.columns: dict[str, int] = {}
        self._tokens = [
            _Token(found.lastgroup or "", found[0], found.start() + 1)
            for found in _TOKEN.finditer(text)
        ]
        self._tokens.append(_Token("end", "", len(text.rstrip()) + 1))

    @property
    def here(self) -> _Token:
        return self._tokens[0]

    def wrong(self, expected: str) -> UsageError:
        """Return the error that something else than `expected` comes next."""
        found = repr(self.here.text) if self.here.text else "the law ends"
        why = (
            "A law is a product of powers: a sum has no exponents to fit."
            if self.here.text in ("+", "-")
            else f"Write it like {EXAMPLE!r}."
        )
        return UsageError(f"{self._at(self.here)}: {found} where {expected} should come. {why}")

    def take(self, kind: str, expected: str) -> _Token:
        """Return the next token, which has to be of that kind."""
        if self.here.kind != kind:
            raise self.wrong(expected)
        return self._tokens.pop(0)

    def sign(self, text: str) -> None:
        """Go past the sign `text`, which has to come next."""
        if self.here.text != text:
            raise self.wrong(text)
        self._tokens.pop(0)

    def product(self) -> _Product:
        """Read powers that are multiplied and divided."""
        found = _Product()
        found.times(*self._power())
        while self.here.text in ("*", "/"):
            sign = self._tokens.pop(0).text
            base, exponent = self._power()
            found.times(base, exponent if sign == "*" else -exponent)
        return found

    def _power(self) -> tuple[_Product, float]:
        base = self._atom()
        if self.here.text not in _RAISED:
            return base, 1.0
        self._tokens.pop(0)
        return base, self._exponent()

    def _atom(self) -> _Product:
        if self.here.text == "(":
            self._tokens.pop(0)
            found = self.product()
            self.sign(")")
            return found
        if self.here.kind == "number":
            return _Product(math.log(self._positive(". Leave it out: the prefactor is fitted.")))
        token = self.take("name", "a path, a number or (")
        self.columns.setdefault(token.text, token.column)
        return _Product(0.0, {token.text: 1.0})

    def _exponent(self) -> float:
        if self.here.text != "(":
            return self._signed()
        self._tokens.pop(0)
        found = self._signed()
        if self.here.text == "/":
            self._tokens.pop(0)
            found /= self._positive(" to divide an exponent.")
        self.sign(")")
        return found

    def _signed(self) -> float:
        minus = self.here.text == "-"
        if self.here.text in ("-", "+"):
            self._tokens.pop(0)
        token = self.take("number", "an exponent, a number")
        value = float(token.text)
        if math.isinf(value):
            raise UsageError(f"{self._at(token)}: {token.text} is no finite exponent.")
        return -value if minus else value

    def _positive(self, remedy: str) -> float:
        token = self.take("number", "a number")
        value = float(token.text)
        if not 0 < value < math.inf:
            raise UsageError(f"{self._at(token)}: {token.text} must be above 0 and finite{remedy}")
        return value

    def _at(self, token: _Token) -> str:
        return f"law {self.text!r}, column {token.column}"

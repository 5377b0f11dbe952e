"""From a grid file to a `Grid`: one pass over the file, section by section.

Every mistake becomes a `Diagnostic` with its place, and all of them are raised together. A
mistake that only follows from another one isn't reported.
"""

from __future__ import annotations

from collections.abc import Callable

from sweeper.compile.axes import read_blocks
from sweeper.compile.blocks import check_applied, compile_blocks
from sweeper.compile.cell_checks import check_constraints, check_criteria, check_metrics, read_rules
from sweeper.compile.diagnostics import Diagnostics
from sweeper.compile.fixed import read_fixed
from sweeper.compile.search_checks import check_search
from sweeper.config import plugins
from sweeper.config.diagnostic import Diagnostic, KeyPath, Kind, lines
from sweeper.config.fields import Config
from sweeper.errors import ConfigError, UsageError
from sweeper.grid.document import Document
from sweeper.grid.grid import Grid
from sweeper.grid.gridfile import GridFile
from sweeper.grid.shape import check_shape
from sweeper.trainable import DEFAULT


def read_grid(
    document: Document, load: Callable[[str], type[Config]], text: str = "", *, trusted: bool = True
) -> Grid:
    """Return the grid that `document` describes.

    Args:
        document: The file with the overrides applied.
        load: Returns the config of the trainable of that name; may raise `UsageError`.
        text: The file's text, for the provenance.
        trusted: Whether modules that the file names are imported, which runs their code. Otherwise
            each is a mistake.

    Raises:
        ConfigError: All mistakes of the file, in its shape and in its values.
    """
    file, refused = check_shape(document)
    if file is None:
        raise ConfigError(lines(refused))
    config = _config(document, file, load, refused, trusted=trusted)
    return _compile(Diagnostics(document, file, config, refused), text)


def compile_grid(document: Document, file: GridFile, config: type[Config], text: str = "") -> Grid:
    """Return the grid of a file whose shape is valid.

    Args:
        document: The places of the file's values.
        file: The validated file.
        config: The config of the file's trainable.
        text: The file's text, for the provenance.

    Raises:
        ConfigError: All mistakes in the file's values.
    """
    return _compile(Diagnostics(document, file, config), text)


def _config(
    document: Document,
    file: GridFile,
    load: Callable[[str], type[Config]],
    refused: list[Diagnostic],
    *,
    trusted: bool,
) -> type[Config]:
    """Return the config of the trainable, with the choices that the file names by import path.

    Raises:
        ConfigError: One of them can't be imported, or none may be; the mistakes `refused` come
            with it.
    """
    mistakes: list[Diagnostic] = []

    def refuse(error: UsageError, node: KeyPath) -> None:
        path, place = ".".join(map(str, node)), document.place(*node)
        mistakes.append(Diagnostic(Kind.UNAVAILABLE, path, str(error), place=place))

    node: KeyPath = ("trainable",)

    def allow(name: str) -> None:
        if not trusted:
            raise UsageError(
                f"{'.'.join(map(str, node))} = {name!r} would import a module of that name and run "
                "its code. Add --trust if you trust the grid and that module."
            )

    try:
        if file.trainable != DEFAULT:
            allow(file.trainable)
        config = load(file.trainable)
        named = list(plugins.plugins_in(config, document.value))
        for (part, name), at in named:
            node = at
            try:
                allow(name)
                plugins.load_plugin(config, part, name)
            except UsageError as error:
                refuse(error, node)
        if not mistakes:
            return plugins.with_plugins(config, [plugin for plugin, _ in named])
    except UsageError as error:
        refuse(error, node)
    raise ConfigError(lines([*refused, *mistakes]))


def _compile(diagnostics: Diagnostics, text: str) -> Grid:
    """Check each section of the file once. Each check needs only sections before it."""
    fixed = read_fixed(diagnostics)
    cells = compile_blocks(diagnostics, fixed, read_blocks(diagnostics, fixed))
    search = check_search(diagnostics, fixed, cells.subgrids)
    check_applied(diagnostics, cells, search.applied)
    rules = read_rules(diagnostics, cells.subgrids)
    if rules is not None:
        check_constraints(diagnostics, cells, rules)
    check_criteria(diagnostics, cells.subgrids, search.leads)
    check_metrics(diagnostics)
    if diagnostics.every:
        raise ConfigError(lines(diagnostics.every))
    return Grid(
        file=diagnostics.file,
        config=diagnostics.config,
        steps=fixed.steps,
        subgrids=tuple(cells.subgrids),
        text=text,
        rules=tuple(rules or ()),
        fixed=fixed.values,
        searched=search.leads,
        unsearchable=tuple(lines(search.unreported)),
    )

"""Queries from ``analysis/views/sql``: one per file, with a header that documents it."""

from __future__ import annotations

from pathlib import Path
from string import Template


def read_sql(name: str) -> str:
    """Return the text of ``analysis/views/sql/<name>.sql``."""
    return (Path(__file__).parent / "sql" / f"{name}.sql").read_text(encoding="utf-8")


def fill(name: str, **params: str) -> str:
    """Return the query of ``analysis/views/sql/<name>.sql``, with its ``$params`` filled in."""
    lines = read_sql(name).split("\n")
    return Template("\n".join(x for x in lines if not x.startswith("--"))).substitute(params)

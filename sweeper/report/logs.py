"""What a trial printed: the files in which the output of packs is kept."""

from __future__ import annotations

import re

from sweeper.runs.single import OUTPUT
from sweeper.store.files import Files


def outputs(files: Files, pack_id: str) -> list[str]:
    """Return the paths of the kept output of a pack, oldest attempt first.

    They are called ``output/<pack>-<attempt>-<anything>.txt``.

    Args:
        files: The sweep's folder.
        pack_id: The pack.
    """
    name = re.compile(rf"{OUTPUT}/{re.escape(pack_id)}-(\d+)\b[^/]*\.txt")
    kept = [(match, path) for path in files.paths(OUTPUT) if (match := name.fullmatch(path))]
    return [path for _, path in sorted((int(match[1]), path) for match, path in kept)]


def last_output(files: Files, pack_id: str | None) -> str | None:
    """Return the output of a pack's last attempt that has one; None without."""
    for path in reversed(outputs(files, pack_id) if pack_id else []):
        if (content := files.read(path)) is not None:
            return content.decode(errors="replace")
    return None

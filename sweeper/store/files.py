"""The interface to object storage: a folder of files, on a disk or in a bucket.

A file appears whole or not at all, `create` is put-if-absent, and no file is changed in place. The
storage needs nothing more.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError, NotFoundError
from obstore.store import LocalStore, from_url

from sweeper.errors import StoreError, StoreFullError

_FULL = ("os error 28", "os error 27", "os error 122", "No space left")  # ENOSPC, EFBIG, EDQUOT


@dataclass(frozen=True, slots=True)
class Files:
    """A folder of files.

    Attributes:
        uri: The folder: a local path, or a URL such as ``s3://bucket/prefix``.
        backend: The library's handle on it.
    """

    uri: str
    backend: Any

    @classmethod
    def at(cls, uri: str, *, create: bool = False) -> Files:
        """Return the folder at `uri`.

        Raises:
            StoreError: A local folder doesn't exist and `create` is false, or the URL isn't
                usable.
        """
        root = local_folder(uri)
        if root is None:
            try:
                return cls(uri.rstrip("/"), from_url(uri))
            except (BaseError, ValueError) as error:
                raise StoreError(
                    f"store {uri!r}: {_first_line(error)}. Use a folder of this machine, or a URL "
                    "such as s3://BUCKET/PREFIX."
                ) from None
        if create:
            try:
                root.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise StoreError(f"store {root}: can't be created: {error.strerror}.") from None
        elif not root.is_dir():
            raise StoreError(f"store {root}: no such folder.")
        return cls(str(root), LocalStore(root))

    @property
    def root(self) -> Path | None:
        """The folder on this machine's disk; None for a bucket."""
        return None if "://" in self.uri else Path(self.uri)

    def location(self, path: str) -> str:
        """Return the full name of `path`: a path on this machine, or a URL."""
        return f"{self.uri}/{path}"

    def read(self, path: str) -> bytes | None:
        """Return the content of `path`, or None if there is no such file."""
        try:
            with self._translated(path):
                if "://" not in self.uri:  # the library takes ten times as long for a small file
                    with open(self.location(path), "rb") as file:  # noqa: PTH123
                        return file.read()
                return bytes(obstore.get(self.backend, path).bytes())
        except FileNotFoundError:
            return None

    def write(self, path: str, content: bytes) -> None:
        """Write `path`, replacing what was there.

        Raises:
            StoreFullError: No space is left.
        """
        self._put(path, content, "overwrite")

    def create(self, path: str, content: bytes) -> bool:
        """Write `path` if there is no such file; return whether this call wrote it.

        Raises:
            StoreFullError: No space is left.
        """
        return self._put(path, content, "create")

    def _put(self, path: str, content: bytes, mode: Any) -> bool:
        try:
            with self._translated(path):
                obstore.put(self.backend, path, content, mode=mode, use_multipart=False)
        except AlreadyExistsError:
            return False
        except FileNotFoundError as error:
            raise StoreError(f"{self.location(path)}: {_first_line(error)}") from None
        return True

    def size(self, path: str) -> int | None:
        """Return the size of `path` in bytes, or None if there is no such file."""
        try:
            with self._translated(path):
                if "://" not in self.uri:
                    return os.stat(self.location(path)).st_size  # noqa: PTH116
                return int(obstore.head(self.backend, path)["size"])
        except FileNotFoundError:
            return None

    def paths(self, prefix: str, *, after: str | None = None) -> list[str]:
        """Return the paths below `prefix`, sorted; with `after`, only those that sort after it."""
        try:
            with self._translated(prefix):
                listed = obstore.list(self.backend, prefix, offset=after).collect()
        except FileNotFoundError:
            return []
        return sorted(item["path"] for item in listed)

    def folders(self) -> list[str]:
        """Return the names of the folders directly inside."""
        try:
            with self._translated(""):
                return sorted(obstore.list_with_delimiter(self.backend)["common_prefixes"])
        except FileNotFoundError:
            return []

    def delete(self, path: str) -> None:
        """Remove `path`; do nothing if there is no such file."""
        try:
            with self._translated(path):
                obstore.delete(self.backend, path)
        except FileNotFoundError:
            return

    @contextmanager
    def _translated(self, path: str) -> Iterator[None]:
        """Raise each error of the storage as a `StoreError` that names `path`.

        Raises:
            FileNotFoundError: There is no such file.
            AlreadyExistsError: `create` met a file.
            StoreFullError: No space is left.
            StoreError: Anything else, such as a network error or a missing permission.
        """
        try:
            yield
        except AlreadyExistsError:
            raise
        except (FileNotFoundError, NotADirectoryError, NotFoundError) as error:
            raise FileNotFoundError(str(error)) from None
        except (BaseError, OSError) as error:
            if any(sign in str(error) for sign in _FULL):
                raise StoreFullError(
                    f"{self.location(path)}: no space left. What was committed is whole: "
                    "free some space and launch again."
                ) from None
            raise StoreError(f"{self.location(path)}: {_first_line(error)}") from None


def local_folder(uri: str) -> Path | None:
    """Return the folder of this machine that `uri` means, which may not exist; None for a URL."""
    if "://" in uri and not uri.startswith("file://"):
        return None
    return Path(uri.removeprefix("file://")).absolute()


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0]

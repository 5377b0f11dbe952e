"""The interface to object storage: a folder of files, on a disk or in a bucket.

A file appears whole or not at all, `create` is put-if-absent, and no file is changed in place. The
storage needs nothing more.

On a disk, a file is durable when the call returns: its content is synced before it gets its name,
and the folder afterwards. So a power cut takes nothing that was acknowledged. A file is never
written into a folder whose sweep is gone: a worker that outlives its sweep brings nothing back.
"""

from __future__ import annotations

import errno
import os
import re
import secrets
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import unquote

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError, GenericError, NotFoundError
from obstore.store import HTTPStore, LocalStore, from_url

from sweeper.errors import StoreError, StoreFullError
from sweeper.store import disk

MARK = disk.MARK

_FULL_CODES = (errno.ENOSPC, errno.EFBIG, errno.EDQUOT)
_FULL = ("os error 28", "os error 27", "os error 122", "No space left")  # ENOSPC, EFBIG, EDQUOT

KINDS = (
    "Use a folder of this machine, or a URL: s3://BUCKET/PREFIX, gs://BUCKET/PREFIX or "
    "az://CONTAINER/PREFIX."
)

CREDENTIALS = {
    "s3": "AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_REGION",
    "gs": "GOOGLE_APPLICATION_CREDENTIALS",
    "az": "AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY",
}
"""Scheme of a URL to the environment variables with the credentials of its storage."""

ALIASES = {"s3a": "s3", "gcs": "gs", "azure": "az", "adl": "az", "abfs": "az", "abfss": "az"}
"""Scheme of a URL to the key of `CREDENTIALS` that it is another name of."""

_METADATA = "169.254.169.254"
"""The address that a cloud's own machines get credentials from, asked when there are no others."""

RETRY_S = 60.0
"""Seconds for which a bucket that fails for a moment is asked again."""

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 8.0
"""Limits of the random pause between two tries: of the first one, and of any."""

_RETRIES: Any = {"max_retries": 10, "retry_timeout": timedelta(seconds=5)}
"""What the library does by itself. It can't be interrupted meanwhile, so its time is short."""

_PASSING = re.compile(r"HTTP error: |status code: (5\d\d|429)")
_NO_BUCKET = re.compile(r"NoSuchBucket|[Ss]pecified bucket does not exist|ContainerNotFound")

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Entry:
    """A file in a listing.

    Attributes:
        path: Below the folder.
        size: In bytes.
        modified: Unix time of its last change, by the clock of the storage.
    """

    path: str
    size: int
    modified: float


@dataclass(frozen=True, slots=True)
class Files:
    """A folder of files.

    Attributes:
        uri: The folder: a local path, or a URL such as ``s3://bucket/prefix``.
        backend: The library's handle on it.
        retry_s: Seconds for which a bucket that fails for a moment is asked again.
    """

    uri: str
    backend: Any
    retry_s: float = RETRY_S

    @classmethod
    def at(cls, uri: str, *, create: bool = False) -> Files:
        """Return the folder at `uri`.

        Raises:
            StoreError: A local folder doesn't exist and `create` is false, or the URL isn't
                usable.
        """
        root = local_folder(uri)
        if root is None:
            return cls(uri.rstrip("/"), _bucket(uri))
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

        def get() -> bytes:
            if self.root is not None:  # the library takes ten times as long for a small file
                with open(self.location(path), "rb") as file:  # noqa: PTH123
                    return file.read()
            return bytes(obstore.get(self.backend, path).bytes())

        try:
            return self._ask(path, get)
        except FileNotFoundError:
            return None

    def read_many(self, paths: Sequence[str]) -> list[bytes | None]:
        """Return the contents of `paths`, in their order: None where there is no such file.

        A bucket is asked for `AT_ONCE` files at a time, a disk for one.
        """
        if self.root is not None or len(paths) < 2:
            return [self.read(path) for path in paths]
        with ThreadPoolExecutor(min(AT_ONCE, len(paths))) as pool:
            return list(pool.map(self.read, paths))

    def write(self, path: str, content: bytes, *, durable: bool = True) -> None:
        """Write `path`, replacing an earlier file.

        Args:
            path: Below the folder.
            content: Of the file.
            durable: Whether a power cut right afterwards must not take it. On a disk this takes
                two syncs.

        Raises:
            StoreFullError: No space is left.
        """
        self._put(path, content, "overwrite", durable=durable)

    def create(self, path: str, content: bytes) -> bool:
        """Write `path` if there is no such file; return whether this call wrote it.

        False on a bucket may also mean that this call wrote the file and the answer was lost: the
        next try met its own file. Read it to know.

        Raises:
            StoreFullError: No space is left.
        """
        return self._put(path, content, "create", durable=True)

    def _put(self, path: str, content: bytes, mode: Any, *, durable: bool) -> bool:
        def put() -> None:
            if self.root is not None:
                disk.write(self.root, path, content, create=mode == "create", sync=durable)
            else:
                obstore.put(self.backend, path, content, mode=mode, use_multipart=False)

        try:
            self._ask(path, put)
        except (AlreadyExistsError, FileExistsError):
            return False
        except FileNotFoundError as error:
            raise StoreError(f"{self.location(path)}: {_first_line(error)}") from None
        return True

    def size(self, path: str) -> int | None:
        """Return the size of `path` in bytes, or None if there is no such file."""

        def stat() -> int:
            if self.root is not None:
                return os.stat(self.location(path)).st_size  # noqa: PTH116
            return int(obstore.head(self.backend, path)["size"])

        try:
            return self._ask(path, stat)
        except FileNotFoundError:
            return None

    def paths(self, prefix: str, *, after: str | None = None) -> list[str]:
        """Return the paths below `prefix`, sorted; with `after`, only those that sort after it.

        On a disk, only what can be a file of ours: no links that lead nowhere, no names that
        aren't text, no files that are being written.
        """

        def listed() -> list[str]:
            if self.root is not None:
                return [
                    path for path in disk.walk(self.root, prefix) if after is None or path > after
                ]
            found = obstore.list(self.backend, prefix, offset=after).collect()
            return [item["path"] for item in found]

        try:
            return sorted(self._ask(prefix, listed))
        except FileNotFoundError:
            return []

    def entries(self) -> list[Entry]:
        """Return all files, sorted by path, also those that are being written."""

        def listed() -> list[Entry]:
            if self.root is not None:
                return [Entry(*each) for each in disk.stats(self.root)]
            items = obstore.list(self.backend).collect()
            return [Entry(i["path"], i["size"], i["last_modified"].timestamp()) for i in items]

        return sorted(self._ask("", listed), key=lambda entry: entry.path)

    def folders(self, prefix: str = "") -> list[str]:
        """Return the names of the folders directly inside, or directly below `prefix`, sorted."""

        def listed() -> list[str]:
            if self.root is not None:
                with os.scandir(self.root / prefix) as entries:
                    return [entry.name for entry in entries if disk.is_folder(entry)]
            listed = obstore.list_with_delimiter(self.backend, prefix or None)
            return [path.rpartition("/")[2] for path in listed["common_prefixes"]]

        try:
            return sorted(filter(disk.is_text, self._ask(prefix, listed)))
        except FileNotFoundError:
            return []

    def delete(self, path: str) -> None:
        """Remove `path`; do nothing if there is no such file."""

        def remove() -> None:
            if self.root is not None:
                (self.root / path).unlink()
            else:
                obstore.delete(self.backend, path)

        with suppress(FileNotFoundError):
            self._ask(path, remove)

    def delete_many(self, paths: Sequence[str]) -> None:
        """Remove `paths`; those that don't exist are passed over.

        A bucket is asked to remove `BULK` files at a time.
        """
        if self.root is not None:
            for path in paths:
                self.delete(path)
            return
        for start in range(0, len(paths), BULK):
            chunk = list(paths[start : start + BULK])
            with suppress(FileNotFoundError):
                self._ask(chunk[0], partial(obstore.delete, self.backend, chunk))

    def _ask(self, path: str, call: Callable[[], T]) -> T:
        """Return the result of `call`, an operation on `path`, which may be repeated.

        A bucket that fails for a moment is asked again for `retry_s` seconds, after pauses that
        double and are drawn at random, so that a thousand workers don't come back together. The
        library retries by itself, but neither a creation or removal whose answer was lost, nor a
        file that ended early.

        Raises:
            FileNotFoundError: There is no such file.
            AlreadyExistsError, FileExistsError: `create` met a file.
            StoreFullError: No space is left.
            StoreError: Anything else, such as a network error or a missing permission.
        """
        end = time.monotonic() + self.retry_s
        longest = FIRST_PAUSE_S
        while True:
            try:
                return call()
            except (AlreadyExistsError, FileExistsError):
                raise
            except (FileNotFoundError, NotADirectoryError, NotFoundError) as error:
                if _NO_BUCKET.search(str(error)):
                    raise self._refused(path, error) from None
                raise FileNotFoundError(str(error)) from None
            except (BaseError, OSError) as error:
                left = end - time.monotonic()
                if left <= 0 or not _passes(error):
                    raise self._refused(path, error) from None
            time.sleep(min(left, longest * secrets.randbelow(1000) / 1000))
            longest = min(2 * longest, LONGEST_PAUSE_S)

    def _refused(self, path: str, error: Exception) -> StoreError:
        """Return the error that the storage refused `path`, with a remedy for a bucket."""
        where = self.location(path).rstrip("/")
        reason = getattr(error, "strerror", None) or _first_line(error)
        if getattr(error, "errno", None) in _FULL_CODES or any(text in reason for text in _FULL):
            return StoreFullError(
                f"{where}: no space left. What was committed is whole: free some space and launch "
                "again."
            )
        if self.root is not None:
            return StoreError(f"{where}: {reason}")
        if _NO_BUCKET.search(str(error)):
            return StoreError(f"{where}: the bucket doesn't exist. Create it, or correct its name.")
        variables = CREDENTIALS.get(_kind(self.uri), "the environment variables of this storage")
        if _METADATA in reason:
            return StoreError(
                f"{where}: no credentials were found. Set {variables}, or run `sweeper` on a "
                "machine of that cloud."
            )
        if self.retry_s and _passes(error):
            reason += f" (tried again for {self.retry_s:g} s)"
        return StoreError(
            f"{where}: {reason}. Check the bucket, the network and the credentials: {variables}."
        )


def _passes(error: Exception) -> bool:
    """Return whether a bucket's error may pass by itself: of the network, or of its server."""
    text = _first_line(error)
    return isinstance(error, GenericError) and _METADATA not in text and bool(_PASSING.search(text))


BULK = 1000
"""The most files that a bucket removes by one request."""

AT_ONCE = 128
"""The number of files that `Files.read_many` reads from a bucket at the same time."""


def local_folder(uri: str) -> Path | None:
    """Return the folder of this machine that `uri` means, which may not exist; None for a URL.

    ``~`` and ``~user`` at the beginning mean a home folder. In a URL ``file://``, ``%20`` means a
    space; everything else stands for itself.

    Raises:
        StoreError: `uri` is empty, is misspelled, or names another machine or an unknown user.
    """
    scheme, colon, rest = uri.partition(":")
    scheme = scheme.lower()
    if colon and scheme == "file":
        return _from_file_url(uri, rest)
    if colon and rest.startswith("//") and _SCHEME.fullmatch(scheme):
        return None
    if colon and rest.startswith("/") and scheme in (*CREDENTIALS, *ALIASES):
        raise StoreError(f"store {uri!r}: a URL has two slashes. Write {scheme}:/{rest}.")
    if not uri:
        raise StoreError("store '': the name is empty. Write a folder, e.g. --store sweeps.")
    path = Path(uri)
    if not uri.startswith("~"):
        return path.absolute()
    try:
        return path.expanduser().absolute()
    except RuntimeError:  # no such user, or a user without a home folder
        raise StoreError(
            f"store {uri!r}: {path.parts[0]!r} means a home folder that this machine doesn't have. "
            f"Write ./{uri} for a folder of that name."
        ) from None


_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*")


def _from_file_url(uri: str, rest: str) -> Path:
    """Return the folder that a URL means: `rest` of it follows ``file:``."""
    host, path = "", rest
    if rest.startswith("//"):
        host, slash, path = rest[2:].partition("/")
        path = slash + path
    if host.lower() not in ("", "localhost") or not path.startswith("/"):
        raise StoreError(
            f"store {uri!r}: a file URL holds the whole path of a folder of this machine. Write "
            "file:///FOLDER, or the folder alone."
        )
    return Path(unquote(path)).absolute()


def _bucket(uri: str) -> Any:
    """Return the library's handle on the bucket at `uri`.

    Raises:
        StoreError: The URL isn't usable, or its storage can't hold a store.
    """
    try:
        backend = from_url(uri, retry_config=_RETRIES)
    except (BaseError, ValueError) as error:
        raise StoreError(f"store {uri!r}: {_first_line(error)}. {KINDS}") from None
    if isinstance(backend, HTTPStore):
        raise StoreError(
            f"store {uri!r}: {uri.split(':')[0]} isn't a storage that a store can be kept in. "
            f"{KINDS}"
        )
    return backend


def _kind(uri: str) -> str:
    scheme = uri.partition(":")[0].lower()
    return ALIASES.get(scheme, scheme)


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0].rstrip(": ")

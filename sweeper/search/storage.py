"""The databases of studies: any that Optuna supports; errors are one line with a remedy."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from weakref import finalize

from optuna.exceptions import StorageInternalError
from optuna.storages import RDBStorage
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import SQLAlchemyError

from sweeper.errors import StorageError

CONNECT_S = 10
"""Seconds to wait for a database server."""

LOCK_S = 60
"""Seconds that SQLite waits for another process, e.g. a dashboard."""


@contextmanager
def quiet() -> Iterator[None]:
    """Silence Optuna's warnings: the experimental settings that it warns of are chosen here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def at_file(path: Path) -> str:
    """Return the URL of the SQLite database in the file `path`."""
    plain = f"sqlite:///{path}"
    if make_url(plain).database == str(path):
        return plain
    return URL.create("sqlite", database=str(path)).render_as_string()


def checked(storage: str) -> str:
    """Return the URL `storage` with ``~`` at the beginning of an SQLite file made the home folder.

    Raises:
        StorageError: It isn't the URL of a database that outlives this process.
    """
    try:
        url = make_url(storage)
    except (SQLAlchemyError, ValueError):
        example = f"sqlite:///{storage}" if storage and ":" not in storage else "sqlite:///FILE"
        raise StorageError(
            f"{shown(storage)}: not the URL of a database. Write {example}, "
            "or postgresql+psycopg://USER@HOST/NAME."
        ) from None
    if not url.drivername.startswith("sqlite"):
        return storage
    file = url.database or ""
    if file in ("", ":memory:"):
        raise StorageError(
            f"{storage}: a database in memory, which ends with this command. Name a file: "
            "sqlite:///FILE, or sqlite:////FOLDER/FILE with the whole path."
        )
    if not file.startswith("~"):
        return storage
    whole = os.path.expanduser(file)  # noqa: PTH111 - that of an unknown user stays as it is
    return storage.replace(file, whole, 1)


def reach(storage: str) -> None:
    """Check that the database can be reached.

    Raises:
        StorageError: The database can't be reached.
    """
    with reaching(storage), quiet():
        database(storage)


def database(storage: str) -> RDBStorage:
    """Return the database at the URL `storage`; its connections are closed with it."""
    try:
        braced = storage.replace("{", "{{").replace("}", "}}")  # Optuna formats the URL
        opened = RDBStorage(braced, engine_kwargs=_engine(storage))
    except RuntimeError as error:  # made by another version of Optuna
        raise _refused(storage, error) from None
    finalize(opened, opened.engine.dispose)
    return opened


@contextmanager
def reaching(storage: str) -> Iterator[None]:
    """Raise each error of the database as one line with a remedy.

    Raises:
        StorageError: The database can't be reached.
    """
    try:
        yield
    except StorageInternalError as error:
        raise _refused(storage, error.__cause__ or error) from None
    except (SQLAlchemyError, ImportError, OSError) as error:
        raise _refused(storage, error) from None


def _refused(storage: str, error: BaseException) -> StorageError:
    text = str(getattr(error, "orig", None) or error).strip()
    reason = " ".join(text.split("\n")[0].split()).rstrip(".")
    if "not a database" in reason or "malformed" in reason:
        return StorageError(
            f"{shown(storage)}: damaged: {reason}. Move the file away and search again: the study "
            "is made again from the trained trials."
        )
    return StorageError(
        f"{shown(storage)}: {reason}. Check that the database is up and may be written, and "
        "its URL: sqlite:///FILE or postgresql+psycopg://USER@HOST/NAME."
    )


def shown(storage: str) -> str:
    """Return the URL of a storage without its password."""
    try:
        url = make_url(storage)
        return storage if url.password is None else url.render_as_string(hide_password=True)
    except (SQLAlchemyError, ValueError):
        return "the study's storage" if "@" in storage else f"storage {storage!r}"


def _engine(storage: str) -> dict[str, Any]:
    if storage.startswith("sqlite"):
        return {"connect_args": {"timeout": LOCK_S}}
    timeout = {"connect_timeout": CONNECT_S} if storage.startswith("postgresql") else {}
    return {"pool_pre_ping": True, "connect_args": timeout}  # a round may outlive a connection

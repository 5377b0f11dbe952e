"""A PostgreSQL server of the tests' own, on loopback, from Debian's packages."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

USERS = ("postgres", "nobody")
"""Who may own the server: initdb refuses root."""


def binaries() -> Path | None:
    """Return the folder of the newest PostgreSQL that is installed."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    return found[-1].parent if found else None


def install() -> str | None:
    """Install PostgreSQL where this process may; return why not."""
    if binaries() is not None:
        return None
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        return "PostgreSQL isn't installed, and only root can install it by apt-get"
    quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for words in (["update"], ["install", "--yes", "--no-install-recommends", "postgresql"]):
        done = subprocess.run(
            ["apt-get", "-qq", *words], env=quiet, capture_output=True, text=True, check=False
        )
        if done.returncode:
            return f"apt-get {words[0]} failed: {done.stderr.strip()[-200:]}"
    return None if binaries() is not None else "PostgreSQL was installed, but not found"


@dataclass
class Server:
    """A server with its data in `folder`.

    Attributes:
        folder: Holds data, socket and log.
        port: On loopback.
    """

    folder: Path
    port: int

    @classmethod
    def made(cls, folder: Path) -> Server:
        """Make the data of a server in `folder`, which is handed to its owner."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            server = cls(folder, free.getsockname()[1])
        if os.geteuid() == 0:
            shutil.chown(folder, server.owner)
        server.call("initdb", "-D", str(folder / "data"), "-A", "trust", "-U", "sweeper", "-N")
        return server

    @property
    def owner(self) -> str:
        """The user that the server runs as."""
        if os.geteuid() != 0:
            return pwd.getpwuid(os.geteuid()).pw_name
        known = {entry.pw_name for entry in pwd.getpwall()}
        return next(name for name in USERS if name in known)

    def call(self, program: str, *words: str) -> None:
        """Run one of PostgreSQL's programs as the owner of the server."""
        folder = binaries()
        assert folder is not None
        command: Sequence[str] = [str(folder / program), *words]
        if os.geteuid() == 0:
            command = [
                "setpriv",
                f"--reuid={self.owner}",
                f"--regid={_group(self.owner)}",
                "--clear-groups",
                *command,
            ]
        subprocess.run(command, cwd=self.folder, check=True, stdout=subprocess.DEVNULL, timeout=120)

    def start(self) -> None:
        """Start the server."""
        options = f"-h 127.0.0.1 -p {self.port} -k {self.folder} -c fsync=off"
        self.call(
            "pg_ctl",
            "-D",
            str(self.folder / "data"),
            "-l",
            str(self.folder / "log"),
            "-w",
            "-o",
            options,
            "start",
        )

    def stop(self) -> None:
        """Stop this server, at once."""
        if (self.folder / "data" / "postmaster.pid").exists():
            self.call("pg_ctl", "-D", str(self.folder / "data"), "-m", "immediate", "-w", "stop")
            time.sleep(0.1)

    def database(self, name: str) -> str:
        """Make a database; return its URL."""
        words = ["-h", str(self.folder), "-p", str(self.port), "-U", "sweeper", name]
        self.call("createdb", *words)
        return f"postgresql+psycopg://sweeper:secret@127.0.0.1:{self.port}/{name}"


def _group(user: str) -> int:
    return pwd.getpwnam(user).pw_gid

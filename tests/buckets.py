"""A bucket on the loopback interface that can be told to fail."""

from __future__ import annotations

import re
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from hashlib import md5
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from obstore.store import S3Store

from sweeper.store.files import Files

SILENCE_S = 1.5


class Bucket(ThreadingHTTPServer):
    """An HTTP server that speaks as much of S3 as the store uses.

    Attributes:
        content: Key to bytes.
        down: Answer every request with 503.
        status: Answer every request with this status, 403 or 404, and the code of its error.
        lose: Take the next PUT whose key contains this text, and close the connection instead
            of answering.
        refuse: Answer every PUT whose key contains this text with 403.
        delay: Seconds before each answer.
        faults: What happens to the next requests, one by one, instead of a whole answer: "503";
            "silent" for `SILENCE_S`; "drop" or "reset" the connection without an answer; "short",
            an answer that ends early. After "503" and "silent" nothing was done; after the
            others the request took effect.
        chance: Returns the fault of each further request, or "".
        counts: Fault to the number of requests that it befell.
        busiest: The largest number of requests that were served at the same time.
    """

    daemon_threads = True
    request_queue_size = 256

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.content: dict[str, bytes] = {}
        self.down = False
        self.status = 0
        self.lose: str | None = None
        self.refuse: str | None = None
        self.delay = 0.0
        self.faults: list[str] = []
        self.chance: Callable[[], str] = str
        self.counts: Counter[str] = Counter()
        self.busy = self.busiest = 0
        self.lock = threading.Lock()

    def files(self, *, retries: int = 0, retry_s: float = 0, timeout_s: float = 30) -> Files:
        """Return the folder ``sweep`` of the bucket.

        Args:
            retries: Number of times that the library repeats a request.
            retry_s: Seconds for which `Files` repeats one.
            timeout_s: Seconds that the library waits for an answer.
        """
        backend = S3Store(
            "bucket",
            prefix="sweep",
            endpoint=f"http://127.0.0.1:{self.server_port}",
            region="here",
            access_key_id="key",
            secret_access_key="secret",
            client_options={"allow_http": True, "timeout": timedelta(seconds=timeout_s)},
            retry_config={
                "max_retries": retries,
                "retry_timeout": timedelta(seconds=10),
                "backoff": {
                    "init_backoff": timedelta(milliseconds=1),
                    "max_backoff": timedelta(milliseconds=2),
                    "base": 2,
                },
            },
        )
        return Files("s3://bucket/sweep", backend, retry_s)


class _Handler(BaseHTTPRequestHandler):
    server: Bucket
    protocol_version = "HTTP/1.1"

    def _serve(self) -> None:
        with self.server.lock:
            self.server.busy += 1
            self.server.busiest = max(self.server.busiest, self.server.busy)
            faults = self.server.faults
            self.fault = faults.pop(0) if faults else self.server.chance()
            self.server.counts[self.fault] += 1
            self.server.counts["lost"] += self.command == "PUT" and self.fault in ("drop", "reset")
        time.sleep(SILENCE_S if self.fault == "silent" else self.server.delay)
        with self.server.lock:
            self.server.busy -= 1
        self._respond()

    def _respond(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = urlsplit(self.path)
        key = unquote(parts.path).removeprefix("/bucket").lstrip("/")
        if self.fault == "silent":
            self.close_connection = True
        elif self.server.down or self.fault == "503":
            self._answer(503)
        elif self.server.status:
            code = {403: "AccessDenied", 404: "NoSuchBucket"}[self.server.status]
            self._answer(self.server.status, f"<Error><Code>{code}</Code></Error>".encode())
        elif "delete" in parse_qs(parts.query, keep_blank_values=True):
            self._delete(body.decode())
        elif not key:
            self._list(parse_qs(parts.query))
        elif self.command == "PUT":
            self._put(key, body)
        elif key in self.server.content:
            self._get(self.server.content[key])
        else:
            self._answer(404)

    do_GET = do_HEAD = do_PUT = do_POST = _serve  # noqa: N815

    def _get(self, content: bytes) -> None:
        """Answer with the whole of a file, or the rest of it after an answer that ended early."""
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if wanted is None:
            self._answer(200, content)
            return
        first, last = int(wanted[1]), int(wanted[2] or len(content) - 1)
        rest = content[first : last + 1]
        self._answer(206, rest, f"bytes {first}-{first + len(rest) - 1}/{len(content)}")

    def _put(self, key: str, body: bytes) -> None:
        if self.server.refuse is not None and self.server.refuse in key:
            self._answer(403)
            return
        with self.server.lock:
            taken = key in self.server.content and self.headers.get("If-None-Match") == "*"
            if not taken:
                self.server.content[key] = body
        if not taken and self.server.lose is not None and self.server.lose in key:
            self.server.lose = None
            self.close_connection = True  # the client sees the end of the stream, no answer
        else:
            self._answer(412 if taken else 200)

    def _delete(self, body: str) -> None:
        keys = re.findall("<Key>(.*?)</Key>", body)
        for key in keys:
            self.server.content.pop(key, None)
        deleted = "".join(f"<Deleted><Key>{key}</Key></Deleted>" for key in keys)
        self._answer(200, f"<DeleteResult>{deleted}</DeleteResult>".encode())

    def _list(self, query: dict[str, list[str]]) -> None:
        prefix, after, delimiter = (
            query.get(name, [""])[0] for name in ("prefix", "start-after", "delimiter")
        )
        keys = sorted(k for k in self.server.content if k.startswith(prefix) and k > after)
        if delimiter:
            below = {
                k[len(prefix) :].partition(delimiter)[0]
                for k in keys
                if delimiter in k[len(prefix) :]
            }
            keys = [k for k in keys if delimiter not in k[len(prefix) :]]
        else:
            below = set()
        folders = "".join(
            f"<CommonPrefixes><Prefix>{prefix}{name}/</Prefix></CommonPrefixes>"
            for name in sorted(below)
        )
        items = "".join(
            f"<Contents><Key>{key}</Key><Size>{len(self.server.content[key])}</Size>"
            "<LastModified>2026-01-01T00:00:00.000Z</LastModified></Contents>"
            for key in keys
        )
        text = (
            f"<ListBucketResult><IsTruncated>false</IsTruncated>{items}{folders}</ListBucketResult>"
        )
        self._answer(200, text.encode())

    def _answer(self, status: int, body: bytes = b"", part: str = "") -> None:
        if self.fault in ("drop", "reset"):
            self.close_connection = True
            if self.fault == "reset":
                self.connection.setsockopt(
                    socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
                )
            return
        self.send_response(status)
        early = self.fault == "short" and self.command != "HEAD"
        self.close_connection = early or self.close_connection
        self.send_header("Content-Length", str(len(body) + 9 * early))
        if part:
            self.send_header("Content-Range", part)
        self.send_header("ETag", f'"{md5(body, usedforsecurity=False).hexdigest()}"')
        self.send_header("Last-Modified", "Thu, 01 Jan 2026 00:00:00 GMT")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *args: Any) -> None:
        """Print nothing."""


@contextmanager
def serving() -> Iterator[Bucket]:
    """Serve an empty bucket."""
    with Bucket() as bucket:
        thread = threading.Thread(target=bucket.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield bucket
        finally:
            bucket.shutdown()
            thread.join()

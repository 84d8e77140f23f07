"""S3 servers on loopback for the object store's tests: a small one that can lose answers and overwrite silently, and
Ceph's, where tests/radosgw.sh has started it."""

from __future__ import annotations

import hashlib
import os
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

import obstore
import pytest
from obstore.store import S3Store

from tests.tools import wanted

SERVER = os.environ.get("KLINGFLOW_TEST_S3", "")
"""`http://127.0.0.1:PORT ACCESS_KEY SECRET_KEY` of a real S3 server."""
needs_s3 = pytest.mark.skipif(
    not SERVER and not wanted(),
    reason="needs KLINGFLOW_TEST_S3, 'http://127.0.0.1:PORT ACCESS_KEY SECRET_KEY': tests/radosgw.sh FOLDER up …",
)


@cache
def real_s3() -> dict[str, str]:
    """The environment of the real server, on which the bucket `klingflow` is made."""
    url, access, secret = SERVER.split()
    client = {"allow_http": True}
    bucket = S3Store(
        "klingflow",
        endpoint=url,
        access_key_id=access,
        secret_access_key=secret,
        region="us-east-1",
        client_options=client,  # type: ignore[arg-type]
    )
    signed = obstore.sign(bucket, "PUT", "", timedelta(minutes=1))
    urllib.request.urlopen(urllib.request.Request(signed, method="PUT"), timeout=30).close()
    return {
        "AWS_ENDPOINT_URL": url,
        "AWS_ACCESS_KEY_ID": access,
        "AWS_SECRET_ACCESS_KEY": secret,
        "AWS_REGION": "us-east-1",
    }


class FakeS3:
    """One bucket. `lose` counts the answers to PUT that are still to be lost after the object was written."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.lock = Lock()
        self.lose = 0
        self.refuse = 0
        """Requests to PUT still to be answered with 503, nothing written."""
        self.busy = 0
        """Requests of any kind still to be answered with 503; below 0 without end."""
        self.page = 1000
        """Names in one answer to a list."""
        self.overwrites = False
        self.no_bucket = False
        self.forbidden = False
        self.skewed = False
        """As S3 answers whose clock goes more than a quarter of an hour otherwise."""
        self.puts: list[str] = []
        self.url = ""

    def environment(self, prefix: str) -> dict[str, str]:
        """What a command needs to have its store there."""
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": "id",
            "AWS_SECRET_ACCESS_KEY": "secret-of-the-test",
            "AWS_REGION": "us-east-1",
            "KLINGFLOW_STORE": f"s3://bucket/{prefix}",
        }


@contextmanager
def fake_s3() -> Iterator[FakeS3]:
    state = FakeS3()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *args: object) -> None:
            pass

        def answer(self, status: int, body: bytes = b"", size: int | None = None) -> None:
            self.send_response(status)
            self.send_header("ETag", f'"{hashlib.sha256(body).hexdigest()[:8]}"')
            self.send_header("Last-Modified", "Sat, 21 Nov 2026 10:00:00 GMT")
            self.send_header("Content-Length", str(len(body) if size is None else size))
            self.end_headers()
            self.wfile.write(body)

        def parse_request(self) -> bool:
            if not super().parse_request():
                return False
            with state.lock:
                busy = state.busy != 0
                state.busy -= state.busy > 0
            if busy:
                self.rfile.read(int(self.headers.get("Content-Length") or 0))
                self.answer(503)
            return not busy

        def name(self) -> str:
            return unquote(urlsplit(self.path).path).removeprefix("/bucket").lstrip("/")

        def do_PUT(self) -> None:
            name, data = self.name(), self.rfile.read(int(self.headers["Content-Length"]))
            with state.lock:
                state.puts.append(name)
                if state.forbidden:
                    return self.answer(403, b"<Error><Code>AccessDenied</Code></Error>")
                if state.refuse:
                    state.refuse -= 1
                    return self.answer(503)
                if self.headers.get("If-None-Match") == "*" and name in state.objects and not state.overwrites:
                    return self.answer(412, b"<Error><Code>PreconditionFailed</Code></Error>")
                state.objects[name] = data
                if state.lose:
                    state.lose -= 1
                    self.close_connection = True
                    return None
            return self.answer(200)

        def do_GET(self) -> None:
            query = parse_qs(urlsplit(self.path).query)
            if state.skewed:
                return self.answer(403, b"<Error><Code>RequestTimeTooSkewed</Code></Error>")
            if state.no_bucket:
                return self.answer(404, b"<Error><Code>NoSuchBucket</Code></Error>")
            if "list-type" not in query:
                data = state.objects.get(self.name())
                if data is None:
                    return self.answer(404, b"<Error><Code>NoSuchKey</Code></Error>")
                return self.answer(200, data)
            prefix = query.get("prefix", [""])[0]
            after = query.get("continuation-token", query.get("start-after", [""]))[0]
            names = sorted(name for name in state.objects if name.startswith(prefix) and name > after)
            more = len(names) > state.page
            token = f"<NextContinuationToken>{escape(names[state.page - 1])}</NextContinuationToken>" if more else ""
            found = "".join(
                f"<Contents><Key>{escape(name)}</Key><LastModified>2026-11-21T10:00:00.000Z</LastModified>"
                f'<ETag>"x"</ETag><Size>{len(state.objects[name])}</Size></Contents>'
                for name in names[: state.page]
            )
            cut = str(more).lower()
            body = f"<ListBucketResult><IsTruncated>{cut}</IsTruncated>{token}{found}</ListBucketResult>"
            return self.answer(200, body.encode())

        def do_HEAD(self) -> None:
            data = state.objects.get(self.name())
            self.answer(404) if data is None else self.answer(200, size=len(data))

        def do_DELETE(self) -> None:
            state.objects.pop(self.name(), None)
            self.answer(204)

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            names = [part.split("</Key>")[0] for part in body.split("<Key>")[1:]]
            for name in names:
                state.objects.pop(name, None)
            told = "".join(f"<Deleted><Key>{escape(name)}</Key></Deleted>" for name in names)
            self.answer(200, f"<DeleteResult>{told}</DeleteResult>".encode())

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    state.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
        thread.join()

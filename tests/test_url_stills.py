"""Stills at https URLs that klingflow fetches itself (for the animatic), from a TLS server on this machine."""

from __future__ import annotations

import hashlib
import json
import shutil
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from tests.cli import Project
from tests.standins import movie

PICTURES = {"/good.png": movie.still(1), "/page.png": b"<html>not found</html>"}

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="makes a certificate with openssl")


@contextmanager
def https_server(folder: Path) -> Iterator[tuple[str, Path]]:
    """(base URL, certificate to trust)."""
    cert, key = folder / "cert.pem", folder / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-days", "2", "-subj", "/CN=stand-in", "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run([*command, "-keyout", str(key), "-out", str(cert)], check=True, capture_output=True)

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            pass

        def do_GET(self) -> None:
            data = PICTURES.get(self.path)
            self.send_response(404 if data is None else 200)
            self.send_header("Content-Length", str(len(data or b"")))
            self.end_headers()
            self.wfile.write(data or b"")

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield f"https://127.0.0.1:{server.server_address[1]}", cert
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def board(frame: str) -> str:
    return f"""klingflow: 1
title: From elsewhere
defaults: {{provider: animatic, duration: 3, resolution: 720p}}
shots:
  - id: far
    first_frame: {frame}
    prompt: from elsewhere
"""


def test_a_still_at_a_url_is_fetched_for_the_animatic_and_a_pinned_one_is_verified(tmp_path: Path) -> None:
    digest = hashlib.sha256(PICTURES["/good.png"]).hexdigest()
    with https_server(tmp_path) as (base, cert):
        # A base URL of the environment vouches for its own host; without it a private address is not read at all.
        project = Project(tmp_path / "project", {"HIAPI_BASE_URL": base, "SSL_CERT_FILE": str(cert)})
        project.write("film.yaml", board(f"{{url: '{base}/good.png', sha256: {digest}}}"))
        closed = project.run("run", "film.yaml", "--quiet", HIAPI_BASE_URL="")
        assert closed.code == 2
        assert "film.yaml:6:24: '127.0.0.1' is not a host on the public internet" in closed.err
        assert project.run("check", "film.yaml").code == 0, "the environment names this host"

        made = project.run("run", "film.yaml", "--quiet")
        assert made.code == 0, made.said
        (record,) = (project.root / ".klingflow/store/clips").glob("*.json")
        assert json.loads(record.read_text("utf-8"))["inputs"] == {"first_frame": digest}

        project.write("film.yaml", board(f"{{url: '{base}/good.png', sha256: {'ab' * 32}}}"))
        other = project.run("run", "film.yaml", "--quiet")
        assert other.code == 1, other.said
        assert "is not the image that the storyboard pins" in other.err
        assert "mend: update its sha256" in other.err

        for name, said in (("page.png", "is a web page"), ("none.png", "answers 404")):
            project.write("film.yaml", board(f"'{base}/{name}'"))
            ended = project.run("run", "film.yaml", "--quiet")
            assert (ended.code, said in ended.err) == (1, True), ended.said
            assert "keep the image in the project" in ended.err
        assert len(list((project.root / ".klingflow/store/clips").glob("*.json"))) == 1

"""Traces of a run, where the environment asks for them as OpenTelemetry's own variables do."""

from __future__ import annotations

import gzip
import json
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from klingflow.core.errors import UsageError
from klingflow.core.model import ShotId
from klingflow.core.redact import register
from klingflow.execution.outcome import Event
from klingflow.output import traces
from tests.cli import Project

BOARD = """\
klingflow: 1
defaults: {provider: animatic, resolution: 720p, duration: 3}
shots: [{id: dawn, prompt: A quiet pier.}, {id: dusk, continues: dawn, prompt: A boat.}]
"""


@pytest.fixture
def collector() -> Iterator[tuple[str, list[ExportTraceServiceRequest]]]:
    """An OTLP collector on loopback, and what it got."""
    got: list[ExportTraceServiceRequest] = []

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            pass

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            got.append(ExportTraceServiceRequest.FromString(body))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", got
    server.shutdown()
    server.server_close()


def test_a_run_is_one_trace_with_a_span_for_each_clip(
    project: Project, collector: tuple[str, list[ExportTraceServiceRequest]]
) -> None:
    url, got = collector
    project.write("film.yaml", BOARD)
    ended = project.run_process("run", "--json", OTEL_TRACES_EXPORTER="otlp", OTEL_EXPORTER_OTLP_ENDPOINT=url)
    assert ended.code == 0, ended.said
    found = [span for each in got for one in each.resource_spans for scope in one.scope_spans for span in scope.spans]
    spans = {span.name: span for span in found}
    assert spans.keys() == {"run", "clip dawn", "clip dusk"}
    assert len({span.trace_id for span in found}) == 1
    assert spans["clip dusk"].parent_span_id == spans["run"].span_id
    said = {item.key: item.value for item in spans["clip dawn"].attributes}
    assert said["klingflow.result"].string_value == "made"
    assert "quiet pier" not in str(found)
    run = {item.key: item.value.string_value for item in spans["run"].attributes}["klingflow.run"]
    lines = [json.loads(line) for line in ended.out.splitlines()]
    assert (lines[0]["run"], lines[-1]["run"]) == (run, run)


def test_a_run_without_that_wish_loads_nothing_of_it(project: Project) -> None:
    project.write("film.yaml", BOARD)
    code = "import sys; from klingflow.cli import app; app.main(['run', '-q']); print('opentelemetry' in sys.modules)"
    words = [sys.executable, "-c", code]
    ended = subprocess.run(
        words, cwd=project.root, env=project.environment({}), capture_output=True, encoding="utf-8", check=True
    )
    assert ended.stdout.strip() == "False", ended.stderr


def test_what_failed_says_so_and_holds_no_secret(capsys: pytest.CaptureFixture[str]) -> None:
    register("a-secret-of-the-test")
    failed = Event(
        event="step-failed", film="film", shot=ShotId("dawn"), take=1, data={"message": "no a-secret-of-the-test"}
    )
    started = Event(event="step-started", film="film", shot=ShotId("dawn"), take=1, data={"action": "make"})
    seen: list[Event] = []
    with traces.traced(seen.append, "film.yaml", "0a0b0c0d", {"OTEL_TRACES_EXPORTER": "console"}) as emit:
        emit(started)
        emit(failed)
    assert seen == [started, failed]
    err = capsys.readouterr().err
    assert "a-secret-of-the-test" not in err
    assert re.search(r'"status_code": "ERROR"', err)


def test_what_cannot_be_sent_is_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="'zipkin', which klingflow does not send to"):
        traces._provider("zipkin")
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    with pytest.raises(UsageError, match="not installed") as raised:
        traces._provider("otlp")
    assert "klingflow[traces]" in raised.value.mend

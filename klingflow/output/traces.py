"""OpenTelemetry traces of a run: one span for the run, one below it for each clip, from its start to its end.

Off unless the environment asks for it as OpenTelemetry's own variables do: OTEL_TRACES_EXPORTER=otlp sends them to
OTEL_EXPORTER_OTLP_ENDPOINT, =console prints them on stderr. Prompts, URLs and secrets are in no span.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from klingflow import __version__
from klingflow.core.errors import UsageError
from klingflow.core.redact import redact
from klingflow.execution.outcome import Emit, Event

VARIABLE = "OTEL_TRACES_EXPORTER"
_ENDS = frozenset({"step-done", "step-failed", "step-skipped", "step-waiting", "step-in-doubt"})
_SAID = ("action", "provider", "task", "result", "class", "key", "exit_code", "spent")
"""Fields of events that become attributes."""


@contextmanager
def traced(emit: Emit, storyboard: str, run: str, environ: Mapping[str, str]) -> Iterator[Emit]:
    """Events pass through, and become spans where the environment asks for it. Raises UsageError for an exporter that
    is not known, or not installed."""
    wanted = environ.get(VARIABLE, "").strip().lower()
    if wanted in ("", "none"):
        yield emit
        return
    provider = _provider(wanted)
    tracer = provider.get_tracer("klingflow", __version__)
    spans = _Spans(tracer, storyboard, run)

    def show(event: Event) -> None:
        spans.hear(event)
        emit(event)

    try:
        yield show
    finally:
        spans.end()
        provider.shutdown()


def _provider(wanted: str) -> Any:
    try:
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter

        if wanted == "otlp":
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

            exporter: Any = OTLPSpanExporter()
        elif wanted == "console":
            exporter = ConsoleSpanExporter(out=sys.stderr)
        else:
            what = f"{VARIABLE} is '{wanted}', which klingflow does not send to"
            raise UsageError(what, "set it to otlp, console or none")
    except ModuleNotFoundError as bad:
        what = f"{VARIABLE} asks for traces, and OpenTelemetry is not installed"
        raise UsageError(what, f"pip install 'klingflow[traces]', or unset {VARIABLE}") from bad
    provider = TracerProvider(resource=Resource.create({"service.name": "klingflow", "service.version": __version__}))
    provider.add_span_processor(BatchSpanProcessor(exporter))
    return provider


class _Spans:
    def __init__(self, tracer: Any, storyboard: str, run: str) -> None:
        self._tracer = tracer
        self._root = tracer.start_span("run", attributes={"klingflow.storyboard": storyboard, "klingflow.run": run})
        self._open: dict[tuple[str, str | None, int | None], Any] = {}

    def hear(self, event: Event) -> None:
        said = {
            f"klingflow.{name}": redact(value) if isinstance(value, str) else value
            for name in _SAID
            if isinstance(value := event.data.get(name), str | int | float)
        }
        if event.shot is None:
            if event.event == "done":
                self._root.set_attributes(said)
            return
        which = event.film, event.shot, event.take
        if event.event == "step-started":
            self._open[which] = self._start(event, said)
            return
        span = self._open.get(which)
        if span is None:
            return
        span.set_attributes(said)
        if event.event in _ENDS:
            if event.event in ("step-failed", "step-in-doubt"):
                self._fail(span, str(event.data.get("message") or event.event))
            span.end()
            del self._open[which]
        elif event.event == "submitted":
            span.add_event("submitted", said)

    def _start(self, event: Event, said: Mapping[str, Any]) -> Any:
        from opentelemetry import trace

        own = {"klingflow.film": event.film, "klingflow.shot": str(event.shot), "klingflow.take": event.take or 1}
        return self._tracer.start_span(
            f"clip {event.shot}", context=trace.set_span_in_context(self._root), attributes={**own, **said}
        )

    def _fail(self, span: Any, message: str) -> None:
        from opentelemetry.trace import Status, StatusCode

        span.set_status(Status(StatusCode.ERROR, redact(message)))

    def end(self) -> None:
        """Ends what is open: a run that was interrupted leaves its tasks at the provider."""
        for span in self._open.values():
            span.end()
        self._root.end()

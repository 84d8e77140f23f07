"""`klingflow check`: everything that is wrong with storyboards, at once."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import klingflow
from klingflow import __version__
from klingflow.cli import answer, storyboards
from klingflow.cli.words import parse_vars
from klingflow.core.errors import DONE, StoryboardError
from klingflow.core.redact import redact
from klingflow.core.source import Problem, Severity, inert, rendered, visible


def check(paths: Sequence[str], var: Sequence[str] = (), format: str = "text") -> int:
    problems: list[Problem] = []
    files = storyboards.several(paths)
    overrides = parse_vars(var)
    for file in files:
        problems += klingflow.open(file, variables=overrides).check()
    problems = list(dict.fromkeys(problems))
    errors = sum(problem.severity is Severity.ERROR for problem in problems)
    match format:
        case "json":
            answer.show(problems=[_json(p) for p in problems])
        case "github":
            for problem in problems:
                print(_github(problem))
        case "sarif":
            print(inert(json.dumps(_sarif(problems), ensure_ascii=False, indent=2)))
        case _:
            for text in rendered(problems):
                print(inert(redact(text)) + "\n")
            names = f"{len(files)} storyboard" + ("s" if len(files) != 1 else "")
            bad = f"{errors} problem" + ("s" if errors != 1 else "")
            print(f"{names}: {bad if errors else 'good'}")
    return StoryboardError.code if errors else DONE


def _json(problem: Problem) -> dict[str, object]:
    span = problem.span
    place = {"path": span.path, "line": span.line, "col": span.col, "end_col": span.end_col} if span else None
    return {
        "rule": problem.rule,
        "severity": problem.severity.value,
        "what": problem.what,
        "mend": problem.mend,
        "place": place,
    }


def _github(problem: Problem) -> str:
    """One workflow command: GitHub shows it on the line. What people wrote can neither end it nor begin one."""

    def data(text: str) -> str:
        return visible(redact(text)).replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")

    def value(text: str) -> str:
        return data(text).replace(":", "%3A").replace(",", "%2C")

    text = data(problem.what) + (f"%0Amend: {data(problem.mend)}" if problem.mend else "")
    where = ""
    if problem.span:
        span = problem.span
        where = f"file={value(span.path)},line={span.line},col={span.col},endColumn={span.end_col},"
    return f"::{problem.severity.value} {where}title=klingflow {value(problem.rule)}::{text}"


def _sarif(problems: Sequence[Problem]) -> dict[str, object]:
    """SARIF 2.1.0, for code scanning."""
    rules = sorted({problem.rule for problem in problems})

    def result(problem: Problem) -> dict[str, object]:
        text = visible(redact(problem.what)) + (f"\nmend: {visible(redact(problem.mend))}" if problem.mend else "")
        out: dict[str, object] = {"ruleId": problem.rule, "level": problem.severity.value, "message": {"text": text}}
        if problem.span:
            span = problem.span
            region = {"startLine": span.line, "startColumn": span.col, "endLine": span.line, "endColumn": span.end_col}
            uri = Path(span.path).as_posix()
            out["locations"] = [{"physicalLocation": {"artifactLocation": {"uri": uri}, "region": region}}]
        return out

    driver = {"name": "klingflow", "version": __version__, "rules": [{"id": rule} for rule in rules]}
    return {
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [
            {"tool": {"driver": driver}, "columnKind": "unicodeCodePoints", "results": [result(p) for p in problems]}
        ],
    }

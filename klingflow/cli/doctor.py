"""`klingflow doctor`: is everything there that a run needs?"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict

import klingflow
from klingflow import Finding, SpendRefused, UsageError, money
from klingflow.cli import answer, storyboards
from klingflow.core.errors import DONE
from klingflow.core.redact import redact
from klingflow.core.source import inert, visible
from klingflow.output import terminal
from klingflow.output.words import count, wrapped


def doctor(paths: Sequence[str] = (), paid_probe: bool = False, yes: bool = False, format: str = "text") -> int:
    """Exit code 0 when all is well, 2 when something must be mended."""
    show = _show if format == "text" else _later
    findings = [*klingflow.doctor(*storyboards.named(paths))]
    for finding in findings:
        show(finding)
    if paid_probe:
        probe = klingflow.paid_probe(*paths[:1])
        amount = probe.cost.amount
        _confirm(probe.provider, "an unknown sum" if amount is None else f"about {money(amount)}", yes)
        findings.append(probe.send())
        show(findings[-1])
    bad = sum(not finding.good for finding in findings)
    if format == "json":
        answer.show(good=not bad, findings=[asdict(finding) for finding in findings])
    else:
        print(f"{count(bad, 'thing')} to mend" if bad else "all is well")
    return UsageError.code if bad else DONE


def _later(finding: Finding) -> None:
    """A document is printed whole, at the end."""


def _show(finding: Finding) -> None:
    texts = [f"{'ok  ' if finding.good else 'BAD '} {finding.what}"]
    texts += [f"     mend: {finding.mend}"] if finding.mend and not finding.good else []
    for text in texts:
        lines = wrapped(visible(redact(text)), terminal.width(sys.stdout), "", " " * 5, whole=True)
        print(inert("\n".join(lines)))


def _confirm(provider: str, amount: str, yes: bool) -> None:
    if yes:
        return
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise SpendRefused(f"the probe spends {amount}, and nobody confirmed it", "run it with --yes")
    sys.stderr.write(f"The probe buys one 3 s clip at {provider} for {amount}. Only 'yes' is taken as yes: ")
    sys.stderr.flush()
    if sys.stdin.readline().strip().lower() != "yes":
        raise SpendRefused("not confirmed; nothing was spent")

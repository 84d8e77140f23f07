"""What follows from each class of failure: whether to try again, at whose cost, the exit code, the next command.

Pure data. The engine reads it; the providers decide which class an answer is.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass

from klingflow.core import errors
from klingflow.providers.base import FailureClass


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    retries_free: bool = False
    """The same order may be sent again within the run: nothing was bought, and it costs no attempt."""
    new_attempts: int = 0
    """New paid attempts that a run makes by itself, in one run and for one take."""
    stops_provider: bool = False
    """No further order goes to this provider in this run; tasks under way are still collected."""
    exit_code: int
    what_next: str
    """For a person; `{path}` and `{shot}` stand for the storyboard and the shot."""

    def next(self, storyboard: str, shot: str) -> str:
        return self.what_next.format(path=shlex.quote(storyboard), shot=shot)


_FAILED = errors.ShotsFailed.code

RULES: Mapping[FailureClass, Rule] = {
    FailureClass.NOT_SENT: Rule(
        retries_free=True,
        exit_code=_FAILED,
        what_next="nothing was sent or bought; check the network (klingflow doctor), then: klingflow run {path}",
    ),
    FailureClass.THROTTLED: Rule(
        retries_free=True,
        exit_code=_FAILED,
        what_next="nothing was bought; wait a few minutes, then: klingflow run {path}",
    ),
    FailureClass.QUOTA: Rule(
        stops_provider=True,
        exit_code=_FAILED,
        what_next="nothing was bought; top up the account or raise its spend limit, then: klingflow run {path}",
    ),
    FailureClass.UNAUTHORISED: Rule(
        stops_provider=True,
        exit_code=errors.UsageError.code,
        what_next="nothing was bought; check the key in the environment (klingflow doctor), then: klingflow run {path}",
    ),
    FailureClass.MODERATED: Rule(
        exit_code=_FAILED,
        what_next="change the prompt or the images of shot '{shot}', then: klingflow plan {path}",
    ),
    FailureClass.INVALID: Rule(
        exit_code=_FAILED,
        what_next="the same order would fail again: change shot '{shot}', then: klingflow plan {path}",
    ),
    FailureClass.PROVIDER_FAULT: Rule(
        new_attempts=1,
        exit_code=_FAILED,
        what_next="the provider's side broke; later: klingflow plan {path}",
    ),
    FailureClass.IN_DOUBT: Rule(
        exit_code=errors.InDoubt.code,
        what_next="look in the provider's console for the task, then: klingflow resolve {path} {shot} --task ID "
        "(it is there), or klingflow resolve {path} {shot} --not-bought (it is not)",
    ),
    FailureClass.EXPIRED: Rule(
        exit_code=_FAILED,
        what_next="the clip was paid for and is gone; ask the provider with the task id (klingflow status {path}); "
        "what a new one costs: klingflow plan {path}",
    ),
    FailureClass.BAD_OUTPUT: Rule(
        exit_code=_FAILED,
        what_next="the clip was paid for and is unusable; claim it back with the task id (klingflow status {path}); "
        "what a new one costs: klingflow plan {path}",
    ),
    FailureClass.STUCK: Rule(
        exit_code=errors.Detached.code,
        what_next="it is still being made; to collect it, later: klingflow run {path}",
    ),
}

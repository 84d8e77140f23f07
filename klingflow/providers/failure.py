"""What follows from each class of failure: whether to try again, at whose cost, the exit code, the next command.

Pure data. The engine reads it; the providers decide which class an answer is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from klingflow.core import errors
from klingflow.providers.base import FailureClass


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    free_retries: bool = False
    """The order may be sent again within the run: nothing was bought, and it costs no attempt."""
    new_attempts: int = 0
    """New paid attempts that one run makes by itself for one take, after a task that ended so."""
    again_by_run: bool = True
    """A later run may order the same again. False: only a changed shot or a new take, both declared, buys once more."""
    stops_provider: bool = False
    """No further order goes to this provider in this run; tasks under way are still collected."""
    exit_code: int
    what_next: str
    """For a person; {storyboard}, {shot} and {provider} are replaced by their names."""


RULES: Mapping[FailureClass, Rule] = {
    FailureClass.THROTTLED: Rule(
        free_retries=True,
        exit_code=errors.SHOTS_FAILED,
        what_next="nothing was bought; wait some minutes, or lower providers.{provider}.concurrency, then "
        "`klingflow run {storyboard}`",
    ),
    FailureClass.QUOTA: Rule(
        stops_provider=True,
        exit_code=errors.SHOTS_FAILED,
        what_next="nothing was bought; top up the account at {provider} or raise its spend limit, then "
        "`klingflow run {storyboard}`",
    ),
    FailureClass.UNAUTHORISED: Rule(
        stops_provider=True,
        exit_code=errors.UsageError.code,
        what_next="check the key and the base URL of {provider} with `klingflow doctor`, then "
        "`klingflow run {storyboard}`",
    ),
    FailureClass.MODERATED: Rule(
        again_by_run=False,
        exit_code=errors.SHOTS_FAILED,
        what_next="change the prompt or the images of '{shot}', then `klingflow plan {storyboard}`",
    ),
    FailureClass.INVALID: Rule(
        again_by_run=False,
        exit_code=errors.SHOTS_FAILED,
        what_next="the same order is not sent again: change '{shot}' or the setting that the message names, or give it "
        "a new `take` to try it unchanged, then `klingflow plan {storyboard}`",
    ),
    FailureClass.PROVIDER_FAULT: Rule(
        new_attempts=1,  # two in all: facts on reliability, class "infra"
        exit_code=errors.SHOTS_FAILED,
        what_next="{provider} broke down over it; later `klingflow run {storyboard}` orders it again",
    ),
}


def recorded(detail: Mapping[str, object]) -> FailureClass | None:
    """The class of a `refused` or `failed` record of the ledger. None where no provider's answer was the reason, and
    for the classes "expired" and "bad-output", which are in old ledgers only. Whoever decides about money takes a
    failed task without a class as INVALID: it is not bought again."""
    try:
        return FailureClass(str(detail.get("class")))
    except ValueError:
        return None

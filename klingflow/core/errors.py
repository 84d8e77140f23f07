"""The errors that a user can meet, and every exit code.

    KlingflowError
      StoryboardError      2  something that the user wrote is wrong; carries Problems
      UsageError           2  the command line, the environment or the project's state does not allow this
      MediaError           1  a clip or an image cannot be read
      StoreError           1  the store or the ledger cannot be read or written, or contradicts itself
        StoreSilent        1  the storage does not answer: nothing is known of what is in it
      SpendRefused         5  a limit or a missing confirmation refused to spend
      WouldMake            6  --frozen or --exit-code: something would have to be made
      Interrupted        130  Ctrl-C or SIGTERM

Every other exception that reaches the top is a bug in klingflow (exit code 3). A run that ends by itself raises
nothing for a shot that did not end well: its exit code is one of the constants below.
"""

from __future__ import annotations

from collections.abc import Sequence

from klingflow.core.source import Problem

DONE = 0
SHOTS_FAILED = 1
"""The run is over and at least one shot failed."""
BUG = 3
IN_DOUBT = 4
"""A paid request may or may not have been accepted; the user must find out."""
DETACHED = 7
"""Tasks are being made; run again to collect."""


class KlingflowError(Exception):
    """What happened, and how to mend it. `mend` may be empty."""

    code = 1

    def __init__(self, what: str, mend: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.mend = mend


class StoryboardError(KlingflowError):
    """What the user wrote is wrong: a storyboard, the project file, a lock. `problems` are all of its faults."""

    code = 2

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("; ".join(p.what for p in problems))
        self.problems = tuple(problems)


class UsageError(KlingflowError):
    """The command line, the arguments, the environment or the project's state do not allow this."""

    code = 2


class MediaError(KlingflowError):
    """A clip or an image cannot be read."""

    code = 1


class StoreError(KlingflowError):
    """The store or the ledger cannot be read or written, or contradicts itself."""

    code = 1


class StoreSilent(StoreError):
    """The storage does not answer now: a later try may find it otherwise."""


class SpendRefused(KlingflowError):
    """A limit, or a missing confirmation, refused to spend. Nothing was spent."""

    code = 5


class WouldMake(KlingflowError):
    """Something would have to be made, and that was not allowed (frozen, --exit-code)."""

    code = 6


class Interrupted(KlingflowError):
    """Ctrl-C or SIGTERM ended it; nothing is half written."""

    code = 130

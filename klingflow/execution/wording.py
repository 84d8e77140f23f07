"""The words of what can go wrong with an order: what happened, what it costs, what to do next."""

from __future__ import annotations

import shlex
from pathlib import PurePosixPath

from klingflow.core.model import Digest, ShotFrame, TaskId
from klingflow.core.redact import redact
from klingflow.execution.order import Bought, Order
from klingflow.execution.outcome import Failure, Result, RunFailure
from klingflow.io.store import blob_name
from klingflow.providers.base import FailureClass, Unreadable
from klingflow.providers.failure import RULES
from klingflow.providers.reading import text

KEY_SHOWN = 12
"""Digits of a key or digest that people are shown: enough to tell any two apart."""


class Wording:
    """Messages about orders of one storyboard."""

    def __init__(self, storyboard: str, store: str) -> None:
        self._storyboard = storyboard
        self._path = shlex.quote(storyboard)
        self._store = store

    def resolve(self, order: Order) -> str:
        """The command that settles an order, without its last word."""
        take = f" --take {order.shot.take}" if order.shot.take != 1 else ""
        key = f" --key {order.key[:KEY_SHOWN]}" if order.film.variant else ""  # films of a matrix have the same shots
        return f"klingflow resolve {self._path} {order.shot.id}{take}{key}"

    def failure(self, kind: FailureClass, code: str, message: str, order: Order) -> Failure:
        """What a provider's answer means for a person."""
        if kind is FailureClass.MODERATED:
            message += _came_from(order)
        what_next = RULES[kind].what_next.format(
            storyboard=self._path, shot=order.shot.id, provider=order.provider
        )
        return Failure(kind=kind, message=message, code=code, next=what_next)

    def not_sent(self, message: str) -> Bought:
        what_next = f"nothing was sent or bought; check the network with `klingflow doctor`, then `{self._run}`"
        return failed(RunFailure.NOT_SENT, message, what_next)

    def limit(self, why: str) -> Bought:
        return failed(RunFailure.LIMIT, why, "raise the limit and run again")

    def doubt(self, order: Order, provider: str, message: str, what_next: str = "") -> Bought:
        settle = self.resolve(order)
        advice = f"look at {provider}'s console, then `{settle} --task ID` or `{settle} --not-bought`"
        what = f"it is not known whether {provider} took the order: {message}"
        return _in_doubt(what, what_next or advice)

    def half_taken_in(self, order: Order) -> Bought:
        return _in_doubt(
            "its clip was being taken in by hand, and that was interrupted; nothing was sent",
            f"`klingflow take-in FILE {self._path} --as {order.shot.id}` once more with the same file, or "
            f"`{self.resolve(order)} --not-bought`",
        )

    def not_recorded(self, order: Order, provider: str, task: TaskId, why: str) -> tuple[str, str]:
        """A task that was accepted and could not be written to the ledger: what, and its mend."""
        return (
            f"{provider} took the order for shot '{order.shot.id}' as task {task}, which is paid for and could not be "
            f"written down: {why}",
            f"mend the store, then `{self.resolve(order)} --task {task}`",
        )

    def two_tasks(self, provider: str, on_record: object, task: TaskId) -> Bought:
        return _in_doubt(
            f"{provider} took one order as two tasks: {on_record} is on record, and now {task}; both may cost money",
            f"ask {provider} about {task}; `{self._run}` collects the one on record",
        )

    def one_task_for_two(self, order: Order, provider: str, task: TaskId, other: str) -> Bought:
        return _in_doubt(
            f"{provider} answered with task {task}, which it gave to {other} before: one of the two has no task",
            f"look at {provider}'s console, then `{self.resolve(order)} --task ID` or "
            f"`{self.resolve(order)} --not-bought`",
        )

    def damaged(self, order: Order, records: list[str]) -> Bought:
        return failed(
            RunFailure.DAMAGED_LEDGER,
            f"the ledger is damaged: {', '.join(records)} is there without the intent that it answers",
            f"bring the missing record back from a backup of the store, or `{self.resolve(order)} --task ID` with "
            "the task that the record names",
            charged=None,
        )

    def other_account(self, order: Order, provider: str, task: TaskId) -> Bought:
        return failed(
            RunFailure.OTHER_ACCOUNT,
            f"task {task} was made from another account of {provider}, or at another address, than the one of this "
            "environment, which does not know it",
            f"run with the key and base URL that made it; or `{self.resolve(order)} --not-bought --force` gives it up",
        )

    def note_of_other_account(self, provider: str, task: TaskId) -> Bought:
        notes = f"{PurePosixPath(self._storyboard).stem}.tasks.jsonl"
        return failed(
            RunFailure.OTHER_ACCOUNT,
            f"{notes} says that task {task} was paid for, the store does not know it, and it was not written with the "
            f"{provider} account of this environment",
            f"run with the key and base URL that made it; or take its line out of {notes} to buy the shot anew",
            charged=None,
        )

    def task_unknown(self, order: Order, provider: str, task: TaskId) -> Bought:
        return failed(
            RunFailure.TASK_UNKNOWN,
            f"{provider} does not know task {task} any more",
            f"ask {provider} about it; `{self.resolve(order)} --not-bought` gives it up",
            charged=None,
        )

    def no_key(self, provider: str, task: TaskId) -> Bought:
        message = f"task {task} is at {provider}, whose key is not set"
        return failed(RunFailure.NO_KEY, message, "set it and run again")

    def still_being_made(self, task: TaskId) -> Bought:
        failure = Failure(
            kind=RunFailure.STUCK,
            message=f"task {task} is still being made",
            next=f"`{self._run}` collects it, and buys nothing anew",
            charged=True,
        )
        return Bought(result=Result.OPEN, failure=failure)

    def unreadable(self, provider: str, task: TaskId, status: Unreadable) -> Bought:
        """The task is done and paid, and its clip cannot be found: it stays open, for a later run or a person."""
        failure = Failure(
            kind=RunFailure.STUCK,
            message=f"task {task}: {status.message} ({text(status.raw)})",
            next=f"look at the task in {provider}'s console; `{self._run}` asks again, buying nothing",
            charged=True,
        )
        return Bought(result=Result.OPEN, failure=failure)

    def download(self, task: TaskId, why: str) -> Bought:
        what_next = f"the clip of task {task} is paid for: run again to fetch it"
        return failed(RunFailure.DOWNLOAD, f"its clip did not come: {why}", what_next)

    def not_accepted(self, order: Order, clip: Digest, why: str) -> Bought:
        settle = self.resolve(order)
        return failed(
            RunFailure.NOT_ACCEPTED,
            f"a clip was delivered that is not what was ordered: {why}; clip {clip[:KEY_SHOWN]} is kept in "
            f"{self._store} as {blob_name(clip)}",
            f"look at it, then `{settle} --accept` takes it as it is, or `{settle} --reject` turns it down",
            charged=True,
        )

    def lost_from_store(self, clip: Digest, why: str = "", *, later: bool = False) -> Bought:
        """`why`: what came of asking its provider for it again; `later`: whether the next run may have more luck."""
        again = "run again when its provider answers, or " if later else ""
        return failed(
            RunFailure.CLIP_ABSENT,
            f"the ledger says that clip {clip[:12]} was stored, but the store does not have it"
            + (f"; {why}" if why else ""),
            f"{again}bring it back from another store (klingflow store verify --from PLACE) or a backup, or declare "
            "`take: 2` to buy the shot anew",
        )

    def drawn_otherwise(self, named: Digest, drawn: Digest, *, frozen: bool) -> Bought:
        """A free clip that the store lost came out as another one; `named` is by the plan, or by the store's record."""
        what = (
            f"this store does not hold clip {named[:12]}; drawn again it came out as clip {drawn[:12]}, because "
            "klingflow, a library or a font is another version"
        )
        if frozen:
            mend = f"run with the store that holds it (KLINGFLOW_STORE), or `{self._run}` to take the new one"
            return failed(RunFailure.FROZEN, what, mend)
        return failed(RunFailure.CLIP_ABSENT, what, "restore the store from its backup, or declare another `take`")

    def settled_meanwhile(self, order: Order) -> Bought:
        what = "somebody recorded that it was not bought, while this run was about to send it; nothing was sent"
        return failed(RunFailure.STALE_PLAN, what, f"`{self._run}` orders it anew")

    def nothing_to_collect(self, message: str) -> Bought:
        what = f"there is nothing to collect for it any more{f': {message}' if message else ''}"
        return failed(RunFailure.STALE_PLAN, what, f"look at it again with `klingflow plan {self._path}`")

    def ask_again(self, provider: str) -> Bought:
        """An order whose answer is not on record, in a run that may send nothing."""
        return _in_doubt(
            f"{provider} was asked, and its answer is not on record",
            f"`{self._run}` sends the same request with the same key",
        )

    @property
    def _run(self) -> str:
        return f"klingflow run {self._path}"


def failed(kind: FailureClass | RunFailure, message: str, what_next: str, charged: bool | None = False) -> Bought:
    failure = Failure(kind=kind, message=redact(message), next=what_next, charged=charged)
    return Bought(result=Result.FAILED, failure=failure)


def _in_doubt(message: str, what_next: str) -> Bought:
    failure = Failure(kind=RunFailure.IN_DOUBT, message=redact(message), next=what_next, charged=None)
    return Bought(result=Result.IN_DOUBT, failure=failure)


def _came_from(order: Order) -> str:
    """Which clips the frames of a shot were cut from: what a moderator saw may not be in the shot's own words."""
    frames = [(role, frame) for role, frame in order.shot.frames() if isinstance(frame, ShotFrame)]
    parts = [f"its {role} is the {f.frame} frame of '{f.shot}', clip {order.clips[f.shot][:12]}" for role, f in frames]
    return f" ({'; '.join(parts)})" if parts else ""

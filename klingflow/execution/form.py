"""How an order is written: whether one that failed for good was this very request, and at which path one was taken.

A key says what a clip shows. It leaves out how the order is written: which provider gets it, the settings of that
provider, how its images travel. An order that failed over one of these is another request once that is mended, and may
be sent again.
"""

from __future__ import annotations

from dataclasses import replace

from klingflow.core import digest
from klingflow.core.model import Digest, Key, Shot
from klingflow.planning.job import Job, Kind
from klingflow.providers.base import FailureClass, Provider, Refused, Settings
from klingflow.providers.failure import RULES, recorded


def of(provider: Provider, shot: Shot, key: Key, settings: Settings, images_by: str) -> Digest:
    """The digest of how an order for a key is written under the project's settings. `images_by` is the way that its
    images go (planner.images_by). The address of callbacks counts for nothing."""
    roles = {role: role for role in shot.roles()}
    request = provider.submit(shot, roles, replace(settings, callback_url=None), key, 1)
    body = (request.body or b"").decode("utf-8", "replace")
    parts = [provider.name, images_by, request.method, request.path, body]
    return digest.of_bytes(digest.canonical(parts))


def path(provider: Provider, shot: Shot, settings: Settings, job: Job) -> str:
    """The path at which the newest order of a job was taken: from the provider's code, never from a record. The record
    only says which of the two it was, where the order may have been written anew after a refusal."""
    intent = job.last(Kind.INTENT)
    recorded = intent.detail.get("path") if intent is not None else None
    roles = dict.fromkeys(shot.roles(), "")
    request = provider.submit(shot, roles, settings, job.key, 1)
    if request.path != recorded:
        gone = Refused(kind=FailureClass.INVALID, code="HTTP 404", message="")
        other = provider.another_form(gone, request, settings)
        if other is not None and provider.submit(shot, roles, other, job.key, 1).path == recorded:
            return str(recorded)
    return request.path


def failed_before(job: Job, provider: str, form: Digest) -> bool:
    """Whether a task of this job failed for good that was ordered of this provider in this form.

    Where only the prompt or the pictures can be at fault (moderation), each form counts, and so does an order that was
    recorded without one."""
    for failure in job.records:
        if failure.kind is not Kind.FAILED:
            continue
        kind = recorded(failure.detail) or FailureClass.INVALID
        sent = next(r.detail for r in job.records if r.kind is Kind.INTENT and r.attempt == failure.attempt)
        if RULES[kind].again_by_run or sent.get("provider") != provider:
            continue
        if kind is FailureClass.MODERATED or sent.get("form", form) == form:
            return True
    return False

"""`klingflow store`: reads every clip and frame of the store and compares it with its digest."""

from __future__ import annotations

import klingflow
from klingflow.cli import answer
from klingflow.core.errors import DONE, StoreError
from klingflow.output.words import count


def store(path: str | None = None, format: str = "text") -> int:
    """Exit code 1 when a clip or frame is damaged: it is set aside, and which one it was is printed."""
    found = klingflow.verify_store(path or ".")
    code = StoreError.code if found.damaged else DONE
    if format == "json":
        damaged = [{"what": damage.what, "mend": damage.mend} for damage in found.damaged]
        answer.show(store=found.store, there=found.there, good=found.good, damaged=damaged)
        return code
    if not found.there:
        print(f"{found.store} is not there yet; the first run makes it")
        return DONE
    for damage in found.damaged:
        print(f"{damage.what}\nmend: {damage.mend}")
    print(f"{found.store}: {count(found.good, 'blob')} good, {len(found.damaged)} damaged")
    return code

"""For the tests of what money does under attack: forged records, several accounts, clocks, paused and killed runs."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import select
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from tests.cli import Ended, Project
from tests.paid_helpers import asked, studio

WORDS = "defaults: {provider: NAME, duration: 3, resolution: 720p}"
"""Shots of words alone: no picture goes in, so nothing is published."""

ONE = f"""
    klingflow: 1
    title: One
    {WORDS}
    shots:
      - id: dawn
        prompt: dawn breaks
"""
PAIR = (
    ONE
    + """
      - id: noon
        prompt: noon comes
"""
)
"""Two shots that do not wait for each other."""

CONTINUED = (
    ONE
    + """
      - id: noon
        continues: dawn
        prompt: noon comes
"""
)

# What is on disk ----------------------------------------------------------------------------------------------------


def store_of(project: Project) -> Path:
    return Path(project.env.get("KLINGFLOW_STORE") or project.root / ".klingflow/store")


def records(project: Project, shot: str = "") -> list[dict[str, Any]]:
    """All records of the ledger, or those of the keys that were ordered for a shot, in their order."""
    found = []
    for folder in sorted((store_of(project) / "ledger").glob("*")):
        mine = [json.loads(path.read_bytes()) for path in sorted(folder.glob("*.json"))]
        if not shot or any(record["detail"].get("shot") == shot for record in mine):
            found += sorted(mine, key=lambda record: (record["attempt"], record["n"]))
    return found


def kinds(project: Project, shot: str = "") -> list[str]:
    return [record["kind"] for record in records(project, shot)]


def record_file(project: Project, kind: str, shot: str = "dawn") -> Path:
    """The one record of that kind in the ledger of a shot."""
    key = next(record["key"] for record in records(project, shot))
    found: list[Path] = list((store_of(project) / "ledger" / key).glob(f"*-{kind}.json"))
    (path,) = found
    return path


def forge(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Writes a record anew, changed as somebody who can write to the store would change it."""
    record = json.loads(path.read_bytes())
    change(record)
    path.chmod(0o644)
    path.write_text(json.dumps(record), encoding="utf-8")


def forge_body(change: Callable[[dict[str, Any]], None]) -> Callable[[dict[str, Any]], None]:
    def forged(record: dict[str, Any]) -> None:
        body = json.loads(base64.b64decode(record["detail"]["body"]))
        change(body)
        record["detail"]["body"] = base64.b64encode(json.dumps(body).encode()).decode()

    return forged


def blob_file(project: Project, digest: str) -> Path:
    return store_of(project) / "blobs" / digest[:2] / digest[2:]


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def lock_text(project: Project, name: str = "film") -> str:
    path = project.root / f"{name}.lock.yaml"
    return path.read_text(encoding="utf-8") if path.exists() else ""


def locked(project: Project, shot: str, field: str = "clip") -> str:
    """A field of a shot's first take in the lock; empty where the lock has none."""
    found = re.search(rf'^  {shot}:\n    "1":\n(?:      .*\n)*?      {field}: "?(\w+)', lock_text(project), re.M)
    return found.group(1) if found else ""


def relock(project: Project, shot: str, **fields: str) -> None:
    """Changes fields of a shot's first take in the lock, as a pull request would."""
    text = lock_text(project)
    for field, value in fields.items():
        pattern = rf'(^  {shot}:\n    "1":\n(?:      .*\n)*?      {field}: )[^\n]+'
        text, count = re.subn(
            pattern, rf'\g<1>"{value}"' if value.isdecimal() else rf"\g<1>{value}", text, count=1, flags=re.M
        )
        assert count == 1, f"{shot} has no {field} in the lock"
    project.write("film.lock.yaml", text)


def actions(project: Project, *words: str) -> dict[str, str]:
    """What `plan` would do with each shot."""
    ended = project.run("plan", "film.yaml", "--format", "json", *words)
    assert ended.code == 0, ended.said
    return {step["shot"]: step["action"] for step in json.loads(ended.out)["steps"]}


# Projects -----------------------------------------------------------------------------------------------------------


@contextmanager
def words(folder: Path, board: str = ONE, name: str = "hiapi", **options: Any) -> Iterator[tuple[Project, Any]]:
    """A project that publishes nothing, and the API that it buys from."""
    with studio(folder, name, board, publish=False, **options) as (project, api):
        yield project, api


def git(project: Project, *words: str) -> str:
    who = ("-c", "user.name=A", "-c", "user.email=a@example.com", "-c", "protocol.file.allow=always")
    ended = subprocess.run(
        ["git", *who, *words], cwd=project.root, env=project.environment({}), capture_output=True, encoding="utf-8",
        check=True,
    )  # fmt: skip
    return ended.stdout


def copied(bought: Project, project: Project, *, store: bool = True, lock: bool = True) -> None:
    """Brings what another project has bought into a project under git, where nothing of it is tracked."""
    git(project, "init", "-q")
    if store:
        shutil.copytree(store_of(bought), store_of(project))
    if lock:
        shutil.copy(bought.root / "film.lock.yaml", project.root)


# Processes ----------------------------------------------------------------------------------------------------------


def until(seen: Callable[[], object], what: str, seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not seen():
        assert time.monotonic() < end, f"{what} did not come"
        time.sleep(0.01)


def read_until(stream: IO[str] | None, word: str, seconds: float = 30) -> str:
    """What a process writes until a word is in it (letter case does not count). Nothing else may read that stream."""
    assert stream is not None
    text = ""
    end = time.monotonic() + seconds
    while word.lower() not in text.lower():
        ready, _, _ = select.select([stream], [], [], max(0.0, end - time.monotonic()))
        assert ready, f"{word!r} was never written; this was:\n{text}"
        data = os.read(stream.fileno(), 65536).decode(errors="replace")
        assert data, f"it ended without {word!r}:\n{text}"
        text += data
    return text


@contextmanager
def running(project: Project, *words: str, **extra: str) -> Iterator[subprocess.Popen[str]]:
    """The command as a process that does not outlive the test."""
    process = project.start(*words, **extra)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGCONT)
            process.kill()
        process.communicate()


def ended(process: subprocess.Popen[str], seconds: float = 60) -> Ended:
    out, err = process.communicate(timeout=seconds)
    return Ended(process.returncode, out, err)


def killed(project: Project, door: str, number: int, side: str, *words: str) -> None:
    """A run that dies at the N-th crossing of one of its doors (tests.killer)."""
    died = project.run_killed(door, number, side, "run", "film.yaml", "--yes", *words)
    assert died.code == -signal.SIGKILL, died.said


def asked_and_died(project: Project, *words: str) -> None:
    """A run that died after its intent was on disk, before the request left."""
    killed(project, "create", 1, "after", *words)
    assert kinds(project) == ["intent"]


def bought_and_died(project: Project, *words: str) -> None:
    """A run that died after its request was taken, before the answer was on disk."""
    killed(project, "post", 1, "after", *words)
    assert kinds(project) == ["intent"]


# What the stand-in saw ----------------------------------------------------------------------------------------------


def forget(api: Any) -> None:
    """The provider knows nothing of what it has sold so far."""
    for one in api.purchases:
        one.account = "nobody"


def posts(api: Any) -> int:
    return len(api.calls("POST"))


def prompts(api: Any) -> list[str]:
    """The prompts of what was bought, in order of the alphabet."""
    return sorted(asked(one)["prompt"] for one in api.purchases)

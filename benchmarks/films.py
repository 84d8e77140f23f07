"""Storyboards for the benchmarks: chains of ten shots, and a lock that says that all of them are made.

No clip is rendered: the keys are klingflow's own, the clips behind them are invented. A plan reads no clip.
"""

from __future__ import annotations

import hashlib
import struct
import zlib
from collections.abc import Mapping
from pathlib import Path

from klingflow.app.project_loader import StoryboardFile
from klingflow.core import digest
from klingflow.core.model import Digest, ShotId
from klingflow.planning import graph
from klingflow.providers import PROVIDERS
from klingflow.storyboard import lock
from klingflow.storyboard.lock import Entry, Lock

CHAIN = 10


def ids(shots: int) -> list[str]:
    return [f"s{i:05}" for i in range(shots)]


def film(folder: Path, shots: int) -> Path:
    """Writes a project whose one film is up to date; returns its storyboard."""
    (folder / "stills").mkdir(parents=True)
    (folder / "klingflow.yaml").write_text("limits: {spend: 20.00}\n", "utf-8")
    lines = [
        "klingflow: 1\ntitle: A long film\nvars:\n  look: 35 mm film, muted teal and amber\n",
        f"defaults: {{provider: animatic, resolution: 720p, duration: 5, max_chain: {CHAIN}}}\nshots:\n",
    ]
    names = ids(shots)
    for i, name in enumerate(names):
        if i % CHAIN:
            begins = f"continues: {names[i - 1]}"
        else:
            begins = f"first_frame: stills/{name}.png"
            (folder / begins.partition(": ")[2]).write_bytes(_png(i))
        prompt = f"Shot {i}, the boat drifts on, slow push-in. {{{{ look }}}}"
        lines.append(f"  - id: {name}\n    {begins}\n    prompt: {prompt}\n")
    storyboard = folder / "film.yaml"
    storyboard.write_text("".join(lines), "utf-8")
    (folder / "film.lock.yaml").write_text(lock.dump(_made(storyboard)), "utf-8")
    return storyboard


def _png(n: int) -> bytes:
    """A grey picture of 64 x 36; each n another shade."""
    rows = (b"\0" + bytes(((n * 7 + row) % 256,)) * 64 for row in range(36))

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    parts = (
        (b"IHDR", struct.pack(">IIBBBBB", 64, 36, 8, 0, 0, 0, 0)),
        (b"tEXt", b"Comment\0%d" % n),
        (b"IDAT", zlib.compress(b"".join(rows))),
        (b"IEND", b""),
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(kind, data) for kind, data in parts)


def _made(storyboard: Path) -> Lock:
    """The lock as a run would leave it, were its clips what we say."""
    opened = StoryboardFile(path=str(storyboard)).load()
    (only,) = opened.films
    clips: dict[ShotId, Digest] = {}
    entries: dict[ShotId, Mapping[int, Entry]] = {}
    for shot in graph.order(only):
        model = PROVIDERS[shot.provider].model(shot)
        parts = digest.parts(shot, model, opened.inputs.stills, clips, opened.inputs.clips)
        assert parts is not None
        key = digest.key(parts)
        clips[shot.id] = Digest(hashlib.sha256(f"clip of {key}".encode()).hexdigest())
        frame = Digest(hashlib.sha256(f"frame of {key}".encode()).hexdigest())
        entries[shot.id] = {
            1: Entry(
                key=key,
                clip=clips[shot.id],
                duration="5.000",
                frames=120,
                size="640x360",
                rate="24",
                bytes=123456,
                audio=False,
                provider=shot.provider,
                model=model,
                date="2026-11-21",
                inputs={"first_frame": frame},
                parts=digest.brief(parts),
            )
        }
    stills = [facts.digest for facts in opened.inputs.stills.values()]
    pictures = {still: Digest(hashlib.sha256(f"picture of {still}".encode()).hexdigest()) for still in stills}
    return Lock({"": entries}, pictures=pictures)

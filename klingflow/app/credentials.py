"""What a finished film says of how it was made: signing it with the key of the environment, reading it back from the
film alone, and comparing it with a storyboard and its lock."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import SequenceMatcher
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from klingflow.app.film_record import clip_of
from klingflow.app.project_loader import LoadedStoryboard
from klingflow.app.session import Session
from klingflow.core.errors import UsageError
from klingflow.core.model import ANIMATIC, Film, ShotId
from klingflow.core.redact import register
from klingflow.io.git import head, tracked
from klingflow.output import provenance
from klingflow.output.provenance import FilmRecord, ShownShot

if TYPE_CHECKING:
    from types import ModuleType

    from klingflow.output.credentials import Credentials, Signer

KEY = "KLINGFLOW_SIGN_KEY"
CERTIFICATE = "KLINGFLOW_SIGN_CERT"
TIMESTAMPS = "KLINGFLOW_SIGN_TSA"
TRUST = "KLINGFLOW_SIGN_TRUST"
_MOST = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedFilm:
    """What a film says of how it was made, and how far that can be believed."""

    film: Path
    credentials: Credentials | None
    """None where the film is not signed: then anybody can have changed the record."""
    record: FilmRecord | None
    """What was signed; where that cannot be had, what the film says in plain. None where it says nothing."""
    trust: bool
    """Whether it was given which signers are trusted."""

    @property
    def good(self) -> bool:
        """Whether it is signed by whom it has to be, and is as it was signed."""
        if self.credentials is None or self.credentials.record is None or self.credentials.problems:
            return False
        return self.credentials.intact and (self.credentials.trusted or not self.trust)


# ---------------------------------------------------------------- signing


@dataclass(frozen=True, slots=True, kw_only=True)
class Signing:
    """Signs the films of one storyboard."""

    signer: Signer
    root: Path
    """The project's."""
    storyboard: str
    """Its path from there."""

    def is_good(self, film: Path) -> bool:
        """Whether a film carries this signer's signature, and is as it was signed."""
        found: Credentials = _library(_SIGNING).read(film)
        return found.intact and found.serial == self.signer.serial

    def sign(self, film: Path, record: FilmRecord, clips: Mapping[str, Path], music: Path | None) -> None:
        """Writes credentials into a film. `clips` are the files of the record's clips, by SHA-256. Raises
        KlingflowError and OSError."""
        commit, dirty = head(self.root, self.storyboard)
        told = replace(record, commit=commit, dirty=dirty)
        signed = film.with_name(f"{film.name}.signed")
        try:
            _library(_SIGNING).sign(film, signed, told, self.signer, clips=clips, music=music)
            os.replace(signed, film)
        finally:
            signed.unlink(missing_ok=True)


_SIGNING = "signing a film"


def signing(loaded: LoadedStoryboard) -> Signing:
    """Raises UsageError, as `signer`."""
    return Signing(signer=signer(loaded.environ), root=loaded.project.root, storyboard=loaded.relative)


def signer(environ: Mapping[str, str]) -> Signer:
    """The signer whose key and certificate the environment names, each as the path of a PEM file or as its text. Raises
    UsageError: what is missing or does not fit, a key that git tracks, and where the library is not installed."""
    library = _library(_SIGNING)
    missing = [name for name in (KEY, CERTIFICATE) if not environ.get(name, "").strip()]
    if missing:
        raise UsageError(
            f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} not set, so the film cannot be signed",
            "name the PEM files of the key and of the certificate; docs/credentials.md makes some for a trial",
        )
    tsa = environ.get(TIMESTAMPS, "").strip()
    if tsa and urlsplit(tsa).scheme not in ("http", "https"):
        raise UsageError(f"{TIMESTAMPS} is not an http or https URL", "give the address of a timestamp authority")
    key = _pem(environ, KEY, secret=True)
    for line in key.decode("ascii", "ignore").splitlines():
        if not line.startswith("-----"):
            register(line)
    made: Signer = library.signer(key, _pem(environ, CERTIFICATE), tsa=tsa)
    return made


def _pem(environ: Mapping[str, str], name: str, *, secret: bool = False) -> bytes:
    value = environ[name].strip()
    if "-----BEGIN" in value:
        return value.encode()
    path = Path(os.path.expanduser(value))
    try:
        with path.open("rb") as file:
            found = file.read(_MOST)
    except OSError as bad:
        # The value is not shown: it may be a key that lost its first line.
        raise UsageError(f"the file that {name} names cannot be read: {bad.strerror}", "name a PEM file") from None
    real = path.resolve()
    if secret and tracked(real.parent, real.name):
        raise UsageError(
            f"git tracks the key that {name} names: whoever has the repository can sign in your name",
            f"take it out (git rm --cached {real.name}), make a new key, and keep that outside the repository",
        )
    return found


def _library(what: str) -> ModuleType:
    try:
        from klingflow.output import credentials
    except ModuleNotFoundError as absent:
        if absent.name is None or absent.name.partition(".")[0] not in ("c2pa", "cryptography"):
            raise
        raise UsageError(
            f"{what} needs a library that is not installed", "pip install 'klingflow[credentials]'"
        ) from absent
    return credentials


# ---------------------------------------------------------------- verifying


def verify_film(film: str | os.PathLike[str], *, environ: Mapping[str, str] = os.environ) -> VerifiedFilm:
    """What a film says of how it was made, from the file alone: no project, no network. KLINGFLOW_SIGN_TRUST names the
    certificates (PEM) of the roots whose signers are trusted. Raises MediaError for a file that is no MP4, UsageError
    where it is signed and the library is not installed."""
    path = Path(film)
    if not provenance.is_signed(path):
        return VerifiedFilm(film=path, credentials=None, record=provenance.read(path), trust=False)
    library = _library("checking the content credentials of a film")
    trust = _pem(environ, TRUST).decode("utf-8", "replace") if environ.get(TRUST, "").strip() else ""
    found: Credentials = library.read(path, trust=trust)
    return VerifiedFilm(film=path, credentials=found, record=found.record or provenance.read(path), trust=bool(trust))


def differences(session: Session, record: FilmRecord) -> tuple[str, ...]:
    """In what a film differs from what the storyboard and its lock say now, a sentence each; empty where in nothing."""
    film = next((film for film in session.loaded.films if film.variant == record.variant), None)
    if film is None:
        return (f"the storyboard has no film '{record.variant or 'without a matrix'}'",)
    return tuple(_differences(session, film, record))


def _differences(session: Session, film: Film, record: FilmRecord) -> Iterator[str]:
    now = _locked(session, film)
    if not now and any(shot.provider == ANIMATIC for shot in record.shots):
        yield "it is a rehearsal with the animatic: no lock names its clips"
        return
    there, wanted = [shot.shot for shot in record.shots], [str(cut.shot) for cut in film.cut]
    gone: list[str] = []
    come: list[str] = []
    for kind, a, b, c, d in SequenceMatcher(None, there, wanted, autojunk=False).get_opcodes():
        if kind == "equal":
            for shot in record.shots[a:b]:
                yield from _differs(record, shot, now.get(ShotId(shot.shot)))
        else:
            gone += there[a:b]
            come += wanted[c:d]
    for name in dict.fromkeys(gone):
        if name in come:
            yield f"shot {name} stands at another place in the storyboard's film"
        else:
            yield f"shot {name} is in this film, and not in the storyboard's"
    for name in dict.fromkeys(come):
        if name not in gone:
            yield f"shot {name} is in the storyboard's film, and not in this one"
    bed = session.loaded.inputs.clips[film.audio] if film.audio else ""
    if bed != record.music:
        yield "the music bed is another one"


def _locked(session: Session, film: Film) -> dict[ShotId, ShownShot]:
    """What the lock says of the shots of a film that have a clip."""
    out = {}
    for shot in film.shots:
        entry = session.lock.entry(film.variant, shot.id, shot.take)
        if entry is not None:
            out[shot.id] = clip_of(shot, entry.record(), session.store)
    return out


def _differs(record: FilmRecord, there: ShownShot, now: ShownShot | None) -> Iterator[str]:
    at = f"shot {there.shot}, from second {record.seconds(there.start):.3f}"
    if now is None:
        yield f"{at}: the lock names no clip for it"
        return
    names: Sequence[tuple[str, str]] = (
        ("take", "take"),
        ("clip", "clip"),
        ("key", "key"),
        ("model", "model"),
        ("provider", "provider"),
        ("task", "task"),
        ("date", "date"),
        ("prompt_sha256", "the prompt's SHA-256"),
    )
    for name, said in names:
        old, new = str(getattr(there, name)), str(getattr(now, name))
        if old != new and not (name == "prompt_sha256" and not (old and new)):
            yield f"{at}: {said} is {_short(old)} in the film, and {_short(new)} in the lock"


def _short(value: str) -> str:
    return (value[:12] if len(value) == 64 else value) or "none"

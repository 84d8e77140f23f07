"""Content credentials (C2PA) of a film: signed into it, and read back. The library is the extra klingflow[credentials].

The manifest of a film: `c2pa.created` with the IPTC digital source type; each clip and the music bed as an ingredient
(`componentOf`), with the manifests that it came with; `c2pa.placed` for each time that a clip is shown, with the range
of time; and the record of output.provenance as an assertion (RECORD). No thumbnails. Nothing here asks the network, but
for the timestamp authority that a signer names. Knows no storyboard and no environment.
"""

from __future__ import annotations

import json
import mimetypes
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import c2pa
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key
from cryptography.x509.oid import NameOID

import klingflow
from klingflow.core.digest import of_bytes
from klingflow.core.errors import KlingflowError, MediaError, UsageError
from klingflow.core.redact import redact
from klingflow.output import provenance
from klingflow.output.provenance import FilmRecord, ShownShot

RECORD = "io.github.klingflow.film"
"""The label of the assertion that holds the record, as JSON."""
CLIP = "io.github.klingflow.clip"
"""The name of what an ingredient's metadata says of its clip."""

_SETTINGS: Mapping[str, Any] = {
    "verify": {"remote_manifest_fetch": False, "ocsp_fetch": False, "verify_after_sign": True},
    "builder": {"thumbnail": {"enabled": False}},
}
_MP4 = "video/mp4"
_CURVES = {"secp256r1": "es256", "secp384r1": "es384", "secp521r1": "es512"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Signer:
    """A private key and its certificate, which fit each other. Made by `signer`."""

    name: str
    """The common name in the certificate."""
    organization: str
    until: str
    """The last day on which the certificate is valid, YYYY-MM-DD."""
    serial: str
    digest: str
    """The SHA-256 of the certificate (DER)."""
    tsa: str
    """The https URL of the timestamp authority; empty for none."""
    _algorithm: str = field(repr=False)
    _key: bytes = field(repr=False)
    _chain: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipCredentials:
    """The credentials with which a clip or a music bed came, as they were when the film was signed."""

    signer: str
    """The organization in the certificate, or else the common name."""
    intact: bool
    """Whether the clip was as it had been signed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """What a film's content credentials say, and whether that can be believed."""

    signer: str
    """The common name in the certificate; empty where the manifest cannot be read."""
    organization: str
    serial: str
    time: str
    """When a timestamp authority saw the signature, as ISO 8601; empty without one."""
    time_trusted: bool
    """Whether that authority leads to a root that the reader trusts."""
    tool: str
    """The program that signed."""
    intact: bool
    """Whether the film and the manifest are as they were signed."""
    trusted: bool
    """Whether the certificate leads to a root that the reader trusts."""
    problems: tuple[str, ...]
    """What is wrong, of an intact film with its certificate, but for a signer who is not trusted."""
    record: FilmRecord | None
    """None where the manifest was not written by klingflow, or cannot be read."""
    clips: Mapping[str, ClipCredentials]
    """By SHA-256, the clips that came with credentials of their own, and the music bed if it did."""


# ---------------------------------------------------------------- the signer


def signer(key: bytes, chain: bytes, *, tsa: str = "") -> Signer:
    """Reads a private key (PKCS #8, PEM, without a password) and its certificate with those above it but the root (PEM,
    the signer's own first). Raises UsageError, which says nothing of the key."""
    private = _private_key(key)
    try:
        certificates = x509.load_pem_x509_certificates(chain)
    except ValueError:
        raise UsageError(
            "the certificate for signing cannot be read", "give it as PEM: -----BEGIN CERTIFICATE----- …"
        ) from None
    own = certificates[0]
    form = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    if own.public_key().public_bytes(*form) != private.public_key().public_bytes(*form):
        raise UsageError(
            "the key for signing does not belong to the first certificate", "put the signer's own certificate first"
        )
    if own.not_valid_after_utc < datetime.now(UTC):
        raise UsageError(f"the certificate for signing expired on {own.not_valid_after_utc:%Y-%m-%d}", "renew it")
    if not any(isinstance(each.value, x509.ExtendedKeyUsage) for each in own.extensions):
        raise UsageError(
            "the certificate for signing does not say what it is for: it has no extended key usage",
            "docs/credentials.md says what C2PA asks of a certificate, and how to make one for a trial",
        )
    name = _named(own, NameOID.COMMON_NAME)
    return Signer(
        name=name or own.subject.rfc4514_string(),
        organization=_named(own, NameOID.ORGANIZATION_NAME),
        until=f"{own.not_valid_after_utc:%Y-%m-%d}",
        serial=str(own.serial_number),
        digest=of_bytes(own.public_bytes(Encoding.DER)),
        tsa=tsa,
        _algorithm=_algorithm(private),
        _key=key,
        _chain=chain,
    )


Private = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey


def _private_key(key: bytes) -> Private:
    try:
        private = load_pem_private_key(key, password=None)
    except TypeError:
        raise UsageError(
            "the key for signing has a password", "keep it without one where klingflow runs: openssl pkey -in … -out …"
        ) from None
    except (ValueError, UnsupportedAlgorithm):
        raise UsageError("the key for signing cannot be read", "give it as PEM, as `openssl pkey` writes it") from None
    if not isinstance(private, Private):
        raise UsageError("the key for signing is of a kind that C2PA does not have", _KEYS)
    return private


_KEYS = "take an EC key (P-256, P-384, P-521), an Ed25519 key, or RSA of 2048 bits or more"


def _algorithm(private: Private) -> str:
    if isinstance(private, ed25519.Ed25519PrivateKey):
        return "ed25519"
    if isinstance(private, rsa.RSAPrivateKey):
        return "ps256"
    if private.curve.name not in _CURVES:
        raise UsageError(f"the key for signing is on a curve that C2PA does not have: {private.curve.name}", _KEYS)
    return _CURVES[private.curve.name]


def _named(certificate: x509.Certificate, what: x509.ObjectIdentifier) -> str:
    found = certificate.subject.get_attributes_for_oid(what)
    return str(found[0].value) if found else ""


# ---------------------------------------------------------------- signing


def sign(
    film: Path, to: Path, record: FilmRecord, by: Signer, *, clips: Mapping[str, Path], music: Path | None = None
) -> None:
    """Writes the film with its credentials to `to`, another file. `clips` are the files of the record's clips, by
    SHA-256, `music` is the bed. Raises UsageError where the certificate is none for C2PA, KlingflowError where the
    timestamp authority does not answer, and OSError."""
    signed = {digest: path for digest, path in clips.items() if _is_signed(path) and _goes_along(path)}
    bed = None if music is None else _bed(record, music, signed=_goes_along(music))
    when = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    try:
        with (
            c2pa.Context.from_dict(dict(_SETTINGS)) as context,
            c2pa.Builder(json.dumps(_manifest(record, frozenset(signed), bed, when)), context=context) as builder,
        ):
            for digest, path in signed.items():
                with path.open("rb") as clip:
                    builder.add_ingredient(json.dumps(_ingredient(record, digest, signed=True)), _MP4, clip)
            if music is not None and bed is not None and "instance_id" not in bed:
                with music.open("rb") as sound:
                    builder.add_ingredient(json.dumps(bed), bed["format"], sound)
            info = c2pa.C2paSignerInfo(by._algorithm, by._chain, by._key, by.tsa or None)
            with c2pa.Signer.from_info(info) as key, film.open("rb") as source, to.open("w+b") as target:
                builder.sign(key, _MP4, source, target)
    except c2pa.C2paError as bad:
        raise _unsigned(bad, by) from bad


def _unsigned(bad: Exception, by: Signer) -> KlingflowError:
    said = _message(bad)
    if by.tsa and ("timestamp" in said.lower() or "http" in said.lower()):
        return KlingflowError(f"the timestamp authority did not answer as it should: {said}", "try again, or without")
    return UsageError(
        f"the film cannot be signed with the certificate of {by.name}: {said}",
        "docs/credentials.md says what C2PA asks of a certificate, and how to make one for a trial",
    )


def _message(bad: Exception) -> str:
    """What the library says, without the name of the kind of error before it."""
    return redact(str(bad).partition(": ")[2] or type(bad).__name__.removeprefix("_C2pa")).rstrip(". ")


def _is_signed(clip: Path) -> bool:
    try:
        return provenance.is_signed(clip)
    except MediaError:  # no MP4
        return False


def _goes_along(file: Path) -> bool:
    """Whether a clip or a music bed came with credentials that can go along: those that cannot be read are left out."""
    try:
        with c2pa.Context.from_dict(dict(_SETTINGS)) as context:
            with file.open("rb") as opened, c2pa.Reader(_format(file), opened, context=context):
                pass
            with file.open("rb") as opened, c2pa.Builder("{}", context=context) as trial:
                trial.add_ingredient("{}", _format(file), opened)
    except c2pa.C2paError:
        return False
    return True


def _format(file: Path) -> str:
    """The MIME type of a file; a clip of the store has no ending."""
    return mimetypes.guess_type(file.name)[0] or _MP4


def _manifest(
    record: FilmRecord, signed: frozenset[str], bed: Mapping[str, object] | None, when: str
) -> dict[str, object]:
    clips = dict.fromkeys(shot.clip for shot in record.shots)
    ingredients = [_ingredient(record, clip, signed=False) for clip in clips if clip not in signed]
    created = {
        "action": "c2pa.created",
        "when": when,
        "digitalSourceType": record.digital_source_type,
        "softwareAgent": {"name": "klingflow", "version": klingflow.__version__},
        "description": provenance.summary(record.shots, music=bed is not None),
    }
    actions = [created, *(_placed(record, shot) for shot in record.shots)]
    if bed is not None:
        ingredients += [dict(bed)] if "instance_id" in bed else []
        actions.append({"action": "c2pa.placed", "parameters": {"ingredientIds": [_MUSIC]}})
    return {
        "claim_generator_info": [{"name": "klingflow", "version": klingflow.__version__}],
        "title": record.title or record.storyboard,
        "format": _MP4,
        "ingredients": ingredients,
        "assertions": [
            {"label": "c2pa.actions.v2", "data": {"actions": actions, "allActionsIncluded": True}},
            {"label": RECORD, "data": provenance.as_json(record), "kind": "Json"},
        ],
    }


_MUSIC = "music"


def _bed(record: FilmRecord, music: Path, *, signed: bool) -> dict[str, Any]:
    return {
        "title": f"music: {music.name}",
        "format": _format(music),
        "relationship": "componentOf",
        "label": _MUSIC,
        "metadata": {CLIP: {"sha256": record.music}},
        **({} if signed else {"instance_id": f"urn:sha256:{record.music}"}),
    }


def _ingredient(record: FilmRecord, clip: str, *, signed: bool) -> dict[str, object]:
    shots = [shot for shot in record.shots if shot.clip == clip]
    first = shots[0]
    told = {
        "sha256": clip,
        "key": first.key,
        "model": first.model,
        "provider": first.provider,
        "prompt_sha256": first.prompt_sha256,
        "date": first.date,
        "task": first.task,
        "shots": [
            {"shot": shot.shot, "take": shot.take, "from_frame": shot.start, "to_frame": shot.end} for shot in shots
        ],
    }
    kind = provenance.clip_type(first)
    return {
        "title": ", ".join(dict.fromkeys(shot.shot for shot in shots)),
        "format": _MP4,
        "relationship": "componentOf",
        "label": clip,
        "description": f"{first.model} through {first.provider}",
        "metadata": {CLIP: told},
        # What came with a manifest says itself what it is: C2PA specification 2.4, on ingredients.
        **({} if signed else {"instance_id": f"urn:sha256:{clip}", **({"digital_source_type": kind} if kind else {})}),
    }


def _placed(record: FilmRecord, shot: ShownShot) -> dict[str, object]:
    begin, end = (f"{record.seconds(frame):.3f}" for frame in (shot.start, shot.end))
    kind = provenance.clip_type(shot)
    return {
        "action": "c2pa.placed",
        **({"digitalSourceType": kind} if kind else {}),
        "changes": [
            {
                "description": f"shot {shot.shot}",
                "region": [{"type": "temporal", "time": {"type": "npt", "start": begin, "end": end}}],
            }
        ],
        "parameters": {"ingredientIds": [shot.clip]},
    }


# ---------------------------------------------------------------- reading


def read(film: Path, *, trust: str = "") -> Credentials:
    """The credentials of a film that carries some, compared with its bytes. `trust` are the certificates (PEM) of the
    roots that are trusted. Raises UsageError where `trust` holds none."""
    settings = dict(_SETTINGS)
    if trust:
        try:
            x509.load_pem_x509_certificates(trust.encode())
        except ValueError:
            raise UsageError("the certificates that are trusted cannot be read", "give them as PEM") from None
        settings["trust"] = {"user_anchors": trust}
    try:
        with c2pa.Context.from_dict(settings) as context, c2pa.Reader(str(film), context=context) as reader:
            found = json.loads(reader.json())
    except c2pa.C2paError as bad:
        return _unreadable(_message(bad))
    active: Mapping[str, Any] = found["manifests"].get(found["active_manifest"], {})  # absent where it is damaged
    results = found.get("validation_results", {})
    found_of_it = results.get("activeManifest", {})
    failures = list(found_of_it.get("failure", ()))
    failures += [each for delta in results.get("ingredientDeltas", ()) for each in delta["validationDeltas"]["failure"]]
    codes = [(each["code"], each.get("explanation", "")) for each in failures]
    problems = [_said(code, text) for code, text in codes if code != _UNTRUSTED]
    intact = all(code in _OF_THE_CERTIFICATE for code, _ in codes) and _codes(found_of_it, "success") >= _PROOF
    if not problems and (found.get("validation_state") == "Invalid" or not intact):
        problems = ["the content credentials are not valid"]
    record = None
    assertion = next((one["data"] for one in active.get("assertions", ()) if one["label"] == RECORD), None)
    if assertion is not None:
        try:
            record = provenance.from_json(assertion)
        except ValueError as bad:
            problems.append(f"the record of the film cannot be read: {bad}")
            intact = False
    seal = active.get("signature_info", {})
    tool: Mapping[str, str] = next(iter(active.get("claim_generator_info", ())), {})
    return Credentials(
        signer=seal.get("common_name") or "",
        organization=seal.get("issuer") or "",
        serial=seal.get("cert_serial_number") or "",
        time=seal.get("time") or "",
        time_trusted=bool(seal.get("time")) and "timeStamp.trusted" in _codes(found_of_it, "success"),
        tool=" ".join(filter(None, (tool.get("name"), tool.get("version")))),
        intact=intact,
        trusted="signingCredential.trusted" in _codes(found_of_it, "success"),
        problems=tuple(dict.fromkeys(problems)),
        record=record,
        clips=dict(_clips(active, found["manifests"])),
    )


_UNTRUSTED = "signingCredential.untrusted"
_OF_THE_CERTIFICATE = frozenset(
    {_UNTRUSTED, "signingCredential.expired", "signingCredential.ocsp.revoked", "claimSignature.outsideValidity"}
)
"""Failures of a film that is as it was signed all the same."""
_PROOF = frozenset({"claimSignature.validated", "assertion.bmffHash.match"})
"""What has to be found good of a film that is as it was signed."""
_SAID = {
    "assertion.bmffHash.mismatch": "the film's bytes are not those that were signed",
    "assertion.hashedURI.mismatch": "what the content credentials say was changed after they were signed",
    "assertion.missing": "a part of the content credentials is missing",
    "claimSignature.mismatch": "the signature is not that of these content credentials",
    "claimSignature.outsideValidity": "it was signed when the certificate was not valid",
    "signingCredential.expired": "the certificate has expired, and no timestamp authority saw when it was used",
    "signingCredential.invalid": "the certificate is none for content credentials",
}
"""By the status codes of the C2PA specification 2.2, 15.2.2."""


def _codes(results: Mapping[str, Any], kind: str) -> frozenset[str]:
    return frozenset(each["code"] for each in results.get(kind, ()))


def _said(code: str, text: str) -> str:
    return f"{_SAID[code]} ({code})" if code in _SAID else f"{redact(text) or 'not valid'} ({code})"


def _unreadable(why: str) -> Credentials:
    return Credentials(
        signer="",
        organization="",
        serial="",
        time="",
        time_trusted=False,
        tool="",
        intact=False,
        trusted=False,
        problems=(f"the content credentials are damaged: {why}",),
        record=None,
        clips={},
    )


def _clips(active: Mapping[str, Any], manifests: Mapping[str, Any]) -> Iterator[tuple[str, ClipCredentials]]:
    for ingredient in active.get("ingredients", ()):
        own = manifests.get(ingredient.get("active_manifest") or "")
        told = (ingredient.get("metadata") or {}).get(CLIP)
        if own is None or not isinstance(told, dict) or not isinstance(told.get("sha256"), str):
            continue
        seal = own.get("signature_info", {})
        failures: Sequence[Mapping[str, Any]] = (
            ingredient.get("validation_results", {}).get("activeManifest", {}).get("failure", ())
        )
        intact = all(failure["code"] in _OF_THE_CERTIFICATE for failure in failures)
        yield told["sha256"], ClipCredentials(signer=seal.get("issuer") or seal.get("common_name") or "", intact=intact)

"""Signed films: what the signature says, that whatever is changed is found, and that the key stays where it is."""

from __future__ import annotations

import datetime
import hashlib
import http.server
import json
import re
import shutil
import subprocess
import threading
import time
import wave
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from cryptography.x509.oid import ExtendedKeyUsageOID

import klingflow
from klingflow.app import credentials as signers
from klingflow.io import films
from klingflow.io.store import FolderStore
from klingflow.output import credentials, provenance
from klingflow.storyboard import schema
from tests import clips, signing
from tests.cli import ROOT, Ended, Project
from tests.shared import once

BOARD = """\
klingflow: 1
title: Harbour Dawn
defaults: {provider: hiapi, resolution: 720p, duration: 3}
shots:
  - {id: dawn, prompt: A pier at dawn.}
  - {id: dusk, prompt: A boat comes in.}
  - {id: insert, clip: own.mp4}
film: {size: 320x180, shots: [dawn, {shot: dusk, in: 12, out: 60}, insert]}
"""
IPTC = "http://cv.iptc.org/newscodes/digitalsourcetype/"
STUDIO, SELLER = "Trial Signer", "Kling Trial"


def make(folder: Path) -> None:
    """A storyboard with a clip that its seller signed, one that nobody did, and one of one's own; in git."""
    project = Project(folder / "project", {})
    project.write("film.yaml", BOARD)
    project.write(".gitignore", ".klingflow/\nout/\n*.mp4\n")
    plain = clips.make(folder / "plain.mp4", frames=72)
    clips.make(folder / "dusk.mp4", frames=72, first=100)
    clips.make(project.root / "own.mp4", frames=24, first=200)
    seller = signing.trial(SELLER)
    came = provenance.FilmRecord(
        generator="seller",
        title="a clip",
        storyboard="",
        variant="",
        commit="",
        dirty=False,
        rate="24",
        frames=72,
        digital_source_type=IPTC + "trainedAlgorithmicMedia",
        music="",
        shots=(),
    )
    credentials.sign(plain, folder / "dawn.mp4", came, credentials.signer(*seller.pair()), clips={})
    for shot in ("dawn", "dusk"):
        taken = project.run("take-in", str(folder / f"{shot}.mp4"), "--as", shot, "--force")
        assert taken.code == 0, taken.said
    for words in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "a film"]):
        git(project.root, *words)
    keys = folder / "keys"
    keys.mkdir()
    studio = signing.trial(STUDIO)
    for name, text in (("key", studio.key), ("chain", studio.chain), ("root", studio.root)):
        (keys / f"{name}.pem").write_text(text, "utf-8")
    signed = project.run("film", "--sign", **names(keys))
    assert signed.code == 0, signed.said
    (folder / "said").write_text(signed.said, "utf-8")


def git(root: Path, *words: str) -> str:
    who = ("-c", "user.name=a", "-c", "user.email=a@example.com", "-c", "commit.gpgsign=false")
    return subprocess.run(["git", "-C", root, *who, *words], check=True, capture_output=True, encoding="utf-8").stdout


def names(keys: Path) -> dict[str, str]:
    return {"KLINGFLOW_SIGN_KEY": str(keys / "key.pem"), "KLINGFLOW_SIGN_CERT": str(keys / "chain.pem")}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return once(tmp_path_factory, "signed", make)


@pytest.fixture
def project(made: Path, tmp_path: Path) -> Project:
    shutil.copytree(made / "project", tmp_path / "project", symlinks=True)
    return Project(tmp_path / "project", {})


@pytest.fixture
def keys(made: Path) -> Path:
    return made / "keys"


FILM = "out/film/film.mp4"


def told(ended: Ended) -> Any:
    """The document that `verify --json` printed, which fits its schema."""
    found = json.loads(ended.out)
    jsonschema.Draft202012Validator(schema.load("answers")["$defs"]["verify"]).validate(found)
    return found


def test_the_film_alone_says_which_model_made_which_second(project: Project, keys: Path, tmp_path: Path) -> None:
    alone = tmp_path / "elsewhere" / "delivered.mp4"
    alone.parent.mkdir()
    shutil.copy(project.root / FILM, alone)
    somewhere = Project(alone.parent, {})
    ended = somewhere.run("verify", "delivered.mp4", "--json", KLINGFLOW_SIGN_TRUST=str(keys / "root.pem"))
    found = told(ended)
    assert (ended.code, ended.err) == (0, "")
    assert (found["signed"], found["good"], found["intact"], found["trusted"]) == (True, True, True, True)
    assert (found["signer"]["name"], found["signer"]["organization"]) == (STUDIO, "Trial Studio")
    record = found["record"]
    assert record["digital_source_type"] == IPTC + "compositeSynthetic"
    assert (record["commit"], record["dirty"]) == (git(project.root, "rev-parse", "HEAD").strip(), True)
    dawn, dusk, own = record["shots"]
    assert [(shot["shot"], shot["start_s"], shot["end_s"]) for shot in record["shots"]] == [
        ("dawn", 0.0, 3.0),
        ("dusk", 3.0, 5.0),
        ("insert", 5.0, 6.0),
    ]
    assert (dusk["clip_start"], dusk["clip_end"]) == (12, 60)
    assert (dawn["model"], dawn["provider"], dawn["taken_in"]) == ("kling-3.0-omni", "hiapi", True)
    assert dawn["prompt_sha256"] == hashlib.sha256(b"A pier at dawn.").hexdigest()
    lock = (project.root / "film.lock.yaml").read_text("utf-8")
    assert f"key: {dawn['key']}" in lock
    assert f"clip: {dawn['clip']}" in lock
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", dawn["date"])
    assert (own["provider"], own["model"], own["key"], own["date"]) == ("own", "own", "", "")
    assert (dawn["clip_signer"], dawn["clip_intact"]) == ("Trial Studio", True)
    assert (dusk["clip_signer"], own["clip_signer"]) == (None, None)
    text = somewhere.run("verify", "delivered.mp4")
    assert text.code == 0
    assert "film" not in text.err
    assert re.search(r"^dusk +3\.000 +5\.000 +kling-3\.0-omni +hiapi ", text.out, re.MULTILINE)
    assert "the clip came signed by Trial Studio" in text.out
    assert "was not checked: KLINGFLOW_SIGN_TRUST" in " ".join(text.out.split())


def test_the_manifest_has_each_clip_and_what_it_came_with(project: Project) -> None:
    import c2pa

    with c2pa.Reader(str(project.root / FILM)) as reader:
        found = json.loads(reader.json())
    active = found["manifests"][found["active_manifest"]]
    ingredients = {each["title"]: each for each in active["ingredients"]}
    assert ingredients.keys() == {"dawn", "dusk", "insert"}
    kept = found["manifests"][ingredients["dawn"]["active_manifest"]]
    assert (kept["title"], kept["signature_info"]["common_name"]) == ("a clip", SELLER)
    assert "active_manifest" not in ingredients["dusk"]
    assert ingredients["dusk"]["digital_source_type"] == IPTC + "trainedAlgorithmicMedia"
    assert "digital_source_type" not in ingredients["insert"]
    assert {each["relationship"] for each in ingredients.values()} == {"componentOf"}
    said = ingredients["dusk"]["metadata"][credentials.CLIP]
    assert said["shots"] == [{"shot": "dusk", "take": 1, "from_frame": 72, "to_frame": 120}]
    assert said.keys() >= {"key", "model", "provider", "prompt_sha256", "date", "task"}
    [actions] = [each["data"]["actions"] for each in active["assertions"] if each["label"] == "c2pa.actions.v2"]
    assert [action["action"] for action in actions] == ["c2pa.created", *["c2pa.placed"] * 3]
    assert actions[0]["digitalSourceType"] == IPTC + "compositeSynthetic"
    assert actions[2]["changes"][0]["region"][0]["time"] == {"type": "npt", "start": "3.000", "end": "5.000"}
    assert "thumbnail" not in active
    assert not any("thumbnail" in each for each in ingredients.values())


def test_a_film_of_twelve_shots_grows_by_some_kilobytes(made: Path, tmp_path: Path) -> None:
    """A second of 1080p has a megabyte or so: far below 2 % of a film (docs/credentials.md has a measured one)."""
    record = credentials.read(made / "project" / FILM).record
    assert record is not None
    dusk = record.shots[1]
    shots = tuple(
        replace(dusk, shot=f"shot{n:02}", clip=hashlib.sha256(bytes([n])).hexdigest(), start=n * 10, end=n * 10 + 10)
        for n in range(12)
    )
    film = made / "plain.mp4"
    one = credentials.signer(*signing.trial(STUDIO).pair())
    credentials.sign(film, tmp_path / "film.mp4", replace(record, frames=120, shots=shots), one, clips={})
    assert 12_000 < (tmp_path / "film.mp4").stat().st_size - film.stat().st_size < 30_000
    found = credentials.read(tmp_path / "film.mp4")
    assert found.record is not None
    assert found.record.shots == shots


def test_what_a_film_says_does_nothing_to_a_terminal(made: Path, tmp_path: Path) -> None:
    record = credentials.read(made / "project" / FILM).record
    assert record is not None
    evil = "\x1b[2J\u202e\nfilm.mp4: signed by the Queen"
    shots = tuple(replace(shot, shot=evil, model=evil, provider=evil, task=evil) for shot in record.shots)
    shutil.copy(made / "plain.mp4", tmp_path / "film.mp4")
    provenance.append(tmp_path / "film.mp4", replace(record, title=evil, storyboard=evil, generator=evil, shots=shots))
    text = Project(tmp_path, {}).run("verify", "film.mp4")
    assert text.code == 1
    assert text.out.startswith("film.mp4: not signed\n")
    assert not {"\x1b", "\u202e"} & {*text.out}
    assert not any(line.startswith("film.mp4: signed") for line in text.out.splitlines())


def boxes(data: bytes) -> Iterator[tuple[str, int, int]]:
    """Each outermost box: its kind, where it begins, where it ends."""
    at = 0
    while at < len(data):
        length = int.from_bytes(data[at : at + 4])
        kind = data[at + 4 : at + 8].decode()
        user = data[at + 8 : at + 12].hex() if kind == "uuid" else ""
        yield {"d8fec3d6": "manifest", "be7acfcb": "xmp"}.get(user, kind), at, at + length
        at += length


@pytest.mark.parametrize("where", ["mdat", "moov", "manifest", "xmp"])
def test_a_changed_byte_is_found(made: Path, tmp_path: Path, where: str) -> None:
    whole = (made / "project" / FILM).read_bytes()
    begin, end = next((begin, end) for kind, begin, end in boxes(whole) if kind == where)
    film = tmp_path / "film.mp4"
    for part in (0.2, 0.35, 0.5, 0.9) if where != "manifest" else (0.2, 0.35, 0.5):  # it ends with padding
        data = bytearray(whole)
        data[begin + int((end - begin) * part)] ^= 0x41
        film.write_bytes(data)
        found = klingflow.verify_film(film, environ={})
        assert found.credentials is not None
        assert not found.good
        assert not found.credentials.intact, part
        assert found.credentials.problems


def test_a_changed_film_is_said_to_be_changed(made: Path, tmp_path: Path) -> None:
    data = bytearray((made / "project" / FILM).read_bytes())
    begin, end = next((begin, end) for kind, begin, end in boxes(data) if kind == "mdat")
    data[(begin + end) // 2] ^= 0x41
    (tmp_path / "film.mp4").write_bytes(data)
    text, document = (Project(tmp_path, {}).run("verify", "film.mp4", *more) for more in ((), ("--json",)))
    assert (text.code, text.err) == (1, "")
    assert text.out.startswith("film.mp4: CHANGED since it was signed")
    assert "the film's bytes are not those that were signed (assertion.bmffHash.mismatch)" in text.out
    assert "what follows is what was signed, which is not what this file shows now" in " ".join(text.out.split())
    assert document.code == 1
    assert [told(document)[name] for name in ("signed", "good", "intact", "trusted")] == [True, False, False, None]


def test_a_film_whose_signature_was_cut_out_is_not_signed(made: Path, tmp_path: Path) -> None:
    data = (made / "project" / FILM).read_bytes()
    begin, end = next((begin, end) for kind, begin, end in boxes(data) if kind == "manifest")
    (tmp_path / "film.mp4").write_bytes(data[:begin] + data[end:])
    ended = Project(tmp_path, {}).run("verify", "film.mp4")
    assert ended.code == 1
    assert ended.out.startswith("film.mp4: not signed\nanybody can have changed what it says of itself\n")
    assert re.search(r"^dusk +3\.000 +5\.000 ", ended.out, re.MULTILINE)


def test_a_signer_below_another_root_is_not_trusted(project: Project, tmp_path: Path) -> None:
    other = signing.trial("Somebody Else").root
    ended = project.run("verify", FILM, "--json", KLINGFLOW_SIGN_TRUST=other)
    assert (ended.code, told(ended)["intact"], told(ended)["trusted"], told(ended)["good"]) == (1, True, False, False)
    assert "NOT TRUSTED" in project.run("verify", FILM, KLINGFLOW_SIGN_TRUST=other).out
    bad = project.run("verify", FILM, KLINGFLOW_SIGN_TRUST="-----BEGIN CERTIFICATE-----\nno\n")
    assert (bad.code, bad.out) == (2, "")
    assert "the certificates that are trusted cannot be read" in bad.err


def test_the_loss_of_a_signature_is_said_of_a_film_that_a_farm_joined(project: Project, tmp_path: Path) -> None:
    folder = project.root / "out/film"
    shutil.copytree(folder, tmp_path / "signed")
    project.write("film.yaml", BOARD.replace("Harbour Dawn", "Harbour Dusk"))
    assert project.run("film").code == 0
    source = json.loads((folder / ".made.json").read_text("utf-8"))["film.mp4"]
    facts = {"frames": 144, "seconds": 6.0, "size": "320x180", "rate": "24", "credentials": "none"}
    films.keep(FolderStore(project.root / ".klingflow/store"), source, folder / "film.mp4", facts)
    shutil.rmtree(folder)
    shutil.copytree(tmp_path / "signed", folder)
    found = project.run("film")
    assert "joined, 144 frames, 6.000 s, 320x180; the film before it was signed, this one is not" in found.err


def test_a_signature_stays_while_nothing_changes_and_its_loss_is_said(
    project: Project, keys: Path, tmp_path: Path
) -> None:
    film = project.root / FILM
    signed = film.read_bytes()
    for words in (["film"], ["film", "--sign"], ["run"]):
        assert project.run(*words, **names(keys)).code == 0
        assert film.read_bytes() == signed, words
    project.write("film.yaml", BOARD.replace("Harbour Dawn", "Harbour Dusk"))
    lost = project.run("film")
    assert lost.code == 0
    assert "the film before it was signed, this one is not: klingflow film --sign" in lost.err
    assert not provenance.is_signed(film)
    plain = film.read_bytes()
    assert "signed" not in project.run("film").err
    assert project.run("film", "--sign", **names(keys)).code == 0
    again = credentials.read(film)
    assert again.intact
    assert again.record is not None
    assert again.record.title == "Harbour Dusk"
    other = signing.trial("Another Signer")
    (tmp_path / "key.pem").write_text(other.key, "utf-8")
    ended = project.run("film", "--sign", KLINGFLOW_SIGN_KEY=str(tmp_path / "key.pem"), KLINGFLOW_SIGN_CERT=other.chain)
    assert ended.code == 0
    assert "the film, signed by Another Signer" in ended.err
    assert credentials.read(film).signer == "Another Signer"
    # A film that is signed by record and not in truth is signed again.
    changed = bytearray(film.read_bytes())
    begin, end = next((begin, end) for kind, begin, end in boxes(changed) if kind == "mdat")
    changed[(begin + end) // 2] ^= 0x41
    for there in (plain, bytes(changed)):
        film.write_bytes(there)
        again_signed = project.run("film", "--sign", KLINGFLOW_SIGN_KEY=other.key, KLINGFLOW_SIGN_CERT=other.chain)
        assert again_signed.code == 0
        assert credentials.read(film).intact


def test_the_same_film_without_a_signature_has_the_same_bytes(project: Project) -> None:
    films = []
    for _ in range(2):
        shutil.rmtree(project.root / "out")
        assert project.run("film").code == 0
        films.append((project.root / FILM).read_bytes())
    assert films[0] == films[1]


def test_the_key_is_nowhere_but_in_its_file(project: Project, keys: Path, made: Path) -> None:
    lines = [line for line in (keys / "key.pem").read_text("utf-8").splitlines() if not line.startswith("-----")]
    assert lines
    said = (made / "said").read_text("utf-8")
    files = [path for path in project.root.rglob("*") if path.is_file()]
    home = [path for path in (made / "project-home").rglob("*") if path.is_file()]
    assert len(files) > 10
    for line in lines:
        assert line not in said
        assert [path for path in (*files, *home) if line.encode() in path.read_bytes()] == []


def test_what_differs_from_the_lock_is_named(project: Project) -> None:
    same = project.run("verify", FILM, "film.yaml")
    assert same.code == 0, same.said
    assert same.out.endswith("film.yaml: the lock names the same shots, clips and keys\n")
    lock = project.root / "film.lock.yaml"
    [key] = re.findall(r"dawn:\n +\"1\":\n +key: (\w+)", text := lock.read_text("utf-8"))
    lock.write_text(text.replace(key, "f" * 64).replace("provider: hiapi", "provider: mulerouter", 1), "utf-8")
    ended = project.run("verify", FILM, "film.yaml", "--json")
    assert ended.code == 1
    assert told(ended)["good"]
    assert told(ended)["differences"] == [
        f"shot dawn, from second 0.000: key is {key[:12]} in the film, and ffffffffffff in the lock",
        "shot dawn, from second 0.000: provider is hiapi in the film, and mulerouter in the lock",
    ]
    lock.write_text(text, "utf-8")
    moved = BOARD.replace("[dawn, {shot: dusk, in: 12, out: 60}, insert]", "[insert, dawn, coda]")
    project.write("film.yaml", moved.replace("film:", "  - {id: coda, clip: own.mp4}\nfilm:"))
    ended = project.run("verify", FILM, "film.yaml", "--json")
    assert told(ended)["differences"] == [
        "shot dusk is in this film, and not in the storyboard's",
        "shot insert stands at another place in the storyboard's film",
        "shot coda is in the storyboard's film, and not in this one",
    ]
    project.write("film.yaml", BOARD.replace("klingflow: 1\n", "klingflow: 1\nmatrix: {lang: [en, de]}\n"))
    ended = project.run("verify", FILM, "film.yaml")
    assert ended.code == 1
    assert "the storyboard has no film 'without a matrix'" in ended.out


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({"KLINGFLOW_SIGN_KEY": "KEY"}, "KLINGFLOW_SIGN_CERT is not set"),
        ({"KLINGFLOW_SIGN_KEY": "nowhere.pem", "KLINGFLOW_SIGN_CERT": "CHAIN"}, "the file that KLINGFLOW_SIGN_KEY"),
        ({"KLINGFLOW_SIGN_KEY": "OTHER", "KLINGFLOW_SIGN_CERT": "CHAIN"}, "does not belong to the first certificate"),
        ({"KLINGFLOW_SIGN_KEY": "KEY", "KLINGFLOW_SIGN_CERT": "KEY"}, "the certificate for signing cannot be read"),
        ({"KLINGFLOW_SIGN_KEY": "CHAIN", "KLINGFLOW_SIGN_CERT": "CHAIN"}, "the key for signing cannot be read"),
        ({"KLINGFLOW_SIGN_KEY": "LOCKED", "KLINGFLOW_SIGN_CERT": "CHAIN"}, "the key for signing has a password"),
        ({"KLINGFLOW_SIGN_KEY": "OLD", "KLINGFLOW_SIGN_CERT": "OLD CHAIN"}, "the certificate for signing expired on"),
        ({"KLINGFLOW_SIGN_KEY": "BARE", "KLINGFLOW_SIGN_CERT": "BARE CHAIN"}, "no extended key usage"),
        (
            {"KLINGFLOW_SIGN_KEY": "KEY", "KLINGFLOW_SIGN_CERT": "CHAIN", "KLINGFLOW_SIGN_TSA": "ftp://x"},
            "KLINGFLOW_SIGN_TSA is not an http or https URL",
        ),
    ],
)
def test_what_cannot_sign_is_refused_and_the_key_is_not_shown(environ: dict[str, str], said: str) -> None:
    one, other = signing.trial(STUDIO), signing.trial("Other")
    old, bare = signing.trial("Old", days=-1), signing.trial("Bare", usage=None)
    texts = {"KEY": one.key, "CHAIN": one.chain, "OTHER": other.key, "LOCKED": signing.locked(one.key)}
    texts |= {"OLD": old.key, "OLD CHAIN": old.chain, "BARE": bare.key, "BARE CHAIN": bare.chain}
    with pytest.raises(klingflow.UsageError, match=said) as refused:
        signers.signer({name: texts.get(text, text) for name, text in environ.items()})
    shown = refused.value.what + refused.value.mend
    secrets = [line for text in texts.values() for line in text.splitlines() if not line.startswith("-----")]
    assert refused.value.mend
    assert [line for line in secrets if line in shown or line in repr(refused.value.__cause__)] == []


def test_every_kind_of_key_signs(made: Path, tmp_path: Path) -> None:
    record = credentials.read(made / "project" / FILM).record
    assert record is not None
    for kind in ("p256", "p384", "ed25519", "rsa"):
        one = signing.trial(kind, kind=kind)
        credentials.sign(made / "plain.mp4", tmp_path / kind, record, credentials.signer(*one.pair()), clips={})
        shutil.move(tmp_path / kind, tmp_path / f"{kind}.mp4")
        found = credentials.read(tmp_path / f"{kind}.mp4", trust=one.root)
        assert (found.intact, found.trusted, found.record) == (True, True, record), kind


def test_a_refused_signer_leaves_the_film_as_it_is(project: Project) -> None:
    before = (project.root / FILM).read_bytes()
    project.write("film.yaml", BOARD.replace("Harbour Dawn", "Harbour Dusk"))
    ended = project.run("film", "--sign")
    assert ended.code == 2
    assert "KLINGFLOW_SIGN_KEY and KLINGFLOW_SIGN_CERT are not set, so the film cannot be signed\nmend: " in ended.err
    assert (project.root / FILM).read_bytes() == before


def test_a_key_that_git_tracks_is_refused(project: Project, keys: Path) -> None:
    key = project.write("sign.key", (keys / "key.pem").read_bytes())
    environ = {**names(keys), "KLINGFLOW_SIGN_KEY": str(key)}
    assert signers.signer(environ).name == STUDIO  # not tracked
    git(project.root, "add", "sign.key")
    with pytest.raises(klingflow.UsageError, match="git tracks the key that KLINGFLOW_SIGN_KEY names"):
        signers.signer(environ)


def test_a_timestamp_authority_that_does_not_answer_leaves_the_film_as_it_is(project: Project, keys: Path) -> None:
    project.write("film.yaml", BOARD.replace("Harbour Dawn", "Harbour Dusk"))
    before = (project.root / FILM).read_bytes()
    ended = project.run("film", "--sign", **names(keys), KLINGFLOW_SIGN_TSA="http://127.0.0.1:9/")
    assert ended.code == 1
    assert "the timestamp authority did not answer as it should" in ended.err
    assert (project.root / FILM).read_bytes() == before
    assert [path.name for path in (project.root / "out/film").iterdir() if "film.mp4" in path.name] == ["film.mp4"]


class Authority(http.server.BaseHTTPRequestHandler):
    """A timestamp authority (RFC 3161): openssl's, in the folder that the server has."""

    def do_POST(self) -> None:
        folder = Path(self.server.folder)  # type: ignore[attr-defined]
        (folder / "asked.tsq").write_bytes(self.rfile.read(int(self.headers["Content-Length"])))
        words = ["-config", "tsa.cnf", "-section", "tsa", "-queryfile", "asked.tsq", "-out", "answer.tsr"]
        subprocess.run(["openssl", "ts", "-reply", *words], cwd=folder, check=True, capture_output=True)
        answer = (folder / "answer.tsr").read_bytes()
        self.send_response(200)
        self.send_header("Content-Type", "application/timestamp-reply")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, format: str, *args: object) -> None:
        pass


TSA = """\
[tsa]
serial = serial
signer_cert = chain.pem
certs = chain.pem
signer_key = key.pem
signer_digest = sha256
default_policy = 1.2.3.4.1
digests = sha256, sha384, sha512
ess_cert_id_alg = sha256
"""


def test_a_timestamp_authority_says_when(project: Project, keys: Path, tmp_path: Path) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    own = signing.trial("Trial Time", usage=ExtendedKeyUsageOID.TIME_STAMPING, kind="rsa")
    for name, text in {"tsa.cnf": TSA, "serial": "01\n", "key.pem": own.key, "chain.pem": own.chain}.items():
        (tmp_path / name).write_text(text, "utf-8")
    with http.server.HTTPServer(("127.0.0.1", 0), Authority) as server:
        server.folder = tmp_path  # type: ignore[attr-defined]
        threading.Thread(target=server.serve_forever, daemon=True).start()
        environ = {**names(keys), "KLINGFLOW_SIGN_TSA": f"http://127.0.0.1:{server.server_port}/"}
        project.write("film.yaml", BOARD.replace("Harbour Dawn", "Harbour Dusk"))
        ended = project.run("film", "--sign", **environ)
        server.shutdown()
    assert ended.code == 0, ended.said
    root = (keys / "root.pem").read_text("utf-8")
    for trust, trusted in ((root, False), (root + own.root, True)):
        seal = klingflow.verify_film(project.root / FILM, environ={"KLINGFLOW_SIGN_TRUST": trust}).credentials
        assert seal is not None
        assert (seal.intact, seal.trusted, seal.time_trusted, seal.problems) == (True, True, trusted, ())
        assert re.match(r"\d{4}-\d\d-\d\dT", seal.time)
    said = " ".join(project.run("verify", FILM, KLINGFLOW_SIGN_TRUST=root).out.split())
    assert "by a timestamp authority that is not trusted here" in said


@pytest.mark.slow
def test_a_certificate_that_expired_since_is_no_change_of_the_film(made: Path, tmp_path: Path) -> None:
    record = credentials.read(made / "project" / FILM).record
    assert record is not None
    age = datetime.datetime.now(datetime.UTC) - signing.NOW
    short = signing.trial("Short", days=(age + datetime.timedelta(seconds=2)) / datetime.timedelta(days=1))
    one = credentials.signer(*short.pair())
    credentials.sign(made / "plain.mp4", tmp_path / "film.mp4", record, one, clips={})
    assert klingflow.verify_film(tmp_path / "film.mp4", environ={}).good
    until = time.monotonic() + 10
    while (found := klingflow.verify_film(tmp_path / "film.mp4", environ={})).good:
        assert time.monotonic() < until
        time.sleep(0.1)
    assert found.credentials is not None
    assert found.credentials.intact
    assert found.credentials.problems == (
        "the certificate has expired, and no timestamp authority saw when it was used (signingCredential.expired)",
    )
    ended = Project(tmp_path, {}).run("verify", "film.mp4")
    assert ended.code == 1
    assert "not changed since\nBUT the certificate has expired" in ended.out


def test_a_clip_with_damaged_credentials_goes_in_without_them(project: Project, keys: Path, tmp_path: Path) -> None:
    clip = tmp_path / "clip.mp4"
    one = signing.trial(SELLER)
    own, empty = project.root / "own.mp4", credentials.read(project.root / FILM).record
    assert empty is not None
    credentials.sign(own, clip, empty, credentials.signer(*one.pair()), clips={})
    data = bytearray(clip.read_bytes())
    data[data.index(b"jumb", 60)] ^= 1
    own.write_bytes(data)
    ended = project.run("film", "--sign", **names(keys))
    assert ended.code == 0, ended.said
    found = credentials.read(project.root / FILM)
    assert found.intact
    assert len(found.clips) == 1  # the seller's
    # One whose picture is not what its seller signed keeps them, and it is said that they do not fit.
    own.write_bytes(clip.read_bytes() + (24).to_bytes(4) + b"uuid" + bytes(16))
    ended = project.run("film", "--sign", **names(keys))
    assert ended.code == 0, ended.said
    found = credentials.read(project.root / FILM)
    assert found.intact
    assert sorted(each.intact for each in found.clips.values()) == [False, True]
    assert "the clip came with credentials that did not fit it, of Trial Studio" in project.run("verify", FILM).out


def test_a_music_bed_keeps_the_credentials_that_it_came_with(project: Project, keys: Path) -> None:
    import c2pa

    seller = signing.trial(SELLER)
    with wave.open(str(project.root / "plain.wav"), "wb") as sound:
        sound.setparams((1, 2, 8000, 0, "NONE", ""))
        sound.writeframes(bytes(range(256)) * 64)
    actions = {"actions": [{"action": "c2pa.created", "digitalSourceType": IPTC + "trainedAlgorithmicMedia"}]}
    bed = {"title": "a tune", "assertions": [{"label": "c2pa.actions.v2", "data": actions}]}
    info = c2pa.C2paSignerInfo("es256", seller.pair()[1], seller.pair()[0], None)
    with c2pa.Builder(json.dumps(bed)) as builder, c2pa.Signer.from_info(info) as signer:
        builder.sign_file(project.root / "plain.wav", project.root / "score.wav", signer)
    for name, came in (("plain.wav", False), ("score.wav", True)):
        project.write("film.yaml", BOARD.replace("film: {", f"film: {{audio: {name}, "))
        assert project.run("film", "--sign", **names(keys)).code == 0
        found = credentials.read(project.root / FILM)
        assert found.intact, found.problems
        assert found.record is not None
        assert found.record.music == hashlib.sha256((project.root / name).read_bytes()).hexdigest()
        assert (found.record.music in found.clips) == came
        same = project.run("verify", FILM, "film.yaml")
        assert same.code == 0
        assert ("; it came signed by Trial Studio" in " ".join(same.out.split())) == came
    project.write("film.yaml", BOARD)
    other = project.run("verify", FILM, "film.yaml")
    assert (other.code, "the music bed is another one" in other.out) == (1, True)


def test_a_rehearsal_is_in_no_lock_and_that_is_said_once(project: Project) -> None:
    assert project.run("run", "--provider", "animatic").code == 0
    project.write("bare.yaml", BOARD)
    ended = project.run("verify", "out/film/animatic/film.mp4", "bare.yaml", "--json")
    assert ended.code == 1
    assert told(ended)["differences"] == ["it is a rehearsal with the animatic: no lock names its clips"]


def test_without_the_library_only_what_is_signed_needs_it(project: Project, keys: Path, tmp_path: Path) -> None:
    absent = tmp_path / "absent" / "c2pa"
    absent.mkdir(parents=True)
    (absent / "__init__.py").write_text("raise ModuleNotFoundError('no', name='c2pa')\n", "utf-8")
    path = {"PYTHONPATH": f"{absent.parent}:{ROOT}"}
    for words in (["film", "--sign"], ["verify", FILM]):
        ended = project.run_process(*words, **names(keys), **path)
        assert ended.code == 2, ended.said
        assert "needs a library that is not installed\nmend: pip install 'klingflow[credentials]'" in ended.err
    shutil.rmtree(project.root / "out")
    assert project.run_process("film", **path).code == 0
    ended = project.run_process("verify", FILM, "film.yaml", **path)
    assert ended.code == 1
    assert "film.mp4: not signed" in ended.out


def test_the_trial_certificate_of_the_documents_signs(made: Path, tmp_path: Path) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    page = (ROOT / "docs/credentials.md").read_text("utf-8")
    [script] = [block for block in re.findall(r"```sh\n(.*?)```", page, re.DOTALL) if "openssl" in block]
    subprocess.run(["sh", "-e", "-c", script], cwd=tmp_path, check=True, capture_output=True)
    one = credentials.signer((tmp_path / "sign.key").read_bytes(), (tmp_path / "chain.pem").read_bytes())
    film = made / "project" / FILM
    record = credentials.read(film).record
    assert record is not None
    credentials.sign(film, tmp_path / "signed.mp4", record, one, clips={})
    found = credentials.read(tmp_path / "signed.mp4", trust=(tmp_path / "root.pem").read_text("utf-8"))
    assert (found.signer, found.intact, found.trusted) == ("Trial Signer", True, True)

"""The joins of a film: what is judged, and how it is written down."""

from __future__ import annotations

import json
from dataclasses import replace

import jsonschema

from klingflow.output import seams
from klingflow.output.seams import Finding, Seam, Verdict
from klingflow.storyboard import schema

ECHO = Finding(kind="echo", value=3.0, limit=0.0, at_s=5.0, note="three frames are shown again")
JOIN = Seam(
    number=1,
    before="dawn",
    after="harbour",
    join="continues",
    at_s=5.0,
    frame=120,
    numbers={"velocity": 3.5, "loudness": None, "echo": 3.0},
    findings=(ECHO,),
    strip="seams/01-dawn-harbour.jpg",
)
FILM = Verdict(
    storyboard="film.yaml", variant="", title="Harbour", limits=seams.limits({"echo": 0}), gate=("echo",), seams=(JOIN,)
)


def test_a_verdict_fits_its_schema_and_is_read_back_as_it_was() -> None:
    data = json.loads(seams.text(FILM))
    jsonschema.validate(data, schema.load("seams"))
    assert seams.load(data) == FILM


def test_what_is_no_verdict_is_none() -> None:
    for data in (None, [], {}, {"version": 2}, {**seams.dump(FILM), "gate": None}, {"version": 1, "seams": [3]}):
        assert seams.load(data) is None


def test_the_schema_knows_every_kind() -> None:
    known = schema.load("seams")["$defs"]["kind"]
    assert known["enum"] == list(seams.KINDS)
    assert all(f"{kind}: " in known["description"] for kind in seams.KINDS)


def test_only_the_kinds_of_the_gate_fail() -> None:
    assert FILM.failed() == ((JOIN, ECHO),)
    assert replace(FILM, gate=("luma",)).failed() == ()

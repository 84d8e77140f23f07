"""The joins of a film: what is judged, and how it is written down."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, replace

import jsonschema
import pytest

from klingflow.output import seams
from klingflow.output.seams import Across, FilmSeams, Finding, Inside, Seam
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
FILM = FilmSeams(
    storyboard="film.yaml",
    variant="",
    title="Harbour",
    source="0" * 64,
    limits=seams.limits({"echo": 0}),
    gate=("echo",),
    seams=(JOIN,),
)


def test_a_verdict_fits_its_schema_and_is_read_back_as_it_was() -> None:
    data = json.loads(seams.text(FILM))
    jsonschema.validate(data, schema.load("seams"))
    assert seams.load(data) == FILM


def test_what_is_no_verdict_is_none() -> None:
    for data in (None, [], {}, {"version": 2}, {**seams.dump(FILM), "gate": None}, {"version": 1, "seams": [3]}):
        assert seams.load(data) is None


def test_the_format_states_the_limit_of_every_kind() -> None:
    gate = schema.load("storyboard")["properties"]["film"]["properties"]["gate"]["properties"]
    for kind, known in seams.KINDS.items():
        assert f"Above {known.limit:g} it is a finding" in gate[kind]["description"]
        assert gate[kind]["examples"] == [known.limit]


def test_the_schema_knows_every_kind() -> None:
    known = schema.load("seams")["$defs"]["kind"]
    assert known["enum"] == list(seams.KINDS)
    assert all(f"{kind}: " in known["description"] for kind in seams.KINDS)


def test_only_the_kinds_of_the_gate_fail() -> None:
    assert FILM.failed() == ((JOIN, ECHO),)
    assert replace(FILM, gate=("luma",)).failed() == ()


# ---------------------------------------------------------------- judged

STILL = (0.0,) * 8
INSIDE = Inside(
    frames=48,
    rate=24.0,
    cuts=(),
    early=STILL,
    middle=STILL,
    late=STILL,
    whole=STILL,
    scaled=((-1.0, 0.5, 0.5), (0.0, 0.0, 0.0), (1.0, -0.5, -0.5)),
    still=0,
    sudden=False,
)
SMOOTH = Across(velocity=2.0, before=20.0, after=20.0, turn=1.0, echo=0, luma=0.1, colour=0.2, step=STILL)


def kinds(*found: Seam) -> list[list[str]]:
    return [[one.kind for one in seam.findings] for seam in found]


def judged(
    insides: Sequence[Inside | None],
    acrosses: Sequence[Across],
    joins: Sequence[str] = ("continues",) * 9,
    **gate: float,
) -> tuple[Seam, ...]:
    shots, starts = "abcdefg"[: len(insides)], [48 * n for n in range(len(insides))]
    return seams.judge(shots, insides, acrosses, joins, seams.limits(gate), starts=starts, rate=24.0)


def test_what_is_smooth_has_no_finding_and_its_place_in_the_film() -> None:
    found = judged([INSIDE] * 3, [SMOOTH] * 2)
    assert kinds(*found) == [[], []]
    assert [(seam.number, seam.before, seam.after, seam.frame, seam.at_s) for seam in found] == [
        (1, "a", "b", 48, 2.0),
        (2, "b", "c", 96, 4.0),
    ]


@pytest.mark.parametrize(
    ("kind", "value"),
    [("velocity", 41.0), ("echo", 2), ("luma", 4.5), ("colour", 4.6), ("loudness", 17.0), ("click", 33.0)],
)
def test_what_is_above_its_limit_is_found_and_a_gate_moves_the_limit(kind: str, value: float) -> None:
    broken = replace(SMOOTH, **{kind: value})
    assert kinds(*judged([INSIDE] * 2, [broken])) == [[kind]]
    assert kinds(*judged([INSIDE] * 2, [broken], **{kind: value})) == [[]]


def test_a_sudden_stand_still_freezes_and_a_rest_does_only_where_what_comes_moves() -> None:
    def found(still: int, sudden: bool, after: float, join: str = "continues") -> list[Seam]:
        inside = replace(INSIDE, still=still, sudden=sudden)
        return list(judged([inside, INSIDE], [replace(SMOOTH, after=after)], [join]))

    [seam] = found(6, True, 0.0)
    assert [(one.kind, one.value, one.at_s) for one in seam.findings] == [("freeze", 6, 1.75)]
    assert kinds(*found(6, False, 0.0)) == [[]]
    assert kinds(*found(6, False, 20.0)) == [["freeze"]]
    assert kinds(*found(6, False, 20.0, "cut")) == [[]]


def test_drift_is_the_sum_of_what_happens_in_the_clips_and_between_them() -> None:
    def away(light: float) -> tuple[float, ...]:
        return (light, *STILL[1:])

    insides = [replace(INSIDE, whole=away(1.0), late=away(0.9)) for _ in range(4)]
    found = judged(insides, [replace(SMOOTH, step=away(0.1))] * 3)
    assert [seam.numbers["drift"] for seam in found] == [2.0, 3.1, 4.2]
    assert kinds(*found) == [[], ["drift"], ["drift"]]
    apart = judged(insides, [replace(SMOOTH, step=away(0.2))] * 3, ["continues", "cut", "continues"])
    assert [seam.numbers["drift"] for seam in apart] == [2.1, None, 2.1], "a chain begins anew after a planned cut"


def test_a_clip_that_was_not_measured_has_no_numbers_and_a_chain_begins_anew_after_it() -> None:
    away = replace(INSIDE, whole=(2.0, *STILL[1:]), late=(2.0, *STILL[1:]), cuts=(12,))
    found = judged([None, None, away, away, away], [Across(), Across(), SMOOTH, SMOOTH])
    assert [seam.measured for seam in found] == [False, True, True, True]
    assert [seam.numbers["drift"] for seam in found] == [None, None, 4.0, 6.0]
    assert [(one.kind, one.at_s) for one in found[1].findings] == [("cut", 4.5)]
    assert found[1].numbers["freeze"] is None


def test_detail_that_a_zoom_or_a_fade_takes_is_not_lost() -> None:
    def lost(finest: float, fine: float, coarse: float = 0.0, size: float = 0.0) -> float | None:
        level = (*STILL[:4], finest, fine, coarse, size)
        return judged([INSIDE, INSIDE], [replace(SMOOTH, step=level)])[0].numbers["texture"]

    assert lost(-0.5, -0.4) == pytest.approx(39.35, abs=0.01)
    assert lost(-0.5, -0.4, coarse=-0.5) == 0.0
    assert lost(-0.5, -0.5, size=1.0) == 0.0
    assert lost(-0.5, -0.25, size=0.5) == pytest.approx(16.05, abs=0.01)
    assert lost(0.5, 0.4) == 0.0


def test_cuts_inside_a_clip_count_at_the_join_where_it_begins() -> None:
    cut = replace(INSIDE, cuts=(12,))
    first, second = judged([cut, INSIDE, cut], [SMOOTH] * 2)
    assert [(one.kind, one.value, one.at_s) for one in first.findings] == [("cut", 1, 0.5)]
    assert "'a'" in first.findings[0].note
    assert [(one.kind, one.value, one.at_s) for one in second.findings] == [("cut", 1, 4.5)]


def test_what_was_measured_is_read_back_as_it_was() -> None:
    for value, read in ((INSIDE, seams.load_inside), (SMOOTH, seams.load_across)):
        assert read(json.loads(json.dumps(asdict(value)))) == value
        assert read({"frames": 3}) is None
        assert read(None) is None
        assert read([1]) is None


def test_the_worst_join_is_the_one_that_is_furthest_above_its_limit() -> None:
    found = judged([INSIDE] * 3, [replace(SMOOTH, velocity=25.0), replace(SMOOTH, luma=8.0)])
    assert seams.worst(found) == found[1]
    assert seams.worst(judged([INSIDE] * 2, [SMOOTH])) is None

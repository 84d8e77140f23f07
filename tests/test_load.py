from __future__ import annotations

import json
import re
import time
import unicodedata
from fractions import Fraction
from textwrap import dedent
from typing import Any

import pytest

from klingflow.core.model import Cut, Digest, Element, FileStill, MultiShot, Shot, ShotFrame, ShotId, UrlStill
from klingflow.core.source import Severity, render
from klingflow.providers import BUILT_IN, PROVIDERS
from klingflow.storyboard import load, schema, shots, variables, yamlread
from tests.storyboards import faults, film, films, loaded

PLAIN: dict[str, Any] = {
    "name": "film", "folder": "", "read": lambda path: "", "provider": None, "providers": PROVIDERS
}

HARBOUR = """\
klingflow: 1
title: Harbour {{ boat }}
vars:
  boat: a red boat
  look: 35 mm, {{ boat }}
defaults:
  provider: hiapi
  duration: 4
  sound: true
  negative_prompt: blur
  max_chain: 2
shots:
  - id: dawn
    first_frame: frames/dawn.png
    prompt: |
      Waves, {{ boat }}.
      Shot {{ shot.index }} of {{ shot.duration }} s, {{ shot.tags | join('+') }}
    tags: [night, sea]
  - id: harbour
    continues: dawn
    last_frame: ../stills/./harbour.png
    duration: 6
    prompt: "{{ look }} {{ vars.boat }} {{ vars.look }}"
  - id: market
    meets: harbour
    prompt_file: market.txt
    vars: {boat: a barge}
    takes: 3
    take: 2
    hold: true
  - id: closing
    first_frame: {shot: market, frame: 2.50s}
    last_frame: {shot: dawn, frame: first}
    prompt: back
  - id: insert
    clip: footage/insert.mp4
film:
  shots: [dawn, {shot: insert, in: 2, out: 2.50s}, {shot: dawn, out: "{{ 4 }}s"}]
  audio: score.wav
  resolution: "{{ 720 }}p"
  aspect: "2.39 : 1"
  rate: 23.976
"""
FILES = {"pipelines/market.txt": "A {{ boat }}\r\n{% include 'end.txt' %}\n", "pipelines/end.txt": "The {{ look }}"}


def test_a_storyboard_becomes_a_film_of_shots() -> None:
    made = film(HARBOUR, FILES, folder="pipelines")
    dawn, harbour, market, closing, insert = made.shots
    assert (made.name, made.variant, made.title, made.max_chain) == ("film", "", "Harbour a red boat", 2)
    assert made.cut == (Cut(ShotId("dawn")), Cut(ShotId("insert"), "2", "2.5s"), Cut(ShotId("dawn"), end="4s"))
    assert made.audio == "pipelines/score.wav"
    assert (made.size, made.resolution, made.aspect, made.shape) == (None, "720p", "2.39:1", Fraction(239, 100))
    assert made.rate == Fraction(24000, 1001)
    assert dawn.prompt == "Waves, a red boat.\nShot 1 of 4 s, night+sea"
    assert (dawn.first_frame, dawn.tags, dawn.index) == (FileStill("pipelines/frames/dawn.png"), ("night", "sea"), 0)
    assert (dawn.duration, dawn.sound, dawn.provider, dawn.negative_prompt) == (4, True, "hiapi", "blur")
    assert harbour.first_frame == ShotFrame(ShotId("dawn"), "last")
    assert harbour.last_frame == FileStill("stills/harbour.png")
    assert harbour.prompt == "35 mm, a red boat a red boat 35 mm, a red boat"
    assert (market.first_frame, market.meets) == (FileStill("stills/harbour.png"), "harbour")
    assert market.prompt == "A a barge\nThe 35 mm, a red boat"
    assert (market.take, market.takes, market.hold) == (2, 3, True)
    assert closing.first_frame == ShotFrame(ShotId("market"), "2.5s")
    assert closing.last_frame == ShotFrame(ShotId("dawn"), "first")
    assert (insert.clip, insert.negative_prompt, insert.prompt) == ("pipelines/footage/insert.mp4", "", "")


def test_every_place_of_a_shot_is_found_in_the_file() -> None:
    made = film(HARBOUR, FILES, folder="pipelines")

    def at(shot: str | None, field: str) -> str:
        return str(made.where(ShotId(shot) if shot else None, field)).removeprefix("pipelines/film.yaml:")

    assert at("dawn", "") == "13:9"
    assert at("dawn", "first_frame") == "14:18"
    assert at("dawn", "provider") == "7:13"  # from the defaults
    assert at("dawn", "model") == "13:9"  # nowhere: the shot
    assert at("dawn", "tags.1") == "18:19"
    assert at("harbour", "first_frame") == "20:16"  # continues says it
    assert at("market", "first_frame") == "25:12"  # meets says it
    assert at("market", "prompt") == "26:18"  # prompt_file says it
    assert at(None, "film.audio") == "39:10"


def test_a_matrix_makes_a_film_of_each_combination() -> None:
    made = films(
        """
        klingflow: 1
        matrix:
          aspect: ["16:9", "9:16"]
          lang: [en, de]
          exclude: [{aspect: "9:16", lang: de}]
        vars: {word: "{{ lang }}!"}
        defaults: {aspect_ratio: "{{ aspect }}"}
        shots:
          - id: a
            prompt: "{{ word }} {{ matrix.lang }}"
            first_frame: frames/{{ lang }}.png
        """
    )
    assert [one.variant for one in made] == ["16x9-en", "16x9-de", "9x16-en"]
    assert made[1].matrix == {"aspect": "16:9", "lang": "de"}
    assert (made[1].shots[0].prompt, made[1].shots[0].first_frame) == ("de! de", FileStill("frames/de.png"))
    assert [one.shots[0].aspect_ratio for one in made] == ["16:9", "16:9", "9:16"]
    assert made[2].label == "film [9x16-en]"


def names(*values: str) -> list[str]:
    return variables.file_names([(value,) for value in values])


def test_a_combination_is_named_as_ever_where_its_values_are_plain() -> None:
    old = {"16:9": "16x9", "en": "en", "pt-BR": "pt-BR", "2.5": "2.5", "New York": "New_York", "a, b": "a_b"}
    old |= {"shots": "shots_", "con": "con_", "x_": "x_", "UP": "UP", "": "film"}
    assert names(*old) == list(old.values())
    assert variables.file_names([("16:9", "en"), ("en", "-5"), ("a_b", ".c")]) == ["16x9-en", "en--5", "a_b-.c"]


@pytest.mark.parametrize(
    ("value", "name"),
    [("日本語", "日本語"), ("Ελλάδα", "Ελλάδα"), ("हिन्दी", "हिन्दी"), ("العربية", "العربية"), ("Cafe\u0301", "Café")],
)
def test_a_value_in_another_script_is_its_own_name(value: str, name: str) -> None:
    assert names(value) == [name]


ODD = ["C++", "C#", "C", "c", "-1", "1", "+1", "!!!", "...", "🔥", "❤️", "日本語!", "日本語?", "日本・語", "\u3164"]
ODD += ["a" * 98, "a" * 99, "語" * 99, "../..", "a/", "\\a", "\0", "\ud800", "é", "می\u200cخواهم", "x.", " ", "-"]
ODD += ["A B", "Con.", "shots?"]


def test_a_name_follows_from_its_own_values_alone() -> None:
    alone = {value: names(value)[0] for value in ODD if value != "C"}  # C and c are one file on many disks
    assert names(*alone) == list(alone.values())
    assert names(*reversed(alone)) == list(reversed(alone.values())), "their order moves nothing"
    assert len({name.casefold() for name in alone.values()}) == len(alone)
    schema_of_lock = schema.load("lock")["properties"]["films"]["propertyNames"]["pattern"]
    for name in alone.values():
        assert re.fullmatch(r"[\w.-][\w.\-\u0300-\u036f\u0900-\u0dff]*", name), "one visible step of a path"
        assert not name.startswith((".", "-"))
        assert not name.endswith(".")
        assert re.search(schema_of_lock, name)
        assert len(name.encode()) < 220


def test_names_that_would_be_one_file_look_at_each_other_whatever_their_order() -> None:
    for group in (["en", "EN", "En"], ["16:9", "16x9"], ["a/b", "a b", "a\\b"], ["é", "e\u0301"], ["SS", "ß"]):
        made = dict(zip(group, names(*group), strict=True))
        assert dict(zip(reversed(group), names(*reversed(group)), strict=True)) == made
        assert len({unicodedata.normalize("NFC", name.casefold()) for name in made.values()}) == len(group)
    assert names("EN", "en")[1] == "en"
    assert names("16:9", "16x9")[1] == "16x9"
    put_together = variables.file_names([("a-b", "c"), ("a", "b-c")])
    assert len(set(put_together)) == 2
    assert all(name.startswith("a-b-c_") for name in put_together)


def test_a_number_of_the_matrix_chooses_from_a_mapping() -> None:
    made = films(
        """
        klingflow: 1
        matrix: {v: [1.10, 2]}
        vars: {word: {1.10: ten, 2: two}}
        shots: [{id: a, prompt: "{{ word[v] }}"}]
        """
    )
    assert [one.shots[0].prompt for one in made] == ["ten", "two"]


def test_a_fault_that_every_combination_has_is_told_once() -> None:
    text = """
        klingflow: 1
        matrix: {lang: [en, de, fr]}
        defaults: {negative_prompt: "{{ nope }}"}
        shots:
          - {id: a, prompt: x, continues: b}
          - {id: c, prompt: "{{ bad }} {{ lang }}"}
        """
    assert faults(text) == [
        "4:30 undefined: 'nope' is not declared",
        "6:35 unknown-shot: there is no shot 'b'",
        "7:22 undefined: 'bad' is not declared",
    ]


def test_var_overrides_a_declared_variable_and_no_other() -> None:
    text = "klingflow: 1\nvars: {boat: a, n: 3, wet: true}\nshots: [{id: a, prompt: '{{ boat }}{{ n }}{{ wet }}'}]\n"
    made = film(text, overrides={"boat": "{{ x }}", "n": "7", "wet": "false"})
    assert made.shots[0].prompt == "{{ x }}7false"
    assert faults(text, overrides={"boot": "b"}) == [
        "unknown-var: --var boot: the storyboard declares no variable 'boot'"
    ]


def test_provider_overrides_every_shot() -> None:
    made = film(HARBOUR, FILES, folder="pipelines", provider="animatic")
    assert {shot.provider for shot in made.shots} == {"animatic"}
    assert faults("klingflow: 1\nshots: [{id: a, prompt: x}]\n", provider="x") == [
        "unknown-provider: there is no provider 'x'"
    ]


def test_frames_of_all_kinds_are_read() -> None:
    pinned = "ab" * 32
    (_, _, _, last) = film(
        f"""
        klingflow: 1
        shots:
          - {{id: a, prompt: x, last_frame: {{still: b}}}}
          - {{id: b, prompt: x, last_frame: {{url: "https://h/p.png?q=1", sha256: "{pinned}"}}}}
          - {{id: c, prompt: x, last_frame: {{shot: a, frame: -1}}}}
          - id: d
            first_frame: {{still: a}}
            images: [one.png, https://h/p.png, {{shot: a, frame: -3}}, {{still: c}}]
            elements: [{{frontal_image: {{still: b}}, reference_images: [{{shot: a, frame: 5s}}]}}]
            multi_shot: {{by: customize, shots: [{{prompt: " p ", duration: 2}}, {{prompt: q, duration: 3}}]}}
        """
    ).shots
    url = UrlStill("https://h/p.png?q=1", Digest(pinned))
    assert last.first_frame == url
    assert last.images == (
        FileStill("one.png"),
        UrlStill("https://h/p.png"),
        ShotFrame(ShotId("a"), "-3"),
        ShotFrame(ShotId("a"), "last"),
    )
    assert last.elements == (Element(url, (ShotFrame(ShotId("a"), "5s"),)),)
    assert last.multi_shot == MultiShot("customize", (("p", 2), ("q", 3)))


def test_a_shot_may_say_in_its_own_way_what_the_defaults_say_in_another() -> None:
    text = """
        klingflow: 1
        defaults: {prompt: common, vars: {mood: calm}}
        shots:
          - {id: a, prompt_file: p.txt}
          - {id: b, vars: {mood: wild}}
          - {id: c, prompt: "{{ mood }}"}
        """
    made = film(text, {"p.txt": "from file, {{ mood }}"})
    assert [shot.prompt for shot in made.shots] == ["from file, calm", "common", "calm"]


@pytest.mark.parametrize(
    ("shot", "expected"),
    [
        ("{id: b, continues: aa, prompt: x}", "4:20 unknown-shot: there is no shot 'aa'"),
        ("{id: b, continues: b}", "4:20 self-reference: 'b' refers to itself"),
        ("{id: a, prompt: x}", "4:6 duplicate-id: 'a' names two shots; the first is on line 3"),
        ("{id: b, meets: a}", "4:16 no-still: 'a' declares no last_frame to begin with"),
        ("{id: b, last_frame: {still: a}}", "4:29 no-still: 'a' declares no last_frame to begin with"),
        (
            "{id: b, first_frame: x.png, meets: a}",
            "4:29 exclusive: 'b' has both first_frame and meets: a shot begins with one frame",
        ),
        ("{id: b, prompt: x, prompt_file: y}", "4:20 exclusive: 'b' has both prompt and prompt_file"),
        (
            "{id: b, clip: x.mp4, duration: 5}",
            "4:22 exclusive: 'duration' says how to make a clip, but 'b' brings one of its own",
        ),
        ("{id: b}", "4:6 empty-shot: 'b' says nothing to show"),
        ("{id: b, prompt: '{{ e }}'}", "4:6 empty-shot: 'b' says nothing to show"),
        ("{id: b, prompt: x, take: 3, takes: 2}", "4:26 take: take 3 of 'b' counts, but only takes 1 to 2 are made"),
        ("{id: b, first_frame: {shot: a, frame: 5.1s}}", "4:39 frame: 'a' lasts 5 s: it has no frame at 5.1s"),
        (
            "{id: b, multi_shot: {by: customize, shots: [{prompt: x, duration: 2}]}}",
            "4:9 duration: the shots of multi_shot last 2 s together, but 'b' lasts 5 s",
        ),
        ("{id: b, prompt_file: no.txt}", "4:22 file: no.txt is not there"),
        ("{id: b, prompt: x, resolution: '{{ v }}'}", "4:32 value: there is no resolution '8K'"),
        ("{id: b, prompt: x, tags: ['{{v}}{{w}}']}", "4:27 value: '8K,' is not a tag"),
        ("{id: b, prompt: 'It''s {{ no }}'}", "4:24 undefined: 'no' is not declared"),
        ("{id: b, first_frame: ../x.png}", "4:22 path: '../x.png' leaves the project"),
        ("{id: b, first_frame: a/../../x.png}", "4:22 path: 'a/../../x.png' leaves the project"),
        ("{id: b, first_frame: /etc/passwd}", "4:22 path: '/etc/passwd' is not a path inside the project"),
        ("{id: b, first_frame: ~/x.png}", "4:22 path: '~/x.png' is not a path inside the project"),
        ("{id: b, first_frame: 'a\\b.png'}", "4:22 path: 'a\\b.png' holds a backslash"),
        ("{id: b, first_frame: frames/}", "4:22 path: 'frames/' names a folder"),
        ('{id: b, first_frame: "a\\0b"}', "4:22 path: the path holds a character that cannot be seen: "
             "a control character (U+0000) at position 2"),
        ("{id: b, first_frame: '{{ f }}'}", "4:22 path: a file is needed here, not a file: address"),
        ("{id: b, first_frame: '{{ h }}'}", "4:22 url: only https is fetched, not http"),
        ("{id: b, first_frame: 'https://u:p@h/x.png'}", "4:22 url: this is not a plain https URL"),
        ("{id: b, prompt: \"{% include '../x' %}\"}", "4:18 file: '../x' leaves the project"),
    ],
)
def test_a_bad_shot_is_refused_at_its_place(shot: str, expected: str) -> None:
    variables = "vars: {e: ' ', v: 8K, w: ',', f: 'file:///etc/passwd', h: 'http://h/x.png'}"
    text = f"klingflow: 1\n{variables}\nshots: [{{id: a, prompt: x}},\n{shot}]\n"
    assert faults(text) == [expected]


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ("vars: {shot: x}", "2:8 reserved-name: 'shot' means something else in templates"),
        ("vars: {a: '{{ b }}', b: x}", "2:12 undefined: 'b' is not declared"),
        ("vars: {lang: x}\nmatrix: {lang: [en]}", "2:8 reserved-name: 'lang' is a name of the matrix too"),
        ("matrix: {a: [x], exclude: [{b: x}]}", "2:29 matrix: the matrix has no 'b'"),
        ("matrix: {a: [x, y], exclude: [{a: z}]}", "2:35 matrix: 'a' has no value 'z'"),
        ("matrix: {a: [x], exclude: [{a: x}]}", "2:18 matrix: every combination is excluded"),
        ("matrix: {a: [1, '1']}", "2:17 matrix: 'a' has '1' twice"),
        (
            f"matrix: {{a: {list(range(11))}, b: {list(range(10))}}}",
            "2:1 matrix: the matrix makes 110 films; there can be 100",
        ),
        ("film: {shots: [b]}", "2:16 unknown-shot: there is no shot 'b'"),
        ("film: {aspect: '0:9'}", "2:16 film-size: '0:9' is no shape of a film"),
        ("film: {aspect: '10:1'}", "2:16 film-size: '10:1' is no shape of a film"),
        ("film: {resolution: '{{ 1080 }}'}", "2:20 film-size: there is no resolution '1080'"),
        ("film: {size: 640x360, aspect: '16:9'}", "2:23 exclusive: film has both size and aspect"),
        ("film: {resolution: 720p, size: 640x360}", "2:8 exclusive: film has both size and resolution"),
        ("film: {size: '{{ 1920 }}'}", "2:14 film-size: '1920' is no size of a film"),
        ("film: {size: 8194x1080}", "2:14 film-size: '8194x1080' is no size of a film"),
        ("film: {size: 8x1080}", "2:14 film-size: '8x1080' is no size of a film"),
        ("film: {size: \"{{ '640x361' }}\"}", "2:14 film-size: '640x361' is no size of a film"),
        ("film: {audio: ../x.wav}", "2:15 path: '../x.wav' leaves the project"),
        ("title: '{{ shot.id }}'", "2:9 undefined: 'shot' is known only inside a shot"),
    ],
)
def test_a_bad_top_level_is_refused_at_its_place(lines: str, expected: str) -> None:
    assert faults(f"klingflow: 1\n{lines}\nshots: [{{id: a, prompt: x}}]\n") == [expected]


def test_each_film_of_a_matrix_can_have_its_own_size() -> None:
    sizes = "{{ {'16:9': '1920x1080', '9:16': '1080x1920'}[aspect] }}"
    text = f"""
    klingflow: 1
    matrix: {{aspect: ["16:9", "9:16"]}}
    film: {{size: "{sizes}", rate: 25}}
    shots: [{{id: a, prompt: x}}]
    """
    assert [(made.size, made.rate) for made in films(text)] == [((1920, 1080), 25), ((1080, 1920), 25)]
    (plain,) = films("klingflow: 1\nshots: [{id: a, prompt: x}]")
    assert (plain.size, plain.rate) == (None, None)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "klingflow: 1",
        "shots: {a: 1}",
        "shots: [1, null, {}, {id: 3}, {id: a, prompt: 4, duration: x, first_frame: {url: 1}, images: {}, x: 1}]",
        "vars: []\ndefaults: 4\nmatrix: {a: x, b: []}\nfilm: []\nshots: [{id: a, vars: 3, meets: [a]}]",
        "film: {shots: [1], audio: 3}\nmatrix: 3\nvars: {a: null}\nshots: [{id: a, prompt: '{{ a }}'}]",
        "defaults: {tags: x, duration: {}, max_chain: x, vars: 1, id: 1}\nshots: [{id: a, elements: [1]}]",
        "matrix: {exclude: [1], a: [{}]}\nshots: [{id: a, first_frame: {}, last_frame: {shot: a, still: b}, clip: 3}]",
    ],
)
def test_a_storyboard_of_any_shape_ends_in_faults_and_never_in_a_crash(text: str) -> None:
    document = yamlread.read("film.yaml", text)
    load.load(document, overrides={"x": "y"}, **PLAIN)


def test_faults_of_meaning_are_told_beside_faults_of_shape_but_not_because_of_them() -> None:
    text = """\
        klingflow: 1
        shots:
          - {id: a, promt: x}
          - {id: b, duration: five, continues: aa}
          - {id: c, resolution: 8K, prompt: "{{ no }}"}
        """
    document = yamlread.read("film.yaml", dedent(text))
    refused = [str(p.span) for p in schema.check(document, "storyboard")]
    assert refused == ["film.yaml:3:13", "film.yaml:4:23", "film.yaml:5:25"]
    _, problems = load.load(document, overrides={}, **PLAIN)
    told = [(str(p.span), p.rule) for p in problems]
    assert told == [("film.yaml:4:40", "unknown-shot"), ("film.yaml:5:38", "undefined")]


def test_all_faults_are_told_at_once_in_order_of_place() -> None:
    text = """\
        klingflow: 1
        shots:
          - id: a
            prompt: >-
              folded text
              and {{ one }} then
              {{ two }}
            images: [../a, /b, {still: a}]
          - id: b
            continues: aa
            prompt: "esc \\"aped\\" {{ three }}"
        """
    places = [fault.partition(" ")[0] for fault in faults(text)]
    assert places == ["6:11", "7:7", "8:14", "8:20", "8:32", "10:16", "11:27"]


def test_stills_that_stand_for_each_other_are_told_once_as_a_circle() -> None:
    text = """\
        klingflow: 1
        shots:
          - {id: a, last_frame: {still: b}}
          - {id: b, last_frame: {still: c}}
          - {id: c, last_frame: {still: b}}
          - {id: d, meets: a, prompt: x}
        """
    assert faults(text) == ["5:33 still-cycle: these stills refer to each other: b -> c -> b"]


def test_a_long_way_of_stills_is_followed_quickly() -> None:
    lines = ["klingflow: 1", "shots:", *(f"  - {{id: s{i}, last_frame: {{still: s{i + 1}}}}}" for i in range(3000))]
    start = time.process_time()
    made = film("\n".join([*lines, "  - {id: s3000, last_frame: x.png}", ""]))
    assert {shot.last_frame for shot in made.shots} == {FileStill("x.png")}
    assert time.process_time() - start < 5


def test_a_variable_that_no_template_uses_is_a_warning() -> None:
    text = "klingflow: 1\nvars: {a: x, b: x, c: x, d: '{{ a }}'}\nshots: [{id: s, prompt_file: p}]\n"
    _, problems = loaded(text, {"p": "{{ vars.b }} d"})
    assert [(render(p).partition("\n")[0], p.severity) for p in problems] == [
        ("film.yaml:2:20: warning: no template uses 'c'", Severity.WARNING),
        ("film.yaml:2:26: warning: no template uses 'd'", Severity.WARNING),
    ]


def test_a_fault_is_shown_with_its_line_and_a_caret() -> None:
    text = "klingflow: 1\nvars: {boat: x}\nshots:\n  - id: a\n    prompt: The {{ bota }} {{ boat }} sails\n"
    _, problems = loaded(text)
    assert render(problems[0]) == dedent(
        """\
        film.yaml:5:17: 'bota' is not declared
            5 |     prompt: The {{ bota }} {{ boat }} sails
              |                 ^^^^^^^^^^
        mend: did you mean 'boat'?"""
    )


def test_load_and_the_schema_name_the_same_values() -> None:
    defs = schema.load("storyboard")["$defs"]
    for name, values in (
        ("provider", BUILT_IN),
        ("resolution", shots.RESOLUTIONS),
        ("aspect_ratio", shots.ASPECT_RATIOS),
    ):
        assert set(defs[name]["anyOf"][0]["enum"]) == set(values)


def test_load_reads_every_field_that_the_schema_has() -> None:
    fields = {
        "title": "t", "notes": "n", "tags": ["t"], "prompt": "p", "prompt_file": "f",
        "negative_prompt": "n",
        "first_frame": "a.png", "last_frame": "b.png", "continues": "z", "meets": "z", "images": ["i.png"],
        "elements": [{"frontal_image": "e.png"}], "videos": ["v.mp4"], "multi_shot": {"by": "intelligence"},
        "duration": 6, "resolution": "4K",
        "sound": True, "aspect_ratio": "1:1", "model": "m", "provider": "hiapi", "take": 2, "takes": 2, "hold": True,
        "gate": "approved", "clip": "c.mp4", "vars": {"v": 1},
    }  # fmt: skip
    assert set(fields) | {"id"} == set(schema.load("storyboard")["$defs"]["shot"]["properties"])
    assert set(fields) - set(Shot.__slots__) == {"prompt_file", "continues", "vars"}
    rest = {"id": "z", "prompt": "p", "last_frame": "z.png"}
    for name, value in fields.items():
        alone = name in ("clip", "prompt", "prompt_file")
        shot = {"id": "a", name: value, **({} if alone else {"prompt": "p"})}
        (one, _) = film(json.dumps({"klingflow": 1, "shots": [shot, rest]}), {"f": "from file"}).shots
        if name in {"title", "notes", "duration", "resolution", "sound", "aspect_ratio", "model", "take", "clip"}:
            assert getattr(one, name) == value
        elif name != "vars":
            assert one != Shot(id=ShotId("a"), index=0)


def test_a_storyboard_of_costly_templates_ends_soon() -> None:
    loops = "{% for a in l %}{% for b in l %}{% endfor %}{% endfor %}"
    shots = "".join(f"  - {{id: s{i}, prompt: '{loops}{i}'}}\n" for i in range(1000))
    start = time.process_time()
    found = faults(f"klingflow: 1\nvars: {{l: [{'1,' * 200}]}}\nshots:\n{shots}")
    assert found[0] == "4:23 template-size: the template takes over 10000 rounds"
    assert len(found) < 200
    assert time.process_time() - start < 10


DEFAULTS = {
    "tags": "[a]",
    "prompt": "waves",
    "negative_prompt": "blur",
    "images": "[a.png]",
    "elements": "[{frontal_image: a.png}]",
    "multi_shot": "{by: intelligence}",
    "aspect_ratio": '"1:1"',
    "model": "other",
}


@pytest.mark.parametrize(
    ("field", "empty"),
    [(field, empty) for field in DEFAULTS for empty in ("null", "")]
    + [(field, "[]") for field in ("tags", "images", "elements")],
)
def test_a_default_can_be_taken_away_from_one_shot(field: str, empty: str) -> None:
    made = film(
        f"""
        klingflow: 1
        defaults:
          {field}: {DEFAULTS[field]}
        shots:
          - {{id: a, first_frame: f.png, {field}: {empty}}}
          - {{id: b, first_frame: f.png}}
          - {{id: c, first_frame: f.png}}
        """
    )
    emptied, kept, _ = made.shots
    absent = film("klingflow: 1\nshots: [{id: a, first_frame: f.png}]").shots[0]
    assert emptied == absent, "as if there were no such default: the same key, too"
    assert getattr(kept, field) != getattr(absent, field)


def test_a_prompt_that_is_taken_away_takes_the_default_file_along() -> None:
    shots = "[{id: a, first_frame: f.png, prompt: null}, {id: b}]"
    made = film(f"klingflow: 1\ndefaults: {{prompt_file: p.txt}}\nshots: {shots}", {"p.txt": "waves"})
    assert [shot.prompt for shot in made.shots] == ["", "waves"]


def test_nothing_written_where_there_is_no_default_is_a_fault() -> None:
    assert faults("klingflow: 1\ndefaults: {model: null}\nshots: [{id: a, prompt: x, model: , tags: null}]") == [
        "3:35 empty: model of shot 'a' is empty, and the defaults have none",
        "3:43 empty: tags of shot 'a' is empty, and the defaults have none",
    ]
    assert faults("klingflow: 1\ndefaults: {prompt: x}\nshots: [{id: a, prompt: null}]") == [
        "3:14 empty-shot: 'a' says nothing to show"
    ]


@pytest.mark.parametrize("field", ["id", "duration", "sound", "takes", "vars", "clip", "first_frame", "title"])
def test_no_other_field_may_be_empty(field: str) -> None:
    name = "" if field == "id" else "id: a, "
    document = yamlread.read("film.yaml", f"klingflow: 1\nshots: [{{{name}prompt: x, {field}: null}}]")
    assert [problem.rule for problem in schema.check(document, "storyboard")] == ["wrong-type"]


def test_a_part_of_a_clip_has_its_prompt() -> None:
    text = "klingflow: 1\nshots: [{id: a, multi_shot: {by: customize, shots: [{prompt: null, duration: 5}]}}]"
    (problem,) = schema.check(yamlread.read("film.yaml", text), "storyboard")
    assert problem.what == "prompt of shot 'a' must be text, not empty"


def test_what_the_schema_blanks_out_makes_no_second_fault() -> None:
    text = """\
        klingflow: 1
        vars: {v: x}
        shots:
          - {id: a, promt: x}
          - {prompt: "{{ v }}", continues: zz}
          - {id: c, first_frame: "http://h/x.png", images: [a.png, {url: "http://x"}], duration: 99}
          - {id: d, meets: a, film: 1, prompt: "{{ w }}"}
        film: {shots: [a, 3]}
        """
    document = yamlread.read("film.yaml", dedent(text))
    told, document.data = schema.sift(document, "storyboard")
    assert len(told) == 7
    _, problems = load.load(document, overrides={}, **PLAIN)
    assert [(str(p.span), p.rule) for p in problems] == [("film.yaml:7:41", "undefined")]


def test_a_fault_in_an_included_file_is_reported_once() -> None:
    shots = "".join(f"  - {{id: s{i}, prompt: \"{{% include 'look.txt' %}} {i}\"}}\n" for i in range(50))
    files = {"look.txt": "fine\n {% if %}"}
    _, problems = loaded(f"klingflow: 1\nshots:\n{shots}", files)
    assert [f"{p.span}" for p in problems] == ["look.txt:2:2"]


def test_the_files_that_a_storyboard_includes_are_bounded_together() -> None:
    names = [f"f{i}.txt" for i in range(200)]
    shots = "".join(f"  - {{id: s{i}, prompt_file: {name}}}\n" for i, name in enumerate(names))
    _, problems = loaded(f"klingflow: 1\nshots:\n{shots}", dict.fromkeys(names, "{# #}" + "a" * 99990))
    large = [p.what for p in problems if "too large" in p.what]
    assert large == ["'f160.txt' and the text files before it are too large to include together"]


PRIVATE = [
    *("169.254.169.254", "2130706433", "0177.0.0.1", "0x7f.0.0.1", "0x7f000001", "127.1", "10.1", "127.0.0.1."),
    *(
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[::ffff:a9fe:a9fe]",
        "[64:ff9b::a9fe:a9fe]",
        "[2002:7f00:1::]",
        "[fd00:ec2::254]",
    ),
    *(
        "[fd00:ec2::254]",
        "[::ffff:0:7f00:1]",
        "metadata.google.internal",
        "metadata.google.internal.",
        "localhost",
        "LOCALHOST.",
    ),
    *("printer.local", "a.localhost", "metadata", "1.2.3.4.5", "09.1.1.1", "300.1.1.1", "4294967296", "0x", "0"),
    *("[1:2]", "[:::]", "x.home.arpa", "192.168.1", "0300.0250.1.1"),
]


@pytest.mark.parametrize("host", PRIVATE)
def test_an_image_at_a_private_host_is_refused_at_its_place(host: str) -> None:
    found = faults(f"klingflow: 1\nshots:\n  - {{id: a, first_frame: 'https://{host}/a.png'}}\n")
    assert found == [f"3:26 private-host: '{host}' is not a host on the public internet"]
    pinned = f"{{url: 'https://{host}:443/a.png', sha256: {'ab' * 32}}}"
    found = faults(f"klingflow: 1\nshots:\n  - {{id: a, prompt: x, images: [{pinned}]}}\n")
    assert found == [f"3:39 private-host: '{host}' is not a host on the public internet"]


@pytest.mark.parametrize("host", ["example.com", "1.1.1.1", "16843009", "[2606:4700::1111]", "a.internal.example.com"])
def test_an_image_at_a_public_host_is_not(host: str) -> None:
    found = faults(f"klingflow: 1\nshots:\n  - {{id: a, first_frame: 'https://{host}/a.png'}}\n")
    assert found == []


def test_an_image_at_a_host_of_the_environment_is_welcome() -> None:
    def at(host: str, trusted: str) -> bool:
        text = f"klingflow: 1\nshots:\n  - {{id: a, first_frame: 'https://{host}/a.png'}}\n"
        return not faults(text, trusted=[trusted])

    assert at("10.0.0.7:8443", "10.0.0.7")
    assert at("Studio.internal", "studio.internal")
    assert at("[::1]", "::1")
    assert at("localhost", "127.0.0.1")
    assert not at("10.0.0.8", "10.0.0.7")
    assert not at("169.254.169.254", "127.0.0.1")


def test_an_image_that_is_not_pinned_is_a_warning_once() -> None:
    pin = "ab" * 32
    _, problems = loaded(
        f"""
        klingflow: 1
        matrix: {{lang: [en, de]}}
        shots:
          - {{id: a, prompt: x, first_frame: 'https://e.com/a.png', last_frame: {{url: 'https://e.com/b.png'}}}}
          - {{id: b, prompt: x, first_frame: 'https://e.com/a.png'}}
          - {{id: c, prompt: x, first_frame: {{url: 'https://e.com/c.png', sha256: {pin}}}}}
        """
    )
    assert [(f"{p.span}", p.rule, p.severity, p.mend) for p in problems] == [
        ("film.yaml:5:37", "unpinned-url", Severity.WARNING, "write {url: …, sha256: …}"),
        ("film.yaml:5:78", "unpinned-url", Severity.WARNING, "write {url: …, sha256: …}"),
    ]


def test_every_fault_of_the_cut_is_told_at_its_place() -> None:
    text = """
        klingflow: 1
        vars: {at: 3s}
        shots:
          - {id: a, prompt: x, duration: 3}
          - {id: own, clip: own.mp4}
        film:
          shots:
            - {shot: a, in: "{{ at }}"}
            - {shot: a, out: 181}
            - {shot: b, in: 1s}
            - {shot: a, in: 30, out: 30}
            - {shot: a, in: 2s, out: 1.5s}
            - {shot: own, in: "0", out: 900s}
            - {shot: a, in: 1, out: "{{ at }}"}
            - {shot: a, in: "{{ 'x' }}"}
        """
    assert faults(text) == [
        "9:21 cut: 'a' lasts 3 s: it has no frame at 3s",
        "10:22 cut: 'a' lasts 3 s: it has no frame 181",
        "11:14 unknown-shot: there is no shot 'b'",
        "12:30 cut: 'a' is shown from 30 to 30: that is nothing",
        "13:30 cut: 'a' is shown from 2s to 1.5s: that is nothing",
        "16:21 cut: 'x' is no place in a clip",
    ]
    made, _ = loaded(text)
    assert dict(made[0].left_out)["film.shots"] == "'a' lasts 3 s: it has no frame at 3s"

import itertools
import json
import re
from collections.abc import Iterator
from pathlib import Path

import jsonschema
import pytest

from klingflow.core.model import Shot
from klingflow.core.source import Problem
from klingflow.storyboard import schema, shots, yamlread

MINE = ("storyboard", "project", "lock")
HEX = "0" * 64


def check(text: str, name: str = "storyboard") -> list[Problem]:
    return schema.check(yamlread.read("film.yaml", text), name)


def told(text: str, name: str = "storyboard") -> list[tuple[str, str, str]]:
    return [(str(p.span).removeprefix("film.yaml:"), p.what, p.mend) for p in check(text, name)]


def shot(fields: str) -> str:
    return f"klingflow: 1\nshots:\n  - id: dawn\n    {fields}\n"


EVERYTHING = f"""
klingflow: 1
title: Harbour Dawn
notes: for the spring campaign
vars: {{boat: a red boat, n: 3, cast: {{mara: {{lok: tall}}}}, list: [a, b], flag: true}}
defaults: {{provider: hiapi, resolution: 1080p, duration: 5, sound: false, max_chain: 4, aspect_ratio: 16:9, tags: [x]}}
matrix: {{aspect: [16:9, 9:16], lang: [en, de], year: [1999], exclude: [{{aspect: 9:16, lang: de}}]}}
shots:
  - {{id: dawn, first_frame: frames/dawn.png, prompt: "Waves, {{{{ boat }}}}", provider: "{{{{ who }}}}"}}
  - {{id: b, first_frame: "https://example.com/a.png", last_frame: {{shot: dawn, frame: first}}, resolution: 4K}}
  - {{id: c, first_frame: {{url: "https://example.com/a.png", sha256: {HEX}}}, last_frame: {{still: b}}}}
  - {{id: d, first_frame: {{shot: dawn, frame: -3}}, last_frame: {{shot: dawn, frame: 2.5s}}, take: 2, takes: 3}}
  - {{id: e, continues: dawn, negative_prompt: text, images: [a.png, {{shot: dawn}}], aspect_ratio: "{{{{ aspect }}}}"}}
  - {{id: f, meets: b, elements: [{{frontal_image: a.png, reference_images: [b.png]}}], hold: true, vars: {{x: 1}}}}
  - {{id: g, multi_shot: {{by: customize, shots: [{{prompt: a, duration: 3}}, {{prompt: b, duration: 2}}]}}}}
  - {{id: h, multi_shot: {{by: intelligence}}, prompt_file: prompts/h.txt, model: kling-3.0-omni, title: t, notes: n}}
  - {{id: i, clip: footage/insert.mp4, sound: true, tags: [night, sea]}}
film: {{shots: [dawn, b, dawn], audio: score.wav}}
"""


def test_a_storyboard_with_every_field_is_valid() -> None:
    assert check(EVERYTHING) == []


def test_all_faults_are_told_at_once_in_order_of_place() -> None:
    text = """\
klingflow: 2
titel: x
defaults: {first_frame: a.png, sound: on}
shots:
  - prompt: no id
    duraton: 5
  - id: Dawn
    resolution: 4k
    duration: 20
    take: "2"
film: {shots: [a, b], audio: 5}
"""
    assert told(text) == [
        ("1:12", "klingflow must be 1, not 2", "write 1"),
        ("2:1", "the storyboard has no field 'titel'", "did you mean 'title'?"),
        ("3:12", "defaults has no field 'first_frame'", "each shot states its own"),
        ("3:39", "sound of defaults must be true or false, not 'on'", "write true"),
        ("5:5", "shot 1 has no 'id'", "add `id: dawn`"),
        ("6:5", "shot 1 has no field 'duraton'", "did you mean 'duration'?"),
        (
            "7:9",
            "id of shot 'Dawn' cannot be 'Dawn'",
            "write dawn; small letters, digits, - and _, beginning with a letter or digit; "
            "not a name that Windows reserves (con, nul, com1, …)",
        ),
        (
            "8:17",
            "resolution of shot 'Dawn' cannot be '4k'",
            "did you mean '4K'? it is one of 720p, 1080p, 4K",
        ),
        ("9:15", "duration of shot 'Dawn' must be from 3 to 15, not 20", "write 15"),
        ("10:11", "take of shot 'Dawn' must be a whole number, not '2'", "write 2 without quotes"),
        ("11:30", "audio of film must be text, not 5", 'write it in quotes: "5"'),
    ]


@pytest.mark.parametrize(
    ("fields", "what", "mend"),
    [
        ("duration: 5.0", "duration of shot 'dawn' must be a whole number, not 5.0", "write 5"),
        ("title:", "title of shot 'dawn' must be text, not empty", "write a value, or remove the key"),
        ("title: 5", "title of shot 'dawn' must be text, not 5", 'write it in quotes: "5"'),
        ("tags: night", "tags of shot 'dawn' must be a list, not 'night'", "write a list: [night]"),
        ("tags: [a, a]", "tags of shot 'dawn' holds 'a' twice", "remove one of them"),
        (
            "provider: sora",
            "provider of shot 'dawn' cannot be 'sora'",
            "it is one of animatic, hiapi, mulerouter, fal, kling",
        ),
        (
            "first_frame: file:///etc/passwd",
            "first_frame of shot 'dawn' cannot be 'file:///etc/passwd'",
            "a URL must begin with https://",
        ),
        (
            "first_frame: http://x/y.png",
            "first_frame of shot 'dawn' cannot be 'http://x/y.png'",
            "a URL must begin with https://",
        ),
        ("first_frame: {still: a, frame: last}", "'frame' needs 'shot'", "add `shot`, or remove `frame`"),
        (
            "first_frame: {shot: a, still: b}",
            "first_frame of shot 'dawn' is not right: a frame is one of shot, still or url, not several",
            "",
        ),
        ("first_frame: {}", "first_frame of shot 'dawn' is empty", "write something there, or remove it"),
        (
            "last_frame: {shot: a, frame: middle}",
            "frame of shot 'dawn' cannot be 'middle'",
            "a frame is last, first, a negative index (-3) or a time in seconds (2.5s)",
        ),
        (
            "last_frame: {shot: a, frame: 3}",
            "frame of shot 'dawn' cannot be 3",
            "a frame is last, first, a negative index (-3) or a time in seconds (2.5s)",
        ),
        ("multi_shot: {by: customize}", "multi_shot of shot 'dawn' has no 'shots'", "add `shots`"),
        (
            "elements: [{frontal_image: a.png, reference_images: []}]",
            "reference_images of shot 'dawn' is empty",
            "write something there, or remove it",
        ),
        (
            "elements: [{}]",
            "entry 1 of elements of shot 'dawn' has no 'frontal_image'",
            "add `frontal_image: frames/dawn.png`",
        ),
        (
            "clip: https://x/y.mp4",
            "clip of shot 'dawn' cannot be 'https://x/y.mp4'",
            "a file of the project is named here, relative to the storyboard; not a URL",
        ),
        *(
            (
                f'prompt: "{empty}"',
                f"prompt of shot 'dawn' cannot be '{empty}'",
                "an empty prompt says nothing: write what happens, or remove the key",
            )
            for empty in ("", "  ")
        ),
        (
            "multi_shot: {by: intelligence, shots: [{prompt: a, duration: 3}]}",
            "multi_shot of shot 'dawn' is not right: shots stand only beside by: customize",
            "",
        ),
        ("duration: 5s", "duration of shot 'dawn' must be a whole number, not '5s'", "write 5"),
        ('duration: "6 seconds"', "duration of shot 'dawn' must be a whole number, not '6 seconds'", "write 6"),
        ("duration: 5.5", "duration of shot 'dawn' must be a whole number, not 5.5", "write 5 or 6"),
        ("duration: 2", "duration of shot 'dawn' must be from 3 to 15, not 2", "write 3"),
        ("duration: 20", "duration of shot 'dawn' must be from 3 to 15, not 20", "write 15"),
        ("duration: 2.5", "duration of shot 'dawn' must be a whole number, not 2.5", "write 3"),
        ("duration: 1m", "duration of shot 'dawn' must be a whole number, not '1m'", "write 3"),
        ("duration: long", "duration of shot 'dawn' must be a whole number, not 'long'", "write a number, such as 5"),
        ("take: two", "take of shot 'dawn' must be a whole number, not 'two'", "write 2"),
        ('take: "2"', "take of shot 'dawn' must be a whole number, not '2'", "write 2 without quotes"),
        ("take: 0", "take of shot 'dawn' must be from 1 to 999, not 0", "write 1"),
        (
            "continues: [a]",
            "continues of shot 'dawn' must be text or a mapping of fields, not a list",
            "write one text, not a list: a",
        ),
        ("resolution: 1080", "resolution of shot 'dawn' must be text, not 1080", "write 1080p"),
        ("resolution: 4", "resolution of shot 'dawn' must be text, not 4", "write 4K"),
        ("max_chain: 2", "shot 'dawn' has no field 'max_chain'", "it stands in `defaults`"),
        (
            "vars: {a-b: 1}",
            "'a-b' cannot be a name in vars of shot 'dawn'",
            "a name has letters, digits and _, and does not begin with a digit",
        ),
    ],
)
def test_a_fault_of_a_shot_is_one_sentence(fields: str, what: str, mend: str) -> None:
    assert [(p.what, p.mend) for p in check(shot(fields))] == [(what, mend)]


@pytest.mark.parametrize("name", ["Dawn", "con", "lpt1", "-a", "a b", "../x", "dawn\\n", "раwn", ""])
def test_ids_that_would_be_bad_file_names_are_refused(name: str) -> None:
    assert check(f'klingflow: 1\nshots: [{{id: "{name}"}}]')


@pytest.mark.parametrize(
    ("limits", "mend"),
    [
        ("spend: -5", "write 5, or remove it"),
        ("spend: $20", "write 20"),
        ("spend: 20.50 USD", "write 20.5"),
        ("spend: '1,234.50'", "write 1234.5"),
        ("spend: EUR 20", "write 20"),
        ("spend: a lot", "write a number, such as 20.0"),
        ("spend: '9e999'", "write a number, such as 20.0"),
        ("tasks: 2.5", "write 2 or 3"),
        ("tasks: ten", "write 10"),
        ("seconds: 60s", "write 60"),
        ("seconds: -1", "write 1, or remove it"),
    ],
)
def test_a_limit_that_is_no_number_says_which_one_to_write(limits: str, mend: str) -> None:
    assert [problem.mend for problem in check(f"limits: {{{limits}}}", "project")] == [mend]


@pytest.mark.parametrize("shots", ["a: {prompt: x}", "a: x", "a:"])
def test_shots_that_are_no_list_are_told_how_to_be_one(shots: str) -> None:
    [problem] = check(f"klingflow: 1\nshots:\n  {shots}\n")
    assert problem.mend == "write a list, each entry with a `-` before it: `- id: a`"
    [problem] = check("klingflow: 1\nshots:\n  prompt: x\n  id: a\n")
    assert problem.mend == "write a list, each entry with a `-` before it: `- prompt: 'x'`"


def test_a_file_without_content_and_a_list_are_told_as_such() -> None:
    assert told("") == [("1:1", "the storyboard is empty", "`klingflow init` writes one that runs")]
    assert told("[1]")[0][1] == "the storyboard must be a mapping of fields, not a list"


def test_what_an_alias_brings_is_told_where_it_was_written() -> None:
    text = "klingflow: 1\nvars: {a: &a {duraton: 3}}\nshots: [{id: x, multi_shot: *a}]"
    assert ("2:15", "multi_shot of shot 'x' has no field 'duraton'") in [p[:2] for p in told(text)]


def test_the_same_slip_in_ten_thousand_shots_is_told_quickly() -> None:
    text = "klingflow: 1\nshots:\n" + "".join(f"  - {{id: s{i}, duraton: 5}}\n" for i in range(10_000))
    assert len(check(text)) == schema.MAX_FAULTS


def test_keys_and_addresses_in_the_project_file_are_sent_to_the_environment() -> None:
    text = "api_key: x\nproviders:\n  hiapi: {concurrency: 4, base_url: https://evil, webhook_secret: y}\n"
    text += "  mulerouter: {key: z}\n"
    mend = "it comes from the environment only, as {}: a pull request must not move it"
    keys = "HIAPI_API_KEY or MULEROUTER_API_KEY or FAL_KEY or KLING_ACCESS_KEY or KLING_SECRET_KEY"
    assert told(text, "project") == [
        ("1:1", "klingflow.yaml has no field 'api_key'", mend.format(keys)),
        ("3:27", "hiapi of providers has no field 'base_url'", mend.format("HIAPI_BASE_URL")),
        ("3:51", "hiapi of providers has no field 'webhook_secret'", mend.format("HIAPI_WEBHOOK_SECRET")),
        ("4:16", "mulerouter of providers has no field 'key'", mend.format("MULEROUTER_API_KEY")),
    ]


def test_the_project_file_of_the_design_is_valid() -> None:
    text = """
store: .klingflow/store
publish: {to: s3://studio-frames/klingflow, public_url: https://frames.example.com, expires: 24h}
providers: {hiapi: {concurrency: 4, data_uri: false}, mulerouter: {base64: raw}, animatic: {concurrency: 2}}
images: {shrink: lossless}
limits: {spend: 20.00, seconds: 300, tasks: 60}
prices: {hiapi: {1080p: {silent: 0.112, sound: 0.14}}}
"""
    assert check(text, "project") == []


def lock(entry: str) -> str:
    return f'klingflow_lock: 1\nshots:\n  dawn:\n    "1": {entry}\n'


ENTRY = (
    f'{{key: {"a" * 64}, clip: {HEX}, duration: "5.042", frames: 121, size: 1280x720, rate: "24", bytes: 1000,'
    ' audio: false, provider: hiapi, model: kling-3.0-omni, task: null, cost: "0.56", date: 2026-11-21,'
    f" inputs: {{first_frame: {HEX}}},"
    " parts: {recipe: 1, prompt: 0123abcd, sound: false}}"
)


def test_a_lock_is_valid_by_shot_or_by_film() -> None:
    assert check(lock(ENTRY), "lock") == []
    assert check(f'klingflow_lock: 1\nfilms: {{16x9-en: {{dawn: {{"2": {ENTRY}}}}}}}', "lock") == []


def test_a_lock_that_a_hand_has_touched_is_refused() -> None:
    assert [p.what for p in check(lock(ENTRY.replace(HEX, "../../x")), "lock")] == [
        "clip of shot 'dawn' cannot be '../../x'",
        "first_frame of shot 'dawn' cannot be '../../x'",
    ]


@pytest.mark.parametrize("name", MINE)
def test_every_field_teaches_the_editor(name: str) -> None:
    whole = schema.load(name)
    jsonschema.Draft202012Validator.check_schema(whole)

    def walk(node: object, way: str) -> None:
        if isinstance(node, list):
            for index, item in enumerate(node):
                walk(item, f"{way}/{index}")
        if not isinstance(node, dict):
            return
        for field, sub in node.get("properties", {}).items():
            target = sub if "$ref" not in sub else {**whole["$defs"][sub["$ref"].split("/")[-1]], **sub}
            assert "title" in target or "const" in target, f"{way}/{field} has no title"
        for key, value in node.items():
            if key not in ("examples", "mends", "default", *schema.FOR_EDITORS):
                walk(value, f"{way}/{key}")

    walk(whole, name)


def test_the_examples_and_defaults_of_the_schemas_are_valid() -> None:
    for name in MINE:
        whole = schema.load(name)
        for part in [whole, *whole.get("$defs", {}).values()]:
            for field, sub in part.get("properties", {}).items():
                target = {**sub, "$defs": whole.get("$defs", {})}
                resolved = whole["$defs"][sub["$ref"].split("/")[-1]] if "$ref" in sub else sub
                for example in [
                    *sub.get("examples", resolved.get("examples", [])),
                    *[resolved[k] for k in ("default",) if k in resolved],
                ]:
                    assert jsonschema.Draft202012Validator(target).is_valid(example), (name, field, example)


def test_the_schema_and_the_shot_have_the_same_fields() -> None:
    fields = set(schema.load("storyboard")["$defs"]["shot"]["properties"])
    made = set(Shot.__dataclass_fields__) - {"index", "left_out", "motion_s"}
    assert fields - {"prompt_file", "continues", "vars"} == made


def test_an_editor_and_the_check_agree_on_what_does_not_go_with_a_clip() -> None:
    rules = schema.load("storyboard")["$defs"]["together"]["allOf"]
    pairs = [tuple(rule["if"]["required"]) for rule in rules]
    assert [other for one, other in pairs if one == "clip"] == list(shots._NOT_WITH_CLIP)
    assert {pair for pair in pairs if pair[0] != "clip"} == {
        *itertools.combinations(shots._ONE_FIRST, 2),
        ("prompt", "prompt_file"),
    }
    for rule, pair in zip(rules, pairs, strict=True):
        assert all(name in rule["then"]["errorMessage"] for name in pair)


def test_no_rule_is_a_not_because_editors_have_no_words_for_it() -> None:
    def rules(node: object) -> Iterator[object]:
        if isinstance(node, dict):
            yield from (value for key, value in node.items() if key == "not")
        for part in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
            yield from rules(part)

    for name in ("storyboard", "project"):
        assert all(rule == {"type": "null"} for rule in rules(schema.load(name))), name


def test_the_defaults_of_the_schema_are_those_of_the_shot() -> None:
    defs = schema.load("storyboard")["$defs"]
    for name, field in Shot.__dataclass_fields__.items():
        if "default" in defs.get(name, {}):
            assert defs[name]["default"] == field.default, name


def test_schemas_are_found_beside_the_package_or_inside_it() -> None:
    folder = Path(__file__).parent.parent / "schemas"
    for name in MINE:
        assert json.loads((folder / f"{name}.schema.json").read_text("utf-8")) == json.loads(schema.text(name))
    with pytest.raises(LookupError):
        schema.text("nonsense")


def test_no_message_is_in_the_words_of_the_library() -> None:
    text = shot("first_frame: [1]\n    prompt: 5\n    elements: {}\n    multi_shot: 1\n    vars: []\n    takes: 0")
    for _, what, mend in told(text):
        assert not re.search(r"is not of type|schema|valid under|does not match", what + mend), what

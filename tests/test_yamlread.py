
import pytest
import yaml

from klingflow.core.errors import StoryboardError
from klingflow.core.source import Problem, render
from klingflow.storyboard import yamlread


def faults(text: str) -> list[Problem]:
    with pytest.raises(StoryboardError) as caught:
        yamlread.read("film.yaml", text)
    return list(caught.value.problems)


def fault(text: str) -> tuple[str, int, int]:
    (problem,) = faults(text)
    assert problem.span is not None
    return problem.rule, problem.span.line, problem.span.col


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("16:9", "16:9"),
        ("on", "on"),
        ("no", "no"),
        ("2024-01-02", "2024-01-02"),
        ("12:30:45", "12:30:45"),
        ("0123", 123),
        ("0x1F", 31),
        ("0o17", 15),
        ("1_000", "1_000"),
        ("1e3", 1000.0),
        ("-4", -4),
        ("20.00", 20.0),
        ("~", None),
        ("", None),
        ("true", True),
        ("yes", "yes"),
        (".inf", ".inf"),
        ("1e999", "1e999"),
        ("9" * 5000, "9" * 5000),
        ("'5'", "5"),
        ('"true"', "true"),
    ],
)
def test_scalars_are_those_of_yaml_1_2_core(text: str, value: object) -> None:
    data = yamlread.read("film.yaml", f"a: {text}\n").data
    assert data == {"a": value}
    assert isinstance(data, dict)
    assert isinstance(data["a"], type(value)), "0123 is a number that remembers how it was written"


def test_keys_are_always_text() -> None:
    assert yamlread.read("film.yaml", "on: 1\nnull: 2\n16:9: 3\n5: 4").data == {"on": 1, "null": 2, "16:9": 3, "5": 4}


def test_values_in_flow_lists_may_hold_colons() -> None:
    assert yamlread.read("film.yaml", "aspect: [16:9, 9:16]").data == {"aspect": ["16:9", "9:16"]}


def test_a_file_without_content_is_a_document_of_nothing() -> None:
    assert yamlread.read("film.yaml", "# only a remark\n").data is None


def test_every_node_and_key_has_its_place() -> None:
    document = yamlread.read("film.yaml", "title: x\nshots:\n  - id: dawn\n    tags: [a, night]\n")
    assert str(document.span(("shots", 0, "tags", 1))) == "film.yaml:4:15"
    assert str(document.span(("shots", 0, "tags"), key=True)) == "film.yaml:4:5"
    assert str(document.span(("shots", 0))) == "film.yaml:3:5"


def test_what_an_alias_repeats_stands_where_it_was_written() -> None:
    document = yamlread.read("film.yaml", "a: &a\n  b: [1, 2]\nc: *a\n")
    assert document.data == {"a": {"b": [1, 2]}, "c": {"b": [1, 2]}}
    assert str(document.span(("c", "b", 1))) == "film.yaml:2:10"
    assert str(document.span(("c",))) == "film.yaml:3:4"


def test_a_reopened_document_parses_only_when_a_place_is_asked_for() -> None:
    document = yamlread.reopen("film.yaml", "a: [1, 2]", {"a": [1, 2]})
    assert str(document.span(("a", 1))) == "film.yaml:1:8"


def test_all_duplicate_keys_are_told_with_the_place_of_the_first() -> None:
    found = faults("a: 1\nb: {c: 1, c: 2, d: [{e: 1, e: 2}]}\na: 3\n")
    assert [p.what for p in found] == [
        "the key 'c' is here a second time; the first is at 2:5",
        "the key 'e' is here a second time; the first is at 2:22",
        "the key 'a' is here a second time; the first is at 1:1",
    ]
    assert render(found[2]) == (
        "film.yaml:3:1: the key 'a' is here a second time; the first is at 1:1\n"
        "    3 | a: 3\n"
        "      | ^\n"
        "mend: remove one of them"
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: !!str x", ("tag", 1, 4)),
        ("a: !!python/object/apply:os.system ['x']", ("tag", 1, 4)),
        ("a: ! x", ("tag", 1, 4)),
        ("a: !local {b: 1}", ("tag", 1, 4)),
        ("x: &x {a: 1}\ny:\n  <<: *x", ("merge-key", 3, 3)),
        ("a: &x [1, *x]", ("alias", 1, 11)),
        ("a: *nobody", ("alias", 1, 4)),
        ("&k a: 1\n*k : 2", ("key-not-text", 2, 1)),
        ("? [a]\n: b", ("key-not-text", 1, 3)),
        ("a: 1\n---\nb: 2", ("second-document", 2, 1)),
        ("prompt: {{ boat }}", ("unquoted-template", 1, 9)),
        ("shots:\n  - prompt: {{ boat }} drifts", ("unquoted-template", 2, 13)),
        ("prompt: {% if x %}y{% endif %}", ("unquoted-template", 1, 9)),
        ("a:\n\tb: 1", ("tab", 2, 1)),
        ("prompt: the boat: red", ("yaml", 1, 17)),
        ("prompt: *bold* words", ("yaml", 1, 9)),
        ("prompt: @home", ("yaml", 1, 9)),
        ("a: [1, 2\nb: 3", ("yaml", 1, 4)),
        ('a: "never closed\nb: 3', ("yaml", 1, 4)),
        ("a: 1\n  b: 2", ("yaml", 2, 3)),
        ("a: 1\nduration:5\nb: 2", ("yaml", 2, 9)),
        ("a:\n  - b\n  c", ("yaml", 3, 3)),
        ("a: [b:c, {d:[1]}]", ("yaml", 1, 12)),
        ("a: [b,, c]", ("yaml", 1, 7)),
        ("a: !wow, what", ("yaml", 1, 4)),
        ("\ufeffa: 1", ("encoding", 1, 1)),
        ("a: 1\rb: 2", ("encoding", 1, 5)),
        ("a: 1\nb: x\0y", ("control-character", 2, 5)),
        ("a: x\u2028y", ("control-character", 1, 5)),
        ("a: \x1b[31m", ("control-character", 1, 4)),
        ("a: \ud800", ("control-character", 1, 4)),
        ("[" * 100_000, ("too-deep", 1, 61)),
        ("a: [" + "{b: " * 100_000, ("too-deep", 1, 237)),
        ("- " * 100_000, ("too-deep", 1, 121)),
    ],
)
def test_what_is_refused_is_told_with_its_place(text: str, expected: tuple[str, int, int]) -> None:
    assert fault(text) == expected


@pytest.mark.parametrize("libyaml", [True, False], ids=["C parser", "Python parser"])
@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("[" * 100_000, (1, 61)),
        ("{a: " * 100_000, (1, 241)),
        ("[" * 1001, (1, 61)),
        ("[" * 1000 + "]" * 1000, (1, 61)),
        ("[\n" * 2000, (61, 1)),
        ("- " * 2000, (1, 121)),
        ("\n".join(" " * level + "a:" for level in range(2000)), (61, 61)),
        ("# a word\ntitle: \"\u00e9\u65e5\"\nshots: " + "[" * 1100, (3, 67)),
        ("\u65e5: " + "[" * 1100 + "]" * 1100, (1, 63)),
    ],
)
def test_our_limit_of_levels_comes_before_that_of_the_parser(
    text: str, place: tuple[int, int], libyaml: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """libyaml 0.2.6 stops at 1,000 levels, older ones at none; the lowest and the newest of them run this in CI."""
    if not libyaml:
        monkeypatch.delattr(yaml, "CSafeLoader")
    (problem,) = faults(text)
    assert problem.what == "nested more than 60 levels deep"
    assert problem.span is not None
    assert (problem.rule, problem.span.line, problem.span.col) == ("too-deep", *place)


def test_a_repeated_key_before_a_nesting_that_the_parser_refuses_is_reported_too() -> None:
    assert [problem.rule for problem in faults("{a: 1, a: 2, b: " + "[" * 1005)] == ["duplicate-key", "too-deep"]


def test_an_alias_bomb_is_refused_at_once() -> None:
    text = "a: &a [x,x,x,x,x,x,x,x,x,x]\n"
    for before, name in zip("abcdefghi", "bcdefghij", strict=True):
        text += f"{name}: &{name} [{', '.join([f'*{before}'] * 10)}]\n"
    assert fault(text)[0] == "alias"


def test_aliases_cannot_nest_deeper_than_the_limit() -> None:
    text = "a: &a " + "[" * 50 + "]" * 50 + "\nb: " + "[" * 20 + "*a" + "]" * 20
    assert fault(text) == ("too-deep", 2, 24)


def test_more_values_than_anybody_writes_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(yamlread, "MAX_NODES", 50_000)
    assert fault("[" + "1," * yamlread.MAX_NODES + "]")[0] == "too-big"


def test_a_huge_file_is_refused_unread() -> None:
    with pytest.raises(StoryboardError) as caught:
        yamlread.decode("film.yaml", b"a" * 150_000_000)
    assert caught.value.problems[0].what == "the file has 143 MiB; 128 MiB are read at most"


@pytest.mark.parametrize(
    ("raw", "what", "place"),
    [
        (b"a: 1\nb: caf\xe9 noir\n", "byte 0xe9 is not UTF-8 text", "film.yaml:2:7"),
        ("a: é\nb: ü".encode() + b"\xff", "byte 0xff is not UTF-8 text", "film.yaml:2:5"),
        ("klingflow: 1".encode("utf-16"), "the file is UTF-16 or UTF-32, not UTF-8", "film.yaml:1:1"),
        ("klingflow: 1".encode("utf-16-le"), "the file is UTF-16 or UTF-32, not UTF-8", "film.yaml:1:1"),
    ],
)
def test_bytes_that_are_not_utf8_are_told_with_their_place(raw: bytes, what: str, place: str) -> None:
    with pytest.raises(StoryboardError) as caught:
        yamlread.decode("film.yaml", raw)
    (problem,) = caught.value.problems
    assert (problem.what, str(problem.span)) == (what, place)


@pytest.mark.parametrize("libyaml", [True, False], ids=["C parser", "Python parser"])
def test_an_emoji_that_json_wrote_as_two_escapes_is_read(libyaml: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not libyaml:
        monkeypatch.delattr(yaml, "CSafeLoader")
    text = r'''{"\ud83d\ude00 key": "\uD83D\uDE00\ud83c\udf0a x", "b": "\\ud83d \\\ud83d\ude00", "c": 1}'''
    document = yamlread.read("film.yaml", text)
    assert document.data == {"😀 key": "😀🌊 x", "b": "\\ud83d \\😀", "c": 1}
    assert str(document.span(("c",))) == f"film.yaml:1:{text.index('1}') + 1}", "every place is where it was"
    assert document.span(("😀 key",), key=True).col == 2


def test_outside_of_double_quotes_a_backslash_is_a_backslash() -> None:
    text = "a: \\ud83d\\ude00\nb: '\\ud83d\\ude00'\nc: |\n  \\ud83d\\ude00\nd: \"\\ud83d\\ude00 \ufdd0\"\n"
    pair = r"\ud83d\ude00"
    assert yamlread.read("film.yaml", text).data == {"a": pair, "b": pair, "c": pair + "\n", "d": "😀 \ufdd0"}


@pytest.mark.parametrize("half", ["\\ud83d x", "\\ude00", "\\ude00\\ud83d"])
def test_half_an_emoji_is_refused(half: str) -> None:
    (problem,) = faults(f'a: "{half}"')
    assert (problem.what, str(problem.span)) == ("this escape is no character", "film.yaml:1:5")
    assert "two escapes" in problem.mend


def test_a_byte_order_mark_at_the_beginning_is_not_part_of_the_text() -> None:
    raw = b"\xef\xbb\xbfa: 1\nb: \xff"
    with pytest.raises(StoryboardError) as caught:
        yamlread.decode("film.yaml", raw)
    assert str(caught.value.problems[0].span) == "film.yaml:2:4"
    assert yamlread.decode("film.yaml", raw[:-1]) == "a: 1\nb: "


def test_windows_line_ends_are_read() -> None:
    document = yamlread.read("film.yaml", "a: 1\r\nb: two\r\n")
    assert document.data == {"a": 1, "b": "two"}
    assert document.span(("b",)).text == "b: two"


def test_a_text_cut_at_a_hash_is_warned_of() -> None:
    text = "p: shot #3 at dawn\nq: 5  # seconds\nr: #fff\ns: |\n  x: y #3\nt: 'a #3'\n- "
    text = text.removesuffix("- ")
    found = yamlread.lints(yamlread.read("film.yaml", text))
    assert [(p.rule, str(p.severity), str(p.span)) for p in found] == [
        ("cut-by-comment", "warning", "film.yaml:1:9"),
        ("cut-by-comment", "warning", "film.yaml:3:4"),
    ]


def test_ten_thousand_shots_are_read() -> None:
    shot = "  - id: s{0}\n    prompt: waves {0}, slow push-in\n    duration: 5\n    sound: false\n    tags: [a, b]\n"
    text = "shots:\n" + "".join(shot.format(i) for i in range(10_000))
    document = yamlread.read("film.yaml", text)
    assert document.span(("shots", 9999, "duration")).line == 49_999

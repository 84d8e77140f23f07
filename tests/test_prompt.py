from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from klingflow.core.errors import StoryboardError, UsageError
from klingflow.core.source import Problem
from klingflow.storyboard import prompt

VALUES: Mapping[str, object] = {
    "boat": "a red boat",
    "who": {"mara": {"look": "red hair"}, "jon": {"look": "a grey coat"}},
    "tags": ["night", "sea"],
    "count": 3,
    "wet": True,
    "shot": {"id": "dawn", "index": 1},
}


def rendered(text: str, files: Mapping[str, str] | None = None) -> str:
    def include(name: str) -> prompt.Included:
        if files is None or name not in files:
            raise UsageError(f"{name} is not there", "write it")
        return prompt.Included(name, files[name])

    return prompt.render(text, VALUES, where=prompt.Included("film.yaml", text).span, include=include)


def refused(text: str, files: Mapping[str, str] | None = None) -> tuple[Problem, ...]:
    with pytest.raises(StoryboardError) as caught:
        rendered(text, files)
    return caught.value.problems


def fault(text: str, files: Mapping[str, str] | None = None) -> str:
    (problem,) = refused(text, files)
    return f"{problem.span}: {problem.what}"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("no template {here} at all }} ", "no template {here} at all }} "),
        ("{{ boat }} and {{who.mara.look}}\n", "a red boat and red hair\n"),
        ("{{ count }} {{ wet }}", "3 true"),
        ("{{ boat -}}   !", "a red boat!"),
        ("{{ who['jon'].look }} {{ tags[-1] }} {{ tags.0 }}", "a grey coat sea night"),
        ("{% for t in tags %}{{ loop.index }}{{ t }}{% if not loop.last %}, {% endif %}{% endfor %}", "1night, 2sea"),
        ("{% for name, one in who|items if one.look != 'x' %}{{ name }} {% endfor %}", "mara jon "),
        ("{% for t in [] %}x{% else %}none{% endfor %}", "none"),
        ("{{ 'wet' if wet and count >= 3 else 'dry' }}", "wet"),
        ("{% if 'sea' in tags and 'day' not in tags %}yes{% endif %}", "yes"),
        ("{% set a = boat ~ '!' %}{{ a|upper }}", "A RED BOAT!"),
        ("{% set a %}x{{ count }}{% endset %}{{ a ~ a }}", "x3x3"),
        ("{% with a = 'in' %}{{ a }}{% endwith %}", "in"),
        ("{{ tags|join(' + ') }} {{ 'a-b'|replace('-', '+') }}", "night + sea a+b"),
        ('{{ "don\'t stop"|title }}', "Don't Stop"),
        ("{{ who.kim|default('nobody') }} {{ other|d('none') }} {{ tags|length }}", "nobody none 2"),
        ("{% if who.kim is defined %}a{% elif boat is string %}b{% endif %}", "b"),
        ("{% raw %}{{ boat }}{% endraw %}{# gone #}", "{{ boat }}"),
        ("{% macro say(a, b='!') %}{{ a }}{{ b }}{% endmacro %}{{ say(say(boat), b='?') }}", "a red boat!?"),
        ("{% macro a() %}{{ b() }}{% endmacro %}{% macro b() %}B{% endmacro %}{{ a() }}", "B"),
    ],
)
def test_a_template_gives_what_jinja_gives(text: str, expected: str) -> None:
    assert rendered(text) == expected


def test_files_are_included_and_imported() -> None:
    files = {"look.txt": "look of {{ boat }}", "m.txt": "{% macro hi(x) %}Hi {{ x }}{% endmacro %}{% set y = 'Y' %}"}
    assert rendered("{% include 'look.txt' %}!", files) == "look of a red boat!"
    assert rendered("{% import 'm.txt' as m %}{{ m.hi(boat) }} {{ m.y }}", files) == "Hi a red boat Y"
    assert rendered("{% from 'm.txt' import hi as hey %}{{ hey('you') }}", files) == "Hi you"


def test_every_unknown_name_of_a_plain_template_is_told_with_the_nearest_one() -> None:
    problems = refused("ok {{ bota }}\n and {{ who.mara.lok }} {{ who }} {{ tags }}")
    assert [(str(p.span), p.what) for p in problems] == [
        ("film.yaml:1:4", "'bota' is not declared"),
        ("film.yaml:2:6", "'who.mara' has no 'lok'"),
        ("film.yaml:2:25", "'who' has fields of its own"),
        ("film.yaml:2:35", "'tags' is a list"),
    ]
    assert [p.mend for p in problems][:2] == ["did you mean 'boat'?", "did you mean 'look'?"]


def test_both_ways_of_rendering_tell_the_same_fault() -> None:
    for name in ("bota", "who.mara.lok", "boat.x", "who", "tags"):
        (quick,), (walked,) = refused(f"{{{{ {name} }}}}"), refused(f"{{{{ {name} -}}}}")
        assert (quick.rule, quick.what, quick.mend) == (walked.rule, walked.what, walked.mend)


def test_a_fault_in_an_included_file_stands_in_that_file() -> None:
    assert fault("{% include 'a' %}", {"a": "ok\n  {{ nope }}"}) == "a:2:3: 'nope' is not declared"
    assert fault("{% include 'a' %}", {"a": "\n{% if %}"}).startswith("a:2:1: the template cannot be read: ")
    assert fault("x\n {% include 'a' %}") == "film.yaml:2:2: a is not there"
    circle = {"a": "{% include 'b' %}", "b": "{% include 'a' %}"}
    assert fault("{% include 'a' %}", circle) == "b:1:1: 'a' includes itself"


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("{{ 'x' * 10**10 }}", "templates do not calculate"),
        ("{{ '%999999999d' % 1 }}", "templates do not calculate"),
        ("{{ my-look }}", "templates do not calculate"),
        ("{{ range(9) }}", "templates have no 'range'"),
        ("{{ boat|center(500000000) }}", "there is no filter 'center' in storyboards"),
        ("{{ boat.upper() }}", "'boat' has no 'upper'"),
        ("{{ boat.__class__ }}", "'boat' has no '__class__'"),
        ("{{ who['__class__'] }}", "'who' has no '__class__'"),
        ("{% if false %}{{ boat|map('x') }}{% endif %}", "there is no filter 'map' in storyboards"),
        ("{% for x in boat|replace('a', 'b') %}{% endfor %}", "a loop goes over a declared value"),
        ("{% extends 'x' %}", "templates have no 'extends'"),
        (
            "{% macro a() %}{{ b() }}{% endmacro %}{% macro b() %}{{ a() }}{% endmacro %}{{ a() }}",
            "the macro 'a' calls itself",
        ),
        ("{{ boat < 3 }}", "these values cannot be compared"),
        ("{{ q.z|default('no') }}", "'q' is not declared"),
        ("{% macro a() %}{{ zz }}{% endmacro %}{{ a()|default('x') }}", "'zz' is not declared"),
    ],
)
def test_what_could_run_away_or_reach_python_is_refused(text: str, what: str) -> None:
    assert fault(text).partition(": ")[2] == what


@pytest.mark.parametrize(
    "text",
    [
        "{% set x = 'aaaaaaaaaa' %}" + "{% set x = x ~ x %}" * 40 + "{{ x }}",
        "{% set x = 'a' %}" + "{% set x = x|replace('a', 'aa') %}" * 40 + "{{ x }}",
        "{% macro a(x) %}{{ x }}{{ x }}{% endmacro %}{{ " + "a(" * 60 + "'yy'" + ")" * 60 + " }}",
        "".join(f"{{% macro m{i}() %}}{{{{ m{i - 1}() }}}}{{{{ m{i - 1}() }}}}{{% endmacro %}}" for i in range(1, 60))
        + "{% macro m0() %}{% endmacro %}{{ m59() }}",
        "{% for a in tags %}" * 40 + "{% endfor %}" * 40,
        "{{ " + "(" * 5000 + "count" + ")" * 5000 + " }}",
        "{{ " + "count and " * 5000 + "count }}",
        "{{ " + "boat|d(" * 300 + "1" + ")" * 300 + " }}",
        "{{ " + "9" * 5000 + " }}",
        "{{" * 40_000,
        "{%" * 40_000,
        "{{ boat }}" * 5000,
        "a" * 99_000 + "{{ boat -}}",
    ],
    ids=lambda text: text[:20],
)
def test_a_hostile_template_ends_soon_in_a_fault(text: str) -> None:
    calls = Calls()
    with calls:
        assert refused(text)
    assert calls.count < 5_000_000


class Calls:
    """Counts the calls of functions, Python's own too, while it is entered."""

    def __init__(self) -> None:
        self.count = 0

    def __enter__(self) -> None:
        sys.setprofile(self._count)

    def __exit__(self, *_: object) -> None:
        sys.setprofile(None)

    def _count(self, frame: object, event: str, arg: object) -> None:
        self.count += event in ("call", "c_call")


NESTED = "{% set a = [1] %}{% set b = [1] %}" + "{% set a = [a, a] %}{% set b = [b, b] %}" * 40
MAPPED = (
    "{% set a = {'k': 1} %}{% set b = {'k': 1} %}" + "{% set a = {'k': a, 'l': a} %}{% set b = {'k': b, 'l': b} %}" * 40
)
LONG = "{% set s = 'abcdefghij' %}" + "{% set s = s ~ s %}" * 10


def spends(text: str, context: Mapping[str, object] = VALUES) -> tuple[int, str]:
    """(steps that a template took, its text or its fault)."""
    budget = prompt.RenderBudget()
    where = prompt.Included("f", text).span

    def include(name: str) -> prompt.Included:
        raise AssertionError

    try:
        out = prompt.render(text, context, where=where, include=include, budget=budget)
    except StoryboardError as exc:
        out = exc.problems[0].what
    return prompt.RenderBudget().steps - budget.steps, out


@pytest.mark.parametrize("expression", ["a == b", "a != b", "a in [b]", "a not in [b]", "[a] == [b]", "a.k == b.k"])
@pytest.mark.parametrize("values", [NESTED, MAPPED], ids=["lists", "mappings"])
def test_comparing_nested_values_is_counted(values: str, expression: str) -> None:
    if values is NESTED and "." in expression:
        expression = "a[0] == b[0]"
    steps, out = spends(values + "{{ 'y' if " + expression + " }}")
    assert out == "the template takes too many steps"
    assert steps > 200_000


def test_values_of_lists_and_mappings_compare_as_in_python() -> None:
    true = ["[1, 'a', [2]] == [1, 'a', [2]]", "[1] != [2]", "[1] != [1, 2]", "{'a': [1]} == {'a': [1]}", "1 == 1.0"]
    true += ["{'a': 1} != {'b': 1}", "{'a': 1} != {'a': 2}", "[2] in [1, [2]]", "3 not in [1]", "'b' in 'abc'", "2 < 3"]
    true += [
        "'a' < 'b'",
        "'k' in {'k': 1}",
        "[1] != 'a'",
        "none == none",
        "who|items != who|items|first",
        "tags == tags",
    ]
    for expression in true:
        assert rendered("{{ 'yes' if " + expression + " else 'no' }}") == "yes", expression
    for expression in ("[1] < [2]", "[1] in 'a'", "[1] in {'a': 1}", "1 in 2", "none < 1", "{'a': 1} < {'a': 2}"):
        assert fault("{{ 'yes' if " + expression + " }}").endswith("these values cannot be compared")


def test_long_texts_cost_steps_by_their_length() -> None:
    bare = spends(LONG)[0]
    for more in (
        "{% if s ~ 'z' in s %}{% endif %}",
        "{% if s|replace('q', '') == 'x' %}{% endif %}",
        "{% if s|title %}{% endif %}",
    ):
        one, ten = spends(LONG + more)[0] - bare, spends(LONG + more * 10)[0] - bare
        assert one > 100
        assert ten == pytest.approx(10 * one, rel=0.1)


def test_a_mapping_that_is_listed_costs_as_many_steps_as_it_has_fields() -> None:
    many: dict[str, object] = {"d": {f"k{i}": i for i in range(5000)}}
    assert spends("{% set x = d|items %}", many)[0] > 5000
    calls = Calls()
    with calls:
        spends("{{ d.x|default('') }}" * 200, many)
    assert calls.count < 200_000, "a name that is not there is not looked for among all the others"


def test_texts_that_are_kept_in_variables_are_bounded_together() -> None:
    for filtered in ("s|upper", "s ~ i", "s|replace('q', '')"):
        keep = "".join(f"{{% set s{i} = {filtered.replace('i', str(i))} %}}" for i in range(1000))
        assert spends(LONG + keep)[1] == "the template builds over 2000000 characters"


def test_an_index_that_is_a_nested_list_is_refused_unread() -> None:
    assert spends(NESTED + "{{ tags[a] }}")[1] == "an index is a name or a number"
    assert spends(NESTED + "{{ who[a]|default('none') }}")[1] == "none"


def test_a_macro_is_compared_without_looking_into_it() -> None:
    assert (
        rendered("{% macro a() %}{% endmacro %}{% set b = a %}{{ 'same' if a == b and a in [b] else 'no' }}") == "same"
    )


def test_a_template_is_parsed_once_and_parsing_is_counted() -> None:
    budget = prompt.RenderBudget()

    def once(text: str) -> str:
        include = {"bad": "{% if boat %}" * 7000}
        try:
            return prompt.render(
                text,
                VALUES,
                where=prompt.Included("f", text).span,
                include=lambda name: prompt.Included(name, include[name]),
                budget=budget,
            )
        except StoryboardError as exc:
            return f"{exc.problems[0].span}"

    assert once("{% include 'bad' %}").startswith("bad:1:")
    parsed = prompt.RenderBudget().steps - budget.steps
    assert parsed > 40_000
    for i in range(10):
        assert once("{% include 'bad' %}" + " " * i).startswith("bad:1:")
    assert prompt.RenderBudget().steps - budget.steps < 2 * parsed
    budget.steps = 100_000
    for i in range(100):
        if not budget.spent:
            once(f"{{# {i} #}}" + "{{ boat -}}" * 200)
    assert budget.spent


def test_a_field_with_thousands_of_faults_reports_some() -> None:
    assert len(refused("{{ nope }}" * 5000)) == prompt.MAX_FAULTS


ATOMS = st.sampled_from(
    ["a", "b", "s", "d", "1", "'x'", "s ~ s", "[a, a]", "{'k': a, 'l': b}", "m(a)", "d.k", "a[0]", "none"]
)
EXPRESSIONS = st.recursive(
    ATOMS,
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from(["==", "!=", "in", "not in", "<", "~", "and", "or"]), inner).map(
            lambda three: f"({' '.join(three)})"
        ),
        st.tuples(
            inner, st.sampled_from([*sorted(prompt._FILTERS), "replace('a', 'aa')", "join(s)", "default(a, true)"])
        ).map(lambda two: f"({two[0]})|{two[1]}"),
        st.tuples(inner, inner).map(lambda two: f"[{two[0]}, {two[1]}]"),
        st.tuples(inner, inner).map(lambda two: f"{{'k': {two[0]}, 'l': {two[1]}}}"),
        st.tuples(inner, inner).map(lambda two: f"({two[0]})[{two[1]}]"),
        st.tuples(inner, st.sampled_from(sorted(prompt._TESTS))).map(lambda two: f"({two[0]}) is {two[1]}"),
        st.tuples(inner, inner, inner).map(lambda three: f"({three[0]} if {three[1]} else {three[2]})"),
        inner.map(lambda one: f"m({one})"),
        inner.map(lambda one: f"(not {one})"),
    ),
    max_leaves=4,
)
STATEMENTS = st.recursive(
    st.one_of(
        EXPRESSIONS.map(lambda one: f"{{{{ {one} }}}}"),
        st.tuples(st.sampled_from("absd"), EXPRESSIONS).map(lambda two: f"{{% set {two[0]} = {two[1]} %}}"),
    ),
    lambda inner: st.one_of(
        st.tuples(EXPRESSIONS, inner).map(lambda two: f"{{% if {two[0]} %}}{two[1]}{{% endif %}}"),
        st.tuples(st.sampled_from(["a", "b", "[a, b, s]", "d|items"]), inner).map(
            lambda two: f"{{% for x in {two[0]} %}}{two[1]}{{% endfor %}}"
        ),
        inner.map(lambda one: f"{{% set s %}}{one}{{% endset %}}"),
        inner.map(lambda one: f"{{% macro m(a) %}}{one}{{% endmacro %}}{{{{ m(b) }}}}"),
        st.tuples(inner, inner).map("".join),
    ),
    max_leaves=4,
)


@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(STATEMENTS, min_size=1, max_size=3), st.integers(1, 30))
def test_whatever_a_template_does_again_and_again_is_counted(statements: list[str], times: int) -> None:
    start = "{% macro m(a) %}{{ a }}{% endmacro %}{% set a, b, s, d = ['p', 'q'], ['p', 'q'], 'abc', {'k': 'v'} %}"
    text = start + "".join(statements) * times
    spends(text)  # jinja2 is imported
    calls = Calls()
    with calls:
        steps, _ = spends(text)
    assert calls.count < 10_000 + 40 * steps + 30 * len(text), "work that no step stands for"


def test_all_templates_of_a_storyboard_share_one_budget() -> None:
    budget = prompt.RenderBudget()
    text = "{% for t in tags %}{{ t }}{% endfor %}"

    def include(name: str) -> prompt.Included:
        raise AssertionError

    def once() -> str:
        return prompt.render(text, VALUES, where=prompt.Included("x", text).span, include=include, budget=budget)

    assert once() == "nightsea"
    budget.steps = 3
    with pytest.raises(StoryboardError, match="too many steps"):
        once()


def test_plain_templates_never_meet_jinja2() -> None:
    program = (
        "import sys\n"
        "from klingflow.storyboard import prompt\n"
        "where = prompt.Included('x', '').span\n"
        "assert prompt.render('{{ a }} {b}', {'a': 'c'}, where=where, include=None) == 'c {b}'\n"
        "sys.exit('jinja2' in sys.modules)\n"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_words_of_tags_are_found() -> None:
    assert set(prompt.words("{{ a.b }} c {% if d %}{{ e -}}{% endif %}")) >= {"a", "b", "d", "e"}
    assert "c" not in set(prompt.words("{{ a.b }} c"))

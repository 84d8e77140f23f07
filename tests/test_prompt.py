from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Mapping

import pytest

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
        ("{{ \"don't stop\"|title }}", "Don't Stop"),
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
    start = time.process_time()
    assert refused(text)
    assert time.process_time() - start < 2


def test_all_templates_of_a_storyboard_share_one_budget() -> None:
    budget = prompt.Budget()
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

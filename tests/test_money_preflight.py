"""What can be found wrong before money is spent is found before money is spent."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.money_helpers import ONE, PAIR, bought_and_died, ended, kinds, posts, prompts, read_until, running, words
from tests.paid_helpers import CHAIN, dedented, studio
from tests.standins import Reply, answer, html, redirect
from tests.standins.mulerouter import MuleRouter

LATER = """
    klingflow: 1
    title: Later
    defaults: {provider: NAME, duration: 3, resolution: 720p}
    shots:
      - id: words
        prompt: words alone
      - id: after
        continues: words
        prompt: after the words
"""
"""The first shot publishes nothing; the second one does, when the first is paid for."""


WRONG = ("url", "folder", "port", "page", "denied", "other picture", "redirect")


@pytest.mark.parametrize(
    ("wrong", "board"),
    [*((wrong, LATER) for wrong in WRONG), ("url", CHAIN)],
    ids=[*WRONG, "url of a still"],
)
def test_publishing_is_tried_before_the_first_paid_request(tmp_path: Path, wrong: str, board: str) -> None:
    with studio(tmp_path, "hiapi", board) as (project, api):
        env: dict[str, str] = {}
        match wrong:
            case "url":
                env["KLINGFLOW_PUBLISH_URL"] = f"{api.base_url}/no"
            case "folder":
                env["KLINGFLOW_PUBLISH_TO"] = str(tmp_path / "served by nobody")
            case "port":
                env["KLINGFLOW_PUBLISH_URL"] = "http://127.0.0.1:9/frames"
            case "page":
                api.faults.add("GET /frames/", html(200), times=-1)
                api.faults.add("HEAD /frames/", html(200), times=-1)
            case "denied":
                api.faults.add(lambda seen: seen.path.startswith("/frames/"), answer(403), times=-1)
            case "other picture":
                picture = (project.root / "frames/dusk.png").read_bytes()[:-1] + b"?"
                api.faults.add(
                    lambda seen: seen.path.startswith("/frames/"),
                    lambda exchange: exchange.send(Reply(200, picture, {"Content-Type": "image/png"})),
                    times=-1,
                )
            case "redirect":
                api.faults.add(lambda seen: seen.path.startswith("/frames/"), redirect(f"{api.base_url}/login"), -1)
        ran = project.run("run", "film.yaml", "--yes", **env)
        assert ran.code == 2, ran.said
        assert "publish" in ran.err
        assert posts(api) == 0
        assert kinds(project) == []


def test_a_folder_that_cannot_be_written_is_found_before_the_first_paid_request(tmp_path: Path) -> None:
    with studio(tmp_path, "hiapi", LATER) as (project, api):
        (tmp_path / "file").write_text("a file, not a folder", encoding="utf-8")
        ran = project.run("run", "film.yaml", "--yes", KLINGFLOW_PUBLISH_TO=str(tmp_path / "file" / "below"))
        assert ran.code == 2, ran.said
        assert posts(api) == 0


def test_publishing_is_not_tried_where_nothing_is_published(tmp_path: Path) -> None:
    """Shots of words alone, a run with nothing to make, and an API that takes images inline need no such place."""
    wrong = {"KLINGFLOW_PUBLISH_TO": str(tmp_path / "nowhere"), "KLINGFLOW_PUBLISH_URL": "http://127.0.0.1:9/frames"}
    with words(tmp_path / "words") as (project, api):
        assert project.run("run", "film.yaml", "--yes", **wrong).code == 0
        assert project.run("run", "film.yaml", **wrong).code == 0
        assert len(api.purchases) == 1
    with studio(tmp_path / "inline", "mulerouter", LATER, publish=False) as (project, api):
        ran = project.run("run", "film.yaml", "--yes", **wrong)
        assert ran.code == 0, ran.said
        assert len(api.purchases) == 2


def test_what_was_tried_leaves_nothing_but_frames_behind(tmp_path: Path) -> None:
    with studio(tmp_path, "hiapi", LATER) as (project, api):
        ran = project.run("run", "film.yaml", "--yes")
        assert ran.code == 0, ran.said
        assert prompts(api) == ["after the words", "words alone"]
        assert all(len(path.name) == 64 + 4 for path in (tmp_path / "public").iterdir())


# Keys ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
@pytest.mark.parametrize("name", ["hiapi", "mulerouter"])
def test_a_key_may_end_with_a_line_break_in_every_command(tmp_path: Path, name: str, ending: str) -> None:
    with words(tmp_path, PAIR, name, finish_s=3600.0) as (project, api):
        variable = f"{name.upper()}_API_KEY"
        env = {variable: api.key + ending}
        left = project.run("run", "film.yaml", "--yes", "--detach", "--select", "dawn", **env)
        assert left.code == 7, left.said
        doctor = project.run("doctor", "film.yaml", **env)
        assert doctor.code in (0, 2), doctor.said
        assert not any("BAD" in line and variable in line for line in doctor.out.splitlines()), doctor.out
        settled = project.run("resolve", "film.yaml", "dawn", "--not-bought", **env)
        assert settled.code == 2, settled.said
        assert api.purchases[0].task in settled.err, "the provider was asked, and knows the task"
        with running(project, "listen", "film.yaml", "--listen", "127.0.0.1:0", **env) as listener:
            read_until(listener.stderr, "listening")
            api.finish_s = 0.0
            read_until(listener.stderr, "collected")
            listener.send_signal(signal.SIGINT)
            assert ended(listener).code == 0
        ran = project.run("run", "film.yaml", "--yes", **env)
        assert ran.code == 0, ran.said
        assert len(api.purchases) == 2
        assert {seen.headers["authorization"] for seen in api.requests if "authorization" in seen.headers} == {
            f"Bearer {api.key}"
        }


@pytest.mark.parametrize("bad", ["sk-\u201ccurly\u201d", "sk-two\nlines", "\n"])
def test_a_bad_key_of_a_provider_that_is_not_needed_stops_nothing(tmp_path: Path, bad: str) -> None:
    with words(tmp_path) as (project, api), MuleRouter() as other:
        ran = project.run("run", "film.yaml", "--yes", MULEROUTER_API_KEY=bad, MULEROUTER_BASE_URL=other.base_url)
        assert ran.code == 0, ran.said
        assert len(api.purchases) == 1
        assert other.requests == []


@pytest.mark.parametrize("bad", ["not a url", "ftp://example.com"])
def test_a_bad_address_of_a_provider_that_is_not_needed_stops_nothing(tmp_path: Path, bad: str) -> None:
    with words(tmp_path) as (project, api):
        ran = project.run("run", "film.yaml", "--yes", MULEROUTER_API_KEY="sk-x", MULEROUTER_BASE_URL=bad)
        assert ran.code == 0, ran.said
        assert len(api.purchases) == 1


@pytest.mark.parametrize("bad", ["sk-\u201ccurly\u201d", "sk-two\nlines", "\n"])
def test_a_bad_key_that_is_needed_is_named_before_anything_is_sent(tmp_path: Path, bad: str) -> None:
    with words(tmp_path) as (project, api):
        for command in (["run", "film.yaml", "--yes"], ["run", "film.yaml", "--yes", "--detach"]):
            ran = project.run(*command, HIAPI_API_KEY=bad)
            assert ran.code == 2, ran.said
            assert "HIAPI_API_KEY" in ran.err
            assert bad.strip() == "" or bad not in ran.said, "a key is never shown"
        assert api.requests == []
        assert kinds(project) == []


def test_a_key_that_the_provider_refuses_is_told_and_nothing_else_is_tried(tmp_path: Path) -> None:
    with words(tmp_path, PAIR) as (project, api):
        ran = project.run("run", "film.yaml", "--yes", HIAPI_API_KEY="sk-hiapi-somebody-else")
        assert ran.code in (1, 2), ran.said
        assert "hiapi" in ran.err
        assert api.purchases == []


def test_a_key_is_not_needed_where_nothing_is_asked(tmp_path: Path) -> None:
    with words(tmp_path) as (project, api):
        assert project.run("run", "film.yaml", "--yes").code == 0
        requests = len(api.requests)
        assert project.run("run", "film.yaml", HIAPI_API_KEY="sk-\u201cbad\u201d").code == 0
        assert project.run("run", "film.yaml", HIAPI_API_KEY="").code == 0
        assert len(api.requests) == requests


def test_an_order_of_another_provider_waits_for_its_own_key(tmp_path: Path) -> None:
    """A shot moved to another provider while its order at the first one is not answered: nothing is bought anew."""
    with words(tmp_path, ONE, "mulerouter") as (project, api), words(tmp_path / "other") as (_, other):
        bought_and_died(project)
        project.write("film.yaml", dedented(ONE).replace("NAME", "hiapi"))
        ran = project.run("run", "film.yaml", "--yes", MULEROUTER_API_KEY="", **other.environment())
        assert ran.code == 4, ran.said
        assert posts(other) == 0
        assert posts(api) == 1

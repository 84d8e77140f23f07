"""Buying from both APIs as a person does it: the real command, real sockets, stand-ins that number every picture."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests import standins
from tests.paid_helpers import CHAIN, LAST, STILL, asked, both, bought, dedented, hurried, studio
from tests.standins import movie
from tests.standins.mulerouter import ROOT, MuleRouter

WHOLE = """
    klingflow: 1
    title: Whole
    defaults: {provider: NAME, duration: 3, resolution: 720p}
    shots:
      - id: opening
        first_frame: frames/dawn.png
        prompt: opening
      - id: next
        continues: opening
        last_frame: frames/dusk.png
        prompt: next
      - id: side
        continues: opening
        prompt: side
        takes: 2
      - id: market
        meets: next
        prompt: market
      - id: words
        prompt: words alone
        aspect_ratio: "16:9"
      - id: twin
        prompt: words alone
        aspect_ratio: "16:9"
      - id: close
        first_frame: {shot: next, frame: -3}
        last_frame: {shot: opening, frame: first}
        prompt: close the loop
"""


@both
def test_every_frame_that_is_sent_is_the_exact_frame_of_the_right_clip(tmp_path: Path, name: str) -> None:
    first, last = ("image_urls.0", "image_urls.1") if name == "hiapi" else ("first_frame", "last_frame")
    with hurried(tmp_path, name, WHOLE) as (project, api):
        ran = project.run("run", "film.yaml", "--yes")
        assert ran.code == 0, ran.said
        opening, following = bought(api, "opening"), bought(api, "next")
        assert opening.numbers == {first: (STILL + 1, 0)}
        assert following.numbers == {first: (opening.number, LAST), last: (STILL + 2, 0)}
        assert bought(api, "market").numbers == {first: (STILL + 2, 0)}
        assert bought(api, "words alone").numbers == {}
        assert bought(api, "close the loop").numbers == {first: (following.number, LAST - 2), last: (opening.number, 0)}
        sides = [one for one in api.purchases if asked(one)["prompt"] == "side"]
        assert [one.numbers for one in sides] == [{first: (opening.number, LAST)}] * 2
        assert len(api.purchases) == 7, "seven shots, of which one has two takes and two are one purchase"
        assert (project.root / "out/film/film.mp4").is_file()
        assert movie.read_number(project.root / "out/film/frames/next.last.png") == (following.number, LAST)
        assert "7 clips made" in ran.said
        assert "$1.76 booked" in ran.said

        requests = len(api.requests)
        again = project.run("run", "film.yaml")
        assert again.code == 0, again.said
        assert len(api.requests) == requests, "a run with nothing to make asks nobody"
        lines = project.run("status", "film.yaml").out
        assert lines.count("  stored  ") == 7
        assert all(one.task in lines for one in api.purchases)
        if name == "hiapi":
            published = sorted(path.name for path in (tmp_path / "public").iterdir())
            assert len(published) == 6, "two stills and three frames, each once, and the picture that tries publishing"
            assert all(len(path) == 64 + 4 for path in published)


def test_a_clip_bought_at_one_provider_satisfies_the_other(tmp_path: Path) -> None:
    with studio(tmp_path, "hiapi") as (project, api), MuleRouter() as other:
        assert project.run("run", "film.yaml", "--yes").code == 0
        (project.root / "film.lock.yaml").unlink()
        project.write("film.yaml", dedented(CHAIN).replace("NAME", "mulerouter"))
        ran = project.run("run", "film.yaml", "--yes", **other.environment())
        assert ran.code == 0, ran.said
        assert len(api.purchases) == 2
        assert other.requests == []


@both
def test_a_selected_shot_is_sent_the_frame_of_the_clip_that_an_earlier_run_bought(tmp_path: Path, name: str) -> None:
    with hurried(tmp_path, name) as (project, api):
        assert project.run("run", "film.yaml", "--yes").code == 0
        project.write("film.yaml", dedented(CHAIN).replace("NAME", name).replace("noon comes", "noon is here"))
        ran = project.run("run", "film.yaml", "--yes", "--select", "noon")
        assert ran.code == 0, ran.said
        frame = "image_urls.0" if name == "hiapi" else "first_frame"
        assert bought(api, "noon is here").numbers == {frame: (bought(api, "dawn breaks").number, LAST)}
        assert len(api.purchases) == 3


EVERYTHING = """
    klingflow: 1
    title: Extras
    defaults: {provider: mulerouter, duration: 3, resolution: 720p}
    shots:
      - id: cuts
        first_frame: frames/dawn.png
        multi_shot: {by: customize, shots: [{prompt: wide, duration: 2}, {prompt: close, duration: 1}]}
        negative_prompt: rain
        sound: true
      - id: clever
        prompt: cut it as you like
        multi_shot: {by: intelligence}
        aspect_ratio: "9:16"
      - id: refer
        prompt: <<<element_1>>> meets <<<image_1>>>
        images: [frames/dusk.png]
        elements: [{frontal_image: frames/dawn.png, reference_images: [frames/dusk.png]}]
        aspect_ratio: "1:1"
        resolution: 1080p
      - id: framed
        continues: clever
        images: [frames/dawn.png]
        prompt: on it goes
"""


@pytest.mark.parametrize("base64", ["data-uri", "raw"])
def test_mulerouter_gets_all_that_its_page_names_and_nothing_else(tmp_path: Path, base64: str) -> None:
    with hurried(tmp_path, "mulerouter", EVERYTHING, inline=base64) as (project, api):
        project.write("klingflow.yaml", f"providers: {{mulerouter: {{base64: {base64}}}}}\n")
        ran = project.run("run", "film.yaml", "--yes")
        assert ran.code == 0, ran.said
        by = {one.path.split("/")[-2]: one for one in api.purchases}
        assert set(by) == {"image-to-video", "text-to-video", "reference-to-video"}
        (cuts,) = [one for one in api.purchases if "multi_prompt" in one.body]
        assert {k: v for k, v in cuts.body.items() if k != "first_frame"} == {
            "multi_prompt": [{"prompt": "wide", "duration": 2}, {"prompt": "close", "duration": 1}],
            "negative_prompt": "rain",
            "sound": "on",
            "mode": "std",
            "duration": 3,
            "multi_shot": True,
            "shot_type": "customize",
        }
        assert by["text-to-video"].body == {
            "prompt": "cut it as you like",
            "sound": "off",
            "mode": "std",
            "aspect_ratio": "9:16",
            "duration": 3,
            "multi_shot": True,
            "shot_type": "intelligence",
        }
        refer = by["reference-to-video"]
        assert refer.numbers == {
            "images.0": (STILL + 2, 0),
            "elements.0.frontal_image": (STILL + 1, 0),
            "elements.0.reference_images.0": (STILL + 2, 0),
        }
        assert (refer.body["mode"], refer.body["aspect_ratio"]) == ("pro", "1:1")
        framed = bought(api, "on it goes")
        assert framed.numbers == {
            "first_frame": (by["text-to-video"].number, LAST),
            "images.0": (STILL + 1, 0),
        }


HIAPI_PAGE = """
    klingflow: 1
    title: The page's examples
    defaults: {provider: hiapi}
    shots:
      - id: still-to-life
        first_frame: https://static.hiapi.ai/example/input.jpg
        prompt: Gentle waves roll in, light sweeps slowly across the scene, cinematic motion
        sound: true
      - id: transition
        first_frame: https://static.hiapi.ai/example/subject-1.jpg
        last_frame: https://static.hiapi.ai/example/subject-2.jpg
        resolution: 720p
      - id: high-resolution
        first_frame: https://static.hiapi.ai/example/input.jpg
        prompt: Slow camera push-in, clouds drifting, shifting light, cinematic
        resolution: 4K
"""
MULEROUTER_PAGE = """
    klingflow: 1
    title: The page's example
    shots:
      - id: breeze
        provider: mulerouter
        first_frame: https://example.com/first-frame.jpg
        prompt: A gentle breeze blows through the scene, camera slowly zooms in
"""


def _recorded(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((Path(__file__).parent / "requests" / f"{name}.json").read_text("utf-8"))
    return found


def _far_images(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Images elsewhere are read by the provider, not by klingflow: the stand-in's own eyes are given a picture."""
    seen: list[str] = []

    def fetched(url: str) -> bytes:
        seen.append(url)
        return movie.still(9, kind="JPEG")

    monkeypatch.setattr(standins, "fetched", fetched)
    return seen


def test_hiapis_examples_are_sent_as_they_stand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _far_images(monkeypatch)
    with hurried(tmp_path, "hiapi", HIAPI_PAGE, publish=False) as (project, api):
        ran = project.run("run", "film.yaml", "--yes")
        assert ran.code == 0, ran.said
        for recorded in ("hiapi-still-to-life", "hiapi-first-last", "hiapi-4k"):
            assert _recorded(recorded)["page"] in [one.body for one in api.purchases]
        assert len(api.purchases) == 3
        assert {seen.path for seen in api.calls("POST")} == {"/v1/tasks"}


def test_mulerouters_example_is_sent_as_it_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _far_images(monkeypatch)
    with studio(tmp_path, "mulerouter", MULEROUTER_PAGE) as (project, api):
        ran = project.run("run", "film.yaml", "--yes")
        assert ran.code == 0, ran.said
        (one,) = api.purchases
        assert one.path == f"{ROOT}/image-to-video/generation"
        assert one.body == _recorded("mulerouter-breeze")["body"]
        assert one.body.items() >= _recorded("mulerouter-breeze")["page"].items()


# What is refused before money ---------------------------------------------------------------------------------------


def test_without_a_place_to_publish_a_run_names_the_three_ways_out(tmp_path: Path) -> None:
    with studio(tmp_path, "hiapi", publish=False) as (project, api):
        project.write("klingflow.yaml", "providers: {hiapi: {data_uri: false}}\n")
        for command in (["run", "film.yaml", "--yes"], ["plan", "film.yaml"]):
            ended = project.run(*command)
            assert ended.code == (2 if command[0] == "run" else 0), ended.said
            assert "film.yaml:6:18" in ended.said
            assert "publish" in ended.said
            assert "mulerouter" in ended.said
            assert "data_uri" in ended.said
        assert api.requests == []


def test_with_nothing_but_a_key_frames_go_inside_the_request(tmp_path: Path) -> None:
    with studio(tmp_path, "hiapi", publish=False) as (project, api):
        ran = project.run("run", "film.yaml", "--yes")
        assert ran.code == 0, ran.said
        assert bought(api, "noon comes").numbers == {"image_urls.0": (bought(api, "dawn breaks").number, LAST)}
        assert all(asked(one)["image_urls"][0].startswith("data:image/png;base64,") for one in api.purchases)


def test_where_a_place_to_publish_is_set_no_frame_goes_inside_the_request(tmp_path: Path) -> None:
    with studio(tmp_path, "hiapi", data_uri=False) as (project, api):
        assert project.run("run", "film.yaml", "--yes").code == 0
        assert all(asked(one)["image_urls"][0].startswith("http") for one in api.purchases)


def test_an_order_that_is_refused_over_its_size_names_the_settings_that_mend_it(tmp_path: Path) -> None:
    """An older page of HiAPI's docs names 10 MB for a whole request; its own tools send more."""
    with studio(tmp_path, "hiapi", publish=False, body_bytes=1000) as (project, _):
        ran = project.run("run", "film.yaml", "--yes")
        assert ran.code == 1, ran.said
        assert "images: {shrink: high-quality}" in " ".join(ran.err.split())
        assert "publish" in ran.err
        assert "cost: nothing in this run" in ran.err


def test_storage_and_route_are_told_to_hiapi_and_buy_nothing_anew(tmp_path: Path) -> None:
    with studio(tmp_path, "hiapi") as (project, api):
        project.write("klingflow.yaml", "providers: {hiapi: {route: nowhere}}\n")
        ran = project.run("run", "film.yaml", "--yes")
        assert (ran.code, "routes of this model: default, ext" in " ".join(ran.err.split())) == (1, True), ran.said
        project.write("klingflow.yaml", "providers: {hiapi: {storage: persistent, route: ext}}\n")
        ran = project.run("run", "film.yaml", "--yes")
        assert ran.code == 0, ran.said
        assert [(one.body["storage"], one.body["route"]) for one in api.purchases] == [("persistent", "ext")] * 2
        project.write("klingflow.yaml", "")
        assert project.run("plan", "film.yaml", "--exit-code").code == 0


LARGE = """
    klingflow: 1
    title: Large
    defaults: {provider: hiapi, duration: 3, resolution: 4K}
    shots:
      - id: dawn
        first_frame: frames/dawn.png
        prompt: dawn breaks
        resolution: 720p
      - id: noon
        continues: dawn
        prompt: noon comes
      - id: eve
        continues: noon
        prompt: eve comes
      - id: night
        continues: eve
        prompt: night comes
"""


def test_a_frame_that_may_be_too_large_when_it_is_cut_is_told_before_the_first_shot_is_paid(tmp_path: Path) -> None:
    with studio(tmp_path, "hiapi", LARGE, publish=False) as (project, api):
        told = project.run("plan", "film.yaml")
        assert told.code == 0, told.said
        said = " ".join(told.said.split())
        assert "film.yaml:13:16: warning: shot 'eve' sends a frame of 'noon', which may have 23.8 MiB as a PNG" in said
        assert "hiapi takes 20.0 MiB (so may those of 1 other shot)" in said
        assert "mend: set `images: {shrink: high-quality}`" in said
        before = project.run("run", "film.yaml")
        assert "which may have 23.8 MiB" in before.err, "also where a run asks for the money"
        for settings in ("images: {shrink: high-quality}", "publish: {to: public, public_url: 'https://x.example'}"):
            project.write("klingflow.yaml", settings)
            assert "may have" not in project.run("plan", "film.yaml").said
        project.write("klingflow.yaml", "images: {shrink: lossless}")
        assert "may have" in project.run("plan", "film.yaml").said, "noise stays as large"
        assert api.requests == []


def test_a_still_of_more_than_20_mib_is_refused_at_plan_where_it_would_go_inside_the_request(tmp_path: Path) -> None:
    with studio(tmp_path, "hiapi", publish=False) as (project, api):
        project.write("frames/dawn.png", movie.still(1) + bytes(20 * 2**20))  # what follows a PNG's end is not read
        refused = project.run("plan", "film.yaml")
        assert refused.code == 2
        assert "the image has 20.0 MiB; the provider takes 20.0 MiB" in refused.err
        project.write("klingflow.yaml", "images: {shrink: lossless}")
        told = project.run("plan", "film.yaml")
        assert told.code == 0, told.said
        assert "sends frames/dawn.png, of which a lossless copy may have 20.0 MiB too" in " ".join(told.said.split())
        assert "images: {shrink: lossless}" in refused.err
        project.write("klingflow.yaml", "publish: {to: public, public_url: 'https://x.example'}")
        assert project.run("plan", "film.yaml").code == 0
        assert api.requests == []


def test_a_missing_key_is_told_before_anything_is_asked(tmp_path: Path) -> None:
    with studio(tmp_path, "mulerouter") as (project, api):
        ended = project.run("run", "film.yaml", "--yes", MULEROUTER_API_KEY="")
        assert ended.code == 2
        assert "MULEROUTER_API_KEY" in ended.err
        assert "--provider animatic" in ended.err
        assert api.requests == []


def test_what_a_provider_lacks_is_refused_at_check_with_the_shots_place(tmp_path: Path) -> None:
    board = """
        klingflow: 1
        title: Too much
        shots:
          - id: large
            provider: mulerouter
            resolution: 4K
            prompt: too large
          - id: negative
            provider: hiapi
            first_frame: frames/dawn.png
            negative_prompt: rain
            prompt: no such field
    """
    with studio(tmp_path, "hiapi", board) as (project, api):
        ended = project.run("check", "film.yaml")
        assert ended.code == 2
        assert "film.yaml:6:17" in ended.said
        assert "film.yaml:11:22" in ended.said
        assert project.run("run", "film.yaml", "--yes").code == 2
        assert api.requests == []


@pytest.mark.parametrize(
    ("words", "settings", "said"),
    [
        (["--yes", "--max-spend", "0.50"], "", "$0.50"),
        (["--yes", "--max-seconds", "5"], "", "5 seconds"),
        (["--yes", "--max-tasks", "1"], "", "1 task"),
        (["--yes"], "limits: {spend: 0.4}", "$0.40"),
        (["--yes", "--max-tasks", "9"], "limits: {tasks: 1}", "1 task"),
        ([], "", "--yes"),
    ],
    ids=["spend", "seconds", "tasks", "file", "narrower", "confirmation"],
)
def test_a_limit_or_a_missing_yes_refuses_before_it_spends(
    tmp_path: Path, words: list[str], settings: str, said: str
) -> None:
    with studio(tmp_path, "hiapi") as (project, api):
        project.write("klingflow.yaml", settings + "\n")
        ended = project.run("run", "film.yaml", *words)
        assert ended.code == 5, ended.said
        assert said in ended.err
        assert api.requests == []


def test_frozen_makes_nothing_and_says_so_with_its_own_code(tmp_path: Path) -> None:
    with studio(tmp_path, "hiapi") as (project, api):
        ended = project.run("run", "film.yaml", "--frozen", "--yes")
        assert ended.code == 6, ended.said
        assert api.requests == []


# Leaving and coming back --------------------------------------------------------------------------------------------


@both
def test_a_detached_run_leaves_and_the_next_ones_collect(tmp_path: Path, name: str) -> None:
    board = CHAIN + """
      - id: words
        prompt: words alone
        aspect_ratio: "16:9"
    """
    with hurried(tmp_path, name, board, finish_s=3600.0) as (project, api):
        left = project.run("run", "film.yaml", "--yes", "--detach")
        assert left.code == 7, left.said
        assert {asked(one)["prompt"] for one in api.purchases} == {"dawn breaks", "words alone"}
        assert "klingflow run film.yaml" in left.err
        shown = project.run("status", "film.yaml").out
        assert shown.count("being made") == 2
        assert project.run("run", "film.yaml", "--yes", "--detach").code == 7
        assert len(api.purchases) == 2
        api.finish_s = 0.01
        ran = project.run("run", "film.yaml", "--yes")
        assert ran.code == 0, ran.said
        assert len(api.purchases) == 3


def test_a_lost_order_at_mulerouter_is_settled_by_its_task_or_as_not_bought(tmp_path: Path) -> None:
    with hurried(tmp_path, "mulerouter") as (project, api):
        api.faults.add("POST", standins.drop_after)
        assert project.run("run", "film.yaml", "--yes").code == 4
        (one,) = api.purchases
        settled = project.run("resolve", "film.yaml", "dawn", "--task", one.task)
        assert settled.code == 0, settled.said
        api.faults.add("POST", standins.drop_before)
        assert project.run("run", "film.yaml", "--yes").code == 4
        assert len(api.purchases) == 1
        assert project.run("resolve", "film.yaml", "noon", "--not-bought").code == 0
        ran = project.run("run", "film.yaml", "--yes")
        assert ran.code == 0, ran.said
        assert [asked(each)["prompt"] for each in api.purchases] == ["dawn breaks", "noon comes"]
        assert bought(api, "noon comes").numbers == {"first_frame": (1, LAST)}


# Doctor -------------------------------------------------------------------------------------------------------------


def test_doctor_finds_all_well_and_buys_nothing(tmp_path: Path) -> None:
    with studio(tmp_path, "hiapi") as (project, api), MuleRouter() as other:
        ended = project.run("doctor", **other.environment())
        assert ended.code == 0, ended.said
        assert "BAD" not in ended.out
        assert api.purchases == other.purchases == []
        other_key = "sk-hiapi-somebody-else"
        wrong = project.run("doctor", HIAPI_API_KEY=other_key, KLINGFLOW_PUBLISH_URL=f"{api.base_url}/no")
        assert wrong.code == 2
        assert "HIAPI_API_KEY" in wrong.out
        assert "publish.public_url" in wrong.out


@pytest.mark.parametrize("honest", [True, False])
def test_the_paid_probe_proves_the_key_or_its_lack(tmp_path: Path, honest: bool) -> None:
    with studio(tmp_path, "hiapi", idempotent=honest) as (project, api):
        refused = project.run("doctor", "--paid-probe")
        assert refused.code == 5
        assert "$0.25" in refused.err
        assert api.purchases == []
        ended = project.run("doctor", "--paid-probe", "--yes")
        assert ended.code == (0 if honest else 2), ended.said
        assert len(api.purchases) == (1 if honest else 2)
        assert all(one.task in ended.out for one in api.purchases)


def test_two_apis_make_one_film(tmp_path: Path) -> None:
    board = """
        klingflow: 1
        title: Both
        defaults: {duration: 3, resolution: 720p}
        shots:
          - id: one
            provider: hiapi
            first_frame: frames/dawn.png
            prompt: one
          - id: two
            provider: mulerouter
            continues: one
            prompt: two
          - id: three
            provider: hiapi
            continues: two
            prompt: three
    """
    with hurried(tmp_path, "hiapi", board) as (project, api), MuleRouter() as other:
        ran = project.run("run", "film.yaml", "--yes", **other.environment())
        assert ran.code == 0, ran.said
        assert bought(other, "two").numbers == {"first_frame": (bought(api, "one").number, LAST)}
        assert bought(api, "three").numbers == {"image_urls.0": (bought(other, "two").number, LAST)}


def test_a_run_with_overridden_variables_leaves_the_lock_as_it_is(tmp_path: Path) -> None:
    board = """
        klingflow: 1
        vars: {look: film}
        defaults: {provider: NAME, duration: 3, resolution: 720p}
        shots:
          - {id: dawn, prompt: "dawn, {{ look }}"}
          - {id: eve, prompt: evening}
    """
    with studio(tmp_path, "hiapi", board) as (project, api):
        assert project.run("run", "film.yaml", "--yes").code == 0
        lock = project.root / "film.lock.yaml"
        before = lock.read_bytes()
        said = "variables are overridden, so a run leaves film.lock.yaml as it is"
        planned = project.run("plan", "film.yaml", "--var", "look=charcoal")
        tried = project.run("run", "film.yaml", "--yes", "--var", "look=charcoal")
        assert tried.code == 0, tried.said
        for each in (planned, tried):
            assert said in each.err
            assert "it would lose dawn (1 clip, $0.25)" in each.err
        assert lock.read_bytes() == before
        assert len(api.purchases) == 3
        assert "  = dawn" in project.run("plan", "film.yaml").out, "a clone pays for nothing that is owned"
        kept = project.run("run", "film.yaml", "--yes", "--var", "look=charcoal", "--update-lock")
        assert kept.code == 0, kept.said
        assert "the lock loses dawn (1 clip, $0.25)" in kept.err
        assert said not in kept.err
        assert lock.read_bytes() != before
        assert len(api.purchases) == 3, "bought once"
        refused = project.run("run", "film.yaml", "--provider", "animatic", "--update-lock")
        assert refused.code == 2
        assert "a rehearsal with the animatic never writes the lock" in refused.err


DUBBED = """
    klingflow: 1
    title: Dubbed
    matrix: {lang: [en, de]}
    defaults: {provider: NAME, duration: 3, resolution: 720p}
    film: {shots: [dawn]}
    shots:
      - {id: dawn, prompt: dawn}
      - {id: quay, continues: dawn, prompt: quay}
      - {id: market, continues: quay, prompt: "market in {{ lang }}"}
"""


def test_a_matrix_run_books_what_its_plan_says_to_the_cent(tmp_path: Path) -> None:
    with hurried(tmp_path, "mulerouter", DUBBED) as (project, api):
        plan = json.loads(project.run("plan", "film.yaml", "--format", "json").out)
        assert (plan["totals"]["tasks"], plan["totals"]["spend"]) == (4, 1.008)
        ran = project.run("run", "film.yaml", "--yes", "--max-spend", "1.008", "--max-tasks", "4")
        assert ran.code == 0, ran.said
        assert [asked(one)["prompt"] for one in api.purchases].count("quay") == 1
        assert len(api.purchases) == 4
        assert "4 clips made, 2 adopted, $1.01 booked" in ran.said

        changed = DUBBED.replace("NAME", "mulerouter").replace("prompt: quay", "prompt: pier")
        project.write("film.yaml", dedented(changed))
        plan = json.loads(project.run("plan", "film.yaml", "--format", "json").out)
        assert (plan["totals"]["tasks"], plan["paid"]) == (3, 1.008)
        assert [(one["film"], one["shot"], one["cost"]) for one in plan["dropped"]] == [
            ("en", "quay", 0.252),
            ("en", "market", 0.252),
            ("de", "market", 0.252),
        ]


# Two forms ----------------------------------------------------------------------------------------------------------

REFERRING = """
    klingflow: 1
    title: Two
    defaults: {provider: mulerouter, duration: 3, resolution: 720p, aspect_ratio: "16:9"}
    film: {shots: [dawn]}
    shots:
      - {id: dawn, images: [frames/dawn.png], prompt: dawn}
      - {id: dusk, images: [frames/dusk.png], prompt: dusk}
"""
SEVERAL = """
    klingflow: 1
    title: Two
    defaults: {provider: mulerouter, duration: 3, resolution: 720p, aspect_ratio: "16:9"}
    film: {shots: [dawn]}
    shots:
      - {id: dawn, prompt: dawn, multi_shot: {by: intelligence}}
      - {id: dusk, prompt: dusk, multi_shot: {by: intelligence}}
"""


@pytest.mark.parametrize("live", ["reference-to-video", "reference-image-to-video"])
def test_reference_images_go_to_the_path_that_is_there_and_each_is_bought_once(tmp_path: Path, live: str) -> None:
    with hurried(tmp_path, "mulerouter", REFERRING, reference=live) as (project, api):
        project.write("klingflow.yaml", "providers: {mulerouter: {concurrency: 1}}\n")
        ran = project.run("run", "film.yaml", "--yes")
        assert ran.code == 0, ran.said
        assert [one.path.split("/")[-2] for one in api.purchases] == [live, live]
        refused = [seen for seen in api.calls("POST") if f"/{live}/" not in seen.path]
        assert len(refused) == (live != "reference-to-video"), "the path that is not there is asked once a run"


def test_a_task_at_the_other_path_is_collected_there_by_the_next_run(tmp_path: Path) -> None:
    other = "reference-image-to-video"
    with studio(tmp_path, "mulerouter", REFERRING, reference=other, finish_s=30) as (project, api):
        assert project.run("run", "film.yaml", "--yes", "--detach").code == 7
        api.finish_s = 0
        before = len(api.calls("GET"))
        ended = project.run("run", "film.yaml", "--yes")
        assert ended.code == 0, ended.said
        polls = [seen.path for seen in api.calls("GET")[before:] if "/generation/" in seen.path]
        assert polls
        assert all(f"/{other}/" in path for path in polls)
        assert len(api.purchases) == 2


def test_a_task_at_the_other_path_is_not_given_up_while_it_is_known_there(tmp_path: Path) -> None:
    with studio(tmp_path, "mulerouter", REFERRING, reference="reference-image-to-video", finish_s=30) as (project, api):
        assert project.run("run", "film.yaml", "--yes", "--detach", "--select", "dawn").code == 7
        ended = project.run("resolve", "film.yaml", "dawn", "--not-bought")
        assert ended.code == 2, ended.said
        assert "mulerouter knows it" in ended.said
        assert len(api.purchases) == 1


def test_the_setting_names_the_path_that_is_asked_first(tmp_path: Path) -> None:
    with studio(tmp_path, "mulerouter", REFERRING, reference="reference-image-to-video") as (project, api):
        project.write("klingflow.yaml", "providers: {mulerouter: {reference: reference-image-to-video}}\n")
        assert project.run("run", "film.yaml", "--yes").code == 0
        assert len(api.calls("POST")) == len(api.purchases) == 2


def test_where_neither_path_is_there_each_is_asked_once(tmp_path: Path) -> None:
    with studio(tmp_path, "mulerouter", REFERRING, reference="gone") as (project, api):
        project.write("klingflow.yaml", "providers: {mulerouter: {concurrency: 1}}\n")
        ran = project.run("run", "film.yaml", "--yes", "--select", "dawn")
        assert (ran.code, api.purchases) == (1, []), ran.said
        assert len({seen.path for seen in api.calls("POST")}) == len(api.calls("POST")) == 2


@pytest.mark.parametrize("form", ["boolean", "text"])
@pytest.mark.parametrize("setting", ["boolean", "text"])
def test_multi_shot_is_written_in_the_form_that_is_taken(tmp_path: Path, form: str, setting: str) -> None:
    with hurried(tmp_path, "mulerouter", SEVERAL, multi_shot=form) as (project, api):
        project.write("klingflow.yaml", f"providers: {{mulerouter: {{concurrency: 1, multi_shot: {setting}}}}}\n")
        ran = project.run("run", "film.yaml", "--yes")
        assert ran.code == 0, ran.said
        assert [one.body["multi_shot"] for one in api.purchases] == [True if form == "boolean" else "true"] * 2
        assert len(api.calls("POST")) == 2 + (form != setting)

"""What failed for good is not ordered again, until it is another request."""

from __future__ import annotations

from pathlib import Path

import pytest

from klingflow.app import planner
from klingflow.core.model import Digest, Key
from klingflow.execution import form
from klingflow.io import config
from klingflow.planning.job import Job, Kind, Record
from klingflow.providers import PROVIDERS
from klingflow.providers.base import Settings
from tests.paid_helpers import APIS, dedented, project_for, studio
from tests.provider_helpers import KEY, STILL, shot
from tests.standins import Outcome

ONE = """
    klingflow: 1
    title: One
    defaults: {provider: NAME, duration: 3, resolution: 720p}
    shots:
      - {id: dawn, first_frame: frames/dawn.png, prompt: dawn}
"""


def job(*tries: tuple[str, str, str | None]) -> Job:
    """Orders that failed: provider, class, form (None: recorded before there was one)."""
    records = []
    for attempt, (provider, kind, given) in enumerate(tries, 1):
        sent = {"provider": provider} | ({} if given is None else {"form": given})
        records.append(Record(key=Key("k"), attempt=attempt, n=1, kind=Kind.INTENT, at_ms=0, detail=sent))
        records.append(Record(key=Key("k"), attempt=attempt, n=3, kind=Kind.FAILED, at_ms=0, detail={"class": kind}))
    return Job(key=Key("k"), records=tuple(records))


@pytest.mark.parametrize(
    ("tries", "before"),
    [
        ([("mulerouter", "invalid", "a")], True),
        ([("mulerouter", "invalid", "b")], False),
        ([("mulerouter", "invalid", "a"), ("mulerouter", "invalid", "b")], True),  # back to the first
        ([("mulerouter", "invalid", None)], True),
        ([("hiapi", "invalid", "a")], False),
        ([("mulerouter", "moderated", "b")], True),
        ([("hiapi", "moderated", "b")], False),
        ([("mulerouter", "provider-fault", "a")], False),
        ([("mulerouter", "no class that is known", "a")], True),
        ([], False),
    ],
)
def test_failed_before_compares_the_request(tries: list[tuple[str, str, str | None]], before: bool) -> None:
    assert form.failed_before(job(*tries), "mulerouter", Digest("a")) is before


def test_a_form_holds_the_settings_and_the_way_of_the_images_and_no_callback() -> None:
    provider, framed = PROVIDERS["mulerouter"], shot(first_frame=STILL)
    several = shot(multi_shot={"by": "intelligence"})
    base = form.of(provider, framed, KEY, Settings(), "inside None")
    assert form.of(provider, framed, KEY, Settings(), "inside None") == base
    assert form.of(provider, framed, KEY, Settings(callback_url="https://a.example/x"), "inside None") == base
    assert form.of(provider, framed, KEY, Settings(concurrency=9), "inside None") == base
    assert form.of(provider, framed, KEY, Settings(), "inside lossless") != base
    assert form.of(PROVIDERS["hiapi"], framed, KEY, Settings(), "inside None") != base
    text = form.of(provider, several, KEY, Settings(own={"multi_shot": "text"}), "")
    assert text != form.of(provider, several, KEY, Settings(), "")


def test_the_way_of_the_images_changes_with_what_decides_it_and_is_the_same_on_every_machine(tmp_path: Path) -> None:
    def way(name: str, text: str, folder: str = "one") -> str:
        root = tmp_path / folder
        root.mkdir(exist_ok=True)
        (root / "klingflow.yaml").write_text(text, "utf-8")
        return planner.images_by(config.load(root, {}), PROVIDERS[name])

    published = "publish: {to: public, public_url: https://a.example/frames}\n"
    inline = ["limits: {tasks: 9}\n", "providers: {mulerouter: {base64: raw}}\n", "images: {shrink: lossless}\n"]
    assert len({way("mulerouter", text) for text in inline}) == 3
    assert way("mulerouter", inline[0]) == way("mulerouter", published), "its images are not published"
    assert way("hiapi", inline[0]) != way("hiapi", published) != way("hiapi", published.replace("a.ex", "b.ex"))
    assert way("hiapi", published) == way("hiapi", published, "two")


def test_a_hiapi_form_has_no_callback_either() -> None:
    plain, called = Settings(), Settings(callback_url="https://a.example/x")
    provider, framed = PROVIDERS["hiapi"], shot(first_frame=STILL)
    assert form.of(provider, framed, KEY, plain, "") == form.of(provider, framed, KEY, called, "")


def test_a_shot_whose_image_was_refused_is_ordered_again_once_its_setting_is_mended(tmp_path: Path) -> None:
    with studio(tmp_path, "mulerouter", ONE) as (project, api):
        api.becomes(Outcome(fail=(2001, "first_frame: Base64 could not be decoded")), times=2)
        failed = project.run("run", "film.yaml", "--yes")
        assert failed.code == 1, failed.said
        assert "providers.mulerouter.base64" in failed.said

        assert project.run("run", "film.yaml", "--yes").code == 1
        assert len(api.purchases) == 1, "the very same request is not ordered again"

        project.write("klingflow.yaml", "providers: {mulerouter: {base64: raw}}\n")
        planned = project.run("plan", "film.yaml")
        assert "failed before (invalid): another request now" in planned.said
        assert "$0.25" in planned.said
        again = project.run("run", "film.yaml", "--yes")
        assert again.code == 1, again.said
        assert len(api.purchases) == 2

        project.write("klingflow.yaml", "\n")
        assert project.run("run", "film.yaml", "--yes").code == 1
        assert len(api.purchases) == 2, "nor is one that failed in this form before"

        project.write("klingflow.yaml", "images: {shrink: lossless}\n")
        assert project.run("run", "film.yaml", "--yes").code == 0
        assert len(api.purchases) == 3


def test_a_shot_that_one_provider_could_not_make_may_be_ordered_of_the_other(tmp_path: Path) -> None:
    with studio(tmp_path, "hiapi", ONE) as (project, first), APIS["mulerouter"](frames=tmp_path / "public") as second:
        first.becomes(Outcome(fail=("TASK_FAILED", "the image cannot be read")), prompt="dawn")
        assert project.run("run", "film.yaml", "--yes").code == 1
        other = project_for(tmp_path / "project", second, tmp_path / "public")
        other.write("film.yaml", dedented(ONE).replace("NAME", "mulerouter"))
        assert other.run("run", "film.yaml", "--yes").code == 0
        assert (len(first.purchases), len(second.purchases)) == (1, 1)

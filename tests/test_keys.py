"""The keys of a fixed film, pinned for ever: no release of klingflow may ask anybody to buy a clip again.

If a test here fails, the change is wrong, not the test. A new field of the format must leave alone the keys that do
not use it.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from klingflow.core import digest
from klingflow.core.model import (
    Digest,
    Element,
    FileStill,
    ImageFacts,
    MultiShot,
    Shot,
    ShotFrame,
    ShotId,
    UrlStill,
)

DAWN = ImageFacts(digest=Digest("aa" * 32), format="PNG", width=1280, height=720, bytes=1)
STILLS = {"frames/dawn.png": DAWN}
CLIPS = {ShotId("dawn"): Digest("bb" * 32)}
FILES = {"footage/insert.mp4": Digest("cc" * 32)}
PLAIN = Shot(id=ShotId("dawn"), index=0, prompt="Gentle waves — “slow”", first_frame=FileStill("frames/dawn.png"))

PINNED = {
    "plain": (PLAIN, "c0770d7997190d88aaab25a1b589c60781fac0d47a350af25292abb613da0d85"),
    "continued": (
        replace(PLAIN, first_frame=ShotFrame(ShotId("dawn"))),
        "05350709f9ac6c9db6a969d372673666590a407d8b385150b9a304aa66816ab5",
    ),
    "loop": (
        replace(PLAIN, last_frame=ShotFrame(ShotId("dawn"), "first"), sound=True, resolution="4K"),
        "040f73390612cb149b231f420591b9ceb7e03a708c3aa0b88c5f84aeb00cb457",
    ),
    "take 2": (replace(PLAIN, take=2), "8be0ada824d82c8fb4bba6e3a94fb4af66746aa2a9fe8ccf8b546ed0bb8c31b5"),
    "text": (
        Shot(id=ShotId("t"), index=0, prompt="A title", aspect_ratio="9:16", duration=3, resolution="720p"),
        "e707c4691d992849544ddd0dabeb1b1428e25ae9b1ac1627ae37c6e0da001051",
    ),
    "pinned url": (
        replace(PLAIN, first_frame=UrlStill("https://example.com/a.png", Digest("dd" * 32))),
        "e2f07b628740dad775c369ea98d2af7acd22f610a98ee9f782dfc73fe8c8e92a",
    ),
    "url": (
        replace(PLAIN, first_frame=UrlStill("https://example.com/a.png")),
        "e8bf3f3ed63dfb3240e385a96738d6c7782cad6bb789dd1481f104f42f884afc",
    ),
    "multi": (
        replace(PLAIN, prompt="", multi_shot=MultiShot("customize", (("one", 2), ("two", 3))), negative_prompt="blur"),
        "3548f0fa66a217d945d1a4db0b798f3e3b6384ee0d360649d341f4ac95187c08",
    ),
    "references": (
        replace(
            PLAIN,
            images=(FileStill("frames/dawn.png"), ShotFrame(ShotId("dawn"), "2.5s")),
            elements=(Element(FileStill("frames/dawn.png"), (FileStill("frames/dawn.png"),)),),
        ),
        "5ca354288f05ec6ea73c7eb952f5c7bf63d6cee3d161e8ae686475ba42b99894",
    ),
    "own": (
        Shot(id=ShotId("i"), index=0, clip="footage/insert.mp4"),
        "126f65f022adab3e03c1846f4bab29b670239f408ef72a06d486075fe079b031",
    ),
}


def key(shot: Shot, model: str = "kling-3.0-omni") -> str:
    parts = digest.parts(shot, model, STILLS, CLIPS, FILES)
    assert parts is not None
    return digest.key(parts)


def test_the_keys_of_this_film_never_change() -> None:
    assert {name: key(shot) for name, (shot, _) in PINNED.items()} == {name: pin for name, (_, pin) in PINNED.items()}


def test_what_is_not_in_a_key() -> None:
    other = replace(
        PLAIN, id=ShotId("other"), index=9, title="T", notes="N", tags=("x",), provider="mulerouter", hold=True, takes=3
    )
    assert key(other) == key(PLAIN)


def test_the_animatic_never_answers_for_a_real_clip() -> None:
    assert key(PLAIN, "animatic") != key(PLAIN)


def test_how_the_animatic_draws_is_in_its_own_keys_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    before, real = digest.parts(PLAIN, "animatic", STILLS, CLIPS, FILES), key(PLAIN)
    monkeypatch.setattr(digest, "DRAWING", digest.DRAWING + 1)
    after = digest.parts(PLAIN, "animatic", STILLS, CLIPS, FILES)
    assert before is not None
    assert after is not None
    assert key(PLAIN) == real
    assert [change.field for change in digest.explain(digest.brief(before), after)] == ["drawing"]
    bought = digest.parts(PLAIN, "kling-3.0-omni", STILLS, CLIPS, FILES)
    assert bought is not None
    for old, new in ((before, bought), (bought, before)):
        assert [change.field for change in digest.explain(digest.brief(old), new)] == ["model"]


def test_a_key_is_not_known_before_the_clip_that_it_continues() -> None:
    shot = replace(PLAIN, first_frame=ShotFrame(ShotId("nowhere")))
    assert digest.parts(shot, "kling-3.0-omni", STILLS, CLIPS, FILES) is None


def test_a_change_is_named_part_by_part() -> None:
    old = digest.parts(PLAIN, "kling-3.0-omni", STILLS, CLIPS, FILES)
    new = digest.parts(replace(PLAIN, prompt="Hard waves", duration=6), "kling-3.0-omni", STILLS, CLIPS, FILES)
    assert old is not None
    assert new is not None
    assert digest.explain(digest.brief(old), new, old) == (
        digest.PartChange("duration", "5", "6"),
        digest.PartChange("prompt", "Gentle waves — “slow”", "Hard waves"),
    )
    assert digest.explain(digest.brief(old), new) == (
        digest.PartChange("duration", "5", "6"),
        digest.PartChange("prompt", "", "Hard waves"),
    )
    assert digest.explain(digest.brief(old), old) == ()

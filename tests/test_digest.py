"""Keys: what goes in, that it is written as RFC 8785 says, and that an explanation agrees with the hash."""

from __future__ import annotations

import pytest
import rfc8785
from hypothesis import example, given
from hypothesis import strategies as st

from klingflow.core import digest
from klingflow.core.model import Digest, FileStill, ImageFacts, MultiShot, Shot, ShotFrame, ShotId, UrlStill

TEXTS = st.text(st.characters(codec=None), max_size=12)  # half characters, too
SCALARS = st.none() | st.booleans() | st.integers() | st.integers(2**53 - 2, 2**53 + 2) | st.floats() | TEXTS
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=5), max_leaves=12
)


def _said(write: object, value: object) -> object:
    """The bytes, or that it is refused."""
    try:
        return write(value)  # type: ignore[operator]
    except (ValueError, rfc8785.CanonicalizationError):
        return "refused"


@given(VALUES)
@example({"\U0001f600": 1, "\ufb33": 2})  # the order of names differs between UTF-16 and code points
@example({"b": 1, "a": [True, None, "\x7f\u2028\"\\/\b\x00"], "A": -0.0, "1": 1e21})
@example([2**53 - 1, -(2**53) + 1, 2**53])
@example("\ud800")
@example({"\udc00": 1})
@example([5, 5.0, 1.5])
def test_canonical_json_is_that_of_rfc_8785(value: object) -> None:
    assert _said(digest.canonical, value) == _said(rfc8785.dumps, value)


@given(st.dictionaries(st.sampled_from(["prompt", "duration", "sound", "a.b", "Z"]), st.text() | st.integers(0, 15)))
def test_canonical_json_is_that_of_rfc_8785_for_what_keys_are_made_of(value: dict[str, object]) -> None:
    assert digest.canonical(value) == rfc8785.dumps(value)  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [(1, 2), {"a": (1,)}, {1: 2}, {None: 1}, [b"x"], {"a": {1}}])
def test_what_json_has_no_word_for_is_left_to_rfc_8785(value: object) -> None:
    def said(write: object) -> object:
        try:
            return write(value)  # type: ignore[operator]
        except Exception as exc:
            return type(exc)

    assert said(digest.canonical) == said(rfc8785.dumps)


# -- what goes in


STILLS = {
    "a.png": ImageFacts(digest=Digest("a" * 64), format="PNG", width=1920, height=1080, bytes=1),
    "b.png": ImageFacts(digest=Digest("b" * 64), format="PNG", width=1920, height=1080, bytes=1),
}
CLIPS = {ShotId("dawn"): Digest("c" * 64)}


def _shot(**fields: object) -> Shot:
    return Shot(**{"id": ShotId("x"), "index": 0, "prompt": "Waves", **fields})  # type: ignore[arg-type]


def _parts(shot: Shot, model: str = "kling-3.0-omni") -> dict[str, object]:
    listed = digest.parts(shot, model, STILLS, CLIPS, {"own.mp4": Digest("d" * 64)})
    assert listed is not None
    return listed


def test_a_key_never_changes_from_one_klingflow_to_the_next() -> None:
    """Were this key to change, every clip in the world would be bought again. Raise RECIPE only for that."""
    last = ShotFrame(ShotId("dawn"), "-3")
    shot = _shot(first_frame=FileStill("a.png"), last_frame=last, take=2, negative_prompt="fog")
    assert digest.canonical(_parts(shot)).decode() == (
        '{"duration":5,"first_frame":{"sha256":"' + "a" * 64 + '"},'
        '"last_frame":{"clip":"' + "c" * 64 + '","frame":"-3"},"model":"kling-3.0-omni","negative_prompt":"fog",'
        '"prompt":"Waves","recipe":1,"resolution":"1080p","sound":false,"take":2}'
    )
    assert digest.key(_parts(shot)) == "c77e16218d96104181765f33cd893903f8a30cec1b4da487049244abec06d744"


@pytest.mark.parametrize(
    "fields",
    [
        {"id": ShotId("y")},
        {"index": 7},
        {"title": "t"},
        {"notes": "n"},
        {"tags": ("night",)},
        {"provider": "hiapi"},
        {"takes": 3},
        {"hold": True},
        {"meets": ShotId("dawn")},
    ],
)
def test_what_does_not_change_the_picture_is_not_in_the_key(fields: dict[str, object]) -> None:
    assert digest.key(_parts(_shot(**fields))) == digest.key(_parts(_shot()))


@pytest.mark.parametrize(
    "fields",
    [
        {"prompt": "Waves."},
        {"negative_prompt": "fog"},
        {"duration": 6},
        {"resolution": "720p"},
        {"sound": True},
        {"aspect_ratio": "16:9"},
        {"take": 2},
        {"first_frame": FileStill("a.png")},
        {"last_frame": FileStill("a.png")},
        {"images": (FileStill("a.png"),)},
        {"first_frame": UrlStill("https://h/a.png")},
        {"first_frame": ShotFrame(ShotId("dawn"))},
        {"first_frame": ShotFrame(ShotId("dawn"), "first")},
        {"multi_shot": MultiShot("intelligence")},
        {"clip": "own.mp4"},
    ],
)
def test_what_changes_the_picture_changes_the_key_and_is_explained(fields: dict[str, object]) -> None:
    before, after = _parts(_shot()), _parts(_shot(**fields))
    assert digest.key(before) != digest.key(after)
    assert digest.explain(digest.brief(before), after)


def test_a_still_is_known_by_its_bytes_and_a_pinned_url_too() -> None:
    named = _parts(_shot(first_frame=FileStill("a.png")))
    assert digest.key(named) == digest.key(_parts(_shot(first_frame=UrlStill("https://h/x", Digest("a" * 64)))))
    assert digest.key(named) != digest.key(_parts(_shot(first_frame=FileStill("b.png"))))


def test_a_key_is_not_known_before_the_clips_that_go_in_are() -> None:
    shot = _shot(first_frame=ShotFrame(ShotId("dusk")))
    assert digest.parts(shot, "m", STILLS, CLIPS, {}) is None


def test_equal_parts_have_nothing_to_explain() -> None:
    listed = _parts(_shot(first_frame=FileStill("a.png"), take=3))
    assert digest.explain(digest.brief(listed), listed) == ()

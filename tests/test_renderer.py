"""The animatic: real clips, the same bytes each time, and pictures that a chain of shots hands on untouched."""

from __future__ import annotations

import asyncio
import dataclasses
import errno
import hashlib
import json
import math
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace

import av
import pytest
from PIL import Image, ImageChops, ImageDraw, ImageStat

from klingflow.animatic import captions, design, lettering, renderer
from klingflow.animatic.lettering import Face, own_font
from klingflow.animatic.service import AnimaticService
from klingflow.core.model import Digest, Film, Key, MultiShot, Shot, ShotId
from klingflow.core.source import Span
from klingflow.io import media
from klingflow.io.service import Gone
from klingflow.providers import animatic
from klingflow.providers.base import Accepted, Done, Failed, Missing, Pending, Request, Settings
from tests.cli import ROOT

WEIRD = "Größe „so“ – 日本語 🙂 العربية \x1b[31m \u202eodd\u2066 \ud7ff " + "endless" * 90


def order(name: str = "dawn", frames: Mapping[str, str] = {}, **fields: object) -> Request:
    given = {"id": ShotId(name), "index": 0, "prompt": "Waves roll in.", "duration": 1, **fields}
    key = Key(hashlib.sha256(f"{name} {frames}".encode()).hexdigest())
    return animatic.submit(Shot(**given), frames, Settings(), key, 1)  # type: ignore[arg-type]


async def drawn(service: AnimaticService, request: Request, to: Path) -> Digest:
    accepted = animatic.accepted(await service.send(request))
    assert isinstance(accepted, Accepted)
    while True:
        status = animatic.status(await service.send(animatic.poll(accepted.task, request.path, {})), accepted.task)
        if not isinstance(status, Pending):
            assert isinstance(status, Done), status
            return await service.fetch(status.url, to, lambda received, expected: None)


def draw(tmp_path: Path, *requests: Request) -> list[Path]:
    """The clips of the orders, one after the other; blobs are the files of `tmp_path`."""

    async def all_of() -> list[Path]:
        service = AnimaticService(lambda name: tmp_path / name, tmp_path / "animatic")
        out = []
        try:
            for n, request in enumerate(requests):
                out.append(tmp_path / f"{n}.mp4")
                await drawn(service, request, out[-1])
        finally:
            await service.close()
        return out

    return asyncio.run(all_of())


def pictures(clip: Path) -> list[Image.Image]:
    with av.open(str(clip)) as file:
        return [frame.to_image() for frame in file.decode(video=0)]


def psnr(a: Image.Image, b: Image.Image) -> float:
    square = sum(ImageStat.Stat(ImageChops.difference(a, b)).sum2) / (a.width * a.height * 3)
    return 99.0 if square == 0 else 10 * math.log10(255**2 / square)


def inside(frame: Image.Image) -> Image.Image:
    return design.picture_in(frame)


def still(path: str) -> Image.Image:
    """A picture of the shipped storyboards, at a size that is drawn quickly."""
    with Image.open(ROOT / "pipelines" / path) as image:
        return image.resize((640, 360))


@pytest.fixture
def scenes(tmp_path: Path) -> Path:
    still("lighthouse-ad/frames/lantern-wide.png").save(tmp_path / "a.png")
    still("night-train/frames/platform.png").save(tmp_path / "b.png")
    return tmp_path


def test_a_clip_is_real_h264_of_exactly_the_length_that_was_ordered(scenes: Path) -> None:
    silent, loud = draw(scenes, order(frames={"first_frame": "a.png"}, duration=2), order("loud", sound=True))
    with av.open(str(silent)) as file:
        video = file.streams.video[0]
        assert (video.codec_context.name, video.codec_context.pix_fmt) == ("h264", "yuv420p")
        context = video.codec_context
        assert (context.colorspace, context.color_primaries, context.color_trc, context.color_range) == (1, 1, 1, 1)
        assert (video.width, video.height, str(video.average_rate)) == (960, 540, "24")
        assert len(list(file.decode(video))) == 48
        assert not file.streams.audio
    data = silent.read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")
    with av.open(str(loud)) as file:
        heard = file.streams.audio[0]
        assert (heard.codec_context.name, heard.rate) == ("aac", 48000)
        assert heard.duration is not None
        assert heard.time_base is not None
        assert abs(float(heard.duration * heard.time_base) - 1.0) < 0.0005


def test_the_same_order_gives_the_same_bytes(scenes: Path) -> None:
    frames = {"first_frame": "a.png", "last_frame": "b.png"}
    one = draw(scenes, order(frames=frames, sound=True))[0].read_bytes()
    two = draw(scenes, order(frames=frames, sound=True))[0].read_bytes()
    assert one == two


def test_a_clip_begins_and_ends_with_its_stills(scenes: Path) -> None:
    clip = draw(scenes, order(frames={"first_frame": "a.png", "last_frame": "b.png"}))[0]
    shown = pictures(clip)
    for name, frame in (("a.png", shown[0]), ("b.png", shown[-1])):
        still = design.fitted(Image.open(scenes / name).convert("RGB"), inside(frame).size)
        assert psnr(inside(frame), still) > 36, name
    with av.open(str(clip)) as file:
        assert [n for n, frame in enumerate(file.decode(video=0)) if frame.key_frame] == [0, 23]


def test_captions_never_pile_up_along_a_chain(scenes: Path) -> None:
    """Each clip takes up the very picture that the one before ended with; the camera settles."""
    name, previous, pushes = "a.png", None, []
    for n in range(3):
        clip = draw(scenes, order(f"shot{n}", frames={"first_frame": name}))[0]
        shown = pictures(clip)
        if previous is not None:
            assert shown[0].size == previous.size
            assert psnr(inside(shown[0]), inside(previous)) > 38
        name = f"last{n}.png"
        media.cut(clip, "last", scenes / name)
        previous = shown[-1]
        pushes.append(design.stamp_of(previous))
    assert pushes == [1, 2, 3]


def test_a_loop_closes_on_the_picture_it_began_with(scenes: Path) -> None:
    opening = pictures(draw(scenes, order("opening", frames={"first_frame": "a.png"}))[0])[0]
    opening.save(scenes / "opening.png")
    frames = {"first_frame": "b.png", "last_frame": "opening.png"}
    closing = pictures(draw(scenes, order("closing", frames=frames))[0])[-1]
    assert psnr(inside(closing), inside(opening)) > 38


def test_the_last_frame_is_marked_outside_the_picture(scenes: Path) -> None:
    shown = pictures(draw(scenes, order(frames={"first_frame": "a.png"}))[0])
    left = design.Layout(*shown[0].size).picture[0]
    bars = [frame.crop((left - 40, 0, left - 2, 40)).convert("L").getextrema()[1] for frame in shown]
    assert bars[-1] > 120
    assert max(bars[:-1]) < 60


def test_texts_that_the_font_lacks_are_drawn_as_far_as_possible() -> None:
    at = design.layout(9 / 16)
    card = design.card(at.picture_size, seed="x", over=WEIRD, text=WEIRD)
    frame = design.surround(at, shot=WEIRD, text=WEIRD, meta=WEIRD, stamp=0, last=True)
    assert card.size == at.picture_size
    assert frame.size == (at.width, at.height)
    assert design.plain("a\x1b[31m\u202eb") == "a\\x1b[31m\\u202eb"
    blank = bytes(own_font(30).getmask(" "))
    for sign in "äöüßÄÖÜ„“”‘’«»–—…éčłñЖΩ€":
        assert bytes(own_font(30).getmask(sign)) not in (blank, bytes(own_font(30).getmask("\uffff"))), sign


@pytest.fixture
def system_fonts(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """A system with one font, that of the tests' own for bold; what it was asked for."""
    asked: list[str] = []
    has = {ord("Σ"), ord("ש"), ord("ל")}

    def sort(pattern: str, select: object) -> list[dict[str, object]]:
        asked.append(pattern)
        return [
            {"file": str(lettering.FONTS / "OFL.txt"), "index": 0, "charset": has},
            {"file": str(lettering.FONTS / "SourceSansPro-Semibold.ttf"), "index": 0, "charset": has},
        ]

    monkeypatch.setitem(sys.modules, "fontconfig", SimpleNamespace(sort=sort))
    lettering._place.cache_clear()
    lettering._system.cache_clear()
    yield asked
    lettering._place.cache_clear()
    lettering._system.cache_clear()


def test_a_sign_that_our_font_lacks_is_taken_from_a_font_of_the_system(system_fonts: list[str]) -> None:
    assert [part for _, part in Face(20)._runs("Tür של 中ok")] == ["Tür ", "של ", "中", "ok"]
    assert lettering.missing(["Tür של 中", "中 中ok\u200d"]) == ["中"]
    assert len(system_fonts) == 2


def test_nobody_waits_for_the_fonts_of_the_system_where_our_own_will_do(system_fonts: list[str]) -> None:
    assert lettering.missing(["Größe – „so“ Жук"]) == []
    assert system_fonts == []


def test_a_text_from_the_right_stands_at_the_right_and_its_words_go_left(system_fonts: list[str]) -> None:
    assert lettering.from_right("12 של ok")
    assert not lettering.from_right("ok של")
    for text, right in (("של ok", True), ("ok של", False)):
        image = Image.new("RGB", (300, 40))
        Face(20).draw(image, (0, 5), text, (255, 255, 255), room=300)
        left, _, end, _ = image.getbbox() or (0, 0, 0, 0)
        assert (left > 200) == right
        assert (end < 100) != right


def test_what_no_font_of_the_machine_has_is_told_once(
    system_fonts: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def shot(name: str, prompt: str) -> Shot:
        return Shot(id=ShotId(name), index=0, prompt=prompt, duration=3, provider="animatic")

    def told(*shots: Shot) -> list[str]:
        span = Span("film.yaml", 1, 1, 2)
        film = Film(name="film", matrix={}, title="", shots=shots, cut=(), where=lambda shot, field: span)
        return [f"{problem.severity.value}: {problem.what}" for problem in captions.warnings(film)]

    assert told(shot("a", "של Größe")) == []
    assert told(shot("a", "中"), shot("b", "中文")) == [
        "warning: no font of this machine has these signs of the animatic's captions: 中文; they are drawn as boxes"
    ]
    monkeypatch.setattr(lettering, "shapes", lambda: False)
    assert told(shot("a", "של"), shot("b", "של")) == [
        "warning: this Pillow has no raqm: the animatic's captions in scripts that join letters or run from the right"
        " are drawn letter by letter, from the left"
    ]
    assert told(shot("a", "Größe"), dataclasses.replace(shot("b", "中"), provider="hiapi")) == []


def test_joiners_are_kept_as_they_spell_and_direction_marks_are_not() -> None:
    assert design.plain("می\u200cروم \u202e") == "می\u200cروم \\u202e"


@pytest.mark.parametrize("text", ["word " * 60, "endless" * 60, "日本語" * 60, "", "short"])
def test_a_caption_keeps_inside_its_lines(text: str) -> None:
    face = Face(21)
    lines = design.wrap(text, face, 300, 2)
    assert len(lines) <= 2
    assert all(face.width(line) <= 300 for line in lines)
    assert (lines[-1].endswith("…") if lines else False) == (len(text) > 10)


@pytest.mark.parametrize("ratio", [16 / 9, 9 / 16, 1.0, 4 / 3, 21 / 9, 1.9, 0.5, 50.0, 0.01, 1.7770])
def test_every_shape_has_even_sides_and_is_drawn_small(ratio: float) -> None:
    at = design.layout(ratio)
    left, top, right, bottom = at.picture
    assert max(at.width, at.height) <= 960
    assert all(side % 2 == 0 for side in (at.width, at.height, left, top, right - left, bottom - top))
    for stamp in range(design.CARD + 1):
        frame = design.surround(at, shot="a" * 99, text="b " * 999, meta="c" * 99, stamp=stamp, last=False)
        assert design.stamp_of(frame) == stamp
    (x, y), (film_x, film_y) = at.shot_time, at.film_time
    assert film_x + 130 < at.width
    assert abs(film_y - y) >= 20 or film_x - x > 130
    assert at.title[2] - at.title[0] > 150


def test_an_ordinary_image_is_not_taken_for_a_frame_of_an_animatic() -> None:
    assert design.stamp_of(still("harbour/frames/market.png")) is None
    assert design.stamp_of(Image.new("RGB", (960, 540))) is None
    assert design.stamp_of(Image.new("RGB", (960, 540), design.STRIP)) is None
    assert design.stamp_of(Image.new("RGB", (3, 3))) is None


def test_a_portrait_still_makes_a_portrait_clip(scenes: Path) -> None:
    Image.open(scenes / "a.png").resize((360, 640)).save(scenes / "tall.png")
    tall, square = draw(scenes, order(frames={"first_frame": "tall.png"}), order("sq", aspect_ratio="1:1"))
    assert pictures(tall)[0].size == (540, 960)
    assert pictures(square)[0].size == (720, 720)


def test_the_parts_of_a_multi_shot_have_cards_of_their_own(scenes: Path) -> None:
    parts = MultiShot("customize", (("A door opens.", 1), ("Rain.", 1)))
    shown = pictures(draw(scenes, order(duration=2, multi_shot=parts))[0])
    assert len(shown) == 48
    assert psnr(inside(shown[23]), inside(shown[24])) < 25


def strip(frame: Image.Image) -> Image.Image:
    """The caption below the picture, without the line of time above it."""
    at = design.Layout(*frame.size)
    return frame.crop((design.LEFT, at.top + 5, at.width - design.MARGIN - design.SIDE, at.top + 56))


def test_a_prompt_that_a_card_shows_is_not_repeated_below_it(scenes: Path) -> None:
    """But what is not on the card is: and a caption comes back where a still takes the card's place."""
    plain, other, without, still = draw(
        scenes,
        order("x"),
        order("y", prompt="Something else."),
        order("z", negative_prompt="rain"),
        order("x", frames={"last_frame": "b.png"}),
    )
    one, two, three = (pictures(clip)[5] for clip in (plain, other, without))
    assert psnr(strip(one), strip(two)) > 40
    assert psnr(inside(one), inside(two)) < 30
    assert psnr(strip(one), strip(three)) < 30
    shown = pictures(still)
    assert psnr(strip(shown[11]), strip(shown[12])) < 25


def test_a_shot_that_continues_a_card_begins_with_it_and_then_shows_its_own(scenes: Path) -> None:
    [card] = draw(scenes, order("x"))
    media.cut(card, "last", scenes / "card.png")
    given = pictures(card)[-1]
    parts = MultiShot("customize", (("A door opens.", 1), ("Rain.", 1)))
    frames = {"first_frame": "card.png"}
    following, of_two, to_still = draw(
        scenes,
        order("y", frames=frames, prompt="She turns.", duration=2),
        order("z", frames=frames, duration=2, multi_shot=parts),
        order("y", frames={**frames, "last_frame": "a.png"}, prompt="She turns.", duration=2),
    )
    shown = pictures(following)
    assert psnr(inside(shown[0]), inside(given)) > 38
    assert psnr(inside(shown[24]), inside(given)) < 25
    assert psnr(inside(shown[24]), inside(shown[-1])) > 38
    assert {design.stamp_of(frame) for frame in shown} == {design.CARD}
    divided = pictures(of_two)
    assert psnr(inside(divided[0]), inside(given)) > 38
    assert psnr(inside(divided[23]), inside(divided[24])) < 25
    three = pictures(to_still)
    assert psnr(inside(three[0]), inside(given)) > 38
    assert max(psnr(inside(three[23]), inside(frame)) for frame in (given, three[-1])) < 25
    assert design.stamp_of(three[-1]) == 0


def test_a_line_below_the_picture_shows_how_much_of_the_shot_has_passed(scenes: Path) -> None:
    for frames in ({"first_frame": "a.png"}, {}):
        shown = pictures(draw(scenes, order(frames=frames, duration=2))[0])
        at = design.Layout(*shown[0].size)
        for n, way in ((0, 1 / 48), (23, 0.5), (47, 1.0)):
            row = shown[n].convert("L").crop((0, at.top + 1, at.width, at.top + 2))
            bright = sum(level > 120 for level in row.tobytes())
            assert abs(bright - way * at.width) < 6


def test_reference_images_are_shown_on_the_card(scenes: Path) -> None:
    with_image, without = draw(scenes, order("x", frames={"images.0": "a.png"}), order("x"))
    assert psnr(pictures(with_image)[0], pictures(without)[0]) < 35


def test_a_still_that_cannot_be_read_fails_the_task_in_words(tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\n junk")

    async def state() -> object:
        service = AnimaticService(lambda name: tmp_path / name, tmp_path / "animatic")
        try:
            request = order(frames={"first_frame": "bad.png"})
            task = json.loads((await service.send(request)).body)["task"]
            return animatic.status(await service.send(animatic.poll(task, request.path, {})), task)
        finally:
            await service.close()

    failed = asyncio.run(state())
    assert isinstance(failed, Failed)
    assert "first_frame of shot 'dawn' cannot be read" in failed.message


def test_one_order_is_one_task_and_another_process_knows_none(tmp_path: Path) -> None:
    async def talk() -> None:
        service, other = (AnimaticService(lambda name: tmp_path / name, tmp_path / where) for where in ("one", "two"))
        try:
            request = order()
            task = json.loads((await service.send(request)).body)["task"]
            assert json.loads((await service.send(request)).body)["task"] == task
            first, second = tmp_path / "a.mp4", tmp_path / "b.mp4"
            assert await drawn(service, request, first) == await drawn(service, request, second)
            assert first.read_bytes() == second.read_bytes()
            poll = animatic.poll(task, request.path, {})
            assert animatic.status(await other.send(poll), task) == Missing()
            with pytest.raises(Gone):
                await other.fetch(f"file:{tmp_path}/one/{task}.mp4", tmp_path / "c.mp4", lambda *_: None)
            junk = Request(method="POST", path=request.path, body=b'{"task": "../../x"}')
            assert (await service.send(junk)).status == 400
        finally:
            await service.close()
            await other.close()

    asyncio.run(talk())
    assert not list((tmp_path / "one").iterdir())


def test_closing_stops_a_clip_that_is_being_drawn(tmp_path: Path) -> None:
    async def begun() -> None:
        service = AnimaticService(lambda name: tmp_path / name, tmp_path / "animatic", workers=1)
        for n in range(3):
            await service.send(order(f"long{n}", duration=60))
        await service.close()

    asyncio.run(asyncio.wait_for(begun(), 5))
    assert not list((tmp_path / "animatic").iterdir())


def test_an_image_with_transparency_lies_on_dark_ground(tmp_path: Path) -> None:
    image = Image.new("RGBA", (640, 360))
    ImageDraw.Draw(image).rectangle((0, 0, 320, 360), fill=(250, 20, 20, 255))
    image.save(tmp_path / "clear.png")
    frame = inside(pictures(draw(tmp_path, order(frames={"first_frame": "clear.png"}))[0])[0])
    red, dark = frame.getpixel((100, 100)), frame.getpixel((frame.width - 100, 100))
    assert isinstance(red, tuple)
    assert isinstance(dark, tuple)
    assert red[0] > 220
    assert max(dark) < 40


# What is drawn, counted ------------------------------------------------------------------------------------------


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often a picture was enlarged, blended, put into a frame, and a text was drawn."""
    counts: Counter[str] = Counter()

    def count(owner: type, name: str) -> None:
        real = getattr(owner, name)

        def counting(*args: object, **kwargs: object) -> object:
            counts[name] += 1
            return real(*args, **kwargs)

        monkeypatch.setattr(owner, name, counting)

    for name in ("zoomed", "faded", "paste"):
        count(renderer.Planes, name)
    count(ImageDraw.ImageDraw, "text")
    return counts


def test_a_shot_in_which_nothing_moves_is_drawn_once_however_long_it_is(
    tmp_path: Path, counted: Counter[str]
) -> None:
    draw(tmp_path, order("first", duration=1))  # the digits of the time are drawn once a process
    counted.clear()
    draw(tmp_path, order("short", duration=1))
    once = dict(counted)
    counted.clear()
    draw(tmp_path, order("short", duration=4))
    assert dict(counted) == once
    assert counted["paste"] == 2, "the last frame has other marks round it"
    assert counted["zoomed"] == counted["faded"] == 0


def test_a_card_that_another_one_gives_way_to_is_drawn_no_more(scenes: Path, counted: Counter[str]) -> None:
    media.cut(draw(scenes, order("x"))[0], "last", scenes / "card.png")
    counted.clear()
    shown = pictures(draw(scenes, order("y", frames={"first_frame": "card.png"}, prompt="She turns.", duration=3))[0])
    assert len(shown) == 72
    assert counted["faded"] == 24
    assert counted["paste"] == 26


def planes(level: int) -> renderer.Planes:
    return renderer.Planes.of(Image.new("RGB", (160, 90), (level, level, level)))


@pytest.mark.parametrize(("push", "most"), [(0.0, 1), (0.001, 3), (0.01, 17), (0.5, 120)])
def test_a_picture_is_drawn_again_once_it_has_moved_by_a_sixteenth_of_a_pixel(
    push: float, most: int, counted: Counter[str]
) -> None:
    """The edge that is farthest from the focus moves by 160 x 0.65 x push pixels."""
    first = planes(90)
    shown = list(renderer.Move(120, first, None, push, (0.35, 0.5)).pictures())
    assert len(shown) == 120
    assert shown[0] is first
    assert len({id(picture) for picture in shown}) == counted["zoomed"] + 1
    assert most * 0.6 <= counted["zoomed"] + 1 <= most + 1


def test_from_still_to_still_it_begins_and_ends_with_the_very_pictures(counted: Counter[str]) -> None:
    first, last = planes(90), planes(200)
    shown = list(renderer.Move(120, first, last, 0.0, (0.5, 0.5)).pictures())
    assert len(shown) == 120
    assert shown[0] is shown[35] is first
    assert shown[-1] is last
    assert counted["faded"] == 48


class _Lazy:
    """An executor that does its work when it is asked for the result; `most` is how much ever waited."""

    most = 0

    def __init__(self, *_: object, **__: object) -> None:
        self._waiting = 0

    def submit(self, work: Callable[..., None], *args: object) -> object:
        self._waiting += 1
        _Lazy.most = max(_Lazy.most, self._waiting)

        def result() -> None:
            self._waiting -= 1
            work(*args)

        return SimpleNamespace(result=result)

    def shutdown(self, **_: object) -> None:
        pass


def test_drawing_waits_for_the_encoder_before_frames_fill_the_memory(
    scenes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames = {"first_frame": "a.png"}
    usual = draw(scenes, order(frames=frames, sound=True))[0].read_bytes()
    monkeypatch.setattr(renderer, "ThreadPoolExecutor", _Lazy)
    assert draw(scenes, order(frames=frames, sound=True))[0].read_bytes() == usual
    assert _Lazy.most == renderer.AHEAD


def test_a_clip_that_cannot_be_encoded_fails_the_task_in_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(renderer._Film, "_sound", full)

    async def state() -> object:
        service = AnimaticService(lambda name: tmp_path / name, tmp_path / "animatic")
        try:
            request = order(sound=True)
            task = json.loads((await service.send(request)).body)["task"]
            return animatic.status(await service.send(animatic.poll(task, request.path, {})), task)
        finally:
            await service.close()

    failed = asyncio.run(state())
    assert isinstance(failed, Failed)
    assert failed.message == "the clip could not be written: No space left on device"
    assert not list((tmp_path / "animatic").iterdir())

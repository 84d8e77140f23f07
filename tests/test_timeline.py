"""`export` and `import` on a real project: what an editor gets, and what comes back."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import wave
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import opentimelineio as otio
import pytest
from opentimelineio.opentime import RationalTime, TimeRange

import klingflow
from klingflow import Imported, UsageError
from tests import clips
from tests.cli import Project
from tests.shared import once

BOARD = """\
# A short one.
klingflow: 1
title: Harbour
defaults: {provider: animatic, resolution: 720p, duration: 3}
shots:
  - {id: dawn, prompt: A pier., tags: [morning, sea], title: First light}   # opens
  - id: harbour       # the ship comes in
    continues: dawn
    prompt: A ship.
    takes: 2
  - {id: night, continues: harbour, prompt: A lamp.}   # not in the film
  - id: insert
    clip: footage/insert.mp4
  - {id: market, prompt: Stalls., tags: [evening], provider: hiapi}

film:
  audio: my score.wav    # the bed
  shots:
    - dawn        # first of all
    - harbour
    # then the insert
    - insert
    - market
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    def make(folder: Path) -> None:
        project = Project(folder / "project", {})
        project.write("film.yaml", BOARD)
        project.write("klingflow.yaml", "{}\n")
        (project.root / "footage").mkdir()
        clips.make(project.root / "footage/insert.mp4", frames=30, rate=30, sound=clips.tone(1))
        _wav(project.root / "my score.wav", 12)
        ended = project.run("run", "--select", "dawn harbour night insert")
        assert ended.code == 0, ended.said

    return once(tmp_path_factory, "timeline", make) / "project"


def _wav(file: Path, seconds: int) -> None:
    with wave.open(str(file), "wb") as sound:
        sound.setparams((2, 2, 48000, 0, "NONE", ""))
        sound.writeframes(bytes(4 * 48000 * seconds))


@pytest.fixture
def project(made: Path, tmp_path: Path) -> Project:
    shutil.copytree(made, tmp_path / "project")
    return Project(tmp_path / "project", {})


Edit = Callable[[Any], None]


def edited(project: Project, edit: Edit, name: str = "edited.otio") -> Path:
    """The run's own timeline, changed as an editor's program would."""
    timeline = otio.adapters.read_from_file(str(project.root / "out/film/film.otio"))
    edit(timeline)
    file = project.root / name
    otio.adapters.write_to_file(timeline, str(file))
    return file


def back(project: Project, file: Path, *, write: bool = False) -> Imported:
    return klingflow.open(project.root / "film.yaml").import_timeline(file, write=write)


def trim(clip: Any, first: int, end: int, rate: float = 24) -> None:
    clip.source_range = TimeRange(RationalTime(first, rate), RationalTime(end - first, rate))


def names(track: Any) -> list[str]:
    return [child.name for child in track]


def test_a_run_leaves_a_timeline_with_handles_gaps_markers_and_the_bed(project: Project) -> None:
    timeline = otio.adapters.read_from_file(str(project.root / "out/film/film.otio"))
    picture, sound, music = timeline.tracks
    assert names(picture) == ["dawn", "harbour", "insert", "market, not made"]
    dawn, harbour, insert, market = picture
    assert [marker.name for marker in dawn.markers] == [
        f"dawn take 1 key {dawn.metadata['klingflow']['key'][:12]} #morning #sea"
    ]
    # The repeated frame of the join is a handle.
    assert harbour.media_reference.available_range == TimeRange(RationalTime(0, 24), RationalTime(72, 24))
    assert harbour.source_range == TimeRange(RationalTime(1, 24), RationalTime(71, 24))
    assert [one.media_reference.target_url for one in (dawn, insert)] == ["shots/dawn.mp4", "shots/insert.mp4"]
    # Another rate: its own frames, and whole frames of the film.
    assert (insert.source_range.start_time.rate, insert.duration().rescaled_to(24).value) == (30, 24)
    assert isinstance(market, otio.schema.Gap)
    assert (market.duration(), market.markers[0].name) == (RationalTime(72, 24), "market take 1, not made #evening")
    assert [(marker.name, marker.marked_range.duration.value) for marker in timeline.tracks.markers] == [
        ("scene morning", 72.0),
        ("scene evening", 72.0),
    ]
    assert [type(child).__name__ for child in sound] == ["Gap", "Gap", "Clip", "Gap"]
    assert music[0].media_reference.target_url == "../../my%20score.wav"
    assert music.duration() == picture.duration()
    assert timeline.global_start_time == RationalTime(86400, 24)
    assert (project.root / "out/film" / dawn.media_reference.target_url).is_file()


def test_a_timeline_elsewhere_finds_its_clips_and_brings_those_that_are_gone(project: Project, tmp_path: Path) -> None:
    shutil.rmtree(project.root / "out")
    (project.root / "to editor").mkdir()
    ended = project.run("export", "--fcpxml", "to editor/cut.fcpxml", "--edl")
    assert ended.out.splitlines() == [
        "to editor/cut.fcpxml: 3 clips, 239 frames, 24 a second; not made, a gap each: market",
        "out/film/film.edl: 3 clips, 239 frames, 24 a second; not made, a gap each: market",
    ]
    root = ElementTree.fromstring((project.root / "to editor/cut.fcpxml").read_text("utf-8"))
    sources = [rep.get("src", "") for rep in root.iter("media-rep")]
    assert sources[:2] == ["../out/film/shots/dawn.mp4", "../my%20score.wav"]
    assert all((project.root / "to editor" / src.replace("%20", " ")).is_file() for src in sources)


def test_fcpxml_says_what_final_cut_asks_for(project: Project) -> None:
    """Read by OpenTimelineIO's own adapter, too, which did not write it."""
    assert project.run("export", "--fcpxml").code == 0
    file = project.root / "out/film/film.fcpxml"
    root = ElementTree.fromstring(file.read_text("utf-8"))
    assert [(one.get("frameDuration"), one.get("width"), one.get("height")) for one in root.iter("format")] == [
        ("1/24s", "960", "540"),
        ("1/30s", "320", "180"),
    ]
    assert all(one.get("name") != "" for one in root.iter("format"))
    [insert] = [one for one in root.iter("asset-clip") if one.get("name") == "insert"]
    assert insert.find("conform-rate").attrib == {"scaleEnabled": "0", "srcFrameRate": "30"}  # type: ignore[union-attr]
    assert [one.get("value") for one in root.iter("keyword")] == ["morning", "sea", "evening"]
    timeline = otio.adapters.read_from_file(str(file), adapter_name="fcpx_xml")
    timeline = timeline if isinstance(timeline, otio.schema.Timeline) else timeline[0]
    found = [each for each in timeline.find_clips() if each.name in ("dawn", "harbour")]
    assert [each.trimmed_range().duration.rescaled_to(24).value for each in found] == [72, 71]


def test_an_edl_is_read_by_another_reader_to_the_frame(project: Project) -> None:
    assert project.run("export", "--edl").code == 0
    text = (project.root / "out/film/film.edl").read_text("utf-8")
    timeline = otio.adapters.read_from_string(text, adapter_name="cmx_3600", rate=24)
    video = next(track for track in timeline.tracks if track.kind == "Video")
    assert names(video) == ["dawn.mp4", "harbour.mp4", "insert.mp4", "market, not made"]
    assert [child.duration().value for child in video] == [72, 71, 24, 72]
    assert video[1].source_range.start_time.value == 1
    lines = [line.split(maxsplit=4)[2:] for line in text.splitlines() if line.startswith("* LOC:")]
    assert [line[0] for line in lines] == ["01:00:00:00", "01:00:03:00", "01:00:05:23", "01:00:06:23"]
    assert [line[2].partition(" ")[0] for line in lines] == ["dawn", "harbour", "insert", "market"]


def test_what_nobody_edited_changes_nothing(project: Project) -> None:
    assert project.run("export", "--otio", "--fcpxml", "--edl").code == 0
    for kind in ("otio", "fcpxml"):
        found = back(project, project.root / f"out/film/film.{kind}", write=True)
        assert (found.diff, found.not_brought, found.written) == ("", (), False)
    ended = project.run("import", "out/film/film.edl", "--write")
    assert (ended.code, ended.out) == (0, "")
    assert ended.err == "the film's cut is as the storyboard has it: nothing changes\n"
    assert (project.root / "film.yaml").read_text("utf-8") == BOARD


def test_an_edit_comes_back_as_a_diff_with_its_price_and_is_written_when_that_is_asked(project: Project) -> None:
    def edit(timeline: Any) -> None:
        track = timeline.tracks[0]
        dawn, harbour, insert, market = (child.deepcopy() for child in track)
        trim(dawn, 12, 60)
        trim(insert, 5, 25, 30)
        track[:] = [insert, harbour, dawn, harbour.deepcopy(), market]
        for other in timeline.tracks[1:]:
            timeline.tracks.remove(other)

    file = edited(project, edit)
    ended = project.run("import", "edited.otio", "film.yaml")
    assert ended.code == 0, ended.said
    assert ended.out.splitlines()[6:] == [
        "-    - dawn        # first of all",
        "-    - harbour",
        "     # then the insert",
        "-    - insert",
        "+    - {shot: insert, in: 5, out: 25}",
        "+    - {shot: harbour, in: 1}",
        "+    - {shot: dawn, in: 12, out: 60}        # first of all",
        "+    - {shot: harbour, in: 1}",
        "     - market",
    ]
    assert "the recut costs nothing: no clip is made for it" in ended.err
    assert "nothing is written yet: klingflow import edited.otio film.yaml --write" in ended.err
    assert (project.root / "film.yaml").read_text("utf-8") == BOARD
    assert back(project, file, write=True).written
    text = (project.root / "film.yaml").read_text("utf-8")
    assert text.startswith(BOARD.partition("  shots:\n    - dawn")[0])
    ended = project.run("run", "--select", "dawn harbour night insert")
    assert ended.code == 0, ended.said
    again = otio.adapters.read_from_file(str(project.root / "out/film/film.otio")).tracks[0]
    assert [(one.name, one.source_range.start_time.value) for one in again[:4]] == [
        ("insert", 5.0),
        ("harbour", 1.0),
        ("dawn", 12.0),
        ("harbour", 1.0),
    ]
    assert back(project, project.root / "out/film/film.otio").diff == ""


def test_another_take_of_a_clip_becomes_the_take_of_its_shot(project: Project) -> None:
    def edit(timeline: Any) -> None:
        timeline.tracks[0][1].media_reference.target_url = "file:///Volumes/edit/harbour.take2.mov"

    found = back(project, edited(project, edit), write=True)
    assert found.takes == {"harbour": 2}
    assert [line for line in found.diff.splitlines() if line[:1] in "+-"][2:] == ["+    take: 2"]
    text = (project.root / "film.yaml").read_text("utf-8")
    assert text == BOARD.replace("    takes: 2\n", "    takes: 2\n    take: 2\n")
    assert (found.makes, found.spend) == (1, 0)  # what continues the shot
    lock = (project.root / "film.lock.yaml").read_text("utf-8")
    assert "edited timeline edited.otio" in lock


def test_a_take_that_is_not_there_is_named(project: Project) -> None:
    def edit(timeline: Any) -> None:
        timeline.tracks[0][1].media_reference.target_url = "shots/harbour.take7.mp4"

    with pytest.raises(UsageError, match="shows take 7 of 'harbour', which is not there"):
        back(project, edited(project, edit), write=True)
    assert (project.root / "film.yaml").read_text("utf-8") == BOARD


def test_a_copy_with_a_timecode_of_its_own_comes_back(project: Project) -> None:
    def edit(timeline: Any) -> None:
        clip = timeline.tracks[0][0]
        hour = RationalTime(24 * 3600, 24)
        clip.media_reference = otio.schema.MissingReference()
        clip.name, clip.source_range = "dawn.mxf", TimeRange(hour + RationalTime(5, 24), RationalTime(20, 24))

    assert back(project, edited(project, edit)).cut[0] == "dawn [5 to 25]"


def test_a_shot_of_an_included_file_gets_its_take_there(project: Project) -> None:
    head, shots, film = re.fullmatch("(.*)(shots:.*)\n(film:.*)", BOARD, re.DOTALL).groups()  # type: ignore[union-attr]
    project.write("scenes.yaml", shots)
    project.write("film.yaml", f"{head}include: [scenes.yaml]\n\n{film}")

    def edit(timeline: Any) -> None:
        timeline.tracks[0][1].media_reference.target_url = "shots/harbour.take2.mp4"
        del timeline.tracks[0][0]

    found = back(project, edited(project, edit), write=True)
    assert [line for line in found.diff.splitlines() if re.match("[-+] ", line)] == [
        "-    - dawn        # first of all",
        "-    - harbour",
        "+    - {shot: harbour, in: 1}",
        "+    take: 2",
    ]
    assert "    takes: 2\n    take: 2\n" in (project.root / "scenes.yaml").read_text("utf-8")


def test_two_takes_of_one_shot_are_refused_with_their_places(project: Project) -> None:
    def edit(timeline: Any) -> None:
        track = timeline.tracks[0]
        track.append(track[1].deepcopy())
        track[4].media_reference.target_url = "shots/harbour.take2.mp4"

    with pytest.raises(UsageError) as caught:
        back(project, edited(project, edit))
    assert caught.value.what == (
        "a shot has one take in a film:\n  01:00:09:23  'harbour' is used in take 2 here, and in take 1 before"
    )


def test_a_clip_of_nobody_is_refused_with_the_lines_that_declare_it(project: Project) -> None:
    def edit(timeline: Any) -> None:
        timeline.tracks[0][1].media_reference.target_url = "../VFX/Storm 03.mov"

    edited(project, edit)
    ended = project.run("import", "edited.otio", "film.yaml", "--write")
    assert ended.code == 2
    assert ended.err == (
        "edited.otio shows what is no clip of film.yaml:\n  01:00:03:00  ../VFX/Storm 03.mov\n"
        "mend: bring such a file into the project and declare it as a shot, then import again:\n"
        '  - {id: storm-03, clip: "../VFX/Storm 03.mov"}\n'
    )
    assert (project.root / "film.yaml").read_text("utf-8") == BOARD


def test_what_a_storyboard_cannot_say_is_listed_with_its_place(project: Project) -> None:
    def edit(timeline: Any) -> None:
        picture, sound, music = timeline.tracks
        picture[1].effects.append(otio.schema.LinearTimeWarp("half speed", time_scalar=0.5))
        half = RationalTime(6, 24)
        picture.insert(1, otio.schema.Transition("dissolve", "SMPTE_Dissolve", half, half))
        picture.append(otio.schema.Gap(duration=RationalTime(12, 24)))
        above = otio.schema.Track("V2", kind="Video")
        above.append(otio.schema.Clip("title", otio.schema.MissingReference(), picture[0].source_range))
        timeline.tracks.insert(1, above)
        trim(sound[2], 2, 22, 30)
        trim(music[0], 0, 48)
        voice = otio.schema.Track("A3", kind="Audio")
        where = TimeRange(RationalTime(0, 24), RationalTime(24, 24))
        voice.append(otio.schema.Clip("vo", otio.schema.ExternalReference("vo.wav"), where))
        timeline.tracks.append(voice)

    found = back(project, edited(project, edit))
    assert found.diff == ""
    assert [(one.at, one.what) for one in found.not_brought] == [
        ("01:00:00:00", "'title' lies on the track 'V2' above the picture"),
        ("01:00:00:00", "the sound 'vo.wav', which is none of this film"),
        ("01:00:02:00", "that the music bed 'my score.wav' ends here"),
        ("01:00:03:00", "the transition 'dissolve'"),
        ("01:00:03:00", "the change of speed 'half speed' on 'harbour'"),
        ("01:00:05:23", "the sound of 'insert', which is not cut as its picture is"),
        ("01:00:05:23", "that 'insert' is silent here: the film has its sound"),
        ("01:00:09:23", "a gap of 0.5 s: a film has none, it is left out"),
    ]


def test_what_resolve_writes_for_every_clip_is_no_effect(project: Project) -> None:
    def edit(timeline: Any) -> None:
        dawn, harbour, *_ = timeline.tracks[0]
        for clip, zoom in ((dawn, []), (harbour, [{"Parameter ID": "transformationZoomX", "Parameter Value": 1.2}])):
            own = {"Effect Name": "Transform", "Enabled": True, "Name": "Transform", "Parameters": zoom, "Type": 2}
            clip.effects.append(otio.schema.Effect("", "Resolve Effect", metadata={"Resolve_OTIO": own}))

    found = back(project, edited(project, edit))
    assert [(one.at, one.what) for one in found.not_brought] == [
        ("01:00:03:00", "the effect 'Transform' on 'harbour'")
    ]


def test_a_stale_shot_is_shown_as_it_is_and_named(project: Project) -> None:
    project.write("film.yaml", BOARD.replace("A pier.", "A long pier."))
    ended = project.run("export", "--edl")
    stale = "stale, as the lock has it: dawn, harbour"
    assert ended.out == f"out/film/film.edl: 3 clips, 239 frames, 24 a second; not made, a gap each: market; {stale}\n"


@pytest.mark.parametrize("name", [(), ("out/film/film.otio",)])
def test_a_run_writes_its_own_timeline_over_one_that_was_exported_of_another_cut(
    project: Project, name: tuple[str, ...]
) -> None:
    file = project.root / "out/film/film.otio"
    own = file.read_bytes()
    project.write("film.yaml", BOARD.replace("    - dawn        # first of all\n", ""))
    assert project.run("export", "--otio", *name).code == 0
    assert file.read_bytes() != own
    project.write("film.yaml", BOARD)
    assert project.run("run", "--select", "dawn harbour night insert").code == 0
    assert file.read_bytes() == own


def test_a_timeline_that_could_not_be_written_is_not_taken_as_written(project: Project) -> None:
    project.write("film.yaml", BOARD.replace("- dawn        #", "- {shot: dawn, in: 100}   #"))
    for _ in range(2):
        ended = project.run("run", "--select", "dawn harbour night insert")
        assert ended.code != 0
        assert "the clip of 'dawn' has 72 frames, none at 100" in ended.said


def test_before_a_run_every_shot_is_a_gap(tmp_path: Path) -> None:
    project = Project(tmp_path / "project", {})
    project.write("film.yaml", "klingflow: 1\nshots:\n  - {id: a, prompt: x}\n  - {id: b, prompt: y, duration: 3}\n")
    ended = project.run("export", "--otio", "--edl", "--fcpxml")
    assert ended.code == 0, ended.said
    assert ended.out.splitlines()[0] == (
        "out/film/film.otio: 0 clips, 192 frames, 24 a second; not made, a gap each: a, b"
    )
    for kind in ("otio", "edl", "fcpxml"):
        found = back(project, project.root / f"out/film/film.{kind}")
        assert (found.cut, found.diff, found.not_brought) == (("a", "b"), "", ())


def test_an_edit_list_of_another_program_is_read(project: Project) -> None:
    """As Resolve and Premiere write them: other reels, names with their endings, speed, a dissolve, dropped numbers."""
    project.write(
        "cut.edl",
        "TITLE: cut\nFCM: NON-DROP FRAME\n\n"
        "001  AX       V     C        00:00:00:12 00:00:02:12 00:00:00:00 00:00:02:00\n"
        "* FROM CLIP NAME:  DAWN.mov\n\n"
        "002  AX       V     C        00:00:01:00 00:00:01:00 00:00:02:00 00:00:02:00\n"
        "002  AX       V     D    012 00:00:01:00 00:00:02:00 00:00:02:00 00:00:03:00\n"
        "* FROM CLIP NAME:  dawn.mov\n* TO CLIP NAME:  harbour.mov\n\n"
        "003  AX       AA/V  C        00:00:00:00 00:00:01:00 00:00:03:00 00:00:03:12\n"
        "M2   AX       048.0                00:00:00:00\n* FROM CLIP NAME:  insert.mp4\n",
    )
    found = back(project, project.root / "cut.edl")
    assert found.cut == ("dawn [12 to 60]", "harbour [24 to 48]", "insert [start to 15]")
    assert [(one.at, one.what) for one in found.not_brought] == [
        ("01:00:02:00", "the transition to 'harbour.mov' (dissolve)"),
        ("01:00:03:00", "the change of speed on 'insert.mp4'"),
    ]


def test_an_fcpxml_of_another_program_is_read(project: Project) -> None:
    """A bundle as Final Cut writes one: clips that hold their video, media with a timecode, a retimed one, a title."""
    (project.root / "cut.fcpxmld").mkdir()
    project.write(
        "cut.fcpxmld/Info.fcpxml",
        """<?xml version="1.0" encoding="UTF-8"?>\n<!DOCTYPE fcpxml>
<fcpxml version="1.11"><resources>
<format id="r1" frameDuration="100/2400s" width="960" height="540"/>
<asset id="r2" name="dawn" start="3600s" duration="3s" format="r1"><media-rep src="file:///m/dawn.mp4"/></asset>
<asset id="r3" name="harbour" duration="3s" hasVideo="1" format="r1"><media-rep src="file:///m/harbour.mp4"/></asset>
</resources><library><event name="e"><project name="cut"><sequence format="r1" tcStart="0s"><spine>
<clip name="dawn" offset="0s" start="86424/24s" duration="24/24s"><video ref="r2" offset="3600s" duration="3s"/>
<title ref="r9" lane="1" offset="3601s" name="Titles" duration="1s"/></clip>
<transition name="Cross Dissolve" offset="0.5s" duration="1s"/>
<asset-clip ref="r3" name="harbour" offset="1s" start="1/24s" duration="71/24s">
<timeMap/><adjust-transform scale="2 2"/></asset-clip></spine></sequence></project></event></library></fcpxml>
""",
    )
    found = back(project, project.root / "cut.fcpxmld")
    assert found.cut == ("dawn [24 to 48]", "harbour [1 to end]")
    assert [(one.at, one.what) for one in found.not_brought] == [
        ("01:00:00:00", "'Titles' lies above or below the picture (title)"),
        ("01:00:00:00", "that the music bed 'my score.wav' is taken out: remove film.audio"),
        ("01:00:00:12", "the transition 'Cross Dissolve'"),
        ("01:00:01:00", "the change of speed on 'harbour'"),
        ("01:00:01:00", "adjust-transform on 'harbour'"),
    ]


FCPXML = """\
<fcpxml version="1.10"><resources><format id="r1" frameDuration="{}"/></resources>
<project><sequence format="r1"><spine/></sequence></project></fcpxml>
"""


def test_what_is_no_timeline_is_named(project: Project) -> None:
    for name, text, what in (
        ("a.otio", "{", "a.otio is no OpenTimelineIO file: "),
        ("b.otio", otio.schema.Clip().to_json_string(), "b.otio holds a Clip, not a timeline"),
        ("b.otio", '{"OTIO_SCHEMA": "Clip.2"}', "b.otio is no OpenTimelineIO file: "),
        ("c.fcpxml", "<fcpxml", "c.fcpxml is no XML: "),
        ("d.fcpxml", "<xmeml version='5'/>", "d.fcpxml is <xmeml>, not <fcpxml>"),
        ("d.fcpxml", FCPXML.format("0s"), "d.fcpxml: a frame cannot last 0s"),
        ("d.fcpxml", FCPXML.format("1/0s"), "d.fcpxml: '1/0s' is no time"),
        ("d.fcpxml", FCPXML.format("1e999999999s"), "d.fcpxml: '1e999999999s' is no time"),
        ("e.edl", "TITLE: e\n", "e.edl is no edit decision list: no line of it is an event"),
        ("f.aaf", "", "f.aaf is no timeline that klingflow reads"),
        ("g/none.edl", "", "g/none.edl cannot be read: No such file or directory"),
        ("g/none.otio", "", "g/none.otio cannot be read: No such file or directory"),
    ):
        file = project.write(name, text)
        if name.startswith("g/"):
            file.unlink()
        with pytest.raises(UsageError) as caught:
            back(project, file)
        assert caught.value.what.startswith(f"{project.root}/{what}")
        assert caught.value.mend


def test_without_the_extra_the_other_formats_work_and_a_run_is_silent(project: Project) -> None:
    spy = "import sys; sys.modules['opentimelineio'] = None; from klingflow.cli.app import main; sys.exit(main())"

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        line = [sys.executable, "-c", spy, *words]
        env = project.environment({})
        return subprocess.run(line, cwd=project.root, env=env, capture_output=True, encoding="utf-8", check=False)

    ended = run("export")
    assert ended.returncode == 2
    assert ended.stderr == (
        "OpenTimelineIO is not installed, which .otio files need\n"
        "mend: pip install 'klingflow[otio]'; or use .fcpxml or .edl\n"
    )
    assert run("export", "--edl").returncode == 0
    shots = ("--select", "dawn harbour night insert")
    assert run("run", *shots).returncode == 0
    assert (project.root / "out/film/film.otio").is_file()  # it says what is so
    project.write("film.yaml", BOARD.replace("First light", "Last light"))
    ended = run("run", *shots)
    assert (ended.returncode, "OpenTimelineIO" in ended.stderr) == (0, False)
    assert not (project.root / "out/film/film.otio").exists()  # it would say what was


def test_a_storyboard_behind_the_option_is_no_place_to_write(project: Project) -> None:
    ended = project.run("export", "--edl", "film.yaml")
    assert (ended.code, ended.err) == (
        2,
        "--edl film.yaml would write a timeline\nmend: klingflow export film.yaml --edl\n",
    )
    assert (project.root / "film.yaml").read_text("utf-8") == BOARD
    ended = project.run("export", "--edl", "cut.txt")
    assert ended.err == "--edl cut.txt: the name of such a file ends with .edl\nmend: name it so\n"
    ended = project.run("export", "--edl", "nowhere/cut.edl")
    assert ended.code == 2
    assert "nowhere/cut.edl cannot be written" in ended.err

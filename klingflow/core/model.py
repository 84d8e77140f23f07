"""The values that travel through klingflow: frozen, plain, made once and never changed.

Storyboard text -> Film (of Shots) -> Plan (of Steps, see planning.plan) -> Outcomes -> lock, film.
Knows no file, no provider and no clock.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from fractions import Fraction
from typing import NewType

from klingflow.core.picture_size import shape_of
from klingflow.core.source import Span

ShotId = NewType("ShotId", str)
Digest = NewType("Digest", str)
"""SHA-256 of some bytes, 64 lower-case hex digits."""
Key = NewType("Key", str)
"""What a purchase is known by: SHA-256 of its canonical parts (see core.digest), 64 hex digits."""
ANIMATIC = "animatic"
"""The provider, and the model, that klingflow itself is: rough clips drawn on this machine, free."""
TaskId = NewType("TaskId", str)
"""A provider's id of a task: any text, as the provider writes it. It is a file's name nowhere, and one percent-encoded
step in a URL."""


def task_id(value: object) -> TaskId | None:
    """A task's id as an answer or a person gives it: text or a whole number of whatever length and shape, because it
    may have been paid for. None for everything else, for blanks alone, and for text that is not Unicode."""
    if isinstance(value, int) and not isinstance(value, bool):
        return TaskId(str(value))
    if not isinstance(value, str) or not value.strip():
        return None
    try:
        value.encode()
    except UnicodeEncodeError:
        return None
    return TaskId(value)


@dataclass(frozen=True, slots=True)
class Proposal:
    """Several stills of which a person chooses one for a frame of a shot."""

    shot: ShotId
    """The shot that declares it."""
    frame: str
    """first_frame or last_frame."""
    stills: tuple[str, ...]
    """Image files of the project, by path relative to its root: two or more, no two the same."""
    take: int | None = None
    """Which of them was chosen, from 1; None while nobody has chosen."""


@dataclass(frozen=True, slots=True)
class FileStill:
    """An image file of the project; `path` is relative to the project root, with forward slashes."""

    path: str
    proposal: Proposal | None = field(default=None, compare=False)
    """What it was chosen from. While nobody has chosen, it is the first of them: enough for a rehearsal, and nothing
    that needs it is bought (planning.gates)."""


@dataclass(frozen=True, slots=True)
class UrlStill:
    """An image at an https URL. Pinned (`digest`) it is known by its bytes, otherwise by its URL's text."""

    url: str
    digest: Digest | None = None


@dataclass(frozen=True, slots=True)
class ShotFrame:
    """A frame of another shot's clip: an edge of the graph.

    `frame` is "last", "first", a negative index ("-1" is the last frame, "-3" the third from the end)
    or a time in seconds ("2.5s").
    """

    shot: ShotId
    frame: str = "last"


Frame = FileStill | UrlStill | ShotFrame


@dataclass(frozen=True, slots=True)
class Element:
    frontal_image: Frame
    reference_images: tuple[Frame, ...] = ()
    name: str = ""
    """What a prompt calls it, as {{ element.NAME }}; empty for one of a list. It is no part of a key."""


@dataclass(frozen=True, slots=True)
class FileVideo:
    """A video file of the project; `path` is relative to its root, with forward slashes."""

    path: str


@dataclass(frozen=True, slots=True)
class ShotVideo:
    """Another shot's clip, or only its last whole seconds."""

    shot: ShotId
    last_s: int | None = None


Video = FileVideo | UrlStill | ShotVideo


@dataclass(frozen=True, slots=True)
class MultiShot:
    """`by` is "customize" (then `shots` holds (prompt, seconds) pairs) or "intelligence"."""

    by: str
    shots: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Shot:
    """One shot as declared: defaults merged, matrix and templates rendered, references resolved.

    `{still: ID}` and `meets` are already replaced by the still that ID declares; `continues: ID` is
    `first_frame=ShotFrame(ID)`. `index` is the shot's place in the file's `shots` list, from 0.
    """

    id: ShotId
    index: int
    title: str = ""
    notes: str = ""
    tags: tuple[str, ...] = ()
    prompt: str = ""
    negative_prompt: str = ""
    first_frame: Frame | None = None
    last_frame: Frame | None = None
    images: tuple[Frame, ...] = ()
    elements: tuple[Element, ...] = ()
    videos: tuple[Video, ...] = ()
    """Reference videos. The end of the clip that the shot continues is the last of them, where its motion goes on."""
    motion_s: int | None = None
    """How many seconds of the clip that it continues go along so: what it repeats of them is cut from the film."""
    multi_shot: MultiShot | None = None
    duration: int = 5
    """Seconds, 3 to 15."""
    resolution: str = "1080p"
    """720p, 1080p or 4K."""
    sound: bool = False
    aspect_ratio: str | None = None
    model: str | None = None
    """None: the provider's own model for such a shot."""
    provider: str = ANIMATIC
    take: int = 1
    takes: int = 1
    hold: bool = False
    gate: str | None = None
    """"approved": what continues the shot is not bought until a take of it is picked and the pick is merged
    (planning.gates). It is no part of a key."""
    clip: str | None = None
    """A clip of one's own: a file of the project, path relative to its root."""
    meets: ShotId | None = None
    """The shot whose still this shot begins with, when it was declared so; for explanations only."""
    left_out: tuple[tuple[str, str], ...] = ()
    """Fields that could not be read, each with why (perhaps empty): there was an error, and the shot can be compared
    with another as far as it is known, not made."""

    def frames(self) -> tuple[tuple[str, Frame], ...]:
        """Every frame that goes in, with its role: first_frame, last_frame, images.0, elements.0.frontal_image, …"""
        if self.first_frame is None and self.last_frame is None and not self.images and not self.elements:
            return ()
        out: list[tuple[str, Frame]] = []
        if self.first_frame is not None:
            out.append(("first_frame", self.first_frame))
        if self.last_frame is not None:
            out.append(("last_frame", self.last_frame))
        out += [(f"images.{i}", image) for i, image in enumerate(self.images)]
        for i, element in enumerate(self.elements):
            out.append((f"elements.{i}.frontal_image", element.frontal_image))
            out += [(f"elements.{i}.reference_images.{j}", image) for j, image in enumerate(element.reference_images)]
        return tuple(out)

    def proposals(self) -> tuple[Proposal, ...]:
        """The choices of stills that its frames depend on, those that another shot declares too; each once."""
        ends = [one for one in (self.first_frame, self.last_frame) if isinstance(one, FileStill)]
        if self.images or self.elements:  # hardly any shot, and this is often asked
            ends = [one for _, one in self.frames() if isinstance(one, FileStill)]
        return tuple(dict.fromkeys(one.proposal for one in ends if one.proposal is not None))

    def roles(self) -> tuple[str, ...]:
        """What each frame and reference video that goes in is called."""
        return (*(role for role, _ in self.frames()), *(f"videos.{i}" for i in range(len(self.videos))))

    @property
    def follows_length(self) -> bool:
        """Whether the clip gets as long as its reference video, whatever `duration` says: the shot has no frame."""
        return bool(self.videos) and not self.frames()

    @property
    def ordered_s(self) -> int | None:
        """How many seconds its clip has to have; None where that is not for the order to say."""
        return None if self.follows_length else self.duration

    def needs(self) -> tuple[ShotId, ...]:
        """The shots whose clips this one waits for, each once, in order of mention."""
        if not (
            isinstance(self.last_frame, ShotFrame) or self.images or self.elements or self.videos
        ):  # nearly every shot, often asked
            return (self.first_frame.shot,) if isinstance(self.first_frame, ShotFrame) else ()
        given = [*(frame for _, frame in self.frames()), *self.videos]
        return tuple(dict.fromkeys(one.shot for one in given if isinstance(one, ShotFrame | ShotVideo)))

    def takes_made(self) -> tuple[int, ...]:
        """The takes that this shot asks for: 1..takes, or the one `take`."""
        return tuple(range(1, self.takes + 1)) if self.takes > 1 else (self.take,)


@dataclass(frozen=True, slots=True)
class Cut:
    """One place in the finished film: a shot, and which part of its clip is shown there.

    `start` is the first frame that is shown, `end` the one after the last: a frame's number from 0 ("12"), or a time in
    the clip ("2.5s"). None where the storyboard says nothing: then the film decides (output.cutting).
    """

    shot: ShotId
    start: str | None = None
    end: str | None = None

    def __str__(self) -> str:
        """As reviewers read it: `harbour`, or `harbour [12 to 80]`."""
        if self.start is None and self.end is None:
            return self.shot
        return f"{self.shot} [{self.start or 'start'} to {self.end or 'end'}]"


@dataclass(frozen=True, slots=True, kw_only=True)
class Film:
    """One film: a storyboard, or one combination of its matrix."""

    name: str
    """The storyboard's file name without .yaml: NAME of NAME.lock.yaml."""
    variant: str = ""
    """Empty, or the matrix combination as a file name: "16x9-en"."""
    matrix: Mapping[str, str]
    title: str
    shots: tuple[Shot, ...]
    cut: tuple[Cut, ...]
    """The shots of the finished film in order; a shot may be in it more than once, or not at all."""
    audio: str | None = None
    """The music bed, a file of the project."""
    size: tuple[int, int] | None = None
    """Width and height of the finished film, where the storyboard says them."""
    resolution: str | None = None
    """Its resolution (720p, 1080p or 4K), where the storyboard says that and no size."""
    aspect: str | None = None
    """Its shape ("16:9"), likewise."""
    rate: Fraction | None = None
    """Its frames a second, likewise."""
    gate: Mapping[str, float] = field(default_factory=dict)
    """By kind of fault (output.seams.KINDS), how much of it a join may have before a run fails."""
    max_chain: int = 4
    left_out: tuple[tuple[str, str], ...] = ()
    """As with a shot: "title", "audio", "film.size", "film.resolution", "film.aspect", "film.shots"."""
    where: Callable[[ShotId | None, str], Span]
    """The place of a shot's field in the file ("" is the shot itself; None as shot: the top level)."""
    _by_id: dict[ShotId, Shot] = field(default_factory=dict, init=False, repr=False, compare=False)

    def shot(self, name: ShotId) -> Shot:
        """The shot of that name. Raises KeyError."""
        return self.by_id()[name]

    def by_id(self) -> Mapping[ShotId, Shot]:
        """Every shot by its name. Read once: who asks for one shot after the other would go through all for each."""
        if not self._by_id:
            self._by_id.update((shot.id, shot) for shot in self.shots)
        return self._by_id

    @property
    def shape(self) -> Fraction | None:
        """Width by height, where the storyboard says it."""
        return Fraction(*self.size) if self.size else shape_of(self.aspect) if self.aspect else None

    @property
    def label(self) -> str:
        """The film's name, with its variant where there are several."""
        return f"{self.name} [{self.variant}]" if self.variant else self.name

    def proposals(self) -> tuple[Proposal, ...]:
        """Every choice of stills that its shots declare, in their order, whether it is made or not."""
        return tuple(one for shot in self.shots for one in shot.proposals() if one.shot == shot.id)


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageFacts:
    """What is known of an image file: digest of its bytes, format by content (PNG, JPEG, WEBP), size as it is shown."""

    digest: Digest
    format: str
    width: int
    height: int
    bytes: int
    turned: bool = False
    """Only its EXIF orientation makes it upright."""
    cmyk: bool = False
    """Its colours are a print's inks."""
    deep: bool = False
    """It has more than 8 bits a channel."""
    transparent: bool = False
    """In places."""
    profile: str = ""
    """The name of its colour profile, where it makes colours look other than on a usual screen."""

    @property
    def plain(self) -> bool:
        """Upright, opaque, eight bits of sRGB: nobody can show it otherwise."""
        return not (self.turned or self.cmyk or self.deep or self.transparent or self.profile)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipLook:
    """How a clip of one's own is shown, as its first frame tells it."""

    width: int
    height: int
    hdr: str = ""
    """"HLG" or "PQ"; empty for SDR."""
    alpha: bool = False
    """Some of it may be transparent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """What is known of a film's files: images and clips of one's own, by path relative to the project root."""

    stills: Mapping[str, ImageFacts]
    clips: Mapping[str, Digest]
    """Music beds too."""
    looks: Mapping[str, ClipLook] = field(default_factory=dict)
    """Of the clips, as far as it is known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipFacts:
    """What is known of a clip: measured from the file, never taken from the order.

    `duration` is in seconds as a decimal text with 3 places ("5.042"), so that it is the same in every record.
    """

    digest: Digest
    bytes: int
    width: int
    height: int
    frames: int
    duration: str
    rate: str
    """Frames a second as a fraction or whole number: "24", "24000/1001"."""
    audio: bool

    def lasts(self, seconds: float) -> bool:
        """Whether it is as long as it was ordered. The length may differ by a quarter of a second or 5 %, whichever is
        more: Kling gives 5.041 s for an order of 5 (measured files of 2026-11), and a wrong clip is off by seconds."""
        return abs(float(self.duration) - seconds) <= max(0.25, seconds * 0.05)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipRecord:
    """What a key bought: `clips/KEY.json` in the store. Created once, never changed."""

    key: Key
    facts: ClipFacts
    provider: str
    model: str
    task: TaskId | None
    cost: Decimal | None
    """USD booked for it; None where no price was known."""
    basis: str = ""
    """What that price was, where the project did not state it: "estimate", or "list price of 2026-11-27"."""
    date: str
    """UTC day it was stored, YYYY-MM-DD."""
    parts: Mapping[str, object]
    """The parts of the key (core.digest), kept so that a later plan can report what changed."""
    inputs: Mapping[str, Digest]
    """The images that really went in, by role: the PNG cut from the clip that this one continues, the stills."""
    taken_in: str = ""
    """Of a clip that a person took in by hand: its file's name, who did it, and their note. Empty for one that a run
    made."""

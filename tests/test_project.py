import hashlib
import io
import os
import struct
import subprocess
import sys
import time
import unicodedata
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from klingflow.core.errors import MediaError
from klingflow.core.model import ClipLook
from klingflow.io import cache, media, remembered
from klingflow.io.project import BadFile, Project, find_root, nearest_file
from tests import odd_stills


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = tmp_path / "project"
    (folder / "frames").mkdir(parents=True)
    Image.new("RGB", (64, 36), "teal").save(folder / "frames/dawn.png")
    (tmp_path / "outside.txt").write_text("secret", "utf-8")
    return folder


def old(path: Path) -> None:
    """As if written an hour ago; what changed a moment ago is never kept in the cache."""
    os.utime(path, (time.time() - 3600, time.time() - 3600))


def refused(root: Path, rel: str) -> BadFile:
    with pytest.raises(BadFile) as caught:
        Project(root).read_bytes(rel)
    return caught.value


@pytest.mark.parametrize(
    ("rel", "what"),
    [
        ("../outside.txt", "'../outside.txt' is outside the project"),
        ("frames/../../outside.txt", "'frames/../../outside.txt' is outside the project"),
        ("/etc/passwd", "'/etc/passwd' is outside the project"),
        ("//etc/passwd", "'//etc/passwd' is outside the project"),
        ("~/x", "'~/x' is outside the project"),
        ("file:///etc/passwd", "'file:///etc/passwd' is a URL or names a drive, not a file of the project"),
        ("https://x/y.png", "'https://x/y.png' is a URL or names a drive, not a file of the project"),
        ("C:/x", "'C:/x' is a URL or names a drive, not a file of the project"),
        ("frames\\dawn.png", "'frames\\dawn.png' has a backslash"),
        ("a\0b", "the path 'a\\x00b' holds a control character"),
        ("a\nb", "the path 'a\\nb' holds a control character"),
        ("", "the path is empty"),
        (".", "'.' is the project's own folder"),
        ("frames", "'frames' is a folder"),
        (".git/config", "'.git' is hidden: a name that begins with a dot is not read"),
        (".env", "'.env' is hidden: a name that begins with a dot is not read"),
        ("frames/none/x.png", "there is no file 'frames/none/x.png'"),
        ("a" * 300, f"'{'a' * 300}' cannot be read: File name too long"),
    ],
)
def test_a_path_names_a_file_of_the_project_or_is_refused(root: Path, rel: str, what: str) -> None:
    (root / ".git").mkdir()
    (root / ".git/config").write_text("token", "utf-8")
    assert refused(root, rel).what == what


def test_a_path_may_go_up_and_down_inside_the_project(root: Path) -> None:
    assert Project(root).resolve("film/../frames/./dawn.png") == root / "frames/dawn.png"


def test_a_missing_file_is_told_with_the_nearest_that_is_there(root: Path) -> None:
    assert refused(root, "frames/dwan.png").mend == "did you mean 'frames/dawn.png'?"
    assert refused(root, "frames/Dawn.PNG").mend == "did you mean 'frames/dawn.png'?"
    assert refused(root, "frame/dawn.png").mend == "did you mean 'frames/dawn.png'?"
    assert refused(root, "frame/noon.png").mend == "did you mean 'frames'?"


@pytest.fixture
def folding(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system that takes any case and any Unicode form of a name, as macOS has it, and lists the one on the disk.

    Made of this system's own by finding the spelling on the disk where `os` is called.
    """
    lstat, stat_, open_, readlink, listdir = os.lstat, os.stat, os.open, os.readlink, os.listdir

    def folded(name: str) -> str:
        return unicodedata.normalize("NFC", name).casefold()

    def on_disk(path: object, **_: object) -> str:
        real = ""
        for part in os.path.abspath(os.fspath(path)).split(os.sep)[1:]:  # type: ignore[call-overload]
            try:
                lstat(f"{real}/{part}")
            except FileNotFoundError:
                part = next((name for name in listdir(real or "/") if folded(name) == folded(part)), part)
            real = f"{real}/{part}"
        return real

    monkeypatch.setattr(os, "lstat", lambda path, **more: lstat(on_disk(path), **more))
    monkeypatch.setattr(os, "stat", lambda path, **more: stat_(on_disk(path), **more))
    monkeypatch.setattr(os, "open", lambda path, *more, **named: open_(on_disk(path), *more, **named))
    monkeypatch.setattr(os, "readlink", lambda path, **more: readlink(on_disk(path), **more))


@pytest.mark.usefixtures("folding")
@pytest.mark.parametrize(
    ("rel", "what"),
    [
        ("frames/Dawn.png", "'frames/Dawn.png': 'Dawn.png' is spelled 'dawn.png' on the disk"),
        ("frames/dawn.PNG", "'frames/dawn.PNG': 'dawn.PNG' is spelled 'dawn.png' on the disk"),
        ("Frames/dawn.png", "'Frames': 'Frames' is spelled 'frames' on the disk"),
        ("reel/Link.png", "'reel/Link.png': 'Link.png' is spelled 'link.png' on the disk"),
        ("reel/link.png", "'reel/link.png': 'DAWN.png' is spelled 'dawn.png' on the disk"),
        ("stills/dawn.png", "'stills': 'FRAMES' is spelled 'frames' on the disk"),
    ],
)
def test_a_name_is_spelled_as_on_the_disk_also_where_the_file_system_takes_any(root: Path, rel: str, what: str) -> None:
    (root / "reel").mkdir()
    (root / "reel/link.png").symlink_to("../frames/DAWN.png")
    (root / "stills").symlink_to("FRAMES")
    for look in (Project(root).read_bytes, Project(root).digest, Project(root).image, Project(root).resolve):
        with pytest.raises(BadFile) as caught:
            look(rel)
        assert caught.value.what == what
    assert Project(root).image("frames/dawn.png").width == 64


@pytest.mark.usefixtures("folding")
def test_a_name_in_another_unicode_form_is_the_same_name(root: Path) -> None:
    (root / unicodedata.normalize("NFD", "été.txt")).write_text("warm", "utf-8")
    assert Project(root).read_text("été.txt") == "warm"
    with pytest.raises(BadFile, match="is spelled"):
        Project(root).read_text("Été.txt")


def test_a_file_that_comes_later_is_found(root: Path) -> None:
    project = Project(root)
    assert project.read_bytes("frames/dawn.png")
    (root / "frames/dusk.txt").write_text("late", "utf-8")
    assert project.read_text("frames/dusk.txt") == "late"


def test_the_name_that_was_meant_is_of_the_same_kind() -> None:
    names = ["dawn.txt", "dawm.jpg", "dusk.png", "noon.wav"]
    assert nearest_file("dawn.png", names) == "dawm.jpg"
    assert nearest_file("dawn.md", names) == "dawn.txt"
    assert nearest_file("noon.mp4", names) == "noon.wav"  # better another kind than nothing
    assert nearest_file("evening.png", names) is None


def test_links_that_leave_the_project_are_refused(root: Path) -> None:
    (root / "frames/out.png").symlink_to(root.parent / "outside.txt")
    (root / "up").symlink_to(root.parent)
    (root / "gone").symlink_to("nowhere")
    (root / "loop").symlink_to("loop")
    (root / ".hidden").write_text("x", "utf-8")
    (root / "shown").symlink_to(".hidden")
    assert refused(root, "frames/out.png").what == "'frames/out.png' is a link out of the project"
    assert refused(root, "up/outside.txt").what == "'up' is a link out of the project"
    gone = refused(root, "gone")
    assert gone.what == "'gone' is a link to 'nowhere', which is not there"
    assert gone.mend == "bring the file that it leads to, or put the file itself there"
    assert refused(root, "loop").what == "'loop' cannot be read: Too many levels of symbolic links"
    assert "is hidden" in refused(root, "shown").what


def test_a_sibling_folder_with_the_same_beginning_is_outside(root: Path) -> None:
    twin = root.with_name("project-two")
    twin.mkdir()
    (twin / "x.txt").write_text("secret", "utf-8")
    (root / "x.txt").symlink_to(twin / "x.txt")
    assert refused(root, "x.txt").what == "'x.txt' is a link out of the project"


def test_links_inside_the_project_are_followed(root: Path) -> None:
    (root / "frames/alias.png").symlink_to("dawn.png")
    (root / "stills").symlink_to("frames")
    project = Project(root)
    assert project.digest("frames/alias.png") == project.digest("stills/dawn.png") == project.digest("frames/dawn.png")


def test_pipes_and_devices_are_refused_without_waiting(root: Path) -> None:
    os.mkfifo(root / "pipe.png")
    (root / "zero.png").symlink_to("/dev/zero")
    assert refused(root, "pipe.png").what == "'pipe.png' is no regular file"
    assert refused(root, "zero.png").what == "'zero.png' is a link out of the project"


def test_sizes_are_capped(root: Path) -> None:
    with open(root / "big.txt", "wb") as file:
        file.truncate(3 * 2**20)
    with open(root / "big.png", "wb") as file:
        file.truncate(2**30)
    assert refused(root, "big.txt").what == "'big.txt' has 3 MiB; at most 2 MiB are read"
    with pytest.raises(BadFile, match=r"'big.png' has 1 GiB; at most 64 MiB are read"):
        Project(root).image("big.png")


def test_text_is_utf8(root: Path) -> None:
    (root / "a.txt").write_bytes(b"\xef\xbb\xbfone\r\ntwo")
    (root / "b.txt").write_bytes(b"caf\xe9")
    assert Project(root).read_text("a.txt") == "one\ntwo"
    with pytest.raises(BadFile, match=r"'b.txt' is not UTF-8 text \(byte 4\)"):
        Project(root).read_text("b.txt")


def encoded(form: str, size: tuple[int, int] = (400, 300), **options: object) -> bytes:
    out = io.BytesIO()
    Image.effect_noise(size, 80).convert("RGB").save(out, form, **options)
    return out.getvalue()


def test_an_image_is_known_by_its_content_not_its_name(root: Path) -> None:
    (root / "a.png").write_bytes(data := encoded("JPEG"))
    facts = Project(root).image("a.png")
    assert (facts.format, facts.width, facts.height, facts.bytes) == ("JPEG", 400, 300, len(data))
    assert facts.digest == hashlib.sha256(data).hexdigest()


def test_a_picture_has_the_size_in_which_it_is_shown(root: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    for form in ("JPEG", "PNG", "WEBP"):
        (root / "a").write_bytes(encoded(form, exif=exif))
        facts = Project(root).image("a")
        assert (facts.format, facts.width, facts.height) == (form, 300, 400)


def png_of(width: int, height: int) -> bytes:
    """A PNG whose header claims that size, with hardly any data."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(b"\0" * 1000)) + chunk(b"IEND", b"")


def animation() -> bytes:
    out = io.BytesIO()
    frames = [Image.new("RGB", (64, 64), color) for color in ("red", "blue")]
    frames[0].save(out, "WEBP", save_all=True, append_images=frames[1:])
    return out.getvalue()


@pytest.mark.parametrize(
    ("make", "what"),
    [
        (lambda: encoded("PNG")[:20_000], "is damaged or cut short"),
        (lambda: encoded("JPEG")[:9_000], "is damaged or cut short"),
        (lambda: encoded("WEBP")[:9_000], "is "),
        (lambda: png_of(50_000, 50_000), "has too many pixels; at most 50 million are read"),
        (lambda: png_of(10_000, 9_500), "has too many pixels; at most 50 million are read"),
        (lambda: png_of(8_000, 7_000), "has 8000 x 7000 pixels; at most 50 million are read"),
        (lambda: b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"/>', "is an SVG drawing, not a picture"),
        (lambda: b"<!DOCTYPE html><html>", "is a web page, not a picture of pixels"),
        (lambda: encoded("GIF"), "is a GIF"),
        (lambda: encoded("BMP"), "is a BMP"),
        (lambda: encoded("TIFF"), "is a TIFF"),
        (lambda: b"\0\0\0\x24ftypheic\0\0\0\0mif1MiHB" + bytes(30), "is a HEIC"),
        (lambda: b"\0\0\0\x1cftypmif1\0\0\0\0mif1heic" + bytes(30), "is a HEIC"),
        (lambda: b"\0\0\0\x20ftypavif\0\0\0\0avifmif1miaf" + bytes(30), "is an AVIF"),
        (lambda: b"\0\0\0\x1cftypmif1\0\0\0\0mif1avif" + bytes(30), "is an AVIF"),
        (lambda: b"\0\0\0\x20ftypisom\0\0\2\0isomiso2avc1mp41" + bytes(30), "is a video"),
        (lambda: b"\xff\x0a" + bytes(30), "is a JPEG XL"),
        (lambda: b"", "is no picture that can be read"),
        (animation, "is an animation"),
    ],
)
def test_what_is_no_whole_still_is_refused(root: Path, make: Callable[[], bytes], what: str) -> None:
    (root / "a.png").write_bytes(make())
    with pytest.raises(BadFile, match=r"^'a.png' ") as caught:
        Project(root).image("a.png")
    assert caught.value.what.startswith(f"'a.png' {what}")


def test_unchanged_files_are_not_read_again(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    still = root / "frames/dawn.png"
    old(still)
    first = Project(root)
    facts = first.image("frames/dawn.png")
    age(monkeypatch)
    first.save_cache()
    still.chmod(0)  # changes the time of change, and with it the cache's row
    still.chmod(0o644)
    assert Project(root).image("frames/dawn.png") == facts
    Image.new("RGB", (64, 36), "red").save(still)
    assert Project(root).image("frames/dawn.png") != facts


def age(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets what was written just now be ten seconds old."""
    now = time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: now() + 10_000_000_000)


def test_a_file_hashed_right_after_it_was_written_is_not_kept(root: Path) -> None:
    project = Project(root)
    project.digest("frames/dawn.png")
    project.save_cache()
    assert not list((root.parent / "cache").rglob("*.json"))


def test_known_stills_need_no_picture_library(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    odd = {
        "frames/dawn.png": {},
        "frames/inks.jpg": {"cmyk": True, "turned": True},
        "frames/deep.png": {"deep": True, "transparent": True, "profile": "Display P3"},
    }
    (root / "frames/inks.jpg").write_bytes(odd_stills.cmyk(1, 2, 3, 4, exif=exif))
    iccp = b"wide\0\0" + zlib.compress(odd_stills.wide())
    (root / "frames/deep.png").write_bytes(odd_stills.deep(6, 1, 2, 3, 4, iCCP=iccp))
    project = Project(root)
    known = [project.image(name) for name in odd]
    project.digest("frames/dawn.png")
    for facts, more in zip(known, odd.values(), strict=True):
        has = {field: getattr(facts, field) for field in ("turned", "cmyk", "deep", "transparent", "profile")}
        assert {field: value for field, value in has.items() if value} == more
    age(monkeypatch)
    project.save_cache()
    code = (
        "import sys; from pathlib import Path; from klingflow.io.project import Project;"
        f"project = Project(Path({str(root)!r}));"
        f"print([project.image(name) for name in {list(odd)}]);"
        "print('PIL' in sys.modules, 'yaml' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8", check=True)
    assert done.stdout.splitlines() == [str(known), "False False"]


def test_a_file_that_was_only_hashed_is_looked_at_when_it_is_named_as_a_still(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = Project(root)
    digest = project.digest("frames/dawn.png")
    age(monkeypatch)
    project.save_cache()
    again = Project(root)
    assert again.digest("frames/dawn.png") == digest
    assert again.image("frames/dawn.png").width == 64
    assert again.digest("frames/dawn.png") == digest


def test_the_cache_lies_outside_the_repository_and_may_be_damaged(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = Project(root)
    digest = project.digest("frames/dawn.png")
    age(monkeypatch)
    project.save_cache()
    assert sorted(p.name for p in root.rglob("*") if p.is_file()) == ["dawn.png"]
    (kept,) = (root.parent / "cache").rglob("*.json")
    for junk in ("", "[]", '{"version": 1}', "{" * 100_000, '{"version": 1, "root": 5, "files": []}'):
        kept.write_text(junk, "utf-8")
        assert Project(root).digest("frames/dawn.png") == digest


def test_without_a_cache_folder_everything_works(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/proc/nowhere")
    project = Project(root)
    project.digest("frames/dawn.png")
    age(monkeypatch)
    project.save_cache()
    remembered.remember("storyboard", "a" * 64, {"a": 1})
    assert remembered.recall("storyboard", "a" * 64) is None


def test_the_root_is_the_nearest_project_file_then_git_then_the_folder(tmp_path: Path) -> None:
    board = tmp_path / "a/b/c/film.yaml"
    board.parent.mkdir(parents=True)
    board.touch()
    assert find_root(board) == tmp_path / "a/b/c"
    (tmp_path / "a/.git").mkdir()
    assert find_root(board) == tmp_path / "a"
    (tmp_path / "a/b/klingflow.yaml").touch()
    assert find_root(board) == tmp_path / "a/b"
    (tmp_path / "way").symlink_to("a/b")
    assert find_root(tmp_path / "way/c/film.yaml") == tmp_path / "a/b"


@pytest.mark.parametrize(
    ("link", "to", "rel"),
    [
        ("out", "..", "out/film"),
        ("out", ".", "out/film"),
        ("out", ".git/hooks", "out"),
        ("out/film", "../.git/hooks", "out/film/shots"),
        ("out/film", "../frames", "out/film"),
        ("out/film/shots", "../../frames", "out/film/shots"),
        ("out/film/shots", "nowhere", "out/film/shots"),
        ("film.lock.yaml", "film.yaml", "film.lock.yaml"),
        ("film.lock.yaml", "../outside.txt", "film.lock.yaml"),
    ],
)
def test_nothing_is_written_through_a_link(root: Path, link: str, to: str, rel: str) -> None:
    (root / ".git/hooks").mkdir(parents=True)
    (root / link).parent.mkdir(parents=True, exist_ok=True)
    (root / link).symlink_to(to)
    with pytest.raises(BadFile) as caught:
        Project(root).to_write(rel)
    assert caught.value.what == f"nothing is written to '{rel}': '{link}' is a link"


@pytest.mark.parametrize("rel", [".git/hooks/post-checkout", ".GIT/config", "film/.Git/x", "x/../.git"])
def test_nothing_is_written_into_gits_own_folder(root: Path, rel: str) -> None:
    with pytest.raises(BadFile, match="belongs to git"):
        Project(root).to_write(rel)


def test_gits_folder_is_known_under_any_other_spelling_that_the_file_system_takes(root: Path) -> None:
    (root / ".git").write_text("gitdir: elsewhere", "utf-8")
    os.link(root / ".git", root / "git~1")  # one file with two names, as on a file system that folds names
    with pytest.raises(BadFile, match="belongs to git"):
        Project(root).to_write("git~1")


def test_what_is_written_lies_below_folders(root: Path) -> None:
    project = Project(root)
    assert project.to_write("reel/film.mp4") == root / "reel/film.mp4"
    assert project.to_write("frames/dawn.png") == root / "frames/dawn.png"
    with pytest.raises(BadFile, match="is not a folder"):
        project.to_write("frames/dawn.png/x")
    with pytest.raises(BadFile):
        project.to_write("../x")


def test_a_clip_is_looked_into_once_and_refused_each_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[str] = []
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    look = ClipLook(width=180, height=320, hdr="PQ", alpha=True)
    monkeypatch.setattr(media, "glance", lambda path: looked.append(path.name) or look)
    (tmp_path / "good.mp4").write_bytes(b"good")
    (tmp_path / "copy.mp4").write_bytes(b"good")
    for name in ("good.mp4", "good.mp4", "copy.mp4"):
        assert Project(tmp_path).clip(name) == (hashlib.sha256(b"good").hexdigest(), look)
    assert looked == ["good.mp4"]
    monkeypatch.undo()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "bad.mp4").write_text("no clip", encoding="utf-8")
    for _ in range(2):
        with pytest.raises(MediaError, match=r"bad\.mp4 is not a video: it is a text"):
            Project(tmp_path).clip("bad.mp4")


@pytest.mark.parametrize(
    "spec", ["https://git-lfs.github.com/spec/v1", "https://hawser.github.com/spec/v1", "http://git-media.io/v/2"]
)
@pytest.mark.parametrize("read", [Project.read_bytes, Project.read_text, Project.image, Project.digest, Project.clip])
def test_the_pointer_that_git_lfs_leaves_in_a_files_place_is_no_file(
    root: Path, read: Callable[[Project, str], object], spec: str
) -> None:
    path = root / "frames/large.png"
    path.write_text(f"version {spec}\noid sha256:{'a' * 64}\nsize 12345\n", "utf-8")
    old(path)
    for _ in range(2):  # what was refused is not remembered as good
        with pytest.raises(BadFile, match=r"'frames/large\.png' is a Git LFS pointer") as caught:
            read(Project(root), "frames/large.png")
        assert caught.value.mend == "run `git lfs pull` (in CI: `lfs: true`)"


def test_a_pointer_that_an_older_version_took_for_the_file_is_found_out(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = root / "frames/large.mp4"
    path.write_text(f"version https://git-lfs.github.com/spec/v1\noid sha256:{'a' * 64}\nsize 12345\n", "utf-8")
    old(path)
    monkeypatch.setattr(cache, "_FACTS_VERSION", 2)
    project = Project(root)
    known = cache.KnownFiles(project.root)
    known.put(str(path), path.stat(), cache.FileFacts(hashlib.sha256(path.read_bytes()).hexdigest()))
    # Its time of change is of this moment; a cache keeps only what was settled.
    monkeypatch.setattr(cache, "_RACY_NS", 0)
    known.save()
    assert project.digest("frames/large.mp4") == hashlib.sha256(path.read_bytes()).hexdigest()
    monkeypatch.undo()
    monkeypatch.setenv("XDG_CACHE_HOME", str(root.parent / "cache"))
    with pytest.raises(BadFile, match="is a Git LFS pointer"):
        Project(root).digest("frames/large.mp4")


@pytest.mark.parametrize("top", ["", "films/"])
def test_a_file_of_a_submodule_that_is_not_checked_out_says_what_brings_it(root: Path, top: str) -> None:
    """The project may be the whole repository, or a folder of it; the submodule's folder is there, and empty."""
    place = root if not top else root.parent
    (place / ".git").mkdir()
    listed = f'[submodule "kit"]\n\tpath = {"project/" * bool(top)}shared kit/frames\n\turl = ../kit\n'
    (place / ".gitmodules").write_text(listed, "utf-8")
    (root / "shared kit/frames").mkdir(parents=True)
    for name in ("shared kit/frames/a.png", "shared kit/frames/deeper/b.png"):
        fault = refused(root, name)
        assert fault.what == f"'{name}' is in the submodule 'shared kit/frames', which is not checked out"
        assert fault.mend == "git submodule update --init 'shared kit/frames' (in CI: `submodules: true`)"
    assert "there is no file" in refused(root, "shared kit/a.png").what
    (root / "shared kit/frames/.git").write_text("gitdir: elsewhere\n", "utf-8")
    assert "there is no file" in refused(root, "shared kit/frames/a.png").what

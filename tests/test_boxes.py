"""Whether a file of boxes is whole: what belongs to a clip counts, what others append to it does not."""

from __future__ import annotations

from pathlib import Path

import pytest

from klingflow.io import boxes


def box(name: bytes, size: int = 16) -> bytes:
    return size.to_bytes(4) + name + bytes(size - 8)


HEAD = box(b"ftyp") + box(b"moov", 64)
WHOLE = HEAD + box(b"mdat", 100)
FRAGMENTS = HEAD + box(b"moof") + box(b"mdat", 100)


def walked(folder: Path, data: bytes) -> boxes.Boxes:
    path = folder / "clip.mp4"
    path.write_bytes(data)
    with path.open("rb") as file:
        return boxes.walk(file.fileno())


@pytest.mark.parametrize("trailer", [b"", b"\n", b"SEFT" + bytes(40), b"\xad\xfe" * 9, box(b"free")])
def test_what_follows_a_whole_clip_is_no_part_of_it(tmp_path: Path, trailer: bytes) -> None:
    assert walked(tmp_path, WHOLE + trailer).whole


@pytest.mark.parametrize("between", [b"styp", b"sidx", b"emsg", b"prft", b"free", b"uuid", b"moof"])
def test_a_file_in_fragments_that_was_cut_is_not_whole(tmp_path: Path, between: bytes) -> None:
    more = box(between) + box(b"moof") + box(b"mdat", 100)
    assert walked(tmp_path, FRAGMENTS + more).whole
    cut = walked(tmp_path, FRAGMENTS + more[:-30])
    assert not cut.whole
    assert cut.missing == 30


def test_a_clip_that_is_cut_before_it_is_whole_is_not(tmp_path: Path) -> None:
    assert not walked(tmp_path, WHOLE[:-1]).whole
    assert not walked(tmp_path, HEAD[:-70]).whole

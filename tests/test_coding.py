"""What a body's bytes lie under is told by the bytes."""

from __future__ import annotations

import gzip
import zlib

import pytest

from klingflow.io.coding import PIECE, Unpacker, Unreadable

MP4 = b"\x00\x00\x00\x20ftypisom" + bytes(range(256)) * 40
PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256))
JPEG = b"\xff\xd8\xff\xe0" + bytes(range(256))
WEBP = b"RIFF\x24\x00\x00\x00WEBPVP8 " + bytes(range(256))
MKV = b"\x1a\x45\xdf\xa3" + bytes(range(256))


def unpacked(header: str, body: bytes, step: int = 1 << 30) -> bytes:
    unpacker = Unpacker(header)
    out = b"".join(b"".join(unpacker.feed(body[at : at + step])) for at in range(0, len(body), step))
    return out + b"".join(unpacker.end())


def packed(data: bytes) -> bytes:
    return gzip.compress(data, mtime=0)


def raw(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush()


def framed(data: bytes, step: int = 3000, sign: str = ";chunk-signature=" + "0a" * 32) -> bytes:
    parts = [data[at : at + step] for at in range(0, len(data), step)]
    ends = f"0{sign}\r\nx-amz-checksum-crc32:AAAAAA==\r\n\r\n".encode()
    return b"".join(f"{len(part):x}{sign}\r\n".encode() + part + b"\r\n" for part in parts) + ends


@pytest.mark.parametrize("step", [1, 2, 7, 100, 1 << 30])
@pytest.mark.parametrize(
    ("header", "body"),
    [
        ("gzip", packed(MP4)),
        ("X-GZIP", packed(MP4)),
        ("", packed(MP4)),
        ("aws-chunked", packed(MP4)),
        ("gzip", packed(MP4[:500]) + packed(MP4[500:]) + bytes(9)),
        ("gzip, gzip", packed(packed(MP4))),
        ("deflate", zlib.compress(MP4)),
        ("deflate", raw(MP4)),
        ("deflate, gzip", packed(zlib.compress(MP4))),
        ("aws-chunked", framed(MP4)),
        ("aws-chunked", framed(MP4, sign="")),
        ("gzip,aws-chunked", framed(packed(MP4), 50)),
        ("", MP4),
    ],
)
def test_a_packed_body_is_unpacked(header: str, body: bytes, step: int) -> None:
    assert unpacked(header, body, step) == MP4


@pytest.mark.parametrize("body", [MP4, PNG, JPEG, WEBP, MKV, b"x"])
@pytest.mark.parametrize(
    "header", ["aws-chunked", "binary", "utf-8", "gzip", "deflate", "br", "zstd", "identity", "none, gzip", ",", "7bit"]
)
def test_a_header_that_the_bytes_belie_is_ignored(header: str, body: bytes) -> None:
    assert unpacked(header, body) == body


@pytest.mark.parametrize(
    ("header", "body"),
    [
        ("gzip", packed(MP4)[:-300]),
        ("gzip", packed(MP4)[:200] + bytes(500)),
        ("deflate", zlib.compress(MP4)[:-9]),
        ("aws-chunked", framed(MP4)[:4000]),
        ("aws-chunked", framed(MP4).replace(b"bb8;", b"bb9;")),
    ],
)
def test_a_packed_body_cut_short_is_told(header: str, body: bytes) -> None:
    with pytest.raises(Unreadable):
        unpacked(header, body)


def test_a_small_body_never_becomes_one_large_piece() -> None:
    body = gzip.compress(bytes(5 * PIECE + 1))
    assert [len(piece) for piece in Unpacker("gzip").feed(body)] == [PIECE] * 5 + [1]


def test_signed_frames_are_unpacked_where_the_store_dropped_the_header() -> None:
    head, end = b";chunk-signature=" + b"a" * 64 + b"\r\n", b";chunk-signature=" + b"b" * 64 + b"\r\n\r\n"
    unpacker = Unpacker()
    given = b"".join((*unpacker.feed(b"3e8" + head + bytes(1000) + b"\r\n0" + end), *unpacker.end()))
    assert given == bytes(1000)

"""Downloads against real sockets: what may be read, and what goes wrong on the way."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import os
import socket
import tracemalloc
from pathlib import Path

import pytest

from klingflow.core.address import is_public
from klingflow.core.errors import StoreError
from klingflow.io.downloads import Downloads
from klingflow.io.service import Broken, Gone
from tests.wire import Talk, run, says, wire

# Addresses ----------------------------------------------------------------------------------------------------------

PRIVATE = [
    "127.0.0.1", "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "192.0.0.8",
    "224.0.0.1", "255.255.255.255", "198.18.0.1", "203.0.113.1", "240.0.0.1", "168.63.129.16", "::1", "::",
    "fe80::1", "fe80::1%eth0", "fc00::1", "fd00:ec2::254", "ff02::1", "fec0::1", "::ffff:127.0.0.1",
    "::ffff:169.254.169.254", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::1", "2002:7f00:1::",
    "2002:a9fe:a9fe::", "::127.0.0.1", "2001:0:4136:e378:8000:63bf:3fff:fdd2", "2001:db8::1", "3fff::1",
    "2606:4700::5efe:7f00:1", "::ffff:0:7f00:1", "nonsense",
]


@pytest.mark.parametrize("address", PRIVATE)
def test_an_address_that_not_everybody_reaches_is_not_public(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize(
    "address", ["1.1.1.1", "93.184.216.34", "2606:4700::1111", "::ffff:1.1.1.1", "64:ff9b::101:101", "2002:101:101::"]
)
def test_an_address_that_everybody_reaches_is_public(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com/a.mp4",
        "file:///etc/passwd",
        "ftp://example.com/a",
        "https://user@example.com/a.mp4",
        "https://example.com:8443/a.mp4",
        "https://127.0.0.1/a.mp4",
        "https://2130706433/a.mp4",
        "https://0x7f.1/a.mp4",
        "https://[::ffff:169.254.169.254]/a",
        "https://[64:ff9b::a9fe:a9fe]/a",
        "https://localhost/a",
        "https://metadata.google.internal/a",
        "http://169.254.169.254/latest",
        "https://",
        "https://a\nb/",
        "blob:abc",
        "",
    ],
)
def test_an_address_that_is_not_https_and_public_is_not_read(url: str, tmp_path: Path) -> None:
    async def main() -> None:
        downloads = Downloads()
        with pytest.raises(Broken, match=r"not read|no URL"):
            await downloads.fetch(url, tmp_path / "clip", lambda got, all_: None)
        assert (await downloads.reachable(url) or "").strip()
        await downloads.close()

    run(main())
    assert list(tmp_path.iterdir()) == []


# Downloads ----------------------------------------------------------------------------------------------------------


def box(kind: bytes, body: bytes) -> bytes:
    return (8 + len(body)).to_bytes(4) + kind + body


CLIP = box(b"ftyp", b"isom" * 2) + box(b"moov", b"m" * 500) + box(b"mdat", bytes(range(256)) * 1200)


def taking(talks: list[Talk]) -> Talk:
    """One talk after the other; the last one stays."""

    async def talk(request: bytes, writer: asyncio.StreamWriter) -> None:
        await (talks.pop(0) if len(talks) > 1 else talks[0])(request, writer)

    return talk


async def fetched(base: str, to: Path, **options: object) -> str:
    async def at_once(seconds: float) -> None:
        pass

    downloads = Downloads([base], sleep=at_once, **options)  # type: ignore[arg-type]
    try:
        return await downloads.fetch(f"{base}/clip.mp4?sig=secret", to, lambda got, all_: None)
    finally:
        await downloads.close()


def resumed(start: int) -> Talk:
    return says(
        "206 Partial Content", CLIP[start:], f"Content-Range: bytes {start}-{len(CLIP) - 1}/{len(CLIP)}", 'ETag: "one"'
    )


PACKED = gzip.compress(CLIP)
rest_of_packed = says(
    "206 Partial Content", PACKED[900:], f"Content-Range: bytes 900-{len(PACKED) - 1}/{len(PACKED)}", 'ETag: "one"'
)


async def no_length(request: bytes, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\n\r\n" + CLIP[: len(CLIP) * 6 // 10])
    writer.close()


@pytest.mark.parametrize(
    ("talks", "requests"),
    [
        ([says("200 OK", CLIP)], 1),
        ([says("200 OK", CLIP[:9000], 'ETag: "one"', length=len(CLIP)), resumed(9000)], 2),
        ([says("200 OK", CLIP[:9000], 'ETag: W/"weak"', length=len(CLIP)), says("200 OK", CLIP)], 2),
        ([says("200 OK", CLIP[:9000], 'ETag: "one"', length=len(CLIP)), resumed(8000), says("200 OK", CLIP)], 3),
        ([says("200 OK", CLIP[:9000], 'ETag: "one"', length=len(CLIP)), says("200 OK", CLIP)], 2),
        ([no_length, says("200 OK", CLIP)], 2),
        ([says("200 OK", CLIP[:-1]), says("200 OK", CLIP)], 2),
        ([says("503 Busy"), says("429 Slow", b"", "Retry-After: 1"), says("200 OK", CLIP)], 3),
        ([says("302 Found", b"", "Location: /there"), says("200 OK", CLIP)], 2),
    ],
    ids=["whole", "resumed", "weak-tag", "other-range", "no-range", "no-length", "wrong-length", "busy", "redirect"],
)
def test_a_download_ends_whole_however_often_it_was_cut(talks: list[Talk], requests: int, tmp_path: Path) -> None:
    async def main() -> None:
        async with wire(taking(talks)) as server:
            digest = await fetched(server.base, tmp_path / "clip")
            assert digest == hashlib.sha256(CLIP).hexdigest()
            assert (tmp_path / "clip").read_bytes() == CLIP
            assert len(server.heard) == requests
            assert b"authorization" not in b"".join(server.heard).lower()
            if requests == 2 and b"range" in server.heard[1].lower():
                assert b"Range: bytes=9000-" in server.heard[1]
                assert b'If-Range: "one"' in server.heard[1]

    run(main())


@pytest.mark.parametrize(
    "talks",
    [
        [says("200 OK", CLIP, "Content-Encoding: aws-chunked")],
        [says("200 OK", CLIP, "Content-Encoding: gzip")],
        [says("200 OK", CLIP + b"\n", "Content-Encoding: binary")],
        [says("200 OK", PACKED, "Content-Encoding: gzip")],
        [says("200 OK", PACKED[:900], 'ETag: "one"', "Content-Encoding: gzip", length=len(PACKED)), rest_of_packed],
        [says("200 OK", PACKED[:-9], "Content-Encoding: gzip"), says("200 OK", CLIP)],
    ],
    ids=["frames", "not packed", "tail", "packed", "packed, resumed", "packed, cut"],
)
def test_a_content_encoding_loses_no_clip(talks: list[Talk], tmp_path: Path) -> None:
    async def main() -> None:
        count = len(talks)
        async with wire(taking(talks)) as server:
            digest = await fetched(server.base, tmp_path / "clip")
            got = (tmp_path / "clip").read_bytes()
            assert got.rstrip(b"\n") == CLIP
            assert digest == hashlib.sha256(got).hexdigest()
            assert len(server.heard) == count

    run(main())


def test_a_packed_body_is_measured_unpacked(tmp_path: Path) -> None:
    async def main() -> None:
        async with wire(says("200 OK", PACKED, "Content-Encoding: gzip")) as server:
            with pytest.raises(Broken, match="larger than"):
                await fetched(server.base, tmp_path / "clip", limit=len(CLIP) - 1)

    run(main())


@pytest.mark.parametrize(
    ("talk", "error", "requests"),
    [
        (says("403 Forbidden", b"<Error/>"), Gone, 1),
        (says("404 Not Found"), Gone, 1),
        (says("410 Gone"), Gone, 1),
        (says("400 Bad Request", b"<Error><Code>ExpiredToken</Code></Error>"), Gone, 1),
        (says("200 OK", b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>'), Gone, 1),
        (says("200 OK", b'\n{"error": "expired"}'), Gone, 1),
        (says("200 OK", gzip.compress(b"<Error/>"), "Content-Encoding: gzip"), Gone, 1),
        (says("200 OK", PACKED[:-9], "Content-Encoding: gzip"), Broken, 5),
        (says("200 OK", b"x", length=10**12), Broken, 1),
        (says("200 OK", b""), Broken, 5),
        (says("200 OK", CLIP[:5000], length=len(CLIP)), Broken, 5),
        (no_length, Broken, 5),
        (says("500 No"), Broken, 5),
        (says("302 Found", b"", "Location: /round"), Broken, 4),
        (says("302 Found", b"", "Location: http://169.254.169.254/"), Broken, 1),
        (says("302 Found", b"", "Location: https://[64:ff9b::a9fe:a9fe]/"), Broken, 1),
        (says("302 Found", b"", "Location: file:///etc/passwd"), Broken, 1),
        (says("302 Found", b"", "Location: https://user@example.com/"), Broken, 1),
    ],
)
def test_a_download_that_cannot_be_had_leaves_no_file_and_shows_no_query(
    talk: Talk, error: type[Exception], requests: int, tmp_path: Path
) -> None:
    async def main() -> None:
        async with wire(talk) as server:
            with pytest.raises(error) as caught:
                await fetched(server.base, tmp_path / "clip")
            assert "secret" not in str(caught.value)
            assert len(server.heard) == requests

    run(main())
    assert list(tmp_path.iterdir()) == []


def test_an_endless_body_stops_at_the_limit(tmp_path: Path) -> None:
    async def talk(request: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while not writer.is_closing():
            writer.write(b"1000\r\n" + b"z" * 4096 + b"\r\n")
            await writer.drain()

    async def main() -> None:
        async with wire(talk) as server:
            with pytest.raises(Broken, match="larger than 100000 bytes"):
                await fetched(server.base, tmp_path / "clip", limit=100_000)
            assert len(server.heard) == 1

    run(main())
    assert list(tmp_path.iterdir()) == []


def test_a_body_that_stands_still_is_taken_up_again(tmp_path: Path) -> None:
    async def stalls(request: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(f'HTTP/1.1 200 OK\r\nETag: "one"\r\nContent-Length: {len(CLIP)}\r\n\r\n'.encode() + CLIP[:9000])
        await asyncio.sleep(30)

    async def main() -> None:
        async with wire(taking([stalls, resumed(9000)])) as server:
            digest = await fetched(server.base, tmp_path / "clip", idle_s=0.1)
            assert digest == hashlib.sha256(CLIP).hexdigest()

    run(main())


def test_a_large_clip_passes_through_constant_memory(tmp_path: Path) -> None:
    size = 48 * 1024 * 1024

    async def talk(request: bytes, writer: asyncio.StreamWriter) -> None:
        head = box(b"ftyp", b"isom" * 2)
        head += (size - len(head)).to_bytes(4) + b"mdat"
        writer.write(f"HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n".encode() + head)
        left = size - len(head)
        while left:
            step = min(left, 262144)
            writer.write(bytes(step))
            await writer.drain()
            left -= step

    async def main() -> None:
        async with wire(talk) as server:
            tracemalloc.start()
            try:
                await fetched(server.base, tmp_path / "clip")
                assert tracemalloc.get_traced_memory()[1] < 8 * 1024 * 1024
            finally:
                tracemalloc.stop()
        assert os.path.getsize(tmp_path / "clip") == size

    run(main())


def test_a_full_disk_is_said_as_such(tmp_path: Path) -> None:
    async def main() -> None:
        async with wire(says("200 OK", CLIP)) as server:
            with pytest.raises(StoreError):
                await fetched(server.base, tmp_path / "nowhere" / "clip")

    run(main())


def test_a_still_is_read_whole_and_a_published_frame_is_probed_by_one_byte() -> None:
    async def main() -> None:
        async with wire(taking([says("200 OK", b"<svg/>"), says("206 P", b"x"), says("403 F")])) as server:
            downloads = Downloads([server.base])
            assert await downloads.get(f"{server.base}/a.png", 100) == b"<svg/>"
            assert await downloads.reachable(f"{server.base}/a.png?sig=1") is None
            assert b"Range: bytes=0-0" in server.heard[1]
            assert await downloads.reachable(f"{server.base}/a.png?sig=1") == f"{server.base}/a.png?… answers 403"
            await downloads.close()

    run(main())


# Names and proxies --------------------------------------------------------------------------------------------------


def resolving(addresses: list[list[str]]) -> list[str]:
    """From now on each look-up of a name gives the next list; returns the names that were asked for, as they come."""
    loop, asked = asyncio.get_running_loop(), list[str]()
    real = loop.getaddrinfo

    async def getaddrinfo(host: str, port: int, **hints: int) -> list[tuple[object, ...]]:
        if host.replace(".", "").isdigit():
            return await real(host, port, **hints)  # type: ignore[return-value]
        asked.append(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (one, port)) for one in addresses.pop(0)]

    loop.getaddrinfo = getaddrinfo  # type: ignore[assignment, method-assign]
    return asked


def test_a_name_is_refused_when_any_of_its_addresses_is_private(tmp_path: Path) -> None:
    async def main() -> None:
        asked = resolving([["1.1.1.1", "10.0.0.1"]])
        downloads = Downloads()
        with pytest.raises(Broken, match="private address"):
            await downloads.fetch("https://films.example/a.mp4", tmp_path / "clip", lambda got, all_: None)
        assert asked == ["films.example"]
        await downloads.close()

    run(main())


def test_a_name_is_looked_up_once_and_the_connection_goes_to_that_address(tmp_path: Path) -> None:
    async def main() -> None:
        async with wire(says("200 OK", CLIP)) as server:
            base = server.base.replace("127.0.0.1", "films.example")
            asked = resolving([["127.0.0.1"]])
            await fetched(base, tmp_path / "clip")
            assert asked == ["films.example"]
            assert f"Host: {base[7:]}\r\n".encode() in server.heard[0]

    run(main())


def test_of_several_addresses_the_first_that_can_be_connected_to_is_taken(tmp_path: Path) -> None:
    async def main() -> None:
        async with wire(says("200 OK", CLIP)) as server:
            base = server.base.replace("127.0.0.1", "films.example")
            resolving([["127.0.0.2", "127.0.0.1"]])  # the server listens at the second alone
            await fetched(base, tmp_path / "clip")
            assert len(server.heard) == 1

    run(main())


def test_a_download_that_is_given_up_leaves_no_file(tmp_path: Path) -> None:
    async def main() -> None:
        begun = asyncio.Event()

        async def stalls(request: bytes, writer: asyncio.StreamWriter) -> None:
            writer.write(f"HTTP/1.1 200 OK\r\nContent-Length: {len(CLIP)}\r\n\r\n".encode() + CLIP[:9000])
            begun.set()
            await asyncio.sleep(30)

        async with wire(stalls) as server:
            task = asyncio.create_task(fetched(server.base, tmp_path / "clip"))
            await begun.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    run(main())
    assert list(tmp_path.iterdir()) == []

"""The page of `klingflow takes --open`: what it answers, to whom, and to whom not."""

from __future__ import annotations

import hashlib
import json
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

import klingflow
from klingflow import Storyboard, UsageError
from klingflow.io.store import FolderStore
from klingflow.web import server, takes_page
from klingflow.web.server import Serving
from tests.choosing_helpers import BOARD, clip, finished, read, relock
from tests.cli import Project
from tests.page_helpers import Got, ask, raw, served
from tests.standins import movie


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> Storyboard:
    """Its clips are in its store: each is a file that holds the key that it was bought by."""
    root = tmp_path_factory.mktemp("takes")
    board = finished(root)
    store = FolderStore(root / ".klingflow" / "store")
    for takes in read(board).films[""].values():
        for entry in takes.values():
            (root / "clip").write_text(entry.key, "utf-8")
            assert store.put(root / "clip") == entry.clip
    (root / "secret.txt").write_text("secret", "utf-8")
    return board


@pytest.fixture(scope="module")
def page(board: Storyboard) -> Iterator[Serving]:
    with served(takes_page.serving(board)) as found:
        yield found


def told(got: Got) -> Any:
    assert got.status == 200, got
    found = json.loads(got.body)
    assert "what" not in found, found
    return found


def wrong(got: Got) -> str:
    assert got.status == 200, got
    found: str = json.loads(got.body)["what"]
    return found


def post(page: Serving, path: str, **data: object) -> Got:
    return ask(page, path, method="POST", body=json.dumps(data).encode())


# -- who is let in


def test_the_page_is_sent_with_what_keeps_it_to_itself(page: Serving) -> None:
    got = ask(page)
    assert got.status == 200
    assert got.headers["content-type"] == "text/html; charset=utf-8"
    assert b"<title>Takes of film.yaml</title>" in got.body
    assert got.headers["content-security-policy"] == "frame-ancestors 'none'"
    for name, value in {
        "cache-control": "no-store",
        "referrer-policy": "no-referrer",
        "x-content-type-options": "nosniff",
        "x-frame-options": "DENY",
        "cross-origin-resource-policy": "same-origin",
    }.items():
        assert got.headers[name] == value
    assert page.url.rsplit("/", 2)[1].encode() not in got.body, "the page does not know its own token"
    assert "server" not in got.headers


def test_it_listens_on_this_machine_alone(page: Serving) -> None:
    assert page.url.startswith(f"http://127.0.0.1:{page.port}/")
    with socket.socket() as line:  # all of 127.0.0.0/8 is this machine; a server of every address would answer here too
        line.settimeout(5)
        assert line.connect_ex(("127.0.0.2", page.port)) != 0


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:{port}", "127.0.0.1", "127.0.0.1:1", "localhost.evil.example:{port}", "", None,
     "127.0.0.1:{port}.evil.example", "[::1]:{port}", "0.0.0.0:{port}", "user@127.0.0.1:{port}"],
)  # fmt: skip
def test_a_foreign_name_that_points_here_is_refused(page: Serving, host: str | None) -> None:
    given = None if host is None else host.format(port=page.port)
    for path in ("", "api/state", "/"):
        got = ask(page, path, host=given)
        assert got.status in (0, 400, 403), got
        assert b"dawn" not in got.body


def test_localhost_is_this_machine_too(page: Serving) -> None:
    assert ask(page, host=f"localhost:{page.port}").status == 200


def test_without_the_token_there_is_nothing(page: Serving) -> None:
    token = urlsplit(page.url).path.strip("/")
    wrong = "".join(reversed(token))
    for path in ("/", "/api/state", f"/{wrong}/", f"/{wrong}/api/state", f"/{token}", f"/{token[:-1]}/", f"/{token}x/",
                 f"//{token}/", f"/x/{token}/", f"/{token.swapcase()}/", "/favicon.ico", f"/?{token}"):  # fmt: skip
        got = ask(page, path)
        assert (got.status, got.body) == (404, b"not found\n"), path
    assert ask(page, "/\xff\xfe/").status in (0, 404)
    assert len(token) >= 32
    assert raw(page, f"GET {page.url} HTTP/1.1\r\nhost: 127.0.0.1:{page.port}\r\n\r\n".encode()).status == 404
    assert ask(page, method="POST", body=b"{}", path=f"/{wrong}/api/choose").status == 404


def test_another_origin_gets_nothing(page: Serving) -> None:
    choice = b'{"name": "dawn", "take": 3, "state": "x"}'
    for origin in ("http://evil.example", "null", f"https://127.0.0.1:{page.port}", "http://127.0.0.1:1", None,
                   f"http://localhost:{page.port}"):  # fmt: skip
        assert ask(page, "api/choose", method="POST", body=choice, origin=origin).status == 403, origin
        if origin is not None:
            assert ask(page, "api/state", origin=origin).status == 403, origin
    for site in ("cross-site", "same-site"):
        assert ask(page, "api/state", sec_fetch_site=site).status == 403
        assert ask(page, "api/choose", method="POST", body=choice, sec_fetch_site=site).status == 403
    assert ask(page, sec_fetch_site="cross-site").status == 200, "a link in a terminal of the web leads to the page"
    assert ask(page, "api/state", sec_fetch_site="same-origin").status == 200
    assert ask(page, "api/state", origin=f"http://127.0.0.1:{page.port}").status == 200


def test_a_form_of_another_page_is_no_choice(page: Serving) -> None:
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "", None):
        assert ask(page, "api/choose", method="POST", body=b"{}", content_type=kind).status == 403
    json_of_utf8 = "application/json; charset=utf-8"
    assert ask(page, "api/choose", method="POST", body=b"{}", content_type=json_of_utf8).status == 200


@pytest.mark.parametrize("method", ["HEAD", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "CONNECT", "get", "X"])
def test_other_methods_are_refused(page: Serving, method: str) -> None:
    got = ask(page, "api/state", method=method)
    assert got.status in (0, 405), got
    assert b"dawn" not in got.body
    for path in ("api/choose", "api/consider"):
        assert ask(page, path).status == 404
    assert post(page, "api/state").status == 404


def test_no_path_leads_out(page: Serving, board: Storyboard) -> None:
    lock = hashlib.sha256(Path(board.path).read_bytes()).hexdigest()
    for path in ("media/../../film.yaml", "media/..%2f..%2ffilm.yaml", "../film.yaml", "film.yaml", "media/film.yaml",
                 "media/", "media", "media//etc/passwd", f"media/{lock}", f"media/{'0' * 64}", "media/" + "A" * 64,
                 "%2e%2e/", "./", "api/../", "secret.txt", "media/\x00", "//", "?x=/../secret.txt",
                 "api/state/"):  # fmt: skip
        got = ask(page, path)
        assert got.status in (0, 400, 404) or (path.startswith("?") and b"<title>" in got.body), path
        assert b"secret" not in got.body
        assert b"klingflow: 1" not in got.body


def test_a_clip_of_the_store_that_is_no_candidate_is_not_served(
    page: Serving, board: Storyboard, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    other.write_bytes(b"another film's clip")
    digest = FolderStore(Path(board.path).parent / ".klingflow" / "store").put(other)
    assert ask(page, f"media/{digest}").status == 404


# -- what is too much


def test_a_huge_body_or_head_is_refused(page: Serving) -> None:
    assert post(page, "api/consider", name="x" * 70_000, take=1).status == 413

    def sized(**headers: str | None) -> int:
        return ask(page, "api/consider", method="POST", body=b"{}", **headers).status

    assert sized(content_length="99999999999") == 413
    assert sized(content_length=None, transfer_encoding="chunked") == 413
    assert sized(content_length="-1") in (0, 413)
    assert ask(page, "a" * 100_000).status == 0
    assert ask(page, x_big="a" * 100_000).status == 0
    assert raw(page, b"\x16\x03\x01 no http at all\r\n\r\n").status == 0
    assert ask(page, "api/state").status == 200, "and it goes on"


def test_a_header_that_comes_twice_is_refused(page: Serving) -> None:
    head = f"GET {urlsplit(page.url).path} HTTP/1.1\r\nhost: 127.0.0.1:{page.port}\r\n"
    own = f"origin: http://127.0.0.1:{page.port}\r\n"
    assert raw(page, f"{head}{own}origin: http://evil\r\n\r\n".encode()).status == 400
    assert raw(page, f"{head}host: evil.example\r\n\r\n".encode()).status in (0, 400)


def test_a_slow_client_is_given_up_and_stops_nobody(board: Storyboard, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "REQUEST_S", 0.3)
    monkeypatch.setattr(server, "CONNECTIONS", 3)
    with served(takes_page.serving(board)) as page, socket.create_connection(("127.0.0.1", page.port)) as slow:
        slow.sendall(b"GET / HTTP/1.1\r\n")
        assert ask(page, "api/state").status == 200
        with socket.create_connection(("127.0.0.1", page.port)) as silent:
            silent.settimeout(10)
            assert silent.recv(1) == b"", "who says nothing is hung up on"
        slow.settimeout(10)
        assert slow.recv(1) == b""
        idle = [socket.create_connection(("127.0.0.1", page.port)) for _ in range(3)]
        with socket.create_connection(("127.0.0.1", page.port)) as fourth:
            fourth.settimeout(10)
            assert fourth.recv(1) == b"", "more connections than it bears"
        for line in idle:
            line.close()
        wait(lambda: ask(page, "api/state").status == 200)


def wait(good: Any) -> None:
    end = time.monotonic() + 20
    while not good():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_a_reader_that_stops_reading_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "STALLED_S", 0.3)
    large = tmp_path / "large"
    large.write_bytes(bytes(32 << 20))

    async def handler(_: server.Request) -> server.File:
        return server.File(large, "video/mp4")

    with served(server.serve(handler)) as page, socket.socket() as line:
        line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        line.connect(("127.0.0.1", page.port))
        line.sendall(f"GET {urlsplit(page.url).path} HTTP/1.1\r\nhost: 127.0.0.1:{page.port}\r\n\r\n".encode())
        line.settimeout(10)
        time.sleep(1.0)
        got = 0
        while data := line.recv(1 << 20):
            got += len(data)
        assert got < 32 << 20


def test_a_fault_of_ours_is_a_500_and_the_page_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    async def handler(request: server.Request) -> server.Answer:
        if request.path == "/bad":
            raise RuntimeError("a bug")
        return server.plain(404)

    with served(server.serve(handler)) as page:
        assert ask(page, "bad").status == 500
        assert b"a bug" not in ask(page, "bad").body
        assert ask(page).status == 404
    assert "a bug" in caplog.text


# -- opening it


def test_the_address_that_a_browser_is_started_with_opens_once(board: Storyboard) -> None:
    with served(takes_page.serving(board)) as page:
        assert urlsplit(page.url).path not in page.opening
        path = urlsplit(page.opening).path
        assert ask(page, path, host="evil.example").status == 403
        got = ask(page, path)
        assert (got.status, got.headers["location"]) == (303, urlsplit(page.url).path)
        assert ask(page, path).status == 404
        assert ask(page, "/open/").status == 404
        assert ask(page, got.headers["location"]).status == 200


def test_a_port_that_is_taken_is_told(page: Serving, board: Storyboard) -> None:
    with pytest.raises(UsageError, match=f"port {page.port} cannot be used"), served(
        takes_page.serving(board, page.port)
    ):
        pass


def test_a_storyboard_that_is_broken_at_the_start_is_told(tmp_path: Path) -> None:
    (tmp_path / "film.yaml").write_text("klingflow: 1\nshots: [{id: dawn}]\n", "utf-8")
    bad = klingflow.open(tmp_path / "film.yaml", environ={})
    with pytest.raises(klingflow.StoryboardError), served(takes_page.serving(bad)):
        pass


# -- what it shows and does


def test_no_answer_shows_what_looks_like_a_secret(own: tuple[Storyboard, Serving]) -> None:
    board, page = own
    file = Path(board.path)
    file.write_text(file.read_text("utf-8").replace("Dark clouds", "Bearer abcdefgh12345678"), "utf-8")
    got = ask(page, "api/state")
    assert b"Bearer [redacted]" in got.body
    assert b"abcdefgh12345678" not in got.body


def test_the_state_tells_every_choice_with_its_candidates(page: Serving, board: Storyboard) -> None:
    state = told(ask(page, "api/state"))
    dawn, *others = state["choices"]
    assert [one["name"] for one in (dawn, *others)] == ["dawn", "keeper", "stairs", "storm"]
    assert [one["take"] for one in dawn["candidates"]] == [1, 2, 3]
    first = dawn["candidates"][0]
    assert (first["clip"], first["here"], first["rate"], first["frames"]) == (clip(board, "dawn", 1), True, 24.0, 97)
    assert first["facts"] == ["4.042 s", "1280 × 720", "mulerouter, 2026-11-21", "$0.56"]
    assert told(ask(page, f"api/state?known={state['version']}")) == {"version": state["version"]}


def test_a_clip_is_served_by_its_digest_whole_and_in_parts(
    page: Serving, board: Storyboard, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = read(board).films[""]["dawn"][1].key.encode()  # type: ignore[index]
    path = f"media/{clip(board, 'dawn', 1)}"
    whole = ask(page, path)
    assert (whole.status, whole.body, whole.headers["content-type"]) == (200, key, "video/mp4")
    assert whole.headers["accept-ranges"] == "bytes"
    for asked, body, told_range in [
        ("bytes=0-", key, "bytes 0-63/64"),
        ("bytes=10-19", key[10:20], "bytes 10-19/64"),
        ("bytes=60-999", key[60:], "bytes 60-63/64"),
        ("bytes=-4", key[-4:], "bytes 60-63/64"),
        ("bytes=-999", key, "bytes 0-63/64"),
    ]:
        got = ask(page, path, range=asked)
        assert (got.status, got.body, got.headers["content-range"]) == (206, body, told_range), asked
    for asked in ("bytes=64-", "bytes=9-3", "bytes=-0"):
        got = ask(page, path, range=asked)
        assert (got.status, got.body, got.headers["content-range"]) == (416, b"", "bytes */64"), asked
    for asked in ("bytes=0-1,5-6", "lines=1-2", "bytes=-", "bytes=a-b"):
        assert (ask(page, path, range=asked).status, ask(page, path, range=asked).body) == (200, key), asked
    monkeypatch.setattr(server, "PART_BYTES", 10)
    assert ask(page, path).body == key
    got = ask(page, path, range="bytes=5-")
    assert (got.body, got.headers["content-range"]) == (key[5:15], "bytes 5-14/64")


@pytest.fixture
def own(tmp_path: Path) -> Iterator[tuple[Storyboard, Serving]]:
    board = finished(tmp_path)
    with served(takes_page.serving(board)) as page:
        yield board, page


def test_a_choice_is_considered_then_made_as_by_set(own: tuple[Storyboard, Serving]) -> None:
    board, page = own
    found = told(post(page, "api/consider", name="dawn", take=3))
    assert [one["name"] for one in found["stale"]] == ["keeper", "stairs"]
    assert found["spend"] == found["run"]
    assert found["spend"].startswith("$")
    assert Path(board.path).read_text("utf-8") == BOARD
    made = told(post(page, "api/choose", name="dawn", take=3, why="it turns", state=found["state"]))
    assert (made["edited"], made["file"]) == (True, "film.yaml")
    assert "    take: 3\n" in Path(board.path).read_text("utf-8")
    pick = read(board).pick("", "dawn")
    assert pick is not None
    assert (pick.take, pick.why, pick.clip) == (3, "it turns", clip(board, "dawn", 3))
    assert told(ask(page, "api/state"))["choices"][0]["picked"]


def test_the_second_of_two_tabs_sees_the_choice_of_the_first_before_its_own(own: tuple[Storyboard, Serving]) -> None:
    board, page = own
    one, other = (told(post(page, "api/consider", name="dawn", take=take)) for take in (2, 3))
    told(post(page, "api/choose", name="dawn", take=2, state=one["state"]))
    late = post(page, "api/choose", name="dawn", take=3, state=other["state"])
    assert wrong(late) == "the storyboard, a still or the lock changed meanwhile"
    assert "take: 2\n" in Path(board.path).read_text("utf-8")
    now = told(post(page, "api/consider", name="dawn", take=3))
    told(post(page, "api/choose", name="dawn", take=3, state=now["state"]))


def test_what_an_editor_saved_meanwhile_stays(own: tuple[Storyboard, Serving]) -> None:
    board, page = own
    seen = told(post(page, "api/consider", name="dawn", take=3))
    text = BOARD.replace("Dark clouds", "Lightning")
    Path(board.path).write_text(text, "utf-8")
    assert "changed meanwhile" in wrong(post(page, "api/choose", name="dawn", take=3, state=seen["state"]))
    assert "changed meanwhile" in wrong(post(page, "api/choose", name="dawn", take=3)), "without what was seen"
    assert Path(board.path).read_text("utf-8") == text


def test_it_is_live(own: tuple[Storyboard, Serving]) -> None:
    board, page = own
    first = told(ask(page, "api/state"))
    Path(board.path).write_text(BOARD.replace("takes: 3", "takes: 4"), "utf-8")
    state = told(ask(page, f"api/state?known={first['version']}"))
    assert state["choices"][0]["unmade"] == [{"take": 4, "under_way": False, "reason": "new take 4"}]
    relock(board)
    assert len(told(ask(page, "api/state"))["choices"][0]["candidates"]) == 4
    Path(board.path).write_text(BOARD.replace("takes: 3", "takess: 3"), "utf-8")
    assert wrong(ask(page, "api/state")).endswith("film.yaml:11:5: shot 'dawn' has no field 'takess'")
    Path(board.path).write_text(BOARD, "utf-8")
    assert told(ask(page, "api/state"))["choices"][0]["name"] == "dawn"


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b"null", b'{"name": "dawn"}', b'{"name": 1, "take": 1}', b'{"name": "dawn", "take": "1"}',
     b'{"name": "dawn", "take": true}', b"\xff", b"[" * 5000, b'{"name": "none", "take": 1}',
     b'{"name": "dawn", "take": 99}', b'{"name": "../x", "take": 1}'],
)  # fmt: skip
def test_what_is_no_choice_is_refused_in_words(page: Serving, board: Storyboard, body: bytes) -> None:
    for path in ("api/consider", "api/choose"):
        assert wrong(ask(page, path, method="POST", body=body))
    assert Path(board.path).read_text("utf-8") == BOARD
    for why in (1, None, ["x"]):
        assert wrong(post(page, "api/choose", name="dawn", take=1, why=why, state="x")) == "why is no text"


def test_proposed_stills_are_shown_and_chosen(tmp_path: Path) -> None:
    (tmp_path / "frames").mkdir()
    files = [tmp_path / "frames" / name for name in ("a.png", "b.png", "other.png")]
    for number, file in enumerate(files):
        file.write_bytes(movie.still(number))
    text = BOARD.replace("    takes: 3", "    first_frame: {stills: [frames/a.png, frames/b.png]}\n    takes: 3")
    board = finished(tmp_path, text)
    with served(takes_page.serving(board)) as page:
        first = told(ask(page, "api/state"))["choices"][0]
        assert (first["name"], first["frame"], first["take"]) == ("dawn.first_frame", "first_frame", None)
        second = first["candidates"][1]
        assert second["facts"][0] == "frames/b.png"
        got = ask(page, f"media/{second['clip']}")
        assert (got.status, got.headers["content-type"], got.body) == (200, "image/png", files[1].read_bytes())
        other = hashlib.sha256(files[2].read_bytes()).hexdigest()
        assert ask(page, f"media/{other}").status == 404, "a file of the project that nobody proposes"
        files[1].write_bytes(movie.still(9))
        assert ask(page, f"media/{second['clip']}").status == 404, "another picture than was shown"
        files[1].write_bytes(got.body)
        found = told(post(page, "api/consider", name="dawn.first_frame", take=2))
        made = told(post(page, "api/choose", name="dawn.first_frame", take=2, state=found["state"]))
        assert made["name"] == "dawn.first_frame"
    assert Path(board.path).read_text("utf-8") == text.replace("b.png]}", "b.png], take: 2}")


def test_the_command_serves_the_page_and_ends_cleanly(project: Project, tmp_path: Path) -> None:
    project.write("film.yaml", BOARD)
    opened = tmp_path / "opened"
    browser = tmp_path / "browser"
    browser.write_text(f'#!/bin/sh\necho "$1" > {opened}\n', "utf-8")
    browser.chmod(0o755)
    process = project.start("takes", "--open", BROWSER=str(browser))
    try:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        page = Serving(url=url, opening="", port=int(urlsplit(url).port or 0))
        assert told(ask(page, "api/state"))["choices"][0]["unmade"][0]["take"] == 1
        wait(opened.exists)
        wait(lambda: opened.read_text("utf-8").strip())
        assert opened.read_text("utf-8").startswith(f"http://127.0.0.1:{page.port}/open/")
        assert urlsplit(url).path not in opened.read_text("utf-8")
    finally:
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    assert (process.returncode, out) == (0, "")
    assert err == "whoever has this address can choose; Ctrl-C ends the page\n"


ALONE = "--open shows the page to choose on\nmend: leave --set, --why and --json out\n"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--open", "--set", "dawn=1"], ALONE),
        (["--open", "--why", "x"], ALONE),
        (["--open", "--json"], ALONE),
        (["--port", "1"], "--port is that of the page\nmend: write --open --port N\n"),
        (["--open", "--port", "70000"], "70000 is no port\nmend: name one of 1 to 65535, or leave --port out\n"),
    ],
)
def test_options_that_do_not_belong_together_are_told(
    board: Storyboard, words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    from klingflow.cli import app

    assert app.main(["takes", str(board.path), *words]) == 2
    assert capsys.readouterr().err == said
